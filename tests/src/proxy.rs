//! How is the network between workers and brokers made bad? By a proxy between them, one gate for
//! each broker.
//!
//! A broker advertises its gate's address to whoever came through a gate, so such a client never
//! meets a broker directly. What it makes of a connection is TCP's: bytes stay in order, and what
//! a dead way has swallowed arrives when it is good again, unless the connection has been given up
//! or cut meanwhile. It does not drop single packets, and connections are accepted even where the
//! way is dead (a client then waits for the first answer instead).

mod pipe;
#[cfg(test)]
mod tests;
mod weather;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::ClusterError;
use crate::kafka::ports;
use pipe::{Road, pipe};
pub use weather::{Way, Weather};

/// A proxy in front of brokers. Dropping it breaks every connection through it.
///
/// ```
/// use pelton_tests::{Proxy, Way, Weather};
/// use std::net::TcpListener;
/// use std::time::Duration;
///
/// let broker = TcpListener::bind("127.0.0.1:0")?;
/// let proxy = Proxy::before(&[broker.local_addr()?], 7)?;
/// assert_eq!(proxy.addresses(), proxy.gate(1)?.to_string());
/// proxy.set(1, Weather::both(Way::delayed(Duration::from_millis(500), Duration::ZERO)))?;
/// proxy.cut(1)?; // every connection through gate 1 is reset
/// proxy.heal();
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Proxy {
    gates: Vec<Arc<Gate>>,
    /// Its one thread ends with it, and every connection.
    _runtime: Runtime,
}

/// The way to one broker.
#[derive(Debug)]
struct Gate {
    address: SocketAddr,
    broker: SocketAddr,
    weather: watch::Sender<Weather>,
    /// Counts cuts.
    cuts: watch::Sender<u64>,
    /// Connections that stand.
    live: AtomicUsize,
    to_broker: Road,
    to_client: Road,
}

impl Proxy {
    /// Opens a gate before each of these brokers, on free ports of loopback; gates are numbered
    /// from 1. Jitter is drawn from `seed`.
    ///
    /// # Errors
    ///
    /// If there is no free port, or no thread to be had.
    pub fn before(brokers: &[SocketAddr], seed: u64) -> Result<Self, ClusterError> {
        let io = || ClusterError::io("opening a proxy");
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).thread_name("proxy").enable_all().build();
        let runtime = runtime.map_err(io())?;
        let mut gates = Vec::new();
        for (number, broker) in (1..).zip(brokers) {
            let listener = ports::listen().map_err(io())?;
            listener.set_nonblocking(true).map_err(io())?;
            let gate = Arc::new(Gate {
                address: listener.local_addr().map_err(io())?,
                broker: *broker,
                weather: watch::Sender::new(Weather::default()),
                cuts: watch::Sender::new(0),
                live: AtomicUsize::new(0),
                to_broker: Road::to_broker(),
                to_client: Road::to_client(),
            });
            let listener = {
                let _in_its_runtime = runtime.enter();
                TcpListener::from_std(listener).map_err(io())?
            };
            let seed = seed.wrapping_add(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            runtime.spawn(Arc::clone(&gate).accept(listener, seed));
            gates.push(gate);
        }
        Ok(Self { gates, _runtime: runtime })
    }

    /// Where clients find all gates, as `bootstrap.servers` takes it.
    #[must_use]
    pub fn addresses(&self) -> String {
        self.gates.iter().map(|gate| gate.address.to_string()).collect::<Vec<_>>().join(",")
    }

    /// The address of one gate.
    ///
    /// # Errors
    ///
    /// If there is none of that number.
    pub fn gate(&self, number: i32) -> Result<SocketAddr, ClusterError> {
        Ok(self.of(number)?.address)
    }

    /// How many gates there are.
    #[must_use]
    pub fn count(&self) -> i32 {
        i32::try_from(self.gates.len()).unwrap_or(i32::MAX)
    }

    /// Changes how it is at one gate, for connections that stand and new ones.
    ///
    /// # Errors
    ///
    /// If there is none of that number.
    pub fn set(&self, number: i32, weather: Weather) -> Result<(), ClusterError> {
        self.of(number)?.weather.send_replace(weather);
        Ok(())
    }

    /// Makes it good everywhere.
    pub fn heal(&self) {
        for gate in &self.gates {
            gate.weather.send_replace(Weather::default());
        }
    }

    /// Resets every connection through a gate, on both sides, with what was under way; how many
    /// stood.
    ///
    /// # Errors
    ///
    /// If there is none of that number.
    pub fn cut(&self, number: i32) -> Result<usize, ClusterError> {
        let gate = self.of(number)?;
        let live = gate.live.load(Ordering::Relaxed);
        gate.cuts.send_modify(|cuts| *cuts += 1);
        Ok(live)
    }

    /// How many connections stand at a gate.
    ///
    /// # Errors
    ///
    /// If there is none of that number.
    pub fn live(&self, number: i32) -> Result<usize, ClusterError> {
        Ok(self.of(number)?.live.load(Ordering::Relaxed))
    }

    fn of(&self, number: i32) -> Result<&Gate, ClusterError> {
        let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
        at.and_then(|at| self.gates.get(at)).map(AsRef::as_ref).ok_or_else(|| {
            let reason = format!("gates are 1 to {}", self.gates.len());
            ClusterError::refused(format!("gate {number}"), reason)
        })
    }
}

impl Gate {
    async fn accept(self: Arc<Self>, listener: TcpListener, mut seed: u64) {
        loop {
            let Ok((client, _)) = listener.accept().await else {
                // Too many files, say: it may be better in a moment.
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            seed = seed.wrapping_add(2);
            let gate = Arc::clone(&self);
            tokio::spawn(async move { gate.serve(&client, seed).await });
        }
    }

    /// One connection, to its end.
    async fn serve(&self, client: &TcpStream, seed: u64) {
        let mut cuts = self.cuts.subscribe();
        let broker = match TcpStream::connect(self.broker).await {
            Ok(broker) if !self.weather.borrow().refuses => broker,
            Ok(_) | Err(_) => return reset(client),
        };
        // Kafka's protocol is small requests and answers: none may wait for a full packet.
        let hurried = client.set_nodelay(true).and_then(|()| broker.set_nodelay(true));
        if hurried.is_err() {
            return reset(client);
        }
        self.live.fetch_add(1, Ordering::Relaxed);
        let weather = || self.weather.subscribe();
        let ended: io::Result<()> = tokio::select! {
            ended = pipe(client, &broker, weather(), &self.to_broker, seed) => ended,
            ended = pipe(&broker, client, weather(), &self.to_client, !seed) => ended,
            _ = cuts.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        self.live.fetch_sub(1, Ordering::Relaxed);
        if ended.is_err() {
            reset(client);
            reset(&broker);
        }
    }
}

/// The connection's end will be a reset, at once, instead of an orderly end.
fn reset(stream: &TcpStream) {
    // It may be gone already.
    let _gone = stream.set_zero_linger();
}
