//! What a worker lets the world see: metrics, logs, and the steps a ledger is made of.

mod metrics;
mod observer;

pub(crate) use metrics::{PartitionMetrics, WorkerMetrics, check_filter, init_logging, install};
pub use observer::{CommitOutcome, Observation, Observer, RecordOutcome};
