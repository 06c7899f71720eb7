//! What must stand in order under `Ordering::Key` and `Ordering::Unordered`, and what may overlap?
//! Records of even and of odd offsets are those of two keys.

use std::num::NonZeroU32;

use pelton::Ordering;

use super::*;

pub(super) fn by_key(at_once: u32) -> Check {
    let concurrency = NonZeroU32::new(at_once).expect("above zero");
    Check::new().ordering(Ordering::Key { concurrency })
}

pub(super) fn unordered(at_once: u32) -> Check {
    let concurrency = NonZeroU32::new(at_once).expect("above zero");
    Check::new().ordering(Ordering::Unordered { concurrency })
}

/// An assignment that starts at 0.
fn owned(steps: &str) -> String {
    format!("a assigned t-0 1\na started t-0 1 0\n{steps}")
}

/// The same number of records, none of which has a key.
fn keyless(records: i64) -> Truth {
    let mut truth = Truth::new();
    (0..records).for_each(|offset| truth.record(&partition(), offset, None, None));
    truth
}

// --- A3 ---------------------------------------------------------------------------------------

#[test]
fn a3_keys_overlap_and_the_records_of_a_key_do_not() {
    let text = owned(
        "a start t-0 1 0 1
         a start t-0 1 1 1
         a end t-0 1 1 1 done
         a start t-0 1 3 1
         a end t-0 1 0 1 done
         a start t-0 1 2 1
         a end t-0 1 2 1 done
         a end t-0 1 3 1 done
         a try t-0 1 4 1
         a known t-0 1 4 1 accepted",
    );
    let verdict = clean_by(by_key(2), &text, &truth(4));
    assert_eq!((verdict.attempts, verdict.done), (4, 4));
    clean_by(unordered(2), &text, &truth(4));
    let _verdict = broken(Invariant::Order, &text, &truth(4));

    let same = owned(
        "a start t-0 1 0 1
         a start t-0 1 2 1
         a end t-0 1 0 1 done
         a end t-0 1 2 1 done",
    );
    let verdict = broken_by(by_key(2), Invariant::Order, &same, &under_way(3));
    assert!(verdict.to_string().contains("while record 0 is still running"), "{verdict}");
    clean_by(unordered(2), &same, &under_way(3));
}

#[test]
fn a3_a_retry_holds_back_its_own_key_and_no_other() {
    let waits = |passes: i64| {
        owned(&format!(
            "a start t-0 1 0 1
             a end t-0 1 0 1 retry
             a start t-0 1 {passes} 1
             a end t-0 1 {passes} 1 done
             a start t-0 1 0 2
             a end t-0 1 0 2 done"
        ))
    };
    clean_by(by_key(2), &waits(1), &under_way(3));
    clean_by(unordered(2), &waits(2), &under_way(3));
    let verdict = broken_by(by_key(2), Invariant::Order, &waits(2), &under_way(3));
    assert!(verdict.to_string().contains("it passes record 0, which is not done"), "{verdict}");
}

#[test]
fn a3_records_without_a_key_are_one_unit() {
    let text = owned("a start t-0 1 0 1\na start t-0 1 1 1\na end t-0 1 1 1 done");
    let _verdict = broken_by(by_key(2), Invariant::Order, &text, &keyless(2));
    clean_by(unordered(2), &text, &keyless(2));
    // A record that is not in the log any more: of which key it was nobody knows.
    clean_by(by_key(2), &text, &keyless(1));
}

#[test]
fn a3_a_record_s_own_attempts_stand_one_after_another_under_any_ordering() {
    let tried = |again: &str| {
        owned(&format!(
            "a start t-0 1 0 1
             a start t-0 1 1 1
             a end t-0 1 0 1 retry
             {again}
             a end t-0 1 1 1 done"
        ))
    };
    for rules in [by_key(3), unordered(3)] {
        clean_by(rules, &tried("a start t-0 1 0 2\na end t-0 1 0 2 done"), &under_way(2));
        for again in [
            "a start t-0 1 0 3\na end t-0 1 0 3 done",
            "a start t-0 1 0 2\na start t-0 1 0 3\na end t-0 1 0 2 retry\na end t-0 1 0 3 done",
        ] {
            let _verdict = broken_by(rules, Invariant::Order, &tried(again), &under_way(2));
        }
        let late = owned("a start t-0 1 0 2\na end t-0 1 0 2 done");
        let _verdict = broken_by(rules, Invariant::Order, &late, &under_way(2));
    }
}

#[test]
fn a3_no_more_records_run_at_once_than_may() {
    let text = owned(
        "a start t-0 1 0 1
         a start t-0 1 1 1
         a end t-0 1 0 1 done
         a start t-0 1 2 1
         a end t-0 1 1 1 done
         a end t-0 1 2 1 done",
    );
    for rules in [by_key, unordered] {
        clean_by(rules(2), &text, &under_way(3));
        let verdict = broken_by(rules(1), Invariant::Order, &text, &under_way(3));
        assert_eq!(verdict.count(Invariant::Order), 1, "told once: {verdict}");
    }
}

/// `a` does one record and is killed, `b` starts anew and does another one.
#[test]
fn a3_over_all_assignments_first_times_stand_in_order_per_key() {
    let text = |first: i64| {
        owned(&format!(
            "a start t-0 1 {first} 1
             a end t-0 1 {first} 1 done
             f fault kill a 1
             b assigned t-0 1
             b started t-0 1 0
             b start t-0 1 0 1
             b end t-0 1 0 1 done"
        ))
    };
    clean_by(by_key(2), &text(1), &under_way(3));
    clean_by(unordered(2), &text(2), &under_way(3));
    let verdict = broken_by(by_key(2), Invariant::Order, &text(2), &under_way(3));
    assert!(verdict.to_string().contains("first done after record 2"), "{verdict}");
}

// --- A4 ---------------------------------------------------------------------------------------

/// The new owner's second attempt is over before the old one's begins, its first one is not.
#[test]
fn a4_a_long_attempt_is_not_hidden_by_a_short_one_beside_it() {
    let text = |ends_first: &str, ends_last: &str| {
        owned(&format!(
            "b assigned t-0 1
             b started t-0 1 0
             b start t-0 1 1 1
             b start t-0 1 2 1
             b end t-0 1 2 1 done
             {ends_first}
             a start t-0 1 0 1
             a end t-0 1 0 1 done
             {ends_last}"
        ))
    };
    let long = "b end t-0 1 1 1 done";
    let hold = |text: &str| by_key(2).hold(&history(text), &under_way(3));
    let verdict = hold(&text("", long));
    assert_eq!(verdict.count(Invariant::SingleOwner), 2, "{verdict}");
    let verdict = hold(&text(long, ""));
    assert_eq!(verdict.count(Invariant::SingleOwner), 1, "two owners all the same: {verdict}");
}

#[test]
fn a4_each_slot_may_have_decided_on_a_record_when_a_loss_came() {
    let lost = owned(
        "a lost t-0 1
         a start t-0 1 0 1
         a start t-0 1 1 1
         a end t-0 1 0 1 cancelled
         a end t-0 1 1 1 cancelled",
    );
    let one_more = format!("{lost}\na start t-0 1 3 1");
    for rules in [by_key(2), unordered(2)] {
        clean_by(rules, &lost, &under_way(4));
    }
    let _verdict = broken_by(unordered(2), Invariant::SingleOwner, &one_more, &under_way(4));
}

// --- A1 ---------------------------------------------------------------------------------------

#[test]
fn a1_a_flush_makes_done_what_was_handled_and_not_what_still_runs_beside_it() {
    let text = |flushed_again: &str| {
        owned(&format!(
            "a start t-0 1 0 1
             a start t-0 1 1 1
             a end t-0 1 1 1 handled
             a flushed t-0 1
             a end t-0 1 0 1 handled
             {flushed_again}
             a try t-0 1 2 1
             a known t-0 1 2 1 accepted"
        ))
    };
    clean_by(by_key(2), &text("a flushed t-0 1"), &truth(2));
    let verdict = broken_by(by_key(2), Invariant::CoveredCommit, &text(""), &under_way(2));
    assert_eq!(verdict.violations()[0].offset, Some(0));
}

// --- A6 ---------------------------------------------------------------------------------------

/// A panic takes with it what was handled and not flushed, and then the partition is asked back.
#[test]
fn a6_a_panic_explains_what_it_took_with_it_if_nothing_was_begun_since() {
    let text = |since: &str| {
        owned(&format!(
            "a start t-0 1 0 1
             a end t-0 1 0 1 handled
             a start t-0 1 1 1
             a start t-0 1 2 1
             a end t-0 1 1 1 panicked
             {since}
             a end t-0 1 2 1 retry
             a revoked t-0 1
             a released t-0 1
             b assigned t-0 1
             b started t-0 1 0
             b start t-0 1 0 1
             b end t-0 1 0 1 done"
        ))
    };
    let verdict = clean_by(by_key(2), &text(""), &under_way(3));
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::Reset)), Some(&1), "{verdict}");
    let goes_on = text("a start t-0 1 1 2\na end t-0 1 1 2 retry");
    let _verdict = broken_by(by_key(2), Invariant::ExplainedRepeats, &goes_on, &under_way(3));
}

// --- A7 ---------------------------------------------------------------------------------------

#[test]
fn a7_a_partition_stands_still_when_nothing_of_it_runs() {
    let begin = [
        (0, "a assigned t-0 1"),
        (0, "a started t-0 1 0"),
        (0, "a start t-0 1 0 1"),
        (0, "a start t-0 1 1 1"),
    ];
    let hold = |records: i64, rest: &[(u64, &str)]| {
        by_key(2).hold(&minutes(&[&begin[..], rest].concat()), &under_way(records))
    };
    // Record 0 is slow, and record 2 waits for it.
    let slow = hold(
        3,
        &[(1, "a end t-0 1 1 1 done"), (9, "a end t-0 1 0 1 done"), (9, "a start t-0 1 2 1")],
    );
    assert!(slow.is_clean(), "{slow}");
    // Record 0 is to be tried again. The last one that ended says nothing of it.
    let failed = [(1, "a end t-0 1 0 1 retry"), (2, "a end t-0 1 1 1 done"), (9, "b stopping")];
    let stuck = hold(2, &failed);
    assert_eq!(stuck.count(Invariant::NoStuckPartition), 1, "{stuck}");
    assert_eq!(stuck.violations()[0].offset, Some(0));
    assert!(stuck.violations()[0].what.contains("420.0"), "{stuck}");
}
