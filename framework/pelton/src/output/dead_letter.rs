//! What becomes of a record that can't be handled? A dead letter: the same bytes in another topic.

use std::sync::Arc;

use pelton_engine::DeadLetterLimit;

use crate::output::story::{Story, told};
use crate::ports::OutRecord;
use crate::record::Record;

/// Where an input's dead letters go, and how many may.
///
/// A dead letter has the record's key, value and headers as they were, byte for byte, and behind
/// them these headers, all text:
///
/// | header | value |
/// |---|---|
/// | `pelton-source-topic`, `-partition`, `-offset` | where the record is |
/// | `pelton-source-timestamp` | its timestamp, milliseconds since 1970, if it has one |
/// | `pelton-attempts` | how many attempts failed |
/// | `pelton-error-code` | `failed`, `invalid`, `timed_out`, `panicked` or `crashed` |
/// | `pelton-error` | what the last attempt said, up to 2,000 bytes |
/// | `pelton-worker` | the worker's `client_id` |
///
/// The offset of the record is committed only when Kafka has acknowledged its dead letter. If the
/// topic is missing, denied, too small or down, the partition waits, says so
/// (`pelton_output_blocked`), and goes on by itself. The client itself sends no record above 1,000,000
/// bytes, story included; where larger ones are read, raise `"message.max.bytes"` under `[kafka]`.
///
/// A bad deployment must not drain a topic into dead letters: above the limit records wait and are
/// tried again instead, until the records before them go well again.
///
/// ```
/// use pelton::DeadLetters;
///
/// let letters = DeadLetters::to("user_logins-dead").at_most_in_a_row(5).at_most_of_a_thousand(50);
/// let plain: DeadLetters = "user_logins-dead".into();
/// assert_ne!(letters, plain);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "give it to an input's dead_letters"]
pub struct DeadLetters {
    pub(crate) topic: String,
    pub(crate) limit: DeadLetterLimit,
    pub(crate) max_deaths: u32,
}

/// A limit as it is given, in code and in settings: 0 is none.
pub(crate) const fn at_most(records: u32) -> u32 {
    if records == 0 { u32::MAX } else { records }
}

/// So many processes may die with a record.
pub(crate) const MAX_DEATHS: u32 = 3;

impl DeadLetters {
    /// To this topic, which must exist. At most 20 in a row and 100 of the last 1,000 records of a
    /// partition.
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), limit: DeadLetterLimit::default(), max_deaths: MAX_DEATHS }
    }

    /// After so many dead letters one after the other the next record waits. 0: no limit.
    pub fn at_most_in_a_row(mut self, records: u32) -> Self {
        self.limit.in_a_row = at_most(records);
        self
    }

    /// After so many dead letters of a partition's last 1,000 records the next one waits. 0: no limit.
    pub fn at_most_of_a_thousand(mut self, records: u32) -> Self {
        self.limit.of_a_thousand = at_most(records);
        self
    }

    /// A record becomes a dead letter (code `crashed`) when so many processes have died with it, one
    /// after the other: of an abort, say, or because it took all memory. Default 3.
    ///
    /// After a process has died, the records that it may have had in hand are handled one at a time,
    /// each named in a commit before it starts: so the one that kills is known. (A process that is killed
    /// from outside, or loses its session, counts as one that died of what it had in hand.) 1 gives up a record as
    /// soon as it is known, 0 never: then commits say nothing of what is in hand, and no record waits
    /// for one.
    pub fn max_deaths(mut self, processes: u32) -> Self {
        self.max_deaths = processes;
        self
    }

    /// Every record that fails for good becomes a dead letter, even if all do.
    pub fn without_limit(mut self) -> Self {
        self.limit = DeadLetterLimit::NONE;
        self
    }
}

impl From<&str> for DeadLetters {
    fn from(topic: &str) -> Self {
        Self::to(topic)
    }
}

/// Why an attempt, or a record, failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Failed,
    Invalid,
    TimedOut,
    Panicked,
    Crashed,
}

impl FailureKind {
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::TimedOut => "timed_out",
            Self::Panicked => "panicked",
            Self::Crashed => "crashed",
        }
    }
}

/// What a failed attempt says.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

/// The record as a dead letter.
pub(crate) fn dead_letter(
    topic: &Arc<str>,
    record: &Record<'_>,
    story: Story<'_>,
    failure: &Failure,
) -> OutRecord {
    OutRecord {
        topic: Arc::clone(topic),
        partition: None,
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: told(record, story, Some(failure)),
        timestamp_ms: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Run;
    use crate::topic_partition::TopicPartition;

    /// It meant none in settings, and in code that no record may become one.
    #[test]
    fn zero_is_no_limit_in_code_as_in_settings() {
        let letters = DeadLetters::to("dead");
        let unlimited = letters.clone().at_most_in_a_row(0).at_most_of_a_thousand(0);
        assert_eq!(unlimited, letters.without_limit());
    }

    #[test]
    fn a_dead_letter_is_the_same_record_with_its_story_behind_it() {
        let mut run = Run::new(TopicPartition::new("in", 3));
        let headers = [("a", Some(&b"\xff"[..])), ("a", None)];
        run.push(42, Some(1_700), Some(b"\0k"), None, headers);
        let record = run.record(0).expect("a record");
        let failure = Failure { kind: FailureKind::TimedOut, text: "ä".repeat(2_000) };
        let story = Story { attempts: 3, worker: "w-1", goes_on: false };
        let dead = dead_letter(&Arc::from("dead"), &record, story, &failure);
        assert_eq!((dead.key.as_deref(), dead.value), (Some(&b"\0k"[..]), None));
        assert_eq!(dead.headers[0], ("a".to_owned(), Some(b"\xff".to_vec())));
        assert_eq!(dead.headers[1], ("a".to_owned(), None));
        let told = dead.headers[2..].iter().map(|(name, value)| {
            (name.as_str(), String::from_utf8(value.clone().unwrap_or_default()).expect("text"))
        });
        let told: Vec<_> = told.collect();
        let is = |name: &str, value: &str| told.contains(&(name, value.to_owned()));
        assert!(is("pelton-source-topic", "in") && is("pelton-source-partition", "3"));
        assert!(is("pelton-source-offset", "42") && is("pelton-source-timestamp", "1700"));
        assert!(is("pelton-attempts", "3") && is("pelton-error-code", "timed_out"));
        assert!(is("pelton-worker", "w-1") && is("pelton-error", &"ä".repeat(1_000)));
    }
}
