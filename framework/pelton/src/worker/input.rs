//! What rules does an input have? Ordering, retries, flushes, ticks, stores, and its handler.

use std::borrow::Cow;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use pelton_engine::{Breaker, Ordering, RetryPolicy};

use super::builder::WorkerBuilder;
use crate::batch::{BatchHandler, Batched, Batches};
use crate::error::HandlerError;
use crate::handler::{Handler, SlotId};
use crate::layer::{Layer, Layers};
use crate::output::{DeadLetters, RetryTopics};
use crate::record::Record;
use crate::runtime::{DeadLetterRoute, HandlerFactory, InputSpec, OnInvalid};
use crate::state::Store;

/// One input's rules; ends with [`handler`](Self::handler) or
/// [`try_handler`](Self::try_handler).
///
/// What is said here of failures, batches and concurrency is the default: whoever runs the worker may say
/// otherwise, in the settings ([`InputSettings`](crate::config::InputSettings)).
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
///     .retry(RetryPolicy::exponential(Duration::from_millis(200), Duration::from_secs(10)))
///     .tick_every(Duration::from_secs(60))
///     .handler(|_slot| Print);
/// ```
#[derive(Debug)]
#[must_use = "an input needs a handler"]
pub struct InputBuilder<'a, L = ()> {
    app: &'a mut WorkerBuilder,
    index: usize,
    layers: L,
}

impl<'a> InputBuilder<'a> {
    pub(super) fn new(app: &'a mut WorkerBuilder, index: usize) -> Self {
        Self { app, index, layers: () }
    }
}

impl<'a, L> InputBuilder<'a, L> {
    fn spec(&mut self) -> &mut InputSpec {
        self.app.spec(self.index)
    }

    /// What is kept in order. Default: all records of a partition.
    ///
    /// `Ordering::Key` keeps the records of each key in order, one at a time, and handles up to
    /// `concurrency` keys at once in this worker; its partitions share them fairly. Records without a
    /// key are kept in order among themselves. `Ordering::Unordered` keeps nothing in order. Neither
    /// goes with [`flush_every`](Self::flush_every).
    ///
    /// ```
    /// # use pelton::{Context, Handler, HandlerError, Ordering, Record, Worker};
    /// # struct CallApi;
    /// # impl Handler for CallApi {
    /// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// let mut app = Worker::builder("notifier");
    /// app.input("user_logins").ordering(Ordering::key(200)).handler(|_slot| CallApi);
    /// ```
    pub fn ordering(mut self, ordering: Ordering) -> Self {
        self.spec().ordering = ordering;
        self
    }

    /// Under `Ordering::Key`: what a record's key is, where it is not the record's own. Records for
    /// which it returns `None` are kept in order among themselves. It must be quick, and always say
    /// the same of the same record; if it panics, that counts as `None`.
    ///
    /// ```
    /// # use pelton::{Context, Handler, HandlerError, Ordering, Record, Worker};
    /// # struct CallApi;
    /// # impl Handler for CallApi {
    /// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// let mut app = Worker::builder("notifier");
    /// app.input("user_logins")
    ///     .ordering(Ordering::key(200))
    ///     .key_by(|record| record.header("tenant").map(Into::into))
    ///     .handler(|_slot| CallApi);
    /// ```
    pub fn key_by(
        mut self,
        key: impl for<'r> Fn(&Record<'r>) -> Option<Cow<'r, [u8]>> + Send + Sync + 'static,
    ) -> Self {
        self.spec().key_by = Some(Arc::new(key));
        self
    }

    /// What to do with invalid records. Default: stop the worker and name the record; with
    /// [`dead_letters`](Self::dead_letters), make a dead letter of it.
    pub fn on_invalid(mut self, on_invalid: OnInvalid) -> Self {
        self.spec().on_invalid = Some(on_invalid);
        self
    }

    /// How often failed records are tried again, and how long they wait before. Default for ever,
    /// 1 s → 30 s. A record that waits holds back only its ordering unit: its partition, its key, or
    /// itself. One that is given up becomes a dead letter where the input has
    /// [`dead_letters`](Self::dead_letters), and stops the worker where it has none (PLT-0404).
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.spec().retry = policy;
        self
    }

    /// An attempt that takes longer has failed: it is cut off at its next await, and the slot's
    /// handler is rebuilt. Default: none.
    pub fn attempt_timeout(mut self, limit: Duration) -> Self {
        self.spec().attempt_timeout = Some(limit);
        self
    }

    /// Pauses the input in this worker while what its handlers call is broken. Default: none.
    ///
    /// When a share of the last attempts, over all partitions, has failed with retryable errors or
    /// time-outs, the breaker *opens*: no record of the input starts for a while. Then one at a time
    /// probes. A success closes the breaker; a failure opens it again, for longer. Records that have
    /// failed keep their waits, and start when both let them. Flushes, ticks and hand-overs go on.
    ///
    /// While the breaker is not closed, no failure counts against its record, that of the attempt that
    /// has opened it included, and what had failed before is forgotten: nothing is given up, and the limit
    /// that [`retry`](Self::retry) sets to attempts or their time counts anew from there.
    /// (`ctx.attempt()` counts on.)
    ///
    /// The input of a pattern has one breaker for all of its topics, and an input with
    /// [`retry_topics`](Self::retry_topics) has one for them, too.
    ///
    /// ```
    /// # use pelton::{Context, Handler, HandlerError, Record, Worker};
    /// # struct CallApi;
    /// # impl Handler for CallApi {
    /// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// use pelton::Breaker;
    /// use std::time::Duration;
    ///
    /// let breaker = Breaker::default()
    ///     .failure_rate_threshold(50) // percent
    ///     .sliding_window(20) // attempts
    ///     .minimum_attempts(10)
    ///     .wait_in_open(Duration::from_secs(5), Duration::from_secs(60));
    /// let mut app = Worker::builder("notifier");
    /// app.input("user_logins").breaker(breaker).handler(|_slot| CallApi);
    /// ```
    pub fn breaker(mut self, breaker: Breaker) -> Self {
        self.spec().breaker = Some(breaker);
        self
    }

    /// Where records go that can't be handled: invalid ones, those that the retry policy gives up,
    /// and those that kill their process ([`max_deaths`](DeadLetters::max_deaths)). Later records pass them then, also those of the same key.
    ///
    /// ```
    /// # use pelton::{Context, DeadLetters, Handler, HandlerError, Record, RetryPolicy, Worker};
    /// # struct Print;
    /// # impl Handler for Print {
    /// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// let mut app = Worker::builder("printer");
    /// app.input("user_logins")
    ///     .retry(RetryPolicy::default().at_most(5))
    ///     .dead_letters("user_logins-dead")
    ///     .handler(|_slot| Print);
    /// ```
    pub fn dead_letters(mut self, letters: impl Into<DeadLetters>) -> Self {
        let DeadLetters { topic, limit, max_deaths } = letters.into();
        self.spec().dead_letters = Some(DeadLetterRoute { topic: topic.into(), limit, max_deaths });
        self
    }

    /// Records that fail too often in place (see [`retry`](Self::retry), which needs a limit) wait in topics
    /// of their own, so that they hold back neither commits nor memory. Not with stores, batches or
    /// `flush_every`.
    ///
    /// ```
    /// # use pelton::{Context, Handler, HandlerError, Ordering, Record, RetryPolicy, RetryTopics, Worker};
    /// # use std::time::Duration;
    /// # struct CallApi;
    /// # impl Handler for CallApi {
    /// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// let mut app = Worker::builder("notifier");
    /// app.input("user_logins")
    ///     .ordering(Ordering::key(200))
    ///     .retry(RetryPolicy::default().at_most(3))
    ///     .retry_topics(RetryTopics::after([Duration::from_secs(60), Duration::from_secs(600)]))
    ///     .dead_letters("user_logins-dead")
    ///     .handler(|_slot| CallApi);
    /// ```
    pub fn retry_topics(self, topics: RetryTopics) -> Self {
        self.app.set_retries(self.index, topics);
        self
    }

    /// Records are done only when the handler's `flush` succeeds; it is called after so many
    /// records or so long after the first of them, and before commits.
    pub fn flush_every(mut self, records: usize, interval: Duration) -> Self {
        self.spec().flush_every = Some((records.max(1), interval));
        self
    }

    /// Calls the handler's `tick` so often for each partition, between two records. Where several
    /// slots work it comes in the first moment after that in which none has a record, which under
    /// load may never be; and it may emit, but not use stores.
    pub fn tick_every(mut self, interval: Duration) -> Self {
        self.spec().tick_every = Some(interval.max(Duration::from_millis(1)));
        self
    }

    /// Binds a store to this input.
    pub fn uses<K: ?Sized, V>(mut self, store: Store<K, V>) -> Self {
        self.spec().stores.push(store.index);
        self
    }

    /// Puts code around the handlers: what comes first is outermost.
    ///
    /// ```
    /// # use pelton::{Context, Handler, HandlerError, Record, Worker};
    /// # struct Print;
    /// # impl Handler for Print {
    /// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
    /// # }
    /// use pelton::{Filter, Timing};
    ///
    /// let mut app = Worker::builder("printer");
    /// app.input("user_logins")
    ///     .layer(Filter::new(|record| record.value().is_some())) // sees every record
    ///     .layer(Timing::named("print")) // measures those that the filter lets through
    ///     .handler(|_slot| Print);
    /// ```
    pub fn layer<M: Layer>(self, layer: M) -> InputBuilder<'a, (L, M)> {
        let Self { app, index, layers } = self;
        InputBuilder { app, index, layers: (layers, layer) }
    }

    /// Makes one handler per slot: one for each partition, or as many as records are handled at once.
    pub fn handler<H: Handler>(self, make: impl Fn(SlotId) -> H + Send + Sync + 'static)
    where
        L: Layers<H>,
    {
        let Self { app, index, layers } = self;
        let make = move |slot| Ok(layers.around(make(slot)));
        let factory = HandlerFactory::new(move |slot| Box::pin(std::future::ready(make(slot))));
        app.set_slots(index, Arc::new(factory));
    }

    /// Handles records in batches: makes one batch handler per slot. Up to `concurrency` batches run
    /// at once where the ordering has one. Not with [`flush_every`](Self::flush_every): a batch is
    /// flushed by its handler.
    #[expect(private_bounds, reason = "layers are around what slots know as a handler")]
    pub fn batch_handler<B: BatchHandler>(
        mut self,
        batches: Batches,
        make: impl Fn(SlotId) -> B + Send + Sync + 'static,
    ) where
        L: Layers<Batched<B>>,
    {
        self.spec().batches = Some(batches);
        self.handler(move |slot| Batched(make(slot)));
    }

    /// Makes one handler per slot by code that waits or fails; a retryable failure is tried
    /// again with growing waits.
    pub fn try_handler<H, F>(self, make: impl Fn(SlotId) -> F + Send + Sync + 'static)
    where
        H: Handler,
        F: Future<Output = Result<H, HandlerError>> + Send + 'static,
        L: Layers<H>,
    {
        let Self { app, index, layers } = self;
        let layers = Arc::new(layers);
        let factory = HandlerFactory::new(move |slot| {
            let (layers, made) = (Arc::clone(&layers), make(slot));
            Box::pin(async move { Ok(layers.around(made.await?)) })
        });
        app.set_slots(index, Arc::new(factory));
    }
}
