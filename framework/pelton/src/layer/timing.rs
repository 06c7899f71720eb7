//! How long do handlers take, and how did it end? A histogram by outcome, and a line about slow
//! records.

use std::sync::Arc;
use std::time::Duration;

use ::metrics::{Histogram, Label, histogram};
use pelton_engine::Time;

use crate::batch::Batch;
use crate::context::{Context, Place};
use crate::error::HandlerError;
use crate::handler::Handler;
use crate::layer::Layer;
use crate::record::Record;
use crate::telemetry::names;

/// A [`Layer`] that measures what is within it, under a name of your choice, so that several may
/// stand in one input.
///
/// It records `pelton_layer_seconds{group, topic, layer, outcome}`: one value for each attempt, or for
/// each batch. The outcome is `done`, `skipped`, `retry`, `invalid` or `fatal` as the code within says,
/// `panicked`, or `cancelled` where it was cut off, by a time-out too. Unlike
/// `pelton_handler_seconds`, which is always there and by partition, it sees what ended it.
///
/// ```
/// # use pelton::{Context, Handler, HandlerError, Record, Worker};
/// # struct CallApi;
/// # impl Handler for CallApi {
/// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
/// # }
/// use pelton::Timing;
/// use std::time::Duration;
///
/// let mut app = Worker::builder("notifier");
/// app.input("user_logins")
///     .layer(Timing::named("api").warn_above(Duration::from_secs(5)))
///     .handler(|_slot| CallApi);
/// ```
#[derive(Clone, Debug)]
pub struct Timing {
    name: &'static str,
    warn_above: Option<Duration>,
    /// Made with the first record: where it stands is known then.
    seconds: Option<Seconds>,
}

impl Timing {
    /// Measures as the layer called `name`.
    #[must_use]
    pub const fn named(name: &'static str) -> Self {
        Self { name, warn_above: None, seconds: None }
    }

    /// Says in the log which record, or batch, took longer than `limit`: topic-partition, offset and
    /// attempt, never what is in it. Default: none.
    #[must_use]
    pub const fn warn_above(mut self, limit: Duration) -> Self {
        self.warn_above = Some(limit);
        self
    }

    /// Measures from now on, until it is told how it ended or dropped.
    fn begin<'a>(&'a mut self, place: &'a Place, offset: i64, attempt: u32) -> Running<'a> {
        let (name, warn_above) = (self.name, self.warn_above);
        let seconds = self.seconds.get_or_insert_with(|| Seconds::new(name, place));
        let begun = place.host.now();
        Running { name, seconds, warn_above, begun, place, offset, attempt, outcome: None }
    }
}

impl Layer for Timing {
    async fn handle<H: Handler>(
        &mut self,
        inner: &mut H,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let mut running = self.begin(ctx.place, record.offset(), ctx.attempt());
        let result = inner.handle(record, ctx).await;
        running.end(&result, ctx.is_skipped());
        result
    }

    async fn handle_batch<H: Handler>(
        &mut self,
        inner: &mut H,
        batch: &mut Batch<'_>,
    ) -> Result<(), HandlerError> {
        let first = batch.each().next();
        let Some((place, offset, attempt)) =
            first.map(|(_, record, ctx)| (ctx.place, record.offset(), ctx.attempt()))
        else {
            return inner.handle_batch(batch).await;
        };
        let mut running = self.begin(place, offset, attempt);
        let result = inner.handle_batch(batch).await;
        running.end(&result, false);
        result
    }
}

/// Something that is being measured.
struct Running<'a> {
    name: &'static str,
    seconds: &'a Seconds,
    warn_above: Option<Duration>,
    begun: Time,
    place: &'a Place,
    offset: i64,
    attempt: u32,
    outcome: Option<Outcome>,
}

impl Running<'_> {
    fn end(&mut self, result: &Result<(), HandlerError>, is_skipped: bool) {
        self.outcome = Some(match result {
            Ok(()) if is_skipped => Outcome::Skipped,
            Ok(()) => Outcome::Done,
            Err(error) if error.is_invalid() => Outcome::Invalid,
            Err(error) if error.is_fatal() => Outcome::Fatal,
            Err(_) => Outcome::Retry,
        });
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let cut_off = if std::thread::panicking() { Outcome::Panicked } else { Outcome::Cancelled };
        let outcome = self.outcome.unwrap_or(cut_off);
        let took = self.place.host.now().since(self.begun);
        self.seconds.0[outcome as usize].record(took);
        if self.warn_above.is_some_and(|limit| took > limit) {
            let (partition, offset, attempt) = (&self.place.partition, self.offset, self.attempt);
            let (layer, outcome, seconds) = (self.name, outcome.as_str(), took.as_secs_f64());
            tracing::warn!(%partition, offset, attempt, layer, outcome, seconds, "a slow record");
        }
    }
}

/// How it ended, in the words of `pelton_records_total`.
#[derive(Clone, Copy, Debug)]
enum Outcome {
    Done,
    Skipped,
    Retry,
    Invalid,
    Fatal,
    Panicked,
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 7] = [
        Self::Done,
        Self::Skipped,
        Self::Retry,
        Self::Invalid,
        Self::Fatal,
        Self::Panicked,
        Self::Cancelled,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Retry => "retry",
            Self::Invalid => "invalid",
            Self::Fatal => "fatal",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A histogram for each outcome, in the order of [`Outcome::ALL`].
#[derive(Clone, Debug)]
struct Seconds([Histogram; 7]);

impl Seconds {
    fn new(layer: &'static str, place: &Place) -> Self {
        let topic = place.partition.topic();
        Self(Outcome::ALL.map(|outcome| {
            let labels = vec![
                Label::new("group", Arc::clone(&place.group)),
                Label::new("topic", topic.to_owned()),
                Label::from_static_parts("layer", layer),
                Label::from_static_parts("outcome", outcome.as_str()),
            ];
            histogram!(names::LAYER_SECONDS, labels)
        }))
    }
}
