//! What can go wrong, whose fault is it, and what is the way out?
//!
//! Codes (`PLT-…`) and exit codes are public: `docs/errors.md` lists them all.

use std::fmt;
use std::path::PathBuf;
use std::process::{ExitCode, Termination};
use std::time::Duration;

use crate::config::ConfigError;
use crate::farewell;
use crate::topic_partition::TopicPartition;

/// Why a handler did not finish a record.
///
/// Any `std::error::Error` becomes *retryable* through `?`: the record is tried again, with
/// growing waits, for ever. [`Record::json`](crate::Record::json) and codecs give *invalid*:
/// trying again can't help. *Fatal* stops the worker.
///
/// ```
/// use pelton::HandlerError;
///
/// fn look_up() -> Result<u32, HandlerError> {
///     Ok("12x".parse::<u32>()?) // retryable
/// }
/// assert!(look_up().unwrap_err().is_retryable());
/// assert!(HandlerError::invalid("no user").is_invalid());
/// assert_eq!(HandlerError::fatal("no disk").to_string(), "no disk");
/// ```
#[derive(Clone, Debug)]
pub struct HandlerError {
    kind: Kind,
    message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Retryable,
    Invalid,
    Fatal,
}

impl HandlerError {
    /// Trying again may help.
    pub fn retryable(why: impl fmt::Display) -> Self {
        Self { kind: Kind::Retryable, message: why.to_string() }
    }

    /// The record itself is at fault; the input's `on_invalid` decides.
    pub fn invalid(why: impl fmt::Display) -> Self {
        Self { kind: Kind::Invalid, message: why.to_string() }
    }

    /// The worker can't go on.
    pub fn fatal(why: impl fmt::Display) -> Self {
        Self { kind: Kind::Fatal, message: why.to_string() }
    }

    /// Will the record be tried again?
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.kind == Kind::Retryable
    }

    /// Is the record itself at fault?
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        self.kind == Kind::Invalid
    }

    /// Does it stop the worker?
    #[must_use]
    pub fn is_fatal(&self) -> bool {
        self.kind == Kind::Fatal
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// A `HandlerError` is no `std::error::Error` itself: that is what makes `?` work on all others.
impl<E: std::error::Error> From<E> for HandlerError {
    fn from(error: E) -> Self {
        Self::retryable(error)
    }
}

/// Why a worker ended, or could not start.
///
/// ```
/// use pelton::WorkerError;
///
/// let error = WorkerError::Declaration("the store name \"a b\" is no legal topic name".into());
/// assert_eq!(error.code(), "PLT-0201");
/// assert_eq!(error.exit_code(), 2);
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkerError {
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Inputs, outputs or stores are declared in a way that can't work.
    #[error("PLT-0201: {0}")]
    Declaration(String),
    /// Kafka refused something the worker can't do without, or can't be reached at start-up.
    #[error("PLT-0301: {0}")]
    Kafka(String),
    /// A topic is missing, or is not as the worker needs it.
    #[error("PLT-0302: {0}")]
    Topic(String),
    /// There is no commit and `auto_offset_reset` is `error`.
    #[error(
        "PLT-0303: {partition} has no committed offset and auto_offset_reset is \"error\"; \
         set it to \"earliest\", \"latest\" or a time (\"@2026-11-24T00:00:00Z\"), or commit an \
         offset with kafka-consumer-groups --reset-offsets"
    )]
    NoCommittedOffset {
        /// The partition without a commit.
        partition: TopicPartition,
    },
    /// The offset to read is not in the log: records were deleted or the topic was recreated.
    #[error(
        "PLT-0304: offset {offset} of {partition} is out of range: the log holds {low} to {high}; \
         {reason}; set on_out_of_range to \"earliest\" or \"latest\" to let the worker go on by \
         itself, or decide with kafka-consumer-groups --reset-offsets where to go on"
    )]
    OutOfRange {
        /// Which partition.
        partition: TopicPartition,
        /// The offset that was to be read.
        offset: i64,
        /// The oldest offset that is there.
        low: i64,
        /// The log's end.
        high: i64,
        /// What had happened, and how large the gap is.
        reason: String,
    },
    /// The topic was deleted and made anew: its offsets mean other records.
    #[error(
        "PLT-0306: the topic of {partition} was deleted and created again; the position {offset} \
         belongs to the old one, and going on there would skip records of the new; set \
         on_out_of_range to \"earliest\" to read the new one from its beginning (\"latest\": from \
         its end), or decide with kafka-consumer-groups --reset-offsets where to go on"
    )]
    TopicRecreated {
        /// Which partition.
        partition: TopicPartition,
        /// The offset to read next, in the old topic.
        offset: i64,
    },
    /// The topic has more partitions than the store's changelog.
    #[error(
        "PLT-0305: {topic} has {partitions} partitions but the changelog {changelog} has \
         {changelog_partitions}: with more partitions keys move, and their state would not move \
         with them; stop the group, rebuild the state from the input under a new group_id, or \
         recreate the topic with {changelog_partitions} partitions"
    )]
    PartitionsGrew {
        /// The input topic.
        topic: String,
        /// Its partitions now.
        partitions: i32,
        /// The store's changelog.
        changelog: String,
        /// The changelog's partitions.
        changelog_partitions: i32,
    },
    /// Kafka does not accept the login.
    #[error(
        "PLT-0311: Kafka at {bootstrap_servers} does not accept the login: {reason}; {way_out}"
    )]
    Login {
        /// Where.
        bootstrap_servers: String,
        /// What the broker said.
        reason: String,
        /// What mends it.
        way_out: String,
    },
    /// Rights that the worker needs are missing.
    #[error(
        "PLT-0312: Kafka does not allow this worker what it needs: {missing}; grant it, with NAME \
         for the user it logs in as: {commands}"
    )]
    Rights {
        /// Which operations, on what.
        missing: String,
        /// The commands that grant them.
        commands: String,
    },
    /// TLS with a broker can't be had, or the listener speaks another protocol.
    #[error("PLT-0313: no connection that can be used to {bootstrap_servers}: {reason}; {way_out}")]
    Tls {
        /// Where.
        bootstrap_servers: String,
        /// What went wrong.
        reason: String,
        /// What mends it.
        way_out: String,
    },
    /// librdkafka can't make a client from the settings.
    #[error(
        "PLT-0314: no Kafka client can be made from the settings under [kafka]: {reason}; mend the \
         setting that it names"
    )]
    ClientSettings {
        /// What librdkafka says.
        reason: String,
    },
    /// A record is invalid and `on_invalid` is `stop`.
    #[error(
        "PLT-0401: the record at {partition} offset {offset} is invalid: {reason}; mend the \
         producer, or let the program skip such records: its input's `.on_invalid(OnInvalid::Skip)`, \
         or the setting that the program has for it"
    )]
    InvalidRecord {
        /// Which partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// What is wrong with it.
        reason: String,
    },
    /// A handler said that it can't go on.
    #[error("PLT-0402: the handler of {partition} can't go on at offset {offset}: {reason}")]
    Handler {
        /// Which partition.
        partition: TopicPartition,
        /// The record it was at, or -1 in a hook.
        offset: i64,
        /// What it said.
        reason: String,
    },
    /// A store's content can't be read.
    #[error("PLT-0403: the store {store} of {partition} can't be restored: {reason}")]
    Store {
        /// Which store.
        store: String,
        /// Of which partition.
        partition: TopicPartition,
        /// Why.
        reason: String,
    },
    /// The retry policy gives a record up, and its input has no dead letters.
    #[error(
        "PLT-0404: the record at {partition} offset {offset} is given up after {attempts} attempts: \
         {reason}; mend what fails and start again, retry for longer, or give the input a topic for \
         dead letters"
    )]
    GaveUp {
        /// Which partition.
        partition: TopicPartition,
        /// The record's offset.
        offset: i64,
        /// How many attempts failed.
        attempts: u32,
        /// What the last one said.
        reason: String,
    },
    /// Another process has joined with this group instance id.
    #[error(
        "PLT-0501: another member of the group has the group_instance_id of this one \
         ({reason}); give every process its own"
    )]
    InstanceFenced {
        /// What Kafka said.
        reason: String,
    },
    /// The Kafka client can't go on.
    #[error("PLT-0502: the Kafka client can't go on: {reason}")]
    Client {
        /// What it said.
        reason: String,
    },
    /// The shutdown took too long; what was not committed will be repeated.
    #[error(
        "PLT-0503: the shutdown did not finish within {limit:?}: {reason}; what was not \
         committed runs again when the worker is started again"
    )]
    ShutdownTimeout {
        /// `shutdown_timeout`.
        limit: Duration,
        /// What was missing.
        reason: String,
    },
    /// The poll loop hung for so long that the group has given the partitions away.
    #[error(
        "PLT-0504: the poll loop has hung for {silence:?} while {doing}; the group has given its \
         partitions away by now, and only a restart helps"
    )]
    Hangs {
        /// For how long; at least `max_poll_interval_ms`.
        silence: Duration,
        /// What it was doing.
        doing: String,
    },
    /// The admin endpoint can't be opened.
    #[error(transparent)]
    Admin(#[from] crate::admin::AdminError),
    /// Logs or metrics can't be set up.
    #[error(transparent)]
    Telemetry(#[from] crate::telemetry::TelemetryError),
    /// Files can't be kept where `state_dir` says.
    #[error(
        "PLT-0602: the state directory {} can't be used: {reason}; give state_dir a directory \
         that this process may write to, with room on its disk, or leave it out",
        path.display()
    )]
    StateDirectory {
        /// `state_dir`.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The operating system refused something.
    #[error("PLT-0601: {0}")]
    System(String),
}

impl WorkerError {
    /// Its stable code.
    #[must_use]
    pub fn code(&self) -> String {
        let text = self.to_string();
        text.split(':')
            .next()
            .filter(|code| code.starts_with("PLT-"))
            .unwrap_or("PLT-0000")
            .to_owned()
    }

    /// The exit code of a process that ends with it; `docs/errors.md` lists them.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Declaration(_)
            | Self::Telemetry(_)
            | Self::ClientSettings { .. } => 2,
            Self::InvalidRecord { .. } => 3,
            Self::Handler { .. } | Self::GaveUp { .. } => 4,
            Self::ShutdownTimeout { .. } => 5,
            Self::InstanceFenced { .. } => 6,
            Self::Client { .. } => 7,
            Self::Kafka(_) => 8,
            Self::Topic(_)
            | Self::NoCommittedOffset { .. }
            | Self::OutOfRange { .. }
            | Self::TopicRecreated { .. } => 9,
            Self::PartitionsGrew { .. } => 10,
            Self::Store { .. } => 11,
            Self::Hangs { .. } => 12,
            Self::Login { .. } | Self::Tls { .. } => 13,
            Self::Rights { .. } => 14,
            Self::Admin(_) | Self::System(_) | Self::StateDirectory { .. } => 1,
        }
    }
}

/// How a worker's process ends: return it from `main`.
///
/// 0 after a clean shutdown; otherwise the reason is [explained](Self::explain) and the exit code
/// is [`WorkerError::exit_code`].
///
/// ```
/// use pelton::Exit;
///
/// let exit = Exit::from(Ok(()));
/// assert_eq!(exit.code(), 0);
/// ```
#[derive(Debug)]
#[must_use = "return it from main"]
pub struct Exit(Result<(), WorkerError>);

impl Exit {
    /// The exit code.
    #[must_use]
    pub fn code(&self) -> u8 {
        self.0.as_ref().err().map_or(0, WorkerError::exit_code)
    }

    /// Writes the reason, if there is one, to stderr and, on Kubernetes, to the container's
    /// termination log. Never panics, and takes a second at most where stderr is stuck.
    pub fn explain(&self) {
        if let Err(error) = &self.0 {
            farewell::say(&format!("error: {error}"));
        }
    }
}

impl From<Result<(), WorkerError>> for Exit {
    fn from(result: Result<(), WorkerError>) -> Self {
        Self(result)
    }
}

impl Termination for Exit {
    fn report(self) -> ExitCode {
        self.explain();
        ExitCode::from(self.code())
    }
}
