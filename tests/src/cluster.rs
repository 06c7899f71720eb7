//! What do tests need from a cluster, whichever it is?
//!
//! [`Cluster`] asks through fresh clients of its own, so what it says is what any client would
//! see. All calls block; asynchronous tests put them on a blocking thread.

pub(crate) mod client;

use std::time::Duration;

use pelton_testkit::{EmbeddedCluster, EmbeddedError};

/// A cluster to run workers against.
///
/// ```
/// use pelton_testkit::EmbeddedCluster;
/// use pelton_tests::{Cluster, NewRecord};
///
/// let cluster = EmbeddedCluster::start(1)?;
/// cluster.create_topic("user_logins", 3)?;
/// Cluster::produce(&cluster, "user_logins", &[NewRecord::new("admin", "in")])?;
/// let stored = cluster.read_topic("user_logins")?;
/// assert_eq!(stored[0].key.as_deref(), Some(&b"admin"[..]));
/// assert_eq!((stored[0].partition, stored[0].offset), (1, 0));
/// assert_eq!(cluster.ends("user_logins")?, [0, 1, 0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Cluster {
    /// Where clients find it, as `bootstrap.servers` takes it.
    fn bootstrap_servers(&self) -> &str;

    /// Creates a topic, replicated as the cluster does by default; returns when clients see it.
    ///
    /// # Errors
    ///
    /// If the topic exists, or the cluster does not answer.
    fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), ClusterError>;

    /// Does it answer admin calls (topics, their settings, deletion)?
    fn has_admin_calls(&self) -> bool;

    /// Appends records in this order, keyed as Java's producer does, and waits until all are
    /// stored.
    ///
    /// # Errors
    ///
    /// If the topic is missing or any record was not stored within a minute.
    fn produce(&self, topic: &str, records: &[NewRecord]) -> Result<(), ClusterError> {
        client::produce(self.bootstrap_servers(), topic, records)
    }

    /// Every record of a topic that a careful (`read_committed`) reader sees, by partition and
    /// offset.
    ///
    /// # Errors
    ///
    /// If the topic is missing, or nothing comes for half a minute before its end.
    fn read_topic(&self, topic: &str) -> Result<Vec<StoredRecord>, ClusterError> {
        self.read_topic_as(topic, Isolation::ReadCommitted)
    }

    /// Every record of a topic that a reader of this kind sees, by partition and offset.
    ///
    /// # Errors
    ///
    /// If the topic is missing, or nothing comes for half a minute before its end.
    fn read_topic_as(
        &self,
        topic: &str,
        isolation: Isolation,
    ) -> Result<Vec<StoredRecord>, ClusterError> {
        client::read(self.bootstrap_servers(), topic, isolation, client::stored)
    }

    /// As [`read_topic`](Self::read_topic), but without values and headers: only places, keys and
    /// times.
    ///
    /// # Errors
    ///
    /// If the topic is missing, or nothing comes for half a minute before its end.
    fn read_places(&self, topic: &str) -> Result<Vec<StoredRecord>, ClusterError> {
        let isolation = Isolation::ReadCommitted;
        client::read(self.bootstrap_servers(), topic, isolation, client::place)
    }

    /// The end of each partition's log: the offset that its next record will get.
    ///
    /// # Errors
    ///
    /// If the topic is missing, or the cluster does not answer.
    fn ends(&self, topic: &str) -> Result<Vec<i64>, ClusterError> {
        client::ends(self.bootstrap_servers(), topic)
    }

    /// What a group has committed, for each partition of a topic.
    ///
    /// # Errors
    ///
    /// If the topic is missing, or the cluster does not answer.
    fn committed(&self, group: &str, topic: &str) -> Result<Vec<Committed>, ClusterError> {
        client::committed(self.bootstrap_servers(), group, topic)
    }
}

impl Cluster for EmbeddedCluster {
    fn bootstrap_servers(&self) -> &str {
        Self::bootstrap_servers(self)
    }

    fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), ClusterError> {
        Ok(Self::create_topic(self, topic, partitions)?)
    }

    fn has_admin_calls(&self) -> bool {
        false
    }
}

/// Which records of transactions a reader sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Those of committed transactions, up to the first open one.
    ReadCommitted,
    /// All of them, aborted ones too.
    ReadUncommitted,
}

/// A record to be appended.
///
/// ```
/// use pelton_tests::NewRecord;
///
/// let record = NewRecord::new("alice", "in").header("seq", "7").to_partition(2);
/// assert_eq!(record.partition, Some(2));
/// ```
#[derive(Clone, Debug, Default)]
pub struct NewRecord {
    /// What it is partitioned by, if `partition` says nothing.
    pub key: Option<Vec<u8>>,
    /// None is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In this order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// Instead of the key's partition.
    pub partition: Option<i32>,
    /// Milliseconds since 1970; the time of sending without it.
    pub timestamp: Option<i64>,
}

impl NewRecord {
    /// A record with a key and a value.
    #[must_use]
    pub fn new(key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        Self { key: Some(key.into()), value: Some(value.into()), ..Self::default() }
    }

    /// With one header more.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// To this partition, whatever the key.
    #[must_use]
    pub fn to_partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }
}

/// A record as it lies in its partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Its partition.
    pub partition: i32,
    /// Its place in the partition.
    pub offset: i64,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none in a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers, in order; a header may be without a value.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970, if it has one.
    pub timestamp: Option<i64>,
}

impl StoredRecord {
    /// The value of the first header of this name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let (_, value) = self.headers.iter().find(|(found, _)| found == name)?;
        value.as_deref()
    }
}

/// What a group has committed for a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The partition.
    pub partition: i32,
    /// The next record to be read; none if nothing was committed.
    pub offset: Option<i64>,
    /// The text committed with it.
    pub metadata: String,
}

/// Why a cluster could not do what a test asked of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// Apache Kafka can't run here.
    #[error("no Apache Kafka here: {reason}")]
    Impossible {
        /// What is missing, and the way out.
        reason: String,
    },
    /// A node did not start, or ended by itself.
    #[error("node {node} of the cluster {reason}\nthe end of its log:\n{log}")]
    Node {
        /// Its id.
        node: i32,
        /// What happened.
        reason: String,
        /// The last lines of its log.
        log: String,
    },
    /// Only nodes that we have started can be controlled.
    #[error(
        "can't {what}: the nodes of {bootstrap_servers} are not ours (unset \
         PELTON_TEST_BOOTSTRAP to start our own)"
    )]
    NotOurs {
        /// What was asked.
        what: String,
        /// Whose nodes they are.
        bootstrap_servers: String,
    },
    /// The cluster, or a client of it, said no.
    #[error("{what}: {reason}")]
    Refused {
        /// What was asked.
        what: String,
        /// The answer.
        reason: String,
    },
    /// Something did not happen in time.
    #[error("{what}: not within {within:?}{}", after_colon(last))]
    Late {
        /// What was waited for.
        what: String,
        /// For how long.
        within: Duration,
        /// What was in the way at last, if anything is known.
        last: String,
    },
    /// The embedded cluster said no.
    #[error(transparent)]
    Embedded(#[from] EmbeddedError),
    /// A file or a process of ours.
    #[error("{what}: {error}")]
    Io {
        /// What was done.
        what: String,
        /// The system's answer.
        error: std::io::Error,
    },
}

impl ClusterError {
    #[expect(clippy::needless_pass_by_value, reason = "for `map_err`, and for texts")]
    pub(crate) fn refused(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Refused { what: what.into(), reason: reason.to_string() }
    }

    /// For `map_err` after something done to a file or a process.
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io { what, error }
    }
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
