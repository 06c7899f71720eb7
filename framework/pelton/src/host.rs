//! The production machine: the one place that reads the clock.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures::FutureExt;
use futures::future::BoxFuture;
use pelton_engine::Time;

use crate::ports::Host;

/// The machine as it is: monotonic clock, wall clock, a random seed.
///
/// ```
/// use pelton::host::Machine;
/// use pelton::ports::Host;
///
/// let machine = Machine::new();
/// assert!(machine.now() <= machine.now());
/// ```
#[derive(Debug)]
pub struct Machine {
    start: Instant,
    seed: u64,
}

impl Machine {
    /// Time begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub fn new() -> Self {
        Self { start: Instant::now(), seed: RandomState::new().build_hasher().finish() }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for Machine {
    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    fn wall_clock_ms(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
