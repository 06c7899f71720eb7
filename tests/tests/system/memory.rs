//! A memory budget far smaller than the work: nothing comes to more, and nobody starves.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton::Bug;
use pelton_tests::suites::memory::{self, Story};
use pelton_tests::{KafkaCluster, Trial, trials};

use crate::say;

/// The short forms of the memory suites, and the proof that they can fail.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for story in Story::ALL {
        let name = format!("a_memory_budget_is_kept_and_no_partition_starves::{story:?}");
        // A broker that is frozen, or given gigabytes, must be ours.
        let trial = trials::in_turn(&name, 1, move |kafka| kept(kafka, story));
        // The broker is frozen for half of the time that a partition may stand: company is too much.
        trials.push(if story == Story::SlowOutput { trial.alone() } else { trial });
    }
    let name = format!("a_planted_bug_is_caught_on_real_kafka::{}", Bug::IgnoreBudget.name());
    trials.push(trials::on_kafka(&name, ignored));
    trials
}

/// The backlog fills the budget at once, and a partition is starved after 20 s.
const TIME: Duration = Duration::from_secs(24);

fn kept(kafka: &KafkaCluster, story: Story) -> Result<(), Failed> {
    let shown = memory::run(kafka, story, story.plan().gentle(), TIME)?;
    say(&shown.to_string());
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}

/// Who ignores the budget is caught: it has more than it may.
fn ignored() -> Result<(), Failed> {
    let seen = memory::overflow(KafkaCluster::shared(1)?, Bug::IgnoreBudget)?;
    say(&seen.to_string());
    Ok(())
}
