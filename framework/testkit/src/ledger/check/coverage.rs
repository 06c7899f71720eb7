//! A1: does every commit cover only what was done before it was tried: below its offset, and what its
//! done-set names above it?

use super::Case;
use crate::ledger::history::{Attempt, Commit, NEVER, Place, Span};
use crate::ledger::truth::TrueRecord;
use crate::ledger::verdict::{Invariant, Verdict};
use pelton::telemetry::RecordOutcome;
use pelton_engine::{DoneSet, Offset};

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
        let own = Own::of(case, number, span);
        let first_own = records.partition_point(|record| record.offset < own.position);
        let mut at = first_own;
        for commit in span.commits.iter().filter(|commit| commit.may_be_stored()) {
            damaged(case, verdict, commit);
            let covered = records.partition_point(|record| record.offset < commit.offset);
            while at < covered && !own.is_open(records[at].offset, commit.tried) {
                at += 1;
            }
            let below = open_before(case, &all_done[..covered.min(first_own)], commit);
            let open = below
                .or_else(|| records[..covered].get(at).map(|record| record.offset))
                .or_else(|| own.open_above(commit, &records[covered..]));
            cry(case, verdict, span, commit, open);
        }
    }
}

/// What an assignment has to have done by itself.
struct Own<'a> {
    case: &'a Case<'a>,
    number: usize,
    span: &'a Span,
    position: i64,
    taken_over: Vec<&'a DoneSet>,
}

impl<'a> Own<'a> {
    fn of(case: &'a Case<'_>, number: usize, span: &'a Span) -> Self {
        let position = span.position().unwrap_or(case.truth.begin);
        Self { case, number, span, position, taken_over: case.taken_over(span) }
    }

    /// Had it not done the record before `tried`, nor taken over that it was done?
    fn is_open(&self, offset: i64, tried: Place) -> bool {
        let done = self.case.executions.of_span(offset, self.number).and_then(|e| e.done);
        done.is_none_or(|done| done > tried)
            && !is_excused(self.case, self.span, offset)
            && !self.taken_over.iter().any(|before| before.contains(Offset(offset)))
    }

    /// Of the records from a commit's offset on, the first one that it names and that was not done.
    fn open_above(&self, commit: &Commit, records: &[TrueRecord]) -> Option<i64> {
        let offsets = records.iter().map(|record| record.offset);
        let named = offsets.take_while(|offset| *offset <= commit.highest());
        named.filter(|offset| commit.names(*offset)).find(|offset| {
            if *offset < self.position {
                done_or_excused(self.case, *offset) > commit.tried
            } else {
                self.is_open(*offset, commit.tried)
            }
        })
    }
}

/// Of the first records, those that nobody had done when a commit was tried: the first one.
/// `all_done` says of each where it and all before it had been done.
fn open_before(case: &Case<'_>, all_done: &[Place], commit: &Commit) -> Option<i64> {
    all_done.last().filter(|place| **place > commit.tried)?;
    let at = all_done.partition_point(|place| *place <= commit.tried);
    case.truth.records.get(at).map(|record| record.offset)
}

/// What nobody can read says nothing, and its records are handled again.
fn damaged(case: &Case<'_>, verdict: &mut Verdict, commit: &Commit) {
    if commit.is_damaged {
        let what = "it carries a done-set that is none, or not for this offset".to_owned();
        let places = [commit.tried, commit.known.map_or(NEVER, |(place, _)| place)];
        case.cry(verdict, Invariant::CoveredCommit, Some(commit.offset), what, places);
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
    let what = if open < commit.offset {
        format!("offset {} was to be committed although this record {why}", commit.offset)
    } else {
        format!("the commit of {} names this record, which {why}", commit.offset)
    };
    case.cry(verdict, Invariant::CoveredCommit, Some(open), what, places);
}

/// Why a record was not done at `place`, after this attempt as its last one.
fn not_done(last: Option<&Attempt>, place: Place) -> &'static str {
    match last.map(|last| last.end.filter(|(end, _)| *end < place)) {
        None => "had not been started",
        Some(None) => "was still being handled",
        Some(Some((_, RecordOutcome::Handled))) => "had been handled and not flushed",
        Some(Some((_, outcome))) if outcome.is_tried_again() => {
            "had failed and was to be tried again"
        }
        Some(Some((_, RecordOutcome::Cancelled))) => "had been cut off",
        Some(Some(_)) => "was not done by then",
    }
}
