//! Faults: workers and brokers are killed, frozen and cut off, and nothing is lost.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton::Bug;
use pelton_testkit::ledger::Invariant;
use pelton_tests::suites::dead_brokers::Death;
use pelton_tests::{KafkaCluster, Outcome, Protocol, RigPlan, Trial, suites, trials};

use crate::say;

/// The short forms of the fault suites, and the proof that they can fail.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials
        .push(trials::on_kafka("kills_lose_nothing_and_repeat_only_what_was_not_committed", kills));
    for protocol in [Protocol::CooperativeSticky, Protocol::Kip848] {
        let name = format!("thawed_workers_overwrite_and_commit_nothing::{protocol}");
        trials.push(trials::on_kafka(&name, move || freezes(protocol)));
    }
    let name = "killed_leaders_lose_nothing_and_leave_no_old_value";
    trials.push(trials::in_turn(name, 3, killed_leader).heavy());
    for death in [Death::Killed, Death::Frozen] {
        let name = format!("workers_end_in_time_while_every_broker_is_dead::{death:?}");
        trials.push(trials::on_our_own_nodes(&name, move || dead_brokers(death)));
    }
    for bug in
        [Bug::CommitPastInFlight, Bug::CommitBeforeDelivery, Bug::CommitLost, Bug::SendWhenThawed]
    {
        let name = format!("a_planted_bug_is_caught_on_real_kafka::{}", bug.name());
        trials.push(trials::on_kafka(&name, move || planted(bug)));
    }
    trials
}

fn kills() -> Result<(), Failed> {
    let plan = suites::kill::plan(Protocol::CooperativeSticky).gentle();
    let outcome = suites::kill::run(KafkaCluster::shared(1)?, plan, 5)?;
    say(&format!("five kills:\n{outcome}"));
    if suites::kill::is_kept(&outcome) { Ok(()) } else { Err(outcome.to_string().into()) }
}

fn freezes(protocol: Protocol) -> Result<(), Failed> {
    let plan = suites::freeze::plan(protocol).gentle();
    let short = Duration::from_millis(7_000)..Duration::from_millis(7_500);
    let outcome = suites::freeze::run(KafkaCluster::shared(1)?, plan, 2, short)?;
    say(&format!("two freezes, {protocol}:\n{outcome}"));
    if suites::freeze::is_kept(&outcome) { Ok(()) } else { Err(outcome.to_string().into()) }
}

fn killed_leader(kafka: &KafkaCluster) -> Result<(), Failed> {
    let plan = suites::leader::plan(Protocol::CooperativeSticky).gentle();
    let outcome = suites::leader::run(kafka, plan, 1)?;
    say(&format!("a leader killed:\n{outcome}"));
    if suites::leader::is_kept(&outcome) { Ok(()) } else { Err(outcome.to_string().into()) }
}

fn dead_brokers(death: Death) -> Result<(), Failed> {
    let kafka = KafkaCluster::start(1)?;
    let protocol = Protocol::CooperativeSticky;
    let shown = suites::dead_brokers::run(&kafka, protocol, suites::dead_brokers::SHORT, death)?;
    say(&format!("{death:?}:\n{shown}"));
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}

/// A bug shows within so many runs.
const RUNS: u32 = 3;

/// The suites above can fail: with a bug in every worker they do.
fn planted(bug: Bug) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let protocol = Protocol::CooperativeSticky;
    let frozen = || {
        let plan = suites::freeze::plan(Protocol::Kip848).gentle();
        let plan = RigPlan { plant: Some(bug), ..plan };
        suites::freeze::run(kafka, plan, 1, Duration::from_secs(7)..Duration::from_secs(8))
    };
    let mut plan = RigPlan { plant: Some(bug), ..suites::kill::plan(protocol).gentle() };
    let mut kills = 2;
    if bug == Bug::CommitBeforeDelivery {
        // Outputs linger, commits come often: who commits without waiting for the outputs
        // commits what a kill takes away. Now and then a kill comes just after they were sent.
        kills = 4;
        plan.commit_interval = Duration::from_millis(100);
        plan.settings.push(("KAFKA__LINGER_MS".to_owned(), "950".to_owned()));
    }
    let run = || match bug {
        Bug::CommitLost | Bug::SendWhenThawed => frozen(),
        _ => suites::kill::run(kafka, plan.clone(), kills),
    };
    let is_caught = |outcome: &Outcome| match bug {
        Bug::CommitPastInFlight => outcome.ledger.count(Invariant::CoveredCommit) > 0,
        Bug::CommitLost => outcome.ledger.count(Invariant::CommitsAdvance) > 0,
        _ => !outcome.output.too_low.is_empty() || !outcome.changelog.too_low.is_empty(),
    };
    let mut outcome = run()?;
    // Chance decides when a worker is hit.
    for _ in 1..RUNS {
        if !is_caught(&outcome) {
            say(&format!("{}: not in this run\n{outcome}", bug.name()));
            outcome = run()?;
        }
    }
    say(&format!("{}:\n{outcome}", bug.name()));
    if is_caught(&outcome) { Ok(()) } else { Err(format!("not caught:\n{outcome}").into()) }
}
