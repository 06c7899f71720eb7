//! Where does a group begin that was told a time? At the first record of that time or later. And
//! does a worker begin whose topic a broker hears of late?

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::Failed;
use pelton_testkit::ledger::Entry;
use pelton_tests::{Cluster, KafkaCluster, NewRecord, Rig, RigPlan, Trial, trials, wait_for};

use crate::{insist, insist_on_exact};

/// Something that must happen, and soon does.
const PATIENCE: Duration = Duration::from_secs(40);

/// 2026-11-24T00:00:00Z.
const MIDNIGHT_MS: i64 = 1_795_478_400_000;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trials::on_kafka("a_fresh_group_begins_at_the_time_it_was_told", at_a_time),
        trials::on_kafka("a_topic_that_is_made_a_moment_late_is_waited_for", made_late),
    ]
}

/// A broker hears of a new topic a little later than its peers: three workers ended because
/// theirs had just been made.
fn made_late() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let late = KafkaCluster::unique("late");
    let rig = Rig::new(kafka, RigPlan::default().with("LOGIN_COUNTER__OUTPUT_TOPIC", &late))?;
    let mut fleet = rig.fleet();
    let worker = fleet.launch(&[])?;
    wait_for("the topic missed", PATIENCE, || worker.log().contains("asking again").then_some(()))?;
    kafka.create_topic(&late, 3)?;
    worker.wait_until_joined()?;
    Ok(fleet.terminate_all()?)
}

/// Partition 0 has records on both sides of midnight, partition 1 only older ones, 2 none; 3 is
/// added later, so that whatever it holds is new to the group, however old it is (INV-9).
fn at_a_time() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan { partitions: 3, stateless: true, ..RigPlan::default() }
        .with("PARTITION_DISCOVERY_INTERVAL", "2s")
        .with("AUTO_OFFSET_RESET", "@2026-11-24T01:00:00+01:00");
    let rig = Rig::new(kafka, plan)?;
    let (before, after) = (MIDNIGHT_MS - 1, MIDNIGHT_MS + 3_600_000);
    send(&rig, 0, &[before, before, MIDNIGHT_MS, before, after])?;
    send(&rig, 1, &[before, before, before])?;
    let mut fleet = rig.fleet();
    fleet.start(2)?;
    wait_for("a commit in each partition", PATIENCE, || {
        let committed = kafka.committed(&rig.names().group, &rig.names().input).ok()?;
        committed.iter().all(|committed| committed.offset.is_some()).then_some(())
    })?;
    kafka.add_partitions(&rig.names().input, 4)?;
    wait_for("the new partition in the metadata", PATIENCE, || {
        kafka.ends(&rig.names().input).ok().filter(|ends| ends.len() == 4)
    })?;
    send(&rig, 3, &[before, before])?;
    send(&rig, 1, &[before])?;
    send(&rig, 2, &[before])?;
    wait_for("the new partition found", PATIENCE, || {
        first_positions(&rig).ok()?.contains_key(&3).then_some(())
    })?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    let begins = first_positions(&rig)?;
    let expected = BTreeMap::from([(0, 2), (1, 3), (2, 0), (3, 0)]);
    insist(begins == expected, || format!("it began at {begins:?}"))?;
    let begins: Vec<i64> = begins.into_values().collect();
    insist_on_exact(&rig.outcome_since(&begins)?)
}

/// One record for each of these times.
fn send(rig: &Rig<'_, KafkaCluster>, partition: i32, times_ms: &[i64]) -> Result<(), Failed> {
    let record = |time: &i64| NewRecord {
        timestamp: Some(*time),
        ..NewRecord::new("k", "{}").to_partition(partition)
    };
    let records: Vec<_> = times_ms.iter().map(record).collect();
    Ok(rig.cluster().produce(&rig.names().input, &records)?)
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
