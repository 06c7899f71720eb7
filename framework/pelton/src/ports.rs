//! How does the runtime reach the world? Through these narrow traits, and no other way.
//!
//! `kafka/` implements them over librdkafka, the test kit in memory. Public, because a test kit
//! and a native fetcher need them; unstable, because they follow the runtime's needs.
//!
//! Contracts that hold for all of them: nothing here panics on what Kafka sends; a call that is
//! not `async` returns at once; errors say whether trying again helps.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pelton_engine::{CommitStatus, Time};

use crate::record::Run;
use crate::topic_partition::TopicPartition;

/// Why a call on a port failed.
///
/// ```
/// use pelton::ports::PortError;
/// let error = PortError::passing("the broker is away");
/// assert!(error.retryable);
/// ```
#[derive(Clone, Debug, thiserror::Error)]
#[error("{reason}")]
pub struct PortError {
    /// What failed and why.
    pub reason: String,
    /// Does trying again help?
    pub retryable: bool,
}

impl PortError {
    /// An error that trying again may mend.
    pub fn passing(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), retryable: true }
    }

    /// An error that stays.
    pub fn lasting(reason: impl fmt::Display) -> Self {
        Self { reason: reason.to_string(), retryable: false }
    }
}

/// Wakes the poll loop from any thread; calling it often is cheap.
///
/// ```
/// use std::sync::Arc;
/// use pelton::ports::Waker;
///
/// let poll_loop = std::thread::current();
/// let waker: Waker = Arc::new(move || poll_loop.unpark());
/// waker();
/// std::thread::park(); // returns at once
/// ```
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// What the group tells its member.
///
/// ```
/// use pelton::ports::MemberEvent;
///
/// /// The group waits for an answer to these.
/// fn wants_acknowledgement(event: &MemberEvent) -> bool {
///     use MemberEvent::{Assigned, Lost, Revoked};
///     matches!(event, Assigned(_) | Revoked(_) | Lost(_))
/// }
/// assert!(wants_acknowledgement(&MemberEvent::Revoked(vec![]))); // even of nothing
/// assert!(!wants_acknowledgement(&MemberEvent::Trouble("a broker is away".to_owned())));
/// ```
#[derive(Clone, Debug)]
pub enum MemberEvent {
    /// These partitions are ours; to be acknowledged.
    Assigned(Vec<TopicPartition>),
    /// These partitions are asked back; to be acknowledged when they are drained.
    Revoked(Vec<TopicPartition>),
    /// These partitions were taken away; to be acknowledged.
    Lost(Vec<TopicPartition>),
    /// Kafka has answered a commit.
    CommitAnswered {
        /// The number given to [`Member::commit`].
        id: u64,
        /// What it says of each partition.
        statuses: Vec<(TopicPartition, CommitStatus)>,
    },
    /// Something is wrong that may pass by itself.
    Trouble(String),
    /// Another process has our group instance id.
    InstanceFenced(String),
    /// The client can't go on, but another one could.
    Broken(String),
    /// The client can't go on, and no other one could: the group or the broker refuses what this
    /// worker is.
    Fatal(String),
}

/// One partition's part of a commit.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton::ports::CommitEntry;
/// use pelton_engine::Envelope;
///
/// // Record 6 is done; the group has settled on 12 partitions.
/// let entry = CommitEntry {
///     partition: TopicPartition::new("user_logins", 2),
///     offset: 7,
///     metadata: Envelope { partitions: 12, ..Envelope::default() }.encode(),
/// };
/// assert!(entry.metadata.ends_with("p=12"));
/// ```
#[derive(Clone, Debug)]
pub struct CommitEntry {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next offset to read.
    pub offset: i64,
    /// The commit-metadata envelope.
    pub metadata: String,
}

/// Called once, from any thread, when something has ended.
///
/// ```
/// use pelton::ports::Done;
///
/// let (told, heard) = std::sync::mpsc::channel();
/// let done: Done = Box::new(move || told.send("ended").unwrap_or(()));
/// done();
/// assert_eq!(heard.recv(), Ok("ended"));
/// ```
pub type Done = Box<dyn FnOnce() + Send>;

/// Which of a worker's clients.
///
/// ```
/// use pelton::ports::ClientKind;
/// assert_eq!(ClientKind::Fetcher.to_string(), "fetcher");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// The member of the group.
    Member,
    /// The one that reads.
    Fetcher,
    /// The one that writes.
    Producer,
}

impl ClientKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Member, Self::Fetcher, Self::Producer];

    /// Its name in logs and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Fetcher => "fetcher",
            Self::Producer => "producer",
        }
    }
}

impl fmt::Display for ClientKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// This process's identity in the group. Only the poll loop uses it.
///
/// ```
/// use pelton::ports::{Member, MemberEvent, PortError};
///
/// /// A member that owns what it is given, does nothing, and gives back at once.
/// fn step(member: &mut dyn Member) -> Result<(), PortError> {
///     while let Some(event) = member.poll() {
///         match event {
///             MemberEvent::Assigned(_) | MemberEvent::Revoked(_) | MemberEvent::Lost(_) => {
///                 member.acknowledge()?;
///             }
///             MemberEvent::Fatal(reason) => return Err(PortError::lasting(reason)),
///             other => println!("{other:?}"),
///         }
///     }
///     Ok(())
/// }
/// ```
pub trait Member: Send {
    /// The next event, if there is one. Never blocks.
    fn poll(&mut self) -> Option<MemberEvent>;

    /// Acknowledges the rebalance event handed out last. Partitions of an assignment are
    /// paused first: the member never fetches.
    ///
    /// # Errors
    ///
    /// If the client refuses; the group will then take the partitions away.
    fn acknowledge(&mut self) -> Result<(), PortError>;

    /// Sends a commit; its answer comes as [`MemberEvent::CommitAnswered`].
    ///
    /// # Errors
    ///
    /// If it can't even be queued; no answer comes then.
    fn commit(&mut self, id: u64, entries: &[CommitEntry]) -> Result<(), PortError>;

    /// A handle for reading committed offsets from other tasks.
    fn committed(&self) -> Arc<dyn CommittedOffsets>;

    /// Is the process in its group, whether or not it has partitions? No broker is asked.
    fn has_joined(&self) -> bool;

    /// Begins to leave the group; a revocation follows and must be acknowledged.
    fn leave(&mut self);

    /// Leaves and joins anew, as a member the group does not know.
    fn rejoin(&mut self);

    /// Has the group been left and nothing is waiting for an acknowledgement?
    fn has_left(&self) -> bool;

    /// Ends the client. `graceful` is false where the coordinator may be away: then the client
    /// is left alone rather than waited for.
    fn close(self: Box<Self>, graceful: bool);

    /// Ends a client that is [broken](MemberEvent::Broken), off the caller's thread. `done` is
    /// called when its place in the group is free, or can't be freed any sooner by waiting.
    fn retire(self: Box<Self>, done: Done);

    /// Lets the client fail as if it were broken: for tests.
    #[doc(hidden)]
    fn break_for_test(&self) {}
}

/// A committed offset as Kafka stores it.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton::ports::Committed;
/// use pelton_engine::Envelope;
///
/// let partition = TopicPartition::new("user_logins", 2);
/// let foreign = Committed { partition, offset: Some(7), metadata: "by hand".to_owned() };
/// // The offset counts whoever committed it; the metadata only if it is ours.
/// assert_eq!(Envelope::decode(&foreign.metadata), Ok(None));
/// ```
#[derive(Clone, Debug)]
pub struct Committed {
    /// Which partition.
    pub partition: TopicPartition,
    /// The next offset to read; `None` if nothing is committed.
    pub offset: Option<i64>,
    /// What was committed beside it.
    pub metadata: String,
}

/// Reads what the group has committed.
///
/// ```
/// use async_trait::async_trait;
/// use pelton::TopicPartition;
/// use pelton::ports::{Committed, CommittedOffsets, PortError};
///
/// /// A group that has never committed.
/// struct Fresh;
///
/// #[async_trait]
/// impl CommittedOffsets for Fresh {
///     async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
///         let nothing = |partition| Committed { partition, offset: None, metadata: String::new() };
///         Ok(partitions.into_iter().map(nothing).collect())
///     }
/// }
/// ```
#[async_trait]
pub trait CommittedOffsets: Send + Sync {
    /// The stable committed offsets of `partitions`, in their order. Cancel safe.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer in time or answers with an error; the caller tries again.
    async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError>;
}

/// What a fetch brings.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton::ports::FetchEvent;
///
/// /// The partition that brings nothing until it is started again.
/// fn broken_off(event: &FetchEvent) -> Option<&TopicPartition> {
///     match event {
///         FetchEvent::OutOfRange { partition, .. } | FetchEvent::Trouble { partition, .. } => {
///             Some(partition)
///         }
///         FetchEvent::Run(_) | FetchEvent::End { .. } | FetchEvent::Broken(_) => None,
///     }
/// }
/// ```
#[derive(Debug)]
pub enum FetchEvent {
    /// Records, in order.
    Run(Run),
    /// The position is not in the log; the partition is stopped until it is started again.
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The position.
        offset: i64,
    },
    /// The end of the log is reached (only where the fetch was made to tell).
    End {
        /// Which partition.
        partition: TopicPartition,
        /// The position.
        offset: i64,
    },
    /// Something is wrong with a partition; it must be stopped and started again.
    Trouble {
        /// Which partition.
        partition: TopicPartition,
        /// What.
        reason: String,
    },
    /// The client can't go on: nothing comes of any partition. Said once.
    Broken(String),
}

/// Reads partitions from explicit offsets. Used by one thread.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton::ports::{Fetch, PortError};
///
/// /// Fetches again from `offset`; what was fetched ahead and not handed out is discarded.
/// fn restart(fetch: &mut dyn Fetch, partition: &TopicPartition, offset: i64) -> Result<(), PortError> {
///     fetch.stop(partition)?;
///     fetch.start(partition, offset)
/// }
/// ```
pub trait Fetch: Send {
    /// Starts a stopped partition at `offset`.
    ///
    /// # Errors
    ///
    /// If the client refuses.
    fn start(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), PortError>;

    /// Stops a partition; after it none of its records comes out. Stopping a stopped one is
    /// no error.
    ///
    /// # Errors
    ///
    /// If the client refuses.
    fn stop(&mut self, partition: &TopicPartition) -> Result<(), PortError>;

    /// Appends what has arrived, at most `max_records` records. Never blocks.
    fn poll(&mut self, max_records: usize, out: &mut Vec<FetchEvent>);

    /// The end of the log as of the last answer, if there was one. No I/O.
    fn end_offset(&self, partition: &TopicPartition) -> Option<i64>;

    /// Ends the client.
    fn close(self: Box<Self>);

    /// Lets the client fail as if it were broken: for tests.
    #[doc(hidden)]
    fn break_for_test(&self) {}
}

/// A record to write.
///
/// ```
/// use pelton::ports::OutRecord;
///
/// // Forgets alice: a compacted topic drops what it held under her key.
/// let tombstone = OutRecord {
///     topic: "login_totals".into(),
///     partition: None,
///     key: Some(b"alice".to_vec()),
///     value: None,
///     headers: Vec::new(),
///     timestamp_ms: None,
/// };
/// assert_eq!(tombstone.bytes(), 5);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutRecord {
    /// Where to.
    pub topic: Arc<str>,
    /// To which partition; `None` lets the key decide (murmur2, as Java does).
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Its headers.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// Milliseconds since 1970; `None` is now.
    pub timestamp_ms: Option<i64>,
}

impl OutRecord {
    /// Bytes of its key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let headers: usize =
            self.headers.iter().map(|(n, v)| n.len() + v.as_ref().map_or(0, Vec::len)).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }
}

/// Hears what became of sent records; called from the client's thread, must not block.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use pelton::ports::{PortError, Reports};
///
/// #[derive(Default)]
/// struct CountFailures(AtomicU64);
///
/// impl Reports for CountFailures {
///     fn report(&self, _ticket: u64, result: Result<(), PortError>) {
///         self.0.fetch_add(u64::from(result.is_err()), Ordering::Relaxed);
///     }
/// }
///
/// let failures = CountFailures::default();
/// failures.report(1, Ok(()));
/// failures.report(2, Err(PortError::passing("timed out")));
/// assert_eq!(failures.0.into_inner(), 1);
/// ```
pub trait Reports: Send + Sync {
    /// The record sent with `ticket` is stored, or is not known to be.
    fn report(&self, ticket: u64, result: Result<(), PortError>);
}

/// Why a record could not be queued.
///
/// ```
/// use pelton::ports::{PortError, SendError};
///
/// fn helps_trying_again(error: &SendError) -> bool {
///     match error {
///         SendError::Full | SendError::Broken { .. } => true,
///         SendError::Refused(error) => error.retryable,
///     }
/// }
/// assert!(helps_trying_again(&SendError::Full));
/// assert!(!helps_trying_again(&SendError::Refused(PortError::lasting("too large"))));
/// ```
#[derive(Clone, Debug)]
pub enum SendError {
    /// The client's queue is full: try again shortly.
    Full,
    /// It was refused.
    Refused(PortError),
    /// The client can't go on: it refuses everything until it is [renewed](Producer::renew).
    Broken {
        /// Which client: they are counted.
        client: u64,
        /// What it said.
        reason: String,
    },
}

/// Writes records. Records for one partition are stored in the order they were sent, except
/// after a failure.
///
/// ```
/// use std::sync::Arc;
/// use pelton::ports::{OutRecord, Producer, Reports, SendError};
///
/// /// Sends records until the queue is full. Returns how many `reports` will hear of.
/// fn send_all(
///     producer: &dyn Producer,
///     records: &[OutRecord],
///     reports: &Arc<dyn Reports>,
/// ) -> Result<usize, SendError> {
///     for (sent, record) in records.iter().enumerate() {
///         match producer.send(record, sent as u64, reports) {
///             Err(SendError::Full) => return Ok(sent),
///             result => result?,
///         }
///     }
///     Ok(records.len())
/// }
/// ```
pub trait Producer: Send + Sync {
    /// Queues a record; `reports` hears of it exactly once, unless this call fails.
    ///
    /// # Errors
    ///
    /// If it was not queued.
    fn send(
        &self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
    ) -> Result<(), SendError>;

    /// Puts a new client in the place of the broken one with this number, unless that has been
    /// done. What the old one had not delivered is reported as failed.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn renew(&self, client: u64) -> Result<(), PortError>;

    /// Lets the client fail as if it were broken: for tests.
    #[doc(hidden)]
    fn break_for_test(&self) {}

    /// Ends the client; what is undelivered is dropped. `graceful` is false where brokers may be
    /// away: then the client is left alone rather than waited for.
    fn close(&self, graceful: bool);
}

/// What a topic has to be like.
///
/// ```
/// use pelton::ports::TopicSpec;
///
/// // A changelog keeps the last value of each key, and as many partitions as its input.
/// let changelog = TopicSpec {
///     name: "login-counter-user_logins-totals-changelog".to_owned(),
///     partitions: 12,
///     settings: vec![("cleanup.policy".to_owned(), "compact".to_owned())],
/// };
/// assert_eq!(changelog.settings[0].1, "compact");
/// ```
#[derive(Clone, Debug)]
pub struct TopicSpec {
    /// Its name.
    pub name: String,
    /// Its partitions.
    pub partitions: i32,
    /// Its settings.
    pub settings: Vec<(String, String)>,
}

/// How an attempt to create a topic ended.
///
/// ```
/// use pelton::ports::{Admin, Created, PortError, TopicSpec};
///
/// /// Makes a topic, or finds it. Whether what is found fits has to be looked at.
/// async fn has_to_be_checked(admin: &dyn Admin, topic: &TopicSpec) -> Result<bool, PortError> {
///     Ok(match admin.create(topic).await? {
///         Created::New => false,
///         Created::Existed | Created::NoAdminCalls => true,
///     })
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Created {
    /// It is there now.
    New,
    /// It was there before.
    Existed,
    /// The cluster has no such call (an embedded one).
    NoAdminCalls,
}

/// Which topic is it that has this name?
///
/// ```
/// use pelton::ports::TopicIdentity;
///
/// /// Is it certainly not the topic whose id was `before`? Then its offsets mean nothing.
/// fn is_another(before: &str, now: &TopicIdentity) -> bool {
///     matches!(now, TopicIdentity::There { id: Some(id) } if id != before)
/// }
/// assert!(is_another("Q0s-x_9", &TopicIdentity::There { id: Some("Zk3-a_1".to_owned()) }));
/// assert!(!is_another("Q0s-x_9", &TopicIdentity::There { id: None })); // nobody can tell
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TopicIdentity {
    /// There is none.
    Missing,
    /// There is one. Kafka gives each topic an id of its own, so one that was deleted and made
    /// anew has another; `None` where the cluster has no ids.
    There {
        /// Its id.
        id: Option<String>,
    },
}

/// Asks about topics, and makes them.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton::ports::{Admin, PortError};
///
/// /// How many offsets a topic spans; `None` if it does not exist.
/// async fn length(admin: &dyn Admin, topic: &str) -> Result<Option<i64>, PortError> {
///     let Some(partitions) = admin.partitions(topic).await? else { return Ok(None) };
///     let mut length = 0;
///     for partition in 0..partitions {
///         let (first, end) = admin.offsets(&TopicPartition::new(topic, partition)).await?;
///         length += end - first;
///     }
///     Ok(Some(length))
/// }
/// ```
#[async_trait]
pub trait Admin: Send + Sync {
    /// How many partitions a topic has; `None` if there is no such topic.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer.
    async fn partitions(&self, topic: &str) -> Result<Option<i32>, PortError>;

    /// Which topic has this name now.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer.
    async fn identity(&self, topic: &str) -> Result<TopicIdentity, PortError>;

    /// The first offset of a partition's log, and its end.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer.
    async fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64), PortError>;

    /// The offset of the first record whose timestamp is at or after `time_ms` (milliseconds
    /// since 1970); the log's end if there is none.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer, or the cluster can't look up times.
    async fn offset_at(&self, partition: &TopicPartition, time_ms: i64) -> Result<i64, PortError>;

    /// Creates a topic unless it exists.
    ///
    /// # Errors
    ///
    /// If it can't be made; the error says why.
    async fn create(&self, topic: &TopicSpec) -> Result<Created, PortError>;

    /// A topic's settings; `None` where the cluster has no such call.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer, or refuses.
    async fn settings(&self, topic: &str) -> Result<Option<Vec<(String, String)>>, PortError>;

    /// What this process may do with a topic; `None` where Kafka does not say, or there is no
    /// such topic.
    ///
    /// # Errors
    ///
    /// If Kafka does not answer.
    async fn rights(&self, topic: &str) -> Result<Option<TopicRights>, PortError> {
        let _not_known = topic;
        Ok(None)
    }

    /// The cluster's id, where it has one and answers within a second or so.
    async fn cluster_id(&self) -> Option<String>;
}

/// What a process may do with a topic.
///
/// ```
/// use pelton::ports::TopicRights;
///
/// let none = TopicRights::default(); // not even to see that it exists
/// assert!(!none.read && !none.write);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicRights {
    /// Fetch its records.
    pub read: bool,
    /// Append records.
    pub write: bool,
    /// Read its settings.
    pub describe_configs: bool,
}

/// Opens a second fetch for restores: own client, alive only while restoring; it tells the ends.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton::ports::{Fetch, PortError, RestoreFetches, Waker};
///
/// /// Begins to read a changelog from its start; the client lives as long as the restore.
/// fn begin(
///     restores: &dyn RestoreFetches,
///     changelog: &TopicPartition,
///     waker: Waker,
/// ) -> Result<Box<dyn Fetch>, PortError> {
///     let mut fetch = restores.open(waker)?;
///     fetch.start(changelog, 0)?;
///     Ok(fetch)
/// }
/// ```
pub trait RestoreFetches: Send + Sync {
    /// A new client.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn open(&self, waker: Waker) -> Result<Box<dyn Fetch>, PortError>;
}

/// Makes the clients that may have to be made again while the worker runs.
///
/// ```
/// use pelton::ports::{Clients, Fetch, Member, PortError, Waker};
///
/// /// A world whose brokers are out of file descriptors.
/// struct Exhausted;
///
/// impl Clients for Exhausted {
///     fn member(&self, _: Waker) -> Result<Box<dyn Member>, PortError> {
///         Err(PortError::passing("too many open files"))
///     }
///     fn fetch(&self, _: Waker) -> Result<Box<dyn Fetch>, PortError> {
///         Err(PortError::passing("too many open files"))
///     }
/// }
/// let waker: Waker = std::sync::Arc::new(|| {});
/// assert!(Exhausted.fetch(waker).is_err_and(|error| error.retryable)); // tried again, later
/// ```
pub trait Clients: Send + Sync {
    /// A new member, which joins the group; the one before has been [retired](Member::retire).
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn member(&self, waker: Waker) -> Result<Box<dyn Member>, PortError>;

    /// A new fetcher, with nothing started.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn fetch(&self, waker: Waker) -> Result<Box<dyn Fetch>, PortError>;
}

/// The machine the worker runs on: its clock, and a seed for what should differ by process.
///
/// ```
/// use std::time::Duration;
/// use futures::{FutureExt, future::BoxFuture};
/// use pelton::ports::Host;
/// use pelton_engine::Time;
///
/// /// A machine on which time stands still: every wait is for ever.
/// #[derive(Debug)]
/// struct Frozen;
///
/// impl Host for Frozen {
///     fn now(&self) -> Time { Time::ZERO }
///     fn wall_clock_ms(&self) -> i64 { 1_700_000_000_000 }
///     fn seed(&self) -> u64 { 7 } // the same retries in every run
///     fn sleep(&self, _: Duration) -> BoxFuture<'static, ()> { futures::future::pending().boxed() }
/// }
/// assert!(Frozen.sleep(Duration::from_secs(1)).now_or_never().is_none());
/// ```
pub trait Host: Send + Sync + fmt::Debug {
    /// Time for the engine: monotonic, from a moment of the host's choice.
    fn now(&self) -> Time;

    /// Milliseconds since 1970, for lag in seconds; never for decisions.
    fn wall_clock_ms(&self) -> i64;

    /// Spreads retries of many workers.
    fn seed(&self) -> u64;

    /// Ends when `duration` has passed on this host's clock. Cancel safe.
    fn sleep(&self, duration: Duration) -> futures::future::BoxFuture<'static, ()>;
}

/// All ports of one worker, for [`Worker::on_ports`](crate::Worker::on_ports).
///
/// ```
/// use std::sync::Arc;
/// use pelton::ports::{Host, Ports};
///
/// /// The same world with another clock.
/// fn on_clock(ports: Ports, host: Arc<dyn Host>) -> Ports {
///     Ports { host, ..ports }
/// }
/// ```
pub struct Ports {
    /// The group.
    pub member: Box<dyn Member>,
    /// The records.
    pub fetch: Box<dyn Fetch>,
    /// Another group's client and another fetcher, should one break.
    pub clients: Arc<dyn Clients>,
    /// The outputs.
    pub producer: Arc<dyn Producer>,
    /// The topics.
    pub admin: Arc<dyn Admin>,
    /// The changelogs.
    pub restores: Arc<dyn RestoreFetches>,
    /// The machine.
    pub host: Arc<dyn Host>,
    /// Called whenever the worker should be stepped.
    pub waker: Waker,
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ports")
    }
}
