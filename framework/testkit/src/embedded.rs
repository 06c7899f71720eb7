//! What does a worker run on where there is no Kafka? A small cluster inside this process.
//!
//! [`EmbeddedCluster`] is librdkafka's mock cluster made safe: `rdkafka::mocking` where that has
//! the call, the native one where it has not. It may not hide what the mock can't do: the type
//! lists it.
#![expect(unsafe_code, reason = "rust-rdkafka has no calls for the mock cluster's group timings")]

use std::fmt;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::ClientContext;
use rdkafka::bindings as native;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::{BaseProducer, DeliveryResult, Producer, ProducerContext};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

/// A cluster of brokers inside this process; it ends when this is dropped.
///
/// Its brokers listen on loopback, so other processes can join it. All calls are answered by the
/// cluster's own thread within milliseconds and may come from any thread.
///
/// ```
/// use pelton_testkit::{EmbeddedCluster, partition_for_key};
/// use rdkafka::consumer::{BaseConsumer, Consumer};
/// use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
/// use rdkafka::{ClientConfig, Message};
/// use std::time::Duration;
///
/// let cluster = EmbeddedCluster::start(1)?;
/// cluster.create_topic("user_logins", 3)?;
/// let mut client = ClientConfig::new();
/// client.set("bootstrap.servers", cluster.bootstrap_servers());
///
/// let producer: BaseProducer = client.clone().set("partitioner", "murmur2_random").create()?;
/// producer.send(BaseRecord::to("user_logins").key("admin").payload("in")).map_err(|(e, _)| e)?;
/// producer.flush(Duration::from_secs(10))?;
///
/// let consumer: BaseConsumer = client
///     .set("group.id", "readers")
///     .set("auto.offset.reset", "earliest")
///     .set("fetch.wait.max.ms", "10")
///     .create()?;
/// consumer.subscribe(&["user_logins"])?;
/// let mut polls = (0..20).map(|_| consumer.poll(Duration::from_secs(1)));
/// let record = polls.find_map(|polled| polled).expect("a record within 20 s")?;
/// assert_eq!(record.payload(), Some(&b"in"[..]));
/// assert_eq!(record.partition(), partition_for_key(b"admin", 3));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits
///
/// It is no Kafka, and what it lacks decides what can be shown on it. The figures are those of
/// librdkafka 2.12.1, whose functions are named as the source.
///
/// - **A partition keeps at most 5 MiB and 100,000 record sets** and drops its oldest beyond
///   either ([`MAX_PARTITION_BYTES`](EmbeddedCluster::MAX_PARTITION_BYTES),
///   [`MAX_PARTITION_RECORD_SETS`](EmbeddedCluster::MAX_PARTITION_RECORD_SETS);
///   `rd_kafka_mock_partition_init`). A record set is what a producer sends to one partition at
///   once. Readers of what was dropped get OFFSET_OUT_OF_RANGE.
/// - **No admin calls** (the table `rd_kafka_mock_api_handlers`): topics come from
///   [`create_topic`](EmbeddedCluster::create_topic), never grow, are never deleted. A client
///   that asks for a missing topic without `allow.auto.create.topics=false` creates it, with 4
///   partitions (`rd_kafka_mock_cluster_new`).
/// - **No compaction, no retention by time, no look-up by time**: ListOffsets knows the two ends.
/// - **A waiting fetch is not woken by a new record** (`rd_kafka_mock_handle_Fetch`): readers
///   should set `fetch.wait.max.ms=10`. With the default of 500 a record takes 424 ms (median)
///   to arrive, with 10 it takes 6 ms.
/// - **Transactions are not real**: aborted records are visible, offsets in a transaction are
///   not stored, old producers are not fenced (`rd_kafka_mock_handle_TxnOffsetCommit`, `EndTxn`).
/// - **Classic groups are slow and strict**: a join to a running group takes the session timeout
///   less one second, and commits are refused meanwhile, which an eager group's last commit
///   needs (`rd_kafka_mock_cgrp_classic_rebalance`). KIP-848 groups (`group.protocol=consumer`)
///   rebalance within a heartbeat: [`group_heartbeat`](EmbeddedCluster::group_heartbeat).
/// - **Instance ids fence nobody**, commit metadata may be of any length, and topics have no ids.
pub struct EmbeddedCluster {
    /// The client that owns the cluster: librdkafka destroys both together.
    owner: BaseProducer<Silent>,
    brokers: i32,
    bootstrap_servers: String,
}

/// Why a call on the embedded cluster failed.
///
/// ```
/// use pelton_testkit::{EmbeddedCluster, EmbeddedError};
///
/// let cluster = EmbeddedCluster::start(1)?;
/// cluster.create_topic("totals", 1)?;
/// let again = cluster.create_topic("totals", 1);
/// assert!(matches!(again, Err(EmbeddedError::TopicExists { .. })));
/// # Ok::<(), EmbeddedError>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The cluster did not start.
    #[error("the embedded cluster did not start with {brokers} brokers: {reason}")]
    Start {
        /// How many brokers were asked for.
        brokers: i32,
        /// What librdkafka said.
        reason: String,
    },
    /// The topic exists, made by an earlier call or by a client that asked for it.
    #[error(
        "the embedded cluster has the topic {topic} already: create topics before clients ask \
         for them, or set allow.auto.create.topics=false in those clients"
    )]
    TopicExists {
        /// Its name.
        topic: String,
    },
    /// The cluster refused a call.
    #[error("the embedded cluster refused to {what}: {reason}")]
    Refused {
        /// What was asked of it.
        what: String,
        /// What librdkafka said.
        reason: String,
    },
}

impl EmbeddedCluster {
    /// What a partition keeps at most, keys, values and framing together; it drops its oldest
    /// records beyond it (`max_size` in librdkafka's `rdkafka_mock.c`).
    pub const MAX_PARTITION_BYTES: u64 = 5 * 1024 * 1024;

    /// How many record sets a partition keeps at most (`max_cnt` in librdkafka's
    /// `rdkafka_mock.c`). A record set holds at least one record.
    pub const MAX_PARTITION_RECORD_SETS: u64 = 100_000;

    /// Starts `brokers` brokers, with the ids 1, 2, …, on free ports of the loopback device.
    ///
    /// Classic groups form after 100 ms instead of Kafka's 3 s
    /// ([`group_initial_rebalance_delay`](Self::group_initial_rebalance_delay)).
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Start`] if `brokers` is not in 1..=100 or librdkafka can't open ports.
    pub fn start(brokers: i32) -> Result<Self, EmbeddedError> {
        let failed = |reason: &dyn fmt::Display| EmbeddedError::Start {
            brokers,
            reason: reason.to_string(),
        };
        if !(1..=100).contains(&brokers) {
            return Err(failed(&"the number of brokers must be from 1 to 100"));
        }
        let owner: BaseProducer<Silent> = ClientConfig::new()
            .set("test.mock.num.brokers", brokers.to_string())
            .create_with_context(Silent)
            .map_err(|error| failed(&error))?;
        let bootstrap_servers = owner
            .client()
            .mock_cluster()
            .map(|cluster| cluster.bootstrap_servers())
            .ok_or_else(|| failed(&"librdkafka was built without its mock cluster"))?;
        let cluster = Self { owner, brokers, bootstrap_servers };
        cluster.group_initial_rebalance_delay(Duration::from_millis(100));
        Ok(cluster)
    }

    /// The addresses of all brokers, as `bootstrap.servers` takes them.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// How many brokers there are; their ids are 1 to this.
    #[must_use]
    pub fn brokers(&self) -> i32 {
        self.brokers
    }

    /// Creates a topic, each partition on up to three brokers.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::TopicExists`], and [`EmbeddedError::Refused`] for fewer than one
    /// partition or a name with a NUL.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), EmbeddedError> {
        let what = || format!("create the topic {topic} with {partitions} partitions");
        if partitions < 1 {
            let reason = "a topic has at least one partition".to_owned();
            return Err(EmbeddedError::Refused { what: what(), reason });
        }
        match self.cluster()?.create_topic(topic, partitions, self.brokers.min(3)) {
            Err(KafkaError::MockCluster(RDKafkaErrorCode::TopicAlreadyExists)) => {
                Err(EmbeddedError::TopicExists { topic: topic.to_owned() })
            }
            answer => refused(answer, what),
        }
    }

    /// Sets how often members of KIP-848 groups report, which is also how fast they rebalance;
    /// 3 s unless set. Groups take it up when they come into being.
    ///
    /// ```
    /// use pelton_testkit::EmbeddedCluster;
    /// use std::time::Duration;
    ///
    /// let cluster = EmbeddedCluster::start(1)?;
    /// cluster.group_heartbeat(Duration::from_millis(200));
    /// # Ok::<(), pelton_testkit::EmbeddedError>(())
    /// ```
    pub fn group_heartbeat(&self, interval: Duration) {
        let milliseconds = milliseconds(interval);
        // SAFETY: the cluster lives as long as its owner, which is borrowed; the call takes the
        // cluster's lock (rd_kafka_mock_set_group_consumer_heartbeat_interval_ms).
        unsafe {
            native::rd_kafka_mock_set_group_consumer_heartbeat_interval_ms(
                self.native(),
                milliseconds,
            );
        }
    }

    /// Sets after how long a silent member of a KIP-848 group is removed; 30 s unless set.
    /// Groups take it up when they come into being.
    pub fn group_session_timeout(&self, timeout: Duration) {
        let milliseconds = milliseconds(timeout);
        // SAFETY: the cluster lives as long as its owner, which is borrowed; the call takes the
        // cluster's lock (rd_kafka_mock_set_group_consumer_session_timeout_ms).
        unsafe {
            native::rd_kafka_mock_set_group_consumer_session_timeout_ms(
                self.native(),
                milliseconds,
            );
        }
    }

    /// Sets how long an empty classic group waits for more members before it forms; 100 ms
    /// unless set, 1 ms at least.
    pub fn group_initial_rebalance_delay(&self, delay: Duration) {
        // A timer of 0 ms never fires, and the group would never form.
        let milliseconds = milliseconds(delay).max(1);
        // SAFETY: the cluster lives as long as its owner, which is borrowed; the call takes the
        // cluster's lock (rd_kafka_mock_group_initial_rebalance_delay_ms).
        unsafe {
            native::rd_kafka_mock_group_initial_rebalance_delay_ms(self.native(), milliseconds);
        }
    }

    /// Makes a broker the coordinator of a group.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Refused`] if librdkafka refuses it.
    pub fn set_coordinator(&self, group: &str, broker: i32) -> Result<(), EmbeddedError> {
        let answer = self.cluster()?.coordinator(MockCoordinator::Group(group.to_owned()), broker);
        refused(answer, || format!("make broker {broker} the coordinator of {group}"))
    }

    /// Makes a broker the leader of a partition; without one nobody can write to it or read it.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Refused`] for a broker or partition that does not exist.
    pub fn set_leader(
        &self,
        topic: &str,
        partition: i32,
        broker: Option<i32>,
    ) -> Result<(), EmbeddedError> {
        let answer = self.cluster()?.partition_leader(topic, partition, broker);
        refused(answer, || format!("make broker {broker:?} the leader of {topic}-{partition}"))
    }

    /// Takes a broker down: its connections break and no new ones are accepted. Its partitions
    /// keep it as their leader; [`set_leader`](Self::set_leader) moves them.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Refused`] for a broker that does not exist.
    pub fn broker_down(&self, broker: i32) -> Result<(), EmbeddedError> {
        let known = self.known(broker, "take down")?;
        refused(known.broker_down(broker), || format!("take down broker {broker}"))
    }

    /// Brings a broker back, with all it had.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Refused`] for a broker that does not exist.
    pub fn broker_up(&self, broker: i32) -> Result<(), EmbeddedError> {
        let known = self.known(broker, "bring back")?;
        refused(known.broker_up(broker), || format!("bring back broker {broker}"))
    }

    /// Delays every answer of a broker.
    ///
    /// # Errors
    ///
    /// [`EmbeddedError::Refused`] for a broker that does not exist.
    pub fn broker_delay(&self, broker: i32, delay: Duration) -> Result<(), EmbeddedError> {
        let known = self.known(broker, "slow down")?;
        let answer = known.broker_round_trip_time(broker, delay);
        refused(answer, || format!("slow down broker {broker}"))
    }

    /// Answers the next requests of a kind with these errors, one each, whoever sends them.
    /// `RD_KAFKA_RESP_ERR__TRANSPORT` breaks the connection instead.
    ///
    /// ```
    /// use pelton_testkit::EmbeddedCluster;
    /// use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
    ///
    /// let cluster = EmbeddedCluster::start(1)?;
    /// let timed_out = RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT;
    /// cluster.fail_next(RDKafkaApiKey::OffsetCommit, &[timed_out, timed_out]);
    /// # Ok::<(), pelton_testkit::EmbeddedError>(())
    /// ```
    pub fn fail_next(&self, request: RDKafkaApiKey, errors: &[RDKafkaRespErr]) {
        if let Ok(cluster) = self.cluster() {
            cluster.request_errors(request, errors);
        }
    }

    /// Takes back the errors of [`fail_next`](Self::fail_next) that were not used.
    pub fn clear_failures(&self, request: RDKafkaApiKey) {
        if let Ok(cluster) = self.cluster() {
            cluster.clear_request_errors(request);
        }
    }

    fn known(&self, broker: i32, what: &str) -> Result<MockCluster<'_, Silent>, EmbeddedError> {
        // Below 1 librdkafka would take it for all brokers at once.
        if (1..=self.brokers).contains(&broker) {
            return self.cluster();
        }
        let reason = format!("the brokers are 1 to {}", self.brokers);
        Err(EmbeddedError::Refused { what: format!("{what} broker {broker}"), reason })
    }

    fn cluster(&self) -> Result<MockCluster<'_, Silent>, EmbeddedError> {
        let reason = || "librdkafka was built without its mock cluster".to_owned();
        let brokers = self.brokers;
        let cluster = self.owner.client().mock_cluster();
        cluster.ok_or_else(|| EmbeddedError::Start { brokers, reason: reason() })
    }

    /// The native cluster; never null, because `start` has seen it.
    fn native(&self) -> *mut native::rd_kafka_mock_cluster_t {
        // SAFETY: the client lives; librdkafka sets its mock cluster when the client is made,
        // never replaces it, and destroys it with the client.
        unsafe { native::rd_kafka_handle_mock_cluster(self.owner.client().native_ptr()) }
    }
}

impl fmt::Debug for EmbeddedCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedCluster")
            .field("bootstrap_servers", &self.bootstrap_servers)
            .finish_non_exhaustive()
    }
}

/// The owning client only carries the cluster: that its brokers come and go is no news.
struct Silent;

impl ClientContext for Silent {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Silent {
    type DeliveryOpaque = ();

    fn delivery(&self, _result: &DeliveryResult<'_>, (): ()) {}
}

fn refused(answer: Result<(), KafkaError>, what: impl Fn() -> String) -> Result<(), EmbeddedError> {
    answer.map_err(|error| EmbeddedError::Refused { what: what(), reason: error.to_string() })
}

fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
