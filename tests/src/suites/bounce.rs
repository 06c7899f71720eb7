//! Brokers end, in order or by SIGKILL, and come back a while later, under load: nothing is lost,
//! and workers go on.

use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{LoadPlan, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::{ClusterError, KafkaCluster};

/// After a node's return everything flows again within so long.
const RECOVERED: Duration = Duration::from_secs(90);

/// A node stays away for up to so long.
const AWAY_MS: u64 = 8_000;

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// Nodes that were asked to end.
    pub terminated: u64,
    /// Nodes that were killed.
    pub killed: u64,
}

/// The workers of these runs.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan::with_default_session(protocol)
}

/// Runs 3 processes over 6 partitions at 2,000 records/s on a cluster of three nodes, and
/// `bounces` times a node, any, ends (by SIGTERM or SIGKILL, as it comes), stays away for up to
/// 8 s, and comes back into sync.
///
/// # Errors
///
/// If the run can't be carried out, or a worker ends; what it shows is in [`Shown`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, bounces: u32) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(RECOVERED)?;
    rig.wait_until_caught_up(RECOVERED)?;
    let (mut terminated, mut killed) = (0, 0);
    for _ in 0..bounces {
        std::thread::sleep(Duration::from_millis(500 + fleet.random() % 1_500));
        let nodes = u64::try_from(kafka.node_count().max(1)).unwrap_or(1);
        let node = i32::try_from(fleet.random() % nodes).unwrap_or(0) + 1;
        if fleet.random() % 2 == 0 {
            kafka.stop(node)?;
            terminated += 1;
        } else {
            rig.kill_broker(node, || kafka.kill(node))?;
            killed += 1;
        }
        std::thread::sleep(Duration::from_millis(fleet.random() % AWAY_MS));
        fleet.check_alive()?;
        rig.bring_back(node, RECOVERED)?;
        fleet.check_alive()?;
    }
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    Ok(Shown { outcome, terminated, killed })
}

/// A round of the long form: five bounces.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan(protocol).seeded(seed), 5)?;
    Ok(Round::of(&shown.outcome, shown.outcome.repeats_only_by(&[Cause::BrokerKill]))
        .without_times()
        .counting("brokers asked to end", shown.terminated)
        .counting("brokers killed", shown.killed))
}
