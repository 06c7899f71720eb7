//! How often may a broken client be rebuilt, and how soon? Later each time, and not without end.
//!
//! A record that is done and committed in between shows that rebuilding helps: then it counts from the start.
//! Pure: time is an argument.

use std::collections::VecDeque;
use std::time::Duration;

use pelton_engine::Time;

/// So many rebuilds within [`WINDOW`] without a record done and committed in between are enough.
pub(crate) const LIMIT: usize = 5;

/// How far back rebuilds count.
pub(crate) const WINDOW: Duration = Duration::from_secs(600);

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The rebuilds of one worker's clients, all together.
#[derive(Debug, Default)]
pub(crate) struct Rebuilds {
    /// Those since the last record that was done and committed, oldest first.
    recent: VecDeque<Time>,
}

impl Rebuilds {
    /// A client has broken. How long to wait before another is made; `None` if it is of no use.
    pub(crate) fn broke(&mut self, now: Time) -> Option<Duration> {
        while self.recent.front().is_some_and(|at| now.since(*at) > WINDOW) {
            self.recent.pop_front();
        }
        if self.recent.len() >= LIMIT {
            return None;
        }
        let doublings = u32::try_from(self.recent.len()).unwrap_or(u32::MAX);
        self.recent.push_back(now);
        Some(FIRST_WAIT.saturating_mul(2u32.saturating_pow(doublings)).min(LONGEST_WAIT))
    }

    /// A record was done and committed.
    pub(crate) fn worked(&mut self) {
        self.recent.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn seconds(wait: Option<Duration>) -> Option<u64> {
        wait.map(|wait| wait.as_secs())
    }

    #[test]
    fn each_rebuild_waits_longer_and_the_sixth_is_one_too_many() {
        let mut rebuilds = Rebuilds::default();
        let waits: Vec<_> = (0..7).map(|n| seconds(rebuilds.broke(at(n)))).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(8), Some(16), None, None]);
    }

    #[test]
    fn a_record_that_is_done_in_between_shows_that_rebuilding_helps() {
        let mut rebuilds = Rebuilds::default();
        for n in 0..100 {
            assert_eq!(seconds(rebuilds.broke(at(n))), Some(1));
            rebuilds.worked();
        }
    }

    #[test]
    fn what_broke_long_ago_does_not_count() {
        let mut rebuilds = Rebuilds::default();
        for n in 0..100 {
            assert!(rebuilds.broke(at(n * 200)).is_some_and(|wait| wait <= LONGEST_WAIT), "{n}");
        }
    }
}
