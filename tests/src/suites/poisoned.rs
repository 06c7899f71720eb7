//! Some records fail always, under load: each ends in the dead letters with the bytes it had, and
//! every other one is done once, in order.

use std::fmt;
use std::time::Duration;

use pelton::Ordering;

use crate::rig::{DeadLetters, LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::waiting::wait_for;
use crate::{Cluster, ClusterError, KafkaCluster};

/// A group that was started works within so long.
const BEGUN: Duration = Duration::from_secs(60);

/// One record in so many is poisoned: by turns it is an error, a panic, or hangs.
const POISON_ONE_IN: u64 = 200;

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What became of the poisoned ones.
    pub letters: DeadLetters,
}

/// The workers of these runs: a poisoned record is given up after its third attempt, and an attempt
/// after 200 ms.
#[must_use]
pub fn plan(protocol: Protocol, ordering: Ordering) -> RigPlan {
    RigPlan {
        protocol,
        partitions: 8,
        ordering,
        slow: Duration::from_millis(20),
        attempts: Some(3),
        attempt_timeout: Some(Duration::from_millis(200)),
        ..RigPlan::default()
    }
}

/// Runs 3 processes over 8 partitions at 2,000 records/s until `records` were sent, one in 200 of
/// them poisoned; in the middle of it one worker joins and another leaves.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in [`Shown`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    records: u64,
) -> Result<Shown, ClusterError> {
    let rig = Rig::new(cluster, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = LoadPlan { poison_one_in: POISON_ONE_IN, even: true, ..LoadPlan::at_rate(2_000) };
    let load = rig.load(load)?;
    let long = Duration::from_millis(records) + BEGUN;
    let sent = |most: u64| (load.sent() >= most).then_some(());
    wait_for("a third of the load", long, || sent(records / 3))?;
    rig.wait_until_begun(BEGUN)?;
    fleet.start(1)?;
    wait_for("two thirds of the load", long, || sent(records / 3 * 2))?;
    fleet.terminate_any()?;
    wait_for("all of the load", long, || sent(records))?;
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { outcome, letters: rig.dead_letters()? })
}

impl Shown {
    /// Each poisoned record is a dead letter, once or more, and every other record was done once.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome.is_exact() && self.letters.are_right() && self.letters.letters > 0
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.outcome, self.letters)
    }
}

/// A round of the long form: 40,000 records.
pub(crate) fn round(
    kafka: &KafkaCluster,
    ordering: Ordering,
    seed: u64,
) -> Result<Round, ClusterError> {
    let plan = plan(Protocol::CooperativeSticky, ordering).seeded(seed);
    let shown = run(kafka, plan, 40_000)?;
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .counting("poisoned", shown.letters.all_poisoned())
        .counting("dead letters", shown.letters.letters);
    round.text = shown.to_string();
    Ok(round)
}
