//! Which record of a partition is next, and when? The half of the engine that sees records.
//!
//! One `Schedule` per assignment of a partition; the partition's task owns it and calls it per
//! record. It holds offsets, not data: records are named by their index, counted from 0 in the
//! order of arrival, and the task keeps the bytes.
//!
//! Upholds INV-1 (through its tracker), INV-2 (records of an ordering unit one at a time, in
//! offset order) and INV-3 (a record whose attempt failed is tried again until it is done).

use std::collections::VecDeque;

use crate::ids::Offset;
use crate::offset_tracker::OffsetTracker;
use crate::planted::Bug;
use crate::retry::RetryPolicy;
use crate::time::Time;

/// What is kept in order.
///
/// ```
/// use pelton_engine::{Item, Next, Offset, Ordering, RetryPolicy, Schedule, Time};
///
/// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
/// // Two users, and still one after the other.
/// schedule.push([Item { offset: Offset(3), unit: 1 }, Item { offset: Offset(4), unit: 2 }])?;
/// assert!(matches!(schedule.next(Time::ZERO), Next::Start { offset: Offset(3), .. }));
/// assert_eq!(schedule.next(Time::ZERO), Next::Idle);
/// # Ok::<(), pelton_engine::Backwards>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ordering {
    /// All records of a partition, one at a time. The default.
    #[default]
    Partition,
}

/// A record as the schedule sees it.
///
/// ```
/// use pelton_engine::{Item, Offset, Ordering, RetryPolicy, Schedule};
///
/// // Offsets may have gaps: compaction and transactions leave them.
/// let run = [3, 4, 9].map(|offset| Item { offset: Offset(offset), unit: 0 });
/// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
/// schedule.push(run)?;
/// assert_eq!(schedule.expected(), Offset(10));
/// # Ok::<(), pelton_engine::Backwards>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its offset.
    pub offset: Offset,
    /// The hash of its ordering unit; [`Ordering::Partition`] ignores it.
    pub unit: u64,
}

/// What a slot should do now.
///
/// ```
/// use pelton_engine::{Finish, Next, Schedule, Time};
///
/// /// Handles what can be handled now. Returns when a retry is due, if one waits.
/// fn run(schedule: &mut Schedule, now: Time, handle: impl Fn(u64) -> Finish) -> Option<Time> {
///     loop {
///         match schedule.next(now) {
///             Next::Start { index, .. } => schedule.finished(index, handle(index), now),
///             Next::WaitUntil(at) => return Some(at),
///             Next::Idle => return None,
///         }
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Handle the record with this index; `attempt` counts from 1.
    Start {
        /// The record, counted from 0 in the order of arrival.
        index: u64,
        /// Its offset.
        offset: Offset,
        /// How many times it has been tried, this one included.
        attempt: u32,
    },
    /// Nothing before this moment: a retry waits.
    WaitUntil(Time),
    /// Nothing until a record arrives or the running one ends.
    Idle,
}

/// How an attempt ended.
///
/// ```
/// use pelton_engine::{Finish, Item, Offset, Ordering, RetryPolicy, Schedule, Time};
///
/// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
/// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
/// schedule.next(Time::ZERO);
/// schedule.finished(0, Finish::Handled, Time::ZERO);
/// assert_eq!(schedule.committable(), Offset(3)); // its effects are not flushed yet
/// schedule.flushed();
/// assert_eq!(schedule.committable(), Offset(4));
/// # Ok::<(), pelton_engine::Backwards>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// The record needs no more work.
    Done,
    /// Handled, but done only with the slot's next flush ([`Schedule::flushed`]).
    Handled,
    /// It failed and must be tried again.
    Retry,
    /// It was cut off (a drain's deadline); nothing of it counts.
    Cancelled,
}

/// A record arrived at or below one that arrived before.
///
/// ```
/// use pelton_engine::{Backwards, Item, Offset, Ordering, RetryPolicy, Schedule};
///
/// let mut schedule = Schedule::new(Ordering::Partition, Offset(40), RetryPolicy::default(), 1);
/// let refused = schedule.push([Item { offset: Offset(0), unit: 0 }]); // the topic was made anew
/// assert_eq!(refused, Err(Backwards { offset: Offset(0), expected: Offset(40) }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backwards {
    /// The offset that arrived.
    pub offset: Offset,
    /// The lowest one that could have.
    pub expected: Offset,
}

/// One partition's queue, order, retries and offset tracker.
///
/// ```
/// use pelton_engine::{Finish, Item, Next, Offset, Ordering, RetryPolicy, Schedule, Time};
///
/// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
/// schedule.push([Item { offset: Offset(3), unit: 0 }, Item { offset: Offset(4), unit: 0 }]).unwrap();
/// assert_eq!(schedule.next(Time::ZERO), Next::Start { index: 0, offset: Offset(3), attempt: 1 });
/// assert_eq!(schedule.next(Time::ZERO), Next::Idle); // one at a time
/// schedule.finished(0, Finish::Retry, Time::ZERO);
/// assert!(matches!(schedule.next(Time::ZERO), Next::WaitUntil(_))); // and in order
/// ```
#[derive(Debug)]
pub struct Schedule {
    ordering: Ordering,
    retry: RetryPolicy,
    seed: u64,
    tracker: OffsetTracker,
    /// Records that are not done, first to last; the head may be running or waiting.
    waiting: VecDeque<Waiting>,
    /// The index of the next record to arrive.
    arrivals: u64,
    head: Head,
    /// Handled records that the next flush will make done.
    handled: Vec<Offset>,
    starting: bool,
    bug: Option<Bug>,
    /// Planted bug: this record counts as in hand already.
    hidden: Option<Offset>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    index: u64,
    offset: Offset,
    attempts: u32,
}

/// What the record at the head of the queue is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Head {
    Ready,
    Running,
    RetryAt(Time),
}

impl Schedule {
    /// An empty schedule for a partition whose next offset to read is `position`.
    ///
    /// `seed` spreads the retries of many partitions; the same seed gives the same waits.
    #[must_use]
    pub fn new(ordering: Ordering, position: Offset, retry: RetryPolicy, seed: u64) -> Self {
        Self {
            ordering,
            retry,
            seed,
            tracker: OffsetTracker::starting_at(position),
            waiting: VecDeque::new(),
            arrivals: 0,
            head: Head::Ready,
            handled: Vec::new(),
            starting: true,
            bug: None,
            hidden: None,
        }
    }

    /// Plants a known bug (tests only; without the feature `planted-bugs` it does nothing).
    /// `in_hand` is the record that its partition's assignment before had in hand when it ended.
    pub fn plant(&mut self, bug: Option<Bug>, in_hand: Option<Offset>) {
        self.bug = bug;
        self.hidden = in_hand.filter(|_| Bug::StaleHidesFresh.is(bug));
    }

    /// Takes in the records of a run, in order. They get the next indices.
    ///
    /// # Errors
    ///
    /// If an offset is not above every offset before it; the records before it are taken.
    pub fn push(&mut self, items: impl IntoIterator<Item = Item>) -> Result<(), Backwards> {
        for Item { offset, .. } in items {
            let expected = self.tracker.expected();
            if offset < expected && !Bug::DuplicatesPass.is(self.bug) {
                return Err(Backwards { offset, expected });
            }
            let index = self.arrivals;
            self.arrivals += 1;
            if Bug::SkipRecords.is(self.bug) && index % 50 == 49 {
                continue;
            }
            self.tracker.arrived(offset);
            if self.hidden == Some(offset) {
                continue;
            }
            self.waiting.push_back(Waiting { index, offset, attempts: 0 });
        }
        Ok(())
    }

    /// The record to handle now, if there is one and nothing else of its unit runs.
    pub fn next(&mut self, now: Time) -> Next {
        if !self.starting {
            return Next::Idle;
        }
        match self.head {
            Head::Running => return Next::Idle,
            Head::RetryAt(at) if at > now => {
                if !Bug::RetryOutOfOrder.is(self.bug) || self.waiting.len() < 2 {
                    return Next::WaitUntil(at);
                }
                self.waiting.swap(0, 1);
            }
            Head::RetryAt(_) | Head::Ready => {}
        }
        let Some(first) = self.waiting.front_mut() else {
            return Next::Idle;
        };
        first.attempts = first.attempts.saturating_add(1);
        let start =
            Next::Start { index: first.index, offset: first.offset, attempt: first.attempts };
        if Bug::CommitPastInFlight.is(self.bug) {
            self.tracker.done(first.offset);
        }
        self.head = Head::Running;
        start
    }

    /// Would [`next`](Self::next) start a record?
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        let waits = match self.head {
            Head::Running => true,
            Head::RetryAt(at) => at > now,
            Head::Ready => false,
        };
        self.starting && !waits && !self.waiting.is_empty()
    }

    /// The attempt at record `index` has ended. Ignored if that record is not running.
    pub fn finished(&mut self, index: u64, finish: Finish, now: Time) {
        let Some(first) = self.waiting.front().copied().filter(|first| first.index == index) else {
            return;
        };
        if self.head != Head::Running {
            return;
        }
        self.head = Head::Ready;
        match finish {
            Finish::Done => {
                self.waiting.pop_front();
                self.tracker.done(first.offset);
            }
            Finish::Handled => {
                self.waiting.pop_front();
                self.handled.push(first.offset);
            }
            Finish::Retry if Bug::DropFailedRecord.is(self.bug) => {
                self.waiting.pop_front();
                self.tracker.done(first.offset);
            }
            Finish::Retry => {
                let wait = self.retry.backoff(first.attempts, self.seed);
                self.head = Head::RetryAt(now + wait);
            }
            Finish::Cancelled => {}
        }
    }

    /// The slot's flush succeeded: what was handled before it is done.
    pub fn flushed(&mut self) {
        for offset in self.handled.drain(..) {
            self.tracker.done(offset);
        }
    }

    /// A drain or a loss: nothing starts any more, what waits is dropped (it is not done).
    /// Returns how many records were dropped.
    pub fn stop_starting(&mut self) -> usize {
        self.starting = false;
        if Bug::RetryDoneByDrain.is(self.bug) && matches!(self.head, Head::RetryAt(_)) {
            self.waiting.front().iter().for_each(|first| self.tracker.done(first.offset));
        }
        let keep = usize::from(self.head == Head::Running);
        let dropped = self.waiting.len().saturating_sub(keep);
        self.waiting.truncate(keep);
        dropped
    }

    /// The offset to commit: the next one to read after a restart.
    #[must_use]
    pub fn committable(&self) -> Offset {
        let offset = self.tracker.committable();
        if Bug::CommitOffByOne.is(self.bug) && !self.waiting.is_empty() {
            offset.next()
        } else if Bug::CommitHighestSeen.is(self.bug) && self.waiting.is_empty() {
            self.tracker.expected()
        } else {
            offset
        }
    }

    /// The lowest offset that may arrive next.
    #[must_use]
    pub fn expected(&self) -> Offset {
        self.tracker.expected()
    }

    /// The index of the first record whose bytes are still needed.
    #[must_use]
    pub fn first_needed(&self) -> u64 {
        self.waiting.front().map_or(self.arrivals, |first| first.index)
    }

    /// Records that have arrived and are not done or handled.
    #[must_use]
    pub fn waiting_records(&self) -> usize {
        self.waiting.len()
    }

    /// Is an attempt running?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.head == Head::Running
    }

    /// What is kept in order.
    #[must_use]
    pub fn ordering(&self) -> Ordering {
        self.ordering
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    fn schedule(offsets: &[i64]) -> Schedule {
        let mut schedule =
            Schedule::new(Ordering::Partition, Offset(offsets[0]), RetryPolicy::default(), 9);
        schedule.push(items(offsets)).expect("ascending offsets");
        schedule
    }

    fn items(offsets: &[i64]) -> Vec<Item> {
        offsets.iter().map(|o| Item { offset: Offset(*o), unit: 0 }).collect()
    }

    #[test]
    fn inv_2_a_waiting_retry_lets_nothing_pass() {
        let mut schedule = schedule(&[1, 2]);
        assert!(matches!(schedule.next(Time::ZERO), Next::Start { index: 0, .. }));
        schedule.finished(0, Finish::Retry, Time::ZERO);
        let Next::WaitUntil(at) = schedule.next(Time::ZERO) else { panic!("the retry waits") };
        assert!(matches!(schedule.next(at), Next::Start { index: 0, attempt: 2, .. }));
    }

    #[test]
    fn a_drain_drops_what_waits_and_keeps_what_runs() {
        let mut schedule = schedule(&[1, 2, 3]);
        assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
        assert_eq!(schedule.stop_starting(), 2);
        schedule.finished(0, Finish::Done, Time::ZERO);
        assert_eq!(schedule.committable(), Offset(2));
        assert_eq!(schedule.next(Time::ZERO), Next::Idle);
    }

    #[test]
    fn what_waits_what_runs_and_whose_bytes_are_needed_can_be_seen() {
        let mut schedule = schedule(&[1, 2, 3]);
        assert_eq!((schedule.waiting_records(), schedule.first_needed()), (3, 0));
        assert!(!schedule.is_running());
        for index in 0..3 {
            assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
            assert!(schedule.is_running());
            schedule.finished(index, Finish::Done, Time::ZERO);
            assert!(!schedule.is_running());
            assert_eq!(schedule.first_needed(), index + 1);
        }
        assert_eq!(schedule.waiting_records(), 0);
    }

    #[test]
    fn a_retry_is_due_at_its_moment_and_not_before() {
        let mut schedule = schedule(&[1]);
        schedule.next(Time::ZERO);
        schedule.finished(0, Finish::Retry, Time::ZERO);
        let Next::WaitUntil(at) = schedule.next(Time::ZERO) else { panic!("the retry waits") };
        assert!(!schedule.is_due(at - Duration::from_nanos(1)));
        assert!(schedule.is_due(at));
    }

    #[test]
    fn handled_records_are_done_only_with_the_flush() {
        let mut schedule = schedule(&[1, 2]);
        for index in 0..2 {
            assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
            schedule.finished(index, Finish::Handled, Time::ZERO);
        }
        assert_eq!(schedule.committable(), Offset(1));
        schedule.flushed();
        assert_eq!(schedule.committable(), Offset(3));
    }

    #[test]
    fn a_record_that_goes_backwards_is_refused() {
        let mut schedule = schedule(&[1, 2]);
        let refused = schedule.push(items(&[2]));
        assert_eq!(refused, Err(Backwards { offset: Offset(2), expected: Offset(3) }));
    }

    proptest! {
        /// INV-2 and INV-3: whatever fails and however long it waits, every record is done
        /// exactly once, in offset order, one at a time.
        #[test]
        fn inv_2_and_3_every_record_is_done_once_and_in_order(
            gaps in proptest::collection::vec(1i64..3, 1..40),
            fates in proptest::collection::vec(0u8..4, 0..200),
        ) {
            let offsets: Vec<i64> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
            let mut schedule = schedule(&offsets);
            let (mut now, mut done) = (Time::ZERO, Vec::new());
            let mut fates = fates.into_iter();
            while done.len() < offsets.len() {
                let due = schedule.is_due(now);
                let next = schedule.next(now);
                prop_assert_eq!(due, matches!(next, Next::Start { .. }));
                match next {
                    Next::Start { index, offset, .. } => {
                        prop_assert_eq!(schedule.next(now), Next::Idle);
                        let retry = fates.next() == Some(0);
                        schedule.finished(index, if retry { Finish::Retry } else { Finish::Done }, now);
                        if !retry { done.push(offset.0); }
                    }
                    Next::WaitUntil(at) => { prop_assert!(at > now); now = at; }
                    Next::Idle => prop_assert!(false, "idle with {} of {} done", done.len(), offsets.len()),
                }
                let last = done.last().map_or(offsets[0], |o| o + 1);
                prop_assert_eq!(schedule.committable().0, last);
                now = now + Duration::from_millis(1);
            }
            prop_assert_eq!(done, offsets);
        }
    }
}
