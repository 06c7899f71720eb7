//! A3: do records stand in order: within an assignment, over all of them, and per key?

use std::collections::HashMap;

use super::Case;
use crate::ledger::history::{Attempt, NEVER, Span, lets_pass};
use crate::ledger::verdict::{Invariant, Verdict};
use pelton::telemetry::RecordOutcome;

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    for span in &case.partition.spans {
        starts_where_it_may(case, verdict, span);
        one_after_another(case, verdict, span);
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

/// Within an assignment: one attempt at a time, in offset order, the same record only again
/// after it failed.
fn one_after_another(case: &Case<'_>, verdict: &mut Verdict, span: &Span) {
    let mut before: Option<&Attempt> = None;
    for attempt in &span.attempts {
        if let Some(what) = misplaced(span, before, attempt) {
            let last = before.map(|b| [b.start, b.end.map_or(NEVER, |(end, _)| end)]);
            let places = last.into_iter().flatten().chain([attempt.start]);
            case.cry(verdict, Invariant::Order, Some(attempt.offset), what, places);
        }
        before = Some(attempt);
    }
}

fn misplaced(span: &Span, before: Option<&Attempt>, attempt: &Attempt) -> Option<String> {
    let Some(before) = before else {
        return match span.position() {
            Some(position) if attempt.offset < position => {
                Some(format!("its assignment starts at {position}"))
            }
            Some(_) if attempt.attempt != 1 => Some("its first attempt is missing".to_owned()),
            Some(_) | None => None,
        };
    };
    let Some((_, outcome)) = before.end.filter(|(end, _)| *end < attempt.start) else {
        return Some(format!("it starts while record {} is still running", before.offset));
    };
    let failed = matches!(outcome, RecordOutcome::Retry | RecordOutcome::Panicked);
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
        (attempt.attempt != 1).then(|| "its first attempt is missing".to_owned())
    }
}

/// Over all assignments: a record is done for the first time after all records before it.
fn first_times_in_order(case: &Case<'_>, verdict: &mut Verdict) {
    let mut firsts: Vec<_> = case
        .executions
        .0
        .keys()
        .filter_map(|offset| Some((case.executions.first_done(*offset)?, *offset)))
        .collect();
    firsts.sort_unstable();
    let mut highest: Option<(usize, i64)> = None;
    let mut by_key: HashMap<&[u8], i64> = HashMap::new();
    for (place, offset) in firsts {
        let reset = case.partition.resets.iter().rfind(|reset| reset.at < place);
        let record = case.truth.record(offset);
        let key = record.and_then(|record| record.key.as_deref());
        let older = highest.filter(|(passed, _)| reset.is_none_or(|reset| reset.at < *passed));
        if let Some((passed, later)) = older.filter(|(_, later)| *later > offset) {
            let same = key.and_then(|key| by_key.get(key)).is_some_and(|later| *later > offset);
            let of_key = if same { ", also of its own key" } else { "" };
            let what = format!("it was first done after record {later}{of_key}");
            case.cry(verdict, Invariant::Order, Some(offset), what, [passed, place]);
        } else {
            highest = Some((place, offset));
        }
        if let Some(key) = key {
            let last = by_key.entry(key).or_insert(offset);
            *last = offset.max(*last);
        }
    }
}
