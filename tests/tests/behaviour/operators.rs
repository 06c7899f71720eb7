//! Is a Pelton group a group like any other to Kafka's own tools? They show it, and may reset it.

use std::collections::BTreeMap;
use std::time::Duration;

use libtest_mimic::Failed;
use pelton::TopicPartition;
use pelton_testkit::ledger::Cause;
use pelton_tests::{
    Cluster, KafkaCluster, LoadPlan, Protocol, Rig, RigPlan, Trial, suites::keys, tool_class,
    trials, wait_for,
};

use crate::{insist, insist_on_exact, say};

const PARTITIONS: i32 = 3;

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let on = |protocol: Protocol, resets: &'static [Reset]| {
        let name = format!("kafkas_own_tools_show_and_reset_a_group::{protocol}");
        trials::on_kafka(&name, move || shows_and_resets(protocol, resets))
    };
    vec![
        on(Protocol::CooperativeSticky, &[Reset::ToEarliest]),
        on(Protocol::Kip848, &[Reset::ShiftBy(-30), Reset::ToOffset(100)]),
        trials::on_kafka(
            "a_reset_drops_what_was_done_above_it",
            a_reset_drops_what_was_done_above_it,
        ),
    ]
}

/// Where an operator sends a group.
#[derive(Clone, Copy, Debug)]
enum Reset {
    ToEarliest,
    ToCurrent,
    ShiftBy(i64),
    ToOffset(i64),
}

impl Reset {
    fn arguments(self) -> Vec<String> {
        match self {
            Self::ToEarliest => vec!["--to-earliest".to_owned()],
            Self::ToCurrent => vec!["--to-current".to_owned()],
            Self::ShiftBy(by) => vec!["--shift-by".to_owned(), by.to_string()],
            Self::ToOffset(offset) => vec!["--to-offset".to_owned(), offset.to_string()],
        }
    }

    fn of(self, committed: i64) -> i64 {
        match self {
            Self::ToEarliest => 0,
            Self::ToCurrent => committed,
            Self::ShiftBy(by) => committed + by,
            Self::ToOffset(offset) => offset,
        }
    }
}

fn shows_and_resets(protocol: Protocol, resets: &[Reset]) -> Result<(), Failed> {
    let plan = RigPlan { protocol, partitions: PARTITIONS, ..RigPlan::default() };
    let rig = Rig::new(KafkaCluster::shared(1)?, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(1_000))?;
    shows(&rig)?;
    load.stop()?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    insist_on_exact(&rig.outcome()?)?;
    let mut again = 0;
    for reset in resets {
        again += reset_offsets(&rig, *reset)?;
        fleet.start(1)?;
        rig.wait_until_handled(PATIENCE)?;
        fleet.terminate_all()?;
        let outcome = rig.outcome()?;
        insist(outcome.is_clean(), || outcome.to_string())?;
        let expected = BTreeMap::from([(Some(Cause::OffsetReset), again)]);
        let repeats = outcome.ledger.repeats_by_cause();
        insist(repeats == expected, || format!("{expected:?} were to be repeated\n{outcome}"))?;
        say(&format!("{reset:?}: {again} records handled again so far"));
    }
    Ok(())
}

/// A commit names what is done above its offset. Whoever resets the group means what he says: it is handled
/// again, where the offset stays the same, too.
fn a_reset_drops_what_was_done_above_it() -> Result<(), Failed> {
    let keys = keys::plan(Protocol::CooperativeSticky);
    let plan = RigPlan { partitions: PARTITIONS, fail_one_in: 20, ..keys };
    let rig = Rig::new(KafkaCluster::shared(1)?, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(1_000))?;
    rig.wait_until_begun(PATIENCE)?;
    fleet.terminate_all()?; // some records wait for their second attempt: those behind them are done
    load.stop()?;
    let committed = rig.cluster().committed(&rig.names().group, &rig.names().input)?;
    let below: i64 = committed.iter().filter_map(|committed| committed.offset).sum();
    let above = rig.outcome()?.ledger.done.saturating_sub(u64::try_from(below)?);
    insist(above > 0, || "nothing was done above the committed offsets".to_owned())?;
    reset_offsets(&rig, Reset::ToCurrent)?;
    fleet.start(1)?;
    rig.wait_until_handled(PATIENCE)?;
    fleet.terminate_all()?;
    let outcome = rig.outcome()?;
    insist(outcome.is_clean(), || outcome.to_string())?;
    let expected = BTreeMap::from([(Some(Cause::OffsetReset), above)]);
    let repeats = outcome.ledger.repeats_by_cause();
    insist(repeats == expected, || format!("{expected:?} were to be repeated\n{outcome}"))?;
    say(&format!("{above} records were done above the committed offsets, and handled again"));
    Ok(())
}

/// A line of `--describe`.
#[derive(Debug)]
struct Described {
    topic: String,
    partition: i32,
    current: i64,
    end: i64,
    lag: i64,
    client: String,
}

/// The tool's view lies between what was so before and what was so after; under load there is
/// always something that is not committed yet.
fn shows(rig: &Rig<'_, KafkaCluster>) -> Result<(), Failed> {
    let names = rig.names();
    let view = || -> Result<(Vec<i64>, Vec<i64>), Failed> {
        let committed = rig.cluster().committed(&names.group, &names.input)?;
        let committed = committed.iter().map(|committed| committed.offset.unwrap_or(0)).collect();
        Ok((committed, rig.cluster().ends(&names.input)?))
    };
    wait_for("first commits", PATIENCE, || {
        view().ok()?.0.iter().all(|offset| *offset > 0).then_some(())
    })?;
    let (committed_before, ends_before) = view()?;
    let text = groups_tool(rig, &["--describe"])?;
    let (committed_after, ends_after) = view()?;
    say(&text);
    let lines = described(&text, &names.group);
    insist(lines.len() == usize::try_from(PARTITIONS)?, || text.clone())?;
    for line in &lines {
        let at = usize::try_from(line.partition)?;
        let is_known = (committed_before[at]..=committed_after[at]).contains(&line.current);
        let is_end = (ends_before[at]..=ends_after[at]).contains(&line.end);
        let fits = line.lag == line.end - line.current;
        let is_ours = line.topic == names.input && line.client == "worker-1";
        insist(is_known && is_end && fits && is_ours, || {
            format!(
                "{line:?} before {committed_before:?} {ends_before:?} after {committed_after:?} {ends_after:?}"
            )
        })?;
    }
    insist(lines.iter().any(|line| line.lag > 0), || format!("no lag was seen:\n{text}"))
}

/// `GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID`; columns
/// are found by their names.
fn described(text: &str, group: &str) -> Vec<Described> {
    let head = text.lines().find(|line| line.starts_with("GROUP")).unwrap_or_default();
    let columns: Vec<_> = head.split_whitespace().collect();
    let place = |name: &str| columns.iter().position(|column| *column == name);
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let rows = rows.filter(|row| row.first() == Some(&group));
    rows.filter_map(|row| {
        let cell = |name: &str| row.get(place(name)?).copied();
        Some(Described {
            topic: cell("TOPIC")?.to_owned(),
            partition: cell("PARTITION")?.parse().ok()?,
            current: cell("CURRENT-OFFSET")?.parse().ok()?,
            end: cell("LOG-END-OFFSET")?.parse().ok()?,
            lag: cell("LAG")?.parse().ok()?,
            client: cell("CLIENT-ID")?.to_owned(),
        })
    })
    .collect()
}

/// Resets the stopped group; how many records it will handle again.
fn reset_offsets(rig: &Rig<'_, KafkaCluster>, reset: Reset) -> Result<u64, Failed> {
    let names = rig.names();
    let mut again = 0;
    let mut expected = Vec::new();
    let ends = rig.cluster().ends(&names.input)?;
    for (committed, end) in
        rig.cluster().committed(&names.group, &names.input)?.into_iter().zip(ends)
    {
        let offset = reset.of(committed.offset.unwrap_or(0));
        let partition = TopicPartition::new(names.input.as_str(), committed.partition);
        rig.faults().offset_reset(&partition, offset)?;
        again += u64::try_from(end - offset)?;
        expected.push(Some(offset));
    }
    let mut arguments = vec!["--reset-offsets", "--execute", "--topic", &names.input];
    let how = reset.arguments();
    arguments.extend(how.iter().map(String::as_str));
    groups_tool(rig, &arguments)?;
    let committed = rig.cluster().committed(&names.group, &names.input)?;
    let set: Vec<_> = committed.iter().map(|committed| committed.offset).collect();
    insist(set == expected, || format!("{set:?}, not {expected:?}"))?;
    Ok(again)
}

fn groups_tool(rig: &Rig<'_, KafkaCluster>, arguments: &[&str]) -> Result<String, Failed> {
    let class = tool_class("consumer-groups").ok_or("no such tool")?;
    let group = ["--group", rig.names().group.as_str()];
    let output = rig.cluster().tool(class, &[arguments, &group].concat())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    insist(output.status.success(), || format!("{text}\n{complaint}"))?;
    Ok(text)
}
