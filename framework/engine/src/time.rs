//! What time is it? Whatever the caller says: a plain count of nanoseconds.

use std::ops::{Add, Sub};
use std::time::Duration;

/// Nanoseconds since a moment the host chose (never the wall clock).
///
/// ```
/// use pelton_engine::Time;
/// use std::time::Duration;
///
/// let later = Time::ZERO + Duration::from_secs(2);
/// assert_eq!(later.since(Time::ZERO), Duration::from_secs(2));
/// assert_eq!(Time::ZERO.since(later), Duration::ZERO); // never negative
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The moment the host counts from.
    pub const ZERO: Self = Self(0);

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    #[inline]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Sub<Duration> for Time {
    type Output = Self;

    /// Saturates at [`Time::ZERO`].
    #[inline]
    fn sub(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(nanos))
    }
}

impl Add<Duration> for Time {
    type Output = Self;

    /// Saturates at the end of time, some 584 years after [`Time::ZERO`].
    #[inline]
    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}
