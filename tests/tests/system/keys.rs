//! Order key by key: commits carry what is done above their offset from owner to owner.

use libtest_mimic::Failed;
use pelton::Bug;
use pelton_tests::suites::keys::{self, Shown};
use pelton_tests::{KafkaCluster, Protocol, RigPlan, Trial, trials};

use crate::say;

/// The short forms of the suites of keys, and the proof that they can fail.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for protocol in [Protocol::CooperativeSticky, Protocol::Kip848] {
        let name =
            format!("joins_and_leaves_repeat_nothing_of_what_was_done_out_of_order::{protocol}");
        trials.push(trials::on_kafka(&name, move || joins_and_leaves(protocol)));
    }
    let name = "kills_repeat_only_what_no_commit_had_carried";
    trials.push(trials::on_kafka(name, kills));
    let name = format!("a_planted_bug_is_caught_on_real_kafka::{}", Bug::DoneSetDropped.name());
    trials.push(trials::on_kafka(&name, forgotten));
    trials
}

fn joins_and_leaves(protocol: Protocol) -> Result<(), Failed> {
    let shown = keys::join_and_leave(KafkaCluster::shared(1)?, keys::plan(protocol).gentle(), 4)?;
    verdict("joins and leaves", &shown, shown.is_exact())
}

fn kills() -> Result<(), Failed> {
    let plan = keys::plan(Protocol::CooperativeSticky).gentle();
    let shown = keys::kill(KafkaCluster::shared(1)?, plan, 3)?;
    verdict("kills", &shown, shown.repeats_only_what_no_commit_carried())
}

/// The bug shows within so many runs: chance decides whether anything is done above an offset when its
/// partition is handed over.
const RUNS: u32 = 4;

/// Whoever takes a partition over and forgets what was done above its offset does it again.
fn forgotten() -> Result<(), Failed> {
    let plan = keys::plan(Protocol::CooperativeSticky).gentle();
    let plan = RigPlan { plant: Some(Bug::DoneSetDropped), ..plan };
    let run = || keys::join_and_leave(KafkaCluster::shared(1)?, plan.clone(), 2);
    let is_caught = |shown: &Shown| shown.outcome.ledger.unexplained_repeats() > 0;
    let mut shown = run()?;
    for _ in 1..RUNS {
        if !is_caught(&shown) {
            say(&format!("not in this run\n{shown}"));
            shown = run()?;
        }
    }
    verdict("forgetful joins and leaves", &shown, is_caught(&shown))
}

fn verdict(what: &str, shown: &Shown, is_kept: bool) -> Result<(), Failed> {
    say(&format!("{what}:\n{shown}"));
    if is_kept { Ok(()) } else { Err(shown.to_string().into()) }
}
