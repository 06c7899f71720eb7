//! How does a handler say what to write? By a declared output, and a record built step by step.

use std::sync::Arc;
use std::sync::atomic::AtomicI32;

use serde::Serialize;

use crate::error::HandlerError;

/// A declared output: a handle to the topic. `Copy`, so that handlers can hold it.
///
/// ```
/// use pelton::{Output, Worker};
///
/// let mut app = Worker::builder("login-counter");
/// let totals: Output = app.output("login_totals");
/// let copy = totals;
/// assert_eq!(copy, totals);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Output {
    pub(crate) index: usize,
}

/// What an output is.
#[derive(Clone, Debug)]
pub(crate) struct OutputSpec {
    pub(crate) topic: Arc<str>,
    /// How many partitions the topic has; 0 while it is not known.
    pub(crate) partitions: Arc<AtomicI32>,
}

/// A record to emit, where key and value alone don't say it all.
///
/// ```
/// use pelton::Emit;
///
/// let record = Emit::new()
///     .key("alice")
///     .json(&serde_json::json!({ "total": 3 }))?
///     .header("source", "login-counter")
///     .partition(2)
///     .timestamp_ms(1_700_000_000_000);
/// # Ok::<(), pelton::HandlerError>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "give it to Context::emit_record"]
pub struct Emit {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl Emit {
    /// A record without key and value: with a key it is a tombstone.
    pub fn new() -> Self {
        Self::default()
    }

    /// Its key. Without [`partition`](Self::partition) the key decides, by murmur2 as in Java.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().to_vec());
        self
    }

    /// Its value, as it is.
    pub fn bytes(mut self, value: impl AsRef<[u8]>) -> Self {
        self.value = Some(value.as_ref().to_vec());
        self
    }

    /// Its value, as JSON.
    ///
    /// # Errors
    ///
    /// If the value can't be written as JSON.
    pub fn json<V: Serialize + ?Sized>(mut self, value: &V) -> Result<Self, HandlerError> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| HandlerError::fatal(format!("the output is no JSON: {error}")))?;
        self.value = Some(bytes);
        Ok(self)
    }

    /// One more header.
    pub fn header(mut self, name: impl Into<String>, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.into(), Some(value.as_ref().to_vec())));
        self
    }

    /// Its partition, whatever its key.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Its timestamp in milliseconds since 1970; without one it is the time of sending.
    pub fn timestamp_ms(mut self, timestamp: i64) -> Self {
        self.timestamp_ms = Some(timestamp);
        self
    }
}
