//! What is an input? A subscription, its rules, and the maker of its handlers.

use std::borrow::Cow;
use std::fmt;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use foldhash::quality::FixedState;
use futures::future::BoxFuture;
use pelton_engine::{Breaker, DeadLetterLimit, Ordering, RetryPolicy};
use regex::Regex;

use crate::batch::Batches;
use crate::error::HandlerError;
use crate::fnv1a::fnv1a;
use crate::handler::{Handler, SlotId};
use crate::output::RetryRoute;
use crate::record::Record;
use crate::runtime::partition_task::{TaskParts, run};
use crate::state::StoreAccess;

/// What to do with a record that its handler calls invalid.
///
/// ```
/// use pelton::OnInvalid;
/// assert_eq!(OnInvalid::default(), OnInvalid::Stop);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnInvalid {
    /// Stop the worker and name the record. The default: skipping is loss.
    #[default]
    Stop,
    /// Log topic, partition and offset, count it, and go on.
    Skip,
    /// Make a dead letter of it. The default where the input has
    /// [`dead_letters`](crate::InputBuilder::dead_letters).
    DeadLetter,
}

/// A declared input.
#[derive(Clone, Debug)]
pub(crate) struct Input {
    pub(crate) subscription: Subscription,
    pub(crate) spec: InputSpec,
    pub(crate) slots: Arc<dyn SlotFactory>,
}

impl Input {
    /// Its topic; none if it is a pattern.
    pub(crate) fn topic(&self) -> Option<&str> {
        match &self.subscription {
            Subscription::Topic(topic) => Some(topic),
            Subscription::Pattern(..) => None,
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Subscription {
    Topic(String),
    /// Kafka's way to write a pattern: `^…`.
    Pattern(String, Regex),
}

impl Subscription {
    pub(crate) fn matches(&self, topic: &str) -> bool {
        match self {
            Self::Topic(name) => name == topic,
            Self::Pattern(_, pattern) => pattern.is_match(topic),
        }
    }

    /// As the group's subscription spells it.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Topic(name) | Self::Pattern(name, _) => name,
        }
    }
}

/// What a record's unit is called, where that is not its key.
pub(crate) type KeyBy = dyn for<'a> Fn(&Record<'a>) -> Option<Cow<'a, [u8]>> + Send + Sync;

/// An input's rules, as values.
#[derive(Clone, Default)]
pub(crate) struct InputSpec {
    pub(crate) ordering: Ordering,
    pub(crate) key_by: Option<Arc<KeyBy>>,
    pub(crate) on_invalid: Option<OnInvalid>,
    pub(crate) retry: RetryPolicy,
    pub(crate) attempt_timeout: Option<Duration>,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) dead_letters: Option<DeadLetterRoute>,
    /// Where records go that fail too often.
    pub(crate) retry_route: Option<RetryRoute>,
    /// It is itself such a topic.
    pub(crate) is_retry_topic: bool,
    pub(crate) batches: Option<Batches>,
    pub(crate) flush_every: Option<(usize, Duration)>,
    pub(crate) tick_every: Option<Duration>,
    /// Indices of the declared stores that it uses.
    pub(crate) stores: Vec<usize>,
}

impl InputSpec {
    /// The key by which the record is kept in order; records without one are one unit.
    pub(crate) fn key<'a>(&self, record: &Record<'a>) -> Option<Cow<'a, [u8]>> {
        let Some(key_by) = &self.key_by else { return record.key().map(Cow::Borrowed) };
        match catch_unwind(AssertUnwindSafe(|| key_by(record))) {
            Ok(key) => key,
            Err(_) => {
                let (partition, offset) = (record.topic_partition(), record.offset());
                tracing::error!(%partition, offset, "key_by panicked; the record is kept in order with those without a key");
                None
            }
        }
    }

    /// Is a record done as soon as its handler says so, whatever it has done?
    pub(crate) fn is_plain(&self) -> bool {
        self.stores.is_empty() && self.flush_every.is_none() && self.batches.is_none()
    }

    /// What becomes of invalid records.
    pub(crate) fn on_invalid(&self) -> OnInvalid {
        self.on_invalid.unwrap_or(match self.dead_letters {
            Some(_) => OnInvalid::DeadLetter,
            None => OnInvalid::Stop,
        })
    }

    /// What in it can't go together.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.on_invalid == Some(OnInvalid::DeadLetter) && self.dead_letters.is_none() {
            return Some(
                "makes dead letters of invalid records and has no topic for them; add .dead_letters(topic)",
            );
        }
        if self.retry_route.is_some()
            && let Some(problem) = self.retry_problem()
        {
            return Some(problem);
        }
        let keyed = matches!(self.ordering, Ordering::Key { .. });
        if self.flush_every.is_some() && self.ordering != Ordering::Partition {
            return Some(
                "has flush_every, which needs one slot for each partition; leave it out, or use Ordering::Partition",
            );
        }
        if self.flush_every.is_some() && self.batches.is_some() {
            return Some(
                "has flush_every and a batch handler; leave flush_every out: a batch is done when its call returns",
            );
        }
        (self.key_by.is_some() && !keyed)
            .then_some("has key_by without Ordering::Key; add .ordering(Ordering::key(…))")
    }

    fn retry_problem(&self) -> Option<&'static str> {
        if self.retry.limit.is_none() {
            return Some(
                "has retry topics and tries its records in place for ever; add .retry(… .at_most(n))",
            );
        }
        if !self.stores.is_empty() {
            return Some(
                "has retry topics and a store; a store's records are handled where they are: leave the retry topics out",
            );
        }
        if self.batches.is_some() || self.flush_every.is_some() {
            return Some(
                "has retry topics, and batches or flush_every; leave one of them out: records go there one by one",
            );
        }
        None
    }

    /// Do records that fail here come to this topic, sooner or later?
    pub(crate) fn sends_retries_to(&self, topic: &str) -> bool {
        let route = self.retry_route.as_ref();
        route.is_some_and(|route| {
            *route.topic == *topic || route.beyond.iter().any(|beyond| **beyond == *topic)
        })
    }

    /// By what the record's key is held while records of it lie in a retry topic: the same in every
    /// version, since commits say it. `None` where nothing is kept in order.
    pub(crate) fn hold_key(&self, record: &Record<'_>) -> Option<u64> {
        match self.ordering {
            Ordering::Partition => Some(0),
            Ordering::Key { .. } => Some(self.key(record).map_or(NO_KEY, |key| fnv1a(&key))),
            _ => None,
        }
    }

    /// What the record's handler may do with stores.
    pub(crate) fn access<'a>(&self, record: &Record<'a>) -> StoreAccess<'a> {
        match self.ordering {
            Ordering::Partition => StoreAccess::Any,
            _ if self.stores.is_empty() => StoreAccess::Nothing,
            Ordering::Key { .. } => StoreAccess::OwnKey(self.key(record)),
            _ => StoreAccess::Merges,
        }
    }

    /// What ticks, flushes and hooks may do with stores.
    pub(crate) fn access_of_calls(&self) -> StoreAccess<'static> {
        if self.ordering == Ordering::Partition { StoreAccess::Any } else { StoreAccess::Nothing }
    }

    /// The hash of the record's ordering unit; anything where all are one unit. Of this process alone.
    pub(crate) fn unit(&self, record: &Record<'_>) -> u64 {
        if matches!(self.ordering, Ordering::Key { .. }) {
            UNITS.hash_one(self.key(record))
        } else {
            0
        }
    }
}

/// Who sends keys of one hash on purpose only makes them wait for each other.
const UNITS: FixedState = FixedState::with_seed(0);

/// Records without a key are held together, apart from those with an empty one.
const NO_KEY: u64 = 1;

impl fmt::Debug for InputSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InputSpec").field("ordering", &self.ordering).finish_non_exhaustive()
    }
}

/// Where dead letters go, and how many may.
#[derive(Clone, Debug)]
pub(crate) struct DeadLetterRoute {
    pub(crate) topic: Arc<str>,
    pub(crate) limit: DeadLetterLimit,
    /// A record goes there with which so many processes have died.
    pub(crate) max_deaths: u32,
}

/// Makes the task of a partition, handlers included; hides their type.
pub(crate) trait SlotFactory: Send + Sync + fmt::Debug {
    fn task(&self, parts: TaskParts) -> BoxFuture<'static, ()>;
}

type Make<H> = dyn Fn(SlotId) -> BoxFuture<'static, Result<H, HandlerError>> + Send + Sync;

/// Makes handlers of one type.
pub(crate) struct HandlerFactory<H>(Arc<Make<H>>);

impl<H> Clone for HandlerFactory<H> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<H: Handler> HandlerFactory<H> {
    pub(crate) fn new(
        make: impl Fn(SlotId) -> BoxFuture<'static, Result<H, HandlerError>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(make))
    }

    pub(crate) fn make(&self, slot: SlotId) -> BoxFuture<'static, Result<H, HandlerError>> {
        (self.0)(slot)
    }
}

impl<H> fmt::Debug for HandlerFactory<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HandlerFactory")
    }
}

impl<H: Handler> SlotFactory for HandlerFactory<H> {
    fn task(&self, parts: TaskParts) -> BoxFuture<'static, ()> {
        Box::pin(run(parts, self.clone()))
    }
}
