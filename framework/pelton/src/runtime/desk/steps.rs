//! What comes next, for a slot that has nothing in hand and for the partition's task?

use pelton_engine::{Bug, Event, Finish, Ordering, Time};

use super::memory::ROOM_RETRY;
use super::slots::At;
use super::{Chores, Desk, OUTBOX_RECORDS, PROGRESS_INTERVAL, State, Step, UNCONFIRMED_SEALS};
use crate::runtime::handful::Handful;
use crate::runtime::in_flight::Share;

/// Records that go away without being handled, in one step.
const SEEN_TO_AT_ONCE: usize = 1_000;

impl Desk {
    /// Sends what may be sent and says what the slot does now. A `Handle` counts as started.
    pub(crate) fn turn(&mut self, slot: usize, hand: &Handful, now: Time) -> Step {
        self.slots.set(slot, At::Coming);
        self.forget_done(now);
        self.pump(now);
        let mut step = match self.state {
            State::Closed(closing) => Step::End(closing),
            State::Halted | State::Drained => Step::Rest,
            State::Draining { cancelled, .. } => self.drain_turn(slot, now, cancelled),
            State::Running => self.running_step(slot, hand, now),
        };
        if matches!(step, Step::Rest) && self.too_many_rest(1, now) {
            step = Step::Leave;
        }
        let at = match &step {
            Step::Handle { .. } | Step::Batch { .. } => At::Records,
            Step::Flush | Step::Tick | Step::Revoked | Step::Leave | Step::End(_) => At::Call,
            Step::Rest => At::Resting,
        };
        self.slots.set(slot, at);
        let first = step.first();
        self.contact.begins(first.map(|turn| turn.index), now);
        if first.is_none() {
            self.leave_the_line(false);
            self.announce(now);
        }
        let calls_nobody = matches!(step, Step::Handle { is_alone: true, .. });
        let calls = first.is_some() && (!calls_nobody || self.calls_another());
        self.call_others(calls, now);
        step
    }

    /// What comes next while it runs. Of the records that are seen to without a slot, so many at once:
    /// others are to have the desk, too.
    fn running_step(&mut self, slot: usize, hand: &Handful, now: Time) -> Step {
        for _ in 0..SEEN_TO_AT_ONCE {
            if let Some(step) = self.running_turn(slot, hand, now) {
                return step;
            }
        }
        self.ring();
        Step::Rest
    }

    /// Wakes the partition's task, from a slot whose handler may hold the thread: tokio has what was woken
    /// last on a thread run next there, and on no other thread, so something else is to be that.
    pub(super) fn ring(&self) {
        self.task.notify_one();
        drop(tokio::spawn(std::future::ready(())));
    }

    /// With so many more than do now.
    fn too_many_rest(&mut self, more: usize, now: Time) -> bool {
        self.state == State::Running && self.slots.are_too_many(more, now)
    }

    /// A slot more is woken if that is wanted and there is work for it, or if it is one too many; and
    /// the task if it would come too late.
    pub(super) fn call_others(&mut self, is_wanted: bool, now: Time) {
        if !is_wanted && self.too_many_rest(0, now) {
            self.slots.wake_one();
        }
        let more = is_wanted && self.schedule.due_records(now) > self.slots.coming();
        if more && self.share.is_some() && !self.slots.wake_one() {
            let room_for_more = self.slots.living() < self.schedule.ordering().concurrency();
            if room_for_more {
                self.ring();
            }
        }
        let draining = matches!(self.state, State::Draining { .. } | State::Halted);
        let sooner = |at: Time| self.task_wakes.is_none_or(|wakes| at < wakes);
        if draining || self.wake(now).is_some_and(sooner) {
            self.ring();
        }
    }

    /// What comes next; none if a record was seen to here, without a slot.
    fn running_turn(&mut self, slot: usize, hand: &Handful, now: Time) -> Option<Step> {
        if self.lease.is_over(self.shared.plan.bug) {
            return Some(Step::Rest);
        }
        if self.calls_due(now) {
            if self.flush_at(now).is_some_and(|at| now >= at) {
                return Some(Step::Flush);
            }
            self.next_tick = self.spec.tick_every.map(|interval| now + interval);
            return Some(Step::Tick);
        }
        if !self.may_start(now) {
            return Some(self.make_room());
        }
        if self.waits_for_a_flush() && self.schedule.next_comes_alone(now) {
            // It has failed before, and may take with it what waits for a flush.
            self.flush_wanted = true;
            let is_due = self.flush_at(now).is_some_and(|at| now >= at) && self.slots.busy() == 0;
            return Some(if is_due { Step::Flush } else { Step::Rest });
        }
        if self.batch_at(now).is_some_and(|at| at > now) {
            return Some(Step::Rest); // it lingers
        }
        if self.is_one_enough() {
            return Some(Step::Rest);
        }
        if self.schedule.is_due(now) {
            let at = *self
                .may_start
                .get_or_insert_with(|| self.shared.pacer.take(&self.place.partition, now));
            let running = self.schedule.in_hand();
            let refused = |share: &mut Share| !share.take(running);
            if at > now || self.share.as_mut().is_some_and(refused) || !self.contact.take(now) {
                return Some(Step::Rest);
            }
        }
        let probes = self.contact.probes();
        let batches = self.spec.batches.filter(|_| !probes);
        let records = batches.map_or_else(|| self.reach(), |of| of.records.min(self.room()));
        let bytes = batches.map(|batches| batches.bytes);
        let Some(first) = self.fill(hand, now, records, bytes) else { return Some(Step::Rest) };
        (self.may_start, self.lingers_since) = (None, None);
        if self.schedule.is_condemned(first.offset) {
            hand.lock().take_back();
            self.condemn(first, now);
            return None;
        }
        if self.must_follow(first.index) {
            hand.lock().take_back();
            self.observe_start(first);
            let outcome = self.send_away(first, None, now);
            self.count(outcome);
            return None;
        }
        if self.spec.batches.is_some() {
            let records = hand.lock().waiting();
            self.pay_for_batch(records, now);
            return Some(Step::Batch { first });
        }
        // As it was when the hand was filled: what is in it now takes up room itself.
        let is_alone = records > 1;
        if is_alone {
            self.goes_alone(slot, hand, now);
        }
        Some(Step::Handle { first, is_alone })
    }

    /// The batch had one token of the pace. It takes one for each of its other records, and one for the
    /// next batch, which waits for the last of them.
    fn pay_for_batch(&mut self, records: usize, now: Time) {
        let tokens = (0..records).map(|_| self.shared.pacer.take(&self.place.partition, now));
        self.may_start = tokens.max();
    }

    /// When the next batch starts, where there are batches and records for one: at once if it is
    /// full, or if one is due that is a batch of its own.
    fn batch_at(&mut self, now: Time) -> Option<Time> {
        let batches = self.spec.batches?;
        if !self.schedule.is_due(now) {
            self.lingers_since = None;
            return None;
        }
        let since = *self.lingers_since.get_or_insert(now);
        let is_full = self.schedule.lingering_records() >= batches.records
            || self.run_bytes >= batches.bytes
            || self.schedule.next_comes_alone(now);
        Some(if is_full { now } else { since + batches.linger })
    }

    /// Is a flush or a tick due, and nothing in hand that would be in its way?
    fn calls_due(&self, now: Time) -> bool {
        let nothing_is_in_hand = self.slots.busy() == 0 && self.deferrals.is_empty();
        let is_due = |at: Option<Time>| at.is_some_and(|at| now >= at);
        let flush = self.slots.busy() == 0 && is_due(self.flush_at(now));
        // Beside other records a tick has no stores, and is in nobody's way.
        let may_tick = nothing_is_in_hand || self.spec.ordering != Ordering::Partition;
        flush || (may_tick && !self.paused && is_due(self.next_tick))
    }

    /// May a record start, whatever its unit?
    fn may_start(&mut self, now: Time) -> bool {
        self.look_for_room_at = None;
        let flush_fails = self.flush_failures > 0;
        let outbox_full = self.outbox.len() >= OUTBOX_RECORDS;
        if self.alone.is_barred(now) {
            return false;
        }
        if self.paused || flush_fails || outbox_full || self.sealed.len() >= UNCONFIRMED_SEALS {
            return false;
        }
        if self.contact.room(now) == 0 {
            return false;
        }
        let has_room = self.has_room();
        if !has_room {
            self.tell_effects_at_once(now);
            self.look_for_room_at = Some(now + ROOM_RETRY);
        }
        has_room
    }

    /// What waits for a flush can't be sealed before it, and takes room until it is.
    fn make_room(&self) -> Step {
        let wants_room = self.look_for_room_at.is_some() && !self.handled.is_empty();
        if wants_room && self.slots.busy() == 0 { Step::Flush } else { Step::Rest }
    }

    fn drain_turn(&mut self, slot: usize, now: Time, cancelled: bool) -> Step {
        let flush_due = !self.handled.is_empty() && now >= self.flush_not_before && !cancelled;
        if flush_due && self.slots.busy() == 0 {
            Step::Flush
        } else if self.revoking && self.slots.take_revoked(slot) {
            Step::Revoked
        } else {
            Step::Rest
        }
    }

    /// What the partition's task has to see to.
    pub(crate) fn attend(&mut self, now: Time) -> Chores {
        self.relieve(now);
        if self.contact.has_opened() {
            // What failed before was the outage's fault, too; the next owner is to know of none of it.
            self.schedule.forgive_all();
            self.progress.dirty = true;
        }
        self.forget_done(now);
        self.pump(now);
        let mut chores = Chores::default();
        if std::mem::take(&mut self.cut_wanted) && !Bug::TwoSlots.is(self.shared.plan.bug) {
            chores.cut = self.slots.in_user_code().collect();
            self.cut_deferred(now);
        }
        self.give_up_deferred(now);
        match self.state {
            State::Closed(closing) => chores.closed = Some(closing),
            State::Halted => self.reset_if_due(now),
            State::Draining { cancelled, .. } => self.drain(now, cancelled),
            State::Running => {
                self.announce(now);
                if self.too_many_rest(0, now) {
                    self.slots.wake_one(); // it ends, and wakes the next one too many
                }
                chores.new_slots = self.call_slots(now);
            }
            State::Drained => {}
        }
        chores.question = self.question(now);
        self.leave_the_line(self.state == State::Running);
        if self.schedule.running_records() == 0 {
            self.alone.rest();
        }
        chores.wake = self.wake(now);
        self.task_wakes = chores.wake;
        chores
    }

    /// Wakes as many slots as there is work for; returns how many more there should be.
    fn call_slots(&mut self, now: Time) -> usize {
        let wanted = self.wanted_slots(now);
        self.leave_the_line(wanted > 0);
        let mut wanted = wanted.saturating_sub(self.slots.coming());
        while wanted > 0 && self.slots.wake_one() {
            wanted -= 1;
        }
        // Those that are being made will do it.
        let most = self.schedule.ordering().concurrency();
        wanted.saturating_sub(self.slots.joining()).min(most.saturating_sub(self.slots.living()))
    }

    /// Who stood in line for a place and has nothing to start any more lets the next one have it.
    fn leave_the_line(&mut self, is_wanted: bool) {
        if let Some(share) = self.share.as_mut().filter(|_| !is_wanted) {
            share.settle(self.schedule.in_hand());
        }
    }

    fn wanted_slots(&mut self, now: Time) -> usize {
        let calls = usize::from(self.calls_due(now));
        if !self.may_start(now) {
            return calls.max(usize::from(matches!(self.make_room(), Step::Flush)));
        }
        if self.may_start.is_some_and(|at| at > now) {
            return calls;
        }
        if self.batch_at(now).is_some_and(|at| at > now) {
            return calls;
        }
        let running = self.schedule.in_hand();
        let free = self.share.as_ref().map_or(usize::MAX, |share| share.free(running));
        let room = free.max(1).min(self.contact.room(now));
        let due = self.schedule.due_records(now).min(room);
        let enough = if self.reach() == 1 { usize::MAX } else { usize::from(!self.is_one_alone()) };
        due.min(enough).max(calls)
    }

    /// Nothing starts any more: flush, seal, wait until all is durable, and say so.
    fn drain(&mut self, now: Time, cancelled: bool) {
        if cancelled || Bug::NoFlushOnRevoke.is(self.shared.plan.bug) {
            self.forget_handled(); // too late for a flush: they run again at the next owner
        }
        if self.slots.busy() > 0 || !self.deferrals.is_empty() {
            return;
        }
        if !self.handled.is_empty() {
            if now >= self.flush_not_before && self.slots.coming() == 0 {
                self.slots.wake_one();
            }
            return;
        }
        // A record that was cut off has killed nobody.
        if self.unsealed || std::mem::take(&mut self.reset_is_to_be_said) || self.schedule.is_open()
        {
            self.seal();
            self.pump(now);
        }
        if !self.outbox.is_empty() {
            return;
        }
        if !std::mem::replace(&mut self.revoking, true) {
            self.slots.wake_all();
        }
        if self.slots.are_revoked() {
            self.state = State::Drained;
            self.tell(Event::Drained { partition: self.id, epoch: self.epoch });
        }
    }

    /// When the slot is to be flushed, if anything waits for it. After a failure it is the end of
    /// the wait.
    pub(super) fn flush_at(&self, now: Time) -> Option<Time> {
        let (records, interval) = self.spec.flush_every?;
        let since = self.handled_since?;
        let due = if self.flush_wanted || self.handled_records >= records {
            now
        } else {
            since + interval
        };
        Some(due.max(self.flush_not_before))
    }

    /// When the task has something to do, if nothing happens before. What is due now it has seen
    /// to, or somebody else will.
    fn wake(&self, now: Time) -> Option<Time> {
        let work = match self.state {
            State::Running => {
                let tick = self.next_tick.filter(|_| !self.paused);
                [
                    self.flush_at(now),
                    tick,
                    self.look_for_room_at,
                    self.may_start,
                    self.schedule.next_retry(),
                    self.contact.opens_at(),
                    self.lingers_since.zip(self.spec.batches).map(|(at, of)| at + of.linger),
                ]
            }
            State::Halted => [self.reset_at, None, None, None, None, None, None],
            State::Draining { .. } => {
                let flush = (!self.handled.is_empty()).then_some(self.flush_not_before);
                [flush, None, None, None, None, None, None]
            }
            State::Drained | State::Closed(_) => [None; 7],
        };
        let future = work.into_iter().flatten().filter(|at| *at > now);
        let alone = [self.alone.gives_up_at(), self.alone.barred_until()];
        let alone = alone.into_iter().flatten().filter(|at| *at > now);
        future
            .chain(self.pump_wake())
            .chain(self.deferrals.next())
            .chain(self.overdue_at(now).filter(|at| *at > now))
            .chain(self.slots.look_again_at().filter(|at| *at > now))
            .chain(alone)
            .chain(self.ask_at.filter(|at| *at > now))
            .min()
    }

    /// When sending, a proof or a word to the poll loop is due, at the latest; that goes on
    /// whatever the slots do.
    fn pump_wake(&self) -> Option<Time> {
        let proof = (self.outbox.is_blocked() && self.proof.asked.is_none())
            .then_some(self.proof.not_before);
        let progress = self.progress.dirty.then_some(self.progress_told + PROGRESS_INTERVAL);
        let effects = self.effects_wake();
        [self.send_again_at, proof, progress, effects].into_iter().flatten().min()
    }

    /// The slot is no more: it has ended, or was cut off. What it had in hand is not done.
    pub(crate) fn slot_ended(&mut self, slot: usize, now: Time) {
        match self.slots.set(slot, At::Gone) {
            At::Records => {
                self.drop_hand(slot, now);
                self.reset_if_handled();
            }
            At::Call => self.reset_if_handled(),
            At::Joining | At::Waiting | At::Coming | At::Resting | At::Gone => {}
        }
    }

    /// What a slot had in hand that was cut off.
    fn drop_hand(&mut self, slot: usize, now: Time) {
        let Some(hand) = self.slots.hand(slot).cloned() else { return };
        let (cut, with_it) = hand.lock().end();
        self.look_at(&hand, now);
        if let Some(turn) = cut {
            self.cut_off(turn, now);
        }
        for turn in with_it {
            self.not_done(turn.index, Finish::Cancelled, now); // nobody was told of them
        }
    }
}
