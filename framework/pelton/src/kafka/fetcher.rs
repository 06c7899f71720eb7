//! The client that reads: no group, partitions started and stopped one by one.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;

use crate::kafka::credentials::Attached;
use crate::kafka::errors::port_error;
use crate::kafka::ffi::{FetchQueue, Fetched, set_credentials};
use crate::kafka::hearing::Hearing;
use crate::kafka::settings::ClientSettings;
use crate::kafka::tokens::introduce;
use crate::ports::{Fetch, FetchEvent, PortError, RestoreFetches, Waker};
use crate::record::Run;
use crate::refusal::{Operation, Refusal};
use crate::topic_partition::TopicPartition;

/// A run is closed when it holds so many bytes, or one record: the memory budget is given out by
/// the run.
const RUN_BYTES: usize = 64 * 1024;

/// One poll hands over about so many bytes at most; what is left stays in librdkafka's queue, which
/// is bounded, too.
const POLL_BYTES: usize = 1024 * 1024;

/// Reads partitions from explicit offsets over librdkafka.
pub(crate) struct KafkaFetch {
    /// First, so that it goes before the client.
    _credentials: Attached,
    queue: FetchQueue<Hearing>,
    consumer: Arc<BaseConsumer<Hearing>>,
    running: HashSet<TopicPartition>,
    /// How many records are taken out of librdkafka at a time: few, if they are large.
    step: usize,
}

impl KafkaFetch {
    pub(crate) fn new(
        config: &ClientConfig,
        settings: &ClientSettings,
        waker: Waker,
    ) -> Result<Self, PortError> {
        let mut consumer: BaseConsumer<Hearing> = config
            .create_with_context(Hearing::new("fetcher", &settings.refusals))
            .map_err(|error| port_error("the fetcher's client", &error))?;
        let wake = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || wake());
        let consumer = Arc::new(consumer);
        if let Some(tokens) = &settings.tokens {
            introduce(tokens, &consumer);
        }
        let queue = FetchQueue::new(Arc::clone(&consumer), waker);
        let told = Arc::clone(&consumer);
        let credentials = settings
            .credentials
            .attach(move |user, password| set_credentials(told.client(), user, password));
        Ok(Self { _credentials: credentials, queue, consumer, running: HashSet::new(), step: 1 })
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
        let hearing = self.consumer.context();
        // Errors and logs of the client itself, heard by its context; records never come this way.
        while let Some(Err(_)) = self.consumer.poll(Duration::ZERO) {
            hearing.has_failed();
        }
        if hearing.take_failed()
            && let Some((_, reason)) = self.consumer.client().fatal_error()
        {
            return out.push(FetchEvent::Broken(reason));
        }
        let mut run: Option<Run> = None;
        let (mut records, mut bytes) = (0, 0);
        while records < max_records && bytes < POLL_BYTES {
            let (taken, size) = self.take(self.step.min(max_records - records), &mut run, out);
            records += taken;
            bytes += size;
            if taken == 0 {
                break;
            }
            // So many of them as fit into one poll, were all as large as these.
            self.step = (POLL_BYTES * taken / size.max(1)).clamp(1, self.step * 2);
        }
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

impl KafkaFetch {
    /// Takes at most `max` records out of librdkafka's queue, behind those of `run`; returns how
    /// many, and of how many bytes.
    fn take(
        &mut self,
        max: usize,
        run: &mut Option<Run>,
        out: &mut Vec<FetchEvent>,
    ) -> (usize, usize) {
        let refusals = self.consumer.context().refusals();
        let mut bytes = 0;
        let taken = self.queue.batch(max, |fetched| {
            let size = fetched.value.map_or(0, <[u8]>::len) + fetched.key.map_or(0, <[u8]>::len);
            bytes += size;
            let fits = |run: &Run| {
                run.partition().partition() == fetched.partition
                    && run.partition().topic() == &**fetched.topic
                    && run.bytes() + size <= RUN_BYTES
            };
            if fetched.error != RDKafkaErrorCode::NoError || !run.as_ref().is_some_and(fits) {
                out.extend(run.take().map(FetchEvent::Run));
            }
            let partition = || TopicPartition::new(Arc::clone(fetched.topic), fetched.partition);
            match fetched.error {
                RDKafkaErrorCode::NoError => {
                    let run = run.get_or_insert_with(|| {
                        if !refusals.are_none() {
                            refusals.over(&Refusal::topic(Operation::Read, fetched.topic));
                        }
                        Run::new(partition())
                    });
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
                    if error == RDKafkaErrorCode::TopicAuthorizationFailed {
                        let read = Refusal::topic(Operation::Read, fetched.topic);
                        refusals.tell(read, &error.to_string());
                    }
                    out.push(FetchEvent::Trouble {
                        partition: partition(),
                        reason: error.to_string(),
                    });
                }
            }
        });
        (taken, bytes)
    }
}

/// Opens clients for restores.
pub(crate) struct KafkaRestores {
    pub(crate) settings: ClientSettings,
}

impl RestoreFetches for KafkaRestores {
    fn open(&self, waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        Ok(Box::new(KafkaFetch::new(&self.settings.restore(), &self.settings, waker)?))
    }
}
