//! What is done above a committed offset counts: no commit names too much (A1), none takes it back
//! (A5), and nobody does it again (A6).

use pelton::telemetry::Observation;
use pelton_engine::{DoneSet, Offset};
use pelton_testkit::ledger::MemoryLedger;

use super::orderings::{by_key, unordered};
use super::*;

/// Record 1 is done while record 0 is still running; then come `steps`.
fn ahead(steps: &str) -> String {
    format!(
        "a assigned t-0 1
         a started t-0 1 0
         a start t-0 1 0 1
         a start t-0 1 1 1
         a end t-0 1 1 1 done
         {steps}"
    )
}

/// A commit of offset `base` that names `offsets`.
fn commit(worker: &str, id: u32, base: i64, offsets: &[i64], answer: &str) -> String {
    let mut done = DoneSet::above(Offset(base));
    offsets.iter().for_each(|offset| done.push(Offset(*offset), Offset(*offset)));
    let done = done.encode(4_000);
    format!("{worker} try t-0 1 {base} {id} {done}\n{worker} known t-0 1 {base} {id} {answer}")
}

/// `b` gets the partition and starts at 0.
const NEXT_OWNER: &str = "b assigned t-0 1\nb started t-0 1 0";

// --- A1 ---------------------------------------------------------------------------------------

#[test]
fn a1_a_done_set_names_only_what_was_done_when_it_was_tried() {
    clean_by(by_key(2), &ahead(&commit("a", 1, 0, &[1], "accepted")), &under_way(4));
    for (late, answer) in [("", "accepted"), ("", "unknown"), ("a end t-0 1 3 1 done", "accepted")]
    {
        let steps = commit("a", 1, 0, &[1, 3], answer);
        let text = ahead(&format!("a start t-0 1 3 1\n{steps}\n{late}"));
        let verdict = broken_by(by_key(3), Invariant::CoveredCommit, &text, &under_way(4));
        assert_eq!(verdict.violations()[0].offset, Some(3));
        assert!(verdict.to_string().contains("names this record, which was still"), "{verdict}");
    }
    // Certainly not stored: no harm was done.
    clean_by(by_key(2), &ahead(&commit("a", 1, 0, &[1, 3], "refused")), &under_way(4));
}

#[test]
fn a1_a_done_set_may_name_offsets_without_a_record() {
    let mut truth = Truth::new();
    for offset in [0, 1, 4] {
        truth.record(&partition(), offset, Some(&offset.to_be_bytes()), None);
    }
    clean_by(by_key(2), &ahead(&commit("a", 1, 0, &[1, 2, 3], "accepted")), &truth);
    let text = ahead(&commit("a", 1, 0, &[1, 2, 3, 4], "accepted"));
    let verdict = broken_by(by_key(2), Invariant::CoveredCommit, &text, &truth);
    assert_eq!(verdict.violations()[0].offset, Some(4));
}

#[test]
fn a1_an_assignment_may_lean_on_the_done_set_that_it_took_over() {
    let text = |answer: &str, names: &[i64]| {
        let named = commit("a", 1, 0, names, answer);
        ahead(&format!(
            "{named}
             f fault kill a 1
             {NEXT_OWNER}
             b try t-0 1 0 1 0-1rBB
             b known t-0 1 0 1 accepted
             b start t-0 1 0 1
             b end t-0 1 0 1 done
             b try t-0 1 2 2
             b known t-0 1 2 2 accepted"
        ))
    };
    for answer in ["accepted", "unknown"] {
        let verdict = clean_by(by_key(2), &text(answer, &[1]), &truth(2));
        assert!(verdict.repeats.is_empty());
    }
    // Its answer was lost, and the member was removed before it asked again (simulator, seed 7392).
    let removed = text("member-lost", &[1]);
    let known = "a known t-0 1 0 1 member-lost";
    let asked_twice =
        removed.replace(known, &format!("f fault network dead\n{known}\nf fault network-healed"));
    clean_by(by_key(2), &asked_twice, &truth(2));
    // Not stored, or it did not name the record, or it was set aside: b's own effects are missing.
    let set_aside = text("accepted", &[1])
        .replace(NEXT_OWNER, &format!("f fault offset-reset t-0 0\n{NEXT_OWNER}"));
    for text in [text("refused", &[1]), removed, text("accepted", &[]), set_aside] {
        let verdict = by_key(2).hold(&history(&text), &truth(2));
        assert_eq!(verdict.broken().collect::<Vec<_>>(), [Invariant::CoveredCommit], "{verdict}");
        assert_eq!(verdict.count(Invariant::CoveredCommit), 2, "{verdict}");
    }
}

#[test]
fn a1_a_done_set_belongs_to_the_offset_that_it_is_committed_with() {
    let text = ahead("a try t-0 1 0 1 1-2rBB\na known t-0 1 0 1 accepted");
    let verdict = broken_by(by_key(2), Invariant::CoveredCommit, &text, &under_way(2));
    assert!(verdict.to_string().contains("or not for this offset"), "{verdict}");
    // What a worker says in memory no reader has refused before.
    let ledger = MemoryLedger::new();
    let (worker, partition) = (ledger.worker("a"), &partition());
    worker.observe(&Observation::Assigned { partition, epoch: 1 });
    worker.observe(&Observation::Started { partition, epoch: 1, position: 0 });
    let tried = |done| Observation::CommitTried { id: 1, partition, epoch: 1, offset: 0, done };
    worker.observe(&tried(""));
    assert!(by_key(2).hold(&ledger.ledger(), &under_way(2)).is_clean());
    worker.observe(&tried("0-1rBC"));
    let verdict = by_key(2).hold(&ledger.ledger(), &under_way(2));
    assert_eq!(verdict.count(Invariant::CoveredCommit), 1, "{verdict}");
}

// --- A5 ---------------------------------------------------------------------------------------

/// Two commits in a row, of records 1, 2 and 3 that are done while record 0 is still running.
fn in_a_row(between: &str, second: &str) -> String {
    ahead(&format!(
        "a start t-0 1 2 1
         a start t-0 1 3 1
         a end t-0 1 2 1 done
         a end t-0 1 3 1 done
         {}
         {between}
         {second}",
        commit("a", 1, 0, &[1, 3], "accepted")
    ))
}

#[test]
fn a5_a_commit_takes_nothing_back_that_was_accepted() {
    let second = |names, answer| in_a_row("", &commit("a", 2, 0, names, answer));
    for names in [&[1, 3][..], &[1, 2, 3]] {
        clean_by(unordered(4), &second(names, "accepted"), &under_way(4));
    }
    for (names, lost) in [(&[1][..], 3), (&[1, 2], 3), (&[2, 3], 1), (&[], 1)] {
        clean_by(unordered(4), &second(names, "refused"), &under_way(4));
        let verdict = broken_by(
            unordered(4),
            Invariant::CommitsAdvance,
            &second(names, "accepted"),
            &under_way(4),
        );
        let what = format!("any more that record {lost} is done");
        assert!(verdict.to_string().contains(&what), "{verdict}");
    }
}

#[test]
fn a5_nor_does_one_that_advances() {
    let done = "a end t-0 1 0 1 done";
    clean_by(unordered(4), &in_a_row(done, &commit("a", 2, 2, &[3], "accepted")), &under_way(5));
    clean_by(unordered(4), &in_a_row(done, &commit("a", 2, 4, &[], "accepted")), &under_way(5));
    let forgets = in_a_row(done, &commit("a", 2, 2, &[], "accepted"));
    let _verdict = broken_by(unordered(4), Invariant::CommitsAdvance, &forgets, &under_way(5));
}

#[test]
fn a5_nor_does_the_next_owner() {
    let next = |fault: &str, names| {
        let kill = format!("{fault}\nf fault kill a 1\n{NEXT_OWNER}");
        in_a_row(&kill, &commit("b", 1, 0, names, "accepted"))
    };
    clean_by(unordered(4), &next("", &[1, 3]), &under_way(4));
    let _verdict =
        broken_by(unordered(4), Invariant::CommitsAdvance, &next("", &[1]), &under_way(4));
    // Who sets the offset by hand sets the done-set aside.
    clean_by(unordered(4), &next("f fault offset-reset t-0 0", &[]), &under_way(4));
}

/// Every second record of some, 33 offsets after the one before, is done: the last ten first, and a
/// commit names those; then the others, and a commit of at most `room` bytes names what it has room
/// for.
fn crowded(records: i64, room: usize, answer: &str) -> (String, Truth, DoneSet) {
    let mut truth = Truth::new();
    for offset in (0..records).flat_map(|at| [33 * at, 33 * at + 1]) {
        truth.record(&partition(), offset, None, None);
    }
    let mut text = "a assigned t-0 1\na started t-0 1 0\n".to_owned();
    let commit = |id: u32, first: i64, text: &mut String, room: usize, answer: &str| {
        let mut done = DoneSet::above(Offset(0));
        (first..records).for_each(|at| done.push(Offset(33 * at + 1), Offset(33 * at + 1)));
        let written = done.encode(room);
        text.push_str(&format!("a try t-0 1 0 {id} {written}\na known t-0 1 0 {id} {answer}\n"));
        DoneSet::decode(&written).expect("it was written")
    };
    let handle = |from: i64, to: i64, text: &mut String| {
        for offset in (from..to).map(|at| 33 * at + 1) {
            text.push_str(&format!("a start t-0 1 {offset} 1\na end t-0 1 {offset} 1 done\n"));
        }
    };
    handle(records - 10, records, &mut text);
    let _named = commit(1, records - 10, &mut text, 4_000, "accepted");
    handle(0, records - 10, &mut text);
    let named = commit(2, 0, &mut text, room, answer);
    (text, truth, named)
}

#[test]
fn a5_a_done_set_may_be_cut_where_there_is_no_room_for_it() {
    let (text, truth, named) = crowded(1_000, 2_100, "accepted");
    assert!(!named.contains(Offset(33 * 999 + 1)), "it is cut");
    clean_by(unordered(1), &text, &truth);
    let (text, truth, _) = crowded(500, 1_400, "accepted");
    let _verdict = broken_by(unordered(1), Invariant::CommitsAdvance, &text, &truth);
}

/// Offsets without a record between two that are done take no room: they are done as well.
#[test]
fn a5_a_long_row_with_gaps_has_room_enough() {
    let mut truth = Truth::new();
    let mut text = "a assigned t-0 1\na started t-0 1 0\n".to_owned();
    truth.record(&partition(), 0, None, None);
    for offset in (2..=14_000).step_by(2) {
        truth.record(&partition(), offset, None, None);
        text.push_str(&format!("a start t-0 1 {offset} 1\na end t-0 1 {offset} 1 done\n"));
    }
    for (id, last) in [(1, 14_000), (2, 13_998)] {
        let mut done = DoneSet::above(Offset(0));
        done.push(Offset(1), Offset(last));
        let done = done.encode(4_000);
        text.push_str(&format!("a try t-0 1 0 {id} {done}\na known t-0 1 0 {id} accepted\n"));
    }
    let verdict = broken_by(unordered(1), Invariant::CommitsAdvance, &text, &truth);
    assert!(verdict.to_string().contains("any more that record 14000 is done"), "{verdict}");
}

// --- A6 ---------------------------------------------------------------------------------------

/// `b` handles record 1 again, too.
fn repeats(before: &str) -> String {
    ahead(&format!(
        "{before}
         {NEXT_OWNER}
         b start t-0 1 0 1
         b end t-0 1 0 1 done
         b start t-0 1 1 1
         b end t-0 1 1 1 done"
    ))
}

#[test]
fn a6_nothing_explains_the_repeat_of_what_an_accepted_done_set_names() {
    let graceful = "a revoked t-0 1\na end t-0 1 0 1 cancelled\na released t-0 1";
    for (end, cause) in [
        ("f fault kill a 1", Cause::Kill),
        ("a lost t-0 1\na end t-0 1 0 1 cancelled", Cause::Lost),
        (graceful, Cause::CancelledDrain),
    ] {
        for (names, answer) in [(&[][..], "accepted"), (&[1], "refused")] {
            let text = repeats(&format!("{}\n{end}", commit("a", 1, 0, names, answer)));
            let verdict = by_key(2).hold(&history(&text), &under_way(2));
            assert!(verdict.is_clean(), "{verdict}");
            let cause = if answer == "refused" && end == graceful {
                Cause::CommitNotAccepted
            } else {
                cause
            };
            assert_eq!(verdict.repeats_by_cause().get(&Some(cause)), Some(&1), "{verdict}");
        }
        let text = repeats(&format!("{}\n{end}", commit("a", 1, 0, &[1], "accepted")));
        let verdict = broken_by(by_key(2), Invariant::ExplainedRepeats, &text, &under_way(2));
        assert!(verdict.to_string().contains("the commit of 0 named it as done"), "{verdict}");
    }
    // Nobody knows whether it was stored.
    let text = repeats(&format!("{}\nf fault kill a 1", commit("a", 1, 0, &[1], "unknown")));
    clean_by(by_key(2), &text, &under_way(2));
}

#[test]
fn a6_a_reset_of_the_offset_sets_the_done_set_aside() {
    let named = commit("a", 1, 0, &[1], "accepted");
    let text = repeats(&format!("{named}\nf fault kill a 1\nf fault offset-reset t-0 0"));
    let verdict = clean_by(by_key(2), &text, &under_way(2));
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::OffsetReset)), Some(&1));
}

/// A hand-over in good order repeats what its last commit had no room for, and nothing else.
#[test]
fn a6_a_full_commit_explains_what_it_does_not_name() {
    let hand_over = |(mut text, truth, named): (String, Truth, DoneSet), again: i64| {
        assert!(!named.contains(Offset(again)), "it is cut");
        text.push_str("a revoked t-0 1\na released t-0 1\n");
        text.push_str(NEXT_OWNER);
        text.push_str(&format!("\nb start t-0 1 {again} 1\nb end t-0 1 {again} 1 done"));
        unordered(1).hold(&history(&text), &truth)
    };
    let verdict = hand_over(crowded(1_000, 2_100, "accepted"), 33 * 999 + 1);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::NoRoom)), Some(&1), "{verdict}");
    let verdict = hand_over(crowded(500, 1_400, "accepted"), 33 * 489 + 1);
    assert_eq!(verdict.graceful_repeats(), 1, "there was room: {verdict}");
}

/// The last commit that was answered named the record. A later one may be stored, and does not.
#[test]
fn a6_what_a_commit_without_an_answer_leaves_out_is_explained_if_there_was_no_room() {
    let killed = |(mut text, truth, _): (String, Truth, DoneSet), again: i64| {
        text.push_str(&format!("f fault kill a 1\n{NEXT_OWNER}"));
        text.push_str(&format!("\nb start t-0 1 {again} 1\nb end t-0 1 {again} 1 done"));
        unordered(1).hold(&history(&text), &truth)
    };
    let verdict = killed(crowded(1_000, 2_100, "unknown"), 33 * 999 + 1);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!(verdict.repeats_by_cause().get(&Some(Cause::Kill)), Some(&1), "{verdict}");
    let verdict = killed(crowded(500, 1_400, "unknown"), 33 * 499 + 1);
    assert_eq!(verdict.unexplained_repeats(), 1, "there was room: {verdict}");
}

/// A commit that only names more has moved, too: what failed to be delivered before it has been.
#[test]
fn a6_a_failed_delivery_explains_nothing_once_a_done_set_has_grown() {
    let text = |before: &str, after: &str| {
        repeats("").replace(
            NEXT_OWNER,
            &format!(
                "{}
                 a start t-0 1 3 1
                 a end t-0 1 3 1 done
                 {before}
                 {}
                 {after}
                 a revoked t-0 1
                 a end t-0 1 0 1 retry
                 a released t-0 1
                 {NEXT_OWNER}",
                commit("a", 1, 0, &[], "accepted"),
                commit("a", 2, 0, &[3], "accepted"),
            ),
        )
    };
    let failure = "a undelivered t-0 1";
    let verdict = clean_by(by_key(2), &text("", failure), &under_way(4));
    assert_eq!(verdict.repeats[0].cause, Some(Cause::Undelivered));
    let text = text(failure, "");
    let _verdict = broken_by(by_key(2), Invariant::ExplainedRepeats, &text, &under_way(4));
}

// --- A7 ---------------------------------------------------------------------------------------

#[test]
fn a7_what_an_assignment_took_over_is_not_waited_for() {
    let history = |done: &str| {
        minutes(&[
            (0, "a assigned t-0 1"),
            (0, "a started t-0 1 0"),
            (0, "a start t-0 1 1 1"),
            (0, "a end t-0 1 1 1 done"),
            (0, &format!("a try t-0 1 0 1 {done}")),
            (0, "a known t-0 1 0 1 accepted"),
            (0, "f fault kill a 1"),
            (1, "b assigned t-0 1"),
            (1, "b started t-0 1 0"),
            (1, "b start t-0 1 0 1"),
            (1, "b end t-0 1 0 1 done"),
            (9, "c stopping"),
        ])
    };
    let verdict = by_key(2).hold(&history("0-1rBB"), &under_way(2));
    assert!(verdict.is_clean(), "{verdict}");
    let verdict = by_key(2).hold(&history(""), &under_way(2));
    assert_eq!(verdict.count(Invariant::NoStuckPartition), 1, "{verdict}");
}
