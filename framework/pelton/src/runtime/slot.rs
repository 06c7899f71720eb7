//! Where user code runs: one handler instance, one record at a time, panics caught.
//!
//! Upholds INV-11 (a failed attempt leaves nothing behind) and INV-14 (a panic is a retryable
//! error, and the instance that panicked is never used again).

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use pelton_engine::{Bug, Turn};

use crate::batch::Batch;
use crate::completion::Deferred;
use crate::context::{Context, Place};
use crate::effects::Effects;
use crate::error::HandlerError;
use crate::handler::{Handler, SlotId};
use crate::panic_place;
use crate::record::Record;
use crate::runtime::in_poll::InPoll;
use crate::runtime::input::{HandlerFactory, InputSpec};
use crate::state::BatchWrites;

/// A handler instance and the way to make another.
pub(crate) struct Slot<H> {
    pub(crate) index: usize,
    place: Arc<Place>,
    /// Whether its user code holds its thread.
    marks: Arc<InPoll>,
    rules: InputSpec,
    factory: HandlerFactory<H>,
    handler: Option<H>,
    bug: Option<Bug>,
    /// Planted bug: what a failed attempt has left behind.
    left: Effects,
}

/// How a call of user code ended.
#[derive(Debug)]
pub(crate) enum Called {
    Done(Effects),
    /// Nothing is to be done for the record.
    Skipped,
    /// It has seen in its batch what does not count, or not what does: it is to be handled again, as if it
    /// had not been.
    Spoilt,
    /// Somebody else completes it.
    Deferred(Deferred),
    Failed(HandlerError),
    /// There is no instance: the factory failed, and no record is at fault.
    Unmade(HandlerError),
    TimedOut(Duration),
    Panicked(String),
}

impl<H: Handler> Slot<H> {
    pub(crate) fn new(
        index: usize,
        place: Arc<Place>,
        marks: Arc<InPoll>,
        rules: InputSpec,
        factory: HandlerFactory<H>,
        bug: Option<Bug>,
    ) -> Self {
        Self { index, place, marks, rules, factory, handler: None, bug, left: Effects::default() }
    }

    /// One attempt at one record. Dropping the future cuts the attempt off; then
    /// [`discard`](Self::discard) must be called.
    pub(crate) async fn handle(&mut self, record: &Record<'_>, turn: Turn) -> Called {
        self.marks.at(record.offset());
        if let Err(error) = self.make().await {
            return Called::Unmade(error);
        }
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let access = self.rules.access(record);
        let mut ctx = Context::new(&self.place, turn.attempt, access);
        ctx.may_defer = Some(turn.index).filter(|_| self.rules.flush_every.is_none());
        ctx.effects = std::mem::take(&mut self.left); // nothing
        let called = {
            // Large: it is not moved about.
            let code = pin!(async { handler.handle(record, &mut ctx).await });
            let code = caught(&self.marks, code);
            match self.rules.attempt_timeout {
                None => code.await,
                Some(limit) => tokio::select! {
                    biased;
                    called = code => called,
                    () = self.place.host.sleep(limit) => return Called::TimedOut(limit),
                },
            }
        };
        if !matches!(called, Ok(Ok(()))) {
            self.left = left_behind(&mut ctx.effects, self.bug);
        }
        settle(called, &mut ctx)
    }

    /// One attempt at each of these records, all in one call, and whether that failed as a whole. Dropping
    /// the future cuts it off, as with [`handle`](Self::handle).
    pub(crate) async fn handle_batch(
        &mut self,
        records: Vec<(Turn, Record<'_>)>,
    ) -> (Vec<Called>, bool) {
        let all = |called: &dyn Fn() -> Called| (records.iter().map(|_| called()).collect(), true);
        if let Err(error) = self.make().await {
            return (all(&|| Called::Unmade(error.clone())).0, false);
        }
        let Some(handler) = &mut self.handler else {
            return (Vec::new(), false);
        };
        if let Some((_, first)) = records.first() {
            self.marks.at(first.offset());
        }
        let mut contexts = Vec::with_capacity(records.len());
        let written = Arc::<BatchWrites>::default();
        for (number, (turn, record)) in records.iter().enumerate() {
            let mut ctx = Context::new(&self.place, turn.attempt, self.rules.access(record));
            ctx.batch = Some((number, Arc::clone(&written)));
            contexts.push(ctx);
        }
        let mut batch = Batch::new(records.iter().map(|(_, record)| *record).collect(), contexts);
        let code = caught(&self.marks, async { handler.handle_batch(&mut batch).await });
        let called = match self.rules.attempt_timeout {
            None => code.await,
            Some(limit) => tokio::select! {
                biased;
                called = code => called,
                () = self.place.host.sleep(limit) => return all(&|| Called::TimedOut(limit)),
            },
        };
        let whole = match called {
            Ok(result) => result,
            Err(panic) => return all(&|| Called::Panicked(panic.clone())),
        };
        let results = batch.into_results().map(|(ctx, own)| match (own, &whole) {
            (Some(error), _) => Called::Failed(error),
            (None, _) if ctx.is_skipped() => Called::Skipped,
            (None, Err(error)) => Called::Failed(error.clone()),
            (None, Ok(())) => Called::Done(ctx.effects),
        });
        let mut results: Vec<_> = results.collect();
        let is_done = |called: &Called| matches!(called, Called::Done(_));
        for number in written.spoilt(&results.iter().map(is_done).collect::<Vec<_>>()) {
            if let Some(called) = results.get_mut(number).filter(|called| is_done(called)) {
                *called = Called::Spoilt;
            }
        }
        (results, whole.is_err())
    }

    pub(crate) async fn flush(&mut self) -> Called {
        if Bug::FlushAfterPanic.is(self.bug) {
            let _failed = self.make().await.is_err();
        }
        let Some(handler) = &mut self.handler else {
            // What it had handled went with it: nothing of that may count as flushed.
            return Called::Panicked("the instance to flush is gone".to_owned());
        };
        let mut ctx = Context::new(&self.place, 1, self.rules.access_of_calls());
        let called = caught(&self.marks, async { handler.flush(&mut ctx).await }).await;
        settle(called, &mut ctx)
    }

    pub(crate) async fn tick(&mut self) -> Called {
        if let Err(error) = self.make().await {
            return Called::Failed(error);
        }
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, 1, self.rules.access_of_calls());
        let called = caught(&self.marks, async { handler.tick(&mut ctx).await }).await;
        settle(called, &mut ctx)
    }

    /// Makes the instance and tells it that the partition is ours.
    pub(crate) async fn assigned(&mut self) -> Called {
        if let Err(error) = self.make().await {
            return Called::Failed(error);
        }
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, 1, self.rules.access_of_calls());
        let called = caught(&self.marks, async { handler.assigned(&mut ctx).await }).await;
        settle(called, &mut ctx)
    }

    pub(crate) async fn revoked(&mut self) -> Called {
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, 1, self.rules.access_of_calls()).without_outputs();
        let panic = caught(&self.marks, async { handler.revoked(&mut ctx).await }).await.err();
        self.log_panic("revoked", panic);
        Called::Done(Effects::default())
    }

    pub(crate) async fn lost(&mut self) {
        let Some(handler) = &mut self.handler else {
            return;
        };
        let mut ctx = Context::new(&self.place, 1, self.rules.access_of_calls()).without_outputs();
        let panic = caught(&self.marks, async { handler.lost(&mut ctx).await }).await.err();
        self.log_panic("lost", panic);
    }

    pub(crate) async fn close(&mut self) {
        let Some(mut handler) = self.handler.take() else {
            return;
        };
        let panic = caught(&self.marks, async { handler.close().await }).await.err();
        drop(handler);
        self.log_panic("close", panic);
    }

    /// Is a record done as soon as the handler says so?
    pub(crate) fn is_plain(&self) -> bool {
        self.rules.is_plain()
    }

    /// Is there no instance?
    pub(crate) fn is_gone(&self) -> bool {
        self.handler.is_none()
    }

    /// The instance panicked or was cut off: the next call makes another.
    pub(crate) fn discard(&mut self) {
        self.handler = None;
    }

    async fn make(&mut self) -> Result<(), HandlerError> {
        if self.handler.is_some() {
            return Ok(());
        }
        let slot = SlotId { partition: self.place.partition.clone(), index: self.index };
        let made = caught(&self.marks, async { self.factory.make(slot).await }).await;
        self.handler = Some(match made {
            Ok(Ok(handler)) => handler,
            // No record is at fault here: `on_invalid` must not skip one for it.
            Ok(Err(error)) if error.is_invalid() => return Err(HandlerError::fatal(error)),
            Ok(Err(error)) => return Err(error),
            Err(panic) => {
                return Err(HandlerError::retryable(format!("the factory panicked: {panic}")));
            }
        });
        Ok(())
    }

    fn log_panic(&self, hook: &str, panic: Option<String>) {
        if let Some(panic) = panic {
            tracing::error!(partition = %self.place.partition, hook, panic, "a hook panicked");
        }
    }
}

/// What the next attempt finds of a failed one (INV-11).
fn left_behind(failed: &mut Effects, bug: Option<Bug>) -> Effects {
    failed.left_behind(Bug::FailedOutputsStay.is(bug), Bug::FailedWritesStay.is(bug))
}

fn settle(called: Result<Result<(), HandlerError>, String>, ctx: &mut Context<'_>) -> Called {
    match called {
        Ok(Ok(())) => match ctx.deferred {
            Some(limit) => {
                Called::Deferred(Deferred { limit, effects: std::mem::take(&mut ctx.effects) })
            }
            None if ctx.is_skipped() => Called::Skipped,
            None => Called::Done(std::mem::take(&mut ctx.effects)),
        },
        Ok(Err(error)) => Called::Failed(error),
        Err(panic) => Called::Panicked(panic),
    }
}

/// Runs user code and turns a panic into its message. Give it an `async` block: a call that panics
/// while it makes its future is caught only inside one.
async fn caught<T>(marks: &InPoll, code: impl Future<Output = T>) -> Result<T, String> {
    let code = AssertUnwindSafe(code).catch_unwind();
    marks.run(code).await.map_err(|panic| message(&*panic))
}

/// Its message, and where it happened.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    match panic_place::take() {
        Some(place) => format!("{text}, at {place}"),
        None => text,
    }
}
