//! Does the simulator keep its word: the same seed the same run, clean code clean, and calm runs
//! without a repeat?

use std::time::Duration;

use pelton::config::{AssignmentStrategy, GroupProtocol};
use pelton_testkit::ledger::Cause;
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
        let outcome = Simulator::counter().run_plan(&Plan::of(seed).calm());
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

/// Plays a plan made by hand, again and again with other chance.
fn stays_mended(story: &str, change: impl Fn(&mut Plan)) {
    quietly();
    for seed in 1..=8 {
        let mut plan = Plan::of(seed).calm();
        (plan.retention, plan.odd_clients) = (false, false);
        change(&mut plan);
        let outcome = Simulator::counter().run_plan(&plan);
        assert!(outcome.is_clean(), "{story}: {outcome}");
    }
}

/// A worker thawed, sent a commit, and heard that its member is not known. It acknowledged the
/// loss at once, its client joined anew, and sent the commit, which had waited for a connection,
/// as the new member: KIP-848 brokers took it, and the group's offset went back below what the
/// partition's new owner had committed. A loss is acknowledged when no commit is under way.
#[test]
fn a_commit_that_waits_does_not_go_out_as_another_member() {
    stays_mended("a late commit of a zombie", |plan| {
        (plan.protocol, plan.is_static) = (GroupProtocol::Consumer, false);
        plan.strategy = AssignmentStrategy::CooperativeSticky; // not used
        (plan.workers, plan.partitions) = (3, 1);
        plan.session_timeout = SECOND * 6;
        plan.commit_interval = SECOND * 3 / 2;
        let lasts = SECOND * 10;
        plan.faults = vec![
            TimedFault::new(
                SECOND * 5,
                Fault::Blackhole { worker: 0, node: None, to_the_broker: true, lasts: SECOND * 8 },
            ),
            TimedFault::new(SECOND * 6, Fault::Freeze { worker: 0, lasts }),
        ];
    });
}

/// A panic under `flush_every` reset a partition while a commit of it was under way, held up by a
/// coordinator that had moved. The committed offset was read before that commit was stored, the
/// partition began again there, and its next commit went back. A reset waits for the answer.
#[test]
fn a_reset_waits_for_the_commit_that_is_under_way() {
    stays_mended("a reset under a commit", |plan| {
        plan.flushes = true;
        (plan.slow_one_in, plan.failing_one_in) = (20, 20);
        plan.commit_interval = SECOND;
        plan.faults =
            (2..8).map(|at| TimedFault::new(SECOND * at, Fault::MoveCoordinator)).collect();
    });
}
