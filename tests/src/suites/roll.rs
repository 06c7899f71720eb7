//! Brokers are restarted in turn, in good order, under load: workers go on, nothing is lost or
//! repeated, and the group does not rebalance.

use std::time::Duration;

use crate::rig::{Fleet, LoadPlan, Moment, Outcome, Pace, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::waiting::{Stopwatch, patiently};
use crate::{ClusterError, GroupLog, KafkaCluster};

/// After a node's return everything flows again within so long.
const RECOVERED: Duration = Duration::from_secs(60);

/// A group is at rest when its workers have heard of no rebalance for so long.
const SETTLED: Duration = Duration::from_secs(3);

/// The pause between a node's return and the next one's end.
const PACE: Duration = Duration::from_secs(1);

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What the coordinators did with the group while nodes were restarted.
    pub group: GroupLog,
    /// Rebalance events that the workers counted meanwhile.
    pub events: u64,
    /// How often the group's coordinator was another one than before.
    pub coordinators: u64,
    /// Per restart, the longest time in which a partition had no record done.
    pub silences: Vec<Duration>,
}

/// The workers of these runs.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan::with_default_session(protocol)
}

/// Runs 3 processes over 6 partitions at 2,000 records/s on a cluster of three nodes and restarts
/// `restarts` nodes in turn (SIGTERM, its end, its start, every replica in sync again), the group's
/// coordinator first; after the last node of the cluster, and at the end, leadership returns to the
/// first replicas, as Kafka sees to by itself some minutes later.
///
/// # Errors
///
/// If the run can't be carried out, or a worker ends; what it shows is in [`Shown`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, restarts: i32) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(RECOVERED)?;
    rig.wait_until_caught_up(RECOVERED)?;
    wait_until_settled(&fleet)?;

    let group = &rig.names().group;
    let (before, events) = (kafka.group_log(group)?, fleet.rebalance_events()?);
    let first = kafka.coordinator_of(group)?;
    let mut watch = Watch { coordinator: first, moved: 0 };
    let mut windows = Vec::new();
    let nodes = i32::try_from(kafka.node_count()).unwrap_or(1).max(1);
    for done in 1..=restarts {
        let node = (first - 1 + done - 1).rem_euclid(nodes) + 1;
        let begun = Moment::now();
        kafka.stop(node)?;
        rig.bring_back(node, RECOVERED)?;
        windows.push((begun, Moment::now()));
        if done % nodes == 0 || done == restarts {
            kafka.elect_preferred_leaders()?;
            rig.wait_until_caught_up(RECOVERED)?;
        }
        std::thread::sleep(PACE);
        watch.look(kafka, group)?;
        fleet.check_alive()?;
    }
    let group = kafka.group_log(group)?.since(&before);
    let events = fleet.rebalance_events()?.saturating_sub(events);
    load.stop()?;
    let outcome = finish(&rig, fleet)?;
    let pace = Pace::of(&rig.ledger()?);
    let silences = windows.iter().map(|(from, until)| pace.longest_silence(*from, *until));
    Ok(Shown { outcome, group, events, coordinators: watch.moved, silences: silences.collect() })
}

/// Waits until the workers have heard of no rebalance for a while: one that the start has begun
/// is not counted against the brokers.
pub(crate) fn wait_until_settled(fleet: &Fleet) -> Result<(), ClusterError> {
    let mut last = (fleet.rebalance_events()?, Stopwatch::start());
    patiently("a group at rest", RECOVERED, || {
        let events = fleet.rebalance_events().map_err(|error| error.to_string())?;
        if events != last.0 {
            last = (events, Stopwatch::start());
        }
        (last.1.elapsed() >= SETTLED).then_some(()).ok_or_else(|| format!("{events} events"))
    })
}

fn finish(rig: &Rig<'_, KafkaCluster>, mut fleet: Fleet) -> Result<Outcome, ClusterError> {
    fleet.check_alive()?;
    rig.finish(fleet)
}

struct Watch {
    coordinator: i32,
    moved: u64,
}

impl Watch {
    fn look(&mut self, kafka: &KafkaCluster, group: &str) -> Result<(), ClusterError> {
        let now = kafka.coordinator_of(group)?;
        self.moved += u64::from(std::mem::replace(&mut self.coordinator, now) != now);
        Ok(())
    }
}

impl Shown {
    /// Was nothing lost or repeated, and was there no rebalance although the coordinator moved?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        let calm = self.group.rebalances() == 0 && self.group.evictions() == 0 && self.events == 0;
        self.outcome.is_exact() && calm && self.coordinators > 0
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { outcome, group, events, coordinators, silences } = self;
        writeln!(
            f,
            "{} restarts, the coordinator moved {coordinators} times; {} rebalances, {} evictions, \
             {events} rebalance events at workers; longest silences {silences:.1?}",
            silences.len(),
            group.rebalances(),
            group.evictions(),
        )?;
        write!(f, "{group}{outcome}")
    }
}

/// A round of the long form: the whole cluster of three nodes twice.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let shown = run(kafka, plan(protocol).seeded(seed), 6)?;
    let restarts = u64::try_from(shown.silences.len()).unwrap_or(u64::MAX);
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .measuring("longest silence of a partition in a restart", shown.silences.iter().copied())
        .counting("restarts", restarts)
        .counting("coordinator moves", shown.coordinators)
        .counting("rebalances", shown.group.rebalances())
        .counting("rebalance events at workers", shown.events);
    round.text = shown.to_string();
    Ok(round)
}
