//! Where does a partition start? At its commit; without one, where losing nothing demands.
//!
//! Upholds INV-9: a partition that is new to the group starts at its beginning, whatever
//! `auto_offset_reset` says.

use crate::ids::Offset;

/// What to do with a partition that has no commit and is not new to the group.
///
/// Kafka's `auto.offset.reset`; there is no default, because `latest` loses what arrives before
/// the first commit and `earliest` may repeat years.
///
/// ```
/// use pelton_engine::{OffsetReset, StartDecision, TopicCommits};
///
/// let fresh = TopicCommits { partitions: 1, known: None, committed: vec![None] };
/// assert_eq!(fresh.start(0, OffsetReset::Latest), StartDecision::Latest);
/// assert_eq!(fresh.start(0, OffsetReset::Error), StartDecision::Refused);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// Start at the oldest record that is still there.
    Earliest,
    /// Start behind the newest record.
    Latest,
    /// Start at the oldest record that is at least as new as this time, in milliseconds since
    /// 1970; behind the newest if none is.
    AtTime(i64),
    /// Refuse to start.
    Error,
}

/// What a group has committed on one topic.
///
/// ```
/// use pelton_engine::{Offset, OffsetReset, StartDecision, TopicCommits};
///
/// // The group knew one partition; the topic has grown to three.
/// let commits = TopicCommits { partitions: 3, known: Some(1), committed: vec![Some(Offset(40)), None, None] };
/// assert_eq!(commits.start(0, OffsetReset::Latest), StartDecision::At(Offset(40)));
/// assert_eq!(commits.start(2, OffsetReset::Latest), StartDecision::Earliest); // new: nothing may be skipped
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicCommits {
    /// How many partitions the topic has now.
    pub partitions: u32,
    /// The largest partition count recorded in the group's commit metadata, if any is recorded.
    pub known: Option<u32>,
    /// The committed offset of each partition, by number.
    pub committed: Vec<Option<Offset>>,
}

/// Where a partition starts.
///
/// ```
/// use pelton_engine::{Offset, StartDecision};
///
/// /// The offset to fetch from, in a log that holds `first..end`, one record a millisecond.
/// fn position(decision: StartDecision, first: Offset, end: Offset) -> Option<Offset> {
///     match decision {
///         StartDecision::At(offset) => Some(offset),
///         StartDecision::Earliest => Some(first),
///         StartDecision::Latest => Some(end),
///         StartDecision::AtTime(ms) => Some(Offset(ms).clamp(first, end)),
///         StartDecision::Refused => None,
///     }
/// }
/// assert_eq!(position(StartDecision::Earliest, Offset(3), Offset(9)), Some(Offset(3)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartDecision {
    /// At its committed offset.
    At(Offset),
    /// At the oldest record that is still there.
    Earliest,
    /// Behind the newest record.
    Latest,
    /// At the oldest record that is at least as new as this time, in milliseconds since 1970;
    /// behind the newest if none is.
    AtTime(i64),
    /// Nowhere: there is no commit and `auto_offset_reset` is `error`.
    Refused,
}

impl TopicCommits {
    /// Where partition number `partition` starts.
    #[must_use]
    pub fn start(&self, partition: u32, reset: OffsetReset) -> StartDecision {
        if let Some(offset) = self.commit_of(partition) {
            return StartDecision::At(offset);
        }
        if !self.is_fresh() && partition >= self.known.unwrap_or(0) {
            return StartDecision::Earliest;
        }
        match reset {
            OffsetReset::Earliest => StartDecision::Earliest,
            OffsetReset::Latest => StartDecision::Latest,
            OffsetReset::AtTime(ms) => StartDecision::AtTime(ms),
            OffsetReset::Error => StartDecision::Refused,
        }
    }

    /// The partition count to record with commits made from this knowledge.
    ///
    /// Partitions that are new stay new until each of them has a commit: a crash between the
    /// first commits of two new partitions must not turn the second into one that may be skipped.
    #[must_use]
    pub fn settled(&self) -> u32 {
        let known = self.known.unwrap_or(0);
        let all_committed = (known..self.partitions).all(|p| self.commit_of(p).is_some());
        if self.is_fresh() || all_committed { self.partitions.max(known) } else { known }
    }

    fn commit_of(&self, partition: u32) -> Option<Offset> {
        usize::try_from(partition).ok().and_then(|at| self.committed.get(at).copied().flatten())
    }

    /// The group has never committed anything on this topic.
    fn is_fresh(&self) -> bool {
        self.known.is_none() && self.committed.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(known: Option<u32>, committed: &[Option<i64>]) -> TopicCommits {
        TopicCommits {
            partitions: u32::try_from(committed.len()).expect("a small topic"),
            known,
            committed: committed.iter().map(|o| o.map(Offset)).collect(),
        }
    }

    #[test]
    fn a_fresh_group_follows_the_setting_on_every_partition() {
        let fresh = commits(None, &[None, None]);
        assert_eq!(fresh.start(1, OffsetReset::Latest), StartDecision::Latest);
        assert_eq!(fresh.start(1, OffsetReset::Earliest), StartDecision::Earliest);
        assert_eq!(fresh.start(1, OffsetReset::AtTime(7)), StartDecision::AtTime(7));
        assert_eq!(fresh.start(1, OffsetReset::Error), StartDecision::Refused);
        assert_eq!(fresh.settled(), 2);
    }

    #[test]
    fn inv_9_a_new_partition_starts_at_its_beginning_whatever_the_setting_says() {
        let grown = commits(Some(1), &[Some(40), None, None]);
        for reset in [
            OffsetReset::Latest,
            OffsetReset::AtTime(i64::MAX),
            OffsetReset::Error,
            OffsetReset::Earliest,
        ] {
            assert_eq!(grown.start(1, reset), StartDecision::Earliest);
            assert_eq!(grown.start(2, reset), StartDecision::Earliest);
        }
    }

    #[test]
    fn inv_9_a_crash_between_two_first_commits_leaves_the_second_partition_new() {
        // Partition 1 has committed, partition 2 has not: 2 must still be found new.
        let half = commits(Some(1), &[Some(40), Some(3), None]);
        assert_eq!(half.settled(), 1);
        assert_eq!(half.start(2, OffsetReset::Latest), StartDecision::Earliest);
        assert_eq!(commits(Some(1), &[Some(40), Some(3), Some(0)]).settled(), 3);
    }

    #[test]
    fn a_deleted_commit_of_a_known_partition_follows_the_setting() {
        let deleted = commits(Some(3), &[Some(40), None, Some(2)]);
        assert_eq!(deleted.start(1, OffsetReset::Latest), StartDecision::Latest);
    }

    #[test]
    fn commits_of_another_tool_record_no_count_so_the_safe_side_is_taken() {
        let foreign = commits(None, &[Some(5), None]);
        assert_eq!(foreign.start(1, OffsetReset::Latest), StartDecision::Earliest);
    }
}
