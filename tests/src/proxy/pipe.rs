//! How do bytes of one connection pass in one direction? Stamped when they come, held until they
//! are due, let through at the rate that all connections share.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::weather::{Way, Weather};

/// So much is read at once.
const CHUNK: usize = 8 * 1024;

/// So many chunks may be under way; then the sender has to wait, as with TCP's own window.
const WINDOW: usize = 128;

/// What the connections to one broker have in common in one direction.
#[derive(Debug)]
pub(super) struct Road {
    way: fn(&Weather) -> Way,
    /// When what was let through last has passed.
    free_at: Mutex<Option<Instant>>,
}

impl Road {
    pub(super) fn to_broker() -> Self {
        Self { way: |weather| weather.to_broker, free_at: Mutex::default() }
    }

    pub(super) fn to_client() -> Self {
        Self { way: |weather| weather.to_client, free_at: Mutex::default() }
    }

    fn way(&self, weather: &watch::Receiver<Weather>) -> Way {
        (self.way)(&weather.borrow())
    }

    /// Waits while it is dead.
    async fn open(&self, weather: &mut watch::Receiver<Weather>) {
        if weather.wait_for(|weather| !(self.way)(weather).is_dead).await.is_err() {
            // The proxy is gone, and this task with it.
            std::future::pending::<()>().await;
        }
    }

    /// When the last of so many bytes is through, if they go now.
    fn through(&self, bytes: usize, rate: u64) -> Instant {
        let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let takes = Duration::from_nanos(bytes.saturating_mul(1_000_000_000) / rate.max(1));
        let through = free_at.map_or(now, |free_at| free_at.max(now)) + takes;
        *free_at = Some(through);
        through
    }
}

/// Lets pass what `from` sends until its end, and then what is still under way.
pub(super) async fn pipe(
    from: &TcpStream,
    to: &TcpStream,
    weather: watch::Receiver<Weather>,
    road: &Road,
    seed: u64,
) -> io::Result<()> {
    let (under_way, arriving) = mpsc::channel(WINDOW);
    let coming = enter(from, weather.clone(), road, seed, under_way);
    let going = leave(to, weather, road, arriving);
    tokio::try_join!(coming, going).map(|_| ())
}

async fn enter(
    from: &TcpStream,
    mut weather: watch::Receiver<Weather>,
    road: &Road,
    seed: u64,
    under_way: mpsc::Sender<(Instant, Vec<u8>)>,
) -> io::Result<()> {
    let mut random = seed | 1;
    let mut last = Instant::now();
    loop {
        road.open(&mut weather).await;
        from.readable().await?;
        let way = road.way(&weather);
        if way.is_dead {
            continue; // it came to be so while nothing was sent
        }
        let mut chunk = vec![0; CHUNK];
        match from.try_read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(length) => chunk.truncate(length),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(error),
        }
        last = last.max(Instant::now() + delay(way, &mut random));
        if under_way.send((last, chunk)).await.is_err() {
            return Ok(());
        }
    }
}

async fn leave(
    to: &TcpStream,
    mut weather: watch::Receiver<Weather>,
    road: &Road,
    mut arriving: mpsc::Receiver<(Instant, Vec<u8>)>,
) -> io::Result<()> {
    while let Some((due, chunk)) = arriving.recv().await {
        sleep_until(due).await;
        road.open(&mut weather).await;
        if let Some(rate) = road.way(&weather).bytes_per_second {
            sleep_until(road.through(chunk.len(), rate)).await;
        }
        write_all(to, &chunk).await?;
    }
    Ok(())
}

async fn write_all(to: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        to.writable().await?;
        match to.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The way's delay, longer or shorter by up to its jitter; xorshift64.
fn delay(way: Way, random: &mut u64) -> Duration {
    *random ^= *random << 13;
    *random ^= *random >> 7;
    *random ^= *random << 17;
    let span = u64::try_from(way.jitter.as_micros()).unwrap_or(u64::MAX).saturating_mul(2);
    let share = Duration::from_micros(*random % span.saturating_add(1));
    (way.delay + share).saturating_sub(way.jitter)
}
