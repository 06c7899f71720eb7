//! What may be wrong with a network? Each direction for itself, and new connections.

use std::fmt;
use std::time::Duration;

/// One direction of the way between clients and a broker. The default is a good one.
///
/// ```
/// use pelton_tests::Way;
/// use std::time::Duration;
///
/// let late = Way::delayed(Duration::from_millis(500), Duration::from_millis(100));
/// assert_eq!(late.to_string(), "500 ms ± 100 ms");
/// assert_eq!(Way::limited(125_000).to_string(), "125000 bytes/s");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// What passes arrives so much later; more of it may be under way meanwhile.
    pub delay: Duration,
    /// The delay is up to so much longer or shorter. What is under way keeps its order.
    pub jitter: Duration,
    /// All connections together pass no more; none is no limit.
    pub bytes_per_second: Option<u64>,
    /// Nothing passes, and nobody is told, not even of an end: what was sent arrives when the way
    /// is good again, as TCP would send it again.
    pub is_dead: bool,
}

impl Way {
    /// A long way.
    #[must_use]
    pub fn delayed(delay: Duration, jitter: Duration) -> Self {
        Self { delay, jitter: jitter.min(delay), ..Self::default() }
    }

    /// A narrow one.
    #[must_use]
    pub fn limited(bytes_per_second: u64) -> Self {
        Self { bytes_per_second: Some(bytes_per_second.max(1)), ..Self::default() }
    }

    /// One on which everything vanishes.
    #[must_use]
    pub fn dead() -> Self {
        Self { is_dead: true, ..Self::default() }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_dead {
            return f.write_str("dead");
        }
        let Self { delay, jitter, .. } = self;
        match (delay.is_zero(), self.bytes_per_second) {
            (true, None) => f.write_str("good"),
            (true, Some(rate)) => write!(f, "{rate} bytes/s"),
            (false, None) => write!(f, "{} ms ± {} ms", delay.as_millis(), jitter.as_millis()),
            (false, Some(rate)) => {
                let (delay, jitter) = (delay.as_millis(), jitter.as_millis());
                write!(f, "{delay} ms ± {jitter} ms, {rate} bytes/s")
            }
        }
    }
}

/// How it is on the way between clients and one broker. The default is good.
///
/// ```
/// use pelton_tests::{Way, Weather};
///
/// let deaf = Weather { to_broker: Way::dead(), ..Weather::default() };
/// assert_eq!(deaf.to_string(), "to the broker dead, to clients good");
/// assert_eq!(Weather::both(Way::dead()).to_client, Way::dead());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Requests.
    pub to_broker: Way,
    /// Answers.
    pub to_client: Way,
    /// A new connection is reset at once.
    pub refuses: bool,
}

impl Weather {
    /// The same in both directions.
    #[must_use]
    pub fn both(way: Way) -> Self {
        Self { to_broker: way, to_client: way, refuses: false }
    }

    /// Those that are there go on; nobody else gets in.
    #[must_use]
    pub fn refusing() -> Self {
        Self { refuses: true, ..Self::default() }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { to_broker, to_client, refuses } = self;
        write!(f, "to the broker {to_broker}, to clients {to_client}")?;
        if *refuses { f.write_str(", nobody gets in") } else { Ok(()) }
    }
}
