//! Why could the demo not be shown to its end?

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use load_generator::{SendError, SourceError};
use pelton::WorkerError;
use pelton_testkit::EmbeddedError;
use rdkafka::error::KafkaError;

#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    #[error(transparent)]
    Input(#[from] SourceError),
    #[error("the input holds no login; is --format right?")]
    Empty,
    #[error(
        "the input is too large for the embedded cluster: partition {partition} of the {topic} \
         could come to {bytes} bytes in {records} record sets, and it keeps 5 MiB and 100,000; use \
         a shorter input, more --partitions, or a real Kafka (--kafka HOST:PORT)"
    )]
    TooLarge { topic: &'static str, partition: usize, bytes: u64, records: u64 },
    #[error("login-counter could not be built: {0}")]
    Build(String),
    #[error("the demo's folder for logs can't be used: {0}")]
    Logs(io::Error),
    #[error("signals can't be taken over: {0}")]
    Signals(io::Error),
    #[error("{name} could not be started: {source}")]
    Start { name: String, source: io::Error },
    #[error("{name} ended by itself ({status}); its log is {}", log.display())]
    Died { name: String, status: String, log: PathBuf },
    #[error("{name} could not be signalled: {reason}")]
    Signal { name: String, reason: String },
    #[error("waited {} s in vain until {what}", limit.as_secs())]
    Late { what: String, limit: Duration },
    #[error("ended early, as asked; the workers are stopped")]
    Interrupted,
    #[error(transparent)]
    Send(#[from] SendError),
    #[error("the sender ended without a result")]
    SenderLost,
    #[error("the embedded cluster: {0}")]
    Embedded(#[from] EmbeddedError),
    #[error("{what}: {source}; is Kafka (4.0 or newer) running at that address?")]
    Kafka { what: String, source: KafkaError },
    #[error(transparent)]
    Worker(#[from] WorkerError),
    #[error("what the workers wrote could not be read: {0}")]
    Reading(String),
}
