//! The client that reads: no group, partitions started and stopped one by one.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{ClientConfig, ClientContext};

use crate::kafka::credentials::{Attached, Credentials};
use crate::kafka::errors::port_error;
use crate::kafka::ffi::{FetchQueue, Fetched, set_credentials};
use crate::kafka::settings::ClientSettings;
use crate::ports::{Fetch, FetchEvent, PortError, RestoreFetches, Waker};
use crate::record::Run;
use crate::topic_partition::TopicPartition;

/// Reads partitions from explicit offsets over librdkafka.
pub(crate) struct KafkaFetch {
    /// First, so that it goes before the client.
    _credentials: Attached,
    queue: FetchQueue<FetchContext>,
    consumer: Arc<BaseConsumer<FetchContext>>,
    running: HashSet<TopicPartition>,
}

/// What the callbacks leave for the poll loop.
#[derive(Default)]
pub(crate) struct FetchContext {
    /// There was an error; whether it was a fatal one is to be asked.
    failed: AtomicBool,
}

impl ClientContext for FetchContext {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(client = "fetcher", %error, reason, "kafka client");
        self.failed.store(true, Ordering::Release);
    }
}

impl ConsumerContext for FetchContext {}

impl KafkaFetch {
    pub(crate) fn new(
        config: &ClientConfig,
        credentials: &Arc<Credentials>,
        waker: Waker,
    ) -> Result<Self, PortError> {
        let mut consumer: BaseConsumer<FetchContext> = config
            .create_with_context(FetchContext::default())
            .map_err(|error| port_error("the fetcher's client", &error))?;
        let wake = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || wake());
        let consumer = Arc::new(consumer);
        let queue = FetchQueue::new(Arc::clone(&consumer), waker);
        let told = Arc::clone(&consumer);
        let credentials = credentials
            .attach(move |user, password| set_credentials(told.client(), user, password));
        Ok(Self { _credentials: credentials, queue, consumer, running: HashSet::new() })
    }
}

impl Fetch for KafkaFetch {
    fn start(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), PortError> {
        if self.running.contains(partition) {
            // librdkafka accepts a second start and jumps; its header forbids it.
            self.stop(partition)?;
        }
        self.queue.start(&partition.topic_name(), partition.partition(), offset)?;
        self.running.insert(partition.clone());
        Ok(())
    }

    fn stop(&mut self, partition: &TopicPartition) -> Result<(), PortError> {
        if self.running.remove(partition) {
            self.queue.stop(&partition.topic_name(), partition.partition())?;
        }
        Ok(())
    }

    fn poll(&mut self, max_records: usize, out: &mut Vec<FetchEvent>) {
        // Errors and logs of the client itself; records never come this way.
        while let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            tracing::warn!(client = "fetcher", %error, "kafka client");
            self.consumer.context().failed.store(true, Ordering::Release);
        }
        if self.consumer.context().failed.swap(false, Ordering::AcqRel)
            && let Some((_, reason)) = self.consumer.client().fatal_error()
        {
            return out.push(FetchEvent::Broken(reason));
        }
        let mut run: Option<Run> = None;
        self.queue.batch(max_records, |fetched| {
            let fits = |run: &Run| {
                run.partition().partition() == fetched.partition
                    && run.partition().topic() == &**fetched.topic
            };
            if fetched.error != RDKafkaErrorCode::NoError || !run.as_ref().is_some_and(fits) {
                out.extend(run.take().map(FetchEvent::Run));
            }
            let partition = || TopicPartition::new(Arc::clone(fetched.topic), fetched.partition);
            match fetched.error {
                RDKafkaErrorCode::NoError => {
                    let run = run.get_or_insert_with(|| Run::new(partition()));
                    let Fetched { offset, timestamp, key, value, headers, .. } = fetched;
                    run.push(offset, timestamp, key, value, headers);
                }
                RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                    out.push(FetchEvent::OutOfRange {
                        partition: partition(),
                        offset: fetched.offset,
                    });
                }
                RDKafkaErrorCode::PartitionEOF => {
                    out.push(FetchEvent::End { partition: partition(), offset: fetched.offset });
                }
                error => {
                    out.push(FetchEvent::Trouble {
                        partition: partition(),
                        reason: error.to_string(),
                    });
                }
            }
        });
        out.extend(run.map(FetchEvent::Run));
    }

    fn end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.queue.cached_end(partition.topic(), partition.partition())
    }

    fn close(self: Box<Self>) {
        // Dropping stops everything: 0.3 to 5 ms, with partitions running or a broker down.
    }

    #[cfg(feature = "planted-bugs")]
    fn break_for_test(&self) {
        crate::kafka::ffi::raise_fatal(self.consumer.client());
    }
}

/// Opens clients for restores.
pub(crate) struct KafkaRestores {
    pub(crate) settings: ClientSettings,
}

impl RestoreFetches for KafkaRestores {
    fn open(&self, waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        let credentials = &self.settings.credentials;
        Ok(Box::new(KafkaFetch::new(&self.settings.restore(), credentials, waker)?))
    }
}
