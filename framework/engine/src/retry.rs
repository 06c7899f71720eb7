//! How long does a failed record wait before it is tried again?

use std::time::Duration;

/// Retries for ever, doubling from `initial` to `max`, shortened at random by up to a half.
///
/// Jitter spreads retries of many partitions that failed at the same moment. It comes from a
/// seed, so that a run can be repeated exactly.
///
/// ```
/// use pelton_engine::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default(); // 1 s → 30 s
/// let first = policy.backoff(1, 42);
/// assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1));
/// assert!(policy.backoff(40, 42) <= Duration::from_secs(30));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failed attempt. Default 1 s.
    pub initial: Duration,
    /// No wait is longer than this. Default 30 s.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial: Duration::from_secs(1), max: Duration::from_secs(30) }
    }
}

impl RetryPolicy {
    /// The wait after failed attempt number `attempt` (from 1).
    #[must_use]
    pub fn backoff(&self, attempt: u32, seed: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        let random = splitmix(seed ^ u64::from(attempt));
        Duration::from_nanos(nanos - random % (nanos / 2 + 1))
    }
}

/// One step of the splitmix64 generator: spreads a seed over all 64 bits.
fn splitmix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_doubles_up_to_its_limit_and_never_falls_below_half() {
        let policy = RetryPolicy::default();
        for attempt in 1..100 {
            let full = Duration::from_secs(1 << (attempt - 1).min(5)).min(policy.max);
            let wait = policy.backoff(attempt, 7);
            assert!(wait <= full && wait >= full / 2, "attempt {attempt} waits {wait:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_wait_and_another_seed_another() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.backoff(3, 1), policy.backoff(3, 1));
        assert_ne!(policy.backoff(3, 1), policy.backoff(3, 2));
    }
}
