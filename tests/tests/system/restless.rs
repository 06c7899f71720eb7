//! Restless surroundings: brokers are restarted and killed under a group, workers storm in and
//! out, and all of it goes on for long.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_tests::{KafkaCluster, Protocol, Trial, suites, trials};

use crate::say;

/// One form of each suite; the long forms run both protocols.
pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trials::in_turn("brokers_restarted_in_turn_cost_no_record_and_no_rebalance", 3, rolled)
            .heavy(),
        trials::in_turn("a_killed_coordinator_loses_nothing_and_ends_no_worker", 3, coordinator)
            .heavy(),
        trials::on_our_own_nodes("a_storm_of_joins_and_leaves_evicts_nobody", storm).alone(),
        trials::in_turn("a_worker_holds_as_much_after_changes_as_before", 3, soak).heavy(),
    ]
}

fn rolled(kafka: &KafkaCluster) -> Result<(), Failed> {
    let plan = suites::roll::plan(Protocol::CooperativeSticky).gentle();
    let shown = suites::roll::run(kafka, plan, 3)?;
    verdict("a roll", &shown, shown.is_kept())
}

fn coordinator(kafka: &KafkaCluster) -> Result<(), Failed> {
    let plan = suites::coordinator::plan(Protocol::CooperativeSticky).gentle();
    let shown = suites::coordinator::run(kafka, plan, 1)?;
    verdict("a killed coordinator", &shown, shown.is_kept())
}

fn storm() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let shown = suites::storm::run(kafka, suites::storm::plan(Protocol::Kip848), 12)?;
    verdict("a storm", &shown, shown.is_kept())
}

fn soak(kafka: &KafkaCluster) -> Result<(), Failed> {
    let plan = suites::soak::plan(Protocol::CooperativeSticky).gentle();
    let shown = suites::soak::run(kafka, plan, Duration::ZERO)?;
    verdict("a short soak", &shown, shown.is_kept())
}

fn verdict(what: &str, shown: &impl std::fmt::Display, is_kept: bool) -> Result<(), Failed> {
    say(&format!("{what}:\n{shown}"));
    if is_kept { Ok(()) } else { Err(shown.to_string().into()) }
}
