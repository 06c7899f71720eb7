//! A memory budget far smaller than the work: nothing comes to more, and nobody starves.

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use pelton::Bug;
use pelton_tests::suites::memory::{self, Story};
use pelton_tests::{KafkaCluster, trials};

use crate::say;

/// The short forms of the memory suites, and the proof that they can fail.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for story in Story::ALL {
        let name = format!("a_memory_budget_is_kept_and_no_partition_starves::{story:?}");
        let seconds = if story == Story::LargeRecords { 120 } else { 40 };
        let time = Duration::from_secs(seconds);
        // A broker that is frozen must be ours.
        trials.push(trials::on_our_own_nodes(&name, move || kept(story, time)));
    }
    let name = format!("a_planted_bug_is_caught_on_real_kafka::{}", Bug::IgnoreBudget.name());
    trials.push(trials::on_kafka(&name, ignored));
    trials
}

fn kept(story: Story, time: Duration) -> Result<(), Failed> {
    let shown = memory::run(KafkaCluster::shared(1)?, story, time, None)?;
    say(&shown.to_string());
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}

fn ignored() -> Result<(), Failed> {
    let (kafka, time) = (KafkaCluster::shared(1)?, Duration::from_secs(20));
    let shown = memory::run(kafka, Story::LargeRecords, time, Some(Bug::IgnoreBudget))?;
    say(&shown.to_string());
    if shown.fits() { Err(shown.to_string().into()) } else { Ok(()) }
}
