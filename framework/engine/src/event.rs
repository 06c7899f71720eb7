//! What the engine is told: everything that can happen to a worker.

use crate::commit::CommitStatus;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::log_range::LogRange;
use crate::standing::Standing;
use crate::time::Time;

/// A run as the engine sees it: records of one partition that arrived together.
///
/// ```
/// use pelton_engine::{Event, Offset, PartitionId, RunInfo};
/// # use pelton_engine::{Engine, EngineLimits, Epoch, Time};
/// # let partition = PartitionId(0);
/// # let mut engine = Engine::new(EngineLimits { budget_records: 100, ..EngineLimits::default() });
/// # let mut actions = Vec::new();
/// # engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// # let (epoch, position, committed) = (Epoch(1), Offset(3), None);
/// # engine.handle(Time::ZERO, Event::Restored { partition, epoch, position, committed }, &mut actions);
///
/// // Compaction leaves gaps: five records between the offsets 3 and 9.
/// let run = RunInfo { first: Offset(3), last: Offset(9), records: 5, bytes: 400 };
/// engine.handle(Time::ZERO, Event::Fetched { partition, run }, &mut actions);
/// let view = engine.partitions().next().unwrap();
/// assert_eq!((view.position, view.buffered_records), (Some(Offset(10)), 5));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunInfo {
    /// Offset of its first record.
    pub first: Offset,
    /// Offset of its last record.
    pub last: Offset,
    /// How many records.
    pub records: u64,
    /// How many bytes of keys, values and headers.
    pub bytes: u64,
}

/// Effects of records that a partition's task holds until Kafka has them, in bytes: with every
/// copy that there may be of them.
///
/// ```
/// use pelton_engine::HeldEffects;
///
/// let effects = HeldEffects { outputs: 300, stores: 40, ..HeldEffects::default() };
/// assert_eq!(effects.bytes(), 340);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldEffects {
    /// Outputs and changelog records that are not delivered.
    pub outputs: u64,
    /// Writes to stores whose commit is not known.
    pub stores: u64,
    /// Those of them that no seal has closed yet.
    pub unsealed: u64,
    /// The most that one record's effects came to since it was last told.
    pub largest: u64,
}

impl HeldEffects {
    /// All that is held.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.outputs.saturating_add(self.stores)
    }
}

/// What has happened.
///
/// ```
/// use pelton_engine::{Action, Event};
/// # use pelton_engine::{Standing, Engine, EngineLimits, Epoch, Offset, PartitionId, Time};
/// # let partition = PartitionId(0);
/// # let mut engine = Engine::new(EngineLimits { budget_records: 100, ..EngineLimits::default() });
/// # let mut actions = Vec::new();
/// # engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// # let (epoch, position, committed) = (Epoch(1), Offset(3), Some(Standing::at(Offset(3))));
/// # engine.handle(Time::ZERO, Event::Restored { partition, epoch, position, committed }, &mut actions);
/// # actions.clear();
///
/// // Asked back: nothing more is fetched, and the group waits until the partition has drained.
/// engine.handle(Time::ZERO, Event::Revoked { partitions: vec![partition] }, &mut actions);
/// assert_eq!(actions[0], Action::StopFetch { partition });
/// assert!(!actions.contains(&Action::Acknowledge));
/// engine.handle(Time::ZERO, Event::Drained { partition, epoch }, &mut actions);
/// engine.tick(Time::ZERO, &mut actions);
/// assert_eq!(actions.last(), Some(&Action::Acknowledge));
/// ```
#[derive(Clone, Debug)]
pub enum Event {
    /// The group gave us these partitions.
    Assigned {
        /// Which.
        partitions: Vec<PartitionId>,
    },
    /// The group asks for these partitions back.
    Revoked {
        /// Which; perhaps none.
        partitions: Vec<PartitionId>,
    },
    /// The group has taken these partitions away.
    Lost {
        /// Which.
        partitions: Vec<PartitionId>,
    },
    /// A partition's stores are restored and its start is known.
    Restored {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// The first offset to read.
        position: Offset,
        /// What the group has committed, if anything.
        committed: Option<Standing>,
    },
    /// The partition's task gives a sign of life while it prepares.
    Preparing {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// It waits for user code, which nobody hurries: a handler of the assignment before, or
        /// a hook.
        waits: bool,
    },
    /// A run has arrived.
    Fetched {
        /// Of which partition.
        partition: PartitionId,
        /// What is in it.
        run: RunInfo,
    },
    /// The partition's task is through with some records.
    Progressed {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// How many records have left its buffer.
        records: u64,
        /// How many bytes have left its buffer.
        bytes: u64,
        /// There is something to commit.
        dirty: bool,
    },
    /// What the partition's task holds of effects has changed.
    Holds {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// What it holds now.
        effects: HeldEffects,
    },
    /// This much is done, and its effects are durable.
    Sealed {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
        /// What may be committed.
        standing: Standing,
    },
    /// The partition's task has drained: nothing runs, nothing is undelivered.
    Drained {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
    },
    /// The partition's task sends nothing before a commit proves that it is still ours.
    ProofWanted {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
    },
    /// The partition must start again from its committed offset.
    ResetWanted {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment.
        epoch: Epoch,
    },
    /// The fetch of the partition has broken off: nothing comes until it is started again.
    FetchFailed {
        /// Which partition.
        partition: PartitionId,
    },
    /// The partition's position is not in its log, or its log is another one: nothing more can
    /// be read there.
    OutOfRange {
        /// Which partition.
        partition: PartitionId,
    },
    /// The answer to [`Action::AskEnd`](crate::Action::AskEnd).
    LogSeen {
        /// Which partition.
        partition: PartitionId,
        /// Of which assignment it was asked.
        epoch: Epoch,
        /// What its log holds.
        log: LogRange,
    },
    /// The client that fetches was replaced: nothing is started in the new one.
    FetcherReplaced,
    /// The group's client is no more: whatever it had is lost, what it was asked is never
    /// answered, and what waited for an acknowledgement needs none.
    MemberGone,
    /// The end of the partition's log is known.
    End {
        /// Which partition.
        partition: PartitionId,
        /// The offset the next record will get.
        end: Offset,
    },
    /// Kafka has answered a commit.
    CommitAnswered {
        /// Which.
        id: u64,
        /// What it says of each partition.
        statuses: Vec<(PartitionId, CommitStatus)>,
    },
    /// An operator pauses these partitions, ours or not: nothing of them is fetched or started
    /// until they are resumed. They are assigned, committed and given up as ever.
    Paused {
        /// Which.
        partitions: Vec<PartitionId>,
    },
    /// An operator lets these partitions go on.
    Resumed {
        /// Which.
        partitions: Vec<PartitionId>,
    },
    /// Somebody wants a partition to go on elsewhere, if it is ours: as if it were handed over to
    /// itself.
    SeekWanted {
        /// Which partition.
        partition: PartitionId,
        /// The next offset to read.
        to: Offset,
    },
    /// The worker is to end: everything drains.
    Shutdown {
        /// When what still runs is cancelled.
        cancel_at: Time,
        /// When partitions are released whatever has been committed.
        release_at: Time,
    },
}
