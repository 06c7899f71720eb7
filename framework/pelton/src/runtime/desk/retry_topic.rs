//! Which records go to a retry topic, and which keys are held for that?
//!
//! Upholds INV-19: while records of a key lie in a retry topic, none of it is handled ahead of them.

use std::time::Duration;

use pelton_engine::{Bug, DoneSet, Offset, Time, Turn};

use super::{Desk, State};
use crate::effects::Effects;
use crate::output::{Failure, Story, retry_at, retry_record};
use crate::record::{Record, Run};
use crate::telemetry::RecordOutcome;

/// So often it is asked whether held keys can be let go.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

/// Our partition of a retry topic.
pub(crate) struct RetryTopic {
    pub(crate) end: Offset,
    /// What the group has committed there.
    pub(crate) handled: Option<Offset>,
}

impl Desk {
    /// Tells the schedule of records of a retry topic whose time has not come yet.
    pub(super) fn delay_retries(&mut self, run: &Run, now: Time) {
        if !self.spec.is_retry_topic {
            return;
        }
        let wall_clock = self.shared.host.wall_clock_ms();
        for record in run.records() {
            let Some(wait) = retry_at(&record).map(|at| at.saturating_sub(wall_clock)) else {
                continue;
            };
            if let Ok(wait) = u64::try_from(wait)
                && wait > 0
            {
                self.schedule.delay(Offset(record.offset()), now + Duration::from_millis(wait));
            }
        }
    }

    /// Does a record of its key lie in the retry topic? Then it has to go there, too.
    pub(super) fn must_follow(&self, index: u64) -> bool {
        if self.holds.is_empty() || Bug::HoldsForgotten.is(self.shared.plan.bug) {
            return false;
        }
        let held = self.record(index);
        held.is_some_and(|(run, at)| run.record(at).is_some_and(|record| self.is_held(&record)))
    }

    fn is_held(&self, record: &Record<'_>) -> bool {
        self.spec.hold_key(record).is_some_and(|key| self.holds.is_held(key))
    }

    /// The record goes to the retry topic: it has failed too often, or follows one of its key.
    pub(super) fn send_away(
        &mut self,
        turn: Turn,
        failure: Option<&Failure>,
        now: Time,
    ) -> RecordOutcome {
        let found = self.record(turn.index);
        let record = found.as_ref().and_then(|(run, at)| run.record(*at));
        let (Some(record), Some(route)) = (record, &self.spec.retry_route) else {
            return RecordOutcome::Cancelled; // never: what runs is held, and has a route
        };
        let attempts = if failure.is_some() { turn.attempt } else { 0 };
        let story = self.story(attempts);
        let wall_clock = self.shared.host.wall_clock_ms();
        let output = retry_record(route, &record, story, failure, wall_clock);
        let key = self.spec.hold_key(&record).filter(|_| route.holds);
        if let Some(failure) = failure {
            let (partition, offset, topic) = (&self.place.partition, turn.offset.0, &route.topic);
            let (attempt, error) = (turn.attempt, &failure.text);
            tracing::warn!(%partition, offset, attempt, error, %topic, "the record has failed too often here and waits in the retry topic");
        }
        if let Some(key) = key {
            self.holds.hold(key, turn.offset);
            self.ask_at.get_or_insert(now + ASK_INTERVAL);
            self.show_holds();
        }
        self.observe_end(turn, RecordOutcome::RetryTopic);
        self.done(turn.index, Effects::of_output(output), now);
        RecordOutcome::RetryTopic
    }

    pub(super) fn story(&self, attempts: u32) -> Story<'_> {
        let worker = &self.shared.plan.worker;
        Story { attempts, worker, goes_on: self.spec.is_retry_topic }
    }

    /// What is committed, if it is time to ask whether held keys can be let go.
    pub(super) fn question(&mut self, now: Time) -> Option<DoneSet> {
        let is_due = self.state == State::Running && self.ask_at.is_some_and(|at| now >= at);
        if !is_due {
            return None;
        }
        self.ask_at = Some(now + ASK_INTERVAL);
        Some(self.committed_done.clone())
    }

    /// The retry topics were asked, in their order, after this much was committed here.
    pub(crate) fn heard_of_retries(&mut self, committed: &DoneSet, topics: &[RetryTopic]) {
        for (number, topic) in topics.iter().enumerate() {
            let is_last = number + 1 == topics.len();
            self.holds.heard(number, is_last, committed, topic.end, topic.handled);
        }
        if self.holds.is_empty() {
            self.ask_at = None;
        }
        self.show_holds();
    }

    pub(crate) fn show_holds(&self) {
        self.metrics.held_keys.set(f64::from(u32::try_from(self.holds.len()).unwrap_or(u32::MAX)));
    }
}
