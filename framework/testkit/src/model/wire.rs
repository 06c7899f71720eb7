//! What do clients ask of brokers, and what do brokers answer?
//!
//! Kafka's requests as far as a worker depends on them. Two simplifications hold everywhere: a
//! partition has one log that its leader of the moment writes, and a coordinator's memory moves
//! with its office.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::random::Random;

/// A broker, by number from 0.
pub(crate) type Node = usize;

/// A client: what is one librdkafka handle in a real worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ClientId(pub(crate) u32);

/// A request under way; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct CallId(pub(crate) u64);

/// The name the coordinator gave a member of a group.
pub(crate) type MemberId = Arc<str>;

/// Why a call has no answer. Whether the request was carried out is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallError {
    /// The connection broke, or could not be made.
    Disconnected,
    /// Nothing came in time.
    TimedOut,
}

/// Kafka's error codes, as far as a worker meets them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Code {
    // of a partition
    OffsetOutOfRange,
    NotLeaderOrFollower,
    UnknownTopicOrPartition,
    MessageTooLarge,
    // of a coordinator
    CoordinatorNotAvailable,
    CoordinatorLoadInProgress,
    NotCoordinator,
    // of a group
    UnknownMemberId,
    IllegalGeneration,
    RebalanceInProgress,
    FencedInstanceId,
    FencedMemberEpoch,
    StaleMemberEpoch,
    UnreleasedInstanceId,
    InconsistentGroupProtocol,
    UnstableOffsetCommit,
    OffsetMetadataTooLarge,
    // of a producer
    OutOfOrderSequenceNumber,
    DuplicateSequenceNumber,
    UnknownProducerId,
    InvalidProducerEpoch,
    ProducerFenced,
    InvalidTxnState,
    ConcurrentTransactions,
    // of anything
    RequestTimedOut,
    NotEnoughReplicas,
    GroupAuthorizationFailed,
    TopicAuthorizationFailed,
}

/// How a group decides who owns what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Assignor {
    /// Classic, eager: topic by topic, in ranges.
    Range,
    /// Classic, eager: one after the other over all topics.
    RoundRobin,
    /// Classic, cooperative: what a member has it keeps, as far as that is fair.
    CooperativeSticky,
    /// KIP-848: the broker decides and reconciles member by member.
    Broker,
}

/// What a client asks of a node.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// To the group's coordinator.
    Group { group: Arc<str>, request: GroupRequest },
    /// To the leaders of the partitions.
    Produce { batches: Vec<ProducerBatch> },
    /// To the leaders of the partitions. Answered when there is something, or after `max_wait`.
    Fetch { partitions: Vec<FetchPosition>, read_committed: bool, max_wait: Duration },
    /// To the leader: where a log begins and ends (`read_committed`: at its last stable offset).
    Offsets { partition: TopicPartition, read_committed: bool },
    /// To the transaction's coordinator; without a transactional id to any node.
    InitProducer {
        transactional_id: Option<Arc<str>>,
        timeout: Duration,
        known: Option<ProducerIdentity>,
    },
    /// To the transaction's coordinator.
    Transaction {
        transactional_id: Arc<str>,
        producer: ProducerIdentity,
        request: TransactionRequest,
    },
}

/// What a member asks of its group's coordinator. Classic: join, sync, heartbeat, leave. KIP-848:
/// one heartbeat for all.
#[derive(Clone, Debug)]
pub(crate) enum GroupRequest {
    /// Answered when the round is complete.
    Join {
        /// None on the first try: the answer gives the id ([`GroupAnswer::Named`]; a static
        /// member's Joined).
        member: Option<MemberId>,
        instance: Option<Arc<str>>,
        assignor: Assignor,
        topics: Vec<Arc<str>>,
        /// What it has (cooperative).
        owned: Vec<TopicPartition>,
        session_timeout: Duration,
        rebalance_timeout: Duration,
    },
    /// Answered when the assignment is known.
    Sync {
        member: MemberId,
        instance: Option<Arc<str>>,
        generation: i32,
    },
    Heartbeat {
        member: MemberId,
        instance: Option<Arc<str>>,
        generation: i32,
    },
    Leave {
        member: MemberId,
        instance: Option<Arc<str>>,
    },
    /// KIP-848. Epoch 0 joins, -1 leaves, -2 leaves a static member's place to its successor.
    ConsumerHeartbeat {
        member: MemberId,
        instance: Option<Arc<str>>,
        epoch: i32,
        /// What it subscribes to; `None` if nothing has changed.
        topics: Option<Vec<Arc<str>>>,
        /// What it has; `None` if nothing has changed.
        owned: Option<Vec<TopicPartition>>,
        rebalance_timeout: Duration,
    },
    /// `generation` is the member epoch in a KIP-848 group; -1 with no member: from outside.
    Commit {
        member: Option<MemberId>,
        instance: Option<Arc<str>>,
        generation: i32,
        offsets: Vec<(TopicPartition, StoredOffset)>,
    },
    /// `stable`: an answer waits (as an error to be tried again) while a transaction is open.
    Committed {
        partitions: Vec<TopicPartition>,
        stable: bool,
    },
    /// A transaction's offsets: pending until it ends (KIP-447: generation is checked).
    TransactionalCommit {
        producer: ProducerIdentity,
        member: Option<MemberId>,
        instance: Option<Arc<str>>,
        generation: i32,
        offsets: Vec<(TopicPartition, StoredOffset)>,
    },
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredOffset {
    pub(crate) offset: i64,
    pub(crate) metadata: String,
}

/// A producer's id and epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ProducerIdentity {
    pub(crate) id: i64,
    pub(crate) epoch: i16,
}

/// Records for one partition, in order.
#[derive(Clone, Debug)]
pub(crate) struct ProducerBatch {
    pub(crate) partition: TopicPartition,
    /// Idempotent or transactional, with the first record's sequence number.
    pub(crate) producer: Option<(ProducerIdentity, i32)>,
    pub(crate) transactional: bool,
    /// Shared with whoever sends or keeps them: bytes are never copied on the way.
    pub(crate) records: Vec<Arc<LogRecord>>,
}

/// A record in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogRecord {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// From where to fetch.
#[derive(Clone, Debug)]
pub(crate) struct FetchPosition {
    pub(crate) partition: TopicPartition,
    pub(crate) offset: i64,
    /// At most so many records of it.
    pub(crate) max_records: usize,
}

/// What is asked of a transaction's coordinator.
#[derive(Clone, Debug)]
pub(crate) enum TransactionRequest {
    AddPartitions(Vec<TopicPartition>),
    AddOffsets { group: Arc<str> },
    End { commit: bool },
}

/// What a node answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Group(GroupAnswer),
    /// Per batch: the first record's offset.
    Produced(Vec<(TopicPartition, Result<i64, Code>)>),
    Fetched(Vec<(TopicPartition, Result<Fetched, Code>)>),
    Offsets(Result<(i64, i64), Code>),
    Producer(Result<ProducerIdentity, Code>),
    Transaction(Result<(), Code>),
    /// The node can't say: it is not the leader, not the coordinator, or just starting.
    Refused(Code),
}

/// What a group's coordinator answers.
#[derive(Clone, Debug)]
pub(crate) enum GroupAnswer {
    Joined(Result<Joined, Code>),
    /// To a first Join without an instance id: join again with this name (`MEMBER_ID_REQUIRED`).
    Named(MemberId),
    /// The whole assignment of this member.
    Synced(Result<Vec<TopicPartition>, Code>),
    Beaten(Result<(), Code>),
    Left(Result<(), Code>),
    ConsumerBeaten(Result<ConsumerBeaten, Code>),
    Committed(Vec<(TopicPartition, Result<(), Code>)>),
    Offsets(Vec<(TopicPartition, Result<Option<StoredOffset>, Code>)>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) member: MemberId,
    pub(crate) generation: i32,
    /// It computes the assignment (here: the coordinator does when this one syncs).
    pub(crate) is_leader: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConsumerBeaten {
    pub(crate) epoch: i32,
    pub(crate) interval: Duration,
    /// What it is to have; `None` if nothing has changed.
    pub(crate) assignment: Option<Vec<TopicPartition>>,
}

/// Records of a partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fetched {
    /// By offset, ascending; offsets may be missing (compaction, transaction markers).
    pub(crate) records: Vec<(i64, Arc<LogRecord>)>,
    /// The next offset to ask for.
    pub(crate) next: i64,
    pub(crate) log_start: i64,
    /// The end of the log; `read_committed`: its last stable offset.
    pub(crate) end: i64,
}

impl Fetched {
    /// Does it bring no records? A node waits for some before it answers.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Where things are, as clients believe it: the truth of a moment ago.
#[derive(Clone, Debug, Default)]
pub(crate) struct Directory {
    pub(crate) nodes: usize,
    /// Every partition of every topic, with its leader while it has one.
    pub(crate) leaders: BTreeMap<TopicPartition, Option<Node>>,
    /// Coordinators of groups and transactions, while they have one.
    pub(crate) coordinators: BTreeMap<Arc<str>, Option<Node>>,
}

impl Directory {
    pub(crate) fn leader(&self, partition: &TopicPartition) -> Option<Node> {
        self.leaders.get(partition).copied().flatten()
    }

    /// Of a group or a transactional id.
    pub(crate) fn coordinator(&self, name: &str) -> Option<Node> {
        self.coordinators.get(name).copied().flatten()
    }

    /// `None` if there is no such topic.
    pub(crate) fn partitions(&self, topic: &str) -> Option<i32> {
        let from = self.leaders.range(TopicPartition::new(topic, 0)..);
        let of_topic = from.take_while(|(partition, _)| partition.topic() == topic);
        i32::try_from(of_topic.count()).ok().filter(|count| *count > 0)
    }
}

/// A request that leaves a client.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) call: CallId,
    pub(crate) to: Node,
    pub(crate) request: Request,
    /// Without an answer until then the client hears [`CallError::TimedOut`].
    pub(crate) deadline: Time,
}

/// A client's hand on the network, for the length of one call.
pub(crate) struct Wire<'a> {
    pub(crate) now: Time,
    pub(crate) directory: &'a Directory,
    pub(crate) random: &'a mut Random,
    pub(crate) next_call: &'a mut u64,
    pub(crate) out: &'a mut Vec<Outgoing>,
    /// Set when the worker has something to hear.
    pub(crate) wakes: bool,
}

impl Wire<'_> {
    /// Sends a request. Requests of a client to one node arrive in order, and so do the answers.
    pub(crate) fn ask(&mut self, to: Node, request: Request, timeout: Duration) -> CallId {
        let call = CallId(*self.next_call);
        *self.next_call += 1;
        self.out.push(Outgoing { call, to, request, deadline: self.now + timeout });
        call
    }

    /// The worker is to look: there is something to poll.
    pub(crate) fn wake(&mut self) {
        self.wakes = true;
    }
}

/// What runs by itself inside a worker's process: a librdkafka client.
pub(crate) trait Client: Send {
    /// An answer has come, or never will.
    fn answered(&mut self, call: CallId, answer: Result<Answer, CallError>, wire: &mut Wire<'_>);

    /// Its time has come.
    fn turn(&mut self, wire: &mut Wire<'_>);

    /// When it wants its next turn.
    fn wake(&self) -> Option<Time>;
}
