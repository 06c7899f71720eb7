//! What should the partition's task do next?

use pelton_engine::{Bug, Next, Time};

use super::memory::ROOM_RETRY;
use super::{Desk, OUTBOX_RECORDS, PROGRESS_INTERVAL, State, Step, UNCONFIRMED_SEALS};

impl Desk {
    /// Sends what may be sent and decides what comes next. A `Handle` counts as started.
    pub(crate) fn step(&mut self, now: Time) -> Step {
        self.pump(now);
        match self.state {
            State::Closed(closing) => Step::Closed(closing),
            State::Halted => {
                self.reset_if_due(now);
                Step::Wait([self.pump_wake(), self.reset_at].into_iter().flatten().min())
            }
            State::Drained => Step::Wait(self.pump_wake()),
            State::Draining { cancelled, .. } => self.drain_step(now, cancelled),
            State::Running => self.running_step(now),
        }
    }

    pub(super) fn running_step(&mut self, now: Time) -> Step {
        let flush = self.flush_at(now);
        if flush.is_some_and(|at| now >= at) {
            return Step::Flush;
        }
        let tick = self.next_tick.filter(|_| !self.paused);
        if tick.is_some_and(|at| now >= at) {
            self.next_tick = self.spec.tick_every.map(|interval| now + interval);
            return Step::Tick;
        }
        let wake = [self.pump_wake(), flush, tick].into_iter().flatten().min();
        let flush_fails = self.flush_failures > 0;
        let outbox_full = self.outbox.len() >= OUTBOX_RECORDS;
        if self.paused || flush_fails || outbox_full || self.sealed.len() >= UNCONFIRMED_SEALS {
            return Step::Wait(wake);
        }
        if !self.has_room() {
            self.tell_effects_at_once(now);
            if !self.handled.is_empty() {
                return Step::Flush; // what waits for a flush can't be sealed before
            }
            let again = now + ROOM_RETRY;
            return Step::Wait(Some(wake.map_or(again, |wake| wake.min(again))));
        }
        if self.schedule.is_due(now) {
            let at = *self.may_start.get_or_insert_with(|| self.shared.pacer.take(now));
            if at > now {
                return Step::Wait(Some(wake.map_or(at, |wake| wake.min(at))));
            }
        }
        match self.schedule.next(now) {
            Next::Start { index, offset, attempt } => {
                self.may_start = None;
                Step::Handle { index, offset, attempt }
            }
            Next::WaitUntil(at) => Step::Wait(Some(wake.map_or(at, |wake| wake.min(at)))),
            Next::Idle => Step::Wait(wake),
        }
    }

    pub(super) fn drain_step(&mut self, now: Time, cancelled: bool) -> Step {
        if cancelled || Bug::NoFlushOnRevoke.is(self.shared.plan.bug) {
            self.forget_handled(); // too late for a flush: they run again at the next owner
        }
        if !self.handled.is_empty() {
            if now >= self.flush_not_before {
                return Step::Flush;
            }
            let at = self.flush_not_before;
            return Step::Wait(Some(self.pump_wake().map_or(at, |wake| wake.min(at))));
        }
        if self.unsealed {
            self.seal();
            self.pump(now);
        }
        if self.outbox.is_empty() { Step::Drained } else { Step::Wait(self.pump_wake()) }
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

    /// When sending, a proof or a word to the poll loop is due, at the latest; that goes on
    /// whatever the slot does.
    pub(crate) fn pump_wake(&self) -> Option<Time> {
        let proof = (self.outbox.is_blocked() && self.proof.asked.is_none())
            .then_some(self.proof.not_before);
        let progress = self.progress.dirty.then_some(self.progress_told + PROGRESS_INTERVAL);
        let effects = self.effects_wake();
        [self.send_again_at, proof, progress, effects].into_iter().flatten().min()
    }

    /// Must the attempt at hand be cut off?
    pub(crate) fn must_cut(&self) -> bool {
        let over = matches!(self.state, State::Closed(_) | State::Draining { cancelled: true, .. });
        over && !Bug::TwoSlots.is(self.shared.plan.bug)
    }
}
