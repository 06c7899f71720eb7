//! Can the ledger see anything at all? Known bugs are planted into a worker, one at a time, and
//! each must raise the alarm it is meant to raise; without it, the same run is clean.
//!
//! Every run is a whole worker (two, where a partition changes hands) in memory and virtual time.

mod scenarios;
mod stage;

use std::collections::BTreeSet;

use pelton::{Alarm, Bug};

use stage::{Judged, Stage};

/// Plays a bug's scenario; `None` if it has none.
fn play(bug: Bug, planted: Option<Bug>) -> Option<Judged> {
    let (setup, play) = scenarios::of(bug)?;
    let mut stage = Stage::new(setup, planted);
    play(&mut stage);
    Some(stage.judge())
}

#[test]
fn every_planted_bug_raises_the_alarm_it_is_meant_to_raise() {
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        println!("{} …", bug.name());
        let Some(judged) = play(*bug, Some(*bug)) else { continue };
        let alarm = bug.cries()[0];
        if judged.raises(alarm) {
            let broken: Vec<_> = judged.verdict.broken().map(|broken| broken.code()).collect();
            println!("{}: {} (broken: {broken:?})", bug.name(), alarm.code());
            if let Some(first) = judged.verdict.violations().first() {
                println!("  {first}");
            }
        } else {
            missed.push(format!("{}: {} is silent\n{judged}", bug.name(), alarm.code()));
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n\n"));
}

#[test]
fn the_same_runs_without_a_bug_are_clean() {
    let (mut alarms, mut played) = (Vec::new(), Vec::new());
    for bug in Bug::ALL {
        let Some((setup, scenario)) = scenarios::of(*bug) else { continue };
        let this = (setup, scenario as usize);
        if played.contains(&this) {
            continue;
        }
        played.push(this);
        println!("{} …", bug.name());
        let Some(judged) = play(*bug, None) else { continue };
        if !judged.is_clean() {
            alarms.push(format!("as for {}:\n{judged}", bug.name()));
        }
    }
    assert!(alarms.is_empty(), "{}", alarms.join("\n\n"));
}

#[test]
fn every_invariant_of_the_ledger_is_broken_by_a_bug() {
    let shown = Bug::ALL.iter().filter(|bug| scenarios::of(**bug).is_some());
    let broken: BTreeSet<_> = shown.filter_map(|bug| stage::invariant(bug.cries()[0])).collect();
    assert_eq!(broken.len(), pelton_testkit::ledger::Invariant::ALL.len(), "{broken:?}");
}

/// The list of `docs/invariants.md` is the list of what can be broken.
#[test]
fn every_invariant_of_a_worker_is_broken_by_a_bug() {
    let listed = include_str!("../../../pelton/docs/invariants.md");
    let listed: BTreeSet<u8> = listed
        .lines()
        .filter_map(|line| line.strip_prefix("| INV-")?.split(' ').next()?.parse().ok())
        .collect();
    assert!(listed.len() >= 15);
    let broken: BTreeSet<u8> = Bug::ALL.iter().map(|bug| bug.breaks()).collect();
    assert_eq!(broken, listed);
}

/// What only the engine's tests can tell is planted there (`engine_tests.rs`, `memory_tests.rs`).
#[test]
fn every_other_bug_has_a_run_that_shows_it() {
    for bug in Bug::ALL {
        let elsewhere = bug.cries()[0] == Alarm::Engine;
        assert_eq!(scenarios::of(*bug).is_none(), elsewhere, "{}", bug.name());
    }
}
