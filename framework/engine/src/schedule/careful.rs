//! What does a schedule do where records may kill their worker? It asks its caution, record by record.
//!
//! Upholds INV-18. The rules are [`Caution`]'s; here they meet the queue.

use super::{Finish, Schedule};
use crate::caution::{Caution, Hand, SIZES, Window};
use crate::ids::Offset;
use crate::planted::Bug;
use crate::queue::Entry;
use crate::standing::Standing;
use crate::time::Time;

impl Schedule {
    /// Looks for records that kill their workers, and gives up one that so many have died with. Each
    /// commit says from now on what may be in hand; `before` is the last one, as for
    /// [`resuming`](Self::resuming), and its owner has died if it says that something was.
    ///
    /// Nothing starts before Kafka has the window that it is in: see
    /// [`wants_commit`](Self::wants_commit).
    ///
    /// ```
    /// use pelton_engine::{Item, Next, Offset, Ordering, RetryPolicy, Schedule, Standing, Time};
    ///
    /// let before = Standing::at(Offset(3));
    /// let retry = RetryPolicy::default();
    /// let mut schedule = Schedule::resuming(Ordering::Partition, before.clone(), retry, 1);
    /// schedule.expect_deaths(3, &before);
    /// schedule.push([Item { offset: Offset(3), unit: 0 }])?;
    /// assert_eq!(schedule.next(Time::ZERO), Next::Idle);
    /// assert!(schedule.wants_commit(Time::ZERO));
    /// schedule.announce(Time::ZERO);
    /// let standing = schedule.seal(Time::ZERO);
    /// schedule.committed(&standing);
    /// assert!(matches!(schedule.next(Time::ZERO), Next::Start { .. }));
    /// # Ok::<(), pelton_engine::Backwards>(())
    /// ```
    pub fn expect_deaths(&mut self, limit: u32, before: &Standing) {
        self.caution = Some(Caution::resuming(limit.max(1), before, SIZES));
    }

    /// Are records that kill looked for, so that commits say what may be in hand?
    #[must_use]
    pub fn is_cautious(&self) -> bool {
        self.caution.is_some()
    }

    /// Must the next record wait for a commit?
    pub(super) fn is_held(&self, now: Time) -> bool {
        let Some(caution) = &self.caution else { return false };
        let next = self.peek(now);
        self.queue.is_due(now) && !next.is_some_and(|entry| caution.allows(entry.offset))
    }

    /// The record that is next, among those that the window is for.
    pub(super) fn peek(&self, now: Time) -> Option<Entry> {
        match &self.caution {
            Some(caution) => self.queue.peek(now, |offset| caution.prefers(offset)),
            None => self.queue.peek(now, |_| true),
        }
    }

    pub(super) fn start(&mut self, now: Time) -> Option<(u64, Entry)> {
        let (index, entry) = match &self.caution {
            Some(caution) => self.queue.start(now, |offset| caution.prefers(offset)),
            None => self.queue.start(now, |_| true),
        }?;
        self.note_start(entry.offset);
        Some((index, entry))
    }

    pub(super) fn may_follow(&self, entry: Entry) -> bool {
        let offset = entry.offset;
        self.caution.as_ref().is_none_or(|c| c.allows(offset) && !c.is_condemned(offset))
    }

    pub(super) fn note_start(&mut self, offset: Offset) {
        if let Some(caution) = &mut self.caution {
            caution.started(offset);
        }
        if Bug::CommitPastInFlight.is(self.bug) {
            self.tracker.done(offset);
        }
    }

    pub(super) fn is_next_condemned(&self, now: Time) -> bool {
        let Some(caution) = &self.caution else { return false };
        self.peek(now).is_some_and(|entry| caution.is_condemned(entry.offset))
    }

    /// Have so many workers died with this record that it is not to run, though it was started?
    #[must_use]
    pub fn is_condemned(&self, offset: Offset) -> bool {
        self.caution.as_ref().is_some_and(|caution| caution.is_condemned(offset))
    }

    /// So many workers have died with this record alone in hand, as far as is known.
    #[must_use]
    pub fn deaths_of(&self, offset: Offset) -> u32 {
        self.caution.as_ref().map_or(0, |caution| caution.deaths_of(offset))
    }

    /// Does the next record wait for a commit that says that it may be in hand?
    #[must_use]
    pub fn wants_commit(&self, now: Time) -> bool {
        self.wish(now).is_some()
    }

    /// Is what runs, or is to run next, the only one that may be in hand, because it may kill its
    /// worker?
    #[must_use]
    pub fn is_alone(&self, now: Time) -> bool {
        let one = |window: Window| matches!(window.hand, Hand::One(_));
        self.caution.as_ref().is_some_and(Caution::is_alone) || self.wish(now).is_some_and(one)
    }

    /// Nothing starts any more: does the last seal still say that something may be in hand?
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.caution.as_ref().is_some_and(Caution::is_open)
    }

    /// Is the record that is alone in hand, or is to be, given up if its worker dies once more? Then
    /// nothing else is to be in hand in the whole worker: the death must be this record's doing.
    #[must_use]
    pub fn is_trial(&self, now: Time) -> bool {
        self.caution.as_ref().is_some_and(|caution| caution.is_trial(self.wanted(now)))
    }

    /// Records that the last owner had in hand when it died run as all others do: there is no time
    /// to be careful.
    pub fn be_quick(&mut self) {
        if let Some(caution) = &mut self.caution {
            caution.be_quick();
        }
    }

    /// Does it begin with records that the last owner may have had in hand when it died?
    #[must_use]
    pub fn is_careful(&self) -> bool {
        let base = self.committable();
        self.caution.as_ref().is_some_and(|caution| caution.is_careful(base))
    }

    /// The next record; in a wide window that is narrowed, if it has none, the first one behind it.
    fn wanted(&self, now: Time) -> Option<Offset> {
        let inside = self.peek(now);
        inside.or_else(|| self.queue.peek(now, |_| true)).map(|entry| entry.offset)
    }

    fn wish(&self, now: Time) -> Option<Window> {
        let caution = self.caution.as_ref().filter(|_| self.starting)?;
        caution.wish(self.wanted(now), self.queue.running_records(), || self.done_set())
    }

    pub(super) fn note_end(&mut self, offset: Offset, finish: Finish) {
        match (&mut self.caution, finish) {
            (Some(caution), Finish::Done) => caution.done(offset),
            (Some(caution), Finish::Handled | Finish::Retry) => caution.ended(offset),
            (Some(_), Finish::Cancelled) | (None, _) => {}
        }
    }

    /// The next [`seal`](Self::seal) is to say that what is next may be in hand, where that is to be
    /// said ([`wants_commit`](Self::wants_commit)).
    pub fn announce(&mut self, now: Time) {
        let (next, running) = (self.wanted(now), self.queue.running_records());
        let done = self.done_set();
        if let Some(caution) = self.caution.as_mut().filter(|_| self.starting) {
            caution.announce(next, running, || done);
        }
    }

    /// The next [`seal`](Self::seal) is to say that nothing is in hand, where one record is named and is
    /// not; whether that was to be said.
    pub fn announce_rest(&mut self) -> bool {
        let (running, done) = (self.queue.running_records(), self.done_set());
        let Some(caution) = self.caution.as_mut().filter(|_| self.starting) else { return false };
        let wants = caution.wish(None, running, || done.clone()).is_some();
        caution.announce(None, running, || done);
        wants
    }

    /// Is that to be said, since nothing is next?
    #[must_use]
    pub fn wants_rest(&self, now: Time) -> bool {
        self.wish(now).is_some_and(|window| window.hand == Hand::Nothing)
    }

    /// Kafka has accepted a commit that says this.
    pub fn committed(&mut self, standing: &Standing) {
        if let Some(caution) = &mut self.caution {
            caution.confirmed(standing.window);
        }
    }
}
