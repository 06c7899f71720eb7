//! Which record of a partition is next, and when? The half of the engine that sees records.
//!
//! One `Schedule` per assignment of a partition; the partition's task owns it and calls it per
//! record. It holds offsets, not data: records are named by their index, counted from 0 in the
//! order of arrival, and the task keeps the bytes.
//!
//! Upholds INV-1 (through its tracker), INV-2 (through its queue: records of an ordering unit one at
//! a time, in offset order) and INV-3 (a record whose attempt failed is tried again until it is done).

mod careful;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::caution::Caution;
use crate::done_set::DoneSet;
use crate::ids::Offset;
use crate::offset_tracker::OffsetTracker;
use crate::planted::Bug;
use crate::queue::{Entry, Queue, Units};
use crate::retry::RetryPolicy;
use crate::standing::{MOST_MARKS, Mark, Standing};
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
    /// The records of each key, one at a time; so many keys at once.
    /// A slow one, or one that waits for a retry, delays only itself.
    Key {
        /// So many records at once, of all partitions of an input in one worker.
        concurrency: NonZeroU32,
    },
    /// Nothing: each record by itself, so many at once.
    Unordered {
        /// So many records at once, of all partitions of an input in one worker.
        concurrency: NonZeroU32,
    },
}

impl Ordering {
    /// [`Key`](Self::Key) with so many records at once; 0 counts as 1.
    ///
    /// ```
    /// use pelton_engine::Ordering;
    /// assert_eq!(Ordering::key(200).concurrency(), 200);
    /// ```
    #[must_use]
    pub const fn key(concurrency: u32) -> Self {
        Self::Key { concurrency: at_least_one(concurrency) }
    }

    /// [`Unordered`](Self::Unordered) with so many records at once; 0 counts as 1.
    ///
    /// ```
    /// use pelton_engine::Ordering;
    /// assert_eq!(Ordering::unordered(200).concurrency(), 200);
    /// ```
    #[must_use]
    pub const fn unordered(concurrency: u32) -> Self {
        Self::Unordered { concurrency: at_least_one(concurrency) }
    }

    /// So many records at once.
    ///
    /// ```
    /// use pelton_engine::Ordering;
    /// assert_eq!(Ordering::Partition.concurrency(), 1);
    /// ```
    #[must_use]
    pub fn concurrency(self) -> usize {
        match self {
            Self::Partition => 1,
            Self::Key { concurrency } | Self::Unordered { concurrency } => {
                usize::try_from(concurrency.get()).unwrap_or(usize::MAX)
            }
        }
    }
}

const fn at_least_one(number: u32) -> NonZeroU32 {
    match NonZeroU32::new(number) {
        Some(number) => number,
        None => NonZeroU32::MIN,
    }
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
    /// The hash of its ordering unit, for [`Ordering::Key`]. (Two units of one hash are one: they wait
    /// for each other.)
    pub unit: u64,
}

/// One attempt at one record.
///
/// ```
/// use pelton_engine::{Item, Offset, Ordering, RetryPolicy, Schedule, Time, Turn};
///
/// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
/// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
/// let mut begun = Vec::new();
/// schedule.next_batch(Time::ZERO, |turn| {
///     begun.push(turn);
///     true
/// });
/// assert_eq!(begun, [Turn { index: 0, offset: Offset(3), attempt: 1 }]);
/// # Ok::<(), pelton_engine::Backwards>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The record, counted from 0 in the order of arrival.
    pub index: u64,
    /// Its offset.
    pub offset: Offset,
    /// How many times it has been tried, this one included.
    pub attempt: u32,
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
    /// Nothing until a record arrives or a running one ends.
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
    /// Records that are neither done nor handled.
    queue: Queue,
    /// What the last owner knew of records that are still to come, by offset.
    known: BTreeMap<Offset, Mark>,
    /// Handled records that the next flush will make done.
    handled: Vec<Offset>,
    /// Records that are still to come and not to start before these moments.
    delayed: BTreeMap<Offset, Time>,
    starting: bool,
    /// Where records that kill their workers are looked for.
    caution: Option<Caution>,
    /// So many records run in the same hands as another, which counts for them.
    spare: usize,
    bug: Option<Bug>,
    /// Commits say which records have failed, though no limit depends on it.
    says_failures: bool,
    /// Planted bug: this record counts as in hand already.
    hidden: Option<Offset>,
}

/// A record that is given up and may not become a dead letter yet waits at least so long.
const WITHHELD_WAIT: Duration = Duration::from_secs(1);

impl Schedule {
    /// An empty schedule for a partition whose next offset to read is `position`.
    ///
    /// `seed` spreads the retries of many partitions; the same seed gives the same waits.
    #[must_use]
    pub fn new(ordering: Ordering, position: Offset, retry: RetryPolicy, seed: u64) -> Self {
        Self::resuming(ordering, Standing::at(position), retry, seed)
    }

    /// The same, for a partition whose last commit said this: what was done is not handled again,
    /// under any ordering, and attempts are counted on.
    ///
    /// ```
    /// use pelton_engine::{Item, Next, Offset, Ordering, RetryPolicy, Schedule, Standing, Time};
    ///
    /// let mut before = Standing::at(Offset(3));
    /// before.done.push(Offset(3), Offset(3));
    /// let mut schedule = Schedule::resuming(Ordering::Partition, before, RetryPolicy::default(), 1);
    /// schedule.push([3, 4].map(|offset| Item { offset: Offset(offset), unit: 0 }))?;
    /// assert_eq!(schedule.next(Time::ZERO), Next::Start { index: 1, offset: Offset(4), attempt: 1 });
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    #[must_use]
    pub fn resuming(ordering: Ordering, before: Standing, retry: RetryPolicy, seed: u64) -> Self {
        Self {
            ordering,
            retry,
            seed,
            known: known_of(&before),
            tracker: OffsetTracker::resuming(before.done),
            queue: Queue::new(match ordering {
                Ordering::Partition => Units::One,
                Ordering::Key { .. } => Units::Many,
                Ordering::Unordered { .. } => Units::None,
            }),
            handled: Vec::new(),
            delayed: BTreeMap::new(),
            starting: true,
            caution: None,
            spare: 0,
            bug: None,
            says_failures: retry.limit.is_some(),
            hidden: None,
        }
    }

    /// Commits say which records have failed, though no limit of attempts or time depends on it.
    ///
    /// ```
    /// use pelton_engine::{Finish, Item, Offset, Ordering, RetryPolicy, Schedule, Time};
    ///
    /// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
    /// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
    /// schedule.next(Time::ZERO);
    /// schedule.finished(0, Finish::Retry, Time::ZERO);
    /// assert!(schedule.seal(Time::ZERO).marks.is_empty());
    /// schedule.say_failures();
    /// assert_eq!(schedule.seal(Time::ZERO).marks.len(), 1);
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn say_failures(&mut self) {
        self.says_failures = true;
    }

    /// Do commits say which records have failed?
    #[must_use]
    pub fn says_failures(&self) -> bool {
        self.says_failures
    }

    /// Plants a known bug (tests only; without the feature `planted-bugs` it does nothing).
    /// `in_hand` is the record that its partition's assignment before had in hand when it ended.
    pub fn plant(&mut self, bug: Option<Bug>, in_hand: Option<Offset>) {
        self.bug = bug;
        self.queue.plant(bug);
        self.caution.iter_mut().for_each(|caution| caution.plant(bug));
        self.hidden = in_hand.filter(|_| Bug::StaleHidesFresh.is(bug));
    }

    /// The record at `offset`, which is still to come, does not start before this moment, and what is
    /// behind it in its unit waits with it.
    pub fn delay(&mut self, offset: Offset, not_before: Time) {
        self.delayed.insert(offset, not_before);
    }

    /// Takes in the records of a run, in order. They get the next indices.
    ///
    /// # Errors
    ///
    /// If an offset is not above every offset before it; the records before it are taken.
    pub fn push(&mut self, items: impl IntoIterator<Item = Item>) -> Result<(), Backwards> {
        for Item { offset, unit } in items {
            let expected = self.tracker.expected();
            let goes_back = offset < expected;
            if goes_back && !Bug::DuplicatesPass.is(self.bug) {
                return Err(Backwards { offset, expected });
            }
            let index = self.queue.end();
            let not_before = self.delayed.remove(&offset);
            if Bug::SkipRecords.is(self.bug) && index % 50 == 49 {
                self.queue.skip();
                continue;
            }
            let is_open = self.tracker.arrived(offset) || goes_back;
            if !is_open || self.hidden == Some(offset) {
                self.queue.skip();
                continue;
            }
            let unit = match self.ordering {
                Ordering::Partition => 0,
                Ordering::Key { .. } if !Bug::KeyOrderForgotten.is(self.bug) => unit,
                Ordering::Key { .. } | Ordering::Unordered { .. } => index,
            };
            let mark = self.known.remove(&offset).unwrap_or_else(|| Mark::of(offset));
            self.queue.push(offset, unit, mark.attempts, mark.waited, not_before);
        }
        Ok(())
    }

    /// The record to handle now, if there is one, nothing else of its unit runs, and not as many run
    /// as may.
    pub fn next(&mut self, now: Time) -> Next {
        let mut started = None;
        self.next_batch(now, |turn| {
            started = Some(turn);
            false
        });
        match started {
            Some(Turn { index, offset, attempt }) => Next::Start { index, offset, attempt },
            None if !self.may_start() || self.is_held(now) => Next::Idle,
            None => self.queue.next_retry().map_or(Next::Idle, Next::WaitUntil),
        }
    }

    /// The records to handle now in the same hands: of each unit the first ones, in order. Each is
    /// given to `take`, which says whether there is room for another. A record that has failed before
    /// is a batch of its own, so that it spoils no other. Returns how many there are; of how many may
    /// run at once they are one.
    ///
    /// Each is finished as if it had been started alone, in this order, and the batch itself with
    /// [`batch_ended`](Self::batch_ended).
    ///
    /// ```
    /// use pelton_engine::{Item, Offset, Ordering, RetryPolicy, Schedule, Time};
    ///
    /// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), RetryPolicy::default(), 1);
    /// schedule.push([3, 4, 5].map(|offset| Item { offset: Offset(offset), unit: 0 }))?;
    /// let mut batch = Vec::new();
    /// let records = schedule.next_batch(Time::ZERO, |turn| {
    ///     batch.push(turn.offset);
    ///     batch.len() < 2
    /// });
    /// assert_eq!((records, batch), (2, vec![Offset(3), Offset(4)]));
    /// assert_eq!(schedule.in_hand(), 1);
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn next_batch(&mut self, now: Time, mut take: impl FnMut(Turn) -> bool) -> usize {
        if !self.may_start() {
            return 0;
        }
        if Bug::RetryOutOfOrder.is(self.bug) && !self.queue.is_due(now) {
            self.queue.let_the_second_pass();
        }
        let (mut records, mut goes_on) = (0_usize, true);
        while goes_on && (records == 0 || !self.queue.next_comes_alone(now)) && !self.is_held(now) {
            let is_condemned = self.is_next_condemned(now);
            if is_condemned && records > 0 {
                break;
            }
            let Some((mut last, entry)) = self.start(now) else { break };
            let is_alone = entry.attempts > 1 || entry.is_apart || is_condemned;
            (goes_on, records) = (take(turn(last, entry)) && !is_alone, records + 1);
            while goes_on
                && self.queue.peek_next(last).is_some_and(|next| self.may_follow(next))
                && let Some((next, entry)) = self.queue.start_next(last, now)
            {
                self.note_start(entry.offset);
                (goes_on, records) = (take(turn(next, entry)), records + 1);
                last = next;
            }
        }
        self.spare += records.saturating_sub(1);
        records
    }

    /// A batch of so many is through, or what is left of it is on its own from now on.
    pub fn batch_ended(&mut self, records: usize) {
        self.spare = self.spare.saturating_sub(records.saturating_sub(1));
    }

    /// The record was in a batch that failed as a whole: it is a batch of its own from its next attempt on,
    /// so that it is seen whose fault that was.
    ///
    /// ```
    /// use pelton_engine::{Finish, Item, Offset, Ordering, RetryPolicy, Schedule, Time};
    /// use std::time::Duration;
    ///
    /// let retry = RetryPolicy::fixed(Duration::ZERO);
    /// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), retry, 1);
    /// schedule.push([3, 4, 5].map(|offset| Item { offset: Offset(offset), unit: 0 }))?;
    /// assert_eq!(schedule.next_batch(Time::ZERO, |_| true), 3);
    /// for (index, finish) in [(0, Finish::Retry), (1, Finish::Cancelled), (2, Finish::Cancelled)] {
    ///     schedule.set_apart(index);
    ///     schedule.finished(index, finish, Time::ZERO);
    /// }
    /// schedule.batch_ended(3);
    /// for index in 0..3 {
    ///     assert_eq!(schedule.next_batch(Time::ZERO, |_| true), 1);
    ///     schedule.finished(index, Finish::Done, Time::ZERO);
    /// }
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn set_apart(&mut self, index: u64) {
        self.queue.set_apart(index);
    }

    /// Is the next record to start a batch of its own?
    #[must_use]
    pub fn next_comes_alone(&self, now: Time) -> bool {
        self.queue.next_comes_alone(now)
    }

    /// How many run, where a batch counts as one.
    #[must_use]
    pub fn in_hand(&self) -> usize {
        self.queue.running_records().saturating_sub(self.spare)
    }

    /// Records that wait for their turn and not for a retry, whether their unit is free or not.
    #[must_use]
    pub fn lingering_records(&self) -> usize {
        self.queue.records() - self.queue.running_records() - self.queue.retries()
    }

    /// Has an attempt at a record before it in the same batch failed? Then it is to be handled again,
    /// or its unit would be out of order.
    #[must_use]
    pub fn is_overtaken(&self, index: u64) -> bool {
        !self.queue.is_first(index)
    }

    fn may_start(&self) -> bool {
        self.starting && self.in_hand() < self.ordering.concurrency()
    }

    /// Would [`next`](Self::next) start a record?
    #[must_use]
    pub fn is_due(&self, now: Time) -> bool {
        self.may_start() && self.queue.is_due(now) && !self.is_held(now)
    }

    /// How many records could start now; of many, not all: as these start, others show.
    #[must_use]
    pub fn due_records(&self, now: Time) -> usize {
        let room = self.ordering.concurrency().saturating_sub(self.in_hand());
        let passes = Bug::RetryOutOfOrder.is(self.bug) && self.queue.a_second_waits();
        let due = self.queue.due_records(now).max(usize::from(passes));
        let alone = self.caution.as_ref().is_some_and(Caution::is_alone);
        let room = if alone { room.min(1) } else { room };
        if self.starting && !self.is_held(now) { due.min(room) } else { 0 }
    }

    /// When the first of the records that wait for a retry is due.
    #[must_use]
    pub fn next_retry(&self) -> Option<Time> {
        self.queue.next_retry().filter(|_| self.starting)
    }

    /// How many records run.
    #[must_use]
    pub fn running_records(&self) -> usize {
        self.queue.running_records()
    }

    /// An attempt at record `index` has failed: may it be tried again?
    #[must_use]
    pub fn may_retry(&self, index: u64, now: Time) -> bool {
        self.queue
            .running(index)
            .is_none_or(|entry| self.retry.may_retry(entry.failures() + 1, entry.tried_for(now)))
    }

    /// The attempts at record `index`, which runs, say nothing of it, and it is to be tried again: its
    /// limit counts from the next one on.
    ///
    /// ```
    /// use pelton_engine::{Finish, Item, Offset, Ordering, RetryPolicy, Schedule, Time};
    /// use std::time::Duration;
    ///
    /// let retry = RetryPolicy::fixed(Duration::ZERO).at_most(1);
    /// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), retry, 1);
    /// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
    /// schedule.next(Time::ZERO);
    /// schedule.forgive(0); // it was an outage
    /// schedule.finished(0, Finish::Retry, Time::ZERO);
    /// assert!(schedule.seal(Time::ZERO).marks.is_empty());
    /// schedule.next(Time::ZERO);
    /// assert!(!schedule.may_retry(0, Time::ZERO)); // it was its own fault
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn forgive(&mut self, index: u64) {
        self.queue.forgive(index);
    }

    /// The last attempt at record `index`, which runs, says nothing of it, and it is to be tried again; what
    /// failed before counts on.
    ///
    /// ```
    /// use pelton_engine::{Finish, Item, Offset, Ordering, RetryPolicy, Schedule, Time};
    /// use std::time::Duration;
    ///
    /// let retry = RetryPolicy::fixed(Duration::ZERO).at_most(2);
    /// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), retry, 1);
    /// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
    /// for its_own_fault in [true, false] {
    ///     schedule.next(Time::ZERO);
    ///     if !its_own_fault {
    ///         schedule.forgive_last(0);
    ///     }
    ///     schedule.finished(0, Finish::Retry, Time::ZERO);
    /// }
    /// assert_eq!(schedule.seal(Time::ZERO).marks[0].attempts, 1);
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn forgive_last(&mut self, index: u64) {
        self.queue.forgive_last(index);
    }

    /// The same as [`forgive`](Self::forgive) of all records, those included that are still to come and have failed elsewhere.
    ///
    /// ```
    /// use pelton_engine::{Finish, Item, Offset, Ordering, RetryPolicy, Schedule, Time};
    /// use std::time::Duration;
    ///
    /// let retry = RetryPolicy::fixed(Duration::ZERO).at_most(3);
    /// let mut schedule = Schedule::new(Ordering::Partition, Offset(3), retry, 1);
    /// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
    /// schedule.next(Time::ZERO);
    /// schedule.finished(0, Finish::Retry, Time::ZERO);
    /// assert_eq!(schedule.seal(Time::ZERO).marks.len(), 1);
    /// schedule.forgive_all();
    /// assert!(schedule.seal(Time::ZERO).marks.is_empty()); // the next owner knows of no failure
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn forgive_all(&mut self) {
        self.queue.forgive_all();
        for mark in self.known.values_mut() {
            *mark = Mark { deaths: mark.deaths, ..Mark::of(mark.offset) };
        }
    }

    /// The attempt at record `index` has ended. Ignored if that record is not running.
    pub fn finished(&mut self, index: u64, finish: Finish, now: Time) {
        let Some(entry) = self.queue.running(index) else { return };
        self.note_end(entry.offset, finish);
        self.known.remove(&entry.offset); // the queue knows better
        match finish {
            Finish::Done => {
                self.queue.leave(index);
                self.tracker.done(entry.offset);
            }
            Finish::Handled => {
                self.queue.leave(index);
                self.handled.push(entry.offset);
            }
            Finish::Retry if Bug::DropFailedRecord.is(self.bug) => {
                self.queue.leave(index);
                self.tracker.done(entry.offset);
            }
            Finish::Retry => {
                // Units that failed together do not come back together.
                let wait = self.retry.backoff(entry.attempts, self.seed ^ entry.unit);
                // It is not handled, only asked after: not without end in one breath.
                let withheld = self.is_condemned(entry.offset);
                let wait = if withheld { wait.max(WITHHELD_WAIT) } else { wait };
                self.queue.retry(index, now + wait);
            }
            Finish::Cancelled if self.is_overtaken(index) => {
                self.queue.back_in_line(index);
            }
            Finish::Cancelled => self.queue.give_back(index),
        }
    }

    /// The slot's flush succeeded: what was handled before it is done.
    pub fn flushed(&mut self) {
        for offset in self.handled.drain(..) {
            if let Some(caution) = &mut self.caution {
                caution.done(offset);
            }
            self.tracker.done(offset);
        }
    }

    /// A drain or a loss: nothing starts any more, what waits is dropped (it is not done).
    /// Returns how many records were dropped.
    pub fn stop_starting(&mut self, now: Time) -> usize {
        self.starting = false;
        // What is known of them is still to be said.
        self.known = self.marks(now).into_iter().map(|mark| (mark.offset, mark)).collect();
        if let Some(caution) = &mut self.caution {
            caution.end();
        }
        if Bug::RetryDoneByDrain.is(self.bug) {
            self.queue.first_retry().into_iter().for_each(|offset| self.tracker.done(offset));
        }
        self.queue.drop_waiting()
    }

    /// The offset to commit: the next one to read after a restart.
    #[must_use]
    pub fn committable(&self) -> Offset {
        let offset = self.tracker.committable();
        if Bug::CommitOffByOne.is(self.bug) && self.queue.records() > 0 {
            offset.next()
        } else if Bug::CommitHighestSeen.is(self.bug) && self.queue.records() == 0 {
            self.tracker.expected()
        } else {
            offset
        }
    }

    /// What to commit: that offset, what is done above it, where a limit of retries or deaths depends
    /// on it what is known of records that have failed or killed, and what may be in hand from now on.
    #[must_use]
    pub fn seal(&mut self, now: Time) -> Standing {
        let (base, running) = (self.committable(), self.queue.running_records());
        let window = self.caution.as_mut().and_then(|caution| {
            caution.seal(running);
            caution.said(base, running)
        });
        let (done, marks) = (self.done_set(), self.marks(now));
        Standing { done, marks, window, ..Standing::at(base) }
    }

    fn marks(&self, now: Time) -> Vec<Mark> {
        let mut marks = BTreeMap::new();
        if self.says_failures {
            let failed = self.queue.failed().map(|entry| Mark {
                attempts: entry.failures(),
                waited: whole_seconds(entry.tried_for(now)),
                ..Mark::of(entry.offset)
            });
            let known = self.known.values().copied().map(|mark| Mark { deaths: 0, ..mark });
            let all = failed.chain(known).take(MOST_MARKS);
            marks.extend(all.map(|mark| (mark.offset, mark)));
        }
        for (offset, deaths) in self.caution.iter().flat_map(Caution::known) {
            marks.entry(offset).or_insert_with(|| Mark::of(offset)).deaths = deaths;
        }
        // There may not be room for all: first those that kill.
        let mut marks: Vec<_> = marks.into_values().collect();
        marks.sort_by_key(|mark| mark.deaths == 0);
        marks
    }

    fn done_set(&self) -> DoneSet {
        let (done, offset) = (self.tracker.done_set(), self.committable());
        if Bug::DoneSetNamesRunning.is(self.bug) {
            let mut all = DoneSet::above(offset);
            all.push(offset.next(), Offset(self.tracker.expected().0 - 1));
            return all;
        }
        if done.base() == offset { done } else { DoneSet::above(offset) } // a planted bug
    }

    /// The lowest offset that may arrive next.
    #[must_use]
    pub fn expected(&self) -> Offset {
        self.tracker.expected()
    }

    /// The index of the first record whose bytes are still needed.
    #[must_use]
    pub fn first_needed(&self) -> u64 {
        self.queue.first_needed()
    }

    /// Are the bytes of the record with this index still needed?
    #[must_use]
    pub fn is_needed(&self, index: u64) -> bool {
        self.queue.is_needed(index)
    }

    /// Records that have arrived: the index that the next one gets.
    #[must_use]
    pub fn arrived_records(&self) -> u64 {
        self.queue.end()
    }

    /// Records that have arrived and are not done or handled.
    #[must_use]
    pub fn waiting_records(&self) -> usize {
        self.queue.records()
    }

    /// Is an attempt running?
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.queue.running_records() > 0
    }

    /// What is kept in order.
    #[must_use]
    pub fn ordering(&self) -> Ordering {
        self.ordering
    }
}

fn known_of(before: &Standing) -> BTreeMap<Offset, Mark> {
    let is_open =
        |mark: &&Mark| mark.offset >= before.offset() && !before.done.contains(mark.offset);
    before.marks.iter().filter(is_open).map(|mark| (mark.offset, *mark)).collect()
}

fn turn(index: u64, entry: Entry) -> Turn {
    Turn { index, offset: entry.offset, attempt: entry.attempts }
}

/// Marks say whole seconds; what changes within one is not worth a commit.
fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs())
}

#[cfg(test)]
mod crash_tests;
#[cfg(test)]
mod tests;
