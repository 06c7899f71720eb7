//! How does an operator look into a running worker? Through a small HTTP endpoint.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200, or 503 when only a restart helps |
//! | `/readyz` | 200 once assigned and restored |
//! | `/startupz` | 200 once the worker has joined its group |
//! | `/metrics` | all metrics, as Prometheus reads them |
//! | `/partitions` | what this worker owns, as JSON |
//! | `/memory` | how it uses its memory budget, as JSON |
//!
//! A worker's program asks another copy of itself with `--health` (exit code 0 or 1): for containers
//! without a shell or curl.
//!
//! It only reads. It has no password, so it listens on loopback unless told otherwise, and there
//! it answers only requests that are addressed to this machine by address or as `localhost`: a
//! web page whose name was pointed at 127.0.0.1 gets nothing.

mod ask;
mod error;
mod routes;
mod server;
mod status;
#[cfg(test)]
mod tests;

pub(crate) use ask::ask;
pub use error::AdminError;
pub use server::AdminServer;
pub use status::{Health, JumpStatus, MemoryStatus, PartitionState, PartitionStatus, Status};
