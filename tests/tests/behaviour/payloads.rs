//! What if what stands in Kafka is garbage? Records, commits and changelogs written by others, or
//! to do harm: each is named, or skipped where that was asked; its text is never repeated.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_tests::{Cluster, KafkaCluster, NewRecord, Rig, RigPlan, Trial, trials, wait_for};
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::refusal::Refusal;
use crate::{embedded, embedded_plan, insist, login};

/// A worker that can't go on has ended by then.
const SOON: Duration = Duration::from_secs(20);

const PATIENCE: Duration = Duration::from_secs(60);

/// Stands in every payload that has room for it.
const CANARY: &str = "canary";

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("garbage::every_kind_of_record_is_skipped_where_that_was_asked", skipped),
        Trial::new("garbage::every_kind_of_record_stops_the_worker_that_names_it", stopped),
        Trial::new("garbage::a_record_too_large_to_be_told_of_is_named", too_large),
        trials::on_kafka("garbage::a_commit_s_metadata_is_ignored", metadata),
        trials::on_kafka("garbage::a_commit_beyond_the_log_is_out_of_range", beyond_the_log),
        trials::on_kafka("garbage::a_changelog_that_others_wrote_is_named", changelog),
    ]
}

/// Records that are no logins.
fn garbage() -> Vec<NewRecord> {
    let long = CANARY.repeat(100_000);
    let values = [
        String::new(),
        CANARY.to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "{}".to_owned(),
        "[".repeat(100_000),
        r#"{"user":"#.repeat(20_000),
        format!(r#"{{"user":"a","status":"success","more":{}"#, "[".repeat(100_000)),
        r#"{"user":"a","user":"b","status":"success"}"#.to_owned(),
        format!(r#"{{"user":"a","status":"{long}"}}"#),
        format!(r#"{{"user":{},"status":"success"}}"#, "9".repeat(100_000)),
        r#"{"user":1e999999,"status":"success"}"#.to_owned(),
        r#"{"user":"\ud800","status":"success"}"#.to_owned(),
        r#"{"user":"a","status":"success"}canary"#.to_owned(),
        "\u{feff}{\"user\":\"a\",\"status\":\"success\"}".to_owned(),
        "\0".repeat(1_000),
    ];
    let mut records: Vec<_> = values.map(|value| NewRecord::new(CANARY, value)).into();
    records.push(NewRecord::new([0xff, 0xfe], [0xff; 100]));
    records.push(NewRecord::new(b"", b"{\"user\":\"\xff\",\"status\":\"success\"}"));
    records.push(NewRecord { key: Some(b"k".to_vec()), ..NewRecord::default() });
    records.push(NewRecord::default());
    records.into_iter().map(|record| record.to_partition(0)).collect()
}

/// Logins that look odd.
fn odd() -> Vec<NewRecord> {
    let long = "x".repeat(900_000);
    let ignored = format!(r#"{{"user":"alice","status":"success","ip":"{long}"}}"#);
    let mut no_key = login("alice", 0);
    no_key.key = None;
    let empty_key = NewRecord { key: Some(Vec::new()), ..login("alice", 0) };
    let garbled = NewRecord { key: Some(vec![0xff; 1_000]), ..login("alice", 0) };
    vec![NewRecord::new("alice", ignored).to_partition(0), no_key, empty_key, garbled]
}

fn skipped() -> Result<(), Failed> {
    let cluster = embedded()?;
    let plan = RigPlan { slow_one_in: 0, ..embedded_plan() };
    let rig = Rig::new(&cluster, plan.with("LOGIN_COUNTER__ON_INVALID", "skip"))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let garbage = garbage();
    let records: Vec<_> =
        garbage.iter().cloned().chain(odd()).flat_map(|record| [record, login("bob", 0)]).collect();
    cluster.produce(&rig.names().input, &records)?;
    rig.wait_until_handled(PATIENCE)?;
    let log = fleet.workers()[0].log();
    let output = cluster.read_topic(&rig.names().output)?;
    fleet.terminate_all()?;
    let told = log.lines().filter(|line| line.contains("is invalid and is skipped")).count();
    insist(told == garbage.len(), || format!("{told} of {} are told", garbage.len()))?;
    let longest = log.lines().map(str::len).max();
    insist(!log.contains(CANARY) && longest < Some(2_000), || log.clone())?;
    insist(!log.contains("panicked at"), || log.clone())?;
    let last = |user: &str| {
        let found =
            output.iter().rev().find(|record| record.key.as_deref() == Some(user.as_bytes()));
        let value = found.and_then(|record| record.value.clone()).unwrap_or_default();
        String::from_utf8(value).unwrap_or_default()
    };
    let (alice, bob) = (odd().len(), garbage.len() + odd().len());
    let expected = (
        format!(r#"{{"user":"alice","total":{alice}}}"#),
        format!(r#"{{"user":"bob","total":{bob}}}"#),
    );
    insist((last("alice"), last("bob")) == expected, || {
        format!("{} {}", last("alice"), last("bob"))
    })?;
    let verdict = rig.outcome()?.ledger;
    let skipped = usize::try_from(verdict.skipped);
    insist(verdict.is_clean() && skipped == Ok(garbage.len()), || verdict.to_string())
}

fn stopped() -> Result<(), Failed> {
    let cluster = embedded()?;
    let mut running = Vec::new();
    // Two at a time: each is a group and a topic of its own.
    for pair in garbage().chunks(2) {
        for record in pair {
            let rig = Rig::new(&cluster, RigPlan { slow_one_in: 0, ..embedded_plan() })?;
            cluster.produce(&rig.names().input, &[login("alice", 0), record.clone()])?;
            let mut fleet = rig.fleet();
            fleet.launch(&[])?;
            running.push((rig, fleet));
        }
        for (rig, mut fleet) in running.drain(..) {
            let place = format!("{}-0 offset 1", rig.names().input);
            let ended = fleet.wait_for_end(0, SOON)?;
            let says = &[place.as_str(), "is invalid", "on_invalid"];
            Refusal { code: "PLT-0401", exit: 3, says }.hold(&ended)?;
            insist(!ended.log.contains(CANARY), || ended.log.clone())?;
        }
    }
    Ok(())
}

/// A user's name of 600 KB is a login, but its total is no record that Kafka takes.
fn too_large() -> Result<(), Failed> {
    let cluster = embedded()?;
    let plan = embedded_plan().with("LOGIN_COUNTER__ON_INVALID", "skip");
    let rig = Rig::new(&cluster, RigPlan { slow_one_in: 0, ..plan })?;
    let huge = NewRecord { key: Some(b"k".to_vec()), ..login(&CANARY.repeat(100_000), 0) };
    let records = [login("alice", 0), huge];
    cluster.produce(&rig.names().input, &records)?;
    let mut fleet = rig.fleet();
    fleet.launch(&[])?;
    let place = format!("{}-0 can't go on at offset 1", rig.names().input);
    let says = &[place.as_str(), "is larger than 999000"];
    let ended = fleet.wait_for_end(0, SOON)?;
    Refusal { code: "PLT-0402", exit: 4, says }.hold(&ended)?;
    insist(!ended.log.contains(CANARY), || "it repeats the payload".to_owned())
}

/// Whatever stands beside an offset, the offset counts.
fn metadata() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let mut running = Vec::new();
    for metadata in [
        "by hand, for the migration",
        "pelton1 00000000 p=3 t=nonsense",
        "pelton9 00000000 p=3",
        "pelton",
        "pelton1 \u{1f980} p=3",
        &"x".repeat(4_000),
    ] {
        let rig = Rig::new(kafka, RigPlan { partitions: 1, slow_one_in: 0, ..RigPlan::default() })?;
        kafka.produce(&rig.names().input, &vec![login("alice", 0); 20])?;
        commit(kafka, &rig, 5, metadata)?;
        let mut fleet = rig.fleet();
        fleet.launch(&[])?;
        running.push((rig, fleet, metadata.starts_with("pelton")));
    }
    for (rig, mut fleet, is_ours) in running {
        rig.wait_until_handled(PATIENCE)?;
        let log = fleet.workers()[0].log();
        let warned = log.contains("the commit's metadata is ignored");
        insist(warned == is_ours, || log.clone())?;
        fleet.terminate_all()?;
        let outcome = rig.outcome_since(&[5])?;
        insist(outcome.ledger.is_clean() && outcome.ledger.done == 15, || outcome.to_string())?;
    }
    Ok(())
}

fn beyond_the_log() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let rig = Rig::new(kafka, RigPlan { partitions: 1, slow_one_in: 0, ..RigPlan::default() })?;
    kafka.produce(&rig.names().input, &vec![login("alice", 0); 20])?;
    commit(kafka, &rig, i64::MAX - 1, "")?;
    let mut fleet = rig.fleet();
    fleet.launch(&[])?;
    let says =
        &["is out of range: the log holds 0 to 20", "it ends 9223372036854775786 offsets before"];
    Refusal { code: "PLT-0304", exit: 9, says }.hold(&fleet.wait_for_end(0, SOON)?)
}

fn changelog() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = || RigPlan { partitions: 1, slow_one_in: 0, ..RigPlan::default() };
    let later = NewRecord::new("alice", "1").header("pelton-store-version", "2");
    let garbled = NewRecord::new("alice", CANARY);
    let refusals = [
        (later, Refusal { code: "PLT-0403", exit: 11, says: &["totals", "offset 0", "version"] }),
        (garbled, Refusal { code: "PLT-0402", exit: 4, says: &["the store totals does not fit"] }),
    ];
    for (record, refusal) in refusals {
        let rig = Rig::new(kafka, plan())?;
        let mut fleet = rig.fleet();
        fleet.start(1)?; // makes the changelog
        fleet.terminate_all()?;
        kafka.produce(&rig.names().changelog(), &[record.to_partition(0)])?;
        kafka.produce(&rig.names().input, &[login("alice", 0)])?;
        fleet.launch(&[])?;
        let ended = fleet.wait_for_end(0, SOON)?;
        refusal.hold(&ended)?;
        insist(!ended.log.contains(CANARY), || ended.log.clone())?;
    }
    // What is in nobody's way: keys that are none, values of keys that nobody reads.
    let rig = Rig::new(kafka, plan())?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    fleet.terminate_all()?;
    let foreign = [NewRecord::new([0xff], [0xff]), NewRecord::new("", "")];
    let foreign = foreign.map(|record| record.to_partition(0));
    kafka.produce(&rig.names().changelog(), &foreign)?;
    kafka.produce(&rig.names().input, &[login("alice", 0)])?;
    fleet.start(1)?;
    rig.wait_until_handled(PATIENCE)?;
    Ok(fleet.terminate_all()?)
}

/// Commits for a group that has no members, as an operator or another tool would.
fn commit(
    kafka: &KafkaCluster,
    rig: &Rig<'_, KafkaCluster>,
    offset: i64,
    metadata: &str,
) -> Result<(), Failed> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .set("group.id", &rig.names().group)
        .set("enable.auto.commit", "false")
        .create()?;
    let mut offsets = TopicPartitionList::new();
    offsets.add_partition_offset(&rig.names().input, 0, Offset::Offset(offset))?;
    if let Some(mut element) = offsets.elements().into_iter().next() {
        element.set_metadata(metadata);
    }
    wait_for("the commit", PATIENCE, || consumer.commit(&offsets, CommitMode::Sync).ok())?;
    Ok(())
}
