//! One key hangs for long: the others go on as before. Where it is an average one nobody notices; where it
//! is a third of all records its partition stops, visibly, and the other partitions go on.

use std::fmt;
use std::time::Duration;

use pelton::Ordering;
use pelton::telemetry::names::{BUFFERED_RECORDS, FETCH_STOPS_TOTAL, LAG_RECORDS};
use pelton_testkit::ledger::Quantiles;

use crate::rig::{
    Fleet, HOT, Latencies, LoadPlan, Moment, Outcome, Protocol, Rig, RigPlan, TAKES_MS,
};
use crate::suites::Round;
use crate::waiting::{Deadline, patiently};
use crate::{Cluster, ClusterError, KafkaCluster, NewRecord};

/// The group works, and has caught up, within so long.
const BEGUN: Duration = Duration::from_secs(60);

/// So many keys the records have.
const USERS: u64 = 50_000;

/// Records a second.
const RATE: u64 = 5_000;

/// An average key, which hangs.
const AVERAGE: &str = "user-4242";

/// Which key hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One of 50,000.
    Average,
    /// One that makes a third of all records.
    Third,
}

impl Key {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Average, Self::Third];

    fn name(self) -> &'static str {
        match self {
            Self::Average => AVERAGE,
            Self::Third => HOT,
        }
    }

    fn load(self) -> LoadPlan {
        let hot_one_in = if self == Self::Third { 3 } else { 0 };
        LoadPlan { users: USERS, hot_one_in, ..LoadPlan::evenly(RATE) }
    }
}

/// How long it is measured, and how long the key hangs.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Before it hangs.
    pub before: Duration,
    /// It hangs.
    pub hang: Duration,
}

impl Times {
    /// For `cargo test`.
    pub const SHORT: Self = Self { before: Duration::from_secs(8), hang: Duration::from_secs(15) };
    /// For `cargo chaos`.
    pub const LONG: Self = Self { before: Duration::from_secs(30), hang: Duration::from_secs(60) };
}

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// Which key hung.
    pub key: Key,
    /// From sent to done, of all other keys, before.
    pub before: Quantiles,
    /// While it hung: of other keys; of a third's, only those of other partitions.
    pub during: Quantiles,
    /// While it hung: of other keys of its partition.
    pub beside: Option<Quantiles>,
    /// How soon the partition's fetch was stopped, if it was.
    pub stopped_after: Option<Duration>,
    /// Records that the partition had read and not done when the hanging was over.
    pub buffered: f64,
    /// Its lag then.
    pub lag: f64,
    /// What became of the records.
    pub outcome: Outcome,
}

/// The worker of these runs.
#[must_use]
pub fn plan() -> RigPlan {
    RigPlan {
        protocol: Protocol::CooperativeSticky,
        partitions: 8,
        ordering: Ordering::key(200),
        slow_one_in: 0,
        stateless: true,
        ..RigPlan::default()
    }
}

/// Runs one process over 8 partitions at 5,000 records/s of 50,000 keys, measures, and lets a record of
/// one key hang.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    key: Key,
    times: Times,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(cluster, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(key.load())?;
    rig.wait_until_begun(BEGUN)?;
    rig.wait_until_caught_up(BEGUN)?;
    let begun = Moment::now();
    std::thread::sleep(times.before); // measured
    let hung = Moment::now();
    let stops = sum(&fleet, FETCH_STOPS_TOTAL, rig.plan().partitions)?;
    let over = Deadline::after(times.hang);
    cluster.produce(&rig.names().input, &[hanging(key, times.hang)])?;
    let stopped = patiently("a stopped fetch", over.left(), || {
        let now = sum(&fleet, FETCH_STOPS_TOTAL, rig.plan().partitions);
        let now = now.map_err(|error| error.to_string())?;
        if now > stops { Ok(Moment::now()) } else { Err(String::new()) }
    });
    let stopped_after = stopped.ok().map(|at| at.since(hung));
    std::thread::sleep(over.left()); // measured
    let until = Moment::now();
    let (buffered, lag) = (largest(&fleet, BUFFERED_RECORDS)?, largest(&fleet, LAG_RECORDS)?);
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    let input = cluster.read_places(&rig.names().input)?;
    let is_it = |key: Key, found: Option<&[u8]>| found == Some(key.name().as_bytes());
    let place = input.iter().find(|record| is_it(key, record.key.as_deref()));
    let place = place.map_or(-1, |record| record.partition);
    let ledger = rig.ledger()?;
    let latencies = Latencies::of(&ledger, &input);
    let none = || ClusterError::refused("measuring", "no record was done");
    let others = |from, until, here: bool, away: bool| {
        let all = latencies.between(from, until, |record| {
            let is_here = record.partition == place;
            !is_it(key, record.key.as_deref()) && (is_here && here || !is_here && away)
        });
        Quantiles::of(all)
    };
    Ok(Shown {
        key,
        before: others(begun, hung, true, true).ok_or_else(none)?,
        during: others(hung, until, key == Key::Average, true).ok_or_else(none)?,
        beside: others(hung, until, true, false),
        stopped_after,
        buffered,
        lag,
        outcome,
    })
}

/// A login that takes its time.
fn hanging(key: Key, time: Duration) -> NewRecord {
    let user = key.name();
    let login = NewRecord::new(user, format!(r#"{{"user":"{user}","status":"failure"}}"#));
    login.header(TAKES_MS, time.as_millis().to_string())
}

fn metrics(fleet: &Fleet) -> Result<crate::Answer, ClusterError> {
    let worker = fleet.workers().first();
    worker.ok_or_else(|| ClusterError::refused("the worker", "there is none"))?.ask("/metrics")
}

fn values(fleet: &Fleet, metric: &str, partitions: i32) -> Result<Vec<f64>, ClusterError> {
    let answer = metrics(fleet)?;
    let of = |partition: i32| answer.metric(metric, &[("partition", &partition.to_string())]);
    Ok((0..partitions).filter_map(of).collect())
}

fn sum(fleet: &Fleet, metric: &str, partitions: i32) -> Result<f64, ClusterError> {
    Ok(values(fleet, metric, partitions)?.iter().sum())
}

fn largest(fleet: &Fleet, metric: &str) -> Result<f64, ClusterError> {
    Ok(values(fleet, metric, plan().partitions)?.into_iter().fold(0.0, f64::max))
}

impl Shown {
    /// The others were done within twice their time, or within `slack` where that is longer; nothing
    /// was lost, and who makes a third of it all stopped its partition.
    #[must_use]
    pub fn is_kept(&self, slack: Duration) -> bool {
        let as_before = self.during.p99 <= slack.max(self.before.p99 * 2);
        let stopped = self.stopped_after.is_some() == (self.key == Key::Third);
        as_before && stopped && self.outcome.is_exact()
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, before, during, beside, stopped_after, buffered, lag, outcome } = self;
        writeln!(f, "{key:?} key: sent to done, before: {before}")?;
        writeln!(f, "while it hung: {during}")?;
        if let Some(beside) = beside {
            writeln!(f, "other keys of its partition: {beside}")?;
        }
        match stopped_after {
            Some(after) => writeln!(f, "its partition's fetch was stopped after {after:.1?}")?,
            None => writeln!(f, "no fetch was stopped")?,
        }
        writeln!(f, "at the end: at most {buffered} records buffered, {lag} behind")?;
        write!(f, "{outcome}")
    }
}

/// A round of the long form.
pub(crate) fn round(kafka: &KafkaCluster, key: Key, seed: u64) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan().seeded(seed), key, Times::LONG)?;
    let mut round = Round::of(&shown.outcome, shown.is_kept(Duration::ZERO))
        .without_times()
        .measuring("p99 before", [shown.before.p99])
        .measuring("p99 while it hung", [shown.during.p99]);
    round.text = shown.to_string();
    Ok(round)
}
