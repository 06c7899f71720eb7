//! Is each setting given that must be, and within its bounds?

use std::time::Duration;

use super::error::ConfigError;
use super::settings::Settings;
use super::units::duration::written;
use crate::telemetry::check_filter;
use crate::topic_partition::is_topic_name;

/// A length of time and its bounds.
struct Time {
    key: &'static str,
    of: fn(&Settings) -> Option<Duration>,
    least: Duration,
    most: Duration,
}

/// A whole number from 1, and its upper bound.
pub(super) struct Number {
    pub(super) key: &'static str,
    pub(super) of: fn(&Settings) -> u64,
    pub(super) most: u64,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

#[rustfmt::skip]
const TIMES: &[Time] = &[
    Time { key: "commit_interval", of: |s| Some(s.commit_interval), least: Duration::from_millis(1), most: HOUR },
    Time { key: "drain_timeout", of: |s| s.drain_timeout, least: Duration::ZERO, most: DAY },
    Time { key: "shutdown_timeout", of: |s| Some(s.shutdown_timeout), least: Duration::from_millis(1), most: DAY },
    Time { key: "partition_discovery_interval", of: |s| Some(s.partition_discovery_interval), least: Duration::from_millis(10), most: HOUR },
];

/// What is a number; the JSON Schema takes the bounds from here, too.
#[rustfmt::skip]
pub(super) const NUMBERS: &[Number] = &[
    Number { key: "session_timeout_ms", of: |s| s.session_timeout_ms.into(), most: 3_600_000 },
    Number { key: "heartbeat_interval_ms", of: |s| s.heartbeat_interval_ms.into(), most: 3_600_000 },
    Number { key: "max_poll_interval_ms", of: |s| s.max_poll_interval_ms.into(), most: 86_400_000 },
    Number { key: "max_poll_records", of: |s| s.max_poll_records.into(), most: 1_000_000 },
    Number { key: "memory_budget_records", of: |s| s.memory_budget_records, most: 1_000_000_000 },
];

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
        check_filter(&self.log.filter).map_err(|problem| self.invalid("log.filter", problem))?;
        self.kafka.check(&self.origins)?;
        self.check_together()
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
                 `@` and a time begins at that time, `error` stops the worker. Give one of them in the settings file, as \
                 PELTON__AUTO_OFFSET_RESET or as --auto-offset-reset",
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
        if self.state_dir.as_ref().is_some_and(|path| path.as_os_str().is_empty()) {
            let problem = "the path is empty; name a folder, or remove it".to_owned();
            return Err(self.invalid("state_dir", problem));
        }
        if !self.group_instance_id.as_deref().is_none_or(is_topic_name) {
            let problem = "Kafka allows at most 249 letters, digits, `.`, `_` and `-` here";
            return Err(self.invalid("group_instance_id", problem.to_owned()));
        }
        Ok(())
    }

    fn check_ranges(&self) -> Result<(), ConfigError> {
        for Time { key, of, least, most } in TIMES {
            if of(self).is_some_and(|value| value < *least || value > *most) {
                let (least, most) = (written(*least), written(*most));
                let problem = format!("write a time from \"{least}\" to \"{most}\"");
                return Err(self.invalid(key, problem));
            }
        }
        for Number { key, of, most } in NUMBERS {
            let value = of(self);
            if value == 0 || value > *most {
                return Err(self.invalid(key, format!("write a whole number from 1 to {most}")));
            }
        }
        if self.max_records_per_second > Some(1_000_000) {
            let problem = "write a whole number from 1 to 1000000, or 0 for no limit".to_owned();
            return Err(self.invalid("max_records_per_second", problem));
        }
        self.check_inputs()?;
        self.check_memory()
    }

    pub(crate) fn invalid(&self, key: &str, problem: String) -> ConfigError {
        ConfigError::InvalidValue { origin: self.origins.of(key), key: key.to_owned(), problem }
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

    use super::{Settings, is_broker};
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
    fn values_out_of_range_say_the_range() {
        type Change = fn(&mut Settings);
        let changes: [(Change, &str); 8] = [
            (|s| s.commit_interval = Duration::ZERO, "from \"1ms\" to \"1h\""),
            (|s| s.shutdown_timeout = Duration::MAX, "from \"1ms\" to \"1day\""),
            (|s| s.max_poll_records = 0, "from 1 to 1000000"),
            (|s| s.memory_budget = ByteCount::from_bytes(7), "at least \"32MiB\""),
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
    fn what_is_fetched_ahead_fits_the_memory_budget() {
        let error = with(|settings| settings.kafka.set("queued.max.messages.kbytes", "262144"));
        assert_eq!(
            error.unwrap_err(),
            "PLT-0108: `kafka.queued.max.messages.kbytes` from the program's code contradicts \
             another setting: librdkafka could fetch 304MiB ahead (twice `fetch.max.bytes` and \
             `queued.max.messages.kbytes`, and 4 restores), more than three quarters of \
             `memory_budget` (256MiB); lower the one, raise the other, or leave the first to Pelton"
        );
        let both = with(|settings| {
            settings.kafka.set("queued.max.messages.kbytes", "262144");
            settings.memory_budget = ByteCount::from_mib(1024);
        });
        assert_eq!(both, Ok(()));
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
