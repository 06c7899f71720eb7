//! What is to be committed? One commit in flight, never backwards.
//!
//! Upholds INV-6: per partition, accepted commits of one assignment never regress, and no commit
//! is sent while another is unanswered.

use std::time::Duration;

use crate::ids::Offset;
use crate::standing::Standing;
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
    /// What Kafka has stored last of this assignment, as far as known.
    pub(crate) committed: Option<Standing>,
    /// Durable, and not yet accepted.
    ready: Option<Standing>,
    /// Is a commit wanted even of an unmoved offset, because it proves ownership?
    proof: Proof,
    in_flight: Option<Standing>,
    /// Planted bug: a commit that was overtaken by the one in flight.
    overtaken: Option<Standing>,
    /// The partition's task has done something since it was last asked to seal.
    pub(crate) dirty: bool,
    /// Asked to seal, no answer yet.
    pub(crate) sealing: bool,
    /// After a refused commit: not before.
    retry_at: Option<Time>,
    /// Refusals since the last accepted commit.
    refusals: u32,
    start: Standing,
}

/// A proof of ownership is an accepted commit that was sent after the proof was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    NotWanted,
    Wanted,
    InFlight,
}

/// A commit that Kafka has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) standing: Standing,
    /// It answers a wish for proof.
    pub(crate) proof: bool,
}

impl Progress {
    /// A partition that starts at `position`, with `committed` stored already.
    pub(crate) fn starting_at(position: Offset, committed: Option<Standing>) -> Self {
        let start = Standing::at(position);
        Self {
            // The start offset of a partition without a commit is committed at once.
            ready: committed.is_none().then(|| start.clone()),
            committed,
            proof: Proof::NotWanted,
            in_flight: None,
            overtaken: None,
            dirty: false,
            sealing: false,
            retry_at: None,
            refusals: 0,
            start,
        }
    }

    /// This much is done and durable.
    pub(crate) fn ready(&mut self, standing: Standing) {
        let floor = self.ready.as_ref().or(self.committed.as_ref());
        if floor.is_none_or(|floor| standing.is_ahead_of(floor)) {
            self.ready = Some(standing);
        }
    }

    /// Planted bug: what is ready goes backwards.
    pub(crate) fn ready_backwards(&mut self, by: i64) {
        if let Some(ready) = &mut self.ready {
            let window = ready.window;
            *ready = Standing { window, ..Standing::at(Offset((ready.offset().0 - by).max(0))) };
        }
    }

    /// Planted bug: what is in flight is not waited for. Its callback comes after the next one.
    pub(crate) fn leave_in_flight(&mut self) {
        let is_overtaken = |in_flight: &Standing| {
            self.ready.as_ref().is_some_and(|ready| ready.is_ahead_of(in_flight))
        };
        if self.in_flight.as_ref().is_some_and(is_overtaken) {
            self.overtaken = self.in_flight.take();
        }
    }

    /// Planted bug: a proof says less than what is committed.
    pub(crate) fn forget_done_set(&mut self) {
        if let Some(committed) = &mut self.committed {
            *committed = Standing::at(committed.offset());
        }
    }

    pub(crate) fn want_proof(&mut self) {
        self.proof = Proof::Wanted;
    }

    /// What to commit now, if there is anything. It is in flight from here on.
    pub(crate) fn take(&mut self, now: Time) -> Option<Standing> {
        if self.in_flight.is_some() || self.retry_at.is_some_and(|at| at > now) {
            return None;
        }
        // A proof says again what is committed: less would have it done again.
        let unmoved =
            (self.proof == Proof::Wanted).then(|| self.committed.as_ref().unwrap_or(&self.start));
        let standing = self.ready.as_ref().or(unmoved)?.clone();
        self.in_flight = Some(standing.clone());
        self.retry_at = None;
        if self.proof == Proof::Wanted {
            self.proof = Proof::InFlight;
        }
        Some(standing)
    }

    /// The answer to what was taken. After a refusal the next try waits `retry`, and twice as
    /// long after each further one, up to a second.
    pub(crate) fn answered(
        &mut self,
        status: CommitStatus,
        now: Time,
        retry: Duration,
    ) -> Option<Accepted> {
        let standing = self.in_flight.take()?;
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
        if self.ready.as_ref() == Some(&standing) {
            self.ready = None;
        }
        self.committed = Some(self.overtaken.take().unwrap_or_else(|| standing.clone()));
        if asked {
            self.proof = Proof::NotWanted;
        }
        Some(Accepted { standing, proof: asked })
    }

    /// Nothing is left to send or to hear of.
    pub(crate) fn is_settled(&self) -> bool {
        self.ready.is_none() && self.in_flight.is_none() && self.proof == Proof::NotWanted
    }

    /// When a refused commit is due again; nothing is settled or in flight until then.
    pub(crate) fn retry_at(&self) -> Option<Time> {
        self.retry_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RETRY: Duration = Duration::from_millis(50);

    fn at(offset: i64) -> Standing {
        Standing::at(Offset(offset))
    }

    #[test]
    fn a_partition_without_a_commit_commits_its_start_at_once() {
        let mut progress = Progress::starting_at(Offset(7), None);
        assert_eq!(progress.take(Time::ZERO), Some(at(7)));
        let mut known = Progress::starting_at(Offset(7), Some(at(7)));
        assert_eq!(known.take(Time::ZERO), None);
    }

    #[test]
    fn inv_6_a_commit_never_goes_backwards_and_only_one_is_in_flight() {
        let mut progress = Progress::starting_at(Offset(0), Some(at(0)));
        progress.ready(at(5));
        assert_eq!(progress.take(Time::ZERO), Some(at(5)));
        progress.ready(at(9));
        assert_eq!(progress.take(Time::ZERO), None);
        progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
        progress.ready(at(3));
        assert_eq!(progress.take(Time::ZERO), Some(at(9)));
    }

    #[test]
    fn a_commit_sent_before_the_proof_was_asked_for_proves_nothing() {
        let mut progress = Progress::starting_at(Offset(0), Some(at(0)));
        progress.ready(at(5));
        assert!(progress.take(Time::ZERO).is_some());
        progress.want_proof();
        let first = progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
        assert_eq!(first, Some(Accepted { standing: at(5), proof: false }));
        assert_eq!(progress.take(Time::ZERO), Some(at(5)), "even an unmoved one");
        let second = progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
        assert_eq!(second, Some(Accepted { standing: at(5), proof: true }));
    }

    #[test]
    fn a_refused_commit_is_tried_again_after_its_wait() {
        let mut progress = Progress::starting_at(Offset(0), Some(at(0)));
        progress.ready(at(5));
        assert!(progress.take(Time::ZERO).is_some());
        progress.answered(CommitStatus::Retry, Time::ZERO, RETRY);
        assert_eq!(progress.take(Time::ZERO), None);
        assert_eq!(progress.take(Time::ZERO + RETRY), Some(at(5)));
        progress.answered(CommitStatus::Retry, Time::ZERO, RETRY);
        assert_eq!(progress.take(Time::ZERO + RETRY), None, "the second wait is longer");
    }

    #[test]
    fn the_wait_doubles_with_each_refusal_up_to_a_second_and_an_accepted_one_ends_it() {
        let mut progress = Progress::starting_at(Offset(0), Some(at(0)));
        progress.ready(at(5));
        let mut now = Time::ZERO;
        for wait_ms in [50, 100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(progress.take(now), Some(at(5)));
            assert_eq!(progress.retry_at(), None, "it is in flight");
            progress.answered(CommitStatus::Unknown, now, RETRY);
            let due = now + Duration::from_millis(wait_ms);
            assert_eq!(progress.retry_at(), Some(due));
            assert_eq!(progress.take(due - Duration::from_nanos(1)), None);
            now = due;
        }
        assert!(progress.take(now).is_some());
        progress.answered(CommitStatus::Accepted, now, RETRY);
        progress.ready(at(6));
        assert_eq!(progress.take(now), Some(at(6)), "nothing is left to wait for");
        progress.answered(CommitStatus::Retry, now, RETRY);
        assert_eq!(progress.retry_at(), Some(now + RETRY), "the count begins anew");
    }

    #[test]
    fn an_answer_to_nothing_says_nothing() {
        let mut progress = Progress::starting_at(Offset(0), Some(at(0)));
        progress.ready(at(5));
        for status in [CommitStatus::Accepted, CommitStatus::Retry] {
            assert_eq!(progress.answered(status, Time::ZERO, RETRY), None);
        }
        assert_eq!((progress.committed.clone(), progress.retry_at()), (Some(at(0)), None));
        assert_eq!(progress.take(Time::ZERO), Some(at(5)));
    }

    #[test]
    fn what_is_committed_is_not_committed_again_without_a_reason() {
        let mut progress = Progress::starting_at(Offset(5), Some(at(5)));
        progress.ready(at(5));
        assert!(progress.is_settled(), "an unmoved offset is no work");
        assert_eq!(progress.take(Time::ZERO), None);
    }

    #[test]
    fn a_proof_alone_commits_what_is_committed_or_the_start() {
        for (committed, proof) in [(Some(at(3)), at(3)), (None, at(7))] {
            let mut progress = Progress::starting_at(Offset(7), committed.clone());
            if committed.is_none() {
                progress.take(Time::ZERO);
                progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
            }
            assert!(progress.is_settled());
            progress.want_proof();
            assert!(!progress.is_settled(), "a proof is wanted");
            assert_eq!(progress.take(Time::ZERO), Some(proof.clone()));
            progress.answered(CommitStatus::Retry, Time::ZERO, RETRY);
            assert_eq!(
                progress.take(Time::ZERO + RETRY),
                Some(proof.clone()),
                "it is still wanted"
            );
            let accepted = progress.answered(CommitStatus::Accepted, Time::ZERO, RETRY);
            assert_eq!(accepted, Some(Accepted { standing: proof, proof: true }));
            assert!(progress.is_settled());
        }
    }

    /// What an assignment says one after the other: four done-sets above every fifth offset.
    fn said(number: i64) -> Standing {
        let mut standing = at(number / 5 * 5);
        let base = standing.offset().0;
        standing.done.push(Offset(base + 1), Offset(base + number % 5));
        standing
    }

    /// What may happen to one partition's commits.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ready(i64),
        WantProof,
        Take,
        Answer(CommitStatus),
    }

    fn step() -> impl Strategy<Value = Step> {
        let status = prop::sample::select(vec![
            CommitStatus::Accepted,
            CommitStatus::Retry,
            CommitStatus::Unknown,
            CommitStatus::TopicGone,
        ]);
        prop_oneof![
            (0i64..50).prop_map(Step::Ready),
            Just(Step::WantProof),
            Just(Step::Take),
            status.prop_map(Step::Answer),
        ]
    }

    proptest! {
        /// INV-6, against the plainest model: the highest of what was ready is what is committed
        /// in the end, one commit after the other, never less than before, and each wish for proof
        /// is met by a commit that was sent after it.
        #[test]
        fn inv_6_the_highest_that_was_ready_is_committed_in_the_end(
            start in 0i64..20, committed in prop::option::of(0i64..20),
            steps in prop::collection::vec(step(), 0..60),
        ) {
            let start = start / 5 * 5; // a start without a standing-set
            let mut progress = Progress::starting_at(said(start).offset(), committed.map(said));
            let mut highest = committed.unwrap_or(start);
            let (mut in_flight, mut last, mut now) = (None, committed, Time::ZERO);
            // Wished for; and was it already when the commit in flight was sent?
            let (mut wished, mut sent_for) = (false, false);
            let end = (0..3).flat_map(|_| [Step::Answer(CommitStatus::Accepted), Step::Take]);
            for step in steps.into_iter().chain(end) {
                now = now + Duration::from_secs(1);
                match step {
                    Step::Ready(offset) => {
                        progress.ready(said(offset));
                        highest = highest.max(offset);
                    }
                    Step::WantProof => {
                        progress.want_proof();
                        (wished, sent_for) = (true, false);
                    }
                    Step::Take => {
                        let taken = progress.take(now);
                        prop_assert!(taken.is_none() || in_flight.is_none(), "two in flight");
                        prop_assert!(!progress.is_settled() || taken.is_none());
                        if let Some(standing) = taken {
                            let number = (0..50).find(|number| said(*number) == standing);
                            let number = number.expect("something that was ready");
                            prop_assert!(last.is_none_or(|last| number >= last), "backwards");
                            prop_assert!(number <= highest);
                            (in_flight, sent_for) = (Some(number), wished);
                        }
                    }
                    Step::Answer(status) => {
                        let accepted = progress.answered(status, now, RETRY);
                        let sent = in_flight.take();
                        let due = sent.filter(|_| status == CommitStatus::Accepted);
                        let said_of_it = accepted.as_ref().map(|accepted| accepted.standing.clone());
                        prop_assert_eq!(said_of_it, due.map(said));
                        if let Some(accepted) = accepted {
                            prop_assert_eq!(accepted.proof, sent_for);
                            wished &= !sent_for;
                            last = due;
                        }
                    }
                }
                prop_assert_eq!(progress.committed.clone(), last.map(said));
            }
            prop_assert!(progress.is_settled());
            prop_assert_eq!((last, wished), (Some(highest), false));
        }
    }
}
