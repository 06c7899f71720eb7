//! The group's coordinator is killed under load: its successor reads the group's past, and the
//! workers go on as the members they were.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pelton::telemetry::CommitOutcome;
use pelton_testkit::ledger::{Cause, Entry, Ledger};

use crate::rig::{LoadPlan, Moment, Outcome, Protocol, Rig, RigPlan};
use crate::suites::{Round, roll};
use crate::{ClusterError, GroupLog, KafkaCluster};

/// New leaders, a new coordinator: within so long everything flows again.
const RECOVERED: Duration = Duration::from_secs(90);

/// What a run showed.
#[derive(Debug)]
pub struct Shown {
    /// What became of the records.
    pub outcome: Outcome,
    /// What the coordinators did with the group from the first kill on.
    pub group: GroupLog,
    /// Rebalance events that the workers counted meanwhile.
    pub events: u64,
    /// Per kill, from it until every worker has had a commit accepted that it sent after it.
    pub commits: Vec<Duration>,
}

/// The workers of these runs.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    RigPlan::with_default_session(protocol)
}

/// Runs 3 processes over 6 partitions at 2,000 records/s on a cluster of three nodes and kills
/// the node that coordinates the group `kills` times. The load goes on throughout; after each
/// kill the group catches up without the node, which then comes back into sync.
///
/// # Errors
///
/// If the run can't be carried out, or a worker ends; what it shows is in [`Shown`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, kills: u32) -> Result<Shown, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(LoadPlan::at_rate(2_000))?;
    rig.wait_until_begun(RECOVERED)?;
    rig.wait_until_caught_up(RECOVERED)?;
    roll::wait_until_settled(&fleet)?;

    let group = &rig.names().group;
    let (before, events) = (kafka.group_log(group)?, fleet.rebalance_events()?);
    let mut moments = Vec::new();
    for _ in 0..kills {
        std::thread::sleep(Duration::from_millis(500 + fleet.random() % 1_000));
        let coordinator = kafka.coordinator_of(group)?;
        moments.push(Moment::now());
        rig.kill_broker(coordinator, || kafka.kill(coordinator))?;
        rig.wait_until_caught_up(RECOVERED)?;
        fleet.check_alive()?;
        rig.bring_back(coordinator, RECOVERED)?;
        fleet.check_alive()?;
    }
    let group = kafka.group_log(group)?.since(&before);
    let events = fleet.rebalance_events()?.saturating_sub(events);
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    let ledger = rig.ledger()?;
    let commits = moments.iter().filter_map(|kill| first_commit(&ledger, *kill)).collect();
    Ok(Shown { outcome, group, events, commits })
}

/// From a kill until every worker that commits has had a commit accepted that it sent after it.
fn first_commit(ledger: &Ledger, kill: Moment) -> Option<Duration> {
    let mut sent = BTreeSet::new();
    let mut first: BTreeMap<usize, Duration> = BTreeMap::new();
    for line in ledger.lines().iter().filter(|line| Moment::of(line) > kill) {
        match &line.entry {
            Entry::CommitTried { id, .. } => {
                sent.insert((line.process, *id));
            }
            Entry::CommitKnown { id, outcome: CommitOutcome::Accepted, .. }
                if sent.contains(&(line.process, *id)) =>
            {
                first.entry(line.process).or_insert_with(|| Moment::of(line).since(kill));
            }
            _ => {}
        }
    }
    first.into_values().max()
}

impl Shown {
    /// Was nothing lost, and was every repeat caused by the kill?
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.outcome.repeats_only_by(&[Cause::BrokerKill])
    }
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { outcome, group, events, commits } = self;
        writeln!(
            f,
            "commits went on after {commits:.1?}; {} rebalances, {} evictions, {events} rebalance \
             events at workers",
            group.rebalances(),
            group.evictions(),
        )?;
        write!(f, "{group}{outcome}")
    }
}

/// A round of the long form: three kills.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let kills = 3;
    let shown = run(kafka, plan(protocol).seeded(seed), kills)?;
    let mut round = Round::of(&shown.outcome, shown.is_kept())
        .without_times()
        .measuring("kill to commits of every worker", shown.commits.iter().copied())
        .counting("coordinators killed", kills.into())
        .counting("rebalances", shown.group.rebalances())
        .counting("evictions", shown.group.evictions());
    round.text = shown.to_string();
    Ok(round)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_worker_to_commit_counts_with_what_it_sent_after_the_kill() {
        let ledger = "10 a try t-0 1 5 1\n20 b try t-1 1 5 1\n\
            100 faults fault broker-kill 1\n\
            150 a known t-0 1 5 1 accepted\n\
            200 a try t-0 1 6 2\n300 a known t-0 1 6 2 accepted\n\
            400 b try t-1 1 6 2\n900 b known t-1 1 6 2 accepted";
        let ledger = Ledger::from_text(ledger).expect("a history");
        let kill = ledger.lines().iter().find(|line| matches!(line.entry, Entry::Fault(_)));
        let first = kill.and_then(|kill| first_commit(&ledger, Moment::of(kill)));
        assert_eq!(first, Some(Duration::from_nanos(800)));
    }
}
