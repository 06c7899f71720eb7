//! How far may a partition's commit go while records finish in any order?
//!
//! Upholds INV-1: the committable offset never passes a record that is not done.

use std::collections::VecDeque;

use crate::done_set::DoneSet;
use crate::ids::Offset;

/// Tracks one partition's records from their arrival until they are done.
///
/// Offsets may have gaps: compaction removes records and transaction markers take up offsets
/// that no consumer sees. The committable offset is one past the last record of the done
/// prefix; it does not jump over a gap before the record behind it is done.
///
/// ```
/// use pelton_engine::{Offset, OffsetTracker};
///
/// let mut tracker = OffsetTracker::starting_at(Offset(10));
/// tracker.arrived(Offset(10));
/// tracker.arrived(Offset(14)); // 11 to 13 were compacted away
/// tracker.done(Offset(14)); // out of order
/// assert_eq!(tracker.committable(), Offset(10));
/// tracker.done(Offset(10));
/// assert_eq!(tracker.committable(), Offset(15)); // the next one to read
/// ```
#[derive(Clone, Debug)]
pub struct OffsetTracker {
    /// The next offset to read if the partition moved now.
    committable: Offset,
    /// Records not yet covered by `committable`, in offset order.
    open: VecDeque<Open>,
    /// What the last owner had done of the records that are still to come.
    before: DoneSet,
}

/// There may be a hundred thousand of them: it is kept small. The offset, or its complement if the record
/// is done.
#[derive(Clone, Copy, Debug)]
struct Open(i64);

impl Open {
    fn offset(self) -> Offset {
        Offset(if self.is_done() { !self.0 } else { self.0 })
    }

    fn is_done(self) -> bool {
        self.0 < 0
    }

    fn finish(&mut self) {
        self.0 = if self.is_done() { self.0 } else { !self.0 };
    }
}

impl OffsetTracker {
    /// A tracker for a partition whose next unread offset is `position`.
    #[must_use]
    pub fn starting_at(position: Offset) -> Self {
        Self::resuming(DoneSet::above(position))
    }

    /// A tracker for a partition whose last commit stands at the done-set's base: what that names is
    /// done when it arrives.
    ///
    /// ```
    /// use pelton_engine::{DoneSet, Offset, OffsetTracker};
    ///
    /// let mut before = DoneSet::above(Offset(10));
    /// before.push(Offset(11), Offset(11));
    /// let mut tracker = OffsetTracker::resuming(before);
    /// assert!(tracker.arrived(Offset(10)));
    /// assert!(!tracker.arrived(Offset(11))); // nobody handles it again
    /// tracker.done(Offset(10));
    /// assert_eq!(tracker.committable(), Offset(12));
    /// ```
    #[must_use]
    pub fn resuming(before: DoneSet) -> Self {
        Self { committable: before.base(), open: VecDeque::new(), before }
    }

    /// The record at `offset` is here; is it to be handled? Ignored if it is not above every offset
    /// before it, or negative, as no record's is.
    pub fn arrived(&mut self, offset: Offset) -> bool {
        if offset < self.expected() || offset < Offset(0) {
            return false;
        }
        self.open.push_back(Open(offset.0));
        let is_done = self.before.contains(offset);
        if is_done {
            self.done(offset);
        }
        !is_done
    }

    /// The record at `offset` needs no more work. Ignored if it never arrived.
    pub fn done(&mut self, offset: Offset) {
        if self.open.front().is_some_and(|first| first.offset() == offset) {
            self.open.pop_front();
            self.committable = offset.next();
        } else if let Some(at) = self.place(offset) {
            self.open[at].finish();
            return;
        }
        while let Some(first) = self.open.front().filter(|first| first.is_done()) {
            self.committable = first.offset().next();
            self.open.pop_front();
        }
    }

    /// Where the record is among the open ones. Without a gap before it, it is as far from the first
    /// as their offsets are.
    fn place(&self, offset: Offset) -> Option<usize> {
        let first = self.open.front()?.offset();
        let guess = usize::try_from(offset.0.checked_sub(first.0)?).ok()?;
        if self.open.get(guess).is_some_and(|open| open.offset() == offset) {
            return Some(guess);
        }
        self.open.binary_search_by_key(&offset, |open| open.offset()).ok()
    }

    /// The offset to commit: the next one to read after a restart.
    #[must_use]
    pub fn committable(&self) -> Offset {
        self.committable
    }

    /// What is done above the committable offset, with what the last owner had done and has not come
    /// yet. Where two neighbours are done, so is what lies between them: it holds no record.
    #[must_use]
    pub fn done_set(&self) -> DoneSet {
        let mut set = DoneSet::above(self.committable);
        let mut run: Option<(Offset, Offset)> = None;
        for record in &self.open {
            let offset = record.offset();
            if record.is_done() {
                run = Some((run.map_or(offset, |(first, _)| first), offset));
            } else if let Some((first, last)) = run.take() {
                set.push(first, last);
            }
        }
        if let Some((first, last)) = run {
            set.push(first, last);
        }
        set.push_all(&self.before);
        set
    }

    /// The lowest offset that may arrive next.
    #[must_use]
    pub fn expected(&self) -> Offset {
        self.open.back().map_or(self.committable, |last| last.offset().next())
    }

    /// How many records have arrived and are not covered by the committable offset.
    #[must_use]
    pub fn open_records(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_gap_left_by_compaction_does_not_hold_the_commit_back() {
        let mut tracker = OffsetTracker::starting_at(Offset(0));
        tracker.arrived(Offset(0));
        tracker.arrived(Offset(7));
        tracker.done(Offset(0));
        assert_eq!(tracker.committable(), Offset(1));
        tracker.done(Offset(7));
        assert_eq!(tracker.committable(), Offset(8));
    }

    #[test]
    fn a_slow_head_holds_the_commit_back() {
        let mut tracker = OffsetTracker::starting_at(Offset(0));
        tracker.arrived(Offset(0));
        tracker.arrived(Offset(1));
        tracker.done(Offset(1));
        assert_eq!(tracker.committable(), Offset(0));
    }

    #[test]
    fn done_twice_and_done_without_arrival_change_nothing() {
        let mut tracker = OffsetTracker::starting_at(Offset(5));
        tracker.done(Offset(5));
        assert_eq!(tracker.committable(), Offset(5));
        tracker.arrived(Offset(5));
        tracker.done(Offset(5));
        tracker.done(Offset(5));
        assert_eq!(tracker.committable(), Offset(6));
    }

    #[test]
    fn what_arrives_below_what_is_there_is_not_counted_again() {
        let mut tracker = OffsetTracker::starting_at(Offset(5));
        for offset in [4, 5, 5, 9, 7, 9] {
            tracker.arrived(Offset(offset));
        }
        assert_eq!((tracker.open_records(), tracker.expected()), (2, Offset(10)));
        tracker.done(Offset(9));
        assert_eq!(tracker.open_records(), 2, "it stays open behind one that is not done");
        tracker.done(Offset(5));
        assert_eq!((tracker.open_records(), tracker.expected()), (0, Offset(10)));
        assert_eq!(tracker.committable(), Offset(10));
    }

    proptest! {
        /// INV-1: the next owner handles all that was not done, and nothing that was; cut off amid
        /// its records, it hands on what it had been told and has not seen.
        #[test]
        fn inv_1_a_done_set_hides_what_is_done_and_nothing_else(
            gaps in proptest::collection::vec(1i64..4, 1..60),
            done in proptest::collection::vec(any::<bool>(), 60),
            seen in any::<proptest::sample::Index>(),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let of = |wanted: bool| offsets.iter().zip(&done).filter(move |(_, done)| **done == wanted).map(|(o, _)| *o);
            let mut tracker = OffsetTracker::starting_at(Offset(0));
            for offset in &offsets { prop_assert!(tracker.arrived(Offset(*offset))); }
            for offset in of(true) { tracker.done(Offset(offset)); }

            let seen = seen.index(offsets.len() + 1);
            for _ in 0..2 {
                let set = tracker.done_set();
                let committable = tracker.committable();
                for offset in of(true) { prop_assert!(set.contains(Offset(offset)) || Offset(offset) < committable); }
                for offset in of(false) { prop_assert!(!set.contains(Offset(offset)) && Offset(offset) >= committable); }
                tracker = OffsetTracker::resuming(set);
                for offset in offsets[..seen].iter().filter(|o| Offset(**o) >= committable) {
                    let is_handled = tracker.arrived(Offset(*offset));
                    prop_assert_eq!(is_handled, of(false).any(|open| open == *offset));
                }
            }
            for offset in &offsets { tracker.arrived(Offset(*offset)); }
            for offset in of(false) { tracker.done(Offset(offset)); }
            prop_assert_eq!(tracker.committable(), Offset(offsets.last().map_or(0, |o| o + 1)));
            prop_assert!(tracker.done_set().is_empty());
        }

        /// INV-1, against the plainest model there is: a map of what is done.
        #[test]
        fn inv_1_the_committable_offset_never_passes_a_record_that_is_not_done(
            gaps in proptest::collection::vec(1i64..4, 1..60),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..60),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut tracker = OffsetTracker::starting_at(Offset(0));
            let mut model: BTreeMap<i64, bool> = offsets.iter().map(|o| (*o, false)).collect();
            for offset in &offsets { tracker.arrived(Offset(*offset)); }
            for pick in order {
                let offset = *pick.get(&offsets);
                tracker.done(Offset(offset));
                model.insert(offset, true);
                let first_open = model.iter().find(|(_, done)| !**done).map(|(o, _)| *o);
                let expected = model.iter().take_while(|(_, done)| **done).last().map_or(0, |(o, _)| o + 1);
                prop_assert_eq!(tracker.committable().0, expected);
                if let Some(open) = first_open { prop_assert!(tracker.committable().0 <= open); }
            }
        }
    }
}
