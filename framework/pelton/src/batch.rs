//! How are records handled many at once? As a batch: one call, a result for each record.

use std::future::{Future, ready};
use std::time::Duration;

use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::Handler;
use crate::record::Record;

/// When a batch is full.
///
/// ```
/// use pelton::Batches;
/// use std::time::Duration;
///
/// let batches = Batches::of(1_000).bytes(4 << 20).linger(Duration::from_millis(20));
/// assert_ne!(batches, Batches::default());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "give it to an input's batch_handler"]
pub struct Batches {
    pub(crate) records: usize,
    pub(crate) bytes: usize,
    pub(crate) linger: Duration,
}

impl Default for Batches {
    fn default() -> Self {
        Self::of(500)
    }
}

impl Batches {
    /// Up to so many records, at least one; up to 1 MiB, after 100 ms at the latest. Default 500.
    pub fn of(records: usize) -> Self {
        Self { records: records.max(1), bytes: 1 << 20, linger: Duration::from_millis(100) }
    }

    /// A batch that has so many bytes gets no further record.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// A record waits so long for others, at most.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }
}

/// Records that are handled together, of one partition, each with a context of its own.
///
/// A record's effects (emits, store writes) are its own: they count when it is done. What records
/// before it in the batch have written it sees already. A record is done unless it [fails](Self::fail) by itself or the whole call does.
///
/// Under `Ordering::Partition` a batch has the next records of the partition, under `Ordering::Key`
/// the next ones of several keys, those of a key in order. When one fails, what follows it of its
/// partition or key in the same batch is not done either, whatever its result: it is handled again
/// behind it, because order comes before speed. A record that has failed is tried again in a batch of
/// its own, so that it spoils no other. If the whole call fails (an error, a panic, a time-out), nobody
/// knows through which record: that counts against none of them, however few attempts they have, and each
/// is tried alone.
///
/// ```
/// use pelton::{Batch, HandlerError};
///
/// /// Emits nothing, and refuses records without a value.
/// fn check(batch: &mut Batch<'_>) {
///     let empty = |(number, record): (usize, &pelton::Record<'_>)| {
///         record.value().is_none().then_some(number)
///     };
///     let refused: Vec<_> = batch.records().iter().enumerate().filter_map(empty).collect();
///     for number in refused {
///         batch.fail(number, HandlerError::invalid("no value"));
///     }
/// }
/// ```
#[derive(Debug)]
pub struct Batch<'a> {
    records: Vec<Record<'a>>,
    contexts: Vec<Context<'a>>,
    failures: Vec<Option<HandlerError>>,
}

impl<'a> Batch<'a> {
    pub(crate) fn new(records: Vec<Record<'a>>, contexts: Vec<Context<'a>>) -> Self {
        let failures = records.iter().map(|_| None).collect();
        Self { records, contexts, failures }
    }

    /// The records, in order.
    #[must_use]
    pub fn records(&self) -> &[Record<'a>] {
        &self.records
    }

    /// Each record with its number and its context.
    pub fn each(&mut self) -> impl Iterator<Item = (usize, Record<'a>, &mut Context<'a>)> {
        let pairs = self.records.iter().copied().zip(&mut self.contexts);
        pairs.enumerate().map(|(number, (record, ctx))| (number, record, ctx))
    }

    /// This record is not done; what becomes of it is the input's policy. A number that is none is
    /// ignored.
    pub fn fail(&mut self, number: usize, error: impl Into<HandlerError>) {
        if let Some(failure) = self.failures.get_mut(number) {
            *failure = Some(error.into());
        }
    }

    /// Each record's context and what it failed with.
    pub(crate) fn into_results(self) -> impl Iterator<Item = (Context<'a>, Option<HandlerError>)> {
        self.contexts.into_iter().zip(self.failures)
    }

    /// Has those of its records handled that are wanted; the others are skipped.
    pub(crate) async fn handle_only<H: Handler>(
        &mut self,
        is_wanted: impl Fn(&Record<'_>) -> bool,
        handler: &mut H,
    ) -> Result<(), HandlerError> {
        let parts = std::mem::replace(self, Self::new(Vec::new(), Vec::new())).into_parts();
        let (mut wanted, mut skipped) = (Self::new(Vec::new(), Vec::new()), Vec::new());
        let mut wants = Vec::new();
        for (record, mut ctx, failure) in parts {
            wants.push(is_wanted(&record));
            if wants.last() == Some(&true) {
                wanted.push(record, ctx, failure);
            } else {
                ctx.skip();
                skipped.push((record, ctx, failure));
            }
        }
        let result = match wanted.records.is_empty() {
            true => Ok(()),
            false => handler.handle_batch(&mut wanted).await,
        };
        let (mut handled, mut skipped) = (wanted.into_parts(), skipped.into_iter());
        for is_wanted in wants {
            let next = if is_wanted { handled.next() } else { skipped.next() };
            if let Some((record, ctx, failure)) = next {
                self.push(record, ctx, failure);
            }
        }
        result
    }

    fn push(&mut self, record: Record<'a>, ctx: Context<'a>, failure: Option<HandlerError>) {
        self.records.push(record);
        self.contexts.push(ctx);
        self.failures.push(failure);
    }

    fn into_parts(
        self,
    ) -> impl Iterator<Item = (Record<'a>, Context<'a>, Option<HandlerError>)> + use<'a> {
        let contexts = self.contexts.into_iter().zip(self.failures);
        self.records
            .into_iter()
            .zip(contexts)
            .map(|(record, (ctx, failure))| (record, ctx, failure))
    }

    /// Handles one after the other.
    pub(crate) async fn one_by_one<H: Handler>(&mut self, handler: &mut H) {
        for (number, record) in self.records.clone().into_iter().enumerate() {
            let Some(ctx) = self.contexts.get_mut(number) else { return };
            let result = handler.handle(&record, ctx).await;
            self.failures[number] = result.err();
        }
    }
}

/// User code for an input whose records are handled in batches: a bulk insert, a call for many.
///
/// What holds of a [`Handler`] and its hooks holds here too: one instance per slot, made anew after a
/// panic, a time-out or a cancellation.
///
/// ```
/// use pelton::{Batch, BatchHandler, Batches, HandlerError, Worker};
///
/// struct Insert;
///
/// impl BatchHandler for Insert {
///     async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
///         let mut rows = Vec::new();
///         let mut bad = Vec::new();
///         for (number, record, _ctx) in batch.each() {
///             match record.json::<u64>() {
///                 Ok(row) => rows.push(row),
///                 Err(error) => bad.push((number, error)),
///             }
///         }
///         for (number, error) in bad {
///             batch.fail(number, error);
///         }
///         println!("{} rows at once", rows.len());
///         Ok(())
///     }
/// }
///
/// let mut app = Worker::builder("inserter");
/// app.input("user_logins").batch_handler(Batches::of(1_000), |_slot| Insert);
/// ```
pub trait BatchHandler: Send + 'static {
    /// Handles the records of a batch.
    ///
    /// # Errors
    ///
    /// An error is every record's that has none of its own ([`Batch::fail`]).
    fn handle_batch(
        &mut self,
        batch: &mut Batch<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// As [`Handler::assigned`].
    ///
    /// # Errors
    ///
    /// Retryable errors are tried again before the first batch.
    fn assigned(
        &mut self,
        _ctx: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        ready(Ok(()))
    }

    /// As [`Handler::revoked`].
    fn revoked(&mut self, _ctx: &mut Context<'_>) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// As [`Handler::lost`].
    fn lost(&mut self, _ctx: &mut Context<'_>) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// As [`Handler::close`].
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// A batch handler as the slots know handlers.
pub(crate) struct Batched<B>(pub(crate) B);

impl<B: BatchHandler> Handler for Batched<B> {
    async fn handle(
        &mut self,
        _record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        Err(HandlerError::fatal("a batch handler was given a single record"))
    }

    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        self.0.handle_batch(batch).await
    }

    async fn assigned(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.assigned(ctx).await
    }

    async fn revoked(&mut self, ctx: &mut Context<'_>) {
        self.0.revoked(ctx).await;
    }

    async fn lost(&mut self, ctx: &mut Context<'_>) {
        self.0.lost(ctx).await;
    }

    async fn close(&mut self) {
        self.0.close().await;
    }
}
