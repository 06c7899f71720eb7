//! Which log a record stands in: Kafka's own address, cheap to clone.

use std::fmt;
use std::sync::Arc;

/// A topic's name and the number of one of its partitions.
///
/// Cloning copies a pointer. Displays as `topic-partition`, as Kafka's tools print it.
///
/// ```
/// use pelton::TopicPartition;
///
/// let logins = TopicPartition::new("user_logins", 2);
/// assert_eq!(logins.to_string(), "user_logins-2");
/// assert_eq!(logins.topic(), "user_logins");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    topic: Arc<str>,
    partition: i32,
}

impl TopicPartition {
    /// The partition numbered `partition` (from 0) of `topic`.
    #[must_use]
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The topic's name, shared.
    #[must_use]
    pub fn topic_name(&self) -> Arc<str> {
        Arc::clone(&self.topic)
    }

    /// The partition's number, from 0.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.partition
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

/// Can a topic be called so? Kafka allows the same for an instance id.
pub(crate) fn is_topic_name(name: &str) -> bool {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    (1..=249).contains(&name.len()) && name.chars().all(legal) && !matches!(name, "." | "..")
}
