//! Does the simulator keep its word: the same seed the same run, clean code clean, and calm runs
//! without a repeat?

use std::time::Duration;

use pelton::Bug;
use pelton::config::{AssignmentStrategy, GroupProtocol};
use pelton_testkit::ledger::{Cause, Invariant};
use pelton_testkit::sim::{Fault, Plan, Simulator, TimedFault};

const SECOND: Duration = Duration::from_secs(1);

/// Handlers that panic as their records say are no news; another panic fails its test anyway.
fn quietly() {
    let loud = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&"as the record says") {
            loud(panic);
        }
    }));
}

#[test]
fn calm_runs_are_clean_and_repeat_nothing() {
    quietly();
    for seed in 1..=6 {
        let mut plan = Plan::of(seed).calm();
        plan.drain_timeout = plan.drain_timeout.max(SECOND * 3); // longer than any record takes
        let outcome = Simulator::counter().run_plan(&plan);
        assert!(outcome.is_clean(), "{outcome}");
        // A panic takes with it what waited for a flush.
        let mut repeats = outcome.verdict.repeats.iter();
        assert!(repeats.all(|repeat| repeat.cause == Some(Cause::Reset)), "{outcome}");
    }
}

#[test]
fn the_same_seed_is_the_same_run_byte_for_byte() {
    quietly();
    for seed in 1..=4 {
        let run = || Simulator::counter().trace().run(seed).trace();
        assert_eq!(run(), run());
    }
}

#[test]
fn whatever_happens_nothing_is_lost() {
    quietly();
    for seed in 1..=20 {
        let outcome = Simulator::counter().run(seed);
        assert!(outcome.is_clean(), "{outcome}");
    }
}

/// Plays plans made by hand, which differ in a moment. Clean code is clean in each; with the
/// mistake in it again, some commit goes back, or is accepted of somebody who is no owner.
fn stays_mended(mistake: Bug, plans: impl Iterator<Item = Plan>) {
    quietly();
    let mut cries = 0;
    for plan in plans {
        let outcome = Simulator::counter().run_plan(&plan);
        assert!(outcome.is_clean(), "{outcome}");
        let again = Simulator::counter().plant(Some(mistake)).run_plan(&plan);
        cries += again.verdict.count(Invariant::CommitsAdvance);
    }
    assert!(cries > 0, "{}: no plan shows it any more", mistake.name());
}

/// Without chance in its clients, and without a fault.
fn plain(seed: u64) -> Plan {
    let mut plan = Plan::of(seed).calm();
    (plan.retention, plan.odd_clients, plan.is_static) = (false, false, false);
    plan.protocol = GroupProtocol::Consumer;
    plan.strategy = AssignmentStrategy::CooperativeSticky; // not used
    (plan.workers, plan.partitions, plan.records) = (2, 1, 1_000);
    plan
}

/// A panic under `flush_every` reset a partition while a commit of it was under way, held up by a
/// coordinator that had moved. The committed offset was read before that commit was stored, the
/// partition began again there, and its next commit went back. A reset waits for the answer.
#[test]
fn a_reset_waits_for_the_commit_that_is_under_way() {
    let plans = (1..=12).map(|seed| {
        let mut plan = plain(seed);
        (plan.flushes, plan.slow_one_in, plan.failing_one_in) = (true, 10, 10);
        plan.commit_interval = SECOND / 4;
        plan.faults =
            (2..12).map(|at| TimedFault::new(SECOND * at, Fault::MoveCoordinator)).collect();
        plan
    });
    stays_mended(Bug::ResetUnderCommit, plans);
}
