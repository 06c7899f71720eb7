//! What does a worker say when it can't do what it is told? One clear message, and the exit code
//! that `docs/errors.md` gives for it, soon.

use std::net::TcpListener;
use std::time::Duration;

use libtest_mimic::Failed;
use pelton::TopicPartition;
use pelton::telemetry::RecordOutcome;
use pelton_testkit::ledger::Entry;
use pelton_tests::{
    Cluster, Deadline, Fleet, KafkaCluster, NewRecord, Rig, RigPlan, Trial, trials, wait_for,
};

use crate::refusal::Refusal;
use crate::{embedded, embedded_plan, insist, login, say};

/// A worker that can't start or go on has ended by then.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    let refused = |name: &str, settings: &'static [(&str, &str)], refusal: Refusal<'static>| {
        Trial::new(format!("refused_at_start::{name}"), move || {
            let cluster = embedded()?;
            refuses(&cluster, embedded_plan(), settings, &refusal)
        })
    };
    let missing = |name: &str, setting: &'static [(&str, &str)], refusal: Refusal<'static>| {
        trials::on_kafka(&format!("refused_at_start::{name}"), move || {
            refuses(KafkaCluster::shared(1)?, RigPlan::default(), setting, &refusal)
        })
    };
    vec![
        refused(
            "exactly_once",
            &[("GUARANTEE", "exactly_once")],
            Refusal { code: "PLT-0105", exit: 2, says: &["guarantee", "exactly_once"] },
        ),
        refused(
            "enable_auto_commit",
            &[("ENABLE_AUTO_COMMIT", "true")],
            Refusal { code: "PLT-0107", exit: 2, says: &["enable_auto_commit", "commit_interval"] },
        ),
        Trial::new("refused_at_start::an_unreachable_kafka", unreachable),
        missing(
            "a_missing_input",
            &[("LOGIN_COUNTER__INPUT_TOPIC", "no-such-input")],
            Refusal {
                code: "PLT-0302",
                exit: 9,
                says: &["the input topic no-such-input does not exist", "--create"],
            },
        ),
        missing(
            "a_missing_output",
            &[("LOGIN_COUNTER__OUTPUT_TOPIC", "no-such-output")],
            Refusal {
                code: "PLT-0302",
                exit: 9,
                says: &["the output topic no-such-output does not exist", "--create"],
            },
        ),
        missing(
            "no_commit_and_none_to_be_assumed",
            &[("AUTO_OFFSET_RESET", "error")],
            Refusal {
                code: "PLT-0303",
                exit: 9,
                says: &["has no committed offset", "auto_offset_reset", "--reset-offsets"],
            },
        ),
        trials::on_kafka("an_invalid_record_stops_the_worker_that_names_it", invalid_stops),
        trials::on_kafka("an_invalid_record_is_skipped_where_that_was_asked", invalid_is_skipped),
    ]
}

fn refuses<C: Cluster>(
    cluster: &C,
    plan: RigPlan,
    settings: &[(&str, &str)],
    refusal: &Refusal<'_>,
) -> Result<(), Failed> {
    let rig = Rig::new(cluster, plan)?;
    cluster.produce(&rig.names().input, &[login("alice", 0)])?;
    let mut fleet = rig.fleet();
    fleet.launch(settings)?;
    refusal.hold(&fleet.wait_for_end(0, SOON)?)?;
    nothing_was_handled(&rig)
}

fn nothing_was_handled<C: Cluster>(rig: &Rig<'_, C>) -> Result<(), Failed> {
    let ledger = rig.ledger()?;
    let started = ledger.lines().iter().any(|line| matches!(line.entry, Entry::Start { .. }));
    insist(!started, || "it handled a record".to_owned())
}

/// Nobody listens; or somebody takes connections and says nothing: a proxy without its Kafka.
fn unreachable() -> Result<(), Failed> {
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let silent_address = silent.local_addr()?.to_string();
    let cluster = embedded()?;
    let rig = Rig::new(&cluster, embedded_plan())?;
    let mut fleet = rig.fleet();
    let deadline = Deadline::after(SOON);
    fleet.launch(&[("BOOTSTRAP_SERVERS", &nobody_listens()?)])?;
    fleet.launch(&[("BOOTSTRAP_SERVERS", &silent_address)])?;
    // While it tries, whoever restarts it should let it be and send it nothing.
    for (path, status) in [("/livez", 200), ("/readyz", 503), ("/startupz", 503)] {
        let answer = fleet.workers()[0].ask(path)?;
        insist(answer.status == status, || format!("{path}: {answer:?}"))?;
    }
    let refusal = Refusal {
        code: "PLT-0301",
        exit: 8,
        says: &["no answer from", "is bootstrap_servers right"],
    };
    refusal.hold(&fleet.wait_for_end(0, deadline.left())?)?;
    refusal.hold(&fleet.wait_for_end(0, deadline.left())?)?;
    say(&format!("both within {:.1?}", SOON - deadline.left()));
    Ok(())
}

/// A port that was free a moment ago.
fn nobody_listens() -> Result<String, Failed> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Two logins, one record that is none, and one more login, in one partition.
fn with_a_malformed_one(fleet: &mut Fleet, rig: &Rig<'_, KafkaCluster>) -> Result<(), Failed> {
    let malformed = NewRecord::new("bob", r#"{"user":"#).to_partition(0);
    let records = [login("alice", 0), login("alice", 0), malformed, login("alice", 0)];
    rig.cluster().produce(&rig.names().input, &records)?;
    fleet.launch(&[])?;
    Ok(())
}

fn one_partition() -> RigPlan {
    RigPlan { partitions: 1, slow_one_in: 0, ..RigPlan::default() }
}

fn invalid_stops() -> Result<(), Failed> {
    let rig = Rig::new(KafkaCluster::shared(1)?, one_partition())?;
    let mut fleet = rig.fleet();
    with_a_malformed_one(&mut fleet, &rig)?;
    let place = format!("{}-0 offset 2", rig.names().input);
    let ended = fleet.wait_for_end(0, SOON)?;
    Refusal { code: "PLT-0401", exit: 3, says: &["is invalid", "on_invalid"] }.hold(&ended)?;
    insist(ended.reasons()[0].contains(&place), || ended.reasons()[0].to_owned())?;
    // What came before it is done and committed; it and what follows are not.
    let committed = rig.cluster().committed(&rig.names().group, &rig.names().input)?;
    insist(committed[0].offset == Some(2), || format!("{committed:?}"))?;
    insist(outcomes(&rig)?.iter().all(|(offset, _)| *offset <= 2), || "it went on".to_owned())?;
    // A restart changes nothing: the record is still there.
    fleet.launch(&[])?;
    Refusal { code: "PLT-0401", exit: 3, says: &["is invalid", "on_invalid"] }
        .hold(&fleet.wait_for_end(0, SOON)?)
}

fn invalid_is_skipped() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let rig = Rig::new(kafka, one_partition().with("LOGIN_COUNTER__ON_INVALID", "skip"))?;
    let mut fleet = rig.fleet();
    with_a_malformed_one(&mut fleet, &rig)?;
    rig.wait_until_handled(Duration::from_secs(60))?;
    let labels = [("partition", "0"), ("outcome", "skipped")];
    wait_for("a skipped record in the metrics", SOON, || {
        let metrics = fleet.workers()[0].ask("/metrics").ok()?;
        metrics.metric("pelton_records_total", &labels).filter(|count| *count == 1.0)
    })?;
    let log = fleet.workers()[0].log();
    let named = |line: &&str| line.contains("WARN") && line.contains("offset=2");
    insist(log.lines().filter(named).count() == 1, || log.clone())?;
    let outcome = rig.finish(fleet)?;
    insist(outcome.is_exact() && outcome.ledger.skipped == 1, || outcome.to_string())?;
    let skipped = (2, RecordOutcome::Skipped);
    insist(outcomes(&rig)?.contains(&skipped), || format!("{:?}", outcomes(&rig)))
}

/// What became of the records of partition 0.
fn outcomes(rig: &Rig<'_, KafkaCluster>) -> Result<Vec<(i64, RecordOutcome)>, Failed> {
    let only = TopicPartition::new(rig.names().input.as_str(), 0);
    let ledger = rig.ledger()?;
    let ends = ledger.lines().iter().filter_map(|line| match &line.entry {
        Entry::End { partition, offset, outcome, .. } if *partition == only => {
            Some((*offset, *outcome))
        }
        _ => None,
    });
    Ok(ends.collect())
}
