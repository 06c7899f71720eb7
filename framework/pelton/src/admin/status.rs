//! What does a worker say about itself?

use serde::{Deserialize, Serialize};

/// Gives the endpoint its answers.
///
/// Both methods are called on a tokio worker thread for each request: they must return at once,
/// from what is already known, and must not wait for a lock that is held long.
///
/// ```
/// use pelton::admin::{Health, PartitionStatus, Status};
///
/// /// A worker that waits for its group.
/// struct Waiting;
///
/// impl Status for Waiting {
///     fn health(&self) -> Health {
///         Health::starting("login-counter-1", "login-counter")
///     }
///     fn partitions(&self) -> Vec<PartitionStatus> {
///         Vec::new()
///     }
/// }
/// assert!(!Waiting.health().started);
/// ```
pub trait Status: Send + Sync + 'static {
    /// How the worker is.
    fn health(&self) -> Health;

    /// What it owns, in the order of topic and partition.
    fn partitions(&self) -> Vec<PartitionStatus>;

    /// How its memory budget is used; `None` if that is not known (yet).
    fn memory(&self) -> Option<MemoryStatus> {
        None
    }
}

/// How a worker uses its memory budget, in bytes; the figures of `pelton_memory_used_bytes`.
///
/// ```
/// use pelton::admin::MemoryStatus;
///
/// let memory = MemoryStatus { budget_bytes: 300, records_bytes: 90, ..MemoryStatus::default() };
/// assert_eq!(memory.used_bytes(), 90);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryStatus {
    /// The setting `memory_budget`.
    pub budget_bytes: u64,
    /// Set aside for what librdkafka fetches ahead.
    pub fetch_ahead_bytes: u64,
    /// Set aside for restores, where there are changelogs.
    pub restores_bytes: u64,
    /// Records read and not yet done.
    pub records_bytes: u64,
    /// Outputs and changelog records not delivered, with the client's copies.
    pub outputs_bytes: u64,
    /// Writes to stores whose commit is not known. What is committed is not counted.
    pub stores_bytes: u64,
}

impl MemoryStatus {
    /// All parts together.
    #[must_use]
    pub fn used_bytes(&self) -> u64 {
        self.fetch_ahead_bytes
            + self.restores_bytes
            + self.records_bytes
            + self.outputs_bytes
            + self.stores_bytes
    }
}

/// How a worker is.
///
/// ```
/// use pelton::admin::Health;
///
/// let health = Health::starting("login-counter-1", "login-counter");
/// assert!(health.live && !health.ready);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// False when only a restart helps.
    pub live: bool,
    /// Assigned (perhaps to nothing) and restored.
    pub ready: bool,
    /// Has joined its group once.
    pub started: bool,
    /// Why any of the three is false.
    pub reasons: Vec<String>,
    /// The worker's client id.
    pub worker: String,
    /// Its group.
    pub group: String,
}

impl Health {
    /// A worker that lives and has not joined its group yet.
    #[must_use]
    pub fn starting(worker: &str, group: &str) -> Self {
        Self {
            live: true,
            ready: false,
            started: false,
            reasons: vec!["the worker has not joined its group yet".to_owned()],
            worker: worker.to_owned(),
            group: group.to_owned(),
        }
    }
}

/// Where a partition stands on its way through a worker.
///
/// ```
/// use pelton::admin::PartitionState;
///
/// assert_eq!(serde_json::to_string(&PartitionState::Running).unwrap(), "\"running\"");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum PartitionState {
    /// Given by the group; its committed offset is being read.
    Assigned,
    /// Its stores are being rebuilt.
    Restoring,
    /// Its records are handled.
    Running,
    /// Asked back: what has started is being finished.
    Draining,
}

/// One partition a worker owns. An offset that is not known yet is absent.
///
/// ```
/// use pelton::admin::{PartitionState, PartitionStatus};
///
/// let logins = PartitionStatus::new("user_logins", 2, PartitionState::Assigned);
/// assert_eq!(logins.lag, None);
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// The topic.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// Where it stands.
    pub state: PartitionState,
    /// Paused by the setting `paused_topics`: it is ours, and nothing of it is read or started.
    #[serde(default)]
    pub paused: bool,
    /// Its input's breaker is open, or probes: nothing of the input starts but one record at a time.
    #[serde(default)]
    pub breaker_open: bool,
    /// Offset of the next record to read.
    pub position: Option<i64>,
    /// Offset the group has stored.
    pub committed: Option<i64>,
    /// End of the log as last seen.
    pub end_offset: Option<i64>,
    /// `end_offset` − `committed`, in records.
    pub lag: Option<i64>,
    /// Age of the oldest unfinished record, in seconds.
    pub time_lag_seconds: Option<f64>,
    /// For how long its handler has held a thread without yielding, where that is a second or
    /// more.
    #[serde(default)]
    pub blocking_seconds: Option<f64>,
    /// Where it went on when its position was not in its log, if that has happened since it was
    /// assigned to this worker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_jump: Option<JumpStatus>,
}

/// Where a partition went on whose position was not in its log.
///
/// ```
/// use pelton::admin::JumpStatus;
///
/// let text = r#"{"cause":"records were deleted before they were read","position":100,
///     "log_start":120,"log_end":150,"gap_records":20,"went_on_at":150,"skipped_records":50}"#;
/// let jump: JumpStatus = serde_json::from_str(text).unwrap();
/// assert_eq!(jump.skipped_records, 50); // 20 were gone, 30 were passed over
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JumpStatus {
    /// What had happened, in words.
    pub cause: String,
    /// The offset that was to be read.
    pub position: i64,
    /// The first offset of the log.
    pub log_start: i64,
    /// The log's end.
    pub log_end: i64,
    /// By how many records the position missed the log.
    pub gap_records: u64,
    /// The offset at which reading went on.
    pub went_on_at: i64,
    /// How many offsets at least are never read.
    pub skipped_records: u64,
}

impl PartitionStatus {
    /// A partition of which nothing but its state is known.
    #[must_use]
    pub fn new(topic: impl Into<String>, partition: i32, state: PartitionState) -> Self {
        Self {
            topic: topic.into(),
            partition,
            state,
            paused: false,
            breaker_open: false,
            position: None,
            committed: None,
            end_offset: None,
            lag: None,
            time_lag_seconds: None,
            blocking_seconds: None,
            last_jump: None,
        }
    }
}
