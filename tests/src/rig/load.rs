//! Fills a run's input at a rate, in the background: logins of users, numbered by a header; or
//! records of a size.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::rig::Poison;
use crate::waiting::Deadline;
use crate::{ClusterError, NewRecord, cluster::client};

/// What is sent, and how fast.
///
/// ```
/// use pelton_tests::LoadPlan;
/// assert_eq!(LoadPlan::at_rate(2_000).users, 97);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct LoadPlan {
    /// Records per second.
    pub rate: u64,
    /// Different keys. Default 97.
    pub users: u64,
    /// Do all users log in equally often? Default no: one of them makes an eighth of it all.
    pub even: bool,
    /// One record in so many is of the user `hot`. Default none.
    pub hot_one_in: u64,
    /// One record in so many is poisoned, each mild kind in its turn. Default none.
    pub poison_one_in: u64,
    /// Of those one in so many aborts its process instead. Default none.
    pub abort_one_in: u64,
    /// And one in so many takes all memory. Default none.
    pub memory_one_in: u64,
    /// So many records and no more. Default: until it is stopped.
    pub records: u64,
    /// Records of a size, in the place of logins.
    pub blobs: Option<Blobs>,
}

/// Records that no compression makes smaller, spread evenly over partitions.
///
/// ```
/// use pelton_tests::{Blobs, LoadPlan};
///
/// let blobs = Blobs { bytes: 900_000, partitions: 64, hot: 0 };
/// assert_eq!(LoadPlan::at_rate(20).of(blobs).blobs, Some(blobs));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blobs {
    /// Of each value.
    pub bytes: usize,
    /// So many.
    pub partitions: i32,
    /// So many of ten records go to partition 0 alone.
    pub hot: u64,
}

impl LoadPlan {
    /// So many records a second.
    #[must_use]
    pub const fn at_rate(rate: u64) -> Self {
        Self {
            rate,
            users: 97,
            even: false,
            hot_one_in: 0,
            poison_one_in: 0,
            abort_one_in: 0,
            memory_one_in: 0,
            records: u64::MAX,
            blobs: None,
        }
    }

    /// So many records a second, spread over all partitions alike.
    #[must_use]
    pub const fn evenly(rate: u64) -> Self {
        Self { users: 5_000, even: true, ..Self::at_rate(rate) }
    }

    /// With records of a size in the place of logins.
    #[must_use]
    pub fn of(self, blobs: Blobs) -> Self {
        Self { blobs: Some(blobs), ..self }
    }
}

/// The user of `hot_one_in`.
pub(crate) const HOT: &str = "hot";

/// A load under way. Dropping it ends it.
#[derive(Debug)]
pub struct Load {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<(), ClusterError>>>,
}

/// Records go out in bundles, so often where the plan does not say it.
pub(super) const BUNDLE: Duration = Duration::from_millis(10);

impl Load {
    pub(crate) fn start(
        bootstrap: &str,
        topic: &str,
        plan: LoadPlan,
        bundle: Duration,
    ) -> Result<Self, ClusterError> {
        // A bundle's records of a partition go out together.
        let producer = client::Sender::new(bootstrap, topic, bundle / 2)?;
        let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&sent));
        let body = move || run(&producer, plan, bundle, &stopped, &counted);
        let thread = std::thread::Builder::new()
            .name("load".to_owned())
            .spawn(body)
            .map_err(ClusterError::io("the load's thread"))?;
        Ok(Self { stop, sent, thread: Some(thread) })
    }

    /// Records sent so far.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Ends it and waits until everything sent is stored; how many records that were.
    ///
    /// # Errors
    ///
    /// If a record was not stored.
    pub fn stop(mut self) -> Result<u64, ClusterError> {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            ended.map_err(|_| ClusterError::refused("the load", "its thread panicked"))??;
        }
        Ok(self.sent())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn run(
    producer: &client::Sender,
    plan: LoadPlan,
    bundle: Duration,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> Result<(), ClusterError> {
    const ERA: Duration = Duration::from_secs(3600);
    let begun = Deadline::after(ERA);
    let noise = noise();
    while !stop.load(Ordering::Relaxed) {
        let elapsed = ERA.saturating_sub(begun.left()).as_millis();
        let due = u64::try_from(elapsed).unwrap_or(u64::MAX) * plan.rate / 1_000;
        for seq in sent.load(Ordering::Relaxed)..due.min(plan.records) {
            let record = match plan.blobs {
                Some(blobs) => blob(seq, blobs, &noise),
                None => login(seq, &plan),
            };
            producer.send(&record)?;
            sent.store(seq + 1, Ordering::Relaxed);
        }
        producer.serve();
        std::thread::sleep(bundle); // the rate's own pace
    }
    producer.finish(sent.load(Ordering::Relaxed))
}

/// The login numbered `seq`: users are skewed, one in five fails.
pub(crate) fn login(seq: u64, plan: &LoadPlan) -> NewRecord {
    let hash = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
    let skew = if plan.even { 7 } else { hash >> 8 & 7 };
    let mut user = format!("user-{}", (hash % plan.users.max(1)) * skew / 7);
    if plan.hot_one_in > 0 && seq.is_multiple_of(plan.hot_one_in) {
        HOT.clone_into(&mut user);
    }
    let status = if hash.is_multiple_of(5) { "failure" } else { "success" };
    let value = format!(
        r#"{{"user":"{user}","status":"{status}","ip":"192.0.2.1","at":"2026-01-01T00:00:00Z"}}"#
    );
    let login = NewRecord::new(user, value).header("seq", seq.to_string());
    match poison(seq, plan) {
        Some(poison) => poison.into(login),
        None => login,
    }
}

/// What is wrong with the record numbered `seq`.
fn poison(seq: u64, plan: &LoadPlan) -> Option<Poison> {
    let every = plan.poison_one_in;
    let number = (every > 0 && seq % every == every / 2).then(|| seq / every)?;
    let is_due = |one_in: u64, at: u64| one_in > 0 && number % one_in == at;
    if is_due(plan.abort_one_in, plan.abort_one_in / 2) {
        return Some(Poison::Abort);
    }
    if is_due(plan.memory_one_in, plan.memory_one_in.saturating_sub(1)) {
        return Some(Poison::Memory);
    }
    let kinds = u64::try_from(Poison::MILD.len()).unwrap_or(1);
    usize::try_from(number % kinds).ok().and_then(|at| Poison::MILD.get(at).copied())
}

/// Bytes of xorshift64: longer than what lz4 looks back, so that repeating them makes nothing
/// smaller.
fn noise() -> Vec<u8> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    std::iter::repeat_with(next).take(16_000).flat_map(u64::to_le_bytes).collect()
}

/// The blob numbered `seq`, cut out of noise.
fn blob(seq: u64, blobs: Blobs, noise: &[u8]) -> NewRecord {
    let partitions = u64::try_from(blobs.partitions.max(1)).unwrap_or(1);
    let partition = if seq % 10 < blobs.hot { 0 } else { seq % partitions };
    let mut value = Vec::with_capacity(blobs.bytes + noise.len());
    let at = usize::try_from(seq).unwrap_or(0) * 97 % noise.len();
    value.extend_from_slice(&noise[at..]);
    while value.len() < blobs.bytes {
        value.extend_from_slice(noise);
    }
    value.truncate(blobs.bytes);
    NewRecord::new(seq.to_string(), value).to_partition(i32::try_from(partition).unwrap_or(0))
}
