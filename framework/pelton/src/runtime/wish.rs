//! What may be wished of a running worker, topic by topic or partition by partition?

use std::num::NonZeroU32;

use crate::topic_partition::TopicPartition;

/// A topic, or one partition of it.
///
/// ```
/// use pelton::{Scope, TopicPartition};
///
/// let topic: Scope = "user_logins".into();
/// let partition: Scope = TopicPartition::new("user_logins", 2).into();
/// assert_eq!((topic.to_string(), partition.to_string()), ("user_logins".into(), "user_logins-2".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scope {
    /// All partitions of a topic, those of later too.
    Topic(String),
    /// One partition.
    Partition(TopicPartition),
}

impl Scope {
    pub(crate) fn contains(&self, partition: &TopicPartition) -> bool {
        match self {
            Self::Topic(topic) => topic == partition.topic(),
            Self::Partition(one) => one == partition,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(topic) => f.write_str(topic),
            Self::Partition(partition) => partition.fmt(f),
        }
    }
}

impl From<&str> for Scope {
    fn from(topic: &str) -> Self {
        Self::Topic(topic.to_owned())
    }
}

impl From<TopicPartition> for Scope {
    fn from(partition: TopicPartition) -> Self {
        Self::Partition(partition)
    }
}

/// What somebody wants of the worker.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    Pause(Scope),
    Resume(Scope),
    /// At most so many records a second; `None` lifts the limit.
    Limit(Scope, Option<NonZeroU32>),
    /// Go on at this offset.
    Seek(TopicPartition, i64),
}
