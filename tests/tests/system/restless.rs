//! Restless surroundings: brokers are restarted and killed under a group, workers storm in and
//! out, and all of it goes on for long.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_tests::{KafkaCluster, Protocol, Trial, suites, trials};

use crate::say;

/// One form of each suite; the long forms run both protocols.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trials::on_our_own_nodes(
            "brokers_restarted_in_turn_cost_no_record_and_no_rebalance",
            rolled,
        )
        .heavy(),
        trials::on_our_own_nodes(
            "a_killed_coordinator_loses_nothing_and_ends_no_worker",
            killed_coordinator,
        )
        .heavy(),
        trials::on_our_own_nodes("a_storm_of_joins_and_leaves_evicts_nobody", storm).alone(),
        trials::on_our_own_nodes("a_worker_holds_as_much_after_changes_as_before", soak).heavy(),
    ]
}

fn rolled() -> Result<(), Failed> {
    let kafka = KafkaCluster::in_turn(3)?;
    let shown = suites::roll::run(&kafka, suites::roll::plan(Protocol::CooperativeSticky), 3)?;
    verdict("a roll", &shown, shown.is_kept())
}

fn killed_coordinator() -> Result<(), Failed> {
    let kafka = KafkaCluster::in_turn(3)?;
    let plan = suites::coordinator::plan(Protocol::CooperativeSticky);
    let shown = suites::coordinator::run(&kafka, plan, 1)?;
    verdict("a killed coordinator", &shown, shown.is_kept())
}

fn storm() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let shown = suites::storm::run(kafka, suites::storm::plan(Protocol::Kip848), 12)?;
    verdict("a storm", &shown, shown.is_kept())
}

fn soak() -> Result<(), Failed> {
    let kafka = KafkaCluster::in_turn(3)?;
    let shown =
        suites::soak::run(&kafka, suites::soak::plan(Protocol::CooperativeSticky), Duration::ZERO)?;
    verdict("a short soak", &shown, shown.is_kept())
}

fn verdict(what: &str, shown: &impl std::fmt::Display, is_kept: bool) -> Result<(), Failed> {
    say(&format!("{what}:\n{shown}"));
    if is_kept { Ok(()) } else { Err(shown.to_string().into()) }
}
