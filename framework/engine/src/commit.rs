//! What is to be committed? One commit in flight, never backwards.
//!
//! Upholds INV-6: per partition, accepted commits of one assignment never regress, and no commit
//! is sent while another is unanswered.

use std::time::Duration;

use crate::ids::Offset;
use crate::time::Time;

/// What Kafka said of one partition's commit.
///
/// ```
/// use pelton_engine::CommitStatus;
///
/// /// What an error code of Kafka's `OffsetCommit` answer says.
/// fn status(code: i16) -> CommitStatus {
///     match code {
///         0 => CommitStatus::Accepted,
///         22 | 27 => CommitStatus::Retry,  // ILLEGAL_GENERATION, REBALANCE_IN_PROGRESS
///         25 => CommitStatus::MemberLost,  // UNKNOWN_MEMBER_ID
///         3 => CommitStatus::TopicGone,    // UNKNOWN_TOPIC_OR_PARTITION
///         _ => CommitStatus::Unknown,
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitStatus {
    /// Stored.
    Accepted,
    /// Not stored, and it says nothing about ownership (`REBALANCE_IN_PROGRESS`,
    /// `ILLEGAL_GENERATION`, `STALE_MEMBER_EPOCH`): try again.
    Retry,
    /// No answer: stored or not. Try again; the same offset twice does no harm.
    Unknown,
    /// This member is no longer in the group (`UNKNOWN_MEMBER_ID`, `FENCED_MEMBER_EPOCH`):
    /// everything it has is lost.
    MemberLost,
    /// The topic is gone.
    TopicGone,
}

/// How far one partition's commits have come.
#[derive(Debug)]
pub(crate) struct Progress {
    /// The last offset that Kafka has stored of this assignment, as far as known.
    pub(crate) committed: Option<Offset>,
    /// Durable, and not yet accepted.
    ready: Option<Offset>,
    /// Is a commit wanted even of an unmoved offset, because it proves ownership?
    proof: Proof,
    in_flight: Option<Offset>,
    /// Planted bug: a commit that was overtaken by the one in flight.
    overtaken: Option<Offset>,
    /// The partition's task has done something since it was last asked to seal.
    pub(crate) dirty: bool,
    /// Asked to seal, no answer yet.
    pub(crate) sealing: bool,
    /// After a refused commit: not before.
    retry_at: Option<Time>,
    /// Refusals since the last accepted commit.
    refusals: u32,
    position: Offset,
}

/// A proof of ownership is an accepted commit that was sent after the proof was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    NotWanted,
    Wanted,
    InFlight,
}

/// A commit that Kafka has accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) offset: Offset,
    /// It answers a wish for proof.
    pub(crate) proof: bool,
}

impl Progress {
    /// A partition that starts at `position`, with `committed` stored already.
    pub(crate) fn starting_at(position: Offset, committed: Option<Offset>) -> Self {
        Self {
            committed,
            // The start offset of a partition without a commit is committed at once.
            ready: committed.is_none().then_some(position),
            proof: Proof::NotWanted,
            in_flight: None,
            overtaken: None,
            dirty: false,
            sealing: false,
            retry_at: None,
            refusals: 0,
            position,
        }
    }

    /// Everything below `offset` is done and durable.
    pub(crate) fn ready(&mut self, offset: Offset) {
        let floor = self.ready.or(self.committed);
        if floor.is_none_or(|floor| offset > floor) {
            self.ready = Some(offset);
        }
    }

    /// Planted bug: what is ready goes backwards.
    pub(crate) fn ready_backwards(&mut self, by: i64) {
        if let Some(Offset(offset)) = self.ready {
            self.ready = Some(Offset((offset - by).max(0)));
        }
    }

    /// Planted bug: what is in flight is not waited for. Its callback comes after the next one.
    pub(crate) fn leave_in_flight(&mut self) {
        if self.in_flight.is_some_and(|in_flight| self.ready > Some(in_flight)) {
            self.overtaken = self.in_flight.take();
        }
    }

    pub(crate) fn want_proof(&mut self) {
        self.proof = Proof::Wanted;
    }

    /// The offset to send now, if there is one. It is in flight from here on.
    pub(crate) fn take(&mut self, now: Time) -> Option<Offset> {
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        let unmoved =
            (self.proof == Proof::Wanted).then(|| self.committed.unwrap_or(self.position));
        let offset = self.ready.or(unmoved)?;
        self.in_flight = Some(offset);
        self.retry_at = None;
        if self.proof == Proof::Wanted {
            self.proof = Proof::InFlight;
        }
        Some(offset)
    }

    /// The answer to what was taken. After a refusal the next try waits `retry`, and twice as
    /// long after each further one, up to a second.
    pub(crate) fn answered(
        &mut self,
        status: CommitStatus,
        now: Time,
        retry: Duration,
    ) -> Option<Accepted> {
        let offset = self.in_flight.take()?;
        let asked = self.proof == Proof::InFlight;
        if status != CommitStatus::Accepted {
            let wait = retry.saturating_mul(1 << self.refusals.min(10)).min(Duration::from_secs(1));
            self.retry_at = Some(now + wait);
            self.refusals = self.refusals.saturating_add(1);
            if asked {
                self.proof = Proof::Wanted;
            }
            return None;
        }
        self.refusals = 0;
        self.committed = self.overtaken.take().or(Some(offset));
        if self.ready == Some(offset) {
            self.ready = None;
        }
        if asked {
            self.proof = Proof::NotWanted;
        }
        Some(Accepted { offset, proof: asked })
    }

    /// Nothing is left to send or to hear of.
    pub(crate) fn is_settled(&self) -> bool {
        self.ready.is_none() && self.in_flight.is_none() && self.proof == Proof::NotWanted
    }

    pub(crate) fn retry_at(&self) -> Option<Time> {
        if self.is_settled() || self.in_flight.is_some() { None } else { self.retry_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_millis(50);

    #[test]
    fn a_partition_without_a_commit_commits_its_start_at_once() {
        let mut progress = Progress::starting_at(Offset(7), None);
        assert_eq!(progress.take(Time::ZERO), Some(Offset(7)));
        let mut known = Progress::starting_at(Offset(7), Some(Offset(7)));
        assert_eq!(known.take(Time::ZERO), None);
    }

    #[test]
    fn inv_6_a_commit_never_goes_backwards_and_only_one_is_in_flight() {
        let mut progress = Progress::starting_at(Offset(0), Some(Offset(0)));
        progress.ready(Offset(5));
        assert_eq!(progress.take(Time::ZERO), Some(Offset(5)));
        progress.ready(Offset(9));
        assert_eq!(progress.take(Time::ZERO), None);
        progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
        progress.ready(Offset(3));
        assert_eq!(progress.take(Time::ZERO), Some(Offset(9)));
    }

    #[test]
    fn a_commit_sent_before_the_proof_was_asked_for_proves_nothing() {
        let mut progress = Progress::starting_at(Offset(0), Some(Offset(0)));
        progress.ready(Offset(5));
        assert!(progress.take(Time::ZERO).is_some());
        progress.want_proof();
        let first = progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
        assert_eq!(first, Some(Accepted { offset: Offset(5), proof: false }));
        assert_eq!(progress.take(Time::ZERO), Some(Offset(5)), "even an unmoved one");
        let second = progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
        assert_eq!(second, Some(Accepted { offset: Offset(5), proof: true }));
    }

    #[test]
    fn a_refused_commit_is_tried_again_after_its_wait() {
        let mut progress = Progress::starting_at(Offset(0), Some(Offset(0)));
        progress.ready(Offset(5));
        assert!(progress.take(Time::ZERO).is_some());
        progress.answered(CommitStatus::Retry, Time::ZERO, RETRY);
        assert_eq!(progress.take(Time::ZERO), None);
        assert_eq!(progress.take(Time::ZERO + RETRY), Some(Offset(5)));
        progress.answered(CommitStatus::Retry, Time::ZERO, RETRY);
        assert_eq!(progress.take(Time::ZERO + RETRY), None, "the second wait is longer");
    }
}
