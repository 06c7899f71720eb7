//! Records are kept in order key by key, and most take their time: workers join and leave, and nothing is
//! lost or repeated, though records behind others were done first. When they are killed, only what no
//! commit had carried is handled again.

use std::fmt;
use std::time::Duration;

use pelton::Ordering;

use crate::rig::{Carried, LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::{Round, kill, membership};
use crate::{Cluster, ClusterError, KafkaCluster};

/// Keys that a worker handles at once.
const KEYS: u32 = 64;

/// 20 records a second of each of 97 keys: with 20 ms each they often wait for one of their own.
const LOAD: LoadPlan = LoadPlan { even: true, ..LoadPlan::at_rate(2_000) };

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What commits told the next owners beside an offset.
    pub carried: Carried,
}

/// The workers of these runs: every record takes 1 to 40 ms, one in 100 fails once and waits.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan {
        protocol,
        partitions: 8,
        ordering: Ordering::key(KEYS),
        slow_one_in: 1,
        slow: Duration::from_millis(40),
        fail_one_in: 100,
        ..RigPlan::default()
    }
}

/// 2 to 4 processes; workers join and leave (static members: restart) `changes` times.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn join_and_leave<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    changes: u32,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(cluster, plan)?;
    let outcome = membership::run_on(&rig, LOAD, changes)?;
    Ok(Shown { outcome, carried: Carried::of(&rig.ledger()?) })
}

/// 3 processes; a random one is killed `kills` times, and replaced.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn kill<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    kills: u32,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(cluster, plan)?;
    let outcome = kill::run_on(&rig, LOAD, kills)?;
    Ok(Shown { outcome, carried: Carried::of(&rig.ledger()?) })
}

impl Shown {
    /// Nothing lost or repeated, everything in the order of its key, though there was something
    /// that only commits with a done-set could tell.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.outcome.is_exact() && self.carried.records > 0
    }

    /// The same, but what no commit had carried was repeated after a kill.
    #[must_use]
    pub fn repeats_only_what_no_commit_carried(&self) -> bool {
        kill::is_kept(&self.outcome) && self.carried.records > 0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.outcome, self.carried)
    }
}

/// A round of the long form: five changes, drains of up to two seconds.
pub(crate) fn round_of_joins(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let changes = 5;
    let plan = RigPlan { drain: Duration::from_secs(2), ..plan(protocol) };
    let shown = join_and_leave(kafka, plan.seeded(seed), changes)?;
    Ok(round(&shown, shown.is_exact()).counting("membership changes", changes.into()))
}

/// A round of the long form: five kills.
pub(crate) fn round_of_kills(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let kills = 5;
    let shown = kill(kafka, plan(protocol).seeded(seed), kills)?;
    let passed = shown.repeats_only_what_no_commit_carried();
    Ok(round(&shown, passed).counting("kills", kills.into()))
}

fn round(shown: &Shown, passed: bool) -> Round {
    let Shown { outcome, carried } = shown;
    let mut round = Round::of(outcome, passed)
        .counting("hand-overs", carried.hand_overs)
        .counting("hand-overs with records done above", carried.with_done_above)
        .counting("records carried above the committed offset", carried.records);
    round.text = shown.to_string();
    round
}
