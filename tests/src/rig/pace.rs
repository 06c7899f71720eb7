//! How fast were records done, and when? Told by the ledger, on its clock.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use pelton::TopicPartition;
use pelton::telemetry::RecordOutcome;
use pelton_testkit::ledger::{Entry, Ledger, Line};

/// A moment on the ledger's clock, which all processes of a machine share.
///
/// ```
/// use pelton_tests::Moment;
/// use std::time::Duration;
///
/// let begun = Moment::now();
/// assert!(begun + Duration::from_secs(60) > Moment::now());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

impl Moment {
    /// This one.
    #[must_use]
    pub fn now() -> Self {
        // The clock does not fail on any system that this runs on.
        let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from);
        Self::at(now.unwrap_or_default())
    }

    /// When a line was written.
    #[must_use]
    pub fn of(line: &Line) -> Self {
        Self(line.at)
    }

    /// When the wall clock said so many milliseconds since 1970, by what the processes have written
    /// down of it.
    #[must_use]
    pub fn of_wall_clock(ledger: &Ledger, ms: i64) -> Option<Self> {
        ledger.moment_of(ms).map(Self)
    }

    /// How long after an earlier one it is.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    fn at(since_boot: Duration) -> Self {
        Self(u64::try_from(since_boot.as_nanos()).unwrap_or(u64::MAX))
    }
}

impl std::ops::Add<Duration> for Moment {
    type Output = Self;

    fn add(self, length: Duration) -> Self {
        Self(self.0.saturating_add(Self::at(length).0))
    }
}

/// When records were done; each counts once, at its first time.
///
/// ```
/// use pelton_testkit::ledger::Ledger;
/// use pelton_tests::{Moment, Pace};
/// use std::time::Duration;
///
/// let pace = Pace::of(&Ledger::from_text("10 a end logins-0 1 0 1 done").unwrap());
/// assert_eq!(pace.per_second(Moment::now(), Duration::from_secs(2)), 0.0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// Sorted.
    done: Vec<u64>,
    /// Each sorted.
    partitions: BTreeMap<TopicPartition, Vec<u64>>,
}

impl Pace {
    /// Of a run.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let mut first: BTreeMap<(&TopicPartition, i64), u64> = BTreeMap::new();
        for line in ledger.lines() {
            if let Entry::End { partition, offset, outcome: RecordOutcome::Done, .. } = &line.entry
            {
                first.entry((partition, *offset)).or_insert(line.at);
            }
        }
        let mut this = Self::default();
        for ((partition, _), at) in first {
            this.done.push(at);
            this.partitions.entry(partition.clone()).or_default().push(at);
        }
        this.done.sort_unstable();
        this.partitions.values_mut().for_each(|done| done.sort_unstable());
        this
    }

    /// Records done per second in the time of this length after `from`.
    #[must_use]
    pub fn per_second(&self, from: Moment, length: Duration) -> f64 {
        let until = from + length;
        let count = self.before(until) - self.before(from);
        f64::from(u32::try_from(count).unwrap_or(u32::MAX)) / length.as_secs_f64()
    }

    /// How long after `from` a window of this length, behind `from`, ends in which at least so
    /// many records a second were done. Windows begin every 100 ms.
    #[must_use]
    pub fn reaches(&self, per_second: f64, from: Moment, window: Duration) -> Option<Duration> {
        const STEP: Duration = Duration::from_millis(100);
        let last = Moment(self.done.last().copied()?);
        let mut begin = Duration::ZERO;
        while from + begin + window <= last {
            if self.per_second(from + begin, window) >= per_second {
                return Some(begin + window);
            }
            begin += STEP;
        }
        None
    }

    /// The longest time, from one moment to another, in which some partition had no record done.
    #[must_use]
    pub fn longest_silence(&self, from: Moment, until: Moment) -> Duration {
        let silence = |done: &Vec<u64>| {
            let inside = done.iter().copied().filter(|at| (from.0..until.0).contains(at));
            let mut last = from.0;
            let gaps = inside.chain([until.0]).map(|at| at - std::mem::replace(&mut last, at));
            gaps.max().unwrap_or(0)
        };
        Duration::from_nanos(self.partitions.values().map(silence).max().unwrap_or(0))
    }

    fn before(&self, moment: Moment) -> usize {
        self.done.partition_point(|at| *at < moment.0)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// Partition 0: 10 records a second from 0 s to 4 s and from 6 s to 10 s; partition 1: one
    /// record a second all the time. Everything is done again later.
    fn pace() -> Pace {
        let mut text = String::new();
        for tenth in (0..40).chain(60..100) {
            let at = tenth * SECOND / 10;
            let _infallible = writeln!(text, "{at} a end logins-0 1 {tenth} 1 done");
            let _infallible = writeln!(text, "{} b end logins-0 1 {tenth} 1 done", 20 * SECOND);
        }
        for second in 0..10 {
            let _infallible =
                writeln!(text, "{} a end logins-1 1 {second} 1 done", second * SECOND);
        }
        Pace::of(&Ledger::from_text(&text).expect("a history"))
    }

    #[test]
    fn records_count_once_in_the_window_in_which_they_were_done_first() {
        let (from, second) = (Moment(SECOND), Duration::from_secs(1));
        assert_eq!(pace().per_second(from, second).to_string(), "11");
        assert_eq!(pace().per_second(Moment(4 * SECOND), 2 * second).to_string(), "1");
    }

    #[test]
    fn a_rate_is_reached_at_the_end_of_the_first_window_that_holds_it() {
        let (from, second) = (Moment(4 * SECOND + 1), Duration::from_secs(1));
        let reached = pace().reaches(10.0, from, second);
        assert_eq!(reached, Some(Duration::from_millis(2_800)));
        assert_eq!(pace().reaches(12.0, from, second), None);
    }

    #[test]
    fn the_longest_silence_is_that_of_one_partition() {
        let silence = |from, until| pace().longest_silence(Moment(from), Moment(until));
        assert_eq!(silence(SECOND, 9 * SECOND), Duration::from_millis(2_100));
        assert_eq!(silence(SECOND, 3 * SECOND), Duration::from_secs(1));
        assert_eq!(silence(9 * SECOND, 15 * SECOND), Duration::from_secs(6));
    }
}
