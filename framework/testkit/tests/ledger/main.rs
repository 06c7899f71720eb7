//! What the ledger's check says of histories written by hand: of each invariant a clean one and
//! ones that break it.

use std::time::Duration;

use pelton::TopicPartition;
use pelton_testkit::ledger::{Cause, Check, Invariant, Ledger, Truth, Verdict};
use proptest::prelude::*;

mod any_order;
mod done_sets;
mod orderings;

/// Records 0 to `records` − 1 of one partition, at rest with everything committed.
fn truth(records: i64) -> Truth {
    let mut truth = under_way(records);
    truth.at_rest(&partition(), Some(records), records);
    truth
}

/// The same before the run is at rest: nothing is said of loss.
fn under_way(records: i64) -> Truth {
    let mut truth = Truth::new();
    for offset in 0..records {
        let key = if offset % 2 == 0 { "even" } else { "odd" };
        truth.record(&partition(), offset, Some(key.as_bytes()), None);
    }
    truth
}

fn partition() -> TopicPartition {
    TopicPartition::new("t", 0)
}

/// A history in which each line is a millisecond after the last.
fn history(text: &str) -> Ledger {
    let mut full = String::new();
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    for (number, line) in lines.filter(|line| !line.is_empty()).enumerate() {
        full.push_str(&format!("{} {line}\n", number * 1_000_000));
    }
    Ledger::from_text(&full).expect("a history")
}

fn hold(text: &str, truth: &Truth) -> Verdict {
    Check::new().hold(&history(text), truth)
}

#[track_caller]
fn clean(text: &str, truth: &Truth) -> Verdict {
    clean_by(Check::new(), text, truth)
}

#[track_caller]
fn clean_by(rules: Check, text: &str, truth: &Truth) -> Verdict {
    let verdict = rules.hold(&history(text), truth);
    assert!(verdict.is_clean(), "{verdict}");
    verdict
}

#[track_caller]
fn broken(invariant: Invariant, text: &str, truth: &Truth) -> Verdict {
    broken_by(Check::new(), invariant, text, truth)
}

/// Exactly this invariant is broken.
#[track_caller]
fn broken_by(rules: Check, invariant: Invariant, text: &str, truth: &Truth) -> Verdict {
    let verdict = rules.hold(&history(text), truth);
    let broken: Vec<_> = verdict.broken().collect();
    assert_eq!(broken, [invariant], "{verdict}");
    let violation = &verdict.violations()[0];
    assert!(!violation.lines.is_empty() && violation.lines.len() <= 5, "{violation}");
    verdict
}

#[test]
fn a_graceful_hand_over_is_clean() {
    let verdict = clean(
        "a assigned t-0 1
         a started t-0 1 0
         a try t-0 1 0 1
         a known t-0 1 0 1 accepted
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a start t-0 1 1 1
         a revoked t-0 1
         a end t-0 1 1 1 done
         a try t-0 1 2 2
         a known t-0 1 2 2 accepted
         a released t-0 1
         b assigned t-0 1
         b started t-0 1 2
         b start t-0 1 2 1
         b end t-0 1 2 1 retry
         b start t-0 1 2 2
         b end t-0 1 2 2 panicked
         b start t-0 1 2 3
         b end t-0 1 2 3 skipped
         b stopping
         b try t-0 1 3 1
         b known t-0 1 3 1 accepted
         b released t-0 1
         b stopped",
        &truth(3),
    );
    assert_eq!((verdict.records, verdict.done, verdict.skipped), (3, 3, 1));
    assert_eq!((verdict.processes, verdict.assignments), (2, 2));
    assert_eq!((verdict.attempts, verdict.retries, verdict.lost), (5, 2, 0));
    assert!(verdict.repeats.is_empty() && verdict.zombie_windows.is_empty());
}

// --- A1 ---------------------------------------------------------------------------------------

#[test]
fn a1_a_commit_past_a_record_in_flight_is_found_even_if_no_answer_came() {
    let flight = |answer: &str| {
        format!(
            "a assigned t-0 1
             a started t-0 1 0
             a start t-0 1 0 1
             a end t-0 1 0 1 done
             a start t-0 1 1 1
             a try t-0 1 2 1
             {answer}
             a end t-0 1 1 1 done"
        )
    };
    for answer in ["a known t-0 1 2 1 accepted", "a known t-0 1 2 1 unknown", ""] {
        let verdict = broken(Invariant::CoveredCommit, &flight(answer), &under_way(2));
        assert_eq!(verdict.violations()[0].offset, Some(1));
    }
    // Certainly not stored: no harm was done.
    clean(&flight("a known t-0 1 2 1 refused"), &under_way(2));
}

#[test]
fn a1_an_assignment_may_not_lean_on_what_another_did_above_its_position() {
    // b commits record 1, which the frozen a did, not b: b's own effects are missing.
    broken(
        Invariant::CoveredCommit,
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a start t-0 1 1 1
         a end t-0 1 1 1 done
         f fault stop a 1
         b assigned t-0 1
         b started t-0 1 0
         b start t-0 1 0 1
         b end t-0 1 0 1 done
         b try t-0 1 2 1
         b known t-0 1 2 1 accepted",
        &under_way(2),
    );
}

#[test]
fn a1_a_gap_left_by_compaction_needs_no_handling() {
    let mut truth = Truth::new();
    for offset in [0, 5] {
        truth.record(&partition(), offset, None, None);
    }
    truth.at_rest(&partition(), Some(6), 6);
    let text = "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a try t-0 1 5 1
         a known t-0 1 5 1 accepted
         a start t-0 1 5 1
         a end t-0 1 5 1 done
         a try t-0 1 6 2
         a known t-0 1 6 2 accepted";
    clean(text, &truth);
}

#[test]
fn a1_a_group_that_begins_at_the_end_commits_its_start_without_having_done_anything() {
    let text = "a assigned t-0 1
         a started t-0 1 2
         a try t-0 1 2 1
         a known t-0 1 2 1 accepted
         a start t-0 1 2 1
         a end t-0 1 2 1 done
         a try t-0 1 3 2
         a known t-0 1 3 2 accepted";
    let mut latest = truth(3);
    latest.begins_at(&partition(), 2);
    clean(text, &latest);
    let verdict = hold(text, &truth(3));
    assert!(verdict.count(Invariant::CoveredCommit) > 0);
    assert_eq!(verdict.lost, 2, "{verdict}");
}

/// Two records of an input with `flush_every`, and what comes before their commit.
fn handled(between: &str) -> String {
    format!(
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 handled
         a start t-0 1 1 1
         {between}
         a try t-0 1 2 1
         a known t-0 1 2 1 accepted"
    )
}

#[test]
fn a1_what_is_handled_is_done_when_it_is_flushed() {
    let verdict = clean(&handled("a end t-0 1 1 1 handled\na flushed t-0 1"), &truth(2));
    assert_eq!(verdict.done, 2);
    let verdict = hold(&handled("a end t-0 1 1 1 handled"), &under_way(2));
    assert_eq!(verdict.broken().collect::<Vec<_>>(), [Invariant::CoveredCommit], "{verdict}");
    assert_eq!(verdict.done, 0);
    assert!(verdict.to_string().contains("had been handled and not flushed"), "{verdict}");
    // A flush makes done what was handled before it, and nothing else.
    let late = handled("a flushed t-0 1\na end t-0 1 1 1 handled");
    let verdict = broken(Invariant::CoveredCommit, &late, &under_way(2));
    assert_eq!(verdict.violations()[0].offset, Some(1));
}

#[test]
fn a1_an_instance_that_ends_takes_with_it_what_it_has_not_flushed() {
    for end in ["panicked", "timed_out"] {
        let ended = |flush: &str| {
            handled(&format!(
                "{flush}
                 a end t-0 1 1 1 {end}
                 a start t-0 1 1 2
                 a end t-0 1 1 2 handled
                 a flushed t-0 1"
            ))
        };
        clean(&ended("a flushed t-0 1"), &truth(2));
        let verdict = broken(Invariant::CoveredCommit, &ended(""), &under_way(2));
        assert_eq!(verdict.violations()[0].offset, Some(0));
    }
}

// --- A2 ---------------------------------------------------------------------------------------

#[test]
fn a2_a_record_that_was_never_done_is_lost() {
    let verdict = broken(
        Invariant::NoLoss,
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done",
        &{
            let mut truth = under_way(2);
            truth.at_rest(&partition(), Some(2), 2);
            truth
        },
    );
    assert_eq!(verdict.lost, 1);
}

#[test]
fn a2_lag_at_rest_is_loss_unless_it_is_a_transaction_s_marker() {
    let text = "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a try t-0 1 1 1
         a known t-0 1 1 1 accepted";
    let mut truth = truth(1);
    truth.at_rest(&partition(), Some(1), 2);
    broken(Invariant::NoLoss, text, &truth);
    let verdict = Check::new().marker_lag(1).hold(&history(text), &truth);
    assert!(verdict.is_clean(), "{verdict}");
    truth.at_rest(&partition(), Some(1), 3);
    assert!(!Check::new().marker_lag(1).hold(&history(text), &truth).is_clean());
}

#[test]
fn a2_a_partition_that_nobody_ever_had_is_found_too() {
    let mut truth = truth(0);
    let other = TopicPartition::new("t", 1);
    truth.record(&other, 0, None, None);
    truth.at_rest(&other, None, 1);
    let verdict = hold("a stopping", &truth);
    assert_eq!(verdict.count(Invariant::NoLoss), 2, "{verdict}"); // the record, and the offset
    assert_eq!(verdict.lost, 1);
}

// --- A3 ---------------------------------------------------------------------------------------

#[test]
fn a3_a_record_may_not_pass_one_that_waits_for_its_retry() {
    let verdict = broken(
        Invariant::Order,
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 retry
         a start t-0 1 2 1
         a end t-0 1 2 1 done
         a start t-0 1 0 2
         a end t-0 1 0 2 done",
        &under_way(3),
    );
    // It passes, goes back, and is first done out of order: of the same key, too.
    assert_eq!(verdict.count(Invariant::Order), 3, "{verdict}");
    assert!(verdict.to_string().contains("also of its own key"), "{verdict}");
}

#[test]
fn a3_an_attempt_may_not_begin_while_another_runs_nor_skip_a_number() {
    let begin = "a assigned t-0 1\na started t-0 1 0\na start t-0 1 0 1\n";
    broken(
        Invariant::Order,
        &format!("{begin}a start t-0 1 1 1\na end t-0 1 0 1 done\na end t-0 1 1 1 done"),
        &under_way(2),
    );
    broken(
        Invariant::Order,
        &format!("{begin}a end t-0 1 0 1 retry\na start t-0 1 0 3\na end t-0 1 0 3 done"),
        &under_way(2),
    );
    broken(
        Invariant::Order,
        &format!("{begin}a end t-0 1 0 1 cancelled\na start t-0 1 0 2\na end t-0 1 0 2 done"),
        &under_way(2),
    );
}

#[test]
fn a3_an_assignment_begins_at_what_was_committed_and_at_its_own_position() {
    let first = "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a try t-0 1 1 1
         a known t-0 1 1 1 accepted
         f fault kill a 1
         b assigned t-0 1\n";
    clean(
        &format!("{first}b started t-0 1 1\nb start t-0 1 1 1\nb end t-0 1 1 1 done"),
        &under_way(2),
    );
    broken(Invariant::Order, &format!("{first}b started t-0 1 0"), &under_way(2));
    let verdict = hold(&format!("{first}b started t-0 1 1\nb start t-0 1 0 1"), &under_way(2));
    assert_eq!(verdict.count(Invariant::Order), 1, "{verdict}");
    // It also repeats what was committed: no fault explains that.
    assert_eq!(verdict.unexplained_repeats(), 1, "{verdict}");
}

// --- A4 ---------------------------------------------------------------------------------------

/// `a` handles record 0 and is still at record 1 when `b` gets the partition and does both.
fn two_owners(between: &str, after: &str) -> String {
    format!(
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a start t-0 1 1 1
         {between}
         b assigned t-0 1
         b started t-0 1 0
         b start t-0 1 0 1
         b end t-0 1 0 1 done
         b start t-0 1 1 1
         b end t-0 1 1 1 done
         {after}"
    )
}

#[test]
fn a4_two_owners_at_a_time_are_found_by_ownership_and_by_attempts() {
    let verdict = hold(&two_owners("", "a end t-0 1 1 1 done"), &under_way(2));
    assert_eq!(verdict.count(Invariant::SingleOwner), 2, "{verdict}");
    // Released, and yet an attempt goes on.
    let verdict = hold(
        &two_owners("a revoked t-0 1\na released t-0 1", "a end t-0 1 1 1 done"),
        &under_way(2),
    );
    assert_eq!(verdict.count(Invariant::SingleOwner), 1, "{verdict}");
}

#[test]
fn a4_an_owner_that_was_frozen_or_had_yet_to_hear_of_its_loss_is_a_zombie() {
    for (between, after, cause, attempts) in [
        (
            "f fault stop a 1",
            "f fault continue a 1\na end t-0 1 1 1 done\na lost t-0 1",
            Cause::Stop,
            1,
        ),
        ("", "a end t-0 1 1 1 done\na lost t-0 1", Cause::Lost, 1),
        ("", "a lost t-0 1\na end t-0 1 1 1 cancelled", Cause::Lost, 1),
        ("f fault stop a 1", "f fault kill a 1", Cause::Stop, 0),
        (
            "f fault network dead",
            "a end t-0 1 1 1 done\nf fault network-healed\na revoked t-0 1\na released t-0 1",
            Cause::Network,
            1,
        ),
    ] {
        let verdict = clean(&two_owners(between, after), &under_way(2));
        assert_eq!(verdict.zombie_windows.len(), 1, "{verdict}");
        let window = &verdict.zombie_windows[0];
        assert_eq!((window.zombie.as_str(), window.attempts), ("a", attempts));
        assert!(window.length >= Duration::from_millis(6), "{window:?}");
        let causes: Vec<_> = verdict.repeats.iter().map(|repeat| repeat.cause).collect();
        assert!(!causes.is_empty() && causes.iter().all(|c| *c == Some(cause)), "{verdict}");
    }
}

#[test]
fn a4_who_has_been_heard_since_the_network_healed_is_no_zombie() {
    let confirmed = "f fault network dead\nf fault network-healed\na try t-0 1 0 2
                     a known t-0 1 0 2 accepted";
    let verdict = hold(&two_owners(confirmed, "a end t-0 1 1 1 done"), &under_way(2));
    assert_eq!(verdict.count(Invariant::SingleOwner), 2, "{verdict}");
}

#[test]
fn a5_who_is_cut_off_gets_no_commit_accepted_once_there_is_a_new_owner() {
    let after = "a end t-0 1 1 1 done\na try t-0 1 2 2\nf fault network-healed
                 a known t-0 1 2 2 accepted\na lost t-0 1";
    let verdict = hold(&two_owners("f fault network dead", after), &under_way(2));
    assert_eq!(verdict.count(Invariant::CommitsAdvance), 1, "{verdict}");
}

#[test]
fn a4_a_handler_that_never_yields_is_left_behind_by_a_drain_at_its_deadline() {
    let text = two_owners("a revoked t-0 1\na released t-0 1", "a end t-0 1 1 1 done");
    let hold = |limit_ms| {
        let check = Check::new().drain_timeout(Duration::from_millis(limit_ms));
        check.hold(&history(&text), &under_way(2))
    };
    let verdict = hold(1);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.zombie_windows.len(), 1);
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::CancelledDrain)), Some(&2));
    assert_eq!(hold(2).count(Invariant::SingleOwner), 1, "it was released too early");
}

#[test]
fn a4_a_process_that_was_killed_or_ended_owns_nothing() {
    clean(&two_owners("f fault kill a 1", ""), &under_way(2));
    let dead = hold(&two_owners("a stopping\na stopped", ""), &under_way(2));
    assert_eq!(dead.count(Invariant::SingleOwner), 0, "{dead}");
    // A death that nobody has caused explains nothing.
    let silent = hold(&two_owners("", ""), &under_way(2));
    assert!(silent.count(Invariant::SingleOwner) > 0, "{silent}");
}

#[test]
fn a4_nothing_starts_without_ownership() {
    broken(Invariant::SingleOwner, "a start t-0 1 0 1", &under_way(1));
    broken(
        Invariant::SingleOwner,
        "a assigned t-0 1
         a start t-0 1 0 1",
        &under_way(1),
    );
    broken(
        Invariant::SingleOwner,
        "a assigned t-0 1
         a started t-0 1 0
         a revoked t-0 1
         a released t-0 1
         a start t-0 1 0 1",
        &under_way(1),
    );
    let lost = "a assigned t-0 1
         a started t-0 1 0
         a lost t-0 1
         a start t-0 1 0 1
         a end t-0 1 0 1 done\n";
    clean(lost, &under_way(2)); // the one that was decided on when the loss came
    broken(Invariant::SingleOwner, &format!("{lost}a start t-0 1 1 1"), &under_way(2));
}

/// The window in which an owner goes on that was not told is one between processes: a process
/// knows what it does, and waits for its last handler.
#[test]
fn a4_a_process_waits_for_its_own_last_handler() {
    let again = |end: &str, late: &str| {
        format!(
            "a assigned t-0 1
             a started t-0 1 0
             a start t-0 1 0 1
             a lost t-0 1
             {end}
             a assigned t-0 2
             a started t-0 2 0
             a start t-0 2 0 1
             {late}
             a end t-0 2 0 1 done"
        )
    };
    let cut_off = "a end t-0 1 0 1 cancelled";
    clean(&again(cut_off, ""), &under_way(1));
    let verdict = hold(&again("", cut_off), &under_way(1));
    assert_eq!(verdict.count(Invariant::SingleOwner), 1, "{verdict}");
    assert!(verdict.zombie_windows.is_empty());
}

// --- A5 ---------------------------------------------------------------------------------------

const ONE_DONE: &str = "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a try t-0 1 1 1
         a known t-0 1 1 1 accepted\n";

const TWO_DONE: &str = "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a start t-0 1 1 1
         a end t-0 1 1 1 done
         a try t-0 1 2 1
         a known t-0 1 2 1 accepted\n";

#[test]
fn a5_a_commit_that_goes_backwards_is_found_if_it_was_accepted() {
    let back = |answer: &str| format!("{TWO_DONE}a try t-0 1 1 2\na known t-0 1 1 2 {answer}");
    broken(Invariant::CommitsAdvance, &back("accepted"), &under_way(2));
    clean(&back("refused"), &under_way(2));
    clean(&back("unknown"), &truth(2));
    // Nobody knows what became of it, but the topics do.
    let mut truth = truth(2);
    truth.at_rest(&partition(), Some(1), 2);
    let verdict = hold(&back("unknown"), &truth);
    assert_eq!(verdict.count(Invariant::CommitsAdvance), 1, "{verdict}");
}

#[test]
fn a5_commits_whose_answers_cross_are_no_regression() {
    // a's answer comes late, from before b had the partition.
    clean(
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         a try t-0 1 1 1
         f fault stop a 1
         b assigned t-0 1
         b started t-0 1 1
         b start t-0 1 1 1
         b end t-0 1 1 1 done
         b try t-0 1 2 1
         b known t-0 1 2 1 accepted
         f fault continue a 1
         a known t-0 1 1 1 accepted
         a lost t-0 1",
        &truth(2),
    );
}

#[test]
fn a5_an_operator_may_set_the_offset_back_and_records_run_again() {
    let text = format!(
        "{TWO_DONE}a stopping
         a released t-0 1
         a stopped
         f fault offset-reset t-0 1
         b assigned t-0 1
         b started t-0 1 1
         b start t-0 1 1 1
         b end t-0 1 1 1 done
         b try t-0 1 2 1
         b known t-0 1 2 1 accepted"
    );
    let verdict = clean(&text, &truth(2));
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::OffsetReset)), Some(&1));
    let silent = text.replace("f fault offset-reset t-0 1", "");
    let verdict = hold(&silent, &truth(2));
    assert_eq!(verdict.count(Invariant::ExplainedRepeats), 1, "{verdict}");
    assert_eq!(verdict.count(Invariant::Order), 1, "{verdict}");
}

#[test]
fn a5_an_operator_may_jump_over_records() {
    let text = "a assigned t-0 1
         a started t-0 1 0
         a stopping
         a released t-0 1
         a stopped
         f fault offset-reset t-0 1
         b assigned t-0 1
         b started t-0 1 1
         b start t-0 1 1 1
         b end t-0 1 1 1 done
         b try t-0 1 2 1
         b known t-0 1 2 1 accepted";
    clean(text, &truth(2));
}

/// Record 1 is passed over by a worker's own word: it is no loss, and it is counted. Without the
/// word, or with one that names another gap, it is a loss.
#[test]
fn a1_a2_a_jump_explains_its_own_gap_and_no_other() {
    let text = format!(
        "{ONE_DONE}a reset t-0 1
         a assigned t-0 2
         a jumped t-0 2 1 2
         a started t-0 2 2
         a try t-0 2 2 2
         a known t-0 2 2 2 accepted
         a start t-0 2 2 1
         a end t-0 2 2 1 done
         a try t-0 2 3 3
         a known t-0 2 3 3 accepted"
    );
    assert_eq!(clean(&text, &truth(3)).jumped, 1);
    for other in ["", "a jumped t-0 2 2 2"] {
        let silent = text.replace("a jumped t-0 2 1 2", other);
        let verdict = hold(&silent, &truth(3));
        assert_eq!((verdict.count(Invariant::NoLoss), verdict.jumped), (1, 0), "{verdict}");
        assert!(verdict.count(Invariant::CoveredCommit) > 0, "{verdict}");
    }
}

/// The log was truncated and is read again from its beginning: repeats with a cause.
#[test]
fn a5_a6_a_jump_back_explains_its_repeats_and_its_commits() {
    let text = format!(
        "{TWO_DONE}a reset t-0 1
         a assigned t-0 2
         a jumped t-0 2 2 0
         a started t-0 2 0
         a try t-0 2 0 2
         a known t-0 2 0 2 accepted
         a start t-0 2 0 1
         a end t-0 2 0 1 done
         a try t-0 2 1 3
         a known t-0 2 1 3 accepted"
    );
    let mut truth = under_way(1);
    truth.at_rest(&partition(), Some(1), 1);
    let verdict = clean(&text, &truth);
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::OffsetReset)), Some(&1));
    let silent = text.replace("a jumped t-0 2 2 0", "");
    assert!(!hold(&silent, &truth).is_clean());
}

#[test]
fn a5_nobody_commits_what_it_has_lost_or_released() {
    for end in ["a lost t-0 1", "a released t-0 1"] {
        broken(
            Invariant::CommitsAdvance,
            &format!("{TWO_DONE}{end}\na try t-0 1 2 2\na known t-0 1 2 2 refused"),
            &under_way(2),
        );
    }
}

#[test]
fn a5_a_zombie_gets_no_commit_accepted_once_there_is_a_new_owner() {
    // A worker wakes from a freeze, rejoins, and commits what another owns by now.
    let zombie = |answer: &str| {
        format!(
            "{TWO_DONE}f fault stop a 1
             b assigned t-0 1
             b started t-0 1 2
             f fault continue a 1
             a try t-0 1 2 2
             a known t-0 1 2 2 {answer}
             a lost t-0 1"
        )
    };
    clean(&zombie("refused"), &truth(2));
    broken(Invariant::CommitsAdvance, &zombie("accepted"), &truth(2));
}

/// Seed 438 of the simulator: a worker was cut off, another one got its partition, and only then
/// did a commit's time-out make it reset what it still took for its own. It owned nothing anew.
#[test]
fn a5_a_zombie_that_resets_its_partition_takes_it_from_nobody() {
    let resets = |cut_off: &str, its_commit: &str| {
        format!(
            "{TWO_DONE}a try t-0 1 2 2
             {cut_off}
             b assigned t-0 1
             b started t-0 1 2
             a known t-0 1 2 2 unknown
             a reset t-0 1
             a assigned t-0 2
             b try t-0 1 2 1
             b known t-0 1 2 1 accepted
             {its_commit}
             a lost t-0 2"
        )
    };
    let dead = "f fault network dead";
    let verdict = clean(&resets(dead, "f fault network-healed"), &truth(2));
    assert_eq!(verdict.zombie_windows.len(), 2, "{verdict}");
    let verdict = hold(&resets("", ""), &truth(2));
    assert_eq!(verdict.count(Invariant::SingleOwner), 2, "nothing explains it: {verdict}");
    let accepted = "a try t-0 2 2 3\na known t-0 2 2 3 accepted";
    let verdict = hold(&resets(dead, accepted), &truth(2));
    assert!(verdict.count(Invariant::CommitsAdvance) > 0, "{verdict}");
}

/// The group does not know the member: what that one had is lost at once, not only when its client
/// says so. One that was assigned something meanwhile may be another member by then.
#[test]
fn a5_a_member_that_the_group_does_not_know_commits_nothing_more() {
    let stranger = |meanwhile: &str| {
        format!(
            "{TWO_DONE}a try t-0 1 2 2
             {meanwhile}
             a known t-0 1 2 2 member-lost
             a try t-0 1 2 3
             a known t-0 1 2 3 refused
             a lost t-0 1"
        )
    };
    broken(Invariant::CommitsAdvance, &stranger(""), &truth(2));
    clean(&stranger("a assigned t-1 1"), &truth(2));
}

/// Two commits under way at once may be stored in any order, and their answers heard in another.
#[test]
fn a5_a_commit_waits_for_the_answer_to_the_one_before() {
    let commits = |between: &str, after: &str| {
        format!(
            "a assigned t-0 1
             a started t-0 1 0
             a start t-0 1 0 1
             a end t-0 1 0 1 done
             a start t-0 1 1 1
             a end t-0 1 1 1 done
             a try t-0 1 1 1
             {between}
             a try t-0 1 2 2
             {after}
             a known t-0 1 2 2 accepted"
        )
    };
    for answer in ["a known t-0 1 1 1 accepted", "a known t-0 1 1 1 unknown"] {
        clean(&commits(answer, ""), &truth(2));
        broken(Invariant::CommitsAdvance, &commits("", answer), &truth(2));
    }
}

// --- A6 ---------------------------------------------------------------------------------------

/// `a` does record 0, ends as `ending` says, and `b` does it again.
fn repeated(ending: &str) -> String {
    format!(
        "a assigned t-0 1
         a started t-0 1 0
         a try t-0 1 0 1
         a known t-0 1 0 1 accepted
         a start t-0 1 0 1
         a end t-0 1 0 1 done
         {ending}
         b assigned t-0 1
         b started t-0 1 0
         b start t-0 1 0 1
         b end t-0 1 0 1 done"
    )
}

#[test]
fn a6_each_ungraceful_end_explains_what_it_left_uncommitted() {
    for (ending, cause) in [
        ("f fault kill a 1", Cause::Kill),
        ("f fault stop a 1", Cause::Stop),
        ("a lost t-0 1", Cause::Lost),
        ("a reset t-0 1", Cause::Reset),
        ("f fault broker-kill 1\na lost t-0 1", Cause::BrokerKill),
        ("f fault network dead\na lost t-0 1", Cause::Network),
        ("f fault network dead\nf fault network-healed\na lost t-0 1", Cause::Network),
        (
            "f fault network dead\na try t-0 1 1 2\na revoked t-0 1\na released t-0 1",
            Cause::Network,
        ),
        (
            "f fault network dead\na try t-0 1 1 2\nf fault network-healed\na revoked t-0 1
             a released t-0 1",
            Cause::Network,
        ),
        (
            "a start t-0 1 1 1\na revoked t-0 1\na end t-0 1 1 1 cancelled\na released t-0 1",
            Cause::CancelledDrain,
        ),
        (
            "a revoked t-0 1\na try t-0 1 1 2\na known t-0 1 1 2 unknown\na released t-0 1",
            Cause::CommitNotAccepted,
        ),
        (
            "f fault broker-kill 1\na try t-0 1 1 2\na revoked t-0 1\na released t-0 1",
            Cause::BrokerKill,
        ),
    ] {
        let verdict = clean(&repeated(ending), &under_way(2));
        assert_eq!(verdict.repeats_by_cause().get(&Some(cause)), Some(&1), "{cause}: {verdict}");
        assert_eq!(verdict.repeats_by_key().get(&b"even"[..]), Some(&1));
    }
}

#[test]
fn a6_a_graceful_end_explains_nothing() {
    for ending in [
        "a revoked t-0 1\na released t-0 1",
        "f fault terminate a 1\na stopping\na released t-0 1\na stopped",
        "f fault kill c 9\na revoked t-0 1\na released t-0 1", // somebody else was killed
        // The network was good again, and that is known: it explains no missing commit.
        "f fault network dead\nf fault network-healed\na try t-0 1 0 2
         a known t-0 1 0 2 accepted\na revoked t-0 1\na released t-0 1",
    ] {
        let verdict = broken(Invariant::ExplainedRepeats, &repeated(ending), &under_way(1));
        assert_eq!((verdict.unexplained_repeats(), verdict.graceful_repeats()), (1, 1));
    }
}

/// A worker was frozen in a drain, past the drain's time and not past its session. It thawed, was cut
/// off at once and heard by a commit that the partition was still its own: what had waited to be
/// delivered was given up all the same, and is repeated. The ledger cried, for that commit proved
/// the freeze over.
#[test]
fn a6_a_drain_that_runs_out_in_a_freeze_explains_what_waited_for_delivery() {
    let drain = |freeze: &str, thaw: &str| {
        repeated(&format!(
            "a revoked t-0 1
             {freeze}
             {thaw}
             a cut-off t-0 1
             a try t-0 1 0 2
             a known t-0 1 0 2 accepted
             a released t-0 1"
        ))
    };
    let frozen = drain("f fault stop a 1", "f fault continue a 1");
    let verdict = clean(&frozen, &under_way(2));
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::Stop)), Some(&1), "{verdict}");
    let _verdict = broken(Invariant::ExplainedRepeats, &drain("", ""), &under_way(1));
    // One that was over long before the drain's time explains nothing.
    let a_second_later = "f fault terminate c 9\n".repeat(1_001);
    let early = drain("f fault stop a 1", &format!("f fault continue a 1\n{a_second_later}"));
    let _verdict = broken(Invariant::ExplainedRepeats, &early, &under_way(1));
}

#[test]
fn a6_a_fault_explains_only_what_was_not_committed() {
    let ending = "a try t-0 1 1 2\na known t-0 1 1 2 accepted\nf fault kill a 1";
    let verdict = hold(&repeated(ending), &under_way(1));
    assert_eq!(verdict.unexplained_repeats(), 1, "{verdict}");
}

#[test]
fn a6_a_loss_long_after_the_network_has_healed_is_not_the_network_s() {
    let text = "f fault network dead\nf fault network-healed\na try t-0 1 0 2
                a known t-0 1 0 2 accepted";
    let begin = history(&repeated(text));
    let (mut lines, mut late) = (String::new(), 0);
    for line in begin.lines() {
        // Everything behind the accepted commit is a minute later.
        lines.push_str(&format!(
            "{} {} {}\n",
            line.at + late,
            begin.name(line.process),
            line.entry
        ));
        if line.entry.to_string() == "known t-0 1 0 2 accepted" {
            late = 60_000_000_000;
            lines.push_str(&format!("{} a lost t-0 1\n", line.at + late));
        }
    }
    let ledger = Ledger::from_text(&lines).expect("a history");
    let verdict = Check::new().hold(&ledger, &under_way(1));
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::Lost)), Some(&1), "{verdict}");
}

#[test]
fn a6_of_three_executions_each_needs_its_own_explanation() {
    // a is killed, b hands over gracefully without a commit: c's repeat is b's fault.
    let text = format!(
        "{}
         b revoked t-0 1
         b released t-0 1
         c assigned t-0 1
         c started t-0 1 0
         c start t-0 1 0 1
         c end t-0 1 0 1 done",
        repeated("f fault kill a 1")
    );
    let verdict = broken(Invariant::ExplainedRepeats, &text, &under_way(1));
    assert_eq!(verdict.repeats.len(), 2);
    assert_eq!(verdict.graceful_repeats(), 1);
}

/// A hand-over of one record, done but not committed; `drain` is what came before the release,
/// two milliseconds and more after the revocation.
fn uncommitted(done: &str, drain: &str) -> String {
    format!(
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a end t-0 1 0 1 {done}
         a start t-0 1 1 1
         a revoked t-0 1
         {drain}
         a end t-0 1 1 1 cancelled
         a released t-0 1
         b assigned t-0 1
         b started t-0 1 0
         b start t-0 1 0 1
         b end t-0 1 0 1 done"
    )
}

/// What was done before an attempt was cut off has to be committed all the same, while there is
/// time: that is what the time between a drain's two deadlines is for.
#[test]
fn a6_a_drain_that_is_over_in_time_has_committed_what_was_done() {
    let hold = |limit_ms: Option<u64>, drain: &str| {
        let check = Check::new();
        let check = limit_ms.map_or(check, |ms| check.drain_timeout(Duration::from_millis(ms)));
        check.hold(&history(&uncommitted("done", drain)), &under_way(2))
    };
    for (drain, cause) in [
        ("a cut-off t-0 1", Cause::CancelledDrain),
        ("a try t-0 1 1 1\na known t-0 1 1 1 unknown", Cause::CancelledDrain),
    ] {
        for limit in [None, Some(2)] {
            let verdict = hold(limit, drain);
            assert!(verdict.is_clean(), "{verdict}");
            assert_eq!(verdict.repeats[0].cause, Some(cause));
        }
        let verdict = hold(Some(10), drain);
        assert_eq!(verdict.count(Invariant::ExplainedRepeats), 1, "{verdict}");
    }
}

#[test]
fn a6_outputs_that_can_not_be_delivered_explain_what_is_not_committed() {
    let text = |before: &str, after: &str| {
        format!(
            "a assigned t-0 1
             a started t-0 1 0
             a start t-0 1 0 1
             {before}
             a end t-0 1 0 1 done
             a try t-0 1 0 1
             a known t-0 1 0 1 accepted
             {after}
             a revoked t-0 1
             a released t-0 1
             b assigned t-0 1
             b started t-0 1 0
             b start t-0 1 0 1
             b end t-0 1 0 1 done"
        )
    };
    let failure = "a undelivered t-0 1";
    let verdict = clean(&text("", failure), &under_way(1));
    assert_eq!(verdict.repeats[0].cause, Some(Cause::Undelivered));
    broken(Invariant::ExplainedRepeats, &text(failure, ""), &under_way(1));
}

#[test]
fn a6_a_drain_flushes_what_was_handled_unless_it_is_cut_off() {
    let verdict = clean(&uncommitted("handled", "a cut-off t-0 1"), &under_way(2));
    assert_eq!(verdict.repeats[0].cause, Some(Cause::CancelledDrain));
    broken(Invariant::ExplainedRepeats, &uncommitted("handled", ""), &under_way(2));
}

// --- A7 ---------------------------------------------------------------------------------------

fn minutes(lines: &[(u64, &str)]) -> Ledger {
    let text: String =
        lines.iter().map(|(at, line)| format!("{} {line}\n", at * 60_000_000_000)).collect();
    Ledger::from_text(&text).expect("a history")
}

#[test]
fn a7_a_partition_with_records_that_starts_none_is_stuck() {
    let begin = [(0, "a assigned t-0 1"), (0, "a started t-0 1 0"), (1, "b stopping")];
    let mut truth = Truth::new();
    truth.record(&partition(), 0, None, Some(2 * 60_000));
    let hold =
        |rest: &[(u64, &str)]| Check::new().hold(&minutes(&[&begin[..], rest].concat()), &truth);
    let stuck = hold(&[(9, "b stopped")]);
    assert_eq!(stuck.count(Invariant::NoStuckPartition), 1, "{stuck}");
    let late = hold(&[(9, "a start t-0 1 0 1"), (9, "a end t-0 1 0 1 done")]);
    assert_eq!(late.count(Invariant::NoStuckPartition), 1, "{late}");
    assert!(late.violations()[0].what.contains("420.0"), "{late}");
    // The record is there since minute 2; idle before it is no fault, nor is an idle end.
    for rest in [
        &[(2, "a start t-0 1 0 1"), (2, "a end t-0 1 0 1 done"), (9, "b stopped")][..],
        &[(2, "a start t-0 1 0 1"), (9, "a end t-0 1 0 1 done")], // a slow handler
        &[(3, "f fault stop a 1"), (9, "b stopped")],
        &[(3, "f fault broker-kill 1"), (9, "b stopped")],
        &[(3, "f fault network dead"), (9, "b stopped")],
        &[(3, "f fault network dead"), (8, "f fault network-healed"), (8, "a start t-0 1 0 1")],
        &[(2, "a revoked t-0 1"), (9, "a released t-0 1")],
        &[(2, "a stopping"), (9, "a released t-0 1")],
    ] {
        let verdict = hold(rest);
        assert_eq!(verdict.count(Invariant::NoStuckPartition), 0, "{rest:?}: {verdict}");
    }
}

// --- the report -------------------------------------------------------------------------------

#[test]
fn a_verdict_reads_well() {
    let verdict = hold(&repeated("a revoked t-0 1\na released t-0 1"), &under_way(1));
    assert_eq!(
        verdict.to_string(),
        "2 processes, 2 assignments, 2 attempts, 0 to be retried
1 records: 1 done (0 of them skipped), 0 lost, 1 repeated; 1 unexplained, 1 of them graceful
violations: A1 0, A2 0, A3 0, A4 0, A5 0, A6 1, A7 0
A6 explained repeats: t-0 offset 0: a (epoch 1) ended gracefully without committing it
    0.005000 s a: end t-0 1 0 1 done
    0.006000 s a: revoked t-0 1
    0.007000 s a: released t-0 1
    0.008000 s b: assigned t-0 1
    0.010000 s b: start t-0 1 0 1"
    );
}

// --- any correct run --------------------------------------------------------------------------

/// How an assignment of the model below ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Graceful,
    Killed,
    Lost,
    Frozen,
}

proptest! {
    /// A model worker that does everything right, under any sequence of hand-overs, kills,
    /// losses, freezes, retries and unanswered commits, over a log with gaps.
    #[test]
    fn any_correct_run_is_clean(
        gaps in proptest::collection::vec(1i64..4, 1..30),
        owners in proptest::collection::vec(
            (prop_oneof![Just(End::Graceful), Just(End::Killed), Just(End::Lost), Just(End::Frozen)],
             0usize..12, any::<u64>()),
            0..8,
        ),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
        let end = offsets.last().map_or(0, |last| last + 1);
        let mut truth = Truth::new();
        for offset in &offsets {
            truth.record(&partition(), *offset, Some([b"x", b"y", b"z"][usize::try_from(*offset % 3).unwrap_or(0)]), None);
        }
        truth.at_rest(&partition(), Some(end), end);
        let (mut text, mut committed, mut late) = (String::new(), 0, Vec::<String>::new());
        let last = (End::Graceful, usize::MAX, 1);
        let mut lines = 0;
        for (number, (ending, records, dice)) in owners.into_iter().chain([last]).enumerate() {
            let mut dice = (0..64).map(move |bit| dice >> bit & 1 == 1).cycle();
            let mut roll = || dice.next() == Some(true);
            let w = format!("w{number}");
            let pid = pid(&text);
            let mut write = |line: &str| { text.push_str(&format!("{lines} {line}\n")); lines += 1; };
            write(&format!("{w} assigned t-0 1"));
            write(&format!("{w} started t-0 1 {committed}"));
            let mut commits = 0;
            let mut ready = committed;
            let mut commit = |write: &mut dyn FnMut(&str), offset: i64, known: bool| {
                commits += 1;
                write(&format!("{w} try t-0 1 {offset} {commits}"));
                if known { write(&format!("{w} known t-0 1 {offset} {commits} accepted")); }
            };
            let open: Vec<_> = offsets.iter().copied().filter(|o| *o >= committed).take(records).collect();
            for (at, offset) in open.iter().enumerate() {
                let mut attempt = 1;
                while roll() && attempt < 4 {
                    write(&format!("{w} start t-0 1 {offset} {attempt}"));
                    write(&format!("{w} end t-0 1 {offset} {attempt} retry"));
                    attempt += 1;
                }
                write(&format!("{w} start t-0 1 {offset} {attempt}"));
                if ending != End::Graceful && at + 1 == open.len() && roll() {
                    break; // cut off in the middle of a record
                }
                write(&format!("{w} end t-0 1 {offset} {attempt} done"));
                ready = offset + 1;
                if roll() { commit(&mut write, ready, true); committed = ready; }
            }
            match ending {
                End::Graceful => {
                    write(&format!("{w} revoked t-0 1"));
                    if ready > committed { commit(&mut write, ready, true); committed = ready; }
                    write(&format!("{w} released t-0 1"));
                }
                End::Killed => {
                    if ready > committed && roll() {
                        // Stored, and nobody ever heard of it; or not.
                        commit(&mut write, ready, false);
                        if roll() { committed = ready; }
                    }
                    write(&format!("f fault kill {w} {pid}"));
                }
                End::Lost => write(&format!("{w} lost t-0 1")),
                End::Frozen => {
                    write(&format!("f fault stop {w} {pid}"));
                    late.push(format!("{w} lost t-0 1"));
                }
            }
        }
        for line in late { text.push_str(&format!("{lines} {line}\n")); lines += 1; }
        let ledger = Ledger::from_text(&text).expect("a history");
        let verdict = Check::new().hold(&ledger, &truth);
        prop_assert!(verdict.is_clean(), "{verdict}\n{text}");
        prop_assert_eq!(verdict.done, offsets.len() as u64);
    }
}

/// The process id that `from_text` will give to the next worker: its place, from 1.
fn pid(text: &str) -> usize {
    let names = text.lines().filter_map(|line| line.split(' ').nth(1));
    names.collect::<std::collections::BTreeSet<_>>().len() + 1
}
