//! What does a commit say of a record, and may a later one say less?
//!
//! A done-set is cut where there is no room for all of it in a commit: a subset is true as well. So
//! less than before is a fault only where there was room for all.

use pelton::telemetry::CommitOutcome;
use pelton_engine::{DoneSet, Offset};

use super::Case;
use crate::ledger::history::{Commit, Place, Span};

/// A done-set of fewer bytes fits into any commit: other fields of its metadata take less than the
/// rest of 4,000.
const FITS_BYTES: usize = 2_000;

impl Case<'_> {
    /// What an assignment takes over: the done-sets that it may have found where it began.
    pub(super) fn taken_over(&self, span: &Span) -> Vec<&DoneSet> {
        let Some((started, position)) = span.started else {
            return Vec::new();
        };
        let earlier = || {
            let there = self.partition.may_be_read(span.assigned, started);
            let may_be = |commit: &Commit| commit.may_be_stored() || self.was_asked_twice(commit);
            there.filter(move |commit| may_be(commit) && commit.offset <= position)
        };
        let stands = earlier().map(|commit| commit.offset).max();
        let there = earlier().filter(|commit| Some(commit.offset) == stands);
        there.map(|commit| &commit.done).filter(|done| !done.is_empty()).collect()
    }

    /// The answer says that the group does not know the member. A first request may have been stored, its
    /// answer lost, and the member removed before the client asked again.
    fn was_asked_twice(&self, commit: &Commit) -> bool {
        let Some((heard, CommitOutcome::MemberLost)) = commit.known else { return false };
        let bad = &self.history.bad_network;
        bad.iter().any(|bad| bad.from < heard && bad.until > commit.tried)
    }

    /// The commit by whose done-set it was certainly known at `place` that the record is done.
    pub(super) fn named_at(&self, place: Place, offset: i64) -> Option<&Commit> {
        let last = self.partition.last_accepted_at(place).filter(|last| last.names(offset))?;
        // One without an answer may be stored, and have had no room for it.
        let mut later = self.partition.tried_before(place).filter(|commit| {
            commit.tried > last.tried && commit.may_be_stored() && !commit.covers(offset)
        });
        later.all(|commit| self.had_room(commit, last)).then_some(last)
    }

    /// The first record that `before` covers and `after` does not, though it had room for it.
    pub(super) fn taken_back(&self, before: &Commit, after: &Commit) -> Option<i64> {
        let mut lost = self.offsets(before.offset.min(after.offset), before.highest());
        let lost = lost.find(|offset| before.covers(*offset) && !after.covers(*offset))?;
        self.had_room(after, before).then_some(lost)
    }

    /// Had the last commit that the assignment had accepted no room for a record above its offset?
    pub(super) fn was_left_out(&self, span: &Span, offset: i64) -> bool {
        let accepted = span.commits.iter().filter(|commit| commit.is_accepted_before(span.end));
        let Some(last) = accepted.max_by_key(|commit| commit.tried) else {
            return false;
        };
        let is_it = |of: i64| of == offset;
        !last.covers(offset) && !self.fits(last, offset, is_it)
    }

    /// Had the commit room for what another one names, too?
    fn had_room(&self, commit: &Commit, other: &Commit) -> bool {
        self.fits(commit, other.highest(), |offset| other.covers(offset))
    }

    /// Is there room for all that the commit names and for these records, up to `last`, too?
    fn fits(&self, commit: &Commit, last: i64, too: impl Fn(i64) -> bool) -> bool {
        let mut all = DoneSet::above(Offset(commit.offset));
        // Gaps between records that are done count as done.
        let mut next = commit.offset;
        for offset in self.offsets(commit.offset, last.max(commit.highest())) {
            if commit.names(offset) || too(offset) {
                all.push(Offset(next), Offset(offset));
            }
            next = offset.saturating_add(1);
        }
        DoneSet::decode(&all.encode(FITS_BYTES)).is_ok_and(|written| written == all)
    }

    /// The offsets of records from one to another.
    fn offsets(&self, first: i64, last: i64) -> impl Iterator<Item = i64> {
        let records = &self.truth.records;
        let begin = records.partition_point(|record| record.offset < first);
        let offsets = records[begin..].iter().map(|record| record.offset);
        offsets.take_while(move |offset| *offset <= last)
    }
}
