//! What may be set about one input, where the program has said otherwise?
//!
//! The failure policy, the batches and the pace. Not the ordering itself: what is kept in order is
//! the program's to say, since its handler relies on it.

use std::collections::BTreeSet;
use std::time::Duration;

use pelton_engine::{Breaker, DeadLetterLimit, RetryPolicy};
use serde::{Deserialize, Serialize};

use super::choices::RetryKind;
use super::error::ConfigError;
use super::origin::Origin;
#[cfg(test)]
use super::schema;
use super::settings::Settings;
use super::tree::Tree;
use super::units::duration::written;
use super::units::{self, ByteCount};
use crate::output::{RetryTopics, at_most};
use crate::runtime::OnInvalid;
use crate::topic_partition::is_topic_name;

/// One input's rules, `[inputs."user_logins"]`: what is given takes the place of what the program
/// says, what is not given stays the program's.
///
/// ```
/// use pelton::config::{InputSettings, Settings};
///
/// let mut settings = Settings::default();
/// let logins: &mut InputSettings = settings.inputs.entry("user_logins".to_owned()).or_default();
/// logins.retry.attempts = Some(5);
/// logins.dead_letters.topic = Some("user_logins-dead".to_owned());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct InputSettings {
    /// Records that are handled at once, over all partitions of the input in one worker; from 1 to
    /// 100,000. Only where the program keeps the order of keys, or none: which order is kept is no
    /// setting, since the handler relies on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u32>,

    /// An attempt that takes longer has failed; `"0s"`: it may take for ever.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub attempt_timeout: Option<Duration>,

    /// What becomes of a record that its handler calls invalid: `stop` (the worker ends and names
    /// it), `skip` (logged and counted) or `dead_letter`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub on_invalid: Option<OnInvalid>,

    /// Records of the topic whose handling the worker starts in a second at most, retries included,
    /// beside `max_records_per_second` of the worker. 0: no limit. Reloadable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_records_per_second: Option<u32>,

    /// When a failed record is tried again: `[inputs."user_logins".retry]`.
    pub retry: RetrySettings,

    /// When the input pauses because what its handlers call is broken:
    /// `[inputs."user_logins".breaker]`.
    pub breaker: BreakerSettings,

    /// Where records wait that fail too often in place: `[inputs."user_logins".retry_topics]`.
    pub retry_topics: RetryTopicSettings,

    /// Where records go that can't be handled: `[inputs."user_logins".dead_letters]`.
    pub dead_letters: DeadLetterSettings,

    /// When a batch is full, where the program handles batches: `[inputs."user_logins".batch]`.
    pub batch: BatchSettings,
}

/// When a failed record is tried again. Waits and limit are apart: one of the waits that is given
/// takes the place of all of the program's, and one of the limits of its limit.
///
/// ```
/// use pelton::RetryPolicy;
/// use pelton::config::RetrySettings;
///
/// let mut retry = RetrySettings::default();
/// retry.attempts = Some(5);
/// assert_eq!(retry.over(RetryPolicy::default()), RetryPolicy::default().at_most(5));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct RetrySettings {
    /// `exponential` (waits double from `initial` to `max`) or `fixed` (each wait is `initial`).
    /// `exponential` where only the waits are given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<RetryKind>,

    /// The wait after the first failed attempt. 1 s where only other waits are given.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub initial: Option<Duration>,

    /// No wait is longer. 30 s where only other waits are given. Not with `fixed`.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub max: Option<Duration>,

    /// Whether waits are shortened at random, by up to a half, so that records that failed together
    /// don't come back together. They are, where only other waits are given. Not with `fixed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter: Option<bool>,

    /// A record is given up after so many failed attempts, the first one included; they are counted
    /// over restarts. 0: it is tried for ever. Not with `time`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,

    /// A record is given up when an attempt fails so long after its first one began. Not with
    /// `attempts`.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub time: Option<Duration>,
}

impl RetrySettings {
    /// What is set here, and of the rest what the program's `policy` says.
    #[must_use]
    pub fn over(&self, policy: RetryPolicy) -> RetryPolicy {
        let limit = match (self.attempts, self.time) {
            (None, None) => policy.limit,
            (Some(0), None) => None,
            (Some(attempts), None) => policy.at_most(attempts).limit,
            (_, Some(time)) => policy.for_at_most(time).limit,
        };
        if (self.kind, self.initial, self.max, self.jitter) == (None, None, None, None) {
            return RetryPolicy { limit, ..policy };
        }
        let ours = RetryPolicy::default();
        let initial = self.initial.unwrap_or(ours.initial);
        match self.kind.unwrap_or_default() {
            RetryKind::Fixed => RetryPolicy { limit, ..RetryPolicy::fixed(initial) },
            RetryKind::Exponential => RetryPolicy {
                initial,
                max: self.max.unwrap_or(ours.max),
                jitter: self.jitter.unwrap_or(ours.jitter),
                limit,
            },
        }
    }

    /// Which of them can't hold beside the others, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        if self.kind == Some(RetryKind::Fixed) {
            let of_no_use = [("max", self.max.is_some()), ("jitter", self.jitter.is_some())];
            if let Some((key, _)) = of_no_use.into_iter().find(|(_, given)| *given) {
                let why = "with `kind = \"fixed\"` each wait is `initial`; remove it, or set `kind \
                           = \"exponential\"`";
                return Some((key, why.to_owned()));
            }
        }
        if self.attempts.is_some() && self.time.is_some() {
            let why = "a record is given up by `attempts` or by `time`; keep one";
            return Some(("time", why.to_owned()));
        }
        let waits = self.over(RetryPolicy::default());
        (waits.initial > waits.max).then(|| {
            let (initial, max) = (written(waits.initial), written(waits.max));
            let why = format!(
                "the first wait (`initial`, {initial}) is longer than the longest (`max`, {max}); \
                 lower the one or raise the other"
            );
            (if self.initial.is_some() { "initial" } else { "max" }, why)
        })
    }
}

/// When an input pauses because what its handlers call is broken. Any of them gives an input a
/// breaker that has none by its program. One of the waits that is given takes the place of both.
///
/// ```
/// use pelton::Breaker;
/// use pelton::config::BreakerSettings;
///
/// let mut breaker = BreakerSettings::default();
/// assert_eq!(breaker.over(None), None);
/// breaker.sliding_window = Some(50);
/// assert_eq!(breaker.over(None), Some(Breaker::default().sliding_window(50)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct BreakerSettings {
    /// It opens when so many percent of the attempts in the window have failed. 0: no breaker. 50
    /// where the program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_rate_threshold: Option<u32>,

    /// The window: the last so many attempts of the input that have ended in this worker. 20 where
    /// the program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sliding_window: Option<u32>,

    /// It stays closed until the window has so many attempts, or is full. 10 where the program says
    /// nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimum_attempts: Option<u32>,

    /// For so long nothing of the input starts after it has opened, less a random part of up to a
    /// half. 5 s where only `max_wait` is given.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub wait: Option<Duration>,

    /// The wait doubles with each probe that fails, up to this. 60 s where only `wait` is given.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub max_wait: Option<Duration>,

    /// It closes when so many probes in a row have succeeded. 1 where the program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probes: Option<u32>,
}

impl BreakerSettings {
    /// What is set here, and of the rest what the program's `breaker` says.
    #[must_use]
    pub fn over(&self, breaker: Option<Breaker>) -> Option<Breaker> {
        let percent = self.failure_rate_threshold.map(|n| u8::try_from(n).unwrap_or(100));
        if *self == Self::default() || percent == Some(0) {
            return breaker.filter(|_| percent.is_none());
        }
        let (own, ours) = (breaker.unwrap_or_default(), Breaker::default());
        let waits = match (self.wait, self.max_wait) {
            (None, None) => (own.wait, own.max_wait),
            (wait, max) => (wait.unwrap_or(ours.wait), max.unwrap_or(ours.max_wait)),
        };
        Some(Breaker {
            failure_rate_threshold: percent.unwrap_or(own.failure_rate_threshold),
            sliding_window: self.sliding_window.unwrap_or(own.sliding_window),
            minimum_attempts: self.minimum_attempts.unwrap_or(own.minimum_attempts),
            wait: waits.0,
            max_wait: waits.1,
            probes: self.probes.unwrap_or(own.probes),
        })
    }

    /// Which of them can't hold beside the others, and why.
    fn contradiction(&self) -> Option<(&'static str, String)> {
        let Breaker { wait, max_wait, .. } = self.over(None)?;
        if wait > max_wait {
            let (first, longest) = (written(wait), written(max_wait));
            let why = format!(
                "the first wait (`wait`, {first}) is longer than the longest (`max_wait`, \
                 {longest}); lower the one or raise the other"
            );
            return Some((if self.wait.is_some() { "wait" } else { "max_wait" }, why));
        }
        let (window, minimum) = (self.sliding_window?, self.minimum_attempts?);
        (minimum > window).then(|| {
            let why = format!(
                "the window never has {minimum} attempts (`sliding_window`, {window}); lower the \
                 one or raise the other"
            );
            ("minimum_attempts", why)
        })
    }
}

/// Where records wait that fail too often in place.
///
/// ```
/// use pelton::config::RetryTopicSettings;
/// use std::time::Duration;
///
/// let mut topics = RetryTopicSettings::default();
/// topics.delays = Some(vec![Duration::from_secs(60), Duration::from_secs(600)]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct RetryTopicSettings {
    /// One topic for each delay, `<group>-<topic>-retry-1` and so on, which must exist with as many
    /// partitions as the input. Needs a limit of `retry`. `[]`: none.
    #[serde(with = "units::optional_durations", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::times"))]
    pub delays: Option<Vec<Duration>>,

    /// Whether later records of a key wait until the one that failed is done. They do, where the
    /// program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hold_key: Option<bool>,
}

impl RetryTopicSettings {
    /// What is set here, and of the rest what the program's `topics` say.
    pub(crate) fn over(&self, topics: Option<RetryTopics>) -> Option<RetryTopics> {
        let own = topics.as_ref().is_none_or(|topics| topics.holds);
        let holds = self.hold_key.unwrap_or(own);
        let delays = self.delays.clone().or_else(|| topics.map(|topics| topics.delays))?;
        (!delays.is_empty()).then_some(RetryTopics { delays, holds })
    }
}

/// Where records go that can't be handled, and how many may.
///
/// ```
/// use pelton::config::DeadLetterSettings;
///
/// let mut letters = DeadLetterSettings::default();
/// letters.topic = Some("user_logins-dead".to_owned());
/// letters.at_most_in_a_row = Some(5);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct DeadLetterSettings {
    /// The topic, which must exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,

    /// After so many dead letters one after the other the next record waits. 0: no limit. 20 where
    /// the program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most_in_a_row: Option<u32>,

    /// After so many dead letters of a partition's last 1,000 records the next one waits. 0: no
    /// limit. 100 where the program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most_of_a_thousand: Option<u32>,

    /// A record with which so many processes have died, one after the other, becomes a dead letter.
    /// 0: nobody looks for such records. 3 where the program says nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_deaths: Option<u32>,
}

impl DeadLetterSettings {
    /// What is set here, and of the rest what the program's `limit` says.
    pub(crate) fn over(&self, limit: DeadLetterLimit) -> DeadLetterLimit {
        let or = |given: Option<u32>, own| given.map_or(own, at_most);
        DeadLetterLimit {
            in_a_row: or(self.at_most_in_a_row, limit.in_a_row),
            of_a_thousand: or(self.at_most_of_a_thousand, limit.of_a_thousand),
        }
    }
}

/// When a batch is full.
///
/// ```
/// use pelton::config::BatchSettings;
///
/// let mut batch = BatchSettings::default();
/// batch.records = Some(2_000);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(default)]
#[non_exhaustive]
pub struct BatchSettings {
    /// Up to so many records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u32>,

    /// A batch that has so many bytes gets no further record.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes: Option<ByteCount>,

    /// A record waits so long for others, at most.
    #[serde(with = "units::optional_duration", skip_serializing_if = "Option::is_none")]
    #[cfg_attr(test, schemars(schema_with = "schema::time"))]
    pub linger: Option<Duration>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Settings {
    /// Says what is out of range, or in contradiction, in the rules of inputs. Whether they fit what
    /// the program declares is for `Worker::build` to say.
    pub(super) fn check_inputs(&self) -> Result<(), ConfigError> {
        for (topic, input) in &self.inputs {
            let key = |own: &str| format!("inputs.{topic}.{own}");
            let InputSettings { retry, breaker, dead_letters, batch, .. } = input;
            for (own, number, least, most) in [
                ("concurrency", input.concurrency, 1, 100_000),
                ("max_records_per_second", input.max_records_per_second, 0, 1_000_000),
                ("retry.attempts", retry.attempts, 0, 1_000_000),
                ("breaker.failure_rate_threshold", breaker.failure_rate_threshold, 0, 100),
                ("breaker.sliding_window", breaker.sliding_window, 1, 10_000),
                ("breaker.minimum_attempts", breaker.minimum_attempts, 1, 10_000),
                ("breaker.probes", breaker.probes, 1, 1_000),
                ("dead_letters.at_most_in_a_row", dead_letters.at_most_in_a_row, 0, 1_000_000),
                (
                    "dead_letters.at_most_of_a_thousand",
                    dead_letters.at_most_of_a_thousand,
                    0,
                    1_000,
                ),
                ("dead_letters.max_deaths", dead_letters.max_deaths, 0, 100),
                ("batch.records", batch.records, 1, 1_000_000),
            ] {
                if number.is_some_and(|number| number < least || number > most) {
                    let problem = match least {
                        0 => format!("write a whole number from 1 to {most}, or 0 for no limit"),
                        _ => format!("write a whole number from {least} to {most}"),
                    };
                    return Err(self.invalid(&key(own), problem));
                }
            }
            for (own, time, most) in [
                ("attempt_timeout", input.attempt_timeout, DAY),
                ("retry.initial", retry.initial, DAY),
                ("retry.max", retry.max, DAY),
                ("retry.time", retry.time, 365 * DAY),
                ("breaker.wait", breaker.wait, DAY),
                ("breaker.max_wait", breaker.max_wait, DAY),
                ("batch.linger", batch.linger, Duration::from_secs(3600)),
            ] {
                if time.is_some_and(|time| time > most) {
                    let problem = format!("write a time of at most \"{}\"", written(most));
                    return Err(self.invalid(&key(own), problem));
                }
            }
            let delays = input.retry_topics.delays.as_deref().unwrap_or_default();
            if delays.len() > 10 || delays.iter().any(|delay| *delay > 365 * DAY) {
                let most = written(365 * DAY);
                let problem = format!("write at most ten times, each of at most \"{most}\"");
                return Err(self.invalid(&key("retry_topics.delays"), problem));
            }
            if !dead_letters.topic.as_deref().is_none_or(is_topic_name) {
                let problem = "it is no legal topic name (letters, digits, '.', '_' and '-', at \
                               most 249); write one";
                return Err(self.invalid(&key("dead_letters.topic"), problem.to_owned()));
            }
            if batch.bytes.is_some_and(|bytes| bytes.as_u64() == 0) {
                let problem = "write a size of at least \"1B\"".to_owned();
                return Err(self.invalid(&key("batch.bytes"), problem));
            }
            if let Some((own, reason)) = retry.contradiction() {
                return Err(self.contradiction(&key(&format!("retry.{own}")), reason));
            }
            if let Some((own, reason)) = breaker.contradiction() {
                return Err(self.contradiction(&key(&format!("breaker.{own}")), reason));
            }
        }
        Ok(())
    }

    /// Whoever gave a rule of the input called `name` in the settings.
    pub(crate) fn origin_of_input(&self, name: &str) -> Origin {
        self.origins.first_below(&format!("inputs.{name}")).cloned().unwrap_or(Origin::Code)
    }
}

/// A topic's name as a variable of the environment can write it: in one case, without `-` and `.`.
pub(crate) fn as_variable(topic: &str) -> String {
    topic.to_ascii_lowercase().replace(['-', '.'], "_")
}

/// Calls the inputs in `environment` what `others` call them, which write names as they are.
pub(super) fn spell_as(environment: &mut Tree, others: [&Tree; 2]) {
    let (inputs, origin) = match environment.take("inputs") {
        Some(Tree::Table(inputs, origin)) => (inputs, origin),
        Some(no_table) => return environment.set(&["inputs"], no_table),
        None => return,
    };
    let known: BTreeSet<&str> = others
        .iter()
        .filter_map(|tree| match tree.child("inputs") {
            Some(Tree::Table(inputs, _)) => Some(inputs.keys().map(String::as_str)),
            _ => None,
        })
        .flatten()
        .collect();
    let spelt = inputs.into_iter().map(|(name, rules)| {
        let mut alike = known.iter().filter(|known| as_variable(known) == name);
        match (alike.next(), alike.next()) {
            (Some(known), None) => ((*known).to_owned(), rules),
            _ => (name, rules),
        }
    });
    environment.set(&["inputs"], Tree::Table(spelt.collect(), origin));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{file, read};

    const SECOND: Duration = Duration::from_secs(1);

    fn retry(text: &str) -> RetrySettings {
        read::read(&file::parse(text, Path::new("f")).unwrap(), "").unwrap()
    }

    #[test]
    fn waits_and_limit_of_a_retry_are_replaced_apart() {
        let own = RetryPolicy::fixed(SECOND * 7).at_most(3);
        for (given, expected) in [
            ("", own),
            ("attempts = 5", RetryPolicy::fixed(SECOND * 7).at_most(5)),
            ("attempts = 0", RetryPolicy::fixed(SECOND * 7)),
            ("time = \"1m\"", RetryPolicy::fixed(SECOND * 7).for_at_most(SECOND * 60)),
            ("kind = \"exponential\"", RetryPolicy::default().at_most(3)),
            ("max = \"9s\"", RetryPolicy::exponential(SECOND, SECOND * 9).at_most(3)),
            (
                "jitter = false\nattempts = 0",
                RetryPolicy { jitter: false, ..RetryPolicy::default() },
            ),
            ("kind = \"fixed\"\ninitial = \"2s\"", RetryPolicy::fixed(SECOND * 2).at_most(3)),
        ] {
            assert_eq!(retry(given).over(own), expected, "{given}");
        }
    }

    #[test]
    fn any_rule_of_a_breaker_makes_one_and_no_share_of_failures_takes_it_away() {
        let own = Breaker::default().sliding_window(7).wait_in_open(SECOND, SECOND * 9).probes(3);
        let over = |text: &str, own| {
            let given = read::read(&file::parse(text, Path::new("f")).unwrap(), "").unwrap();
            BreakerSettings::over(&given, own)
        };
        assert_eq!(over("", Some(own)), Some(own));
        for text in ["failure_rate_threshold = 0", "failure_rate_threshold = 0\nprobes = 2"] {
            assert_eq!((over(text, Some(own)), over(text, None)), (None, None));
        }
        for (text, expected) in [
            ("failure_rate_threshold = 80", own.failure_rate_threshold(80)),
            (
                "sliding_window = 50\nminimum_attempts = 5",
                own.sliding_window(50).minimum_attempts(5),
            ),
            ("max_wait = \"20s\"", own.wait_in_open(SECOND * 5, SECOND * 20)),
            ("wait = \"20s\"", own.wait_in_open(SECOND * 20, SECOND * 60)),
            ("probes = 2", own.probes(2)),
        ] {
            assert_eq!(over(text, Some(own)), Some(expected), "{text}");
        }
        assert_eq!(over("probes = 2", None), Some(Breaker::default().probes(2)));
    }

    #[test]
    fn limits_of_dead_letters_are_replaced_apart_and_0_lifts_one() {
        let own = DeadLetterLimit { in_a_row: 5, of_a_thousand: 50 };
        let mut given = DeadLetterSettings::default();
        assert_eq!(given.over(own), own);
        given.at_most_in_a_row = Some(0);
        assert_eq!(given.over(own), DeadLetterLimit { in_a_row: u32::MAX, ..own });
        given.at_most_of_a_thousand = Some(7);
        assert_eq!(given.over(own).of_a_thousand, 7);
    }
    #[test]
    fn retry_topics_are_added_replaced_held_otherwise_and_taken_away() {
        let own = || Some(RetryTopics::after([SECOND]).hold_key(false));
        let mut given = RetryTopicSettings::default();
        assert_eq!((given.over(None), given.over(own())), (None, own()));
        given.hold_key = Some(true);
        assert_eq!(
            (given.over(None), given.over(own())),
            (None, Some(RetryTopics::after([SECOND])))
        );
        given.delays = Some(vec![SECOND * 9]);
        assert_eq!(given.over(None), Some(RetryTopics::after([SECOND * 9])));
        given.delays = Some(Vec::new());
        assert_eq!(given.over(own()), None);
    }
}
