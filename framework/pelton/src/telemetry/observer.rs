//! What did this worker do, step by step? The facts a ledger needs to judge a run.
//!
//! The runtime tells an [`Observer`] each step *before* anything can depend on it, so that a
//! process that is killed has told at least what it did. An observer may not block for long:
//! it is called from the poll loop and from the partitions' tasks. Nothing in a worker depends
//! on an observer; production workers run without one.

use std::sync::Arc;

use crate::topic_partition::TopicPartition;

/// One step of a worker, as told to an [`Observer`].
///
/// Offsets are Kafka's; `epoch` is the assignment epoch: it counts a partition's assignments in
/// this process, from 1.
///
/// ```
/// use pelton::telemetry::{Observation, RecordOutcome};
/// use pelton::TopicPartition;
///
/// let logins = TopicPartition::new("user_logins", 0);
/// let end = Observation::End {
///     partition: &logins, epoch: 1, offset: 7, attempt: 1, outcome: RecordOutcome::Done,
/// };
/// assert!(format!("{end:?}").contains("Done"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are named after the words of the header")]
pub enum Observation<'a> {
    /// The group gave us the partition; nothing is read yet.
    Assigned { partition: &'a TopicPartition, epoch: u64 },
    /// The committed offset is known, stores are restored: reading begins at `position`.
    Started { partition: &'a TopicPartition, epoch: u64, position: i64 },
    /// Its position `from` is not in its log, or belongs to another topic of its name: as
    /// `on_out_of_range` says, reading is about to begin at `to` instead.
    Jumped { partition: &'a TopicPartition, epoch: u64, from: i64, to: i64 },
    /// The group asks for the partition back; its drain begins.
    Revoked { partition: &'a TopicPartition, epoch: u64 },
    /// The drain has ended and the revocation is about to be acknowledged.
    Released { partition: &'a TopicPartition, epoch: u64 },
    /// Its drain has reached its deadline: what still runs is cut off, and what waits for a flush
    /// is not flushed any more.
    CutOff { partition: &'a TopicPartition, epoch: u64 },
    /// The partition was taken away: nothing of it may be committed any more.
    Lost { partition: &'a TopicPartition, epoch: u64 },
    /// The partition was reset in place: it starts again from its committed offset.
    Reset { partition: &'a TopicPartition, epoch: u64 },
    /// A handler is about to see the record; `attempt` counts from 1.
    Start { partition: &'a TopicPartition, epoch: u64, offset: i64, attempt: u32 },
    /// The attempt has ended.
    End {
        partition: &'a TopicPartition,
        epoch: u64,
        offset: i64,
        attempt: u32,
        outcome: RecordOutcome,
    },
    /// The slot's flush has succeeded: what was [`Handled`](RecordOutcome::Handled) before it is
    /// done.
    Flushed { partition: &'a TopicPartition, epoch: u64 },
    /// An output or a changelog record could not be delivered: it and what was sent behind it are
    /// sent again, and nothing is committed beyond it until then.
    Undelivered { partition: &'a TopicPartition, epoch: u64 },
    /// A commit of `offset` (the next one to read) is about to be sent, and with it `done`, what is
    /// done above it as the commit's metadata says it (a [`DoneSet`](crate::DoneSet)); empty if
    /// nothing is.
    CommitTried { id: u64, partition: &'a TopicPartition, epoch: u64, offset: i64, done: &'a str },
    /// What became of it.
    CommitKnown {
        id: u64,
        partition: &'a TopicPartition,
        epoch: u64,
        offset: i64,
        outcome: CommitOutcome,
    },
    /// A graceful shutdown has begun.
    Stopping,
    /// The group was left in good order; the process is about to end.
    Stopped,
}

/// How one attempt at a record ended.
///
/// ```
/// use pelton::telemetry::{Observation, RecordOutcome};
///
/// /// Does the partition go on behind the record?
/// fn is_through(step: &Observation<'_>) -> bool {
///     use RecordOutcome::{Done, Handled, Skipped};
///     matches!(step, Observation::End { outcome: Done | Handled | Skipped, .. })
/// }
/// assert!(!is_through(&Observation::Stopping));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecordOutcome {
    /// Handled; its effects are its partition's to commit.
    Done,
    /// Handled, and done with the slot's next flush (an input with `flush_every`).
    Handled,
    /// Done without effects: invalid, where the input's `on_invalid` says so, or of no interest
    /// ([`Context::skip`](crate::Context::skip)).
    Skipped,
    /// It can't be handled and has become a dead letter: done, with that as its effect.
    DeadLetter,
    /// It has failed too often, or follows one of its key that has, and waits in a retry topic: done,
    /// with that as its effect.
    RetryTopic,
    /// A retryable error: the record will be tried again.
    Retry,
    /// It took longer than `attempt_timeout`: the record will be tried again, by a new instance.
    TimedOut,
    /// The handler panicked: the record will be tried again.
    Panicked,
    /// Cancelled by a drain's deadline or a lost partition: not done.
    Cancelled,
    /// The error ends the worker: not done.
    Fatal,
}

impl RecordOutcome {
    /// Has the attempt failed, and the record is to be tried again?
    ///
    /// ```
    /// use pelton::telemetry::RecordOutcome;
    /// assert!(RecordOutcome::TimedOut.is_tried_again() && !RecordOutcome::DeadLetter.is_tried_again());
    /// ```
    #[must_use]
    pub const fn is_tried_again(self) -> bool {
        matches!(self, Self::Retry | Self::TimedOut | Self::Panicked)
    }

    /// Is its handler's instance gone, with whatever it had handled and not flushed?
    ///
    /// ```
    /// use pelton::telemetry::RecordOutcome;
    /// assert!(RecordOutcome::Panicked.ends_its_instance() && !RecordOutcome::Retry.ends_its_instance());
    /// ```
    #[must_use]
    pub const fn ends_its_instance(self) -> bool {
        matches!(self, Self::TimedOut | Self::Panicked | Self::Cancelled)
    }
}

/// What is known of a commit.
///
/// ```
/// use pelton::telemetry::CommitOutcome;
///
/// /// The offsets at which the next owner may start, once a commit over `before` is answered.
/// fn starts(before: i64, tried: i64, outcome: CommitOutcome) -> Vec<i64> {
///     match outcome {
///         CommitOutcome::Accepted => vec![tried],
///         CommitOutcome::Refused | CommitOutcome::MemberLost => vec![before],
///         _ => vec![before, tried],
///     }
/// }
/// assert_eq!(starts(3, 7, CommitOutcome::Unknown), [3, 7]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CommitOutcome {
    /// Kafka has stored it.
    Accepted,
    /// Kafka has certainly not stored it.
    Refused,
    /// Nor this one: the worker is not in the group. What it owned when it sent it is lost.
    MemberLost,
    /// No answer: it may or may not be stored.
    Unknown,
}

/// Hears each step of a worker.
///
/// ```
/// use pelton::telemetry::{Observation, Observer};
///
/// #[derive(Debug)]
/// struct Print;
/// impl Observer for Print {
///     fn observe(&self, observation: &Observation<'_>) {
///         println!("{observation:?}");
///     }
/// }
/// Print.observe(&Observation::Stopping);
/// ```
pub trait Observer: Send + Sync + std::fmt::Debug + 'static {
    /// Called once per step, in the order of the steps of any one partition.
    fn observe(&self, observation: &Observation<'_>);
}

/// Two observers, told in their order.
#[derive(Debug)]
pub(crate) struct Both(pub(crate) Arc<dyn Observer>, pub(crate) Arc<dyn Observer>);

impl Observer for Both {
    fn observe(&self, observation: &Observation<'_>) {
        self.0.observe(observation);
        self.1.observe(observation);
    }
}
