//! Reads a topic back.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

/// A record as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) partition: i32,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) headers: BTreeMap<String, String>,
}

/// The first `count` records of a topic, in the order of each partition. Fails after 20 s without
/// a record.
pub(crate) fn read(bootstrap_servers: &str, topic: &str, count: usize) -> Vec<Found> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap_servers)
        .set("group.id", "not-joined")
        .set("fetch.wait.max.ms", "10")
        .create()
        .unwrap();
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
    let mut all = TopicPartitionList::new();
    for partition in metadata.topics()[0].partitions() {
        all.add_partition_offset(topic, partition.id(), Offset::Beginning).unwrap();
    }
    consumer.assign(&all).unwrap();
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
    let next = || {
        let record = consumer.poll(Duration::from_secs(20)).expect("no record in 20 s").unwrap();
        let headers = record.headers().into_iter().flat_map(|headers| headers.iter());
        Found {
            partition: record.partition(),
            key: text(record.key()),
            value: text(record.payload()),
            headers: headers.map(|h| (h.key.to_owned(), text(h.value))).collect(),
        }
    };
    (0..count).map(|_| next()).collect()
}
