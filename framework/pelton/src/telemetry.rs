//! What a worker lets the world see: metrics, logs, and the steps a ledger is made of.

mod observer;

pub use observer::{CommitOutcome, Observation, Observer, RecordOutcome};
