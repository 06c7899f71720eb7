//! How is a record completed by something else than its handler?

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::effects::Effects;
use crate::error::HandlerError;

/// Tells a partition what has become of an attempt: the record's index, the attempt, the result.
pub(crate) type Complete = dyn Fn(u64, u32, Result<(), HandlerError>) + Send + Sync;

/// What a handler leaves behind that defers.
#[derive(Debug)]
pub(crate) struct Deferred {
    pub(crate) limit: Duration,
    pub(crate) effects: Effects,
}

/// Completes a record whose handler has [deferred](crate::Context::defer) it. May be given to any
/// task or thread; dropped without a word, the attempt has failed.
///
/// ```
/// # use std::time::Duration;
/// # use pelton::{Completion, Context, HandlerError, Record};
/// # async fn ask_somebody(_: String) -> Result<(), std::io::Error> { Ok(()) }
/// async fn handle(record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
///     let question = record.key_str()?.to_owned();
///     let completion: Completion = ctx.defer(Duration::from_secs(30))?;
///     tokio::spawn(async move {
///         match ask_somebody(question).await {
///             Ok(()) => completion.done(),
///             Err(error) => completion.fail(error),
///         }
///     });
///     Ok(()) // the slot is free; the record's offset waits
/// }
/// ```
#[must_use = "dropped, the attempt has failed"]
pub struct Completion {
    complete: Arc<Complete>,
    record: Option<(u64, u32)>,
}

impl Completion {
    pub(crate) fn new(complete: Arc<Complete>, index: u64, attempt: u32) -> Self {
        Self { complete, record: Some((index, attempt)) }
    }

    /// The record is done. After its time-out, or once its partition was given up, nothing happens.
    pub fn done(mut self) {
        self.tell(Ok(()));
    }

    /// The attempt has failed; what becomes of the record is the input's policy, as if its handler
    /// had returned this error.
    pub fn fail(mut self, error: impl Into<HandlerError>) {
        self.tell(Err(error.into()));
    }

    fn tell(&mut self, result: Result<(), HandlerError>) {
        if let Some((index, attempt)) = self.record.take() {
            (self.complete)(index, attempt, result);
        }
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        self.tell(Err(HandlerError::retryable("its completion was dropped")));
    }
}

impl fmt::Debug for Completion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("record", &self.record).finish_non_exhaustive()
    }
}
