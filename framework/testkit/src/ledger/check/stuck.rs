//! A7: does a partition that is assigned and has records handle them?

use super::Case;
use crate::ledger::history::{Place, Span};
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
        // Where it last stood still, and the record it has to handle next.
        let (mut idle, mut next) = (started, position);
        for attempt in span.attempts.iter().filter(|attempt| attempt.start < until) {
            if stands_still(case, verdict, span, (idle, attempt.start), next) {
                return;
            }
            match (attempt.through(), attempt.end) {
                (Some(done), _) => (idle, next) = (done, attempt.offset + 1),
                (None, Some((end, _))) => (idle, next) = (end, attempt.offset),
                (None, None) => (idle, next) = (until, attempt.offset),
            }
        }
        if idle < until && stands_still(case, verdict, span, (idle, until), next) {
            return;
        }
    }
}

/// Nothing started between two places although there was a record at or above `next`.
fn stands_still(
    case: &Case<'_>,
    verdict: &mut Verdict,
    span: &Span,
    (from, to): (Place, Place),
    next: i64,
) -> bool {
    let records = &case.truth.records;
    let at = records.partition_point(|record| record.offset < next);
    let Some(record) = records.get(at) else {
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
