//! What is an input? A subscription, its rules, and the maker of its handlers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pelton_engine::{Ordering, RetryPolicy};
use regex::Regex;

use crate::error::HandlerError;
use crate::handler::{Handler, SlotId};
use crate::runtime::partition_task::{TaskParts, run};

/// What to do with a record that its handler calls invalid.
///
/// ```
/// use pelton::OnInvalid;
/// assert_eq!(OnInvalid::default(), OnInvalid::Stop);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnInvalid {
    /// Stop the worker and name the record. The default: skipping is loss.
    #[default]
    Stop,
    /// Log topic, partition and offset, count it, and go on.
    Skip,
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

/// An input's rules, as values.
#[derive(Clone, Debug, Default)]
pub(crate) struct InputSpec {
    pub(crate) ordering: Ordering,
    pub(crate) on_invalid: OnInvalid,
    pub(crate) retry: RetryPolicy,
    pub(crate) flush_every: Option<(usize, Duration)>,
    pub(crate) tick_every: Option<Duration>,
    /// Indices of the declared stores that it uses.
    pub(crate) stores: Vec<usize>,
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
