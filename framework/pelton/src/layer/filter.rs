//! Which records are for this program? Those that a predicate names; all others are skipped.

use crate::batch::Batch;
use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::Handler;
use crate::layer::Layer;
use crate::record::Record;

/// A [`Layer`] that lets only some records through.
///
/// A record for which the predicate says no is *skipped*: done at once, without effects, and counted as
/// `skipped` in `pelton_records_total`, as an invalid one is where `on_invalid` says so. The predicate
/// must be quick; if it panics, the attempt has failed.
///
/// ```
/// # use pelton::{Context, Handler, HandlerError, Record, Worker};
/// # struct Print;
/// # impl Handler for Print {
/// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
/// # }
/// use pelton::Filter;
///
/// let mut app = Worker::builder("printer");
/// app.input("user_logins")
///     .layer(Filter::new(|record| record.header("region") == Some(b"eu")))
///     .handler(|_slot| Print);
/// ```
#[derive(Clone, Copy)]
pub struct Filter<F> {
    is_wanted: F,
}

impl<F> Filter<F>
where
    F: Fn(&Record<'_>) -> bool + Clone + Send + Sync + 'static,
{
    /// Lets the records through for which `is_wanted` says yes.
    #[must_use]
    pub fn new(is_wanted: F) -> Self {
        Self { is_wanted }
    }
}

impl<F> std::fmt::Debug for Filter<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Filter")
    }
}

impl<F> Layer for Filter<F>
where
    F: Fn(&Record<'_>) -> bool + Clone + Send + Sync + 'static,
{
    async fn handle<H: Handler>(
        &mut self,
        inner: &mut H,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        if (self.is_wanted)(record) {
            return inner.handle(record, ctx).await;
        }
        ctx.skip();
        Ok(())
    }

    async fn handle_batch<H: Handler>(
        &mut self,
        inner: &mut H,
        batch: &mut Batch<'_>,
    ) -> Result<(), HandlerError> {
        batch.handle_only(&self.is_wanted, inner).await
    }
}
