//! A7: does a partition that is assigned and has records handle them?

use std::collections::HashSet;

use pelton_engine::{DoneSet, Offset};

use super::Case;
use crate::ledger::history::{Place, Span};
use crate::ledger::truth::TrueRecord;
use crate::ledger::verdict::{Invariant, Verdict};

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    for span in &case.partition.spans {
        let Some((started, position)) = span.started else {
            continue;
        };
        let until = [span.revoked, case.history.processes[span.process].stopping]
            .into_iter()
            .flatten()
            .fold(span.end, Place::min);
        // What it has ready, up to the first record that it has still to handle.
        let mut ready = Ready { case, taken_over: case.taken_over(span), through: HashSet::new() };
        // Since when nothing runs: attempts may overlap.
        let (mut idle, mut next) = (started, ready.next(position));
        for attempt in span.attempts.iter().filter(|attempt| attempt.start < until) {
            if idle < attempt.start {
                next = next.and_then(|record| ready.next(record.offset));
                if stands_still(case, verdict, span, (idle, attempt.start), next) {
                    return;
                }
            }
            idle = idle.max(attempt.end.map_or(until, |(end, _)| end));
            ready.through.extend(attempt.through().map(|_| attempt.offset));
        }
        next = next.and_then(|record| ready.next(record.offset));
        if idle < until && stands_still(case, verdict, span, (idle, until), next) {
            return;
        }
    }
}

/// The records that an assignment need not handle any more.
struct Ready<'a> {
    case: &'a Case<'a>,
    taken_over: Vec<&'a DoneSet>,
    through: HashSet<i64>,
}

impl<'a> Ready<'a> {
    /// The first record from `from` on that it has to handle.
    fn next(&self, from: i64) -> Option<&'a TrueRecord> {
        let records = &self.case.truth.records;
        let at = records.partition_point(|record| record.offset < from);
        records[at..].iter().find(|record| {
            let was_done = |before: &&DoneSet| before.contains(Offset(record.offset));
            !self.through.contains(&record.offset) && !self.taken_over.iter().any(was_done)
        })
    }
}

/// Nothing ran between two places although this record was to be handled next.
fn stands_still(
    case: &Case<'_>,
    verdict: &mut Verdict,
    span: &Span,
    (from, to): (Place, Place),
    next: Option<&TrueRecord>,
) -> bool {
    let Some(record) = next else {
        return false;
    };
    // A millisecond is as exact as a timestamp gets.
    let there = record.timestamp_ms.and_then(|ms| case.ledger.moment_of(ms + 1)).unwrap_or(0);
    // Nobody can work while the network fails: what counts is the time after it.
    let bad = case.history.bad_network.iter().filter(|bad| bad.from < to && bad.until > from);
    let healed = bad.map(|bad| case.moment(bad.until.min(to))).max().unwrap_or(0);
    let since = case.moment(from).max(there).max(healed);
    let still = std::time::Duration::from_nanos(case.moment(to).saturating_sub(since));
    let mut kills = case.history.broker_kills.iter();
    if still <= case.rules.stuck_after
        || case.history.processes[span.process].was_frozen(from, to)
        || kills.any(|place| (from..to).contains(place))
    {
        return false;
    }
    let what = format!(
        "{} owns the partition and does not start it for {still:.1?}",
        case.ledger.name(span.process)
    );
    let places = [span.assigned, from, to];
    case.cry(verdict, Invariant::NoStuckPartition, Some(record.offset), what, places);
    true
}
