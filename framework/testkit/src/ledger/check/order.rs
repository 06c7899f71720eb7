//! A3: do the records of each ordering unit stand in order: within an assignment, and over all of them?
//! And does an assignment handle no more of them at once than it may?

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::Case;
use crate::ledger::history::{Attempt, NEVER, Place, Span, lets_pass};
use crate::ledger::verdict::{Invariant, Verdict};
use pelton::Ordering;

/// What is handled one record at a time, in offset order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit<'a> {
    Partition,
    /// All records of a key, or all without one.
    Key(Option<&'a [u8]>),
    Record(i64),
}

impl<'a> Unit<'a> {
    fn of(case: &'a Case<'_>, offset: i64) -> Self {
        match case.rules.ordering {
            // Of a record that is not in its log any more nobody knows the key.
            Ordering::Key { .. } => match case.truth.record(offset) {
                Some(record) => Self::Key(record.key.as_deref()),
                None => Self::Record(offset),
            },
            Ordering::Unordered { .. } => Self::Record(offset),
            _ => Self::Partition,
        }
    }
}

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    for span in &case.partition.spans {
        starts_where_it_may(case, verdict, span);
        one_after_another(case, verdict, span);
        no_more_than_it_may(case, verdict, span);
    }
    first_times_in_order(case, verdict);
}

/// An assignment begins at or above what was committed when it was assigned.
fn starts_where_it_may(case: &Case<'_>, verdict: &mut Verdict, span: &Span) {
    let Some((started, position)) = span.started else {
        return;
    };
    let Some(committed) = case.partition.committed_at(span.assigned) else {
        return;
    };
    let reset_meanwhile = case.partition.resets.iter().any(|reset| reset.at > span.assigned);
    if position < committed && !reset_meanwhile {
        let what = format!("it starts at {position} although {committed} was committed before");
        let commits = case.partition.spans.iter().flat_map(|span| &span.commits);
        let commit = commits.filter(|c| c.offset == committed && c.is_accepted_before(started));
        let known = commit.filter_map(|commit| commit.known).map(|(at, _)| at).next_back();
        let places = [known.unwrap_or(NEVER), span.assigned, started];
        case.cry(verdict, Invariant::Order, Some(position), what, places);
    }
}

/// Within an assignment, of each unit: one attempt at a time, in offset order, the same record only
/// again after it failed.
fn one_after_another(case: &Case<'_>, verdict: &mut Verdict, span: &Span) {
    let mut last: HashMap<Unit<'_>, &Attempt> = HashMap::new();
    for attempt in &span.attempts {
        let before = last.insert(Unit::of(case, attempt.offset), attempt);
        if let Some(what) = misplaced(case, span, before, attempt) {
            let last = before.map(|b| [b.start, b.end.map_or(NEVER, |(end, _)| end)]);
            let places = last.into_iter().flatten().chain([attempt.start]);
            case.cry(verdict, Invariant::Order, Some(attempt.offset), what, places);
        }
    }
}

/// Within an assignment: so many attempts at once. Told once, and not of a partition's order, where
/// one is all of it.
fn no_more_than_it_may(case: &Case<'_>, verdict: &mut Verdict, span: &Span) {
    let limit = case.rules.ordering.concurrency();
    let mut running: BinaryHeap<Reverse<Place>> = BinaryHeap::new();
    for attempt in span.attempts.iter().filter(|_| case.rules.ordering != Ordering::Partition) {
        while running.peek().is_some_and(|Reverse(end)| *end < attempt.start) {
            running.pop();
        }
        running.push(Reverse(attempt.end.map_or(NEVER, |(end, _)| end)));
        if running.len() > limit {
            let what = format!("it starts while {limit} others are still running");
            let open = |other: &&Attempt| other.end.is_none_or(|(end, _)| end > attempt.start);
            let before = span.attempts.iter().take_while(|other| other.start < attempt.start);
            let places = before.filter(open).map(|other| other.start).chain([attempt.start]);
            return case.cry(verdict, Invariant::Order, Some(attempt.offset), what, places);
        }
    }
}

fn misplaced(
    case: &Case<'_>,
    span: &Span,
    before: Option<&Attempt>,
    attempt: &Attempt,
) -> Option<String> {
    let misses_one = || attempt.attempt != 1 && !counts_on(case, span, attempt);
    let Some(before) = before else {
        return match span.position() {
            Some(position) if attempt.offset < position => {
                Some(format!("its assignment starts at {position}"))
            }
            Some(_) if misses_one() => Some("its first attempt is missing".to_owned()),
            Some(_) | None => None,
        };
    };
    let Some((_, outcome)) = before.end.filter(|(end, _)| *end < attempt.start) else {
        return Some(format!("it starts while record {} is still running", before.offset));
    };
    let failed = outcome.is_tried_again();
    if attempt.offset < before.offset {
        Some(format!("it starts after record {}", before.offset))
    } else if attempt.offset == before.offset {
        let next = attempt.attempt == before.attempt.saturating_add(1);
        (!failed || !next).then(|| {
            format!("attempt {} follows attempt {}: {outcome:?}", attempt.attempt, before.attempt)
        })
    } else if !lets_pass(outcome) {
        Some(format!("it passes record {}, which is not done", before.offset))
    } else {
        misses_one().then(|| "its first attempt is missing".to_owned())
    }
}

/// Where attempts are limited they are counted over assignments. A commit may not have told the last
/// of them.
fn counts_on(case: &Case<'_>, span: &Span, attempt: &Attempt) -> bool {
    let earlier = case.partition.spans.iter().filter(|other| other.assigned < span.assigned);
    let own = earlier.flat_map(|other| &other.attempts).filter(|a| a.offset == attempt.offset);
    own.map(|before| before.attempt).max().is_some_and(|most| attempt.attempt <= most + 1)
}

/// Over all assignments: a record is done for the first time after all of its unit before it.
fn first_times_in_order(case: &Case<'_>, verdict: &mut Verdict) {
    let mut firsts: Vec<_> = case
        .executions
        .0
        .keys()
        .filter_map(|offset| Some((case.executions.first_done(*offset)?, *offset)))
        .collect();
    firsts.sort_unstable();
    let mut highest: HashMap<Unit<'_>, (Place, i64)> = HashMap::new();
    let mut by_key: HashMap<&[u8], i64> = HashMap::new();
    for (place, offset) in firsts {
        let reset = case.partition.resets.iter().rfind(|reset| reset.at < place);
        let record = case.truth.record(offset);
        let key = record.and_then(|record| record.key.as_deref());
        let unit = Unit::of(case, offset);
        let older = highest.get(&unit).copied();
        let older = older.filter(|(passed, _)| reset.is_none_or(|reset| reset.at < *passed));
        if let Some((passed, later)) = older.filter(|(_, later)| *later > offset) {
            let same = key.and_then(|key| by_key.get(key)).is_some_and(|later| *later > offset);
            let of_key = if same { ", also of its own key" } else { "" };
            let what = format!("it was first done after record {later}{of_key}");
            case.cry(verdict, Invariant::Order, Some(offset), what, [passed, place]);
        } else {
            highest.insert(unit, (place, offset));
        }
        if let Some(key) = key {
            let last = by_key.entry(key).or_insert(offset);
            *last = offset.max(*last);
        }
    }
}
