//! What a worker lets the world see: metrics, logs, and the steps a ledger is made of.

mod error;
mod histograms;
mod logging;
mod metrics;
pub mod names;
mod observer;
mod recorder;

pub use self::error::TelemetryError;
pub use self::logging::init as init_logging;
pub use self::logging::set_filter as set_log_filter;
pub use self::metrics::{MemoryGauges, OutputMetrics, PartitionMetrics, WorkerMetrics};
pub use self::recorder::MetricsHandle;
pub use self::recorder::install as install_recorder;
pub(crate) use observer::Both;
pub use observer::{CommitOutcome, Observation, Observer, RecordOutcome};

pub(crate) use self::histograms::Samples;
pub(crate) use self::logging::check_filter;
pub(crate) use self::recorder::measure_process;
