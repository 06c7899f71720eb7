//! Stub.
#![allow(missing_docs, clippy::all, unused)]
use std::time::Duration;
pub struct PartitionMetrics;
impl PartitionMetrics {
    pub fn new(_t: &str, _p: i32) -> Self {
        Self
    }
    pub fn handled(&self, _d: Duration) {}
    pub fn outcome(&self, _o: super::RecordOutcome) {}
    pub fn output_blocked(&self, _b: bool) {}
}
pub struct WorkerMetrics;
impl WorkerMetrics {
    pub fn new() -> Self {
        Self
    }
    pub fn rebalanced(&self, _e: &str) {}
    pub fn committed(&self, _a: bool) {}
    pub fn silent(&self) {}
    pub fn fetch_stopped(&self) {}
    pub fn redelivered(&self, _n: usize) {}
}
pub fn install() -> Result<(), std::io::Error> {
    Ok(())
}
pub fn init_logging(_s: &crate::config::LogSettings) {
    let _ = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(std::env::var("RUST_LOG").unwrap_or("info".into()))
        .try_init();
}

pub fn check_filter(_f: &str) -> Result<(), String> {
    Ok(())
}
