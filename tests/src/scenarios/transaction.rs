//! A transactional producer over librdkafka. Its calls block, so they are made on other threads.

use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use futures::FutureExt;
use futures::future::LocalBoxFuture;
use pelton::TopicPartition;
use pelton::ports::OutRecord;
use pelton_testkit::scenarios::Transaction;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::DeliveryResult;
use rdkafka::producer::{BaseRecord, Producer, ProducerContext, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

const CALL: Duration = Duration::from_secs(20);

struct Delivered(Mutex<mpsc::Sender<bool>>);

impl ClientContext for Delivered {}

impl ProducerContext for Delivered {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let tell = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let _nobody_waits = tell.send(result.is_ok()).is_err();
    }
}

struct Transactional {
    bootstrap: String,
    producer: Arc<ThreadedProducer<Delivered>>,
    delivered: Arc<Mutex<mpsc::Receiver<bool>>>,
}

/// A producer with this transactional id; nothing is asked yet.
pub(super) fn open(bootstrap: &str, id: &str) -> Result<Box<dyn Transaction>, KafkaError> {
    let (tell, delivered) = mpsc::channel();
    let producer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", id)
        .set("log_level", "0")
        .create_with_context(Delivered(Mutex::new(tell)))?;
    Ok(Box::new(Transactional {
        bootstrap: bootstrap.to_owned(),
        producer: Arc::new(producer),
        delivered: Arc::new(Mutex::new(delivered)),
    }))
}

fn word(result: Result<(), KafkaError>) -> String {
    let word = match result {
        Ok(()) => "done",
        Err(KafkaError::Transaction(error)) if error.is_fatal() => "fatal",
        Err(KafkaError::Transaction(error)) if error.txn_requires_abort() => "abortable",
        Err(KafkaError::Transaction(error)) if error.is_retriable() => "unknown",
        Err(_) => "fatal",
    };
    word.to_owned()
}

impl Transactional {
    fn call(
        &self,
        act: impl FnOnce(&ThreadedProducer<Delivered>) -> Result<(), KafkaError> + Send + 'static,
    ) -> LocalBoxFuture<'static, String> {
        let producer = Arc::clone(&self.producer);
        async move {
            let acted = tokio::task::spawn_blocking(move || word(act(&producer))).await;
            acted.unwrap_or_else(|error| error.to_string())
        }
        .boxed_local()
    }
}

impl Transaction for Transactional {
    fn init(&self) -> LocalBoxFuture<'_, String> {
        self.call(|producer| producer.init_transactions(CALL))
    }

    fn begin(&self) -> LocalBoxFuture<'_, String> {
        self.call(Producer::begin_transaction)
    }

    fn send(&self, record: OutRecord) -> LocalBoxFuture<'_, String> {
        let (producer, delivered) = (Arc::clone(&self.producer), Arc::clone(&self.delivered));
        let send = move || {
            let mut outgoing = BaseRecord::<[u8], [u8]>::to(&record.topic);
            outgoing.key = record.key.as_deref();
            outgoing.payload = record.value.as_deref();
            outgoing.partition = record.partition;
            if producer.send(outgoing).is_err() {
                return "failed";
            }
            let delivered = delivered.lock().unwrap_or_else(PoisonError::into_inner);
            if delivered.recv_timeout(CALL) == Ok(true) { "stored" } else { "failed" }
        };
        async move {
            let sent = tokio::task::spawn_blocking(send).await;
            sent.map_or_else(|error| error.to_string(), str::to_owned)
        }
        .boxed_local()
    }

    fn send_offset(
        &self,
        group: String,
        partition: TopicPartition,
        offset: i64,
    ) -> LocalBoxFuture<'_, String> {
        let bootstrap = self.bootstrap.clone();
        self.call(move |producer| {
            // It never joins: the offsets come from outside of the group.
            let consumer: BaseConsumer = ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("group.id", group)
                .create()?;
            let mut offsets = TopicPartitionList::new();
            let (topic, number) = (partition.topic(), partition.partition());
            offsets.add_partition_offset(topic, number, Offset::Offset(offset))?;
            let Some(metadata) = consumer.group_metadata() else {
                return Err(KafkaError::Canceled);
            };
            producer.send_offsets_to_transaction(&offsets, &metadata, CALL)
        })
    }

    fn commit(&self) -> LocalBoxFuture<'_, String> {
        self.call(|producer| producer.commit_transaction(CALL))
    }

    fn abort(&self) -> LocalBoxFuture<'_, String> {
        self.call(|producer| producer.abort_transaction(CALL))
    }
}
