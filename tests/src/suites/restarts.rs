//! Six workers are restarted in turn, in good order, under load, over and over, as deployments do
//! it: nothing is lost, and nothing at all is repeated.

use std::time::Duration;

use crate::rig::{LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::waiting::Stopwatch;
use crate::{Cluster, ClusterError, KafkaCluster};

/// Of each run.
const WORKERS: usize = 6;

/// After a turn everything flows again within so long.
const RECOVERED: Duration = Duration::from_secs(60);

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// Per restart, how long the old process took to end, from SIGTERM on.
    pub ends: Vec<Duration>,
}

/// The workers of these runs: drains take up to half a second.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    let drain = Duration::from_millis(500);
    RigPlan { protocol, partitions: 12, drain, ..RigPlan::default() }
}

/// Runs 6 processes over 12 partitions at 2,000 records/s and restarts each, the oldest first,
/// `turns` times over: every other one, as it comes, only when its successor is in the group
/// (static members always end first). Every end must be clean.
///
/// # Errors
///
/// If the run can't be carried out, or a worker does not end in order; what it shows is in
/// [`Shown`].
pub fn run<C: Cluster + ?Sized>(
    cluster: &C,
    plan: RigPlan,
    turns: u32,
) -> Result<Shown, ClusterError> {
    let is_static = plan.protocol == Protocol::StaticMembership;
    let rig = Rig::new(cluster, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(WORKERS)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(RECOVERED)?;
    let mut ends = Vec::new();
    for _ in 0..turns {
        for _ in 0..WORKERS {
            std::thread::sleep(Duration::from_millis(fleet.random() % 500));
            fleet.check_alive()?;
            let successor_first = !is_static && fleet.random() % 2 == 0;
            if successor_first {
                fleet.start(1)?;
            }
            let watch = Stopwatch::start();
            let name = fleet.terminate_cleanly(0)?;
            ends.push(watch.elapsed());
            if is_static {
                fleet.launch_as(&name, &[])?.wait_until_joined()?;
            } else if !successor_first {
                fleet.start(1)?;
            }
        }
        rig.wait_until_caught_up(RECOVERED)?;
        fleet.check_alive()?;
    }
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { outcome, ends })
}

/// A round of the long form: five turns.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let turns = 5;
    let shown = run(kafka, plan(protocol).seeded(seed), turns)?;
    let restarts = u64::try_from(shown.ends.len()).unwrap_or(u64::MAX);
    Ok(Round::of(&shown.outcome, shown.outcome.is_exact())
        .without_times()
        .measuring("SIGTERM to end", shown.ends.iter().copied())
        .counting("turns of all 6 workers", turns.into())
        .counting("restarts", restarts))
}
