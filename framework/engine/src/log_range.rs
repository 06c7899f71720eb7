//! A position is not in its log: what happened, where does the partition go on, what is skipped?
//!
//! Pure arithmetic over four offsets. Nobody jumps without it, so no jump is without its figures.

use std::fmt;

use crate::ids::Offset;

/// What to do with a position that is not in its log.
///
/// ```
/// use pelton_engine::{LogRange, Offset, OutOfRange, OutOfRangePolicy};
///
/// let log = LogRange { low: Offset(120), end: Offset(150) };
/// let found = OutOfRange::find(Offset(100), log, false);
/// assert_eq!(found.go_on(OutOfRangePolicy::Fail), None);
/// assert_eq!(found.go_on(OutOfRangePolicy::Earliest).unwrap().to, Offset(120));
/// assert_eq!(found.go_on(OutOfRangePolicy::Latest).unwrap().to, Offset(150));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OutOfRangePolicy {
    /// The worker ends: where to go on is for people to decide.
    #[default]
    Fail,
    /// Go on at the oldest record that is there.
    Earliest,
    /// Go on behind the newest record.
    Latest,
}

/// The offsets a log holds.
///
/// ```
/// use pelton_engine::{LogRange, Offset};
///
/// let log = LogRange { low: Offset(3), end: Offset(9) };
/// assert!(log.allows(Offset(9))); // the next record's place
/// assert!(!log.allows(Offset(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRange {
    /// Its first offset.
    pub low: Offset,
    /// The offset the next record will get.
    pub end: Offset,
}

impl LogRange {
    /// May a fetch begin at this offset?
    #[must_use]
    pub fn allows(self, offset: Offset) -> bool {
        (self.low..=self.end).contains(&offset)
    }
}

/// Why a position is not in its log.
///
/// ```
/// use pelton_engine::RangeCause;
/// assert_eq!(RangeCause::Deleted.to_string(), "records were deleted before they were read");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeCause {
    /// It lies below the log: retention, or somebody's delete, was faster than the group.
    Deleted,
    /// It lies above the log: records that were read are no longer there.
    Truncated,
    /// It lies in the log, but the log is another one than was read up to here.
    Rewritten,
    /// The topic is another one of the same name.
    Recreated,
}

impl fmt::Display for RangeCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "records were deleted before they were read",
            Self::Truncated => "the log was truncated, or the topic recreated",
            Self::Rewritten => {
                "the log was truncated, or the topic recreated, and has grown past it since"
            }
            Self::Recreated => "the topic was deleted and created again",
        })
    }
}

/// A position that is not in its log.
///
/// ```
/// use pelton_engine::{LogRange, Offset, OutOfRange, OutOfRangePolicy, RangeCause};
///
/// // 100 records were read; after an unclean election the log ends at 80.
/// let log = LogRange { low: Offset(0), end: Offset(80) };
/// let found = OutOfRange::find(Offset(100), log, false);
/// assert_eq!((found.cause, found.gap()), (RangeCause::Truncated, 20));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutOfRange {
    /// The next offset to read.
    pub position: Offset,
    /// What the log holds.
    pub log: LogRange,
    /// Why the one is not in the other.
    pub cause: RangeCause,
}

/// Where a partition goes on whose position was not in its log.
///
/// ```
/// use pelton_engine::{Jump, LogRange, Offset, OutOfRange, OutOfRangePolicy};
///
/// let log = LogRange { low: Offset(120), end: Offset(150) };
/// let jump = OutOfRange::find(Offset(100), log, false).go_on(OutOfRangePolicy::Latest);
/// // 20 records are gone, 30 more are passed over.
/// assert_eq!(jump, Some(Jump { to: Offset(150), skipped: 50 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jump {
    /// The next offset to read.
    pub to: Offset,
    /// So many offsets at least are never read: what was deleted, and what is passed over. Of a
    /// truncated log nobody knows which of its records were read before.
    pub skipped: u64,
}

impl OutOfRange {
    /// What `position` is to `log`, once it is known not to fit it. `recreated`: the position
    /// belongs to another topic of that name.
    #[must_use]
    pub fn find(position: Offset, log: LogRange, recreated: bool) -> Self {
        let cause = match position {
            _ if recreated => RangeCause::Recreated,
            below if below < log.low => RangeCause::Deleted,
            above if above > log.end => RangeCause::Truncated,
            _ => RangeCause::Rewritten,
        };
        Self { position, log, cause }
    }

    /// By how many records the position misses the log; 0 where it is within another log.
    #[must_use]
    pub fn gap(&self) -> u64 {
        match self.cause {
            RangeCause::Deleted => distance(self.position, self.log.low),
            RangeCause::Truncated => distance(self.log.end, self.position),
            RangeCause::Rewritten | RangeCause::Recreated => 0,
        }
    }

    /// Where to go on; `None` if that is for people to decide.
    #[must_use]
    pub fn go_on(&self, policy: OutOfRangePolicy) -> Option<Jump> {
        let (low, end) = (self.log.low, self.log.end);
        let to = match policy {
            OutOfRangePolicy::Fail => return None,
            OutOfRangePolicy::Earliest => low,
            OutOfRangePolicy::Latest => end,
        };
        let unread_from = match self.cause {
            RangeCause::Deleted | RangeCause::Truncated | RangeCause::Rewritten => self.position,
            RangeCause::Recreated => low, // nothing of this topic was read
        };
        Some(Jump { to, skipped: distance(unread_from, to) })
    }
}

/// How far `to` lies above `from`.
fn distance(from: Offset, to: Offset) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(position: i64, low: i64, end: i64, recreated: bool) -> OutOfRange {
        let log = LogRange { low: Offset(low), end: Offset(end) };
        OutOfRange::find(Offset(position), log, recreated)
    }

    fn jump(found: OutOfRange, policy: OutOfRangePolicy) -> (i64, u64) {
        found.go_on(policy).map(|jump| (jump.to.0, jump.skipped)).expect("not by people")
    }

    /// Its ends belong to a log: who stands there, and can't read on, stands in another one.
    #[test]
    fn a_position_at_an_end_of_the_log_is_within_it() {
        let log = LogRange { low: Offset(3), end: Offset(9) };
        for (position, cause) in [
            (2, RangeCause::Deleted),
            (3, RangeCause::Rewritten),
            (9, RangeCause::Rewritten),
            (10, RangeCause::Truncated),
        ] {
            let found = OutOfRange::find(Offset(position), log, false);
            assert_eq!(found.cause, cause, "at {position}");
            assert_eq!(log.allows(Offset(position)), cause == RangeCause::Rewritten);
        }
    }

    #[test]
    fn deleted_records_are_skipped_and_counted() {
        let found = find(100, 120, 150, false);
        assert_eq!((found.cause, found.gap()), (RangeCause::Deleted, 20));
        assert_eq!(jump(found, OutOfRangePolicy::Earliest), (120, 20));
        assert_eq!(jump(found, OutOfRangePolicy::Latest), (150, 50));
    }

    #[test]
    fn a_truncated_log_is_read_again_or_from_its_end() {
        let found = find(100, 10, 80, false);
        assert_eq!((found.cause, found.gap()), (RangeCause::Truncated, 20));
        assert_eq!(jump(found, OutOfRangePolicy::Earliest), (10, 0));
        assert_eq!(jump(found, OutOfRangePolicy::Latest), (80, 0));
    }

    #[test]
    fn a_log_that_has_grown_past_the_position_is_not_entered_in_the_middle() {
        let found = find(100, 10, 130, false);
        assert_eq!((found.cause, found.gap()), (RangeCause::Rewritten, 0));
        assert_eq!(jump(found, OutOfRangePolicy::Earliest), (10, 0));
        assert_eq!(jump(found, OutOfRangePolicy::Latest), (130, 30));
    }

    #[test]
    fn of_a_new_topic_nothing_was_read() {
        let found = find(100, 0, 300, true);
        assert_eq!(found.cause, RangeCause::Recreated);
        assert_eq!(jump(found, OutOfRangePolicy::Earliest), (0, 0));
        assert_eq!(jump(found, OutOfRangePolicy::Latest), (300, 300));
    }

    proptest! {
        #[test]
        fn a_jump_lands_in_the_log_whatever_the_offsets(
            position in any::<i64>(), low in any::<i64>(), length in 0..i64::MAX, recreated in any::<bool>(),
        ) {
            let found = find(position, low, low.saturating_add(length), recreated);
            prop_assert_eq!(found.go_on(OutOfRangePolicy::Fail), None);
            for policy in [OutOfRangePolicy::Earliest, OutOfRangePolicy::Latest] {
                let jump = found.go_on(policy).expect("not by people");
                prop_assert!(found.log.allows(jump.to));
            }
            prop_assert_eq!(found.gap() > 0, !recreated && !found.log.allows(found.position));
        }
    }
}
