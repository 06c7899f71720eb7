//! Where user code runs: one handler instance, one record at a time, panics caught.
//!
//! Upholds INV-11 (a failed attempt leaves nothing behind) and INV-14 (a panic is a retryable
//! error, and the instance that panicked is never used again).

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use pelton_engine::Bug;

use crate::context::{Context, Effects, Place};
use crate::error::HandlerError;
use crate::handler::{Handler, SlotId};
use crate::record::Record;
use crate::runtime::desk::Lease;
use crate::runtime::input::HandlerFactory;

/// A handler instance and the way to make another.
pub(crate) struct Slot<H> {
    place: Arc<Place>,
    lease: Arc<Lease>,
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
    Failed(HandlerError),
    Panicked(String),
}

impl<H: Handler> Slot<H> {
    pub(crate) fn new(
        place: Arc<Place>,
        lease: Arc<Lease>,
        factory: HandlerFactory<H>,
        bug: Option<Bug>,
    ) -> Self {
        Self { place, lease, factory, handler: None, bug, left: Effects::default() }
    }

    /// One attempt at one record. Dropping the future cuts the attempt off; then
    /// [`discard`](Self::discard) must be called.
    pub(crate) async fn handle(&mut self, record: &Record<'_>, attempt: u32) -> Called {
        if let Err(error) = self.make().await {
            return Called::Failed(error);
        }
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, attempt, true);
        ctx.effects = std::mem::take(&mut self.left); // nothing
        let called = caught(&self.lease, async { handler.handle(record, &mut ctx).await }).await;
        if !matches!(called, Ok(Ok(()))) {
            self.left = left_behind(&mut ctx.effects, self.bug);
        }
        settle(called, ctx)
    }

    pub(crate) async fn flush(&mut self) -> Called {
        if Bug::FlushAfterPanic.is(self.bug) {
            let _failed = self.make().await.is_err();
        }
        let Some(handler) = &mut self.handler else {
            // What it had handled went with it: nothing of that may count as flushed.
            return Called::Panicked("the instance to flush is gone".to_owned());
        };
        let mut ctx = Context::new(&self.place, 1, true);
        let called = caught(&self.lease, async { handler.flush(&mut ctx).await }).await;
        settle(called, ctx)
    }

    pub(crate) async fn tick(&mut self) -> Called {
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, 1, true);
        let called = caught(&self.lease, async { handler.tick(&mut ctx).await }).await;
        settle(called, ctx)
    }

    /// Makes the instance and tells it that the partition is ours.
    pub(crate) async fn assigned(&mut self) -> Called {
        if let Err(error) = self.make().await {
            return Called::Failed(error);
        }
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, 1, true);
        let called = caught(&self.lease, async { handler.assigned(&mut ctx).await }).await;
        settle(called, ctx)
    }

    pub(crate) async fn revoked(&mut self) -> Called {
        let Some(handler) = &mut self.handler else {
            return Called::Done(Effects::default());
        };
        let mut ctx = Context::new(&self.place, 1, false);
        let panic = caught(&self.lease, async { handler.revoked(&mut ctx).await }).await.err();
        self.log_panic("revoked", panic);
        Called::Done(Effects::default())
    }

    pub(crate) async fn lost(&mut self) {
        let Some(handler) = &mut self.handler else {
            return;
        };
        let mut ctx = Context::new(&self.place, 1, false);
        let panic = caught(&self.lease, async { handler.lost(&mut ctx).await }).await.err();
        self.log_panic("lost", panic);
    }

    pub(crate) async fn close(&mut self) {
        let Some(mut handler) = self.handler.take() else {
            return;
        };
        let panic = caught(&self.lease, async { handler.close().await }).await.err();
        drop(handler);
        self.log_panic("close", panic);
    }

    /// The instance panicked or was cut off: the next call makes another.
    pub(crate) fn discard(&mut self) {
        self.handler = None;
    }

    async fn make(&mut self) -> Result<(), HandlerError> {
        if self.handler.is_some() {
            return Ok(());
        }
        let slot = SlotId { partition: self.place.partition.clone(), index: 0 };
        let made = caught(&self.lease, async { self.factory.make(slot).await }).await;
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
    let mut left = Effects::default();
    if Bug::FailedWritesStay.is(bug) {
        left.writes = std::mem::take(&mut failed.writes);
    }
    if Bug::FailedOutputsStay.is(bug) {
        left.outputs = std::mem::take(&mut failed.outputs);
    }
    left
}

fn settle(called: Result<Result<(), HandlerError>, String>, ctx: Context<'_>) -> Called {
    match called {
        Ok(Ok(())) => Called::Done(ctx.effects),
        Ok(Err(error)) => Called::Failed(error),
        Err(panic) => Called::Panicked(panic),
    }
}

/// Runs user code and turns a panic into its message. Give it an `async` block: a call that panics
/// while it makes its future is caught only inside one.
async fn caught<T>(lease: &Lease, code: impl Future<Output = T>) -> Result<T, String> {
    let code = AssertUnwindSafe(code).catch_unwind();
    lease.user_code.run(code).await.map_err(|panic| message(&*panic))
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
