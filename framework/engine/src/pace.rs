//! When may the next record start, so that no more than so many start in a second?
//!
//! A token bucket, kept as one moment: the time at which the next token is there. Who asks gets
//! the token of a moment and comes back then, so that many who share a bucket are served in the
//! order they asked, and none in vain. Tokens nobody asked for are kept for a tenth of a second:
//! who wakes up a little late catches up, and a rest is not followed by a flood.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::time::Time;

/// Tokens of so long are kept.
const KEPT: Duration = Duration::from_millis(100);

/// How many records may start in a second, and when the next one may.
///
/// ```
/// use pelton_engine::{Pace, Time};
/// use std::num::NonZeroU32;
/// use std::time::Duration;
///
/// let mut pace = Pace::new(NonZeroU32::new(50).unwrap(), Time::ZERO);
/// assert_eq!(pace.take(Time::ZERO), Time::ZERO); // at once
/// assert_eq!(pace.take(Time::ZERO), Time::ZERO + Duration::from_millis(20));
/// assert_eq!(pace.take(Time::ZERO), Time::ZERO + Duration::from_millis(40));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    per_second: NonZeroU32,
    /// When the next token is there.
    next: Time,
}

impl Pace {
    /// So many a second, the first at once. The pace is rounded down to whole nanoseconds.
    #[must_use]
    pub fn new(per_second: NonZeroU32, now: Time) -> Self {
        Self { per_second, next: now }
    }

    /// Takes a token. The caller may use it from the returned moment on, which may have come.
    pub fn take(&mut self, now: Time) -> Time {
        let token = self.next.max(now - KEPT);
        self.next = token + self.interval();
        token.max(now)
    }

    /// Another rate from now on. Tokens that were taken are as good as before; whoever waits for
    /// one may give it up and take another.
    pub fn change(&mut self, per_second: NonZeroU32, now: Time) {
        *self = Self::new(per_second, now);
    }

    /// How many a second.
    #[must_use]
    pub fn per_second(&self) -> NonZeroU32 {
        self.per_second
    }

    /// Between two tokens; rounded up, so that the rate is never above what was asked for.
    fn interval(&self) -> Duration {
        Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(self.per_second.get())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rate(per_second: u32) -> NonZeroU32 {
        NonZeroU32::new(per_second).expect("a rate")
    }

    /// So many may start within `time`, whatever came before.
    fn most(per_second: u32, time: Duration) -> u128 {
        (time + KEPT).as_nanos() * u128::from(per_second) / 1_000_000_000 + 1
    }

    #[test]
    fn after_a_rest_no_more_than_a_tenth_of_a_second_is_made_up_for() {
        let hour = Time::ZERO + Duration::from_secs(3600);
        let mut pace = Pace::new(rate(100), Time::ZERO);
        let at_once = (0..50).filter(|_| pace.take(hour) == hour).count();
        assert_eq!(at_once, 11);
    }

    #[test]
    fn a_new_rate_counts_from_now() {
        let mut pace = Pace::new(rate(1), Time::ZERO);
        for _ in 0..100 {
            pace.take(Time::ZERO);
        }
        let now = Time::ZERO + Duration::from_secs(5);
        pace.change(rate(1_000), now);
        assert_eq!(pace.take(now), now);
        assert_eq!(pace.take(now), now + Duration::from_millis(1));
    }

    proptest! {
        /// However the callers come: tokens come in the order they were asked for, and no stretch
        /// of time has more of them than its rate allows.
        #[test]
        fn no_stretch_of_time_has_more_than_its_rate(
            per_second in 1u32..200_000,
            steps in proptest::collection::vec((0u64..30_000_000, 1u8..20), 1..60),
        ) {
            let mut pace = Pace::new(rate(per_second), Time::ZERO);
            let (mut now, mut starts) = (Time::ZERO, Vec::new());
            for (pass, asks) in steps {
                now = now + Duration::from_nanos(pass);
                for _ in 0..asks {
                    let at = pace.take(now);
                    prop_assert!(at >= now);
                    starts.push(at);
                }
            }
            prop_assert!(starts.is_sorted(), "who asked first is served first");
            for (begin, first) in starts.iter().enumerate() {
                for (count, last) in (1u128..).zip(&starts[begin..]) {
                    let most = most(per_second, last.since(*first));
                    prop_assert!(count <= most, "{count} starts, not {most}");
                }
            }
        }

        /// Timers wake a little late; what that costs is made up for.
        #[test]
        fn who_keeps_asking_gets_the_rate_though_he_wakes_late(
            per_second in 1u32..200_000,
            lates in proptest::collection::vec(0u64..100_000_000, 300),
        ) {
            let mut pace = Pace::new(rate(per_second), Time::ZERO);
            let mut now = Time::ZERO;
            for late in lates {
                let at = pace.take(now);
                if at > now {
                    now = at + Duration::from_nanos(late);
                }
            }
            let due = pace.interval() * 299;
            prop_assert!(now.since(Time::ZERO) <= due + KEPT, "{now:?} for {due:?}");
        }
    }
}
