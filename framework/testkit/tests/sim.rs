//! Does the simulator keep its word: the same seed the same run, clean code clean, and calm runs
//! without a repeat?

use std::sync::mpsc;
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

/// Plays plans made by hand, which differ in chance and moments, with the mistake made again, until
/// one shows it: a commit goes back, or is accepted of somebody who is no owner. The same plan is
/// clean without it.
fn stays_mended(mistake: Bug, plan: impl Fn(u64) -> Plan) {
    quietly();
    let with_it = Simulator::counter().plant(Some(mistake));
    let shows = |plan: &Plan| with_it.run_plan(plan).verdict.count(Invariant::CommitsAdvance) > 0;
    let shown = (1..=200).map(plan).find(shows);
    let plan = shown.expect("a plan that shows the mistake");
    let outcome = Simulator::counter().run_plan(&plan);
    assert!(outcome.is_clean(), "{outcome}");
}

/// KIP-848, two workers with a partition each; no faults yet.
fn plain(seed: u64) -> Plan {
    let mut plan = Plan::of(seed).calm();
    plan.protocol = GroupProtocol::Consumer;
    plan.strategy = AssignmentStrategy::CooperativeSticky; // not used
    (plan.retention, plan.odd_clients, plan.is_static) = (false, false, false);
    (plan.workers, plan.partitions, plan.records) = (2, 2, 1_000);
    (plan.slow_one_in, plan.failing_one_in, plan.deleting_one_in) = (0, 0, 0);
    plan.budget_records = 100_000;
    plan.commit_interval = SECOND / 4;
    plan
}

/// A worker that had been cut off sent a commit, and heard that its member is not known. It
/// acknowledged the loss at once, its client joined anew, and sent the commit, which had waited for
/// a coordinator, as the new member: KIP-848 brokers took it, and the group's offset went back below
/// what the partition's new owner had committed. A loss is acknowledged when no commit is under way.
#[test]
fn a_commit_that_waits_does_not_go_out_as_another_member() {
    stays_mended(Bug::AcknowledgeUnderCommit, |seed| {
        let mut plan = plain(seed);
        (plan.flushes, plan.load) = (false, SECOND * 20);
        plan.session_timeout = SECOND * 6;
        let (begin, tick) = (SECOND * 5, SECOND / 20);
        // Past the session's end, and a commit's.
        let lasts = SECOND * 6 + tick * u32::try_from(seed % 8).unwrap_or(0);
        let moves = begin + lasts - tick * u32::try_from(seed / 8 % 4).unwrap_or(0);
        let hole = Fault::Blackhole { worker: 0, node: None, to_the_broker: true, lasts };
        plan.faults =
            vec![TimedFault::new(begin, hole), TimedFault::new(moves, Fault::MoveCoordinator)];
        plan
    });
}

/// With a planted bug a handler went on after its partition was lost. The poll loop had forgotten the
/// task, which asked its closed channel for the next command, again and again, and never waited:
/// virtual time stood still, and `cargo sim --planted-bugs` never ended.
#[test]
fn a_task_that_was_forgotten_comes_to_its_end() {
    quietly();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for seed in 1..=4 {
            let mut plan = plain(seed);
            (plan.slow_one_in, plan.records) = (2, 400);
            plan.session_timeout = SECOND * 6;
            let freeze = Fault::Freeze { worker: 0, lasts: SECOND * 9 };
            plan.faults = vec![TimedFault::new(SECOND * 4, freeze)];
            let outcome = Simulator::counter().plant(Some(Bug::TwoSlots)).run_plan(&plan);
            let _nobody_waits = tell.send(outcome.figures.records).is_err();
        }
    });
    for _ in 1..=4 {
        let records = told.recv_timeout(SECOND * 30).expect("the run ends");
        assert!(records > 0);
    }
}
