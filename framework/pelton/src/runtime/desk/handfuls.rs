//! How many records has a slot in hand, and when does it give back what it has not begun?
//!
//! One, where records take their time: another slot is called for the next one. Several, where they
//! take none: to call another slot would cost more than the records do. If one of them waits, or takes
//! long after all, the others go back and others are called: a slow record delays only its unit.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use pelton_engine::{Bug, Finish, Time, Turn};

use super::records::in_runs;
use super::{Desk, Held, OUTBOX_RECORDS};
use crate::runtime::handful::{Ended, Found, Handful};
use crate::runtime::slot::Called;
use crate::telemetry::RecordOutcome;

/// A slot has at most so many records in hand.
const MOST: usize = 32;

/// A record that takes no longer takes no time: less than it costs to have another slot woken.
const NO_TIME: Duration = Duration::from_micros(5);

/// A record that takes longer than this is worth another core: less, and slots wait for the desk.
const WORTH_ANOTHER: Duration = Duration::from_micros(2);

/// A slot that is not back by then holds its thread with one of them: the others go back.
const OVERDUE: Duration = Duration::from_millis(5);

/// How far slots reach.
#[derive(Debug)]
pub(super) struct Reach {
    /// So many records may be in hand, as far as the time goes that the last ones took.
    most: usize,
    /// The last ones took long enough for another slot to be of use.
    is_worth_another: bool,
    /// Slots that have called nobody, and since when, in that order. Some are back.
    alone: VecDeque<(Time, usize)>,
}

impl Default for Reach {
    fn default() -> Self {
        Self { most: 1, is_worth_another: false, alone: VecDeque::new() }
    }
}

impl Reach {
    /// A slot is back with all of so many records, so long after it took them.
    fn took(&mut self, records: usize, time: Duration) {
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        self.most = if time <= NO_TIME * records { (2 * self.most).min(MOST) } else { 1 };
        self.is_worth_another = time > WORTH_ANOTHER * records;
    }
}

impl Desk {
    /// So many records may a slot take.
    pub(super) fn reach(&self) -> usize {
        let is_one_by_one = self.reach.most == 1
            || !self.spec.is_plain()
            || self.spec.breaker.is_some()
            || !self.holds.is_empty()
            || self.shared.pacer.is_limited();
        if is_one_by_one { 1 } else { self.reach.most.min(self.room()) }
    }

    /// For so many more records there is room, each with as many effects as any before it; at least
    /// for one.
    pub(super) fn room(&self) -> usize {
        let outputs = OUTBOX_RECORDS.saturating_sub(self.outbox.len());
        outputs.min(self.room_for_effects()).max(1)
    }

    /// Gives the slot records, up to so many and of so many bytes; the first one.
    pub(super) fn fill(
        &mut self,
        hand: &Handful,
        now: Time,
        records: usize,
        bytes: Option<usize>,
    ) -> Option<Turn> {
        let mut held = hand.lock();
        let (runs, mut run, mut sum) = (&self.runs, None::<&Held>, 0);
        self.schedule.next_batch(now, |turn| {
            let before = run.filter(|run| run.indices().contains(&turn.index));
            run = before.or_else(|| in_runs(runs, turn.index));
            if let Some((run, at)) = run.and_then(|run| Some((&run.run, run.place(turn.index)?))) {
                if bytes.is_some() {
                    sum += run.record(at).map_or(0, |record| record.bytes());
                }
                // Mostly it is of the same one as the record before it.
                held.add((turn, before.is_none().then(|| Arc::clone(run)), at));
            }
            held.waiting() < records && bytes.is_none_or(|bytes| sum < bytes)
        });
        let first = held.first();
        held.since = first.map(|_| now);
        held.usual_effects = self.usual_effects;
        first
    }

    /// The slot that begins now calls nobody, and says so if it waits.
    pub(super) fn goes_alone(&mut self, slot: usize, hand: &Handful, now: Time) {
        self.forget_who_is_back();
        hand.lock().alone_since = Some(now);
        self.reach.alone.push_back((now, slot));
    }

    /// Have the last records in hand taken long enough for another slot to be of use?
    pub(super) fn calls_another(&self) -> bool {
        self.reach.is_worth_another
    }

    /// Is one slot at work, and enough? Two would only be in each other's way.
    pub(super) fn is_one_enough(&mut self) -> bool {
        self.reach() > 1 && !self.reach.is_worth_another && self.is_one_alone()
    }

    /// Is a slot at work that has called nobody?
    pub(super) fn is_one_alone(&mut self) -> bool {
        self.forget_who_is_back();
        !self.reach.alone.is_empty()
    }

    fn forget_who_is_back(&mut self) {
        while let Some((since, slot)) = self.reach.alone.front() {
            let hand = self.slots.hand(*slot);
            if hand.is_some_and(|hand| hand.lock().alone_since == Some(*since)) {
                return;
            }
            self.reach.alone.pop_front();
        }
    }

    /// When a slot is overdue, if something waits for it.
    pub(super) fn overdue_at(&self, now: Time) -> Option<Time> {
        let (since, _) = self.reach.alone.front()?;
        let holds_back = self.schedule.running_records() > self.schedule.in_hand();
        (holds_back || self.schedule.due_records(now) > 0).then_some(*since + OVERDUE)
    }

    /// What slots that are overdue have not begun goes back, and others are called from now on.
    pub(super) fn relieve(&mut self, now: Time) {
        while self.is_one_alone()
            && let Some((since, slot)) = self.reach.alone.front().copied()
            && since + OVERDUE <= now
            && let Some(hand) = self.slots.hand(slot).cloned()
        {
            self.reach.most = 1;
            self.look_at(&hand, now);
        }
    }

    /// A slot is back with its hand; what it had last has ended so.
    pub(crate) fn is_back(&mut self, hand: &Handful, called: Option<Called>, now: Time) {
        if let Some((records, time)) = self.look_at(hand, now) {
            self.reach.took(records, time);
        }
        let (last, _) = hand.lock().end();
        if let Some((turn, called)) = last.zip(called) {
            self.called(turn, called, now);
        }
    }

    /// A slot's record waits, and the slot has called nobody.
    pub(crate) fn waits(&mut self, hand: &Handful, now: Time) {
        self.reach.most = 1;
        self.look_at(hand, now);
        self.forget_done(now);
        self.pump(now);
        self.call_others(true, now);
    }

    /// What slots have not begun goes back: nothing may start.
    pub(super) fn recall(&mut self, now: Time) {
        for hand in self.slots.full_hands() {
            self.look_at(&hand, now);
        }
    }

    /// What has ended in a slot's hand has, and what has not begun is in line again. Returns how many
    /// it was given and how long ago, if nobody has looked since.
    pub(super) fn look_at(&mut self, hand: &Handful, now: Time) -> Option<(usize, Duration)> {
        let Found { since, records, mut ended, back } = hand.lock().look();
        self.schedule.batch_ended(records);
        if !ended.is_empty() {
            let mut done = 0;
            for Ended { turn, called } in ended.drain(..) {
                match called {
                    Some(called) => self.called(turn, *called, now),
                    None => {
                        self.done_without_effects(turn, now);
                        done += 1;
                    }
                }
            }
            self.metrics.records(RecordOutcome::Done).increment(done);
            hand.lock().reuse(ended);
        }
        let forgets = Bug::HandForgotten.is(self.shared.plan.bug);
        for turn in back.into_iter().filter(|_| !forgets) {
            self.not_done(turn.index, Finish::Cancelled, now);
        }
        since.map(|since| (records, now.since(since)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_reach_further_while_records_take_no_time() {
        let mut reach = Reach::default();
        for most in [2, 4, 8, 16, 32, 32] {
            reach.took(2, WORTH_ANOTHER * 2);
            assert_eq!((reach.most, reach.is_worth_another), (most, false));
        }
        reach.took(32, NO_TIME * 32);
        assert_eq!((reach.most, reach.is_worth_another), (32, true));
        reach.took(2, NO_TIME * 3);
        assert_eq!(reach.most, 1);
    }
}
