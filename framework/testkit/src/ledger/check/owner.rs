//! A4: has a partition one owner at a time, and does nobody else touch its records?

use super::{Case, count};
use crate::ledger::history::{Ending, NEVER, Place, Span};
use crate::ledger::verdict::{Invariant, Verdict, ZombieWindow};

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    let spans = &case.partition.spans;
    for (number, old) in spans.iter().enumerate() {
        for new in spans[number + 1..].iter().filter(|new| new.assigned < old.end) {
            assigned_twice(case, verdict, old, new);
        }
        let busy = old.attempts.iter().map(|attempt| case.until(old.process, attempt)).max();
        for new in spans[number + 1..].iter().filter(|new| busy > Some(begins(new))) {
            attempted_twice(case, verdict, old, new);
        }
        nothing_after_the_end(case, verdict, old);
    }
    for place in &case.partition.orphans {
        let what = "a step without an assignment".to_owned();
        case.cry(verdict, Invariant::SingleOwner, None, what, [*place]);
    }
}

/// A new owner before the old one's end: a zombie window, or two owners.
fn assigned_twice(case: &Case<'_>, verdict: &mut Verdict, old: &Span, new: &Span) {
    if case.is_old_news(new, new.end.min(old.end)) {
        let overlap = new.end.min(old.end);
        verdict.zombie_windows.push(ZombieWindow {
            partition: case.name.clone(),
            zombie: case.ledger.name(new.process),
            length: case.between(new.assigned, overlap),
            attempts: count(new.attempts.iter().filter(|attempt| attempt.start < overlap)),
        });
        return;
    }
    if is_zombie(case, old, new.assigned) {
        let touched = old.attempts.iter().filter(|attempt| {
            attempt.start > new.assigned || case.until(old.process, attempt) > new.assigned
        });
        verdict.zombie_windows.push(ZombieWindow {
            partition: case.name.clone(),
            zombie: case.ledger.name(old.process),
            length: case.between(new.assigned, old.end),
            attempts: count(touched),
        });
        return;
    }
    let what = format!("{} owns it, and so does {}", owner(case, old), owner(case, new));
    let places = [old.assigned, old.revoked.unwrap_or(new.assigned), new.assigned, old.end];
    case.cry(verdict, Invariant::SingleOwner, None, what, places);
}

/// Two attempts at once: told once per pair of owners.
fn attempted_twice(case: &Case<'_>, verdict: &mut Verdict, old: &Span, new: &Span) {
    let begins = begins(new);
    let late = old.attempts.iter().filter(|attempt| case.until(old.process, attempt) > begins);
    // Until when any of the new one's attempts up to that place ran: they may overlap.
    let mut latest: Place = 0;
    let busy = new.attempts.iter().map(|right| {
        latest = latest.max(case.until(new.process, right));
        latest
    });
    let busy: Vec<Place> = busy.collect();
    for left in late {
        let until = case.until(old.process, left);
        let at = busy.partition_point(|latest| *latest < left.start);
        let Some(right) = new.attempts.get(at).filter(|right| right.start < until) else {
            continue;
        };
        // A process knows what it does: the next assignment there waits for the task before it.
        let one_process = old.process == new.process;
        if case.may_leave_behind(old) && !one_process {
            verdict.zombie_windows.push(ZombieWindow {
                partition: case.name.clone(),
                zombie: case.ledger.name(old.process),
                length: case.between(new.assigned, until),
                attempts: 1,
            });
            return;
        }
        let excused = is_zombie(case, old, until) || case.is_old_news(new, until);
        if one_process || !excused {
            let what = format!(
                "{} handles it while {} handles record {}",
                owner(case, old),
                owner(case, new),
                right.offset
            );
            let places = [left.start, right.start, until, case.until(new.process, right)];
            case.cry(verdict, Invariant::SingleOwner, Some(left.offset), what, places);
            return;
        }
    }
}

/// Nothing starts after the end. Each slot may have decided on an attempt when a loss came.
fn nothing_after_the_end(case: &Case<'_>, verdict: &mut Verdict, span: &Span) {
    let excused = match span.ending {
        Ending::Lost | Ending::Reset => case.rules.ordering.concurrency(),
        Ending::Open | Ending::Released | Ending::Killed | Ending::Exited => 0,
    };
    let late = span.attempts.iter().filter(|attempt| attempt.start > span.end).nth(excused);
    if let Some(late) = late {
        let what = format!("{} starts it although it is no longer its own", owner(case, span));
        let places = [span.assigned, span.end, late.start];
        case.cry(verdict, Invariant::SingleOwner, Some(late.offset), what, places);
    }
    let early = span
        .attempts
        .iter()
        .find(|attempt| span.started.is_none_or(|(started, _)| attempt.start < started));
    if let Some(early) = early {
        let what = format!("{} starts it before the partition was ready", owner(case, span));
        let places = [span.assigned, early.start];
        case.cry(verdict, Invariant::SingleOwner, Some(early.offset), what, places);
    }
}

/// Could the old owner not know better at `place`? It learns later that it has lost the
/// partition, or it was frozen or cut off.
fn is_zombie(case: &Case<'_>, old: &Span, place: Place) -> bool {
    old.ending == Ending::Lost || case.is_unaware(old, place)
}

/// Where its first attempt begins.
fn begins(span: &Span) -> Place {
    span.attempts.first().map_or(NEVER, |attempt| attempt.start)
}

fn owner(case: &Case<'_>, span: &Span) -> String {
    format!("{} (epoch {})", case.ledger.name(span.process), span.epoch)
}
