//! What becomes of a record when an attempt has ended: done, tried again, buried, or the worker's
//! end? The input's failure policy, applied.
//!
//! Upholds INV-3: a record that fails is tried again until it is done, becomes a dead letter, or stops
//! the worker; and INV-14: a panic is an error.

use pelton_engine::{Bug, Finish, Time, Turn};

use super::Desk;
use crate::effects::Effects;
use crate::error::{HandlerError, WorkerError};
use crate::output::{Failure, FailureKind, dead_letter};
use crate::runtime::handful::Handful;
use crate::runtime::input::OnInvalid;
use crate::runtime::slot::Called;
use crate::telemetry::RecordOutcome;

impl Desk {
    /// A slot's attempt at the record has ended. That a record of a plain input went well has been told.
    pub(crate) fn called(&mut self, turn: Turn, called: Called, now: Time) {
        if !matches!(called, Called::Deferred(_)) {
            self.deferrals.forget_early(turn);
        }
        let outcome = match called {
            Called::Done(effects) => self.succeeded(turn, effects, self.spec.is_plain(), now),
            Called::Skipped => self.skip(turn, self.spec.is_plain(), now),
            Called::Deferred(deferred) => return self.defer(turn, deferred, now),
            Called::Spoilt => return self.not_done(turn.index, Finish::Cancelled, now),
            Called::Failed(error) => self.failed(turn, &error, now),
            Called::Unmade(error) if error.is_retryable() => {
                self.schedule.forgive_last(turn.index);
                let failure = Failure { kind: FailureKind::Failed, text: error.to_string() };
                self.wait(turn, &failure, now)
            }
            Called::Unmade(error) => self.failed(turn, &error, now),
            Called::TimedOut(limit) => {
                let text = format!("the attempt took longer than {limit:?}");
                self.try_again(turn, &Failure { kind: FailureKind::TimedOut, text }, now)
            }
            Called::Panicked(_) if Bug::PanicCountsAsDone.is(self.shared.plan.bug) => {
                self.observe_end(turn, RecordOutcome::Panicked);
                self.done(turn.index, Effects::default(), now);
                RecordOutcome::Panicked
            }
            Called::Panicked(text) => {
                self.try_again(turn, &Failure { kind: FailureKind::Panicked, text }, now)
            }
        };
        self.count(outcome);
    }

    /// A slot's call with a batch has ended, in the batch's order. What follows a failure of its unit
    /// is as if it had not been tried. Where all have `failed_together` nobody knows through which: it
    /// counts against none, and each is tried alone.
    pub(crate) fn batch_called(
        &mut self,
        hand: &Handful,
        results: impl Iterator<Item = (Turn, Called)>,
        failed_together: bool,
        now: Time,
    ) {
        drop(hand.lock().end());
        self.look_at(hand, now);
        let mut is_first = true;
        self.failed_together = failed_together;
        for (turn, called) in results {
            if failed_together {
                self.schedule.set_apart(turn.index);
            }
            let was_told = std::mem::replace(&mut is_first, false);
            // Nobody is told of a start that would come after the partition's end.
            let is_over = !was_told && self.lease.is_over(self.shared.plan.bug);
            let is_spoilt = matches!(called, Called::Spoilt);
            if is_spoilt && was_told {
                // It was shown what those behind it had written: alone, it is not.
                self.schedule.set_apart(turn.index);
            }
            if is_over || is_spoilt || self.schedule.is_overtaken(turn.index) {
                self.not_done(turn.index, Finish::Cancelled, now);
                continue;
            }
            if !was_told {
                self.observe_start(turn); // the first one was told when the batch began
            }
            self.called(turn, called, now);
        }
        self.failed_together = false;
    }

    pub(super) fn count(&self, outcome: RecordOutcome) {
        if outcome.is_tried_again() {
            self.metrics.retries.increment(1);
        }
        self.metrics.records(outcome).increment(1);
    }

    pub(super) fn succeeded(
        &mut self,
        turn: Turn,
        mut effects: Effects,
        is_told: bool,
        now: Time,
    ) -> RecordOutcome {
        if let Err(error) = effects.resolve(&self.place.stores) {
            return self.failed(turn, &error, now);
        }
        let waits = self.spec.flush_every.is_some();
        let outcome = if waits { RecordOutcome::Handled } else { RecordOutcome::Done };
        if !is_told {
            self.observe_end(turn, outcome);
        }
        self.contact.ended(turn.index, Ok(()), now);
        self.dead_letters.saw(false);
        self.done(turn.index, effects, now);
        outcome
    }

    /// The same, where that is all and has been told: what most records that take no time come to.
    pub(super) fn done_without_effects(&mut self, turn: Turn, now: Time) {
        self.deferrals.forget_early(turn);
        self.dead_letters.saw(false);
        self.schedule.finished(turn.index, Finish::Done, now);
        (self.progress.dirty, self.unsealed) = (true, true);
    }

    /// The handler returned an error: try again, give the record up, or stop.
    pub(super) fn failed(&mut self, turn: Turn, error: &HandlerError, now: Time) -> RecordOutcome {
        // Of which record of a batch it is said, nobody knows.
        let is_invalid = error.is_invalid() && self.failed_together;
        if error.is_retryable() || is_invalid {
            let kind = if is_invalid { FailureKind::Invalid } else { FailureKind::Failed };
            return self.try_again(turn, &Failure { kind, text: error.to_string() }, now);
        }
        let partition = self.place.partition.clone();
        let (offset, reason) = (turn.offset.0, error.to_string());
        if !error.is_invalid() {
            return self.stop(turn, WorkerError::Handler { partition, offset, reason }, now);
        }
        match self.spec.on_invalid() {
            OnInvalid::Stop => {
                self.stop(turn, WorkerError::InvalidRecord { partition, offset, reason }, now)
            }
            OnInvalid::Skip => {
                tracing::warn!(%partition, offset, %error, "the record is invalid and is skipped");
                self.skip(turn, false, now)
            }
            OnInvalid::DeadLetter => {
                let failure = Failure { kind: FailureKind::Invalid, text: reason };
                self.bury(turn, &failure, now)
            }
        }
    }

    /// Nothing is to be done for the record.
    fn skip(&mut self, turn: Turn, is_told: bool, now: Time) -> RecordOutcome {
        if !is_told {
            self.observe_end(turn, RecordOutcome::Skipped);
        }
        self.done(turn.index, Effects::default(), now);
        RecordOutcome::Skipped
    }

    /// The attempt has failed: the record is tried again, unless the policy gives it up or sends it to a
    /// retry topic. While the breaker is not closed nothing that fails counts against its record, nor does
    /// a batch that fails as a whole: it may not be at fault.
    pub(super) fn try_again(&mut self, turn: Turn, failure: &Failure, now: Time) -> RecordOutcome {
        if matches!(failure.kind, FailureKind::Failed | FailureKind::TimedOut) {
            self.contact.ended(turn.index, Err(&failure.text), now);
        }
        // With its instance goes what waits for a flush: that is handled again first.
        let ends_it = matches!(failure.kind, FailureKind::Panicked | FailureKind::TimedOut);
        if ends_it && self.waits_for_a_flush() {
            return self.wait(turn, failure, now);
        }
        let is_forgiven = self.failed_together || !self.contact.is_closed();
        if !self.contact.is_closed() {
            self.schedule.forgive(turn.index);
        } else if self.failed_together {
            self.schedule.forgive_last(turn.index);
        }
        if is_forgiven || self.schedule.may_retry(turn.index, now) {
            return self.wait(turn, failure, now);
        }
        if self.spec.retry_route.is_some() {
            return self.send_away(turn, Some(failure), now);
        }
        if self.spec.dead_letters.is_some() {
            return self.bury(turn, failure, now);
        }
        let (partition, reason) = (self.place.partition.clone(), failure.text.clone());
        let (offset, attempts) = (turn.offset.0, turn.attempt);
        self.stop(turn, WorkerError::GaveUp { partition, offset, attempts, reason }, now)
    }

    /// The record becomes a dead letter; or, where too many do, it waits.
    pub(super) fn bury(&mut self, turn: Turn, failure: &Failure, now: Time) -> RecordOutcome {
        let partition = self.place.partition.clone();
        let (offset, attempt, error) = (turn.offset.0, turn.attempt, &failure.text);
        let Some(effects) = self.dead_letter(turn, failure) else {
            tracing::warn!(%partition, offset, attempt, error, "too many records of this partition fail to make dead letters of them: it waits and will be tried again");
            return self.wait(turn, failure, now);
        };
        tracing::warn!(%partition, offset, attempt, error, "the record can't be handled and becomes a dead letter");
        // Behind records that wait for a flush it waits for it, too.
        let waits = self.waits_for_a_flush();
        let told = if waits { RecordOutcome::Handled } else { RecordOutcome::DeadLetter };
        self.observe_end(turn, told);
        if waits {
            self.done(turn.index, effects, now);
        } else {
            self.done_at_once(turn.index, effects, now);
        }
        RecordOutcome::DeadLetter
    }

    /// The record as a dead letter; `None` where the input has none, or too many.
    fn dead_letter(&mut self, turn: Turn, failure: &Failure) -> Option<Effects> {
        let (run, at) = self.record(turn.index)?;
        let route = self.spec.dead_letters.as_ref()?;
        if !self.dead_letters.allows() {
            self.metrics.dead_letters_withheld.increment(1);
            return None;
        }
        let story = self.story(turn.attempt);
        let letter = dead_letter(&route.topic, &run.record(at)?, story, failure);
        self.dead_letters.saw(true);
        if Bug::DeadLetterForgotten.is(self.shared.plan.bug) {
            return Some(Effects::default());
        }
        Some(Effects::of_output(letter))
    }

    fn wait(&mut self, turn: Turn, failure: &Failure, now: Time) -> RecordOutcome {
        let partition = &self.place.partition;
        let (offset, attempt, error) = (turn.offset.0, turn.attempt, &failure.text);
        tracing::warn!(%partition, offset, attempt, error, "the record failed and will be tried again");
        let outcome = match failure.kind {
            FailureKind::Panicked => RecordOutcome::Panicked,
            FailureKind::TimedOut => RecordOutcome::TimedOut,
            _ => RecordOutcome::Retry,
        };
        self.observe_end(turn, outcome);
        self.not_done(turn.index, Finish::Retry, now);
        outcome
    }

    /// The record ends the worker.
    fn stop(&mut self, turn: Turn, error: WorkerError, now: Time) -> RecordOutcome {
        self.observe_end(turn, RecordOutcome::Fatal);
        self.not_done(turn.index, Finish::Cancelled, now);
        self.fail(error);
        RecordOutcome::Fatal
    }

    /// What was in hand is cut off: nothing of it counts.
    pub(super) fn cut_off(&mut self, turn: Turn, now: Time) {
        self.observe_end(turn, RecordOutcome::Cancelled);
        self.count(RecordOutcome::Cancelled);
        self.not_done(turn.index, Finish::Cancelled, now);
    }
}
