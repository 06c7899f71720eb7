//! Workers join and leave gracefully under load: nothing is lost, nothing is repeated.

use std::time::Duration;

use crate::rig::{LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::{Cluster, ClusterError, KafkaCluster};

/// After a change the group is left alone for so long: the gaps of kept partitions are looked for
/// up to 1.2 s after an acknowledgement.
const PACE: Duration = Duration::from_millis(1_500);

/// Runs 2 to 4 processes over 6 partitions at 2,000 records/s, one record in 300 slow, drains of
/// up to `drain`, and lets workers join and leave (static members: restart) `changes` times.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in the [`Outcome`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    protocol: Protocol,
    changes: u32,
    drain: Duration,
) -> Result<Outcome, ClusterError> {
    run_as(cluster, plan(protocol, drain), changes)
}

fn plan(protocol: Protocol, drain: Duration) -> RigPlan {
    RigPlan { protocol, drain, ..RigPlan::default() }
}

fn run_as<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    changes: u32,
) -> Result<Outcome, ClusterError> {
    run_on(&Rig::new(cluster, plan)?, LoadPlan::at_rate(2_000), changes)
}

/// As [`run`], with a load of its own.
pub(super) fn run_on<C: Cluster + ?Sized>(
    rig: &Rig<'_, C>,
    load: LoadPlan,
    changes: u32,
) -> Result<Outcome, ClusterError> {
    let protocol = rig.plan().protocol;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(load)?;
    std::thread::sleep(PACE);
    for change in 0..changes {
        let grow = fleet.len() <= 2 || (fleet.len() < 4 && change % 2 == 1);
        if grow {
            fleet.start(1)?;
        } else {
            let name = fleet.terminate_any()?;
            if protocol == Protocol::StaticMembership {
                fleet.launch_as(&name, &[])?.wait_until_joined()?;
            }
        }
        std::thread::sleep(PACE);
        fleet.check_alive()?;
    }
    load.stop()?;
    rig.finish(fleet)
}

/// A round of the long form: five changes, drains of up to two seconds.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let changes = 5;
    let outcome = run_as(kafka, plan(protocol, Duration::from_secs(2)).seeded(seed), changes)?;
    Ok(Round::of(&outcome, outcome.is_exact()).counting("membership changes", changes.into()))
}
