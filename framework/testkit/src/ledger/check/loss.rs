//! A2: at rest, was every record done, and is the committed offset the end of the log?

use super::Case;
use crate::ledger::history::Place;
use crate::ledger::verdict::{Invariant, Verdict};

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    let Some(rest) = case.truth.rest else {
        return;
    };
    for record in case.truth.records.iter().filter(|record| record.offset >= case.truth.begin) {
        let offset = record.offset;
        if case.executions.first_done(offset).is_some() {
            continue;
        }
        if case.partition.resets.iter().any(|reset| reset.skips(offset)) {
            verdict.jumped += 1;
            continue;
        }
        verdict.lost += 1;
        let what = "the record was never done".to_owned();
        case.cry(verdict, Invariant::NoLoss, Some(offset), what, traces(case, offset));
    }
    let committed = rest.committed.unwrap_or(case.truth.begin);
    let last = case.truth.records.last().map_or(0, |record| record.offset + 1);
    let behind = rest.end - committed;
    if committed < last.max(case.truth.begin) || behind > case.rules.marker_lag || behind < 0 {
        let committed =
            rest.committed.map_or_else(|| "nothing".to_owned(), |o| format!("offset {o}"));
        let what = format!("{committed} is committed at rest, and the log ends at {}", rest.end);
        let commits = case.partition.spans.iter().flat_map(|span| &span.commits);
        let last = commits.max_by_key(|commit| commit.tried);
        let places = last.map(|commit| [Some(commit.tried), commit.known.map(|(at, _)| at)]);
        let places = places.into_iter().flatten().flatten();
        case.cry(verdict, Invariant::NoLoss, None, what, places);
    }
}

/// What happened to the record, or around the place where it should have happened.
fn traces(case: &Case<'_>, offset: i64) -> Vec<Place> {
    let attempts = || case.partition.spans.iter().flat_map(|span| &span.attempts);
    let own = attempts().filter(|attempt| attempt.offset == offset);
    let own: Vec<_> =
        own.flat_map(|a| [Some(a.start), a.end.map(|(end, _)| end)]).flatten().take(4).collect();
    if !own.is_empty() {
        return own;
    }
    let before = attempts().filter(|a| a.offset < offset).max_by_key(|a| a.offset);
    let after = attempts().filter(|a| a.offset > offset).min_by_key(|a| a.offset);
    [before, after].into_iter().flatten().map(|attempt| attempt.start).collect()
}
