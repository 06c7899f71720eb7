//! Does the embedded cluster behave as its documentation says?

use std::time::Instant;

use rdkafka::Message;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext};

use super::*;
use crate::partition_for_key;

const SOON: Duration = Duration::from_secs(20);

fn client(cluster: &EmbeddedCluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", cluster.bootstrap_servers())
        .set("allow.auto.create.topics", "false")
        .set("fetch.wait.max.ms", "10");
    config
}

fn member(cluster: &EmbeddedCluster, topic: &str) -> BaseConsumer {
    let member: BaseConsumer = client(cluster)
        .set("group.id", "readers")
        .set("group.protocol", "consumer")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    member.subscribe(&[topic]).unwrap();
    member
}

fn produce(cluster: &EmbeddedCluster, topic: &str, keys: &[&str]) {
    let producer: BaseProducer<DefaultProducerContext> =
        client(cluster).set("partitioner", "murmur2_random").create().unwrap();
    for key in keys {
        producer.send(BaseRecord::to(topic).key(*key).payload("in")).unwrap();
    }
    producer.flush(SOON).unwrap();
}

/// Polls the members in turn until `done`.
#[expect(clippy::disallowed_methods, reason = "a deadline on real sockets needs a clock")]
fn poll_until(members: &[&BaseConsumer], mut done: impl FnMut(Vec<(String, i32)>) -> bool) {
    let deadline = Instant::now() + SOON;
    loop {
        let mut seen = Vec::new();
        for member in members {
            if let Some(record) = member.poll(Duration::from_millis(20)) {
                let record = record.unwrap();
                let key = String::from_utf8_lossy(record.key().unwrap()).into_owned();
                seen.push((key, record.partition()));
            }
        }
        if done(seen) {
            return;
        }
        assert!(Instant::now() < deadline, "not within {SOON:?}");
    }
}

#[test]
fn records_land_where_javas_partitioner_puts_them() {
    let cluster = EmbeddedCluster::start(3).unwrap();
    cluster.group_heartbeat(Duration::from_millis(100));
    cluster.create_topic("logins", 8).unwrap();
    produce(&cluster, "logins", &["admin", "ajay", ""]);
    let reader = member(&cluster, "logins");
    let mut got = Vec::new();
    poll_until(&[&reader], |seen| {
        got.extend(seen);
        got.len() == 3
    });
    for (key, partition) in got {
        assert_eq!(partition, partition_for_key(key.as_bytes(), 8), "{key:?}");
    }
}

#[test]
fn a_second_member_gets_its_share_within_a_few_heartbeats() {
    let cluster = EmbeddedCluster::start(1).unwrap();
    cluster.group_heartbeat(Duration::from_millis(100));
    cluster.create_topic("logins", 6).unwrap();
    let first = member(&cluster, "logins");
    poll_until(&[&first], |_| first.assignment().unwrap().count() == 6);
    let second = member(&cluster, "logins");
    #[expect(clippy::disallowed_methods, reason = "the test measures real time")]
    let start = Instant::now();
    poll_until(&[&first, &second], |_| second.assignment().unwrap().count() == 3);
    assert!(start.elapsed() < Duration::from_secs(5), "took {:?}", start.elapsed());
    // Amid the rebalance: a client closed now has been seen to wait for its own thread for ever, in
    // `rd_kafka_incremental_unassign`. They end with the process.
    [first, second].into_iter().for_each(std::mem::forget);
}

#[test]
fn a_broker_that_is_down_answers_nobody_and_comes_back_with_its_records() {
    let cluster = EmbeddedCluster::start(1).unwrap();
    cluster.create_topic("logins", 1).unwrap();
    produce(&cluster, "logins", &["admin"]);
    let asking: BaseConsumer = client(&cluster).create().unwrap();
    cluster.broker_down(1).unwrap();
    assert!(asking.fetch_watermarks("logins", 0, Duration::from_millis(500)).is_err());
    cluster.broker_up(1).unwrap();
    assert_eq!(asking.fetch_watermarks("logins", 0, SOON).unwrap(), (0, 1));
}

#[test]
fn what_can_not_be_is_refused_with_a_reason() {
    assert!(matches!(EmbeddedCluster::start(0), Err(EmbeddedError::Start { brokers: 0, .. })));
    let cluster = EmbeddedCluster::start(1).unwrap();
    let refused = cluster.create_topic("logins", 0).unwrap_err();
    assert!(refused.to_string().contains("at least one partition"), "{refused}");
    let refused = cluster.broker_down(2).unwrap_err();
    assert!(refused.to_string().contains("the brokers are 1 to 1"), "{refused}");
    assert!(cluster.create_topic("a\0b", 1).is_err());
    assert!(cluster.set_leader("logins", 0, Some(9)).is_err());
}
