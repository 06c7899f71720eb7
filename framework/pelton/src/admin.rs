//! Stub.
#![allow(missing_docs, clippy::all, unused)]
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
#[derive(Debug, thiserror::Error)]
#[error("admin")]
pub struct AdminError;
#[derive(Debug)]
pub struct Health {
    pub live: bool,
    pub ready: bool,
    pub started: bool,
    pub reasons: Vec<String>,
    pub worker: String,
    pub group: String,
}
#[derive(Debug, Clone)]
pub struct PartitionStatus {
    pub topic: String,
    pub partition: i32,
    pub state: String,
    pub position: Option<i64>,
    pub committed: Option<i64>,
    pub end_offset: Option<i64>,
    pub lag: Option<i64>,
    pub time_lag_seconds: Option<f64>,
}
pub trait Status: Send + Sync + 'static {
    fn health(&self) -> Health;
    fn partitions(&self) -> Vec<PartitionStatus>;
}
pub struct AdminServer(SocketAddr);
impl AdminServer {
    pub async fn bind(l: SocketAddr, s: Arc<dyn Status>, p: ()) -> Result<Self, AdminError> {
        Ok(Self(l))
    }
    pub fn local_addr(&self) -> SocketAddr {
        self.0
    }
    pub async fn serve(self, f: impl Future<Output = ()> + Send + 'static) {
        f.await
    }
}
