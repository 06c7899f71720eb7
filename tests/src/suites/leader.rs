//! The broker that leads a partition is killed under load: outputs are under way to it, and what
//! is sent again must not end up behind something newer.

use std::time::Duration;

use pelton_testkit::ledger::Cause;

use crate::rig::{LoadPlan, Names, Outcome, Protocol, Rig, RigPlan};
use crate::suites::Round;
use crate::{ClusterError, KafkaCluster};

/// New leaders, a new coordinator, a rebalance: within so long everything flows again.
const RECOVERED: Duration = Duration::from_secs(90);

/// Few users: each has a total under way to every leader at any time.
const LOAD: LoadPlan = LoadPlan::at_rate(2_000);

/// The load goes on so long after a kill: it ends just before what was under way at the kill
/// times out (after 5 s), so that whatever is sent again then comes after the last totals.
const STILL_UNDER_LOAD: Duration = Duration::from_millis(4_500);

/// The workers of these runs. Their session is longer than a new leader and a new coordinator
/// take to be found (about 7 s), and half of it, when outputs time out, is shorter: workers keep
/// their partitions and send again.
#[must_use]
pub fn plan(protocol: Protocol) -> RigPlan {
    let settings = vec![("SESSION_TIMEOUT_MS".to_owned(), "10000".to_owned())];
    RigPlan { protocol, settings, ..RigPlan::default() }
}

/// Runs 3 processes over 6 partitions at 2,000 records/s on a cluster of three nodes and kills
/// the leader of a partition `kills` times: of the output, the changelog and the input by turns.
/// The input ends a moment after each kill, so that what was under way to the dead leader has
/// the last values; the run is judged when everything is handled, and ends with the first
/// judgement that is not [clean](Outcome::is_clean). Then the node is started again, and is back
/// in sync before the next kill.
///
/// # Errors
///
/// If the run can't be carried out; what it shows is in the [`Outcome`].
pub fn run(kafka: &KafkaCluster, plan: RigPlan, kills: u32) -> Result<Outcome, ClusterError> {
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    for kill in 0..kills {
        let load = rig.load(LOAD)?;
        rig.wait_until_caught_up(RECOVERED)?;
        std::thread::sleep(Duration::from_millis(500 + fleet.random() % 1_000));
        let topic = topic(rig.names(), kill);
        let leader = kafka.leader_of(&topic, 0)?;
        rig.kill_broker(leader, || kafka.kill(leader))?;
        std::thread::sleep(STILL_UNDER_LOAD);
        load.stop()?;
        rig.wait_until_handled(RECOVERED)?;
        kafka.wait_for_new_leader(&topic, 0, leader)?;
        kafka.start_node(leader)?;
        kafka.wait_until_ready()?;
        for topic in (0..3).map(|number| self::topic(rig.names(), number)) {
            kafka.wait_until_in_sync(&topic)?;
        }
        kafka.wait_until_in_sync("__consumer_offsets")?;
        fleet.check_alive()?;
        let outcome = rig.outcome()?;
        if !outcome.is_clean() {
            return Ok(outcome);
        }
    }
    rig.finish(fleet)
}

fn topic(names: &Names, number: u32) -> String {
    match number % 3 {
        0 => names.output.clone(),
        1 => names.changelog(),
        _ => names.input.clone(),
    }
}

/// Did a run keep its promise?
#[must_use]
pub fn is_kept(outcome: &Outcome) -> bool {
    outcome.repeats_only_by(&[Cause::BrokerKill])
}

/// A round of the long form: three kills.
pub(crate) fn round(
    kafka: &KafkaCluster,
    protocol: Protocol,
    seed: u64,
) -> Result<Round, ClusterError> {
    let kills = 3;
    let outcome = run(kafka, plan(protocol).seeded(seed), kills)?;
    let round = Round::of(&outcome, is_kept(&outcome)).without_times();
    Ok(round.counting("leaders killed", kills.into()))
}
