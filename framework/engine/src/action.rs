//! What the engine asks for: everything a worker can do.

use crate::ids::{Epoch, Offset, PartitionId};
use crate::standing::Standing;
use crate::time::Time;

/// One partition's part of a commit.
///
/// ```
/// use pelton_engine::{CommitItem, Standing, Epoch, Offset, PartitionId};
///
/// // Record 6 is done and durable: whoever has the partition next goes on at 7.
/// let standing = Standing::at(Offset(6).next());
/// let item = CommitItem { partition: PartitionId(0), epoch: Epoch(1), standing };
/// assert_eq!(item.offset(), Offset(7));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitItem {
    /// Which partition.
    pub partition: PartitionId,
    /// Of which assignment.
    pub epoch: Epoch,
    /// The next offset to read, and what is done above it.
    pub standing: Standing,
}

impl CommitItem {
    /// The next offset to read.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.standing.offset()
    }
}

/// Which watchdog has barked.
///
/// ```
/// use pelton_engine::{Action, Engine, EngineLimits, Event, PartitionId, SilentAction, Time};
///
/// let (limits, partition) = (EngineLimits::default(), PartitionId(0));
/// let (mut engine, mut actions) = (Engine::new(limits), Vec::new());
/// engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// engine.tick(Time::ZERO + limits.silent_after, &mut actions);
/// assert!(actions.contains(&Action::Silent { partition, what: SilentAction::StillRestoring }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SilentAction {
    /// The fetch was stopped and started again.
    FetchedAnew,
    /// Fetching it anew has not helped: the client that fetches is replaced.
    FetcherRenewed,
    /// It has not started for long; nothing was done.
    StillRestoring,
    /// It gave no sign of life before it started: it was begun anew.
    RestoredAnew,
}

/// Why a partition's task ends.
///
/// ```
/// use pelton_engine::{Action, Closing, Engine, EngineLimits, Epoch, Event, PartitionId, Time};
///
/// let partition = PartitionId(0);
/// let (mut engine, mut actions) = (Engine::new(EngineLimits::default()), Vec::new());
/// engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// engine.handle(Time::ZERO, Event::Lost { partitions: vec![partition] }, &mut actions);
/// let close = Action::Close { partition, epoch: Epoch(1), closing: Closing::Lost };
/// assert_eq!(actions.last(), Some(&close));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The partition is given up in good order.
    Released,
    /// It was taken away.
    Lost,
    /// It starts again in place.
    Reset,
}

/// Where does a partition go on that is ours?
///
/// ```
/// use pelton_engine::{Action, Engine, EngineLimits, Epoch, Event, PartitionId, RestoreFrom, Time};
///
/// let partition = PartitionId(0);
/// let (mut engine, mut actions) = (Engine::new(EngineLimits::default()), Vec::new());
/// engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// let (epoch, from) = (Epoch(1), RestoreFrom::Committed);
/// assert!(actions.contains(&Action::Restore { partition, epoch, from }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreFrom {
    /// At its committed offset.
    Committed,
    /// It can't go on at this position, up to which all is done and committed: the log does not
    /// hold it, or is another one. Decide by the policy where it goes on.
    OutOfRange(Offset),
    /// Here, as somebody wants it; what was done before is committed.
    Seek(Offset),
}

/// What the runtime has to do.
///
/// ```
/// use pelton_engine::{Action, Engine, Time};
///
/// /// Carries out what is due, in the order it is given.
/// fn step(engine: &mut Engine, now: Time) -> Option<Time> {
///     let mut actions = Vec::new();
///     let wake = engine.tick(now, &mut actions);
///     for action in actions {
///         match action {
///             Action::StartFetch { partition, from } => println!("read {partition:?} from {from}"),
///             Action::Commit { id, items } => println!("commit {id}: {items:?}"),
///             other => println!("{other:?}"),
///         }
///     }
///     wake
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Acknowledge the rebalance event that is waiting.
    Acknowledge,
    /// Start the partition's task: read its committed offset, restore its stores.
    Restore {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// Where it goes on.
        from: RestoreFrom,
    },
    /// Start fetching.
    StartFetch {
        /// Which partition.
        partition: PartitionId,
        /// The first offset to fetch.
        from: Offset,
    },
    /// Stop fetching; after it no run of this partition arrives.
    StopFetch {
        /// Which partition.
        partition: PartitionId,
    },
    /// Give the run just announced to the partition's task.
    Deliver {
        /// Which partition.
        partition: PartitionId,
        /// Records below this offset were delivered before: drop and count them.
        skip_below: Offset,
    },
    /// Start nothing more; what runs finishes, what waits stays.
    Pause {
        /// Which partition.
        partition: PartitionId,
    },
    /// Go on where it stood.
    Resume {
        /// Which partition.
        partition: PartitionId,
    },
    /// Close the partition's outbox and say when it is durable.
    Seal {
        /// Which partition.
        partition: PartitionId,
    },
    /// Start nothing more, finish, flush, seal.
    Drain {
        /// Which partition.
        partition: PartitionId,
        /// Nothing is sent after it: what is under way when the partition is released could
        /// arrive behind the next owner's newer values. `None` where the process ends.
        send_until: Option<Time>,
    },
    /// Cut off what runs.
    Cancel {
        /// Which partition.
        partition: PartitionId,
    },
    /// End the partition's task; nothing it says afterwards counts.
    Close {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// Why it ends.
        closing: Closing,
    },
    /// Send a commit.
    Commit {
        /// Its number; the answer carries it.
        id: u64,
        /// What to commit.
        items: Vec<CommitItem>,
    },
    /// A commit was accepted.
    Committed {
        /// Which partition.
        partition: PartitionId,
        /// What is stored.
        standing: Standing,
        /// It proves that the partition is still ours.
        proof: bool,
    },
    /// Nothing has come for long: ask Kafka what the log holds, to tell an idle topic from a fetch
    /// that is dead, and from a log that has lost records.
    AskEnd {
        /// Which partition.
        partition: PartitionId,
    },
    /// A watchdog has barked.
    Silent {
        /// Which partition.
        partition: PartitionId,
        /// What was done about it.
        what: SilentAction,
    },
    /// Replace the client that fetches; [`Event::FetcherReplaced`](crate::Event::FetcherReplaced)
    /// says when it is done.
    RenewFetcher,
    /// The group has forgotten us and does not say so: leave and join again.
    Rejoin,
    /// Everything is drained: leave the group.
    Leave,
}
