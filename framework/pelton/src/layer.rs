//! What stands around the handlers of an input? Code that sees every record before and after them.
//!
//! ```text
//!  slot ──record──► first layer ──► second layer ──► handler
//!       ◄──result──             ◄──              ◄──
//! ```
//!
//! Layers are types, put together when the program is compiled: a call through them costs what a
//! plain function call costs. Everything that is no record (hooks, ticks, flushes) goes to the handler
//! directly, so a layer can't forget to pass one on.

mod dedup;
mod filter;
mod timing;

use std::future::{Future, ready};

pub use dedup::{Dedup, Remembered};
pub use filter::Filter;
pub use timing::Timing;

use crate::batch::Batch;
use crate::context::Context;
use crate::error::HandlerError;
use crate::handler::Handler;
use crate::record::Record;

/// Code around the handlers of an input: registered by [`InputBuilder::layer`](crate::InputBuilder::layer).
///
/// Each handler instance has a clone of its own of the layer, made with it and gone with it. A layer
/// calls the handler within (or what other layers make of it) once, or not at all; what it writes and
/// emits by `ctx` belongs to the record, together with what the handler does. What it may do is what
/// the handler may: the same stores under the same rules, cut off at any await, panics caught.
///
/// ```
/// use pelton::{Context, Handler, HandlerError, Layer, Record, Worker};
///
/// /// Records of other versions are not for this program.
/// #[derive(Clone)]
/// struct OfVersion(&'static [u8]);
///
/// impl Layer for OfVersion {
///     async fn handle<H: Handler>(
///         &mut self,
///         inner: &mut H,
///         record: &Record<'_>,
///         ctx: &mut Context<'_>,
///     ) -> Result<(), HandlerError> {
///         if record.header("version") != Some(self.0) {
///             return Err(HandlerError::invalid("another version"));
///         }
///         inner.handle(record, ctx).await
///     }
/// }
///
/// # struct Print;
/// # impl Handler for Print {
/// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
/// # }
/// let mut app = Worker::builder("printer");
/// app.input("user_logins").layer(OfVersion(b"2")).handler(|_slot| Print);
/// ```
pub trait Layer: Clone + Send + Sync + 'static {
    /// Handles one record, by the handler within.
    ///
    /// # Errors
    ///
    /// As [`Handler::handle`]; an error of the handler within is passed on.
    fn handle<H: Handler>(
        &mut self,
        inner: &mut H,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;

    /// Handles the records of a batch, by [`Handler::handle_batch`] of the handler within. A layer
    /// that does not say how has no place around a batch handler.
    ///
    /// # Errors
    ///
    /// As [`BatchHandler::handle_batch`](crate::BatchHandler::handle_batch).
    fn handle_batch<H: Handler>(
        &mut self,
        _inner: &mut H,
        _batch: &mut Batch<'_>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send {
        ready(Err(HandlerError::fatal(
            "a layer of this input handles single records only; let it say how it handles a batch \
             (Layer::handle_batch), or take it away from a batch handler",
        )))
    }
}

/// A handler within a layer.
///
/// ```
/// use pelton::{Handler, Layered, Layers, Timing};
///
/// fn measured<H: Handler>(handler: H) -> Layered<Timing, H> {
///     ((), Timing::named("all")).around(handler)
/// }
/// ```
#[derive(Debug)]
pub struct Layered<L, H> {
    layer: L,
    inner: H,
}

impl<L: Layer, H: Handler> Handler for Layered<L, H> {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.layer.handle(&mut self.inner, record, ctx).await
    }

    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        self.layer.handle_batch(&mut self.inner, batch).await
    }

    async fn flush(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.inner.flush(ctx).await
    }

    async fn tick(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.inner.tick(ctx).await
    }

    async fn assigned(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.inner.assigned(ctx).await
    }

    async fn revoked(&mut self, ctx: &mut Context<'_>) {
        self.inner.revoked(ctx).await;
    }

    async fn lost(&mut self, ctx: &mut Context<'_>) {
        self.inner.lost(ctx).await;
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

/// All layers of an input: `()`, or those declared before and one within them.
///
/// ```
/// use pelton::{Filter, Handler, Layers};
///
/// fn around<H: Handler>(handler: H) -> impl Handler {
///     ((), Filter::new(|record| record.value().is_some())).around(handler)
/// }
/// ```
pub trait Layers<H>: Send + Sync + 'static {
    /// The handler with all of them around it.
    type Handler: Handler;

    /// Puts them around `handler`, the one declared first outermost.
    fn around(&self, handler: H) -> Self::Handler;
}

impl<H: Handler> Layers<H> for () {
    type Handler = H;

    fn around(&self, handler: H) -> H {
        handler
    }
}

impl<H: Handler, O: Layers<Layered<L, H>>, L: Layer> Layers<H> for (O, L) {
    type Handler = O::Handler;

    fn around(&self, handler: H) -> Self::Handler {
        self.0.around(Layered { layer: self.1.clone(), inner: handler })
    }
}
