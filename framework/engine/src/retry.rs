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

    /// The generator is the published one: its first outputs for the seed 0.
    #[test]
    fn jitter_is_spread_by_splitmix64() {
        let gamma = 0x9e37_79b9_7f4a_7c15_u64;
        let outputs = [0xe220_a839_7b1d_cdaf, 0x6e78_9e6a_a1b9_65f4, 0x06c4_5d18_8009_454f];
        for (step, output) in (0..).zip(outputs) {
            assert_eq!(splitmix(gamma.wrapping_mul(step)), output);
        }
    }

    /// Partitions that failed together must not come back together, the first time or later.
    #[test]
    fn each_attempt_has_a_jitter_of_its_own_from_the_half_to_the_whole() {
        let policy = RetryPolicy::default();
        assert_ne!(policy.backoff(7, 0), policy.backoff(8, 0), "both are 30 s less their jitter");
        let two = Duration::from_nanos(2);
        let tiny = RetryPolicy { initial: two, max: two };
        let waits: std::collections::BTreeSet<_> =
            (0..50).map(|seed| tiny.backoff(1, seed).as_nanos()).collect();
        assert_eq!(waits, [1, 2].into());
        let none = RetryPolicy { initial: Duration::ZERO, max: Duration::ZERO };
        assert_eq!(none.backoff(1, 7), Duration::ZERO);
    }

    #[test]
    fn the_same_seed_gives_the_same_wait_and_another_seed_another() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.backoff(3, 1), policy.backoff(3, 1));
        assert_ne!(policy.backoff(3, 1), policy.backoff(3, 2));
    }
}
