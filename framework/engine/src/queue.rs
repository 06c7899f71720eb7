//! Which record of a partition may start, while those of one ordering unit keep their order?
//!
//! Each unit is a line of records; its first one is ready, running, or waits for its retry, and lets
//! nobody pass. Lines whose first record is ready take turns. A line costs memory only while it has
//! records.
//!
//! Records stand in line when their turn is near and not when they arrive, in that order: as many as it
//! takes for enough of them to be ready. So the lines stay few, records start close to the order of their
//! offsets, and what is at work fits the processor's caches, however much has been fetched ahead.
//!
//! Upholds INV-2: records of an ordering unit one at a time, in offset order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::ids::Offset;
use crate::line_table::LineTable;
use crate::planted::Bug;
use crate::time::Time;

/// The records of a partition that are neither done nor handled, by their indices.
#[derive(Debug)]
pub(crate) struct Queue {
    /// From index `first` on; none where one has gone.
    records: VecDeque<Option<Entry>>,
    first: u64,
    waiting: usize,
    lines: Lines,
    /// Those from this index on stand in no line yet.
    unlined: u64,
    /// Nobody joins a line while so many are ready ([`ENOUGH`]).
    enough: usize,
    /// First ones of their lines, in the order in which they became ready.
    ready: VecDeque<u64>,
    /// First ones of their lines that wait, by their moments.
    retries: BTreeSet<(Time, u64)>,
    /// Those behind them that are not to start before these moments, by their indices.
    delays: BTreeMap<u64, Time>,
    running: usize,
    bug: Option<Bug>,
}

/// A record. There may be a hundred thousand of them: it is kept small.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) offset: Offset,
    pub(crate) unit: u64,
    /// The next one of its unit, or [`NONE`].
    next: u64,
    /// Nanoseconds for which it has been tried elsewhere; once it is tried here, the moment at which all
    /// of that began, as if it had been here.
    tried: i64,
    pub(crate) attempts: u32,
    /// So many of them count for no limit.
    forgiven: u32,
    state: State,
    is_tried_here: bool,
    /// Nothing of its unit comes before it.
    is_first: bool,
    /// In hand it is alone.
    pub(crate) is_apart: bool,
}

/// While so many are ready nobody joins a line: as many as a slot takes at once. The histories of this
/// crate's tests are short.
const ENOUGH: usize = if cfg!(test) { 2 } else { 32 };

/// No record has this index.
const NONE: u64 = u64::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In no line yet.
    Arrived,
    /// Others of its unit come first.
    InLine,
    Ready,
    Running,
    /// For its retry.
    Waiting,
}

/// Where the record is whose turn it is.
enum Due {
    Retry(Time, u64),
    /// Its place among those that are ready.
    Ready(usize),
}

/// The last record of each unit that has any.
#[derive(Debug)]
enum Lines {
    /// All records are of one unit.
    One(Option<u64>),
    Many(LineTable),
    /// Each record is a unit of its own.
    None,
}

/// Which records are of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Units {
    One,
    Many,
    /// Each by itself.
    None,
}

impl Entry {
    /// How many attempts have failed, here and elsewhere, that are not forgiven.
    pub(crate) fn failures(&self) -> u32 {
        self.attempts.saturating_sub(u32::from(self.is_running())).saturating_sub(self.forgiven)
    }

    /// How long it has been tried, here and elsewhere.
    pub(crate) fn tried_for(&self, now: Time) -> Duration {
        let here = || nanoseconds(now).saturating_sub(self.tried);
        let tried = if self.is_tried_here { here() } else { self.tried };
        Duration::from_nanos(u64::try_from(tried).unwrap_or(0))
    }

    /// It is tried here from now on, if it is not yet.
    fn begin(&mut self, now: Time) {
        if !std::mem::replace(&mut self.is_tried_here, true) {
            self.tried = nanoseconds(now).saturating_sub(self.tried);
        }
    }

    /// It was begun and is given back: nobody has tried it, however long it waits now.
    fn was_not_tried(&mut self) {
        self.attempts = self.attempts.saturating_sub(1);
        self.forgiven = self.forgiven.min(self.attempts);
        if self.attempts == 0 {
            (self.tried, self.is_tried_here) = (0, false);
        }
    }

    /// Is an attempt under way?
    pub(crate) fn is_running(&self) -> bool {
        self.state == State::Running
    }
}

impl Queue {
    /// An empty one.
    pub(crate) fn new(units: Units) -> Self {
        Self {
            records: VecDeque::new(),
            first: 0,
            waiting: 0,
            lines: match units {
                Units::One => Lines::One(None),
                Units::Many => Lines::Many(LineTable::default()),
                Units::None => Lines::None,
            },
            unlined: 0,
            enough: ENOUGH,
            ready: VecDeque::new(),
            retries: BTreeSet::new(),
            delays: BTreeMap::new(),
            running: 0,
            bug: None,
        }
    }

    pub(crate) fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
        if Bug::RetryOutOfOrder.is(bug) {
            self.enough = usize::MAX; // who is to pass must stand in line
        }
    }

    /// The next record is here, and needs no work.
    pub(crate) fn skip(&mut self) {
        self.records.push_back(None);
        self.forget_gone();
    }

    /// The next record is here, after so many attempts elsewhere that took so long; it gets the
    /// next index.
    /// It waits until `not_before`, if it is to.
    pub(crate) fn push(
        &mut self,
        offset: Offset,
        unit: u64,
        attempts: u32,
        waited: Duration,
        not_before: Option<Time>,
    ) {
        self.delays.extend(not_before.map(|at| (self.end(), at)));
        self.records.push_back(Some(Entry {
            offset,
            unit,
            next: NONE,
            tried: i64::try_from(waited.as_nanos()).unwrap_or(i64::MAX),
            attempts,
            forgiven: 0,
            state: State::Arrived,
            is_tried_here: false,
            is_first: false,
            is_apart: false,
        }));
        self.waiting += 1;
        self.line_up();
    }

    /// Records join their lines until enough are ready, or all stand in line.
    fn line_up(&mut self) {
        while self.ready.len() < self.enough && self.unlined < self.end() {
            let index = self.unlined;
            self.unlined += 1;
            if let Some(entry) = self.entry(index) {
                self.join(index, entry.unit);
            }
        }
    }

    /// The record joins the line of its unit.
    fn join(&mut self, index: u64, unit: u64) {
        if let Some(before) = self.lines.extend(unit, index) {
            self.entry_mut(before, |entry| entry.next = index);
            self.entry_mut(index, |entry| entry.state = State::InLine);
        } else {
            let state = self.comes_first(index);
            self.entry_mut(index, |entry| (entry.state, entry.is_first) = (state, true));
        }
    }

    /// Nothing of its unit is before the record any more: it is ready, or waits for its moment.
    fn comes_first(&mut self, index: u64) -> State {
        let waits_until = if self.delays.is_empty() { None } else { self.delays.remove(&index) };
        if let Some(at) = waits_until {
            self.retries.insert((at, index));
            State::Waiting
        } else {
            self.ready.push_back(index);
            State::Ready
        }
    }

    /// Starts the record whose turn it is among those that `may`; its index, and how it stands now. A
    /// retry that is due comes before what was never tried.
    pub(crate) fn start(
        &mut self,
        now: Time,
        may: impl Fn(Offset) -> bool,
    ) -> Option<(u64, Entry)> {
        let index = match self.due(now, may)? {
            Due::Retry(at, index) => {
                self.retries.remove(&(at, index));
                index
            }
            Due::Ready(0) => self.ready.pop_front()?,
            Due::Ready(place) => self.ready.remove(place)?,
        };
        self.running += 1;
        self.entry_mut(index, |entry| {
            entry.state = State::Running;
            entry.attempts = entry.attempts.saturating_add(1);
            entry.begin(now);
        });
        self.line_up();
        Some((index, self.entry(index)?))
    }

    /// The record behind this running one in its line, if it is the first time for it: it runs, too,
    /// in the same hands.
    pub(crate) fn start_next(&mut self, index: u64, now: Time) -> Option<(u64, Entry)> {
        let next = self.running(index)?.next;
        self.peek_next(index)?;
        self.running += 1;
        self.entry_mut(next, |entry| {
            entry.state = State::Running;
            entry.attempts = 1;
            entry.begin(now);
        });
        Some((next, self.entry(next)?))
    }

    /// The record that [`start`](Self::start) would start.
    pub(crate) fn peek(&self, now: Time, may: impl Fn(Offset) -> bool) -> Option<Entry> {
        match self.due(now, may)? {
            Due::Retry(_, index) => self.entry(index),
            Due::Ready(place) => self.entry(*self.ready.get(place)?),
        }
    }

    fn due(&self, now: Time, may: impl Fn(Offset) -> bool) -> Option<Due> {
        let may = |index: u64| self.entry(index).is_some_and(|entry| may(entry.offset));
        let mut retries = self.retries.iter().take_while(|(at, _)| *at <= now);
        if let Some((at, index)) = retries.find(|(_, index)| may(*index)) {
            return Some(Due::Retry(*at, *index));
        }
        self.ready.iter().position(|index| may(*index)).map(Due::Ready)
    }

    /// The record that [`start_next`](Self::start_next) would start.
    pub(crate) fn peek_next(&self, index: u64) -> Option<Entry> {
        let next = self.running(index)?.next;
        let may = |entry: &Entry| entry.state == State::InLine && entry.attempts == 0;
        self.entry(next).filter(|entry| may(entry) && !entry.is_apart && self.is_not_delayed(next))
    }

    fn is_not_delayed(&self, index: u64) -> bool {
        self.delays.is_empty() || !self.delays.contains_key(&index)
    }

    /// Would [`start`](Self::start) start one?
    pub(crate) fn is_due(&self, now: Time) -> bool {
        !self.ready.is_empty() || self.next_retry().is_some_and(|at| at <= now)
    }

    /// When the first of those that wait may be tried again.
    pub(crate) fn next_retry(&self) -> Option<Time> {
        self.retries.first().map(|(at, _)| *at)
    }

    /// The first of those that wait.
    pub(crate) fn first_retry(&self) -> Option<Offset> {
        let (_, index) = self.retries.first()?;
        self.entry(*index).map(|entry| entry.offset)
    }

    /// Records that have failed and are not done, by offset.
    pub(crate) fn failed(&self) -> impl Iterator<Item = Entry> + '_ {
        self.records.iter().flatten().copied().filter(|entry| entry.failures() > 0)
    }

    /// The record, if it runs.
    pub(crate) fn running(&self, index: u64) -> Option<Entry> {
        self.entry(index).filter(|entry| entry.state == State::Running)
    }

    /// How many wait for a retry.
    pub(crate) fn retries(&self) -> usize {
        self.retries.len()
    }

    /// Is the one that starts next one that has failed before, or is to be alone?
    pub(crate) fn next_comes_alone(&self, now: Time) -> bool {
        let due = self.next_retry().is_some_and(|at| at <= now);
        let ready = self.ready.front().and_then(|index| self.entry(*index));
        due || ready.is_some_and(|entry| entry.attempts > 0 || entry.is_apart)
    }

    /// The record is in hand alone from its next attempt on.
    pub(crate) fn set_apart(&mut self, index: u64) {
        self.entry_mut(index, |entry| entry.is_apart = true);
    }

    /// How many could start now if nobody limited it; of many, not all.
    pub(crate) fn due_records(&self, now: Time) -> usize {
        let due = self.retries.iter().take_while(|(at, _)| *at <= now).count();
        self.ready.len() + due
    }

    /// How many run.
    pub(crate) fn running_records(&self) -> usize {
        self.running
    }

    /// A running record leaves; the next one of its unit is ready.
    pub(crate) fn leave(&mut self, index: u64) {
        let Some(entry) = self.running(index) else { return };
        self.running -= 1;
        self.remove(index);
        let next = entry.next;
        if next == NONE {
            return self.lines.close(entry.unit);
        }
        self.entry_mut(next, |entry| entry.is_first = true);
        let waits = self.entry(next).is_some_and(|entry| entry.state == State::InLine);
        // In the same hands, it runs already.
        if waits && !Bug::NextOfItsKeyForgotten.is(self.bug) {
            let state = self.comes_first(next);
            self.entry_mut(next, |entry| entry.state = state);
        }
    }

    /// The attempts at a running record, and its time, count for no limit; the next one is as its first.
    pub(crate) fn forgive(&mut self, index: u64) {
        self.entry_mut(index, |entry| {
            (entry.forgiven, entry.tried, entry.is_tried_here) = (entry.attempts, 0, false);
        });
    }

    /// The attempt at a running record that has just failed counts for no limit.
    pub(crate) fn forgive_last(&mut self, index: u64) {
        self.entry_mut(index, |entry| {
            entry.forgiven = entry.forgiven.saturating_add(1).min(entry.attempts);
            if entry.forgiven == entry.attempts {
                (entry.tried, entry.is_tried_here) = (0, false);
            }
        });
    }

    /// The same of all that have been tried.
    pub(crate) fn forgive_all(&mut self) {
        let tried = |index: &u64| self.entry(*index).is_some_and(|e| e.attempts > e.forgiven);
        let all: Vec<u64> = (self.first..self.end()).filter(tried).collect();
        all.into_iter().for_each(|index| self.forgive(index));
    }

    /// A running record waits until `at`, and its unit with it.
    pub(crate) fn retry(&mut self, index: u64, at: Time) {
        if self.running(index).is_some() {
            self.running -= 1;
            self.entry_mut(index, |entry| entry.state = State::Waiting);
            self.retries.insert((at, index));
        }
    }

    /// A running record stands in line again, as if it had not been tried: one before it, in the same
    /// hands, has failed.
    pub(crate) fn back_in_line(&mut self, index: u64) {
        if self.running(index).is_some() {
            self.running -= 1;
            self.entry_mut(index, |entry| {
                entry.state = State::InLine;
                entry.was_not_tried();
            });
        }
    }

    /// Does the record come first in its line?
    pub(crate) fn is_first(&self, index: u64) -> bool {
        self.entry(index).is_some_and(|entry| entry.is_first)
    }

    /// A running record is ready again, before all others, as if it had not been tried.
    pub(crate) fn give_back(&mut self, index: u64) {
        if self.running(index).is_some() {
            self.running -= 1;
            self.entry_mut(index, |entry| {
                entry.state = State::Ready;
                entry.was_not_tried();
            });
            self.ready.push_front(index);
        }
    }

    /// Planted bug: has the first one that waits a second one behind it, which was never tried? (Two that
    /// fail always would pass each other without end.)
    pub(crate) fn a_second_waits(&self) -> bool {
        let first = self.retries.first().and_then(|(_, first)| self.entry(*first));
        let second = first.and_then(|first| self.entry(first.next));
        second.is_some_and(|second| second.attempts == 0)
    }

    /// Planted bug: while the first one waits, the second one of its unit does not.
    pub(crate) fn let_the_second_pass(&mut self) {
        let Some((at, first)) = self.retries.first().copied() else { return };
        let Some(entry) = self.entry(first) else { return };
        let second = entry.next;
        if !self.a_second_waits() {
            return;
        }
        let third = self.entry(second).map_or(NONE, |entry| entry.next);
        self.retries.remove(&(at, first));
        self.entry_mut(first, |entry| {
            (entry.state, entry.next, entry.is_first) = (State::InLine, third, false);
        });
        self.entry_mut(second, |entry| {
            (entry.state, entry.next, entry.is_first) = (State::Ready, first, true);
        });
        if third == NONE {
            self.lines.extend(entry.unit, first);
        }
        self.ready.push_back(second);
    }

    /// Drops all that do not run; how many.
    pub(crate) fn drop_waiting(&mut self) -> usize {
        let before = self.waiting;
        for index in self.first..self.end() {
            if self.entry(index).is_some_and(|entry| entry.state != State::Running) {
                self.remove(index);
            }
        }
        // Of each line only those that run are left.
        self.lines.clear();
        for index in self.first..self.end() {
            let Some(entry) = self.entry(index) else { continue };
            let before = self.lines.extend(entry.unit, index);
            self.entry_mut(index, |entry| (entry.next, entry.is_first) = (NONE, before.is_none()));
            if let Some(before) = before {
                self.entry_mut(before, |entry| entry.next = index);
            }
        }
        self.ready.clear();
        self.retries.clear();
        self.delays.clear();
        before - self.waiting
    }

    /// The index of the first record whose bytes are still needed.
    pub(crate) fn first_needed(&self) -> u64 {
        self.first
    }

    /// Does the record wait or run?
    pub(crate) fn is_needed(&self, index: u64) -> bool {
        self.entry(index).is_some()
    }

    /// The index that the next record gets.
    pub(crate) fn end(&self) -> u64 {
        self.first + self.records.len() as u64
    }

    /// Records that wait or run.
    pub(crate) fn records(&self) -> usize {
        self.waiting
    }

    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    fn entry(&self, index: u64) -> Option<Entry> {
        *self.records.get(self.place(index)?)?
    }

    fn entry_mut(&mut self, index: u64, change: impl FnOnce(&mut Entry)) {
        let place = self.place(index);
        let record = place.and_then(|place| self.records.get_mut(place));
        if let Some(entry) = record.and_then(Option::as_mut) {
            change(entry);
        }
    }

    fn remove(&mut self, index: u64) {
        let place = self.place(index);
        if let Some(record) = place.and_then(|place| self.records.get_mut(place)) {
            self.waiting -= usize::from(record.take().is_some());
        }
        self.forget_gone();
    }

    fn forget_gone(&mut self) {
        while self.records.front().is_some_and(Option::is_none) {
            self.records.pop_front();
            self.first += 1;
        }
        self.unlined = self.unlined.max(self.first);
    }
}

fn nanoseconds(time: Time) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

impl Lines {
    /// This one is the last of its unit from now on; the one that was before.
    fn extend(&mut self, unit: u64, index: u64) -> Option<u64> {
        match self {
            Self::One(last) => last.replace(index),
            Self::Many(lines) => lines.insert(unit, index),
            Self::None => None,
        }
    }

    fn clear(&mut self) {
        match self {
            Self::One(last) => *last = None,
            Self::Many(lines) => lines.clear(),
            Self::None => {}
        }
    }

    fn close(&mut self, unit: u64) {
        match self {
            Self::One(last) => *last = None,
            Self::Many(lines) => lines.remove(unit),
            Self::None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_slow_unit_delays_only_itself() {
        let mut queue = Queue::new(Units::Many);
        for (offset, unit) in [(0, 7), (1, 7), (2, 8), (3, 9)] {
            queue.push(Offset(offset), unit, 0, Duration::ZERO, None);
        }
        let started: Vec<_> = std::iter::from_fn(|| queue.start(Time::ZERO, |_| true))
            .map(|(index, _)| index)
            .collect();
        assert_eq!(started, [0, 2, 3], "the second of unit 7 waits");
        queue.leave(2);
        assert!(queue.start(Time::ZERO, |_| true).is_none());
        assert_eq!(queue.first_needed(), 0);
        queue.leave(0);
        assert_eq!(queue.start(Time::ZERO, |_| true).map(|(index, _)| index), Some(1));
        assert_eq!((queue.first_needed(), queue.records()), (1, 2));
    }

    #[test]
    fn a_retry_holds_its_unit_back_and_comes_first_when_it_is_due() {
        let mut queue = Queue::new(Units::Many);
        for (offset, unit) in [(0, 7), (1, 7), (2, 8), (3, 8)] {
            queue.push(Offset(offset), unit, 0, Duration::ZERO, None);
        }
        queue.start(Time::ZERO, |_| true);
        queue.retry(0, Time::ZERO + MS);
        assert_eq!(queue.start(Time::ZERO, |_| true).map(|(index, _)| index), Some(2));
        queue.leave(2);
        let (index, entry) = queue.start(Time::ZERO + MS, |_| true).expect("it is due");
        assert_eq!((index, entry.attempts), (0, 2));
    }

    /// A record stood in a batch behind one that failed, was begun and given back, waited for that one's
    /// 15 s, and failed once, for a panic of a third: it was given up as one that had been tried for 15 s.
    /// (Seed 83 of the simulator.)
    #[test]
    fn a_record_that_is_given_back_has_been_tried_for_no_time() {
        for is_first in [true, false] {
            let mut queue = Queue::new(Units::One);
            for offset in [0, 1] {
                queue.push(Offset(offset), 0, 0, Duration::ZERO, None);
            }
            queue.start(Time::ZERO, |_| true);
            queue.start_next(0, Time::ZERO);
            queue.back_in_line(1);
            queue.give_back(0);
            queue.start(Time::ZERO + 9 * MS, |_| true);
            let index = u64::from(!is_first);
            if !is_first {
                queue.leave(0);
                queue.start(Time::ZERO + 9 * MS, |_| true);
            }
            let entry = queue.running(index).expect("it runs");
            assert_eq!((entry.attempts, entry.tried_for(Time::ZERO + 10 * MS)), (1, MS));
        }
    }

    #[test]
    fn what_waits_is_dropped_and_what_runs_is_kept() {
        let mut queue = Queue::new(Units::Many);
        for (offset, unit) in [(0, 7), (1, 8), (2, 7), (3, 9)] {
            queue.push(Offset(offset), unit, 0, Duration::ZERO, None);
        }
        queue.start(Time::ZERO, |_| true);
        queue.start(Time::ZERO, |_| true);
        queue.retry(0, Time::ZERO + MS);
        assert_eq!(queue.drop_waiting(), 3);
        assert_eq!((queue.records(), queue.running_records(), queue.first_needed()), (1, 1, 1));
        queue.leave(1);
        assert!(!queue.is_due(Time::ZERO + MS));
        assert_eq!((queue.records(), queue.first_needed()), (0, 4));
    }

    proptest! {
        /// INV-2, against the plainest model there is: lists of what has come, and of what runs.
        #[test]
        fn inv_2_each_unit_is_in_order_one_at_a_time_and_nobody_waits_without_a_reason(
            units in prop::collection::vec(0u64..6, 1..60),
            steps in prop::collection::vec((0u8..6, any::<prop::sample::Index>()), 1..400),
            units_are in prop::sample::select(vec![Units::One, Units::Many, Units::None]),
            enough in prop::sample::select(vec![1, 2, 32]),
        ) {
            let unit_of = |index: u64| {
                let unit = usize::try_from(index).ok().and_then(|place| units.get(place));
                match units_are {
                    Units::One => 0,
                    Units::Many => unit.copied().unwrap_or(0),
                    Units::None => index,
                }
            };
            let offset_of = |index: u64| Offset(i64::try_from(index).unwrap_or(i64::MAX) * 2);
            let mut queue = Queue { enough, ..Queue::new(units_are) };
            let (mut now, mut come, mut gone) = (Time::ZERO, 0_u64, BTreeSet::new());
            let (mut running, mut retries) = (BTreeSet::new(), BTreeMap::new());
            let first_open = |unit: u64, come: u64, gone: &BTreeSet<u64>| {
                (0..come).find(|index| unit_of(*index) == unit && !gone.contains(index))
            };
            for (step, pick) in steps {
                let picked = |set: &BTreeSet<u64>| set.iter().nth(pick.index(set.len().max(1))).copied();
                match step {
                    0 | 1 if come < units.len() as u64 => {
                        queue.push(offset_of(come), unit_of(come), 0, Duration::ZERO, None);
                        come += 1;
                    }
                    2 | 3 => {
                        let may = (0..60).filter_map(|unit| first_open(unit, come, &gone)).filter(|index| {
                            !running.contains(index) && retries.get(index).is_none_or(|at| *at <= now)
                        });
                        let may: BTreeSet<u64> = may.collect();
                        prop_assert_eq!(queue.is_due(now), !may.is_empty());
                        match queue.start(now, |_| true) {
                            None => prop_assert!(may.is_empty(), "{may:?} could start"),
                            Some((index, entry)) => {
                                prop_assert!(may.contains(&index), "{index} must wait");
                                prop_assert_eq!(entry.offset, offset_of(index));
                                retries.remove(&index);
                                running.insert(index);
                            }
                        }
                    }
                    4 => if let Some(index) = picked(&running) {
                        running.remove(&index);
                        match pick.index(3) {
                            0 => { queue.retry(index, now + MS * 3); retries.insert(index, now + MS * 3); }
                            1 => queue.give_back(index),
                            _ => { queue.leave(index); gone.insert(index); }
                        }
                    },
                    _ => now = now + MS,
                }
                let unlined = queue.unlined;
                prop_assert!(unlined == come || queue.ready.len() >= enough);
                prop_assert_eq!(queue.running_records(), running.len());
                prop_assert_eq!(queue.records() as u64, come - gone.len() as u64);
                let needed = (0..come).find(|index| !gone.contains(index)).unwrap_or(come);
                prop_assert_eq!(queue.first_needed(), needed);
                for index in (0..come).filter(|index| !gone.contains(index)) {
                    let is_first =
                        index < unlined && first_open(unit_of(index), come, &gone) == Some(index);
                    prop_assert_eq!(queue.is_first(index), is_first);
                }
            }
        }
    }
}
