//! Can these settings hold together?

use std::time::Duration;

use super::choices::{AssignmentStrategy, GroupProtocol};
use super::error::ConfigError;
use super::settings::Settings;
use super::units::{ByteCount, duration::written};
use crate::telemetry::check_filter;

impl Settings {
    /// Says what is missing, out of range, or in contradiction; nothing else does.
    ///
    /// # Errors
    ///
    /// The first problem found, with its way out. `auto_offset_reset` and `bootstrap_servers` have
    /// no default and must have been set.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.check_given()?;
        self.check_texts()?;
        self.check_ranges()?;
        self.check_group()?;
        check_filter(&self.log.filter).map_err(|problem| self.invalid("log.filter", problem))?;
        self.kafka.check(&self.origins)
    }

    fn check_given(&self) -> Result<(), ConfigError> {
        let missing = |key: &str, way_out: &str| ConfigError::Missing {
            key: key.to_owned(),
            way_out: way_out.to_owned(),
        };
        if self.bootstrap_servers.trim().is_empty() {
            return Err(missing(
                "bootstrap_servers",
                "a worker can't guess its cluster. Give some brokers' addresses, as in \
                 `bootstrap_servers = \"localhost:9092\"` in the settings file, \
                 PELTON__BOOTSTRAP_SERVERS or --bootstrap-servers",
            ));
        }
        if self.auto_offset_reset.is_none() {
            return Err(missing(
                "auto_offset_reset",
                "where a partition without a committed offset starts must be chosen: `latest` \
                 loses what arrives before the first commit, `earliest` reads all the log holds, \
                 `@` and a time begins at that time, `error` stops the worker. Give one of them in the settings file or as \
                 PELTON__AUTO_OFFSET_RESET",
            ));
        }
        Ok(())
    }

    fn check_texts(&self) -> Result<(), ConfigError> {
        for address in self.bootstrap_servers.split(',') {
            if !is_broker(address.trim()) {
                let problem = "write some brokers as host:port, comma-separated, as in \
                               \"kafka-1:9092,kafka-2:9092\"";
                return Err(self.invalid("bootstrap_servers", problem.to_owned()));
            }
        }
        for (key, text) in [
            ("group_id", &self.group_id),
            ("client_id", &self.client_id),
            ("group_instance_id", &self.group_instance_id),
        ] {
            let Some(text) = text else { continue };
            if text.trim().is_empty() || text.contains('\0') {
                let problem = "it is empty or unreadable; write a name, or remove it".to_owned();
                return Err(self.invalid(key, problem));
            }
        }
        let instance = self.group_instance_id.as_deref().unwrap_or("a");
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if instance.len() > 249 || !instance.chars().all(legal) || matches!(instance, "." | "..") {
            let problem = "Kafka allows at most 249 letters, digits, `.`, `_` and `-` here";
            return Err(self.invalid("group_instance_id", problem.to_owned()));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        let millis = Duration::from_millis;
        let hour = Duration::from_secs(3600);
        let times = [
            ("commit_interval", Some(self.commit_interval), millis(1), hour),
            ("drain_timeout", self.drain_timeout, Duration::ZERO, 24 * hour),
            ("shutdown_timeout", Some(self.shutdown_timeout), millis(1), 24 * hour),
            (
                "partition_discovery_interval",
                Some(self.partition_discovery_interval),
                millis(10),
                hour,
            ),
        ];
        for (key, value, least, most) in times {
            if value.is_some_and(|value| value < least || value > most) {
                let (least, most) = (written(least), written(most));
                let problem = format!("write a time from \"{least}\" to \"{most}\"");
                return Err(self.invalid(key, problem));
            }
        }
        let numbers = [
            ("session_timeout_ms", u64::from(self.session_timeout_ms), 3_600_000),
            ("heartbeat_interval_ms", u64::from(self.heartbeat_interval_ms), 3_600_000),
            ("max_poll_interval_ms", u64::from(self.max_poll_interval_ms), 86_400_000),
            ("max_poll_records", u64::from(self.max_poll_records), 1_000_000),
            ("memory_budget_records", self.memory_budget_records, 1_000_000_000),
        ];
        for (key, value, most) in numbers {
            if value == 0 || value > most {
                return Err(self.invalid(key, format!("write a whole number from 1 to {most}")));
            }
        }
        if self.max_records_per_second > Some(1_000_000) {
            let problem = "write a whole number from 1 to 1000000, or 0 for no limit".to_owned();
            return Err(self.invalid("max_records_per_second", problem));
        }
        let least = ByteCount::from_mib(1);
        if self.memory_budget < least {
            let problem = format!("a worker can't run within it; give at least \"{least}\"");
            return Err(self.invalid("memory_budget", problem));
        }
        Ok(())
    }

    fn check_group(&self) -> Result<(), ConfigError> {
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
        match self.group_protocol {
            GroupProtocol::Classic => self.check_classic(),
            GroupProtocol::Consumer => self.check_consumer(),
        }
    }

    fn check_classic(&self) -> Result<(), ConfigError> {
        let (session, heartbeat) = (self.session_timeout_ms, self.heartbeat_interval_ms);
        if u64::from(heartbeat) * 3 > u64::from(session) {
            return Err(self.contradiction("heartbeat_interval_ms", format!(
                "{heartbeat} is more than a third of `session_timeout_ms` ({session}): two lost \
                 heartbeats would cost the membership; shorten it or lengthen the session"
            )));
        }
        if self.max_poll_interval_ms < session {
            return Err(self.contradiction(
                "session_timeout_ms",
                format!(
                    "{session} is more than `max_poll_interval_ms` ({}), which librdkafka refuses; \
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

    pub(crate) fn invalid(&self, key: &str, problem: String) -> ConfigError {
        ConfigError::InvalidValue { origin: self.origins.of(key), key: key.to_owned(), problem }
    }

    fn contradiction(&self, key: &str, reason: String) -> ConfigError {
        ConfigError::Contradiction { origin: self.origins.of(key), key: key.to_owned(), reason }
    }
}

/// `host:port`, `[v6]:port`, with or without a protocol before; librdkafka adds a missing port.
fn is_broker(address: &str) -> bool {
    let address = address.rsplit_once("://").map_or(address, |(_, rest)| rest);
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    let port_fits = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let clean = |c: char| c.is_ascii_alphanumeric() || "-._[]:%".contains(c);
    !host.is_empty() && host.chars().all(clean) && port_fits
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{AssignmentStrategy, GroupProtocol, Settings, is_broker};
    use crate::config::{AutoOffsetReset, ByteCount};

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
    fn the_defaults_and_two_choices_are_enough() {
        assert_eq!(with(|_| {}), Ok(()));
    }

    #[test]
    fn what_must_be_chosen_says_why() {
        let error = with(|settings| settings.auto_offset_reset = None).unwrap_err();
        assert!(error.starts_with("PLT-0106: `auto_offset_reset` is not set"), "{error}");
        assert!(error.contains("`latest` loses what arrives before the first commit"), "{error}");
        assert!(error.contains("PELTON__AUTO_OFFSET_RESET"), "{error}");
        let error = with(|settings| settings.bootstrap_servers.clear()).unwrap_err();
        assert!(error.contains("--bootstrap-servers"), "{error}");
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
    fn values_out_of_range_say_the_range() {
        type Change = fn(&mut Settings);
        let changes: [(Change, &str); 8] = [
            (|s| s.commit_interval = Duration::ZERO, "from \"1ms\" to \"1h\""),
            (|s| s.shutdown_timeout = Duration::MAX, "from \"1ms\" to \"1day\""),
            (|s| s.max_poll_records = 0, "from 1 to 1000000"),
            (|s| s.memory_budget = ByteCount::from_bytes(7), "at least \"1MiB\""),
            (|s| s.group_id = Some(String::new()), "write a name, or remove it"),
            (|s| s.group_instance_id = Some("a b".to_owned()), "at most 249 letters"),
            (|s| s.bootstrap_servers = "http//nowhere".to_owned(), "host:port"),
            (|s| s.log.filter = "inof".to_owned(), "did you mean \"info\"?"),
        ];
        for (change, wanted) in changes {
            let error = with(change).unwrap_err();
            assert!(error.starts_with("PLT-0105") && error.contains(wanted), "{error}");
        }
    }

    #[test]
    fn brokers_are_hosts_and_ports() {
        for good in ["localhost:9092", "10.0.0.1:1", "[::1]:9092", "kafka", "PLAINTEXT://a-b.c:92"]
        {
            assert!(is_broker(good), "{good}");
        }
        for bad in ["", ":9092", "a:b", "a:70000", "a b:1", "a:0", "user:pw@host:1"] {
            assert!(!is_broker(bad), "{bad}");
        }
    }
}
