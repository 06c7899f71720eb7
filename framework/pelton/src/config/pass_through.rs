//! Which settings go to librdkafka as they are? Those of `[kafka]`, less the dangerous ones.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::error::ConfigError;
use super::kafka_keys::{self, Exposure};
use super::nearest::nearest;
use super::origin::Origins;

/// What a secret's value looks like when it is printed.
pub(super) const HIDDEN: &str = "(hidden)";

/// Settings of librdkafka, passed to all clients of a worker.
///
/// A value that is or may hold a secret is neither in `Debug` nor in what serde writes; only
/// [`iter`](Self::iter) gives it.
///
/// ```
/// use pelton::config::KafkaSettings;
///
/// let mut kafka = KafkaSettings::default();
/// kafka.set("sasl.password", "hunter2");
/// assert_eq!(kafka.iter().next(), Some(("sasl.password", "hunter2")));
/// assert!(!format!("{kafka:?}").contains("hunter2"));
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KafkaSettings(BTreeMap<String, String>);

impl KafkaSettings {
    /// Gives librdkafka's setting `key` a value. Whether it may pass is for
    /// [`Settings::check`](super::Settings::check) to say.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<String>) {
        self.0.insert(key.into(), value.into());
    }

    /// The value of `key`, if one was given under this very name.
    #[must_use]
    pub fn value(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Key and value of each setting, secrets included, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Refuses keys that librdkafka doesn't know, that are dangerous, or that are given twice, and
    /// values that librdkafka can't use.
    pub(super) fn check(&self, origins: &Origins) -> Result<(), ConfigError> {
        for (name, value) in &self.0 {
            let path = format!("kafka.{name}");
            let origin = origins.of(&path);
            let Some(key) = kafka_keys::find(name) else {
                let way_out = way_out_of_unknown(name);
                return Err(ConfigError::UnknownKey { origin, key: path, way_out });
            };
            if let Exposure::Denied(reason) = key.exposure {
                return Err(ConfigError::Refused { origin, key: path, reason: reason.to_owned() });
            }
            if let Some(other) = key.alias_of.filter(|other| self.0.contains_key(*other)) {
                let reason = format!("`kafka.{other}` is another name for it; keep one of them");
                return Err(ConfigError::Contradiction { origin, key: path, reason });
            }
            if let Some(reason) = crate::kafka::refusal(name, value) {
                // Its words repeat the value, but for a value it has no use for in this build.
                let shows = key.exposure == Exposure::Shown || reason.contains("not supported in");
                let reason = if shows { reason } else { "it is malformed".to_owned() };
                let problem = format!("librdkafka refuses it: {reason}");
                return Err(ConfigError::InvalidValue { origin, key: path, problem });
            }
        }
        Ok(())
    }

    /// Each key with what may be shown of its value.
    fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.iter().map(|(key, value)| (key, if may_show(key) { value } else { HIDDEN }))
    }
}

fn way_out_of_unknown(name: &str) -> String {
    let shown = name.strip_suffix(".file").filter(|value| kafka_keys::find(value).is_some());
    if let Some(value) = shown {
        return format!(
            "only a secret may stand in a file of its own; write the value itself, as `\"{value}\"`"
        );
    }
    match nearest(name, kafka_keys::allowed()) {
        Some(near) => format!("did you mean `\"{near}\"` under [kafka]?"),
        None => "librdkafka 2.12.1 has no such setting; see its CONFIGURATION.md, and Pelton's \
                 docs/config.md for settings outside [kafka]"
            .to_owned(),
    }
}

/// Whether a value of librdkafka's setting `key` may be printed; not if the key is unknown.
pub(super) fn may_show(key: &str) -> bool {
    kafka_keys::find(key).is_some_and(|key| key.exposure == Exposure::Shown)
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Serialize for KafkaSettings {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.shown())
    }
}

impl<'de> Deserialize<'de> for KafkaSettings {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let values = BTreeMap::<String, Scalar>::deserialize(from)?;
        Ok(Self(values.into_iter().map(|(key, Scalar(value))| (key, value)).collect()))
    }
}

/// A text, a number or a boolean, as librdkafka wants it written.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, true or false")
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Scalar, E> {
                if value.contains('\0') {
                    return Err(E::custom("it holds a zero byte, which librdkafka can't read"));
                }
                Ok(Scalar(value.to_owned()))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }
        }

        from.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::{KafkaSettings, Origins};

    fn problem(key: &str, value: &str) -> String {
        let mut kafka = KafkaSettings::default();
        kafka.set(key, value);
        kafka.check(&Origins::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_dangerous_key_is_refused_with_reason_and_way_out() {
        assert_eq!(
            problem("enable.auto.commit", "true"),
            "PLT-0107: `kafka.enable.auto.commit` from the program's code is refused: Pelton \
             commits what is done, and only that; librdkafka would commit what was merely read, \
             and lose it in a crash. Remove it; `commit_interval` says how often"
        );
        for (key, way_out) in [
            ("group.id", "`group_id`"),
            ("session.timeout.ms", "`session_timeout_ms`"),
            ("delivery.timeout.ms", "Remove it"),
            ("request.required.acks", "always `all`"),
            ("rebalance_cb", "only code"),
        ] {
            let problem = problem(key, "1");
            assert!(problem.starts_with("PLT-0107") && problem.contains(way_out), "{problem}");
        }
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_nearest() {
        assert_eq!(
            problem("fetch.wait.max", "1"),
            "PLT-0104: unknown setting `kafka.fetch.wait.max` from the program's code: did you \
             mean `\"fetch.wait.max.ms\"` under [kafka]?"
        );
    }

    #[test]
    fn one_setting_under_two_names_is_a_contradiction() {
        let mut kafka = KafkaSettings::default();
        kafka.set("linger.ms", "5");
        kafka.set("queue.buffering.max.ms", "6");
        assert_eq!(
            kafka.check(&Origins::default()).unwrap_err().to_string(),
            "PLT-0108: `kafka.linger.ms` from the program's code contradicts another setting: \
             `kafka.queue.buffering.max.ms` is another name for it; keep one of them"
        );
    }

    #[test]
    fn secrets_and_unknown_keys_are_never_shown() {
        let mut kafka = KafkaSettings::default();
        for key in ["sasl.password", "ssl.key.pem", "sasl.oauthbearer.config", "sasl.pasword"] {
            kafka.set(key, "canary");
        }
        kafka.set("fetch.wait.max.ms", "10");
        let shown = format!("{kafka:?} {}", serde_json::to_string(&kafka).unwrap());
        assert!(shown.contains("10") && !shown.contains("canary"), "{shown}");
        let unknown = problem("sasl.pasword", "canary");
        assert!(unknown.contains("\"sasl.password\"") && !unknown.contains("canary"), "{unknown}");
    }
}
