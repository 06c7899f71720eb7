//! What if records, or a whole topic, are gone? The worker says so and never jumps in silence.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton::telemetry::RecordOutcome;
use pelton_testkit::ledger::Entry;
use pelton_tests::{
    Cluster, KafkaCluster, Protocol, Rig, RigPlan, Trial, WorkerProcess, trials, wait_for,
};

use crate::refusal::Refusal;
use crate::{insist, login};

const PATIENCE: Duration = Duration::from_secs(40);

/// A worker that can't go on has ended by then.
const SOON: Duration = Duration::from_secs(20);

/// A topic that is gone is noticed with the next look at the metadata.
const SAID: Duration = Duration::from_secs(15);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for reset in ["earliest", "latest"] {
        let name = format!("records_deleted_before_they_were_read_stop_the_worker::{reset}");
        trials.push(trials::on_kafka(&name, move || deleted_records(reset)));
    }
    for (protocol, in_flight) in [(Protocol::CooperativeSticky, true), (Protocol::Kip848, false)] {
        let name = format!("a_topic_deleted_under_a_worker_is_said_clearly::{protocol}");
        trials.push(trials::on_kafka(&name, move || deleted_topic(protocol, in_flight)));
        let name = format!("a_topic_made_anew_is_not_entered_in_the_middle::{protocol}");
        trials.push(trials::on_kafka(&name, move || recreated_topic(protocol)));
    }
    trials
}

/// Retention has passed the committed offset while the group was away. `latest` and `earliest`
/// say where to begin without a commit, not what to skip with one.
fn deleted_records(reset: &str) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan { partitions: 1, slow_one_in: 0, ..RigPlan::default() };
    let rig = Rig::new(kafka, plan.with("AUTO_OFFSET_RESET", reset))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let names = rig.names();
    let committed =
        || -> Option<i64> { kafka.committed(&names.group, &names.input).ok()?.first()?.offset };
    wait_for("a first commit", PATIENCE, committed)?;
    kafka.produce(&names.input, &vec![login("alice", 0); 100])?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    kafka.produce(&names.input, &vec![login("alice", 0); 50])?;
    kafka.delete_records(&names.input, 0, 120)?;
    for _ in 0..2 {
        fleet.launch(&[])?;
        let ended = fleet.wait_for_end(0, SOON)?;
        let place = format!("offset 100 of {}-0 is out of range", names.input);
        let says = &[place.as_str(), "120 to 150", "20 records were deleted", "--reset-offsets"];
        Refusal { code: "PLT-0304", exit: 9, says }.hold(&ended)?;
        insist(committed() == Some(100), || format!("{:?} is committed", committed()))?;
    }
    let ledger = rig.ledger()?;
    let jumped = |entry: &Entry| matches!(entry, Entry::Start { offset, .. } if *offset >= 100);
    insist(!ledger.lines().iter().any(|line| jumped(&line.entry)), || "it jumped".to_owned())
}

/// Of what a worker does when its input is deleted, this much is promised: it says so, lives on
/// without spinning, and when the topic is created again it reads it from its beginning. Records
/// in flight are finished; their commit is refused, and nothing is made of that.
fn deleted_topic(protocol: Protocol, in_flight: bool) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan {
        protocol,
        partitions: 3,
        slow_one_in: u64::from(in_flight),
        slow: Duration::from_millis(20),
        ..RigPlan::default()
    };
    let rig = Rig::new(kafka, plan.with("PARTITION_DISCOVERY_INTERVAL", "2s"))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let input = &rig.names().input;
    fill(&rig, 400)?;
    wait_for("some records handled", PATIENCE, || (done(&rig).ok()? > 200).then_some(()))?;
    if !in_flight {
        rig.wait_until_handled(PATIENCE)?;
    }
    kafka.delete_topic(input)?;
    let worker = &fleet.workers()[0];
    wait_for("a word on the topic that is gone", SAID, || said(&worker.log(), input))?;
    wait_for("no partitions", PATIENCE, || worker.partitions().ok()?.is_empty().then_some(()))?;
    is_calm(worker)?;
    let live = worker.ask("/livez")?;
    insist(live.status == 200, || format!("{live:?}"))?;

    kafka.create_topic(input, 3)?;
    let done_before = done(&rig)?;
    fill(&rig, 40)?;
    rig.wait_until_handled(PATIENCE)?;
    insist(done(&rig)? == done_before + 120, || format!("{} done", done(&rig).unwrap_or(0)))?;
    insist(!worker.log().contains("panicked at"), || worker.log())?;
    Ok(fleet.terminate_all()?)
}

/// The topic is made anew, and grows longer than the old one was, while the worker looks away (it
/// is frozen): the new topic's records must not be taken for the ones after the old one's end.
fn recreated_topic(protocol: Protocol) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan { protocol, partitions: 1, slow_one_in: 0, ..RigPlan::default() };
    let rig = Rig::new(kafka, plan.with("PARTITION_DISCOVERY_INTERVAL", "2s"))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let (input, output) = (&rig.names().input, &rig.names().output);
    kafka.produce(input, &vec![login("alice", 0); 100])?;
    rig.wait_until_handled(PATIENCE)?;
    let frozen = fleet.freeze_any()?;
    kafka.delete_topic(input)?;
    wait_for("the topic anew", PATIENCE, || kafka.create_topic(input, 1).ok())?;
    kafka.produce(input, &vec![login("bob", 0); 300])?;
    fleet.thaw(frozen)?;
    if protocol == Protocol::Kip848 {
        // The broker tells the topics apart: it takes the old one away and gives the new one.
        wait_for("all of the new topic", PATIENCE, || {
            (total(kafka, output)? == 300).then_some(())
        })?;
        return Ok(fleet.terminate_all()?);
    }
    let says = &[input.as_str(), "created again", "--reset-offsets"];
    Refusal { code: "PLT-0306", exit: 9, says }.hold(&fleet.wait_for_end(0, SOON)?)
}

/// The last total of bob in the output.
fn total(kafka: &KafkaCluster, output: &str) -> Option<u64> {
    let totals = kafka.read_topic(output).ok()?;
    let bobs = totals.iter().rev().find(|record| record.key.as_deref() == Some(b"bob"))?;
    let value: serde_json::Value = serde_json::from_slice(bobs.value.as_deref()?).ok()?;
    value.get("total")?.as_u64()
}

/// So many logins into each partition.
fn fill(rig: &Rig<'_, KafkaCluster>, count: usize) -> Result<(), Failed> {
    for partition in 0..rig.plan().partitions {
        let login = login(&format!("user-{partition}"), partition);
        rig.cluster().produce(&rig.names().input, &vec![login; count])?;
    }
    Ok(())
}

/// How many records have been done so far.
fn done(rig: &Rig<'_, KafkaCluster>) -> Result<usize, Failed> {
    let ledger = rig.ledger()?;
    let is_done = |entry: &Entry| matches!(entry, Entry::End { outcome: RecordOutcome::Done, .. });
    Ok(ledger.lines().iter().filter(|line| is_done(&line.entry)).count())
}

/// A warning, or worse, that names the topic and says that it is not there.
fn said(log: &str, topic: &str) -> Option<()> {
    let is_bad = |line: &&str| line.contains(" WARN ") || line.contains("ERROR ");
    let is_gone = |line: &str| {
        ["does not exist", "not available", "Unknown topic"]
            .iter()
            .any(|words| line.contains(words))
    };
    log.lines().filter(is_bad).any(|line| line.contains(topic) && is_gone(line)).then_some(())
}

/// It neither uses the processor nor fills its log: looked at for three seconds.
fn is_calm(worker: &WorkerProcess) -> Result<(), Failed> {
    let (time, lines) = (cpu_time(worker)?, worker.log().lines().count());
    std::thread::sleep(Duration::from_secs(3)); // what is looked for is that nothing happens
    let (time, lines) = (cpu_time(worker)? - time, worker.log().lines().count() - lines);
    insist(time < Duration::from_millis(600) && lines < 30, || {
        format!("{time:?} of processor time and {lines} lines in 3 s:\n{}", worker.log())
    })
}

/// Processor time a worker has used so far.
fn cpu_time(worker: &WorkerProcess) -> Result<Duration, Failed> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", worker.pid()))?;
    // After the name, in brackets: the 12th and 13th fields, in hundredths of a second.
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}
