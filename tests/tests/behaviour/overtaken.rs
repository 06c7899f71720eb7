//! What if records are deleted faster than they are read, and the worker may go on? It goes on as
//! `on_out_of_range` says, says so once, and counts what it skips to the record.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton::admin::JumpStatus;
use pelton::telemetry::RecordOutcome;
use pelton_testkit::ledger::Entry;
use pelton_tests::{
    Cluster, Fleet, KafkaCluster, Protocol, Rig, RigPlan, Trial, WorkerProcess, trials, wait_for,
};

use crate::refusal::Refusal;
use crate::{insist, login, say};

const PATIENCE: Duration = Duration::from_secs(60);

/// What was produced at first; retention takes all below `LOW`. Far more than is handled until it does: with
/// 400 and 300 a busy machine's worker was through before.
const END: i64 = 3_100;
const LOW: i64 = 3_000;

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for policy in ["fail", "earliest", "latest"] {
        let name =
            format!("retention_that_overtakes_a_slow_worker_is_told_to_the_record::{policy}");
        trials.push(trials::on_kafka(&name, move || under_way(policy)));
    }
    for policy in ["earliest", "latest"] {
        let name = format!("retention_that_overtakes_an_absent_group_is_told::{policy}");
        trials.push(trials::on_kafka(&name, move || absent(policy)));
        let name = format!("a_topic_made_anew_is_read_where_that_was_asked::{policy}");
        trials.push(trials::on_kafka(&name, move || recreated(policy)));
    }
    trials
}

/// One partition, 20 ms a record, at most a few dozen records read ahead.
fn slow(policy: &str) -> RigPlan {
    let plan = RigPlan {
        partitions: 1,
        slow_one_in: 1,
        slow: Duration::from_millis(20),
        commit_interval: Duration::from_millis(200),
        ..RigPlan::default()
    };
    plan.with("ON_OUT_OF_RANGE", policy)
        .with("MEMORY_BUDGET_RECORDS", "40")
        .with("MAX_POLL_RECORDS", "20")
        .with("PARTITION_DISCOVERY_INTERVAL", "2s")
}

fn under_way(policy: &str) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let rig = Rig::new(kafka, slow(policy))?;
    let (input, group) = (rig.names().input.clone(), rig.names().group.clone());
    fill(&rig, END)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    wait_for("some records done", PATIENCE, || (done(&rig).ok()?.len() >= 20).then_some(()))?;
    kafka.delete_records(&input, 0, LOW)?;
    if policy == "fail" {
        let ended = fleet.wait_for_end(0, PATIENCE)?;
        let read = in_order(&done(&rig)?)?;
        let gap = format!("{} records were deleted before they were read", LOW - read);
        let says = &[gap.as_str(), "the log holds 3000 to 3100", "on_out_of_range"];
        Refusal { code: "PLT-0304", exit: 9, says }.hold(&ended)?;
        let committed = kafka.committed(&group, &input)?[0].offset;
        return insist(committed == Some(read), || format!("{committed:?} is committed"));
    }
    let to = if policy == "earliest" { LOW } else { END };
    let jump = wait_for("the jump", PATIENCE, || last_jump(&fleet.workers()[0]))?;
    fill(&rig, 20)?;
    wait_for("all the rest", PATIENCE, || {
        (done(&rig).ok()?.last() == Some(&(END + 19))).then_some(())
    })?;
    let from = jump.position;
    exactly(&rig, &[0..from, to..END + 20])?;
    insist((20..LOW).contains(&from), || format!("{jump:?}"))?;
    told(&fleet.workers()[0], &jump, to - from)?;
    insist(jump.gap_records == (LOW - from).unsigned_abs(), || format!("{jump:?}"))?;
    // The state follows what was handled, not what the log holds.
    let handled = (from + END + 20 - to).unsigned_abs();
    wait_for("the total", PATIENCE, || {
        (total(kafka, &rig.names().output)? == handled).then_some(())
    })?;
    say(&format!("{policy}: from {from} to {to}, {handled} handled"));
    end(&rig, fleet, END + 20)
}

fn absent(policy: &str) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let rig = Rig::new(kafka, slow(policy))?;
    let input = rig.names().input.clone();
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    fill(&rig, 10)?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    fill(&rig, 90)?;
    kafka.delete_records(&input, 0, 40)?;
    let to = if policy == "earliest" { 40 } else { 100 };
    // Killed when it has decided and before it handles more: nobody decides again.
    fleet.start(1)?;
    let jump = wait_for("the jump", PATIENCE, || last_jump(&fleet.workers()[0]))?;
    told(&fleet.workers()[0], &jump, to - 10)?;
    let committed = || kafka.committed(&rig.names().group, &input).ok()?[0].offset;
    wait_for("the new start committed", PATIENCE, || committed().filter(|at| *at >= to))?;
    fleet.kill(0)?;
    fill(&rig, 10)?;
    fleet.start(1)?;
    wait_for("the rest", PATIENCE, || (done(&rig).ok()?.last() == Some(&109)).then_some(()))?;
    insist(last_jump(&fleet.workers()[0]).is_none(), || "it decided again".to_owned())?;
    let skipped = |offset: &i64| (10..to).contains(offset);
    insist(!done(&rig)?.iter().any(skipped), || "it read what was skipped".to_owned())?;
    end(&rig, fleet, 110)
}

/// The topic is made anew, and grows longer than the old one was, under a frozen worker.
fn recreated(policy: &str) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan { slow_one_in: 0, protocol: Protocol::CooperativeSticky, ..slow(policy) };
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let input = &rig.names().input;
    fill(&rig, 100)?;
    rig.wait_until_handled(PATIENCE)?;
    let frozen = fleet.freeze_any()?;
    kafka.delete_topic(input)?;
    wait_for("the topic anew", PATIENCE, || kafka.create_topic(input, 1).ok())?;
    fill(&rig, 300)?;
    fleet.thaw(frozen)?;
    let jump = wait_for("the jump", PATIENCE, || last_jump(&fleet.workers()[0]))?;
    let to = if policy == "earliest" { 0 } else { 300 };
    insist(jump.cause == "the topic was deleted and created again", || format!("{jump:?}"))?;
    insist(jump.went_on_at == to, || format!("{jump:?}"))?;
    fill(&rig, 10)?;
    wait_for("the rest", PATIENCE, || (done(&rig).ok()?.last() == Some(&309)).then_some(()))?;
    if policy == "earliest" {
        let all = done(&rig)?;
        let since = all.iter().rposition(|offset| *offset == 0).unwrap_or(0);
        insist(in_order(&all[since..])? == 310, || format!("{all:?}"))?;
    }
    end(&rig, fleet, 310)
}

/// One line, the two counters and the status agree on the jump.
fn told(worker: &WorkerProcess, jump: &JumpStatus, skipped: i64) -> Result<(), Failed> {
    insist(i64::try_from(jump.skipped_records) == Ok(skipped), || format!("{jump:?}"))?;
    let answer = worker.ask("/metrics")?;
    let metric = |name| answer.metric(name, &[("partition", "0")]);
    let metrics = (metric("pelton_out_of_range_total"), metric("pelton_skipped_records_total"));
    let counted = metrics.1.map(|count| format!("{count:.0}"));
    insist(metrics.0 == Some(1.0) && counted == Some(skipped.to_string()), || {
        format!("{metrics:?} and {jump:?}")
    })?;
    let log = worker.log();
    let line: Vec<_> = log.lines().filter(|line| line.contains("was out of range")).collect();
    let [line] = line[..] else { return Err(format!("{line:?}").into()) };
    for part in [
        "WARN".to_owned(),
        format!("position={}", jump.position),
        format!("log_start={}", jump.log_start),
        format!("log_end={}", jump.log_end),
        format!("gap_records={}", jump.gap_records),
        format!("went_on_at={}", jump.went_on_at),
        format!("skipped_records={skipped}"),
    ] {
        insist(line.contains(&part), || format!("{part:?} is not in {line}"))?;
    }
    Ok(())
}

fn last_jump(worker: &WorkerProcess) -> Option<JumpStatus> {
    worker.partitions().ok()?.first()?.last_jump.clone()
}

fn fill(rig: &Rig<'_, KafkaCluster>, count: i64) -> Result<(), Failed> {
    let count = usize::try_from(count).unwrap_or(0);
    Ok(rig.cluster().produce(&rig.names().input, &vec![login("alice", 0); count])?)
}

/// The offsets that were done, in this order.
fn done(rig: &Rig<'_, KafkaCluster>) -> Result<Vec<i64>, Failed> {
    let ledger = rig.ledger()?;
    let done = ledger.lines().iter().filter_map(|line| match line.entry {
        Entry::End { offset, outcome: RecordOutcome::Done, .. } => Some(offset),
        _ => None,
    });
    Ok(done.collect())
}

/// They are 0, 1, 2, …; returns how many.
fn in_order(done: &[i64]) -> Result<i64, Failed> {
    insist(done.iter().copied().eq((0..).take(done.len())), || format!("{done:?}"))?;
    Ok(i64::try_from(done.len())?)
}

fn exactly(rig: &Rig<'_, KafkaCluster>, ranges: &[std::ops::Range<i64>]) -> Result<(), Failed> {
    let (done, expected) = (done(rig)?, ranges.iter().cloned().flatten());
    insist(done.iter().copied().eq(expected), || format!("{ranges:?} expected, done: {done:?}"))
}

/// The last total of alice in the output.
fn total(kafka: &KafkaCluster, output: &str) -> Option<u64> {
    let totals = kafka.read_topic(output).ok()?;
    let value: serde_json::Value = serde_json::from_slice(totals.last()?.value.as_deref()?).ok()?;
    value.get("total")?.as_u64()
}

/// It ends in good order, and all is committed.
fn end(rig: &Rig<'_, KafkaCluster>, mut fleet: Fleet, end: i64) -> Result<(), Failed> {
    insist(!fleet.workers()[0].log().contains("panicked at"), || fleet.workers()[0].log())?;
    fleet.terminate_all()?;
    let committed = rig.cluster().committed(&rig.names().group, &rig.names().input)?[0].offset;
    insist(committed == Some(end), || format!("{committed:?} is committed"))
}
