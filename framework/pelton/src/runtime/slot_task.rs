//! One slot's loop: come to the desk, do what is to be done, come again.
//!
//! User code runs here and nowhere else. A slot knows nothing of the others; what comes next is
//! decided at the desk, in the same step that takes what has become of the last record.

use std::sync::Arc;

use pelton_engine::{Bug, Closing, Offset, RetryPolicy};
use tokio::sync::Notify;

use crate::context::Effects;
use crate::error::{HandlerError, WorkerError};
use crate::handler::Handler;
use crate::ports::Host;
use crate::record::Run;
use crate::runtime::desk::{InHand, SharedDesk, Step, Turn};
use crate::runtime::slot::{Called, Slot};
use crate::topic_partition::TopicPartition;

/// A slot at work, and what it takes to it.
pub(crate) struct SlotTask<H> {
    pub(crate) slot: Slot<H>,
    pub(crate) desk: SharedDesk,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) partition: TopicPartition,
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
                Step::Handle(turn, run, at) => self.handle(turn, &run, at).await,
                Step::Batch(batch) => self.handle_batch(batch).await,
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
            if turns.is_multiple_of(64) {
                tokio::task::yield_now().await; // others share this thread
            }
        }
    }

    fn turn(&self) -> Step {
        self.desk.lock().turn(self.slot.index, self.host.now())
    }

    /// Tells the partition's handler that the partition is ours, until it succeeds; false if it
    /// never will. What comes of it enters the outbox.
    pub(crate) async fn assigned(&mut self) -> bool {
        let mut attempt = 0;
        loop {
            let called = self.slot.assigned().await;
            attempt += 1;
            match called {
                Called::Done(effects) => {
                    self.desk.lock().enter(effects);
                    return true;
                }
                Called::Failed(error) if error.is_fatal() => {
                    self.desk.lock().fail(self.failure(Offset(-1), &error));
                    return false;
                }
                Called::Failed(error) => self.log_retry("assigned", attempt, &error.to_string()),
                Called::Panicked(panic) => {
                    self.slot.discard();
                    self.log_retry("assigned", attempt, &panic);
                }
                Called::Skipped | Called::TimedOut(_) | Called::Deferred(_) => {}
            }
            let seed = self.slot.index as u64;
            self.host.sleep(self.retry.backoff(attempt, seed)).await;
        }
    }

    async fn handle(&mut self, turn: Turn, run: &Run, at: usize) -> Step {
        let begun = self.host.now();
        let Some(record) = run.record(at) else { return self.turn() };
        let called = self.slot.handle(&record, turn).await;
        let now = self.host.now();
        if matches!(called, Called::Panicked(_) | Called::TimedOut(_)) {
            self.slot.discard();
        }
        let mut desk = self.desk.lock();
        desk.metrics.handler_seconds.record(now.since(begun));
        desk.called(turn, called, now);
        if self.slot.is_gone() {
            desk.reset_if_handled(); // what it had handled went with it
        }
        desk.turn(self.slot.index, now)
    }

    async fn handle_batch(&mut self, batch: Vec<InHand>) -> Step {
        let begun = self.host.now();
        let held = batch.iter().filter_map(|(turn, run, at)| Some((*turn, run.record(*at)?)));
        let records: Vec<_> = held.collect();
        let turns: Vec<_> = records.iter().map(|(turn, _)| *turn).collect();
        let called = self.slot.handle_batch(records).await;
        let now = self.host.now();
        if called.iter().any(|c| matches!(c, Called::Panicked(_) | Called::TimedOut(_))) {
            self.slot.discard();
        }
        let mut desk = self.desk.lock();
        desk.metrics.handler_seconds.record(now.since(begun));
        desk.batch_called(turns.into_iter().zip(called), now);
        desk.turn(self.slot.index, now)
    }

    async fn flush(&mut self) -> Step {
        let called = self.slot.flush().await;
        let now = self.host.now();
        let mut desk = self.desk.lock();
        match called {
            Called::Done(effects) => {
                desk.observe_flush();
                desk.flushed(effects, now);
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
                    desk.flushed(Effects::default(), now);
                } else {
                    desk.flush_failed(now);
                }
            }
            Called::Panicked(panic) => {
                self.log_retry("flush", 1, &panic);
                self.slot.discard();
                desk.reset_if_handled();
            }
            Called::Skipped | Called::TimedOut(_) | Called::Deferred(_) => {}
        }
        desk.turn(self.slot.index, now)
    }

    async fn tick(&mut self) -> Step {
        let called = self.slot.tick().await;
        let now = self.host.now();
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
            Called::Skipped | Called::TimedOut(_) | Called::Deferred(_) => {}
        }
        desk.turn(self.slot.index, now)
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
