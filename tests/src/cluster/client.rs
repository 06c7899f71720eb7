//! How is a cluster asked? By clients made for one question each.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, OwnedHeaders};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use crate::waiting::{Deadline, patiently};
use crate::{ClusterError, Committed, Isolation, NewRecord, StoredRecord};

/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(5);
/// How long a question is repeated until the cluster answers it.
const ANSWER: Duration = Duration::from_secs(30);
/// How long a producer tries to store a record. A broker that was frozen may leave a request
/// unanswered after it thaws; then it is sent again.
const STORED: Duration = Duration::from_secs(180);
/// How long a producer waits for one answer: longer than a test freezes a broker.
const ANSWERED: Duration = Duration::from_secs(15);

/// Says nothing: a broker that a test has killed is no news.
pub(crate) struct Silent;

impl ClientContext for Silent {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ConsumerContext for Silent {}

pub(crate) fn settings(bootstrap: &str) -> ClientConfig {
    let mut settings = ClientConfig::new();
    settings
        .set("bootstrap.servers", bootstrap)
        .set("client.id", "pelton-tests")
        .set("allow.auto.create.topics", "false")
        .set("reconnect.backoff.max.ms", "500");
    settings
}

pub(crate) fn consumer(
    bootstrap: &str,
    more: &[(&str, &str)],
) -> Result<BaseConsumer<Silent>, ClusterError> {
    let mut settings = settings(bootstrap);
    settings.set("enable.auto.commit", "false");
    for (name, value) in more {
        settings.set(*name, *value);
    }
    settings
        .create_with_context(Silent)
        .map_err(|error| ClusterError::refused("making a consumer", error))
}

/// A topic's metadata, once every partition has a leader.
pub(crate) fn topic_with_leaders(
    client: &Client<Silent>,
    topic: &str,
) -> Result<Metadata, ClusterError> {
    let what = format!("the leaders of {topic}");
    // A broker may hear of a new topic a little later than the others.
    let missing = Deadline::after(REQUEST);
    patiently(&what, ANSWER, || {
        let metadata =
            client.fetch_metadata(Some(topic), REQUEST).map_err(|error| error.to_string())?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let error = found.map(|found| found.error().map(RDKafkaErrorCode::from));
        match (found, error.flatten()) {
            (None, _) | (_, Some(RDKafkaErrorCode::UnknownTopicOrPartition)) => {
                let reason = "the topic does not exist";
                if missing.has_passed() {
                    return Ok(Err(ClusterError::refused(&what, reason)));
                }
                Err(reason.to_owned())
            }
            (_, Some(error)) => Err(error.to_string()),
            (Some(found), None) => {
                match found.partitions().iter().find(|partition| partition.leader() < 0) {
                    Some(partition) => Err(format!("partition {} has none", partition.id())),
                    None if found.partitions().is_empty() => Err("it has no partitions".to_owned()),
                    None => Ok(Ok(metadata)),
                }
            }
        }
    })?
}

/// The partitions of a topic, in order; an error at once if it does not exist.
fn partitions(client: &Client<Silent>, topic: &str) -> Result<Vec<i32>, ClusterError> {
    let metadata = topic_with_leaders(client, topic)?;
    let mut ids: Vec<i32> =
        metadata.topics().iter().flat_map(|t| t.partitions()).map(|p| p.id()).collect();
    ids.sort_unstable();
    Ok(ids)
}

pub(crate) fn ends(bootstrap: &str, topic: &str) -> Result<Vec<i64>, ClusterError> {
    let consumer = consumer(bootstrap, &[])?;
    let mut ends = Vec::new();
    for partition in partitions(consumer.client(), topic)? {
        let end = patiently(&format!("the end of {topic}-{partition}"), ANSWER, || {
            let answer = consumer.fetch_watermarks(topic, partition, REQUEST);
            answer.map(|(_, end)| end).map_err(|error| error.to_string())
        })?;
        ends.push(end);
    }
    Ok(ends)
}

pub(crate) fn committed(
    bootstrap: &str,
    group: &str,
    topic: &str,
) -> Result<Vec<Committed>, ClusterError> {
    let consumer = consumer(bootstrap, &[("group.id", group)])?;
    let mut asked = TopicPartitionList::new();
    for partition in partitions(consumer.client(), topic)? {
        asked.add_partition(topic, partition);
    }
    let answer = patiently(&format!("the offsets of group {group}"), ANSWER, || {
        consumer.committed_offsets(asked.clone(), REQUEST).map_err(|error| error.to_string())
    })?;
    let committed = answer.elements().into_iter().map(|element| Committed {
        partition: element.partition(),
        offset: match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        },
        metadata: element.metadata().to_owned(),
    });
    Ok(committed.collect())
}

/// Reads a topic; `keep` says what of each record is kept.
pub(crate) fn read(
    bootstrap: &str,
    topic: &str,
    isolation: Isolation,
    keep: impl Fn(&BorrowedMessage<'_>) -> StoredRecord,
) -> Result<Vec<StoredRecord>, ClusterError> {
    let isolation = match isolation {
        Isolation::ReadCommitted => "read_committed",
        Isolation::ReadUncommitted => "read_uncommitted",
    };
    let consumer = consumer(
        bootstrap,
        &[
            ("group.id", "pelton-tests-reads-without-a-group"),
            ("isolation.level", isolation),
            ("enable.partition.eof", "true"),
            ("fetch.wait.max.ms", "10"),
            ("auto.offset.reset", "error"),
        ],
    )?;
    let mut open = partitions(consumer.client(), topic)?;
    let what = format!("reading {topic}");
    let mut from = TopicPartitionList::new();
    for partition in &open {
        from.add_partition_offset(topic, *partition, Offset::Beginning)
            .map_err(|error| ClusterError::refused(&what, error))?;
    }
    consumer.assign(&from).map_err(|error| ClusterError::refused(&what, error))?;
    let mut records = Vec::new();
    let mut deadline = Deadline::after(ANSWER);
    let mut last = String::new();
    while !open.is_empty() {
        match consumer.poll(Duration::from_millis(100)) {
            Some(Ok(record)) => {
                records.push(keep(&record));
                deadline = Deadline::after(ANSWER);
            }
            Some(Err(KafkaError::PartitionEOF(ended))) => open.retain(|open| *open != ended),
            // Brokers come and go while tests run: the next fetch finds the new leader.
            Some(Err(error)) => last = error.to_string(),
            None => {}
        }
        if deadline.has_passed() && !open.is_empty() {
            return Err(ClusterError::Late { what, within: ANSWER, last });
        }
    }
    records.sort_by_key(|record: &StoredRecord| (record.partition, record.offset));
    Ok(records)
}

/// A record without its value and its headers: topics may be larger than memory.
pub(crate) fn place(record: &BorrowedMessage<'_>) -> StoredRecord {
    StoredRecord {
        partition: record.partition(),
        offset: record.offset(),
        key: record.key().map(<[u8]>::to_vec),
        value: None,
        headers: Vec::new(),
        timestamp: record.timestamp().to_millis(),
    }
}

pub(crate) fn stored(record: &BorrowedMessage<'_>) -> StoredRecord {
    let headers = record.headers().map(|headers| {
        let owned =
            |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        headers.iter().map(owned).collect()
    });
    StoredRecord {
        partition: record.partition(),
        offset: record.offset(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp: record.timestamp().to_millis(),
    }
}

/// Counts what was stored and keeps the first failure.
#[derive(Clone, Default)]
struct Reports {
    stored: Arc<AtomicU64>,
    failure: Arc<Mutex<Option<String>>>,
}

impl ClientContext for Reports {
    fn log(&self, _level: RDKafkaLogLevel, _facility: &str, _message: &str) {}

    fn error(&self, _error: KafkaError, _reason: &str) {}
}

impl ProducerContext for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        match result {
            Ok(_) => {
                self.stored.fetch_add(1, Ordering::Relaxed);
            }
            Err((error, _)) => {
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

pub(crate) fn produce(
    bootstrap: &str,
    topic: &str,
    records: &[NewRecord],
) -> Result<(), ClusterError> {
    let sender = Sender::new(bootstrap, topic, Duration::from_millis(5))?;
    let expected = u64::try_from(records.len()).unwrap_or(u64::MAX);
    records.iter().try_for_each(|record| sender.send(record))?;
    sender.finish(expected)
}

/// Appends to a topic, in the order of the calls.
pub(crate) struct Sender {
    producer: BaseProducer<Reports>,
    topic: String,
    reports: Reports,
}

impl Sender {
    /// What is sent waits for more, for so long.
    pub(crate) fn new(
        bootstrap: &str,
        topic: &str,
        linger: Duration,
    ) -> Result<Self, ClusterError> {
        // A producer would create the topic by asking for it.
        partitions(consumer(bootstrap, &[])?.client(), topic)?;
        let reports = Reports::default();
        let producer = settings(bootstrap)
            .remove("allow.auto.create.topics")
            .set("partitioner", "murmur2_random")
            .set("enable.idempotence", "true")
            .set("linger.ms", linger.as_millis().to_string())
            .set("message.timeout.ms", STORED.as_millis().to_string())
            .set("socket.timeout.ms", ANSWERED.as_millis().to_string())
            .create_with_context(reports.clone())
            .map_err(|error| ClusterError::refused("making a producer", error))?;
        Ok(Self { producer, topic: topic.to_owned(), reports })
    }

    pub(crate) fn send(&self, record: &NewRecord) -> Result<(), ClusterError> {
        send(&self.producer, &self.topic, record).map_err(|error| self.refused(error))
    }

    /// Hears reports.
    pub(crate) fn serve(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until all records are stored, and that they are `expected` ones.
    pub(crate) fn finish(&self, expected: u64) -> Result<(), ClusterError> {
        self.producer.flush(STORED + REQUEST).map_err(|error| self.refused(error))?;
        let failure = self.reports.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        let stored = self.reports.stored.load(Ordering::Relaxed);
        match failure {
            Some(failure) => Err(self.refused(failure)),
            None if stored == expected => Ok(()),
            None => Err(self.refused(format!("{stored} of {expected} records were stored"))),
        }
    }

    fn refused(&self, reason: impl ToString) -> ClusterError {
        ClusterError::refused(format!("producing to {}", self.topic), reason)
    }
}

fn send(
    producer: &BaseProducer<Reports>,
    topic: &str,
    record: &NewRecord,
) -> Result<(), KafkaError> {
    let mut headers = OwnedHeaders::new_with_capacity(record.headers.len());
    for (name, value) in &record.headers {
        headers = headers.insert(Header { key: name, value: Some(value) });
    }
    let mut sent = BaseRecord::<[u8], [u8]>::to(topic).headers(headers);
    sent.key = record.key.as_deref();
    sent.payload = record.value.as_deref();
    sent.partition = record.partition;
    sent.timestamp = record.timestamp;
    let deadline = Deadline::after(STORED);
    loop {
        match producer.send(sent) {
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back))
                if !deadline.has_passed() =>
            {
                producer.poll(Duration::from_millis(10));
                sent = back;
            }
            Err((error, _)) => return Err(error),
            Ok(()) => {
                producer.poll(Duration::ZERO);
                return Ok(());
            }
        }
    }
}
