//! A1: does every commit cover only what was done before it was tried?

use super::Case;
use crate::ledger::history::{Attempt, Commit, NEVER, Place, Span};
use crate::ledger::verdict::{Invariant, Verdict};
use pelton::telemetry::RecordOutcome;

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    let records = &case.truth.records;
    // Where everything up to and including record i had been done by someone.
    let mut all_done = Vec::with_capacity(records.len());
    let mut latest = 0;
    for record in records {
        latest = latest.max(done_or_excused(case, record.offset));
        all_done.push(latest);
    }
    for (number, span) in case.partition.spans.iter().enumerate() {
        let position = span.position().unwrap_or(case.truth.begin);
        let first_own = records.partition_point(|record| record.offset < position);
        let mut own = first_own;
        for commit in span.commits.iter().filter(|commit| commit.may_be_stored()) {
            let covered = records.partition_point(|record| record.offset < commit.offset);
            let below = covered.min(first_own).checked_sub(1).and_then(|at| all_done.get(at));
            if below.is_some_and(|place| *place > commit.tried) {
                let open = records[..covered.min(first_own)]
                    .iter()
                    .find(|record| done_or_excused(case, record.offset) > commit.tried);
                cry(case, verdict, span, commit, open.map(|record| record.offset));
                continue;
            }
            while own < covered {
                let offset = records[own].offset;
                let done = case.executions.of_span(offset, number).and_then(|e| e.done);
                if done.is_none_or(|done| done > commit.tried) && !is_excused(case, span, offset) {
                    cry(case, verdict, span, commit, Some(offset));
                    break;
                }
                own += 1;
            }
        }
    }
}

/// Where the record was first done; at once, if it is not the group's business.
fn done_or_excused(case: &Case<'_>, offset: i64) -> Place {
    if offset < case.truth.begin {
        return 0;
    }
    let done = case.executions.first_done(offset).unwrap_or(NEVER);
    let jumped = case.partition.resets.iter().find(|reset| reset.skips(offset));
    jumped.map_or(done, |reset| done.min(reset.at))
}

/// Set aside while this assignment lasted.
fn is_excused(case: &Case<'_>, span: &Span, offset: i64) -> bool {
    let mut resets = case.partition.resets.iter();
    offset < case.truth.begin || resets.any(|reset| reset.at > span.assigned && reset.skips(offset))
}

fn cry(case: &Case<'_>, verdict: &mut Verdict, span: &Span, commit: &Commit, open: Option<i64>) {
    let Some(open) = open else { return };
    let mut attempts = span.attempts.iter().filter(|attempt| attempt.offset == open);
    let last = attempts.rfind(|attempt| attempt.start < commit.tried);
    let mut places: Vec<_> =
        last.into_iter().flat_map(|a| [a.start, a.end.map_or(NEVER, |(end, _)| end)]).collect();
    places.extend([commit.tried, commit.known.map_or(NEVER, |(place, _)| place)]);
    if places.len() < 4 {
        places.extend(span.started.map(|(place, _)| place));
    }
    let why = not_done(last, commit.tried);
    let what = format!("offset {} was to be committed although this record {why}", commit.offset);
    case.cry(verdict, Invariant::CoveredCommit, Some(open), what, places);
}

/// Why a record was not done at `place`, after this attempt as its last one.
fn not_done(last: Option<&Attempt>, place: Place) -> &'static str {
    match last.map(|last| last.end.filter(|(end, _)| *end < place)) {
        None => "had not been started",
        Some(None) => "was still being handled",
        Some(Some((_, RecordOutcome::Handled))) => "had been handled and not flushed",
        Some(Some((_, RecordOutcome::Retry | RecordOutcome::Panicked))) => {
            "had failed and was to be tried again"
        }
        Some(Some((_, RecordOutcome::Cancelled))) => "had been cut off",
        Some(Some(_)) => "was not done by then",
    }
}
