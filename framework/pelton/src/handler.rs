//! What does a user write? One trait; everything but `handle` has a default.

use std::future::{Future, ready};

use crate::batch::Batch;
use crate::context::Context;
use crate::error::HandlerError;
use crate::record::Record;

/// User code for one input: one instance per slot, one record at a time.
///
/// Under `Ordering::Partition` a partition has one slot, and all of its records come to the same
/// instance in order. Under `Ordering::Key` and `Ordering::Unordered` it has as many as records are
/// handled at once, and any free one takes the next record: `self` is scratch space then, and what
/// belongs to a key lives in stores.
///
/// A record's effects (emits, store writes) are its own until `handle` returns `Ok`: a failed
/// attempt leaves nothing behind. After a panic or a cancellation the instance is dropped and
/// made anew by its factory, so `self` may hold only what can be rebuilt.
///
/// The futures are dropped when a drain reaches its deadline or the partition is lost: code that
/// has effects of its own outside Pelton must bear being cut off at any await and being run
/// again for the same record (at-least-once).
///
/// ```
/// use pelton::{Context, Handler, HandlerError, Record};
///
/// struct Print;
///
/// impl Handler for Print {
///     async fn handle(&mut self, record: &Record<'_>, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
///         println!("{}: {:?}", record.topic_partition(), record.value());
///         Ok(())
///     }
/// }
/// ```
pub trait Handler: Send + 'static {
    /// Handles one record.
    ///
    /// # Errors
    ///
    /// Retryable errors (any `std::error::Error`) are tried again with growing waits, for ever,
    /// and only this partition waits; invalid ones follow the input's `on_invalid`; fatal ones
    /// stop the worker.
    fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Handles a batch: for a [`Layer`](crate::Layer) to call on the handler within. Write a
    /// [`BatchHandler`](crate::BatchHandler) to be called with batches; any other handler handles one
    /// record after the other.
    ///
    /// # Errors
    ///
    /// As [`BatchHandler::handle_batch`](crate::BatchHandler::handle_batch).
    fn handle_batch(
        &mut self,
        batch: &mut Batch<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send
    where
        Self: Sized,
    {
        async {
            batch.one_by_one(self).await;
            Ok(())
        }
    }

    /// Makes effects of the handler's own durable (a bulk insert). Called only where the input
    /// declares `flush_every`: at its limits, before commits and in a drain, always between two
    /// records. The records handled before it are done when it returns `Ok`.
    ///
    /// # Errors
    ///
    /// Retryable errors are tried again; the slot starts nothing meanwhile.
    fn flush(
        &mut self,
        _ctx: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        ready(Ok(()))
    }

    /// Called every `tick_every` (where declared), between two records of this instance. Under
    /// [`Ordering::Partition`](crate::Ordering) nothing else of the partition is in hand, deferred records
    /// included, and stores may be used. Under the others one of its instances is called, beside the records
    /// of the others, and may only emit.
    ///
    /// # Errors
    ///
    /// A retryable error drops this tick's effects; the next tick comes in its time.
    fn tick(
        &mut self,
        _ctx: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        ready(Ok(()))
    }

    /// The partition is ours and its stores are restored; no record has been handled yet.
    ///
    /// # Errors
    ///
    /// Retryable errors are tried again before the first record.
    fn assigned(
        &mut self,
        _ctx: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        ready(Ok(()))
    }

    /// The partition is drained and about to be given up in good order. May not emit.
    fn revoked(&mut self, _ctx: &mut Context<'_>) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// The partition was taken away: what was not committed runs again elsewhere. May not emit.
    fn lost(&mut self, _ctx: &mut Context<'_>) -> impl Future<Output = ()> + Send {
        ready(())
    }

    /// The instance goes; the last call it gets.
    fn close(&mut self) -> impl Future<Output = ()> + Send {
        ready(())
    }
}

/// Which slot a handler instance is made for.
///
/// ```
/// use pelton::{SlotId, TopicPartition};
///
/// let slot = SlotId { partition: TopicPartition::new("user_logins", 2), index: 0 };
/// assert_eq!(slot.partition.partition(), 2);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotId {
    /// The partition it works for.
    pub partition: crate::TopicPartition,
    /// Its number within the partition; always 0 under `Ordering::Partition`, otherwise below the
    /// ordering's concurrency.
    pub index: usize,
}
