//! What can be set about a worker, with which default, and why that default?

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::choices::{
    AssignmentStrategy, AutoOffsetReset, GroupProtocol, Guarantee, LogFormat, OnOutOfRange,
};
use super::error::ConfigError;
use super::inputs::InputSettings;
use super::origin::{Origin, Origins};
use super::pass_through::KafkaSettings;
use super::reload::Source;
#[cfg(test)]
use super::schema;
use super::secret_file;
use super::units::{self, ByteCount};

/// A worker's settings, all but the application's own.
///
/// A field's name is its key in the file; `PELTON__` and the name in capitals is its environment
/// variable. [`check`](Self::check) says whether they can hold together; nothing else does, so a
/// program may build them in code and check at the end.
///
/// ```
/// use pelton::config::{AutoOffsetReset, Settings};
///
/// let mut settings = Settings::default();
/// settings.bootstrap_servers = "localhost:9092".to_owned();
/// settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
/// assert!(settings.check().is_ok());
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct Settings {
    /// Addresses of some brokers, `host:port`, comma-separated; the others are learnt from them.
    /// No default: a wrong cluster is worse than none.
    pub bootstrap_servers: String,

    /// The consumer group; copies of a program that share one share its work. Default: the
    /// application's name.
    pub group_id: Option<String>,

    /// The name this client has in broker logs and tools. Default: chosen by the worker.
    pub client_id: Option<String>,

    /// Makes the member *static*: it keeps its partitions over a restart shorter than the
    /// session timeout. Unique in the group. Default: none, members are dynamic.
    pub group_instance_id: Option<String>,

    /// `classic` (default: every broker speaks it) or `consumer` (KIP-848, brokers from 4.0).
    pub group_protocol: GroupProtocol,

    /// `cooperative-sticky` (default: only moving partitions stop), `range` or `roundrobin`.
    /// Classic groups only. `sticky` is refused: librdkafka has none.
    pub assignment_strategy: AssignmentStrategy,

    /// Where a partition without a committed offset starts: `earliest`, `latest`, `error`, or at a
    /// time (`@2026-11-24T00:00:00Z`, or `@` and milliseconds since 1970). No default: `latest`
    /// loses what arrives before the first commit, `earliest` may read years.
    #[cfg_attr(test, schemars(schema_with = "schema::start"))]
    pub auto_offset_reset: Option<AutoOffsetReset>,

    /// What becomes of a position that is not in its log (records were deleted before they were
    /// read, the log was truncated, the topic recreated): `fail` (default: the worker ends and
    /// says how large the gap is), `earliest` or `latest` (it goes on there, and says so). What was
    /// read before is finished first; `guarantees.md` says more.
    pub on_out_of_range: OnOutOfRange,

    /// Milliseconds without a heartbeat after which the broker takes a member for dead. Default
    /// 15,000: a crash is noticed soon, a long pause is survived. In a KIP-848 group the broker
    /// owns this time; the value then only tells Pelton what the broker's is, and must not be
    /// above it: Pelton stops writing in time by it.
    pub session_timeout_ms: u32,

    /// Milliseconds between heartbeats. Default 1,000: members hear of a rebalance with their
    /// next heartbeat. At most a third of the session timeout. Classic groups only.
    pub heartbeat_interval_ms: u32,

    /// Milliseconds within which a revocation must be acknowledged. Default 300,000, Kafka's.
    /// How long a handler takes does not count against it.
    pub max_poll_interval_ms: u32,

    /// Records handed to the partitions per step of the poll loop. Default 500, Kafka's.
    pub max_poll_records: u32,

    /// `at_least_once` (default): nothing is lost; after a failure effects may repeat.
    pub guarantee: Guarantee,

    /// How often done work is committed. Default 1 s: so much may repeat after a crash.
    #[serde(with = "units::duration")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub commit_interval: Duration,

    /// How long a revoked partition may take to finish what it started. Below half of
    /// `max_poll_interval_ms`, past which the broker removes the member without a word. Default:
    /// the lesser of 10 s and a third of `max_poll_interval_ms`.
    #[serde(with = "units::optional_duration")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub drain_timeout: Option<Duration>,

    /// How long a graceful shutdown may take in all. Default 25 s: it fits a 30 s grace period.
    #[serde(with = "units::duration")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub shutdown_timeout: Duration,

    /// Bytes that fetched records and their effects may take together: what librdkafka fetches
    /// ahead, records that wait, outputs until they are delivered, writes to stores until their
    /// commit is known. Default 256 MiB, at least 32 MiB.
    pub memory_budget: ByteCount,

    /// Records a worker holds at most. Default 100,000: small records cost more than their bytes.
    pub memory_budget_records: u64,

    /// Input topics that are not worked on for now: nothing of them is fetched or started, what
    /// runs finishes; membership, commits and hand-overs go on. Default none. Reloadable.
    pub paused_topics: Vec<String>,

    /// Records whose handling the worker starts in a second at most, retries included, over all
    /// its partitions. Default, and 0: no limit. At most 1,000,000. Reloadable.
    pub max_records_per_second: Option<u32>,

    /// How long a new partition may stay unnoticed. Default 30 s.
    #[serde(with = "units::duration")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub partition_discovery_interval: Duration,

    /// Where a worker may keep files over a restart; made if it is not there, and tried before the
    /// worker joins (`PLT-0602`). Default: nowhere, stores live in memory.
    pub state_dir: Option<PathBuf>,

    /// A file with the JSON web token to log in with (`sasl.mechanism` is `OAUTHBEARER`), read
    /// anew when four fifths of the token's life are over: somebody must keep it fresh, as
    /// Kubernetes does with projected service account tokens. Default: none.
    pub oauth_token_file: Option<PathBuf>,

    /// The rules of single inputs, by topic, where they are to be others than the program's:
    /// `[inputs."user_logins"]`.
    pub inputs: BTreeMap<String, InputSettings>,

    /// The endpoint for health, metrics and state: `[admin]`.
    pub admin: AdminSettings,

    /// What is logged, and how: `[log]`.
    pub log: LogSettings,

    /// Settings of librdkafka, for all clients: `[kafka]`.
    pub kafka: KafkaSettings,

    /// Where each value came from; empty for settings built in code.
    #[serde(skip)]
    pub(super) origins: Origins,

    /// Where they were read; none for settings built in code.
    #[serde(skip)]
    pub(super) source: Option<Source>,
}

/// The settings that a running worker takes over when they are read again; all others need a
/// restart. `TOPIC` stands for any.
pub(super) const RELOADABLE: &[&str] = &[
    "log.filter",
    "paused_topics",
    "max_records_per_second",
    "inputs.TOPIC.max_records_per_second",
    "kafka.sasl.username",
    "kafka.sasl.password",
];

impl Settings {
    /// Did anybody give a value for `key` (`admin.listen`)?
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.origins.given(key).is_some()
    }

    /// `max_records_per_second`, if it sets a limit.
    pub(crate) fn pace(&self) -> Option<NonZeroU32> {
        self.max_records_per_second.and_then(NonZeroU32::new)
    }

    /// The key path of each secret that stands in a file of its own (`kafka.sasl.password`, an
    /// application's own too), and that file.
    pub fn secret_files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.origins.secret_files()
    }

    /// Reads the secret at `key` again from its file, as after a rotation; `None` if it did not
    /// come from one. The settings stay as they are.
    ///
    /// # Errors
    ///
    /// If the file can't be read or holds no secret.
    #[must_use]
    pub fn secret_again(&self, key: &str) -> Option<Result<String, ConfigError>> {
        let Some(Origin::SecretFile { path, named_by }) = self.origins.given(key) else {
            return None;
        };
        Some(secret_file::read(path).map_err(|problem| ConfigError::SecretFile {
            key: key.to_owned(),
            path: path.clone(),
            origin: (**named_by).clone(),
            problem,
        }))
    }

    /// How long a drain may take: what was set, or the lesser of 10 s and a third of
    /// `max_poll_interval_ms`.
    #[must_use]
    pub fn effective_drain_timeout(&self) -> Duration {
        let third = self.max_poll_interval() / 3;
        self.drain_timeout.unwrap_or_else(|| third.min(Duration::from_secs(10)))
    }

    /// `max_poll_interval_ms` as a length of time.
    #[must_use]
    pub fn max_poll_interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.max_poll_interval_ms))
    }

    /// `session_timeout_ms` as a length of time.
    #[must_use]
    pub fn session_timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.session_timeout_ms))
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            bootstrap_servers: String::new(),
            group_id: None,
            client_id: None,
            group_instance_id: None,
            group_protocol: GroupProtocol::default(),
            assignment_strategy: AssignmentStrategy::default(),
            auto_offset_reset: None,
            on_out_of_range: OnOutOfRange::default(),
            session_timeout_ms: 15_000,
            heartbeat_interval_ms: 1_000,
            max_poll_interval_ms: 300_000,
            max_poll_records: 500,
            guarantee: Guarantee::default(),
            commit_interval: Duration::from_secs(1),
            drain_timeout: None,
            shutdown_timeout: Duration::from_secs(25),
            memory_budget: ByteCount::from_mib(256),
            memory_budget_records: 100_000,
            paused_topics: Vec::new(),
            max_records_per_second: None,
            partition_discovery_interval: Duration::from_secs(30),
            state_dir: None,
            oauth_token_file: None,
            inputs: BTreeMap::new(),
            admin: AdminSettings::default(),
            log: LogSettings::default(),
            kafka: KafkaSettings::default(),
            origins: Origins::default(),
            source: None,
        }
    }
}

/// Where the admin endpoint listens.
///
/// ```
/// use pelton::config::AdminSettings;
///
/// assert!(AdminSettings::default().listen.ip().is_loopback());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct AdminSettings {
    /// Whether there is an endpoint. Default: yes.
    pub enabled: bool,
    /// Address and port; port 0 takes any free one. Default `127.0.0.1:9464`: only this machine,
    /// since the endpoint asks for no password. Where nobody gives an address and that port is
    /// taken (a second copy on one machine), any free one is taken and named in the log.
    #[serde(deserialize_with = "units::address")]
    #[cfg_attr(test, schemars(schema_with = "schema::address"))]
    pub listen: SocketAddr,
}

impl Default for AdminSettings {
    fn default() -> Self {
        Self { enabled: true, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 9464)) }
    }
}

/// What is logged, and how.
///
/// ```
/// use pelton::config::{LogFormat, LogSettings};
///
/// let log = LogSettings::default();
/// assert_eq!((log.filter.as_str(), log.format), ("info", LogFormat::Text));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct LogSettings {
    /// A level (`error`, `warn`, `info`, `debug`, `trace`), or several per module:
    /// `info,pelton=debug`. Default `info`. Reloadable.
    pub filter: String,
    /// `text` (default) or `json`. Both go to stderr.
    pub format: LogFormat,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: LogFormat::default() }
    }
}
