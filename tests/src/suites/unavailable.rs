//! Dead letters can't be written: their topic is missing, denied, too small, or its broker is down. The
//! partition waits and says so, nothing is committed past the record, and it goes on by itself.

use std::fmt;
use std::time::Duration;

use pelton::Ordering;
use pelton::telemetry::names::{COMMITTED_OFFSET, OUTPUT_BLOCKED};
use pelton_engine::{DoneSet, Offset};
use pelton_testkit::ledger::Entry;

use crate::rig::{DeadLetters, Fleet, Moment, Outcome, Poison, Protocol, Rig, RigPlan};
use crate::waiting::{Stopwatch, patiently};
use crate::{
    Cluster, ClusterError, KafkaCluster, Login, NewRecord, Operation, Resource, Right, SecureKafka,
};

/// The partition of the poisoned record, and one without any.
const POISONED: i32 = 0;
const SOUND: i32 = 1;

/// So many sound records come before the poisoned one, and behind it.
const BEFORE: i64 = 20;

/// What takes one more try, or the proof of one, has happened by then.
const SOON: Duration = Duration::from_secs(30);

/// So long the cause is left as it is, once the partition has said that it waits: some tries are made.
const WAITS: Duration = Duration::from_secs(8);

/// Everything is handled within so long after the cause was mended.
const RESUMED: Duration = Duration::from_secs(45);

/// Why dead letters can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Their topic was deleted, and is created again.
    Missing,
    /// The worker may not write to it, until it may.
    Denied,
    /// Its `max.message.bytes` is below the record, until it is not.
    TooSmall,
    /// The only broker that has it is dead, until it comes back.
    Down,
}

impl Cause {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Missing, Self::Denied, Self::TooSmall, Self::Down];
}

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// Why they could not be written.
    pub cause: Cause,
    /// From the record's coming to the partition's word that it is held back.
    pub said_after: Duration,
    /// From the mending until everything was handled.
    pub resumed_after: Duration,
    /// Looks at which the partition did not say that it waits, though it did.
    pub silent: u64,
    /// What the log said of it first.
    pub line: String,
    /// Commits of the poisoned partition before the mending that pass the record.
    pub passing: u64,
    /// Outputs that stand in their topic again: what was done behind the record is sent again with it.
    pub repeated_outputs: u64,
    /// Commits of the other partition meanwhile.
    pub others: u64,
    /// What became of the records.
    pub outcome: Outcome,
    /// What became of the poisoned one.
    pub letters: DeadLetters,
}

/// The worker of these runs.
#[must_use]
pub fn plan() -> RigPlan {
    RigPlan {
        protocol: Protocol::CooperativeSticky,
        partitions: 2,
        ordering: Ordering::key(8),
        slow_one_in: 0,
        attempts: Some(2),
        commit_interval: Duration::from_millis(200),
        ..RigPlan::default()
    }
}

/// The topic for dead letters is deleted under the worker, and created again.
///
/// # Errors
///
/// If the run can't be carried out, or the partition does not say that it waits.
pub fn missing(kafka: &KafkaCluster) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan())?;
    let letters = rig.names().dead_letters.clone();
    let mend = || kafka.create_topic(&letters, 3);
    run(&rig, Cause::Missing, || kafka.delete_topic(&letters), mend)
}

/// The worker's right to write dead letters is taken, and given back.
///
/// # Errors
///
/// As [`missing`].
pub fn denied(secure: &SecureKafka) -> Result<Shown, ClusterError> {
    let rig = Rig::new(secure.kafka(), secure.plan(plan(), Login::Scram)?)?;
    let letters = Right::new(Operation::Write, Resource::Topic, &rig.names().dead_letters);
    let rights = std::slice::from_ref(&letters);
    secure.grant(&Right::of_a_counter(rig.names()))?;
    secure.grant(rights)?;
    run(&rig, Cause::Denied, || secure.revoke(rights), || secure.grant(rights))
}

/// The topic takes nothing of the record's size, until it takes one, though not two at once.
///
/// # Errors
///
/// As [`missing`].
pub fn too_small(kafka: &KafkaCluster) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan())?;
    let letters = rig.names().dead_letters.clone();
    let limit = |bytes| kafka.set_topic(&letters, "max.message.bytes", bytes);
    run(&rig, Cause::TooSmall, || limit("1000"), || limit("6000"))
}

/// The only broker with the topic is killed, and comes back. It is one of several: records,
/// commits and outputs go on.
///
/// # Errors
///
/// As [`missing`].
pub fn down(kafka: &KafkaCluster) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, RigPlan { ..plan().with("SESSION_TIMEOUT_MS", "15000") })?;
    let letters = rig.names().dead_letters.clone();
    kafka.delete_topic(&letters)?;
    patiently("a topic on one broker", SOON, || {
        kafka.create_topic_with(&letters, 1, 1, &[]).map_err(|error| error.to_string())
    })?;
    let broker = kafka.leader_of(&letters, 0)?;
    let kill = || rig.kill_broker(broker, || kafka.kill(broker));
    let start = || kafka.start_node(broker);
    let shown = run(&rig, Cause::Down, kill, start)?;
    kafka.wait_until_ready()?;
    Ok(shown)
}

fn run(
    rig: &Rig<'_, KafkaCluster>,
    cause: Cause,
    spoil: impl FnOnce() -> Result<(), ClusterError>,
    mend: impl FnOnce() -> Result<(), ClusterError>,
) -> Result<Shown, ClusterError> {
    let (kafka, input) = (rig.cluster(), rig.names().input.as_str());
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let sound = |partition| kafka.produce(input, &sound(partition));
    sound(POISONED)?;
    sound(SOUND)?;
    rig.wait_until_handled(SOON)?;
    spoil()?;
    let watch = Stopwatch::start();
    kafka.produce(input, &poisoned())?;
    sound(POISONED)?;
    says(&fleet, "the partition says that it waits", OUTPUT_BLOCKED, POISONED, |it| it == 1.0)?;
    let said_after = watch.elapsed();
    // Meanwhile others are committed, and the partition goes on saying that it waits.
    let (watch, mut sent, mut silent) = (Stopwatch::start(), BEFORE, 0);
    while watch.elapsed() < WAITS {
        sound(SOUND)?;
        sent += BEFORE;
        let is_there = |offset| offset >= number(sent);
        says(&fleet, "a commit of the other partition", COMMITTED_OFFSET, SOUND, is_there)?;
        silent += u64::from(value(&fleet, OUTPUT_BLOCKED, POISONED)? != Some(1.0));
    }
    let line = line(&fleet, rig);
    let mended = Moment::now();
    let watch = Stopwatch::start();
    mend()?;
    rig.wait_until_handled(RESUMED)?;
    let resumed_after = watch.elapsed();
    says(&fleet, "the partition waits no more", OUTPUT_BLOCKED, POISONED, |it| it == 0.0)?;
    let outcome = rig.finish(fleet)?;
    let (passing, others) = commits(rig, mended)?;
    let letters = rig.dead_letters()?;
    let count = |records: usize| u64::try_from(records).unwrap_or(u64::MAX);
    let outputs = count(kafka.read_places(&rig.names().output)?.len());
    let repeated_outputs = outputs.saturating_sub(outcome.ledger.done - letters.all_poisoned());
    Ok(Shown {
        cause,
        said_after,
        resumed_after,
        silent,
        line,
        passing,
        repeated_outputs,
        others,
        outcome,
        letters,
    })
}

/// Sound logins of many users.
fn sound(partition: i32) -> Vec<NewRecord> {
    let login = |number| {
        let user = format!("user-{partition}-{number}");
        let value = format!(r#"{{"user":"{user}","status":"success"}}"#);
        NewRecord::new(user, value).to_partition(partition)
    };
    (0..BEFORE).map(login).collect()
}

/// Records of one key that no worker can handle, and that no compression makes small; no text either.
fn poisoned() -> Vec<NewRecord> {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let noise = std::iter::repeat_with(move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random.to_be_bytes()
    });
    let mut noise = noise.flatten();
    let one = |number: u8| {
        let value: Vec<u8> = noise.by_ref().take(4_000).collect();
        let record = NewRecord::new([0, 0xff, b'k'], value).header("seq", [0xfe, number]);
        Poison::Error.into(record.header("seq", Vec::new()).to_partition(POISONED))
    };
    (0..5).map(one).collect()
}

fn says(
    fleet: &Fleet,
    what: &str,
    metric: &str,
    partition: i32,
    is: impl Fn(f64) -> bool,
) -> Result<(), ClusterError> {
    patiently(what, SOON, || {
        let found = value(fleet, metric, partition).map_err(|error| error.to_string())?;
        let logs = || format!("{metric} is {found:?}\n{}", fleet.logs());
        if found.is_some_and(&is) { Ok(()) } else { Err(logs()) }
    })
}

/// What the worker's metric of a partition says.
fn value(fleet: &Fleet, metric: &str, partition: i32) -> Result<Option<f64>, ClusterError> {
    let worker = fleet.workers().first();
    let worker = worker.ok_or_else(|| ClusterError::refused("the worker", "there is none"))?;
    let answer = worker.ask("/metrics")?;
    Ok(answer.metric(metric, &[("partition", &partition.to_string())]))
}

/// The first line of the log, behind the one that gives the record up, that says why it can't be
/// written, and where.
fn line(fleet: &Fleet, rig: &Rig<'_, KafkaCluster>) -> String {
    let log = fleet.workers().first().map(|worker| worker.log()).unwrap_or_default();
    let (_, behind) = log.split_once("becomes a dead letter").unwrap_or_default();
    let says = |line: &&str| {
        let is_bad = line.contains(" WARN ") || line.contains(" ERROR ");
        is_bad && line.contains(&rig.names().dead_letters)
    };
    behind.lines().find(says).unwrap_or_default().to_owned()
}

/// Commits of the poisoned partition, tried before it was mended, that say that the record or one
/// behind it is done; and those of the other partition.
fn commits(rig: &Rig<'_, KafkaCluster>, mended: Moment) -> Result<(u64, u64), ClusterError> {
    let (mut passing, mut others) = (0, 0);
    for line in rig.ledger()?.lines().iter().filter(|line| Moment::of(line) < mended) {
        if let Entry::CommitTried { partition, offset, done, .. } = &line.entry {
            let done = DoneSet::decode(done);
            let highest = done.ok().and_then(|done| done.highest()).unwrap_or(Offset(offset - 1));
            let passes = highest >= Offset(BEFORE);
            passing += u64::from(partition.partition() == POISONED && passes);
            others += u64::from(partition.partition() == SOUND && passes);
        }
    }
    Ok((passing, others))
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand at most")]
fn number(offset: i64) -> f64 {
    offset as f64
}

impl Shown {
    /// Nothing passed the record, others went on, and it went on by itself.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let said = self.silent == 0 && !self.line.is_empty();
        let stood = self.passing == 0 && self.others > 0;
        said && stood
            && self.outcome.is_clean()
            && self.letters.are_right()
            && self.letters.letters > 0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cause, said_after, resumed_after, silent, line, passing, others, .. } = self;
        let repeated = self.repeated_outputs;
        writeln!(f, "{cause:?}: said after {said_after:.1?}, resumed after {resumed_after:.1?}")?;
        writeln!(
            f,
            "{passing} commits past the record, {others} of the other partition meanwhile"
        )?;
        writeln!(f, "{repeated} outputs of what was done behind it stand there again")?;
        writeln!(f, "{silent} looks at which it did not say that it waits; log: {line}")?;
        write!(f, "{}{}", self.outcome, self.letters)
    }
}
