//! One slot's loop: come to the desk, do what is to be done, come again.
//!
//! User code runs here and nowhere else. A slot knows nothing of the others; what comes next is
//! decided at the desk, in the same step that takes what has become of the last record.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use pelton_engine::{Bug, Closing, Epoch, Offset, RetryPolicy, Turn};
use tokio::sync::Notify;

use crate::effects::Effects;
use crate::error::{HandlerError, WorkerError};
use crate::handler::Handler;
use crate::runtime::desk::{SharedDesk, Step, effects_bytes};
use crate::runtime::handful::{Handful, InHand};
use crate::runtime::lease::Lease;
use crate::runtime::shared::Shared;
use crate::runtime::slot::{Called, Slot};
use crate::telemetry::{Observation, RecordOutcome, Samples};
use crate::topic_partition::TopicPartition;

/// So many turns at the desk, and others have theirs on this thread.
const TURNS: u32 = 64;

/// A slot at work, and what it takes to it.
pub(crate) struct SlotTask<H> {
    pub(crate) slot: Slot<H>,
    pub(crate) desk: SharedDesk,
    /// What it has in hand.
    pub(crate) hand: Arc<Handful>,
    pub(crate) lease: Arc<Lease>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) handler_seconds: Samples,
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: Epoch,
    pub(crate) retry: RetryPolicy,
    /// Wakes it when it rests.
    pub(crate) wake: Arc<Notify>,
}

impl<H: Handler> SlotTask<H> {
    /// Works until the partition is over.
    pub(crate) async fn work(mut self) {
        let mut turns = 0_u32;
        let mut step = self.turn();
        loop {
            step = match step {
                Step::Handle { is_alone, .. } => self.handle(is_alone).await,
                Step::Batch { .. } => self.handle_batch().await,
                Step::Flush => self.flush().await,
                Step::Tick => self.tick().await,
                Step::Revoked => {
                    self.slot.revoked().await;
                    self.turn()
                }
                Step::Rest => {
                    self.wake.notified().await;
                    self.turn()
                }
                Step::Leave => return self.slot.close().await,
                Step::End(closing) => return self.end(closing).await,
            };
            turns = turns.wrapping_add(1);
            if turns.is_multiple_of(TURNS) {
                step_aside().await; // others share this thread
            }
        }
    }

    fn turn(&self) -> Step {
        self.desk.lock().turn(self.slot.index, &self.hand, self.shared.host.now())
    }

    /// Tells the partition's handler that the partition is ours, until it succeeds; false if it
    /// never will. What comes of it enters the outbox.
    pub(crate) async fn assigned(&mut self) -> bool {
        let mut attempt = 0;
        loop {
            attempt += 1;
            if let Some(is_assigned) = self.try_assigned(attempt).await {
                return is_assigned;
            }
            let seed = self.slot.index as u64;
            self.shared.host.sleep(self.retry.backoff(attempt, seed)).await;
        }
    }

    /// The same for one more slot, while others are at work: between two tries it is in nobody's way, and it
    /// gives up when nothing starts any more.
    pub(crate) async fn joins(&mut self) -> bool {
        let index = self.slot.index;
        let mut attempt = 0;
        while self.desk.lock().joins(index) {
            attempt += 1;
            if let Some(is_assigned) = self.try_assigned(attempt).await {
                return is_assigned;
            }
            if !self.desk.lock().joins_later(index) {
                return false;
            }
            let wait = self.shared.host.sleep(self.retry.backoff(attempt, index as u64));
            tokio::select! {
                biased;
                () = self.wake.notified() => {}
                () = wait => {}
            }
        }
        false
    }

    /// Has it succeeded, if it is not to be tried again?
    async fn try_assigned(&mut self, attempt: u32) -> Option<bool> {
        match self.slot.assigned().await {
            Called::Done(effects) => {
                self.desk.lock().enter(effects);
                return Some(true);
            }
            Called::Failed(error) if error.is_fatal() => {
                self.desk.lock().fail(self.failure(Offset(-1), &error));
                return Some(false);
            }
            Called::Failed(error) => self.log_retry("assigned", attempt, &error.to_string()),
            Called::Panicked(panic) => {
                self.slot.discard();
                self.log_retry("assigned", attempt, &panic);
            }
            Called::Skipped
            | Called::Spoilt
            | Called::Unmade(_)
            | Called::TimedOut(_)
            | Called::Deferred(_) => {}
        }
        None
    }

    /// Handles what it has in hand, one after the other, as long as all goes well.
    async fn handle(&mut self, is_alone: bool) -> Step {
        let mut begun = self.shared.host.now();
        let (mut last, mut run) = (None, None);
        let called = loop {
            let (turn, next_run, at) = match self.take_up(last.take()) {
                Ok(next) => next,
                Err(called) => break called,
            };
            run = next_run.or(run);
            let record = run.as_ref().and_then(|run| run.record(at));
            let Some(record) = record else { break None }; // never: its run holds it
            let (desk, hand, host) = (&self.desk, &self.hand, &self.shared.host);
            let tell = || desk.lock().waits(hand, host.now());
            let call = pin!(self.slot.handle(&record, turn)); // large: not moved about
            let called = telling(call, is_alone, tell).await;
            let now = self.shared.host.now();
            self.handler_seconds.add(now.since(begun));
            (begun, last) = (now, Some(called));
        };
        self.handler_seconds.tell();
        let mut desk = self.desk.lock();
        desk.is_back(&self.hand, called, begun);
        if self.slot.is_gone() {
            desk.reset_if_handled(); // what it had handled went with it
        }
        desk.turn(self.slot.index, &self.hand, begun)
    }

    /// The last record has ended so: the next one of those in hand. If none may begin, the desk is to
    /// hear of the last one.
    fn take_up(&mut self, last: Option<Called>) -> Result<InHand, Option<Called>> {
        if matches!(last, Some(Called::Panicked(_) | Called::TimedOut(_))) {
            self.slot.discard();
        }
        let ended_well = match last {
            Some(Called::Done(_)) => Some(RecordOutcome::Done),
            Some(Called::Skipped) => Some(RecordOutcome::Skipped),
            Some(_) if !Bug::HandGoesOn.is(self.shared.plan.bug) => return Err(last),
            Some(_) | None => None,
        };
        // Locked until it is told: what the desk takes back is not told to have begun.
        let mut held = self.hand.lock();
        let surprises = |last: &Called| match last {
            Called::Done(effects) => effects_bytes(effects) > held.usual_effects,
            _ => false,
        };
        // Of effects that are larger than any before there is one: the desk is to know of it first.
        let is_enough = last.as_ref().is_some_and(surprises);
        if let Some(outcome) = ended_well.filter(|_| self.slot.is_plain())
            && let Some(Turn { offset: Offset(offset), attempt, .. }) = held.begun()
        {
            let (partition, epoch) = (&self.partition, self.epoch.0);
            let end = Observation::End { partition, epoch, offset, attempt, outcome };
            self.shared.observe(&end);
        }
        // A loss counts from the moment the poll loop knows of it, not from when the task hears it.
        if is_enough || held.waiting() == 0 || self.lease.is_over(self.shared.plan.bug) {
            return Err(last);
        }
        if let Some(last) = last {
            held.put_aside(last);
        }
        let next = held.begin().ok_or(None)?;
        self.observe_start(next.0);
        Ok(next)
    }

    fn observe_start(&self, Turn { offset, attempt, .. }: Turn) {
        let (partition, epoch, offset) = (&self.partition, self.epoch.0, offset.0);
        self.shared.observe(&Observation::Start { partition, epoch, offset, attempt });
    }

    async fn handle_batch(&mut self) -> Step {
        let begun = self.shared.host.now();
        // A loss counts from the moment the poll loop knows of it.
        let is_over = self.lease.is_over(self.shared.plan.bug);
        let batch = if is_over { Vec::new() } else { self.hand.lock().begin_all() };
        if batch.is_empty() {
            // The desk has taken it back meanwhile, or does so now.
            let mut desk = self.desk.lock();
            desk.is_back(&self.hand, None, begun);
            return desk.turn(self.slot.index, &self.hand, begun);
        }
        let mut of = None;
        let held = batch.iter().filter_map(|(turn, run, at)| {
            of = run.as_ref().or(of);
            Some((*turn, of?.record(*at)?))
        });
        let records: Vec<_> = held.collect();
        let turns: Vec<_> = records.iter().map(|(turn, _)| *turn).collect();
        turns.iter().take(1).for_each(|first| self.observe_start(*first));
        let (called, is_whole) = self.slot.handle_batch(records).await;
        let failed_together = is_whole && called.len() > 1;
        let now = self.shared.host.now();
        if called.iter().any(|c| matches!(c, Called::Panicked(_) | Called::TimedOut(_))) {
            self.slot.discard();
        }
        self.handler_seconds.add(now.since(begun));
        self.handler_seconds.tell();
        let mut desk = self.desk.lock();
        desk.batch_called(&self.hand, turns.into_iter().zip(called), failed_together, now);
        desk.turn(self.slot.index, &self.hand, now)
    }

    async fn flush(&mut self) -> Step {
        let called = self.slot.flush().await;
        let now = self.shared.host.now();
        let mut desk = self.desk.lock();
        match called {
            // Too late: what it flushed is the next owner's to do, and does not count.
            Called::Done(_) if !desk.waits_for_a_flush() => {}
            Called::Done(effects) => {
                desk.observe_flush();
                desk.flushed(effects);
            }
            Called::Failed(error) if error.is_fatal() => {
                // What was handled can't become done any more: the drain must not ask again.
                self.slot.discard();
                desk.forget_handled();
                desk.fail(self.failure(Offset(-1), &error));
            }
            Called::Failed(error) => {
                self.log_retry("flush", 1, &error.to_string());
                if Bug::FailedFlushCounts.is(desk.shared.plan.bug) {
                    desk.flushed(Effects::default());
                } else {
                    desk.flush_failed(now);
                }
            }
            Called::Panicked(panic) => {
                self.log_retry("flush", 1, &panic);
                self.slot.discard();
                desk.reset_if_handled();
            }
            Called::Skipped
            | Called::Spoilt
            | Called::Unmade(_)
            | Called::TimedOut(_)
            | Called::Deferred(_) => {}
        }
        desk.turn(self.slot.index, &self.hand, now)
    }

    async fn tick(&mut self) -> Step {
        let called = self.slot.tick().await;
        let now = self.shared.host.now();
        let mut desk = self.desk.lock();
        match called {
            Called::Done(effects) => desk.ticked(effects, now),
            Called::Failed(error) if error.is_fatal() => {
                desk.fail(self.failure(Offset(-1), &error));
            }
            Called::Failed(error) => self.log_retry("tick", 1, &error.to_string()),
            Called::Panicked(panic) => {
                self.log_retry("tick", 1, &panic);
                self.slot.discard();
                desk.reset_if_handled();
            }
            Called::Skipped
            | Called::Spoilt
            | Called::Unmade(_)
            | Called::TimedOut(_)
            | Called::Deferred(_) => {}
        }
        desk.turn(self.slot.index, &self.hand, now)
    }

    async fn end(&mut self, closing: Closing) {
        if closing != Closing::Released {
            self.slot.lost().await;
        }
        self.slot.close().await;
    }

    fn failure(&self, offset: Offset, error: &HandlerError) -> WorkerError {
        let partition = self.partition.clone();
        WorkerError::Handler { partition, offset: offset.0, reason: error.to_string() }
    }

    fn log_retry(&self, call: &str, attempt: u32, error: &str) {
        tracing::warn!(partition = %self.partition, call, attempt, error, "user code failed and will be called again");
    }
}

/// Others have their turn on this thread. Woken while it is polled, a slot stands in the queue, where other
/// threads find it with what it has in hand; tokio's own `yield_now` keeps it for this thread, whatever
/// holds that next.
async fn step_aside() {
    let mut is_aside = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_aside, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Runs a call to its end. If it waits for something, and that `is_wanted`, it is told once.
async fn telling<T>(
    mut call: Pin<&mut impl Future<Output = T>>,
    is_wanted: bool,
    tell: impl Fn(),
) -> T {
    let mut wants = is_wanted;
    poll_fn(|context| {
        let polled = call.as_mut().poll(context);
        if polled.is_pending() && std::mem::take(&mut wants) {
            tell();
        }
        polled
    })
    .await
}
