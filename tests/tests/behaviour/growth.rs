//! What if a topic gets more partitions while it is read? They are found soon, and nothing in
//! them is skipped; a store does not follow its keys, so a worker with one says so and ends.

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::Failed;
use pelton::config::Settings;
use pelton_testkit::ledger::Entry;
use pelton_tests::{
    Cluster, Deadline, KafkaCluster, LoadPlan, NewRecord, Protocol, Rig, RigPlan, Trial, trials,
    wait_for,
};

use crate::refusal::Refusal;
use crate::{insist, insist_on_exact, say};

/// `partition_discovery_interval` of the workers here.
const DISCOVERY: Duration = Duration::from_secs(2);

/// What a rebalance and a busy machine add to it.
const SLACK: Duration = Duration::from_secs(6);

/// Something that must happen, and soon does.
const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("new_partitions_are_found_within_30_s_by_default", || {
            let default = Settings::default().partition_discovery_interval;
            insist(default <= Duration::from_secs(30), || format!("{default:?}"))
        }),
        trials::on_kafka("a_topic_that_grew_while_the_group_was_away_loses_nothing", while_away),
        trials::on_kafka("a_fresh_group_with_latest_begins_at_its_start", fresh_group_with_latest),
        trials::on_kafka("a_store_does_not_follow_a_growing_topic_and_says_so", with_a_store),
    ];
    for (reset, protocol) in [
        ("latest", Protocol::CooperativeSticky),
        ("error", Protocol::Kip848),
        ("earliest", Protocol::Range),
    ] {
        let name = format!("new_partitions_are_found_and_nothing_of_them_skipped::{reset}");
        trials.push(trials::on_kafka(&name, move || under_way(reset, protocol)));
    }
    trials
}

fn one_partition(protocol: Protocol, reset: &str) -> RigPlan {
    let plan = RigPlan { protocol, partitions: 1, stateless: true, ..RigPlan::default() };
    plan.with("PARTITION_DISCOVERY_INTERVAL", &format!("{}s", DISCOVERY.as_secs()))
        .with("AUTO_OFFSET_RESET", reset)
}

fn under_way(reset: &str, protocol: Protocol) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let rig = Rig::new(kafka, one_partition(protocol, reset))?;
    let mut fleet = rig.fleet();
    if reset == "error" {
        // Only a group that has begun can go on without a word on where to begin.
        fleet.launch(&[("AUTO_OFFSET_RESET", "earliest")])?;
        wait_until_committed(&rig, 1)?;
        fleet.terminate_all()?;
    }
    let skips = reset == "latest";
    fleet.start(if skips { 1 } else { 2 })?;
    wait_until_committed(&rig, 1)?;
    let load = rig.load(LoadPlan::at_rate(300))?;
    wait_for("a load under way", PATIENCE, || (load.sent() > 100).then_some(()))?;
    // Nobody may look before there are records that `latest` would skip.
    let frozen = if skips { Some(fleet.freeze_any()?) } else { None };
    kafka.add_partitions(&rig.names().input, 3)?;
    let mut found = Deadline::after(DISCOVERY + SLACK);
    fill(&rig, &[1, 2])?;
    if let Some(at) = frozen {
        fleet.thaw(at)?;
        found = Deadline::after(DISCOVERY + SLACK);
    }
    wait_until_started(&rig, &[1, 2], found.left())?;
    say(&format!("{reset}: found within {:.1?}", DISCOVERY + SLACK - found.left()));
    fill(&rig, &[0, 1, 2])?;
    load.stop()?;
    fleet.check_alive()?;
    let outcome = rig.finish(fleet)?;
    insist_on_exact(&outcome)?;
    let starts = first_positions(&rig)?;
    insist(starts[&1] == 0 && starts[&2] == 0, || format!("began at {starts:?}"))
}

/// It grows, and is written to, while nobody reads: `latest` must not skip that.
fn while_away() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let rig = Rig::new(kafka, one_partition(Protocol::CooperativeSticky, "latest"))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    wait_until_committed(&rig, 1)?;
    fill(&rig, &[0])?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    kafka.add_partitions(&rig.names().input, 3)?;
    fill(&rig, &[0, 1, 2])?;
    // Two at once: each must find out for itself, whoever commits first.
    fleet.start(2)?;
    insist_on_exact(&rig.finish(fleet)?)
}

fn fresh_group_with_latest() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan { stateless: true, ..RigPlan::default() };
    let rig = Rig::new(kafka, plan.with("AUTO_OFFSET_RESET", "latest"))?;
    let all: Vec<i32> = (0..rig.plan().partitions).collect();
    fill(&rig, &all)?;
    let load = rig.load(LoadPlan::at_rate(500))?;
    wait_for("a load under way", PATIENCE, || (load.sent() > 200).then_some(()))?;
    let before = kafka.ends(&rig.names().input)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    wait_until_committed(&rig, all.len())?;
    fill(&rig, &all)?;
    load.stop()?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    let begins: Vec<i64> = first_positions(&rig)?.into_values().collect();
    let older = begins.iter().zip(&before).any(|(begin, before)| begin < before);
    insist(begins.len() == all.len() && !older, || {
        format!("the ends before the start were {before:?}; it began at {begins:?}")
    })?;
    for line in rig.ledger()?.lines() {
        if let Entry::Start { partition, offset, .. } = &line.entry {
            let begin = usize::try_from(partition.partition()).ok().and_then(|at| before.get(at));
            insist(begin <= Some(offset), || format!("it read {partition} offset {offset}"))?;
        }
    }
    insist_on_exact(&rig.outcome_since(&begins)?)
}

fn with_a_store() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = one_partition(Protocol::CooperativeSticky, "earliest");
    let rig = Rig::new(kafka, RigPlan { stateless: false, ..plan })?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(300))?;
    wait_for("a load under way", PATIENCE, || (load.sent() > 100).then_some(()))?;
    kafka.add_partitions(&rig.names().input, 3)?;
    let changelog = rig.names().changelog();
    let says = &["has 3 partitions", changelog.as_str(), "keys move", "group_id"];
    let refusal = Refusal { code: "PLT-0305", exit: 10, says };
    refusal.hold(&fleet.wait_for_end(0, PATIENCE)?)?;
    // And at every start from now on.
    fleet.launch(&[])?;
    refusal.hold(&fleet.wait_for_end(0, PATIENCE)?)?;
    load.stop()?;
    // It ended in order: what it did is committed, and it has touched no new partition.
    let ledger = rig.ledger()?;
    let done = ledger.lines().iter().filter_map(|line| match &line.entry {
        Entry::End { partition, offset, .. } => Some((partition.partition(), *offset)),
        _ => None,
    });
    let done: Vec<_> = done.collect();
    let expected: Vec<_> = (0..).map(|offset| (0, offset)).take(done.len()).collect();
    insist(!done.is_empty() && done == expected, || format!("done, in this order: {done:?}"))?;
    let committed = kafka.committed(&rig.names().group, &rig.names().input)?;
    let end = i64::try_from(done.len()).ok();
    insist(committed[0].offset == end, || format!("{end:?} were done; {committed:?}"))
}

/// A few records into each of these partitions.
fn fill(rig: &Rig<'_, KafkaCluster>, partitions: &[i32]) -> Result<(), Failed> {
    let topic = &rig.names().input;
    let most = partitions.iter().max().map_or(0, |most| usize::try_from(*most).unwrap_or(0));
    wait_for("the new partitions in the metadata", PATIENCE, || {
        rig.cluster().ends(topic).ok().filter(|ends| ends.len() > most)
    })?;
    let records = partitions.iter().flat_map(|partition| {
        (0..20).map(|number| NewRecord::new(format!("k-{number}"), "{}").to_partition(*partition))
    });
    Ok(rig.cluster().produce(topic, &records.collect::<Vec<_>>())?)
}

/// Waits until the group has a commit in each of the first `count` partitions.
fn wait_until_committed(rig: &Rig<'_, KafkaCluster>, count: usize) -> Result<(), Failed> {
    let names = rig.names();
    Ok(wait_for("a commit in each partition", PATIENCE, || {
        let committed = rig.cluster().committed(&names.group, &names.input).ok()?;
        let all = committed.iter().take(count).all(|committed| committed.offset.is_some());
        (all && committed.len() >= count).then_some(())
    })?)
}

fn wait_until_started(
    rig: &Rig<'_, KafkaCluster>,
    partitions: &[i32],
    within: Duration,
) -> Result<(), Failed> {
    Ok(wait_for(&format!("the partitions {partitions:?} found"), within, || {
        let starts = first_positions(rig).ok()?;
        partitions.iter().all(|partition| starts.contains_key(partition)).then_some(())
    })?)
}

/// Where each partition was first read.
fn first_positions(rig: &Rig<'_, KafkaCluster>) -> Result<BTreeMap<i32, i64>, Failed> {
    let mut positions = BTreeMap::new();
    for line in rig.ledger()?.lines() {
        if let Entry::Started { partition, position, .. } = &line.entry {
            positions.entry(partition.partition()).or_insert(*position);
        }
    }
    Ok(positions)
}
