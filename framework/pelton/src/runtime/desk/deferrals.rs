//! Which records does something else complete, and until when is it waited for?
//!
//! A deferred record still runs, as its schedule sees it: its unit waits, its offset waits, it keeps
//! its place among those in hand. Only its slot is free.

use std::collections::{BTreeMap, BTreeSet};

use pelton_engine::{Bug, Finish, Time, Turn};

use super::{Desk, effects_bytes};
use crate::completion::Deferred;
use crate::effects::Effects;
use crate::error::HandlerError;
use crate::output::{Failure, FailureKind};
use crate::runtime::in_poll::HeldCall;

/// Records whose completion is somebody else's.
#[derive(Debug, Default)]
pub(super) struct Deferrals {
    waiting: BTreeMap<u64, Waiting>,
    /// What their effects take.
    bytes: u64,
    /// When each is given up.
    until: BTreeSet<(Time, u64)>,
    /// Completed before its handler had returned.
    early: BTreeMap<(u64, u32), Result<(), HandlerError>>,
}

#[derive(Debug)]
struct Waiting {
    turn: Turn,
    effects: Effects,
    until: Time,
    limit: std::time::Duration,
    _call: HeldCall,
}

impl Deferrals {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What their effects take.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the first of them is given up.
    pub(super) fn next(&self) -> Option<Time> {
        self.until.first().map(|(at, _)| *at)
    }

    /// The attempt has ended without being deferred: what was said of it early says nothing.
    pub(super) fn forget_early(&mut self, turn: Turn) {
        if !self.early.is_empty() {
            self.early.remove(&(turn.index, turn.attempt));
        }
    }

    fn take(&mut self, index: u64, attempt: u32) -> Option<Waiting> {
        self.waiting.get(&index).filter(|waiting| waiting.turn.attempt == attempt)?;
        let waiting = self.waiting.remove(&index)?;
        self.until.remove(&(waiting.until, index));
        self.bytes -= effects_bytes(&waiting.effects);
        Some(waiting)
    }
}

impl Desk {
    /// The handler has returned, and left the record to somebody else.
    pub(super) fn defer(&mut self, turn: Turn, deferred: Deferred, now: Time) {
        let Deferred { limit, effects } = deferred;
        let until = now + limit;
        if Bug::DeferredDoneAtReturn.is(self.shared.plan.bug) {
            self.schedule.finished(turn.index, Finish::Done, now);
            (self.progress.dirty, self.unsealed) = (true, true);
        }
        self.weigh(&effects);
        self.deferrals.bytes += effects_bytes(&effects);
        let call = self.lease.hold_call();
        let waiting = Waiting { turn, effects, until, limit, _call: call };
        self.deferrals.waiting.insert(turn.index, waiting);
        self.deferrals.until.insert((until, turn.index));
        if let Some(result) = self.deferrals.early.remove(&(turn.index, turn.attempt)) {
            self.completed(turn.index, turn.attempt, result, now);
        }
    }

    /// Somebody has completed an attempt at the record. Of one that is over nothing happens.
    pub(super) fn completed(
        &mut self,
        index: u64,
        attempt: u32,
        result: Result<(), HandlerError>,
        now: Time,
    ) {
        let Some(waiting) = self.deferrals.take(index, attempt) else {
            if self.slots.has_begun(index, attempt) {
                self.deferrals.early.insert((index, attempt), result);
            }
            return;
        };
        let outcome = match result {
            Ok(()) => self.succeeded(waiting.turn, waiting.effects, false, now),
            Err(error) => self.failed(waiting.turn, &error, now),
        };
        self.count(outcome);
    }

    /// Who is not heard of in time has failed.
    pub(super) fn give_up_deferred(&mut self, now: Time) {
        while let Some((_, index)) = self.deferrals.until.first().filter(|(at, _)| *at <= now) {
            let index = *index;
            let Some(attempt) = self.deferrals.waiting.get(&index).map(|w| w.turn.attempt) else {
                self.deferrals.until.pop_first();
                continue;
            };
            let Some(Waiting { turn, limit, .. }) = self.deferrals.take(index, attempt) else {
                return;
            };
            let text = format!("its completion was deferred and did not come within {limit:?}");
            let failure = Failure { kind: FailureKind::TimedOut, text };
            let outcome = self.try_again(turn, &failure, now);
            self.count(outcome);
        }
    }

    /// Nobody is waited for any more.
    pub(super) fn cut_deferred(&mut self, now: Time) {
        self.deferrals.until.clear();
        self.deferrals.early.clear();
        self.deferrals.bytes = 0;
        for waiting in std::mem::take(&mut self.deferrals.waiting).into_values() {
            self.cut_off(waiting.turn, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_engine::Offset;

    /// A handler that completes its record and then fails left what it had said behind, for ever.
    #[test]
    fn what_was_said_early_of_an_attempt_that_has_ended_is_forgotten() {
        let mut deferrals = Deferrals::default();
        let turn = |index, attempt| Turn { index, offset: Offset(7), attempt };
        for attempt in [1, 2] {
            deferrals.early.insert((3, attempt), Ok(()));
        }
        deferrals.forget_early(turn(3, 1));
        deferrals.forget_early(turn(4, 1));
        assert_eq!(deferrals.early.keys().collect::<Vec<_>>(), [&(3, 2)]);
    }
}
