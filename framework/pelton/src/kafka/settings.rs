//! Which librdkafka settings does each client get, and why?
//!
//! Order: our defaults, then what the user passes through (`[kafka]`; the dangerous ones were
//! refused when the configuration was read), then what must hold for the guarantees.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use crate::config::{KafkaSettings, MemoryShares};
use crate::kafka::credentials::Credentials;
use crate::kafka::tokens::Tokens;
use crate::refusals::Refusals;

/// What the clients of one worker are made from.
#[derive(Clone, Debug)]
pub(crate) struct ClientSettings {
    pub(crate) bootstrap_servers: String,
    pub(crate) client_id: String,
    pub(crate) group_id: String,
    pub(crate) group_instance_id: Option<String>,
    pub(crate) protocol: Protocol,
    pub(crate) max_poll_interval_ms: u64,
    /// How soon new partitions and topics are found, at the latest.
    pub(crate) discovery: Duration,
    pub(crate) message_timeout: Duration,
    /// How the memory budget is divided.
    pub(crate) memory: MemoryShares,
    /// What became of user and password since.
    pub(crate) credentials: Arc<Credentials>,
    /// What the user passes through; secrets among it are not in `Debug`.
    pub(crate) pass_through: KafkaSettings,
    /// Where all clients write down what Kafka refuses them.
    pub(crate) refusals: Arc<Refusals>,
    /// Where all clients get their tokens, if they log in with them.
    pub(crate) tokens: Option<Arc<Tokens>>,
}

/// How the group agrees on who owns what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The classic protocol.
    Classic { strategy: &'static str, session_ms: u64, heartbeat_ms: u64 },
    /// KIP-848: sessions and heartbeats are the broker's; librdkafka refuses them.
    Consumer,
}

impl Protocol {
    /// Do partitions come and go one by one?
    pub(crate) fn is_incremental(&self) -> bool {
        match self {
            Self::Classic { strategy, .. } => *strategy == "cooperative-sticky",
            Self::Consumer => true,
        }
    }
}

/// For every client.
const COMMON: &[(&str, &str)] = &[
    // A cloud's load balancer forgets idle connections; better to notice.
    ("socket.keepalive.enable", "true"),
    // The default of 10 s makes a broker's return a long silence.
    ("reconnect.backoff.max.ms", "2000"),
    // A missing topic is an error that we report, never one that appears by being asked for.
    ("allow.auto.create.topics", "false"),
    // Idle connections are closed by brokers as a matter of course.
    ("log.connection.close", "false"),
];

/// For the clients that read.
const READING: &[(&str, &str)] = &[
    // 1,000 by default: the worst throughput trap there is (0.26 instead of 1.23 M records/s).
    ("fetch.queue.backoff.ms", "5"),
    // A start may wait for a fetch in flight; 500 by default.
    ("fetch.wait.max.ms", "100"),
    // No cost that could be measured (hardware CRC32C).
    ("check.crcs", "true"),
    ("queued.min.messages", "20000"),
];

/// Between two looks at who leads the partitions that are written to.
const PRODUCER_REFRESH_MS: &str = "3000";

impl ClientSettings {
    /// The member: joins, commits, never fetches.
    pub(crate) fn member(&self) -> ClientConfig {
        let mut config = self.with_defaults("member", &[]);
        config
            .set("group.id", &self.group_id)
            .set("max.poll.interval.ms", self.max_poll_interval_ms.to_string())
            // New partitions and topics of a pattern are found by this refresh.
            .set("topic.metadata.refresh.interval.ms", self.discovery.as_millis().to_string())
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "false")
            .set("auto.offset.reset", "error")
            // Makes committed() stable: it waits while a transaction is open.
            .set("isolation.level", "read_committed");
        if let Some(instance) = &self.group_instance_id {
            config.set("group.instance.id", instance);
        }
        match &self.protocol {
            Protocol::Classic { strategy, session_ms, heartbeat_ms } => {
                config
                    .set("group.protocol", "classic")
                    .set("partition.assignment.strategy", *strategy)
                    .set("session.timeout.ms", session_ms.to_string())
                    // A hand-over takes about one heartbeat: the default of 3 s is long.
                    .set("heartbeat.interval.ms", heartbeat_ms.to_string());
            }
            Protocol::Consumer => {
                config.set("group.protocol", "consumer");
            }
        }
        config
    }

    /// The fetcher: no group, explicit offsets, an error instead of a silent jump.
    pub(crate) fn fetcher(&self) -> ClientConfig {
        self.reader("fetcher", false)
    }

    /// A fetcher for a restore; it tells the ends of the logs.
    pub(crate) fn restore(&self) -> ClientConfig {
        let mut config = self.reader("restore", true);
        let queue = self.memory.restore_queue_kbytes.to_string();
        config.set("queued.max.messages.kbytes", queue);
        config
    }

    /// Asks about topics.
    pub(crate) fn asking(&self) -> ClientConfig {
        let mut config = self.reader("admin", false);
        // A broker that closes the connection at once speaks another protocol, and only this
        // client is asked for the reason. librdkafka only logs it, as information.
        config.set("log.connection.close", "true").set_log_level(RDKafkaLogLevel::Info);
        config
    }

    fn reader(&self, role: &str, tell_ends: bool) -> ClientConfig {
        // What waits inside librdkafka, and what one response may bring: set aside in the memory
        // budget.
        let memory = &self.memory;
        let queue = memory.fetch_queue_kbytes.to_string();
        let (response, partition) =
            (memory.fetch_response.to_string(), memory.partition_response.to_string());
        let mut defaults = READING.to_vec();
        defaults.extend([
            ("queued.max.messages.kbytes", queue.as_str()),
            ("fetch.max.bytes", &response),
            ("fetch.message.max.bytes", &partition),
        ]);
        let mut config = self.with_defaults(role, &defaults);
        config
            .set("auto.offset.reset", "error")
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", if tell_ends { "true" } else { "false" })
            .set("isolation.level", "read_committed");
        config
    }

    /// The producer: idempotent, short-lived messages.
    pub(crate) fn producer(&self) -> ClientConfig {
        let queue = self.memory.producer_kbytes.to_string();
        let defaults = &[
            // Small enough to stay below the latency of a commit, large enough to batch.
            ("linger.ms", "5"),
            ("compression.type", "lz4"),
            // A worker's undelivered outputs are bounded already; this bounds the client as a
            // whole. 1 GiB by default.
            ("queue.buffering.max.kbytes", &queue),
        ];
        let mut config = self.with_defaults("producer", defaults);
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // Java's default partitioner for keyed records.
            .set("partitioner", "murmur2_random")
            // A partition whose leader was unknown once, while its broker came back, is not asked for
            // again before this refresh: five minutes by default, in which nothing is delivered.
            .set("topic.metadata.refresh.interval.ms", PRODUCER_REFRESH_MS)
            // A frozen process must find its old messages dead when it wakes.
            .set("message.timeout.ms", self.message_timeout.as_millis().to_string());
        config
    }

    /// Creates topics, reads their settings.
    pub(crate) fn changing(&self) -> ClientConfig {
        self.with_defaults("admin", &[])
    }

    fn with_defaults(&self, role: &str, defaults: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (name, value) in COMMON.iter().chain(defaults) {
            config.set(*name, *value);
        }
        for (name, value) in self.pass_through.iter().filter(|(name, _)| applies(name, role)) {
            match name {
                "debug" => config.set(name, without_settings(value)),
                name => config.set(name, value),
            };
        }
        if let Some((user, password)) = self.credentials.changed() {
            config.set("sasl.username", user).set("sasl.password", password);
        }
        config
            .set("bootstrap.servers", &self.bootstrap_servers)
            .set("client.id", &self.client_id)
            // Errors come as events and results; the log lines behind them only double them.
            .set("log_level", "4");
        config
    }
}

/// The word of librdkafka's `debug` that prints all settings, and some that hold secrets here.
const PRINTS_SETTINGS: &str = "conf";

/// What else librdkafka's `debug` knows.
const DEBUG: &[&str] = &[
    "generic",
    "broker",
    "topic",
    "metadata",
    "feature",
    "queue",
    "msg",
    "protocol",
    "cgrp",
    "security",
    "fetch",
    "interceptor",
    "plugin",
    "consumer",
    "admin",
    "eos",
    "mock",
    "assignor",
    "telemetry",
];

/// The words of `debug` less the one that prints the settings; `--print-config` does that.
fn without_settings(debug: &str) -> String {
    let words = debug.split(',').map(str::trim);
    let words = words.flat_map(|word| if word == "all" { DEBUG.to_vec() } else { vec![word] });
    words.filter(|word| *word != PRINTS_SETTINGS).collect::<Vec<_>>().join(",")
}

/// Why librdkafka refuses a value, in its own words (which may repeat the value); `None` if it
/// does not.
pub(crate) fn refusal(name: &str, value: &str) -> Option<String> {
    // To hear of a plugin is to load it.
    if name == "plugin.library.paths" {
        return None;
    }
    match ClientConfig::new().set(name, value).create_native_config() {
        Ok(_) => None,
        Err(KafkaError::ClientConfig(_, reason, _, _)) => Some(reason.trim().to_owned()),
        Err(other) => Some(other.to_string()),
    }
}

/// librdkafka warns of a consumer's setting at a producer and the other way round.
fn applies(name: &str, role: &str) -> bool {
    let writing = [
        "linger.ms",
        "batch.",
        "compression.",
        "queue.buffering.",
        "sticky.partitioning",
        "transaction.",
    ];
    let reading = ["fetch.", "queued.", "check.crcs", "receive.message.max"];
    let is = |prefixes: &[&str]| prefixes.iter().any(|prefix| name.starts_with(prefix));
    match role {
        "producer" => !is(&reading),
        _ => !is(&writing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn settings(protocol: Protocol) -> ClientSettings {
        ClientSettings {
            bootstrap_servers: "localhost:9092".into(),
            client_id: "w".into(),
            group_id: "g".into(),
            group_instance_id: None,
            protocol,
            max_poll_interval_ms: 300_000,
            discovery: Duration::from_secs(30),
            message_timeout: Duration::from_millis(7_500),
            memory: MemoryShares::of(&Settings::default()),
            credentials: Arc::default(),
            pass_through: {
                let mut kafka = KafkaSettings::default();
                kafka.set("linger.ms", "50");
                kafka.set("fetch.wait.max.ms", "10");
                kafka.set("sasl.password", "canary");
                kafka
            },
            refusals: Arc::default(),
            tokens: None,
        }
    }

    #[test]
    fn librdkafka_never_prints_the_settings() {
        let mut settings = settings(Protocol::Consumer);
        for (given, passed) in [("conf", ""), ("security, conf", "security"), ("all,conf", "all")] {
            settings.pass_through.set("debug", given);
            let config = settings.fetcher();
            let words = config.get("debug").unwrap_or_default();
            assert!(!words.split(',').any(|word| word == PRINTS_SETTINGS || word == "all"));
            assert!(passed == "all" || words == passed, "{words}");
        }
        // Nothing else of what `all` stands for is lost.
        let known = crate::kafka::properties().into_iter().find(|known| known.name == "debug");
        let known = known.expect("librdkafka can be debugged").range;
        let other = known.split(", ").filter(|word| !["all", PRINTS_SETTINGS].contains(word));
        assert_eq!(other.collect::<Vec<_>>(), DEBUG);
    }

    #[test]
    fn secrets_are_not_in_debug() {
        let shown = format!("{:?}", settings(Protocol::Consumer));
        assert!(shown.contains("sasl.password") && !shown.contains("canary"), "{shown}");
    }

    #[test]
    fn kip_848_gets_no_session_settings_because_librdkafka_refuses_them() {
        let config = settings(Protocol::Consumer).member();
        assert_eq!(config.get("session.timeout.ms"), None);
        assert_eq!(config.get("group.protocol"), Some("consumer"));
    }

    #[test]
    fn what_is_passed_through_reaches_the_clients_it_is_for() {
        let settings = settings(Protocol::Consumer);
        assert_eq!(settings.producer().get("linger.ms"), Some("50"));
        assert_eq!(settings.producer().get("fetch.wait.max.ms"), None);
        assert_eq!(settings.fetcher().get("fetch.wait.max.ms"), Some("10"));
    }

    #[test]
    fn clients_made_after_a_change_log_in_with_the_new_password() {
        let mut settings = settings(Protocol::Consumer);
        settings.pass_through.set("sasl.password", "old");
        assert_eq!(settings.restore().get("sasl.password"), Some("old"));
        settings.credentials.change("alice", "new");
        let configs = [settings.member(), settings.fetcher(), settings.restore()];
        for config in configs.into_iter().chain([settings.producer(), settings.changing()]) {
            assert_eq!(config.get("sasl.username"), Some("alice"));
            assert_eq!(config.get("sasl.password"), Some("new"));
        }
    }

    #[test]
    fn inv_1_no_client_commits_or_jumps_by_itself() {
        let settings = settings(Protocol::Consumer);
        for config in [settings.member(), settings.fetcher(), settings.restore(), settings.asking()]
        {
            assert_eq!(config.get("enable.auto.commit"), Some("false"));
            assert_eq!(config.get("enable.auto.offset.store"), Some("false"));
            assert_eq!(config.get("auto.offset.reset"), Some("error"));
        }
    }

    #[test]
    fn the_default_build_has_tls_sasl_scram_and_every_usual_compression() {
        let native = ClientConfig::new().create_native_config().expect("a configuration");
        let features = native.get("builtin.features").expect("its features");
        for feature in ["ssl", "sasl_plain", "sasl_scram", "gzip", "snappy", "lz4", "zstd"] {
            assert!(
                features.split(',').any(|found| found.trim() == feature),
                "{feature}: {features}"
            );
        }
    }
}
