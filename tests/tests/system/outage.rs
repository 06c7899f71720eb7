//! What the handlers call is broken for a while: nothing is lost, given up or out of order.

use libtest_mimic::Failed;
use pelton::{Bug, Ordering};
use pelton_tests::suites::outage::{self, Help};
use pelton_tests::{KafkaCluster, Trial, trials};

use crate::say;

/// The short forms of the suites of outages.
pub(crate) fn trials() -> Vec<Trial> {
    let runs = [
        ("retry_topics", Help::RetryTopics, Ordering::key(64)),
        ("retry_topics_partition", Help::RetryTopics, Ordering::Partition),
        ("breaker", Help::Breaker, Ordering::key(64)),
    ];
    let trial = |(name, help, ordering)| {
        let name = format!("an_outage_costs_no_record_and_no_order::{name}");
        trials::on_kafka(&name, move || lived_through(help, ordering))
    };
    let mut trials: Vec<_> = runs.into_iter().map(trial).collect();
    let name = format!("a_planted_bug_is_caught_on_real_kafka::{}", Bug::HoldsForgotten.name());
    trials.push(trials::on_kafka(&name, forgotten));
    trials
}

fn lived_through(help: Help, ordering: Ordering) -> Result<(), Failed> {
    let shown = outage::run(KafkaCluster::shared(1)?, help, ordering, None, None)?;
    say(&format!("{help:?}:\n{shown}"));
    if shown.is_kept(help) { Ok(()) } else { Err(shown.to_string().into()) }
}

/// Who forgets that a key has records in a retry topic lets others pass them.
fn forgotten() -> Result<(), Failed> {
    let (help, bug) = (Help::RetryTopics, Some(Bug::HoldsForgotten));
    let shown = outage::run(KafkaCluster::shared(1)?, help, Ordering::key(64), None, bug)?;
    say(&format!("forgotten holds:\n{shown}"));
    let is_caught = !shown.overtaken.is_empty();
    if is_caught { Ok(()) } else { Err(format!("not caught:\n{shown}").into()) }
}
