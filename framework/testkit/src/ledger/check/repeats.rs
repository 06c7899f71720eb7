//! A6: has every repeat a fault that explains it?

use std::time::Duration;

use pelton::telemetry::{CommitOutcome, RecordOutcome};

use super::{AT_THE_THAW, Case, Execution};
use crate::ledger::history::{Attempt, Commit, Ending, NEVER, Place, Span};
use crate::ledger::verdict::{Cause, Invariant, Repeat, Verdict};

/// So long after a broker's death leaders may still be missing.
const BROKER_RECOVERY: Duration = Duration::from_secs(60);

/// So long after the network has healed a member may hear that it has been given up meanwhile, or
/// be given up for what it could not say.
const NETWORK_RECOVERY: Duration = Duration::from_secs(30);

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    let committed: Vec<_> = case
        .partition
        .spans
        .iter()
        .map(|span| case.partition.committed_at(span.assigned))
        .collect();
    for (offset, executions) in &case.executions.0 {
        for execution in executions {
            if let Some(again) = execution.again {
                let span = &case.partition.spans[execution.span];
                let what = "the assignment that did it does it again".to_owned();
                let places = [execution.start, execution.through.unwrap_or(NEVER), again];
                repeat(case, verdict, *offset, Err(what), span, places.to_vec());
            }
            let Some((first, done)) = done_before(executions, execution) else {
                continue;
            };
            let old = &case.partition.spans[first.span];
            let cause = explain(case, *offset, (first, done), execution, committed[execution.span]);
            let new = &case.partition.spans[execution.span];
            let asked = old.revoked.unwrap_or(NEVER);
            let places = vec![done, asked, old.end, new.assigned, execution.start];
            repeat(case, verdict, *offset, cause, old, places);
        }
    }
}

/// The last of the others that was done (or handled) before this one was begun, or finished.
fn done_before<'a>(all: &'a [Execution], this: &Execution) -> Option<(&'a Execution, Place)> {
    let before = this.through.unwrap_or(this.start);
    all.iter()
        .filter(|other| other.span != this.span)
        .filter_map(|other| Some((other, other.through.filter(|done| *done < before)?)))
        .max_by_key(|(_, done)| *done)
}

fn repeat(
    case: &Case<'_>,
    verdict: &mut Verdict,
    offset: i64,
    cause: Result<Cause, String>,
    old: &Span,
    places: Vec<Place>,
) {
    let key = case.truth.record(offset).and_then(|record| record.key.clone());
    let graceful = old.ending == Ending::Released;
    let partition = case.name.clone();
    verdict.repeats.push(Repeat {
        partition,
        offset,
        key,
        cause: cause.as_ref().ok().copied(),
        graceful,
    });
    if let Err(what) = cause {
        case.cry(verdict, Invariant::ExplainedRepeats, Some(offset), what, places);
    }
}

/// The fault that makes the repeat `new` of what `old` did allowed, or why it is not.
fn explain(
    case: &Case<'_>,
    offset: i64,
    (old, done): (&Execution, Place),
    new: &Execution,
    committed: Option<i64>,
) -> Result<Cause, String> {
    let mut resets = case.partition.resets.iter();
    if resets.any(|reset| reset.at > done && reset.at < new.start && reset.offset <= offset) {
        return Ok(Cause::OffsetReset);
    }
    let is_flushed = old.done.is_some();
    let (old, new, begun) =
        (&case.partition.spans[old.span], &case.partition.spans[new.span], new.start);
    if new.assigned < old.assigned {
        // The older owner repeats what the newer one has done: it did not know of it yet.
        return zombie(case, new)
            .ok_or_else(|| format!("{} repeats what its successor did", who(case, new)));
    }
    if let Some(committed) = committed.filter(|committed| *committed > offset) {
        return Err(format!("{committed} was committed when {} got it", who(case, new)));
    }
    if let Some(commit) = case.named_at(new.assigned, offset) {
        let (what, who) = (commit.offset, who(case, new));
        return Err(format!("the commit of {what} named it as done when {who} got it"));
    }
    if case.is_old_news(new, new.end) {
        return Ok(Cause::Stop);
    }
    let repeated = (offset, begun);
    if is_flushed { fault_of(case, old, repeated) } else { unflushed(case, old, repeated) }
}

/// The fault that kept `old` from flushing the record, and so from committing it.
fn unflushed(case: &Case<'_>, old: &Span, repeated: (i64, Place)) -> Result<Cause, String> {
    let graceful = matches!(old.ending, Ending::Released | Ending::Exited);
    match old.cut_off {
        Some(_) if graceful => Ok(Cause::CancelledDrain),
        // What went with its instance was to start again here, but was asked back before.
        None if graceful && ends_without_its_instance(old) => Ok(Cause::Reset),
        None if graceful && !case.history.processes[old.process].was_frozen_in(old, old.end) => {
            Err(format!("{} ended gracefully without flushing it", who(case, old)))
        }
        _ => fault_of(case, old, repeated),
    }
}

/// Nothing began after its last panic or time-out.
fn ends_without_its_instance(span: &Span) -> bool {
    let ended = |attempt: &Attempt| match attempt.end {
        Some((place, RecordOutcome::Panicked | RecordOutcome::TimedOut)) => Some(place),
        _ => None,
    };
    let end = span.attempts.iter().filter_map(ended).max();
    end.zip(span.attempts.last()).is_some_and(|(end, last)| last.start < end)
}

fn zombie(case: &Case<'_>, span: &Span) -> Option<Cause> {
    if case.history.processes[span.process].was_frozen_in(span, span.end) {
        return Some(Cause::Stop);
    }
    match span.ending {
        Ending::Lost => Some(lost(case, span)),
        Ending::Killed => Some(Cause::Kill),
        Ending::Released if case.may_leave_behind(span) => Some(Cause::CancelledDrain),
        _ if case.history.was_cut_off_in(span, span.end) => Some(Cause::Network),
        Ending::Open | Ending::Released | Ending::Reset | Ending::Exited => None,
    }
}

/// The fault that kept `old` from committing the record before it was begun again.
fn fault_of(case: &Case<'_>, old: &Span, (offset, begun): (i64, Place)) -> Result<Cause, String> {
    if case.history.processes[old.process].was_frozen_in(old, old.end.min(begun)) {
        return Ok(Cause::Stop);
    }
    let cut_off = case.history.was_cut_off_in(old, old.end.min(begun));
    if old.end > begun && old.ending != Ending::Lost && !cut_off {
        return Err(format!("{} still owns the partition", who(case, old)));
    }
    match old.ending {
        Ending::Killed => Ok(Cause::Kill),
        Ending::Lost => Ok(lost(case, old)),
        Ending::Reset => Ok(Cause::Reset),
        Ending::Released | Ending::Exited if frozen_in_drain(case, old) => Ok(Cause::Stop),
        Ending::Released | Ending::Exited if broker_killed(case, old) => Ok(Cause::BrokerKill),
        _ if cut_off => Ok(Cause::Network),
        Ending::Released | Ending::Exited if refused(old) => Ok(Cause::CommitNotAccepted),
        Ending::Released | Ending::Exited if case.was_left_out(old, offset) => Ok(Cause::NoRoom),
        Ending::Released | Ending::Exited if !case.may_be_uncommitted(old) => {
            Err(format!("{} was drained in time without committing it", who(case, old)))
        }
        Ending::Released | Ending::Exited if old.was_cut_short() => Ok(Cause::CancelledDrain),
        Ending::Released | Ending::Exited if old.has_undelivered() => Ok(Cause::Undelivered),
        Ending::Released | Ending::Exited if unanswered(case, old) => Ok(Cause::CommitNotAccepted),
        Ending::Released | Ending::Exited => {
            Err(format!("{} ended gracefully without committing it", who(case, old)))
        }
        Ending::Open => Err(format!("{} still owns the partition", who(case, old))),
    }
}

/// Its drain's time ran out while its process was frozen, and it was cut off at the thaw: what was
/// to be delivered and committed in that time was given up, though the partition was still its own.
fn frozen_in_drain(case: &Case<'_>, span: &Span) -> bool {
    let process = &case.history.processes[span.process];
    let begun = [span.revoked, process.stopping].into_iter().flatten().min();
    let Some((begun, cut_off)) = begun.zip(span.cut_off) else { return false };
    process.frozen.iter().any(|(stop, until)| {
        let in_it = *stop < cut_off && *until > begun;
        in_it && (*until >= cut_off || case.between(*until, cut_off) < AT_THE_THAW)
    })
}

/// Its last commit was refused before its end: of a topic that is gone, say.
fn refused(span: &Span) -> bool {
    let last = span.commits.last().and_then(|commit| commit.known);
    matches!(last, Some((at, CommitOutcome::Refused | CommitOutcome::MemberLost)) if at < span.end)
}

/// Its last commit was not accepted before its end; or, one being in flight at a time, another
/// one of its process was not answered for the whole drain.
fn unanswered(case: &Case<'_>, span: &Span) -> bool {
    let open = |commit: &Commit| !commit.is_accepted_before(span.end);
    if span.commits.last().is_some_and(open) {
        return true;
    }
    let stopping = case.history.processes[span.process].stopping;
    let Some(drain) = [span.revoked, stopping].into_iter().flatten().min() else {
        return false;
    };
    let spans = case.history.partitions.values().flat_map(|partition| &partition.spans);
    let own = spans.filter(|other| other.process == span.process);
    let mut commits = own.flat_map(|other| &other.commits);
    commits.any(|commit| {
        commit.tried < drain && commit.known.is_none_or(|(known, _)| known > span.end)
    })
}

fn lost(case: &Case<'_>, span: &Span) -> Cause {
    match span.end {
        _ if broker_killed(case, span) => Cause::BrokerKill,
        end if case.history.was_cut_off_in(span, end) || network_healed(case, end) => {
            Cause::Network
        }
        _ => Cause::Lost,
    }
}

/// Had the network healed only a moment before `place`?
fn network_healed(case: &Case<'_>, place: Place) -> bool {
    let mut healed = case.history.bad_network.iter().filter(|bad| bad.until < place);
    healed.any(|bad| case.between(bad.until, place) < NETWORK_RECOVERY)
}

/// A broker was killed, and the assignment's last commits and outputs may have suffered from it:
/// none was accepted afterwards, or the cluster was still finding new leaders.
fn broker_killed(case: &Case<'_>, span: &Span) -> bool {
    let kills = case.history.broker_kills.iter();
    let mut own = kills.filter(|place| (span.assigned..span.end).contains(place));
    own.any(|place| {
        !span.was_confirmed(*place, span.end) || case.between(*place, span.end) < BROKER_RECOVERY
    })
}

fn who(case: &Case<'_>, span: &Span) -> String {
    format!("{} (epoch {})", case.ledger.name(span.process), span.epoch)
}
