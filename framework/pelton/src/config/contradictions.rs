//! Can these settings hold together?
//!
//! Only what can't work, or can't mean what it says, is refused: a password that is never sent, a
//! drain that outlasts the shutdown. What librdkafka would refuse at start is refused here, with
//! its place and its way out.

use std::time::Duration;

use super::choices::{AssignmentStrategy, GroupProtocol};
use super::error::ConfigError;
use super::nearest::nearest;
use super::settings::Settings;
use super::units::duration::written;

/// How a client may prove who it is.
const MECHANISMS: [&str; 5] = ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI"];

/// librdkafka's own defaults, and ours, of what is compared here.
const RECEIVE_MAX_BYTES: u64 = 100_000_000;
const FETCH_MAX_BYTES: u64 = 16 * 1024 * 1024;

/// An output lives at least so long, whatever the session timeout.
const LEAST_MESSAGE_TIMEOUT_MS: f64 = 1_000.0;

impl Settings {
    pub(super) fn check_together(&self) -> Result<(), ConfigError> {
        self.check_drain()?;
        match self.group_protocol {
            GroupProtocol::Classic => self.check_classic()?,
            GroupProtocol::Consumer => self.check_consumer()?,
        }
        self.check_sizes()?;
        self.check_times()?;
        self.check_security()
    }

    fn check_drain(&self) -> Result<(), ConfigError> {
        let drain = self.effective_drain_timeout();
        if drain >= self.max_poll_interval() / 2 {
            let key =
                if self.drain_timeout.is_some() { "drain_timeout" } else { "max_poll_interval_ms" };
            return Err(self.contradiction(
                key,
                format!(
                    "a drain of {} must end before half of `max_poll_interval_ms` ({}): past that \
                 interval the broker gives the partitions away without a word; shorten \
                 `drain_timeout` or lengthen `max_poll_interval_ms`",
                    written(drain),
                    self.max_poll_interval_ms,
                ),
            ));
        }
        if self.drain_timeout.is_some_and(|drain| drain >= self.shutdown_timeout) {
            return Err(self.contradiction(
                "drain_timeout",
                format!(
                    "a shutdown drains everything and then commits, delivers and leaves; {} of \
                     draining leave no time for that within `shutdown_timeout` ({}). Shorten \
                     `drain_timeout` or lengthen `shutdown_timeout`",
                    written(drain),
                    written(self.shutdown_timeout),
                ),
            ));
        }
        Ok(())
    }

    fn check_classic(&self) -> Result<(), ConfigError> {
        let (session, heartbeat) = (self.session_timeout_ms, self.heartbeat_interval_ms);
        if u64::from(heartbeat) * 3 > u64::from(session) {
            let key = self.first_given(&["heartbeat_interval_ms", "session_timeout_ms"]);
            return Err(self.contradiction(
                &key,
                format!(
                    "{heartbeat} ms between heartbeats are more than a third of \
                     `session_timeout_ms` ({session}): two lost heartbeats would cost the \
                     membership; shorten them or lengthen the session"
                ),
            ));
        }
        if self.max_poll_interval_ms < session {
            return Err(self.contradiction(
                &self.first_given(&["session_timeout_ms", "max_poll_interval_ms"]),
                format!(
                    "a session of {session} ms is more than `max_poll_interval_ms` ({}), which librdkafka refuses; \
                 shorten it or lengthen `max_poll_interval_ms`",
                    self.max_poll_interval_ms
                ),
            ));
        }
        if self.kafka.value("group.remote.assignor").is_some() {
            return Err(self.contradiction(
                "kafka.group.remote.assignor",
                "in a classic group the members assign; remove it, or set \
                 `group_protocol = \"consumer\"`"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    fn check_consumer(&self) -> Result<(), ConfigError> {
        let given = |key| self.origins.given(key).is_some();
        let strategy = self.assignment_strategy != AssignmentStrategy::default();
        if strategy || given("assignment_strategy") {
            return Err(self.contradiction(
                "assignment_strategy",
                "with `group_protocol = \"consumer\"` the broker assigns; remove it, or name the \
                 broker's assignor with `\"group.remote.assignor\"` under [kafka]"
                    .to_owned(),
            ));
        }
        let heartbeat = self.heartbeat_interval_ms != Self::default().heartbeat_interval_ms;
        if heartbeat || given("heartbeat_interval_ms") {
            return Err(self.contradiction(
                "heartbeat_interval_ms",
                "with `group_protocol = \"consumer\"` it is the broker's; remove it, or set \
                 consumer.heartbeat.interval.ms on the group with kafka-configs"
                    .to_owned(),
            ));
        }
        Ok(())
    }

    /// One record, and one answer of a broker, must find room.
    fn check_sizes(&self) -> Result<(), ConfigError> {
        let budget = self.memory_budget.as_u64();
        for name in ["message.max.bytes", "fetch.message.max.bytes", "max.partition.fetch.bytes"] {
            if let Some(bytes) = self.kafka_number(name).filter(|bytes| *bytes > budget) {
                return Err(self.contradiction(
                    &self.first_given(&["memory_budget", &format!("kafka.{name}")]),
                    format!(
                        "one record may have {bytes} bytes (`kafka.{name}`), which is more than \
                         {}; raise the budget or lower the other",
                        self.memory_budget
                    ),
                ));
            }
        }
        let both = ["memory_budget_records", "max_poll_records"].map(|key| self.is_given(key));
        if both == [true, true] && self.memory_budget_records < u64::from(self.max_poll_records) {
            return Err(self.contradiction(
                "memory_budget_records",
                format!(
                    "one step of the poll loop may bring {} records (`max_poll_records`), which is \
                     more than {}; raise the budget or lower the other",
                    self.max_poll_records, self.memory_budget_records
                ),
            ));
        }
        let fetch = self.kafka_number("fetch.max.bytes");
        let answer = self.kafka_number("receive.message.max.bytes");
        let (fetch_bytes, answer_bytes) =
            (fetch.unwrap_or(FETCH_MAX_BYTES), answer.unwrap_or(RECEIVE_MAX_BYTES));
        if (fetch.is_some() || answer.is_some()) && answer_bytes < fetch_bytes.saturating_add(512) {
            let key =
                if answer.is_some() { "receive.message.max.bytes" } else { "fetch.max.bytes" };
            return Err(self.contradiction(
                &format!("kafka.{key}"),
                format!(
                    "an answer of {fetch_bytes} bytes (`fetch.max.bytes`) and 512 bytes around it \
                     don't fit into {answer_bytes} (`receive.message.max.bytes`); raise the second \
                     or lower the first"
                ),
            ));
        }
        if let Some(least) = self.kafka_number("fetch.min.bytes").filter(|min| *min > fetch_bytes) {
            return Err(self.contradiction(
                "kafka.fetch.min.bytes",
                format!(
                    "no answer reaches {least} bytes when it may have {fetch_bytes} at most \
                     (`fetch.max.bytes`), so each one comes late; lower it"
                ),
            ));
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), ConfigError> {
        for name in ["linger.ms", "queue.buffering.max.ms"] {
            let linger =
                self.kafka.value(name).and_then(|linger| linger.trim().parse::<f64>().ok());
            if linger.is_some_and(|linger| linger >= LEAST_MESSAGE_TIMEOUT_MS) {
                return Err(self.contradiction(
                    &format!("kafka.{name}"),
                    "outputs that wait so long to be sent outlive their time (`message.timeout.ms`, \
                     derived from `session_timeout_ms`); stay below 1000"
                        .to_owned(),
                ));
            }
        }
        let discovery = self.partition_discovery_interval;
        let age = self.kafka_number("metadata.max.age.ms").map(Duration::from_millis);
        if let Some(age) = age.filter(|age| *age < discovery) {
            return Err(self.contradiction(
                "kafka.metadata.max.age.ms",
                format!(
                    "topics would be forgotten after {} and asked for every {} \
                     (`partition_discovery_interval`); raise it to three times that, or remove it",
                    written(age),
                    written(discovery)
                ),
            ));
        }
        Ok(())
    }

    /// What is given for TLS and SASL must be used, and what SASL needs must be given.
    fn check_security(&self) -> Result<(), ConfigError> {
        let protocol = self.kafka.value("security.protocol").unwrap_or("plaintext");
        let protocol = protocol.trim().to_ascii_lowercase();
        let given =
            |prefix| self.kafka.iter().map(|(key, _)| key).find(|key| key.starts_with(prefix));
        let (tls, sasl) = (protocol.ends_with("ssl"), protocol.starts_with("sasl"));
        let unused = [
            (tls, "ssl.", "nothing is encrypted", "\"ssl\" or \"sasl_ssl\""),
            (sasl, "sasl.", "nobody is asked who they are", "\"sasl_ssl\""),
        ];
        for (_, prefix, so, words) in unused.into_iter().filter(|(used, ..)| !used) {
            let Some(key) = given(prefix) else { continue };
            return Err(self.contradiction(
                &format!("kafka.{key}"),
                format!(
                    "with `\"security.protocol\" = \"{protocol}\"` {so}; write {words} there, or \
                     remove this"
                ),
            ));
        }
        if sasl { self.check_sasl() } else { Ok(()) }
    }

    fn check_sasl(&self) -> Result<(), ConfigError> {
        let missing = |key: &str, way_out: String| ConfigError::Missing {
            key: format!("kafka.{key}"),
            way_out,
        };
        let names = ["sasl.mechanisms", "sasl.mechanism"];
        let given = names.iter().find_map(|name| Some((*name, self.kafka.value(name)?)));
        let Some((name, mechanism)) = given else {
            let way_out = "with SASL the brokers want to know how the client proves who it is; \
                           write \"SCRAM-SHA-512\", or what they ask for";
            return Err(missing(names[0], way_out.to_owned()));
        };
        if !MECHANISMS.contains(&mechanism) {
            let known = MECHANISMS.join(", ");
            let problem = match nearest(mechanism, MECHANISMS) {
                Some(near) => {
                    format!("no such mechanism; did you mean \"{near}\"? (one of {known})")
                }
                None => format!("no such mechanism; write one of {known}"),
            };
            return Err(self.invalid(&format!("kafka.{name}"), problem));
        }
        let asks = mechanism == "PLAIN" || mechanism.starts_with("SCRAM");
        for key in ["sasl.username", "sasl.password"] {
            if asks && self.kafka.value(key).is_none_or(str::is_empty) {
                let way_out = format!(
                    "{mechanism} needs it; write it under [kafka], or name a file that holds it: \
                     `\"{key}\".file = \"/run/secrets/…\"`"
                );
                return Err(missing(key, way_out));
            }
        }
        Ok(())
    }

    /// Of the settings that contradict each other, the one that somebody gave.
    fn first_given(&self, keys: &[&str]) -> String {
        let given = keys.iter().find(|key| self.is_given(key)).or_else(|| keys.first());
        given.map_or_else(String::new, |key| (*key).to_owned())
    }

    fn kafka_number(&self, name: &str) -> Option<u64> {
        self.kafka.value(name)?.trim().parse().ok()
    }

    pub(super) fn contradiction(&self, key: &str, reason: String) -> ConfigError {
        ConfigError::Contradiction { origin: self.origins.of(key), key: key.to_owned(), reason }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AssignmentStrategy, GroupProtocol, Settings};
    use crate::config::AutoOffsetReset;

    fn with(change: impl FnOnce(&mut Settings)) -> Result<(), String> {
        let mut settings = Settings {
            bootstrap_servers: "localhost:9092".to_owned(),
            auto_offset_reset: Some(AutoOffsetReset::Error),
            ..Settings::default()
        };
        change(&mut settings);
        settings.check().map_err(|error| error.to_string())
    }

    #[test]
    fn a_drain_must_end_before_half_the_poll_interval() {
        let error = with(|settings| {
            settings.max_poll_interval_ms = 20_000;
            settings.drain_timeout = Some(Duration::from_secs(10));
        });
        assert_eq!(
            error.unwrap_err(),
            "PLT-0108: `drain_timeout` from the program's code contradicts another setting: a \
             drain of 10s must end before half of `max_poll_interval_ms` (20000): past that \
             interval the broker gives the partitions away without a word; shorten \
             `drain_timeout` or lengthen `max_poll_interval_ms`"
        );
        assert_eq!(with(|settings| settings.max_poll_interval_ms = 20_000), Ok(()));
    }

    #[test]
    fn a_heartbeat_fits_three_times_into_a_session() {
        let error = with(|settings| settings.heartbeat_interval_ms = 5_001).unwrap_err();
        assert!(error.starts_with("PLT-0108: `heartbeat_interval_ms`"), "{error}");
        assert_eq!(with(|settings| settings.heartbeat_interval_ms = 5_000), Ok(()));
        let error = with(|settings| settings.max_poll_interval_ms = 14_999).unwrap_err();
        assert!(error.starts_with("PLT-0108: `session_timeout_ms`"), "{error}");
    }

    #[test]
    fn under_kip_848_what_is_the_brokers_is_refused() {
        let kip = |settings: &mut Settings| settings.group_protocol = GroupProtocol::Consumer;
        assert_eq!(with(kip), Ok(()));
        let error = with(|settings| {
            kip(settings);
            settings.assignment_strategy = AssignmentStrategy::Range;
        });
        assert!(error.unwrap_err().contains("group.remote.assignor"));
        let error = with(|settings| {
            kip(settings);
            settings.heartbeat_interval_ms = 500;
        });
        assert!(error.unwrap_err().contains("consumer.heartbeat.interval.ms"));
        // The session timeout may be told: Pelton reckons with it, librdkafka never hears it.
        let told = with(|settings| {
            kip(settings);
            settings.session_timeout_ms = 45_000;
        });
        assert_eq!(told, Ok(()));
        let error = with(|settings| settings.kafka.set("group.remote.assignor", "range"));
        assert!(error.unwrap_err().contains("classic group"));
    }

    #[test]
    fn what_is_given_for_security_is_used() {
        type Pairs<'a> = &'a [(&'a str, &'a str)];
        let kafka = |pairs: Pairs<'_>| {
            with(|settings| pairs.iter().for_each(|(key, value)| settings.kafka.set(*key, *value)))
        };
        let user = [("sasl.username", "u"), ("sasl.password", "p")];
        let scram = ("sasl.mechanisms", "SCRAM-SHA-512");
        let tls = ("security.protocol", "SASL_SSL");
        assert_eq!(kafka(&[user[0], user[1], scram, tls]), Ok(()));
        assert_eq!(kafka(&[("security.protocol", "ssl"), ("ssl.ca.location", "/ca")]), Ok(()));
        for (given, problem) in [
            (&[user[1]][..], "PLT-0108: `kafka.sasl.password`"),
            (&[scram, ("security.protocol", "ssl")], "PLT-0108: `kafka.sasl.mechanisms`"),
            (&[("ssl.ca.location", "/ca")], "PLT-0108: `kafka.ssl.ca.location`"),
            (&[tls], "PLT-0106: `kafka.sasl.mechanisms` is not set"),
            (&[tls, scram, user[0]], "PLT-0106: `kafka.sasl.password` is not set"),
            (&[tls, ("sasl.mechanism", "SCRAM-SHA-1")], "PLT-0105: `kafka.sasl.mechanism`"),
        ] {
            let error = kafka(given).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
        assert_eq!(kafka(&[tls, ("sasl.mechanism", "OAUTHBEARER")]), Ok(()));
    }
}
