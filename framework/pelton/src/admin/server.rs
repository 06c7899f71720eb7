//! Who answers on the socket? One task a connection, few connections, short patience.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

use super::error::AdminError;
use super::routes;
use super::status::Status;
use crate::telemetry::MetricsHandle;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 32;
/// Bytes of a request's head, the least hyper allows.
const HEAD_BYTES: usize = 8 * 1024;
/// Headers of a request.
const HEADERS: usize = 32;
/// How long a connection may sit between requests, and take to send a head.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long answers under way may take once the endpoint stops.
const FAREWELL: Duration = Duration::from_secs(1);

/// The endpoint, listening; it answers once [`serve`](Self::serve) runs.
///
/// ```
/// use std::sync::Arc;
/// use pelton::admin::{AdminServer, Health, PartitionStatus, Status};
///
/// struct Idle;
/// impl Status for Idle {
///     fn health(&self) -> Health {
///         Health::starting("worker-1", "idle")
///     }
///     fn partitions(&self) -> Vec<PartitionStatus> {
///         Vec::new()
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = AdminServer::bind("127.0.0.1:0".parse()?, Arc::new(Idle), None)?;
/// assert!(server.local_addr().port() > 0);
/// server.serve(async {}).await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct AdminServer {
    listener: TcpListener,
    local: SocketAddr,
    routes: axum::Router,
}

impl AdminServer {
    /// Listens on `listen`; port 0 takes any free one. `metrics` is what `/metrics` renders, or
    /// `None` where the program has a recorder of its own.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the port is in use or the address can't be listened on.
    pub fn bind(
        listen: SocketAddr,
        status: Arc<dyn Status>,
        metrics: impl Into<Option<MetricsHandle>>,
    ) -> Result<Self, AdminError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AddrInUse => AdminError::InUse { listen },
            _ => AdminError::NoListener { listen, source },
        };
        let listener = std::net::TcpListener::bind(listen).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let local = listener.local_addr().map_err(failed)?;
        let routes = routes::router(status, metrics.into(), local.ip().is_loopback());
        Ok(Self { listener, local, routes })
    }

    /// Where it listens, with the port that was taken.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `shutdown` is ready, then closes the listener and gives answers under way a
    /// second. Dropping the future closes the listener at once.
    pub async fn serve(self, shutdown: impl Future<Output = ()> + Send) {
        let Self { listener, routes, .. } = self;
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        // Dropped when serving ends, however it ends: connections then close after their answer.
        let (serving, stop) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            let permit = tokio::select! {
                () = &mut shutdown => break,
                permit = Arc::clone(&room).acquire_owned() => permit,
            };
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (routes, stop) = (routes.clone(), stop.clone());
                    tokio::spawn(async move {
                        answer(stream, routes, stop).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "admin endpoint could not accept a connection");
                    // Out of descriptors, mostly: it passes, and trying at once would spin.
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = tokio::time::sleep(Duration::from_millis(100)) => {}
                    }
                }
            }
        }
        drop(listener);
        drop(serving);
        let all = u32::try_from(CONNECTIONS).unwrap_or(u32::MAX);
        let _all_closed_or_late = tokio::time::timeout(FAREWELL, room.acquire_many(all)).await;
    }
}

/// Answers the requests of one connection; whatever is wrong with it ends only itself.
async fn answer(stream: TcpStream, routes: axum::Router, mut stop: watch::Receiver<()>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEADERS)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        // It can only fail, when the sender is dropped: nothing is ever sent.
        _ = stop.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "admin connection ended");
    }
}
