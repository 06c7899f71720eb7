//! What rules does an input have? Ordering, retries, flushes, ticks, stores, and its handler.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pelton_engine::{Ordering, RetryPolicy};

use super::builder::WorkerBuilder;
use crate::error::HandlerError;
use crate::handler::{Handler, SlotId};
use crate::runtime::{HandlerFactory, InputSpec, OnInvalid};
use crate::state::Store;

/// One input's rules; ends with [`handler`](Self::handler) or
/// [`try_handler`](Self::try_handler).
///
/// ```
/// # use pelton::{Context, Handler, HandlerError, OnInvalid, Record, RetryPolicy, Worker};
/// # struct Print;
/// # impl Handler for Print {
/// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
/// # }
/// use std::time::Duration;
///
/// let mut app = Worker::builder("printer");
/// app.input("user_logins")
///     .on_invalid(OnInvalid::Skip)
///     .retry(RetryPolicy { initial: Duration::from_millis(200), max: Duration::from_secs(10) })
///     .tick_every(Duration::from_secs(60))
///     .handler(|_slot| Print);
/// ```
#[derive(Debug)]
#[must_use = "an input needs a handler"]
pub struct InputBuilder<'a> {
    app: &'a mut WorkerBuilder,
    index: usize,
}

impl<'a> InputBuilder<'a> {
    pub(super) fn new(app: &'a mut WorkerBuilder, index: usize) -> Self {
        Self { app, index }
    }

    fn spec(&mut self) -> &mut InputSpec {
        self.app.spec(self.index)
    }

    /// What is kept in order. Default: all records of a partition.
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.spec().ordering = ordering;
        self
    }

    /// What to do with invalid records. Default: stop the worker and name the record.
    pub fn on_invalid(mut self, on_invalid: OnInvalid) -> Self {
        self.spec().on_invalid = on_invalid;
        self
    }

    /// How long failed records wait. Default 1 s → 30 s, for ever.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.spec().retry = policy;
        self
    }

    /// Records are done only when the handler's `flush` succeeds; it is called after so many
    /// records or so long after the first of them, and before commits.
    pub fn flush_every(mut self, records: usize, interval: Duration) -> Self {
        self.spec().flush_every = Some((records.max(1), interval));
        self
    }

    /// Calls the handler's `tick` so often for each partition, between two records.
    pub fn tick_every(mut self, interval: Duration) -> Self {
        self.spec().tick_every = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// Binds a store to this input.
    pub fn uses<K: ?Sized, V>(mut self, store: Store<K, V>) -> Self {
        self.spec().stores.push(store.index);
        self
    }

    /// Makes one handler per slot.
    pub fn handler<H: Handler>(self, make: impl Fn(SlotId) -> H + Send + Sync + 'static) {
        let factory = HandlerFactory::new(move |slot| Box::pin(std::future::ready(Ok(make(slot)))));
        self.app.set_slots(self.index, Arc::new(factory));
    }

    /// Makes one handler per slot by code that waits or fails; a retryable failure is tried
    /// again with growing waits.
    pub fn try_handler<H, F>(self, make: impl Fn(SlotId) -> F + Send + Sync + 'static)
    where
        H: Handler,
        F: Future<Output = Result<H, HandlerError>> + Send + 'static,
    {
        let factory = HandlerFactory::new(move |slot| Box::pin(make(slot)));
        self.app.set_slots(self.index, Arc::new(factory));
    }
}
