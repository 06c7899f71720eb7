//! Where does a record wait that fails for long? In a topic of its own, until its time has come.

use std::sync::Arc;
use std::time::Duration;

use crate::output::dead_letter::Failure;
use crate::output::story::{Story, told};
use crate::ports::OutRecord;
use crate::record::Record;

/// Topics in which records wait that failed too often in place, one after the other, each for longer.
///
/// For the input `user_logins` of the group `login-counter` and two delays they are
/// `login-counter-user_logins-retry-1` and `-2`. They must exist, with as many partitions as the input.
/// The worker reads them by itself, with the handler and the rules of the input; what fails there as
/// often goes to the next one, and from the last one to the dead letters.
///
/// A record there is the record as it was, byte for byte, and behind its headers its story, as a
/// [dead letter](crate::DeadLetters) has it, with the moment from which it may be handled in
/// `pelton-retry-at`, in milliseconds since 1970. Its offset is committed when Kafka has acknowledged it.
///
/// **Order** is kept: while a record waits there its key is held, and what follows of the key goes the
/// same way behind it, without being tried. (Under `Ordering::Partition`, all of the partition.) A key
/// is let go when its last record there is committed, which is looked at every second. With
/// [`hold_key(false)`](Self::hold_key) later records of the key pass it.
///
/// ```
/// use pelton::RetryTopics;
/// use std::time::Duration;
///
/// let patient = RetryTopics::after([10, 60, 600].map(Duration::from_secs));
/// let careless = patient.clone().hold_key(false);
/// assert_ne!(careless, patient);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "give it to an input's retry_topics"]
pub struct RetryTopics {
    pub(crate) delays: Vec<Duration>,
    pub(crate) holds: bool,
}

impl RetryTopics {
    /// One topic for each delay, in this order; keys are held.
    pub fn after(delays: impl IntoIterator<Item = Duration>) -> Self {
        Self { delays: delays.into_iter().collect(), holds: true }
    }

    /// Do later records of a key wait until the one that failed is done? Default true.
    pub fn hold_key(mut self, holds: bool) -> Self {
        self.holds = holds;
        self
    }
}

/// Where an input's records go that fail too often.
#[derive(Clone, Debug)]
pub(crate) struct RetryRoute {
    pub(crate) topic: Arc<str>,
    pub(crate) delay: Duration,
    pub(crate) holds: bool,
    /// Where they go from there.
    pub(crate) beyond: Vec<Arc<str>>,
}

const RETRY_AT: &str = "pelton-retry-at";

/// The record, on its way to a retry topic; without a failure it only follows one of its key.
pub(crate) fn retry_record(
    route: &RetryRoute,
    record: &Record<'_>,
    story: Story<'_>,
    failure: Option<&Failure>,
    wall_clock_ms: i64,
) -> OutRecord {
    let mut headers = told(record, story, failure);
    let delay = i64::try_from(route.delay.as_millis()).unwrap_or(i64::MAX);
    let at = wall_clock_ms.saturating_add(if failure.is_some() { delay } else { 0 });
    headers.push((RETRY_AT.to_owned(), Some(at.to_string().into_bytes())));
    OutRecord {
        topic: Arc::clone(&route.topic),
        partition: Some(record.partition()),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers,
        timestamp_ms: None,
    }
}

/// When a record of a retry topic may be handled, in milliseconds since 1970; at once if it does not
/// say so.
pub(crate) fn retry_at(record: &Record<'_>) -> Option<i64> {
    let last = record.headers().rfind(|(name, _)| *name == RETRY_AT)?;
    std::str::from_utf8(last.1?).ok()?.parse().ok()
}
