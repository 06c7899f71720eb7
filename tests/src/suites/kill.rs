//! Workers are killed under load: nothing is lost, and what repeats is what they had not
//! committed.

use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::{Cluster, ClusterError, KafkaCluster};

/// A killed worker's partitions are taken over within a session and a rebalance; a busy machine
/// gets a little more.
const TAKEN_OVER: Duration = Duration::from_secs(60);

/// The workers of these runs: many records in flight when the signal comes.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan { protocol, slow_one_in: 100, ..RigPlan::default() }
}

/// Runs 3 processes over 6 partitions at 2,000 records/s and kills a random one `kills` times.
/// Each is replaced by a new process (a static member under its old name). Every third kill
/// comes while the group still deals with the one before.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in the [`Outcome`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    kills: u32,
) -> Result<Outcome, ClusterError> {
    run_at(cluster, plan, kills, 2_000)
}

/// As [`run`], at a rate of its own.
///
/// # Errors
///
/// As [`run`].
pub fn run_at<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    kills: u32,
    per_second: u64,
) -> Result<Outcome, ClusterError> {
    run_on(&Rig::new(cluster, plan)?, LoadPlan::at_rate(per_second), kills)
}

/// As [`run`], with a load of its own.
pub(super) fn run_on<C: Cluster + ?Sized>(
    rig: &Rig<'_, C>,
    load: LoadPlan,
    kills: u32,
) -> Result<Outcome, ClusterError> {
    let protocol = rig.plan().protocol;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(load)?;
    rig.wait_until_begun(TAKEN_OVER)?;
    for kill in 1..=kills {
        // Anywhere between two commits.
        std::thread::sleep(Duration::from_millis(fleet.random() % 1_500));
        fleet.check_alive()?;
        let name = fleet.kill_any()?;
        if protocol == Protocol::StaticMembership {
            fleet.launch_as(&name, &[])?;
        } else {
            fleet.launch(&[])?;
        }
        if kill % 3 != 1 || kill == kills {
            rig.wait_until_caught_up(TAKEN_OVER)?;
        }
    }
    load.stop()?;
    rig.finish(fleet)
}

/// Did a run keep its promise?
#[must_use]
pub fn is_kept(outcome: &Outcome) -> bool {
    outcome.repeats_only_by(&[Cause::Kill])
}

/// A round of the long form: five kills.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let kills = 5;
    let outcome = run(kafka, plan(protocol).seeded(seed), kills)?;
    Ok(Round::of(&outcome, is_kept(&outcome)).counting("kills", kills.into()))
}

/// A round of the longest form: ten kills at 8,000 records/s over 12 partitions.
pub(crate) fn round_of_many(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let kills = 10;
    let plan = RigPlan { partitions: 12, slow_one_in: 300, ..plan(protocol) };
    let outcome = run_at(kafka, plan.seeded(seed), kills, 8_000)?;
    Ok(Round::of(&outcome, is_kept(&outcome)).without_times().counting("kills", kills.into()))
}
