//! How long does a failed record wait before it is tried again?

use std::time::Duration;

/// Retries, for ever if there is no limit, after waits that double from `initial` to `max`.
///
/// Waits that grow are shortened at random by up to a half: jitter spreads retries of many
/// partitions that failed at the same moment. It comes from a seed, so that a run can be repeated
/// exactly. [`fixed`](Self::fixed) waits have none.
///
/// ```
/// use pelton_engine::RetryPolicy;
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default(); // 1 s → 30 s
/// let first = policy.backoff(1, 42);
/// assert!(first >= Duration::from_millis(500) && first <= Duration::from_secs(1));
/// assert!(policy.backoff(40, 42) <= Duration::from_secs(30));
///
/// let thrice = RetryPolicy::fixed(Duration::from_secs(2)).at_most(3);
/// assert_eq!(thrice.backoff(1, 42), Duration::from_secs(2));
/// assert!(thrice.may_retry(2, Duration::ZERO) && !thrice.may_retry(3, Duration::ZERO));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failed attempt. Default 1 s.
    pub initial: Duration,
    /// No wait is longer than this. Default 30 s.
    pub max: Duration,
    /// Are waits shortened at random? Default true.
    pub jitter: bool,
    /// When a record is given up. Default never.
    pub limit: Option<RetryLimit>,
}

/// When is a record that keeps failing given up?
///
/// ```
/// use pelton_engine::{RetryLimit, RetryPolicy};
/// use std::time::Duration;
///
/// let policy = RetryPolicy::default().for_at_most(Duration::from_secs(600));
/// assert_eq!(policy.limit, Some(RetryLimit::Time(Duration::from_secs(600))));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetryLimit {
    /// After so many failed attempts, the first one included. They are counted over restarts.
    Attempts(u32),
    /// When so long has passed since the first attempt began, time without a worker left out.
    Time(Duration),
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::exponential(Duration::from_secs(1), Duration::from_secs(30))
    }
}

impl RetryPolicy {
    /// Waits that double from `initial` to `max`, with jitter, for ever.
    #[must_use]
    pub const fn exponential(initial: Duration, max: Duration) -> Self {
        Self { initial, max, jitter: true, limit: None }
    }

    /// The same wait each time, for ever.
    #[must_use]
    pub const fn fixed(wait: Duration) -> Self {
        Self { initial: wait, max: wait, jitter: false, limit: None }
    }

    /// The record is given up after so many failed attempts; 0 counts as 1.
    #[must_use]
    pub const fn at_most(mut self, attempts: u32) -> Self {
        let attempts = if attempts == 0 { 1 } else { attempts };
        self.limit = Some(RetryLimit::Attempts(attempts));
        self
    }

    /// The record is given up when an attempt fails so long after the first one began.
    #[must_use]
    pub const fn for_at_most(mut self, time: Duration) -> Self {
        self.limit = Some(RetryLimit::Time(time));
        self
    }

    /// May a record be tried again of which so many attempts have failed, so long after the first
    /// of them began?
    #[must_use]
    pub fn may_retry(&self, attempts: u32, since_the_first: Duration) -> bool {
        match self.limit {
            None => true,
            Some(RetryLimit::Attempts(most)) => attempts < most,
            Some(RetryLimit::Time(most)) => since_the_first < most,
        }
    }

    /// The wait after failed attempt number `attempt` (from 1).
    #[must_use]
    pub fn backoff(&self, attempt: u32, seed: u64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(30);
        let full = self.initial.saturating_mul(1 << doublings).min(self.max);
        if !self.jitter {
            return full;
        }
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
        let tiny = RetryPolicy::exponential(two, two);
        let waits: std::collections::BTreeSet<_> =
            (0..50).map(|seed| tiny.backoff(1, seed).as_nanos()).collect();
        assert_eq!(waits, [1, 2].into());
        let none = RetryPolicy::exponential(Duration::ZERO, Duration::ZERO);
        assert_eq!(none.backoff(1, 7), Duration::ZERO);
    }

    #[test]
    fn a_limit_of_time_counts_from_the_first_attempt_and_none_is_never_reached() {
        let second = Duration::from_secs(1);
        let policy = RetryPolicy::default().for_at_most(second * 5);
        assert!(policy.may_retry(1_000, second * 4) && !policy.may_retry(1, second * 5));
        assert!(RetryPolicy::default().may_retry(u32::MAX, second * 1_000_000));
        assert!(!RetryPolicy::default().at_most(0).may_retry(1, Duration::ZERO));
    }

    #[test]
    fn the_same_seed_gives_the_same_wait_and_another_seed_another() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.backoff(3, 1), policy.backoff(3, 1));
        assert_ne!(policy.backoff(3, 1), policy.backoff(3, 2));
    }
}
