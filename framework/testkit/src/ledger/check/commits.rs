//! A5: do commits only advance, and does only the owner commit?

use super::Case;
use crate::ledger::history::{Commit, Ending, NEVER, Place, Span};
use crate::ledger::verdict::{Invariant, Verdict};
use pelton::telemetry::CommitOutcome;

pub(super) fn check(case: &Case<'_>, verdict: &mut Verdict) {
    let commits = case.partition.spans.iter().flat_map(|span| &span.commits);
    let mut accepted: Vec<_> = commits
        .filter(|commit| matches!(commit.known, Some((_, CommitOutcome::Accepted))))
        .collect();
    accepted.sort_unstable_by_key(|commit| commit.tried);
    never_backwards(case, verdict, &accepted);
    at_rest(case, verdict, &accepted);
    one_at_a_time(case, verdict);
    only_the_owner(case, verdict);
    not_as_a_stranger(case, verdict);
    not_for_another(case, verdict);
}

/// A commit that was tried after one that says more was known to be stored.
fn never_backwards(case: &Case<'_>, verdict: &mut Verdict, accepted: &[&Commit]) {
    let mut known = accepted.to_vec();
    known.sort_unstable_by_key(|commit| known_at(commit));
    let mut known = known.into_iter().peekable();
    let mut resets = case.partition.resets.iter().peekable();
    let mut highest: Option<&Commit> = None;
    let mut reset_at = 0;
    for commit in accepted {
        loop {
            let answered = known.peek().map_or(NEVER, |commit| known_at(commit));
            let reset = resets.peek().map_or(NEVER, |reset| reset.at);
            if answered.min(reset) >= commit.tried {
                break;
            }
            if reset < answered {
                (highest, reset_at) = (None, reset);
                resets.next();
            } else if let Some(next) = known.next().filter(|next| next.tried > reset_at) {
                let is_higher = |one: &&Commit| (one.offset, one.tried) > (next.offset, next.tried);
                highest = highest.filter(is_higher).or(Some(next));
            }
        }
        let Some(before) = highest else { continue };
        let what = if before.offset > commit.offset {
            format!("it was committed after {}", before.offset)
        } else if let Some(lost) = case.taken_back(before, commit) {
            format!("it does not say any more that record {lost} is done")
        } else {
            continue;
        };
        let places = [before.tried, known_at(before), commit.tried, known_at(commit)];
        case.cry(verdict, Invariant::CommitsAdvance, Some(commit.offset), what, places);
    }
}

/// A commit that was sent before the one before it was answered may be stored before it.
fn one_at_a_time(case: &Case<'_>, verdict: &mut Verdict) {
    for span in &case.partition.spans {
        let pairs = span.commits.iter().zip(span.commits.iter().skip(1));
        let mut hasty = pairs.filter(|(before, next)| known_at(before) > next.tried);
        if let Some((before, next)) = hasty.next() {
            let what = format!("it was tried before the commit of {} was answered", before.offset);
            let places = [before.tried, next.tried, known_at(before), known_at(next)];
            case.cry(verdict, Invariant::CommitsAdvance, Some(next.offset), what, places);
        }
    }
}

/// What is committed in the end is not below what was accepted.
fn at_rest(case: &Case<'_>, verdict: &mut Verdict, accepted: &[&Commit]) {
    let Some(rest) = case.truth.rest else {
        return;
    };
    let reset = case.partition.resets.last().map_or(0, |reset| reset.at);
    let since = accepted.iter().filter(|commit| commit.tried >= reset);
    if let Some(highest) = since.max_by_key(|commit| commit.offset)
        && rest.committed.is_none_or(|committed| committed < highest.offset)
    {
        let committed = rest.committed.map_or_else(|| "nothing".to_owned(), |o| o.to_string());
        let what = format!("it was accepted, and in the end {committed} is committed");
        let places = [highest.tried, known_at(highest)];
        case.cry(verdict, Invariant::CommitsAdvance, Some(highest.offset), what, places);
    }
}

fn only_the_owner(case: &Case<'_>, verdict: &mut Verdict) {
    for span in &case.partition.spans {
        let ended = match span.ending {
            Ending::Released => "released",
            Ending::Lost => "lost",
            Ending::Reset => "reset",
            Ending::Open | Ending::Killed | Ending::Exited => continue,
        };
        for commit in span.commits.iter().filter(|commit| commit.tried > span.end) {
            let what = format!(
                "{} commits it although it has {ended} the partition",
                case.ledger.name(span.process)
            );
            let places = [span.assigned, span.end, commit.tried, known_at(commit)];
            case.cry(verdict, Invariant::CommitsAdvance, Some(commit.offset), what, places);
        }
    }
}

/// A commit after the group has said that it does not know the member: what that one had is lost.
fn not_as_a_stranger(case: &Case<'_>, verdict: &mut Verdict) {
    for span in &case.partition.spans {
        for pair in span.commits.windows(2) {
            let [refused, next] = pair else { continue };
            let Some((heard, CommitOutcome::MemberLost)) = refused.known else { continue };
            // Assigned something meanwhile, it may be another member than the one that asked.
            let is_another = case.history.is_assigned_to(span.process, refused.tried, heard);
            if next.tried > heard && !is_another {
                let name = case.ledger.name(span.process);
                let what = format!("{name} commits it although the group does not know the member");
                let places = [span.assigned, refused.tried, heard, next.tried];
                case.cry(verdict, Invariant::CommitsAdvance, Some(next.offset), what, places);
                break;
            }
        }
    }
}

/// Accepted although the partition had another owner when it was tried: a zombie's.
fn not_for_another(case: &Case<'_>, verdict: &mut Verdict) {
    let spans = &case.partition.spans;
    for old in spans {
        // What was reset is the same assignment still.
        let chain = std::iter::successors(Some(old), |span| case.partition.reset_to(span));
        let since = chain.last().map_or(old.assigned, |first| first.assigned);
        let is_another = |new: &&Span| {
            new.assigned > old.assigned || (new.assigned > since && new.process != old.process)
        };
        let owner_at = |place: Place| {
            let mut others = spans.iter().filter(is_another);
            others.find(|new| new.assigned < place && !case.is_old_news(new, place))
        };
        let mut accepted = old
            .commits
            .iter()
            .filter(|commit| matches!(commit.known, Some((_, CommitOutcome::Accepted))));
        let zombie = accepted.find_map(|commit| Some((commit, owner_at(commit.tried)?)));
        if let Some((commit, new)) = zombie {
            let (old_name, new_name) =
                (case.ledger.name(old.process), case.ledger.name(new.process));
            let what = format!("{old_name} has it accepted although {new_name} owns the partition");
            let places = [old.assigned, new.assigned, commit.tried, known_at(commit)];
            case.cry(verdict, Invariant::CommitsAdvance, Some(commit.offset), what, places);
        }
    }
}

fn known_at(commit: &Commit) -> Place {
    commit.known.map_or(NEVER, |(place, _)| place)
}
