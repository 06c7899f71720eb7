//! Changes to topics, through librdkafka's admin client.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use crate::ClusterError;
use crate::cluster::client::{self, Silent};

const ANSWER: Duration = Duration::from_secs(30);

pub(crate) fn create_topic(
    bootstrap: &str,
    topic: &str,
    partitions: i32,
    replication: i32,
    settings: &[(&str, &str)],
) -> Result<(), ClusterError> {
    let what = format!("creating the topic {topic}");
    let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replication));
    for (name, value) in settings {
        new = new.set(name, value);
    }
    let answers = block_on(admin(bootstrap, &what)?.create_topics([&new], &options()));
    first(&what, answers.map(|all| all.into_iter().next().map(|one| one.map_err(|(_, e)| e))))?;
    // The controller has it; now wait until every broker tells clients of it: a new client asks
    // the one broker that it knows.
    let metadata = client::topic_with_leaders(client::consumer(bootstrap, &[])?.client(), topic)?;
    for broker in metadata.brokers() {
        let address = format!("{}:{}", broker.host(), broker.port());
        client::topic_with_leaders(client::consumer(&address, &[])?.client(), topic)?;
    }
    Ok(())
}

pub(crate) fn add_partitions(
    bootstrap: &str,
    topic: &str,
    total: usize,
) -> Result<(), ClusterError> {
    let what = format!("letting {topic} grow to {total} partitions");
    let new = NewPartitions::new(topic, total);
    let answers = block_on(admin(bootstrap, &what)?.create_partitions([&new], &options()));
    first(&what, answers.map(|all| all.into_iter().next().map(|one| one.map_err(|(_, e)| e))))
}

/// Gives a topic this setting, and takes from it all that it had besides.
pub(crate) fn set_topic(
    bootstrap: &str,
    topic: &str,
    name: &str,
    value: &str,
) -> Result<(), ClusterError> {
    let what = format!("setting {name} of {topic}");
    let new = AlterConfig::new(ResourceSpecifier::Topic(topic)).set(name, value);
    let answers = block_on(admin(bootstrap, &what)?.alter_configs([&new], &options()));
    first(&what, answers.map(|all| all.into_iter().next().map(|one| one.map_err(|(_, e)| e))))
}

pub(crate) fn delete_topic(bootstrap: &str, topic: &str) -> Result<(), ClusterError> {
    let what = format!("deleting the topic {topic}");
    let answers = block_on(admin(bootstrap, &what)?.delete_topics(&[topic], &options()));
    first(&what, answers.map(|all| all.into_iter().next().map(|one| one.map_err(|(_, e)| e))))
}

pub(crate) fn delete_records(
    bootstrap: &str,
    topic: &str,
    partition: i32,
    before: i64,
) -> Result<(), ClusterError> {
    let what = format!("deleting the records of {topic}-{partition} before {before}");
    let mut asked = TopicPartitionList::new();
    asked
        .add_partition_offset(topic, partition, Offset::Offset(before))
        .map_err(|error| ClusterError::refused(&what, error))?;
    let answer = block_on(admin(bootstrap, &what)?.delete_records(&asked, &options()));
    let answer = answer.map_err(|error| ClusterError::refused(&what, error))?;
    let mut failures = answer.elements().into_iter().filter_map(|element| element.error().err());
    failures.next().map_or(Ok(()), |error| Err(ClusterError::refused(&what, error)))
}

fn admin(bootstrap: &str, what: &str) -> Result<AdminClient<Silent>, ClusterError> {
    client::settings(bootstrap)
        .remove("allow.auto.create.topics")
        .create_with_context(Silent)
        .map_err(|error| ClusterError::refused(what, error))
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(ANSWER)).operation_timeout(Some(ANSWER))
}

fn first<T>(
    what: &str,
    answer: Result<Option<Result<T, RDKafkaErrorCode>>, KafkaError>,
) -> Result<(), ClusterError> {
    match answer {
        Ok(Some(Err(code))) => Err(ClusterError::refused(what, code)),
        Ok(Some(Ok(_)) | None) => Ok(()),
        Err(error) => Err(ClusterError::refused(what, error)),
    }
}

/// Waits for a future on this thread. The admin client answers from a thread of its own, so no
/// runtime is needed, and tests may call from inside one.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(done) => return done,
            Poll::Pending => thread::park(),
        }
    }
}
