//! A worker has a memory budget and far more to do than fits into it: what the kernel says it has
//! stays within the budget and a stated constant, and no partition starves.

use std::fmt;
use std::time::Duration;

use pelton::Bug;
use pelton_testkit::ledger::Cause;

use crate::rig::{
    Blobs, Heavy, LoadPlan, MemoryUse, MemoryWatch, Outcome, Rig, RigPlan, WorkerProcess,
};
use crate::suites::Round;
use crate::waiting::{Deadline, wait_for};
use crate::{ClusterError, KafkaCluster};

/// `memory_budget` of these runs.
pub const BUDGET: u64 = 128 * MIB;

/// What a worker takes besides: its program and its threads, librdkafka's own, what the allocator
/// keeps of memory that was freed, and the record at hand of each partition.
pub const CONSTANT: u64 = 120 * MIB;

/// What a container would allow it.
pub const LIMIT: u64 = 256 * MIB;

const _: () = assert!(BUDGET + CONSTANT < LIMIT, "what is allowed fits into the container");

const MIB: u64 = 1024 * 1024;

const PARTITIONS: i32 = 64;

/// The size of a large record.
const BLOB: u64 = 900_000;

/// A partition that has records and starts none for so long is starved.
const STARVED: Duration = Duration::from_secs(20);

/// Five seconds' worth of records is sent within so long, however busy the machine.
const BACKLOG: Duration = Duration::from_secs(60);

/// A worker that keeps to no budget has too much within so long.
const OVERFLOWN: Duration = Duration::from_secs(90);

/// Everything sent is handled within so long after the load has ended.
const FINISHED: Duration = Duration::from_secs(240);

/// What fills the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Story {
    /// Records of 900 KB in every partition, up to 4 s for each; one in four is emitted whole, one
    /// in eight puts 60 KB into a store.
    LargeRecords,
    /// The same records, 20 ms each, seven of ten in one partition.
    Skewed,
    /// Every record is emitted whole; meanwhile the broker is frozen for 10 s.
    SlowOutput,
    /// Records of 100 bytes, by the thousand.
    SmallRecords,
    /// Small records that put 100 KB each into a store; commits only every 30 s.
    BigWrites,
}

impl Story {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::LargeRecords, Self::Skewed, Self::SlowOutput, Self::SmallRecords, Self::BigWrites];

    /// How the worker and its topics are.
    #[must_use]
    pub fn plan(self) -> RigPlan {
        let heavy = |emit_one_in, put_one_in, put_bytes| {
            Some(Heavy { emit_one_in, emit_bytes: 900_000, put_one_in, put_bytes })
        };
        let slow = |ms| Duration::from_millis(ms);
        let plan = RigPlan {
            partitions: PARTITIONS,
            slow_one_in: 1,
            slow: slow(4_000),
            stuck_after: STARVED,
            heavy: heavy(4, 8, 60_000),
            ..RigPlan::default()
        }
        .with("MEMORY_BUDGET", "128MiB")
        // A frozen broker is not to cost the membership: this is about memory.
        .with("SESSION_TIMEOUT_MS", "30000");
        match self {
            Self::LargeRecords => plan,
            Self::Skewed => RigPlan { slow: slow(40), ..plan },
            Self::SlowOutput => RigPlan { slow: slow(1_000), heavy: heavy(1, 0, 0), ..plan },
            Self::SmallRecords => RigPlan { slow: slow(25), heavy: None, stateless: true, ..plan },
            Self::BigWrites => {
                let plan = RigPlan { slow: slow(1_000), heavy: heavy(0, 1, 100_000), ..plan };
                RigPlan { commit_interval: Duration::from_secs(30), ..plan }
            }
        }
    }

    /// A little more than the worker can handle.
    fn load(self) -> LoadPlan {
        let blobs = |bytes, hot| Blobs { bytes, partitions: PARTITIONS, hot };
        match self {
            Self::LargeRecords => LoadPlan::at_rate(18).of(blobs(900_000, 0)),
            Self::Skewed => LoadPlan::at_rate(20).of(blobs(900_000, 7)),
            Self::SlowOutput => LoadPlan::at_rate(16).of(blobs(900_000, 0)),
            Self::SmallRecords => LoadPlan::at_rate(6_000).of(blobs(100, 0)),
            Self::BigWrites => LoadPlan::at_rate(80).of(blobs(100, 0)),
        }
    }
}

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What the kernel said of the worker.
    pub memory: MemoryUse,
    /// The most that the worker said it held, by part.
    pub used: Vec<(String, u64)>,
    story: Story,
}

/// Lets one worker with [`BUDGET`] work on 64 partitions for `time`, and then finish.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn run(
    kafka: &KafkaCluster,
    story: Story,
    plan: RigPlan,
    time: Duration,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let load = rig.load(story.load())?;
    let mut fleet = rig.fleet();
    // It begins with a backlog.
    let backlog = story.load().rate * 5;
    wait_for("a backlog", BACKLOG, || (load.sent() >= backlog).then_some(()))?;
    fleet.start(1)?;
    let pid = fleet.workers().first().map_or(0, WorkerProcess::pid);
    let watch = MemoryWatch::of(pid)?;
    let mut used = Vec::new();
    let (end, freeze_at) = (Deadline::after(time), Deadline::after(time / 2));
    let mut frozen = false;
    while !end.has_passed() {
        fleet.check_alive()?;
        if let Some(worker) = fleet.workers().first() {
            note(&mut used, &worker.ask("/metrics")?.body);
        }
        if story == Story::SlowOutput && freeze_at.has_passed() && !frozen {
            frozen = true;
            rig.kill_broker(1, || kafka.suspend(1))?;
            std::thread::sleep(Duration::from_secs(10));
            kafka.resume(1)?;
        }
        std::thread::sleep(Duration::from_millis(500).min(end.left()));
    }
    load.stop()?;
    rig.wait_until_handled(FINISHED)?;
    let memory = watch.seen();
    fleet.terminate_all()?;
    let outcome = rig.outcome()?;
    // A round's records are gigabytes.
    kafka.delete_topic(&rig.names().input)?;
    kafka.delete_topic(&rig.names().output)?;
    Ok(Shown { outcome, memory, used, story })
}

/// Gives one worker with a bug far more large records than fit into its memory, faster than it
/// handles them, until it has more than [`run`] allows; what the kernel said of it.
///
/// # Errors
///
/// If the run can't be carried out, or [`ClusterError::Late`] where the bug does not show within
/// `OVERFLOWN`.
pub fn overflow(kafka: &KafkaCluster, bug: Bug) -> Result<MemoryUse, ClusterError> {
    let story = Story::LargeRecords;
    let plan = RigPlan { plant: Some(bug), ..story.plan() };
    // Who keeps to no budget soon has all of it.
    let rig = Rig::new(kafka, RigPlan { slow: plan.slow * 3, ..plan })?;
    let load = rig.load(LoadPlan { rate: 100, ..story.load() })?;
    let enough = 2 * (BUDGET + CONSTANT) / BLOB;
    wait_for("a backlog", BACKLOG, || (load.sent() >= enough).then_some(()))?;
    load.stop()?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let watch = MemoryWatch::of(fleet.workers().first().map_or(0, WorkerProcess::pid))?;
    wait_for("more memory than is allowed", OVERFLOWN, || {
        let seen = watch.seen();
        (!fits(&seen)).then_some(seen)
    })
}

/// Keeps the largest value of each part of the memory in use.
fn note(used: &mut Vec<(String, u64)>, metrics: &str) {
    for line in metrics.lines().filter(|line| line.starts_with("pelton_memory_used_bytes{")) {
        let part = line.split("part=\"").nth(1).and_then(|rest| rest.split('"').next());
        let value = line.rsplit_once(' ').and_then(|(_, value)| value.parse::<f64>().ok());
        let Some(value) = value else { continue };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes")]
        let value = value.max(0.0) as u64;
        let part = part.unwrap_or("all").to_owned();
        match used.iter_mut().find(|(name, _)| *name == part) {
            Some((_, most)) => *most = value.max(*most),
            None => used.push((part, value)),
        }
    }
}

/// Did the memory stay within its bounds?
fn fits(memory: &MemoryUse) -> bool {
    memory.peak <= BUDGET + CONSTANT
}

impl Shown {
    /// Did the memory stay within its bounds, did every partition go on, and was nothing lost or
    /// repeated (but what a frozen broker explains)?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let kept = if self.story == Story::SlowOutput {
            let explained = |cause: Option<Cause>| cause == Some(Cause::BrokerKill);
            let Outcome { ledger, output, changelog, .. } = &self.outcome;
            // An output that timed out at the frozen broker may stand there all the same, and
            // is sent again.
            ledger.is_clean()
                && ledger.repeats.iter().all(|repeat| explained(repeat.cause))
                && output.too_low.is_empty()
                && changelog.is_clean()
        } else {
            self.outcome.is_exact()
        };
        self.memory.peak > 0 && fits(&self.memory) && kept
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?}: {}", self.story, self.memory)?;
        for (part, bytes) in &self.used {
            writeln!(f, "  {part}: {:.1} MiB at most", *bytes as f64 / MIB as f64)?;
        }
        write!(f, "{}", self.outcome)
    }
}

/// A round of the long form.
pub(crate) fn round(
    kafka: &KafkaCluster,
    story: Story,
    time: Duration,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, story, story.plan(), time)?;
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .counting("resident MiB, summed", shown.memory.peak / MIB);
    round.text = shown.to_string();
    Ok(round)
}
