//! Where can a scenario be played? In any world that gives a worker's ports.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use pelton::TopicPartition;
use pelton::ports::{Admin, Fetch, Member, OutRecord, PortError, Producer};

/// The session of every group's members, in every place.
pub const SESSION: Duration = Duration::from_secs(6);

/// Which kind of world it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The simulator's.
    Model,
    /// librdkafka's mock cluster.
    Embedded,
    /// Apache Kafka.
    Kafka,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Model => "the model",
            Self::Embedded => "the embedded cluster",
            Self::Kafka => "Kafka",
        })
    }
}

/// Why a scenario did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The place has no means for it.
    CantBePlayed(String),
    /// Something failed, or did not happen.
    Broke(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CantBePlayed(why) => write!(f, "can't be played: {why}"),
            Self::Broke(why) => f.write_str(why),
        }
    }
}

impl From<PortError> for Failure {
    fn from(error: PortError) -> Self {
        Self::Broke(error.to_string())
    }
}

/// What a step of a scenario ends with.
pub type Played<T = ()> = Result<T, Failure>;

/// How a group's members agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Classic, eager, in ranges.
    Range,
    /// Classic, cooperative-sticky.
    Cooperative,
    /// KIP-848.
    Consumer,
}

/// Who a process is in its group.
#[derive(Clone, Debug)]
pub struct Role {
    /// Its name; members of a classic group are ordered by it.
    pub name: String,
    /// Its group.
    pub group: String,
    /// What it subscribes to.
    pub topics: Vec<String>,
    /// How its group agrees.
    pub protocol: Protocol,
    /// Makes it a static member.
    pub instance: Option<String>,
}

/// A worker's process: where its ports come from.
pub trait Process {
    /// A member, which joins.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn member(&self) -> Result<Box<dyn Member>, PortError>;

    /// A fetcher, as it restores: it tells the ends of logs.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn fetch(&self) -> Result<Box<dyn Fetch>, PortError>;

    /// A producer.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn producer(&self) -> Result<Arc<dyn Producer>, PortError>;

    /// What asks about topics.
    ///
    /// # Errors
    ///
    /// If none can be made.
    fn admin(&self) -> Result<Arc<dyn Admin>, PortError>;
}

/// A member in a process that can be killed.
pub trait Stranger {
    /// Lets it do its work; called often.
    fn tend(&mut self);

    /// Ends its process without a word.
    fn kill(self: Box<Self>);
}

/// A transactional producer. There is no port for it yet: each call says in a word what became of
/// it (`done`, `abortable`, `fatal`, `unknown`).
pub trait Transaction {
    /// Takes the id; whoever had it is fenced.
    fn init(&self) -> LocalBoxFuture<'_, String>;
    /// Begins a transaction.
    fn begin(&self) -> LocalBoxFuture<'_, String>;
    /// Queues a record and waits until it is stored.
    fn send(&self, record: OutRecord) -> LocalBoxFuture<'_, String>;
    /// Commits an offset of a group with the transaction, from outside of the group.
    fn send_offset(
        &self,
        group: String,
        partition: TopicPartition,
        offset: i64,
    ) -> LocalBoxFuture<'_, String>;
    /// Commits.
    fn commit(&self) -> LocalBoxFuture<'_, String>;
    /// Aborts.
    fn abort(&self) -> LocalBoxFuture<'_, String>;
}

/// A world to play scenarios in. Time in it is tokio's.
pub trait Place {
    /// Which world it is.
    fn kind(&self) -> Kind;

    /// A name that nobody else uses here.
    fn unique(&self, name: &str) -> String;

    /// Makes a topic; clients know it when this ends.
    fn create_topic<'a>(
        &'a self,
        topic: &'a str,
        partitions: i32,
        settings: &'a [(&'a str, &'a str)],
    ) -> LocalBoxFuture<'a, Played>;

    /// Starts a process.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    fn process(&self, role: &Role) -> Played<Box<dyn Process>>;

    /// Starts a process with a member in it, to be killed.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    fn stranger(&self, role: &Role) -> Played<Box<dyn Stranger>>;

    /// Deletes what is before an offset.
    fn delete_records<'a>(
        &'a self,
        partition: &'a TopicPartition,
        before: i64,
    ) -> LocalBoxFuture<'a, Played>;

    /// Deletes a topic, and makes another of its name.
    fn replace_topic<'a>(&'a self, topic: &'a str, partitions: i32) -> LocalBoxFuture<'a, Played>;

    /// Compacts a partition: begins to, at least.
    fn compact<'a>(&'a self, partition: &'a TopicPartition) -> LocalBoxFuture<'a, Played>;

    /// A producer with a transactional id.
    ///
    /// # Errors
    ///
    /// If there are no transactions here.
    fn transaction(&self, id: &str) -> Played<Box<dyn Transaction>>;
}
