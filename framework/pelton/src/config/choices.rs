//! Which words may a setting be? One enum a setting, each word with its meaning.

use serde::{Deserialize, Serialize};

use super::nearest::nearest;

/// Which protocol the group speaks with the broker.
///
/// ```
/// use pelton::config::GroupProtocol;
///
/// assert_eq!(GroupProtocol::try_from("classic".to_owned()), Ok(GroupProtocol::Classic));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(!try_from))]
#[serde(try_from = "String", rename_all = "snake_case")]
#[non_exhaustive]
pub enum GroupProtocol {
    /// The protocol every broker speaks: members share the partitions out among themselves.
    #[default]
    Classic,
    /// KIP-848 (brokers from 4.0): the broker shares the partitions out.
    Consumer,
}

/// How a classic group shares out partitions. Under KIP-848 the broker decides.
///
/// ```
/// use pelton::config::AssignmentStrategy;
///
/// let refused = AssignmentStrategy::try_from("sticky".to_owned()).unwrap_err();
/// assert!(refused.contains("use \"cooperative-sticky\""));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(!try_from))]
#[serde(try_from = "String", rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AssignmentStrategy {
    /// Moves as few partitions as it can, and only those stop.
    #[default]
    CooperativeSticky,
    /// Consecutive partitions per member, alike in all topics; every rebalance stops them all.
    Range,
    /// One partition each in turn; every rebalance stops them all.
    #[serde(rename = "roundrobin")]
    RoundRobin,
}

impl AssignmentStrategy {
    /// The word librdkafka knows it by.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CooperativeSticky => "cooperative-sticky",
            Self::Range => "range",
            Self::RoundRobin => "roundrobin",
        }
    }

    /// Whether a rebalance takes only the partitions that move.
    #[must_use]
    pub const fn is_cooperative(self) -> bool {
        matches!(self, Self::CooperativeSticky)
    }
}

/// Where a partition starts for which the group has no committed offset.
///
/// ```
/// use pelton::config::AutoOffsetReset;
///
/// assert_eq!(AutoOffsetReset::try_from("latest".to_owned()), Ok(AutoOffsetReset::Latest));
///
/// let new_year = AutoOffsetReset::try_from("@2027-01-01T00:00:00Z".to_owned());
/// assert_eq!(new_year, Ok(AutoOffsetReset::AtTime(1_798_761_600_000)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[non_exhaustive]
pub enum AutoOffsetReset {
    /// At the oldest record the log still holds: nothing is lost, the whole log is read.
    Earliest,
    /// At the log's end: what arrives before the first commit is lost.
    Latest,
    /// At the oldest record at least as new as this time, in milliseconds since 1970; at the log's
    /// end if none is. Written `@` and a time (`@2026-11-24T00:00:00Z`) or the milliseconds.
    AtTime(i64),
    /// Nowhere: the worker stops with an error.
    Error,
}

/// What becomes of a position that is not in its log: records were deleted before they were read,
/// the log was truncated, or the topic was deleted and created again.
///
/// What was read before is handled and committed first, under each of them.
///
/// ```
/// use pelton::config::OnOutOfRange;
///
/// assert_eq!(OnOutOfRange::default(), OnOutOfRange::Fail);
/// assert_eq!(OnOutOfRange::try_from("latest".to_owned()), Ok(OnOutOfRange::Latest));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(!try_from))]
#[serde(try_from = "String", rename_all = "snake_case")]
#[non_exhaustive]
pub enum OnOutOfRange {
    /// The worker ends and says how large the gap is.
    #[default]
    Fail,
    /// It goes on at the oldest record the log holds: what was deleted is skipped; a log that
    /// was truncated is read again from its beginning, a new topic from its.
    Earliest,
    /// It goes on at the log's end: what was deleted is skipped, and so is all that is there.
    Latest,
}

/// What a record's effects may do when something fails.
///
/// ```
/// use pelton::config::Guarantee;
///
/// assert_eq!(Guarantee::default(), Guarantee::AtLeastOnce);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(!try_from))]
#[serde(try_from = "String", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Guarantee {
    /// Nothing is lost; after a failure some effects may repeat.
    #[default]
    AtLeastOnce,
}

/// The shape of a log line.
///
/// ```
/// use pelton::config::LogFormat;
///
/// assert_eq!(LogFormat::try_from("json".to_owned()), Ok(LogFormat::Json));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(!try_from))]
#[serde(try_from = "String", rename_all = "snake_case")]
#[non_exhaustive]
pub enum LogFormat {
    /// For eyes.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// How the waits between a record's attempts grow.
///
/// ```
/// use pelton::config::RetryKind;
///
/// assert_eq!(RetryKind::default(), RetryKind::Exponential);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(!try_from))]
#[serde(try_from = "String", rename_all = "snake_case")]
#[non_exhaustive]
pub enum RetryKind {
    /// They double, up to a longest one.
    #[default]
    Exponential,
    /// Not at all.
    Fixed,
}

/// Words that other systems know and Pelton refuses, each with the reason and the way out.
type Refused = [(&'static str, &'static str)];

impl TryFrom<String> for GroupProtocol {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        choose(&word, &[("classic", Self::Classic), ("consumer", Self::Consumer)], &[])
    }
}

impl TryFrom<String> for AssignmentStrategy {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let words = [
            ("cooperative-sticky", Self::CooperativeSticky),
            ("range", Self::Range),
            ("roundrobin", Self::RoundRobin),
        ];
        let refused: &Refused = &[(
            "sticky",
            "librdkafka has no eager sticky strategy; use \"cooperative-sticky\", which moves as \
             few partitions and stops only those",
        )];
        choose(&word, &words, refused)
    }
}

impl TryFrom<String> for AutoOffsetReset {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        if let Some(time) = word.trim().strip_prefix('@') {
            return time_ms(time.trim()).map(Self::AtTime);
        }
        let words =
            [("earliest", Self::Earliest), ("latest", Self::Latest), ("error", Self::Error)];
        let refused: &Refused = &[
            ("beginning", "Kafka's word is \"earliest\"; write that"),
            ("smallest", "Kafka's word is \"earliest\"; write that"),
            ("largest", "Kafka's word is \"latest\"; write that"),
            ("end", "Kafka's word is \"latest\"; write that"),
            ("none", "Pelton's word is \"error\"; write that"),
        ];
        if time_ms(word.trim()).is_ok() {
            return Err(format!("a time to begin at has an `@` before it; {TIME_HINT}"));
        }
        choose(&word, &words, refused)
            .map_err(|problem| format!("{problem}; or, to begin at a time, {TIME_HINT}"))
    }
}

impl From<AutoOffsetReset> for String {
    fn from(reset: AutoOffsetReset) -> Self {
        match reset {
            AutoOffsetReset::Earliest => "earliest".to_owned(),
            AutoOffsetReset::Latest => "latest".to_owned(),
            AutoOffsetReset::Error => "error".to_owned(),
            AutoOffsetReset::AtTime(ms) => match jiff::Timestamp::from_millisecond(ms) {
                Ok(time) => format!("@{time}"),
                Err(_) => format!("@{ms}"),
            },
        }
    }
}

const TIME_HINT: &str = "write `@` and a time with its zone, as in \"@2026-11-24T00:00:00Z\", or \
                         `@` and milliseconds since 1970";

/// Milliseconds since 1970 of a time as RFC 3339 writes it, or of the bare number.
fn time_ms(time: &str) -> Result<i64, String> {
    let parsed = match time.parse::<i64>() {
        Ok(ms) => jiff::Timestamp::from_millisecond(ms),
        Err(_) => time.parse::<jiff::Timestamp>(),
    };
    let time = parsed.map_err(|_| format!("it is no moment in time; {TIME_HINT}"))?;
    match time.as_millisecond() {
        ms if ms >= 0 => Ok(ms),
        _ => Err(format!("Kafka knows no time before 1970; {TIME_HINT}")),
    }
}

impl TryFrom<String> for OnOutOfRange {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let words = [("fail", Self::Fail), ("earliest", Self::Earliest), ("latest", Self::Latest)];
        let refused: &Refused = &[
            ("error", "Pelton's word is \"fail\"; write that"),
            ("stop", "Pelton's word is \"fail\"; write that"),
            ("none", "Pelton's word is \"fail\"; write that"),
        ];
        choose(&word, &words, refused)
    }
}

impl TryFrom<String> for Guarantee {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let refused: &Refused = &[
            (
                "exactly_once",
                "this version has no exactly-once guarantee yet; use \"at_least_once\" and make \
                 what reads the outputs tolerate repeats",
            ),
            ("at_most_once", "Pelton never gives up a record it has read; use \"at_least_once\""),
        ];
        choose(&word, &[("at_least_once", Self::AtLeastOnce)], refused)
    }
}

impl TryFrom<String> for LogFormat {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        choose(&word, &[("text", Self::Text), ("json", Self::Json)], &[])
    }
}

impl TryFrom<String> for RetryKind {
    type Error = String;

    fn try_from(word: String) -> Result<Self, String> {
        let refused: &Refused = &[
            ("none", "Pelton's way to try once is `attempts = 1`; write that"),
            ("forever", "Pelton's way to try for ever is `attempts = 0`; write that"),
        ];
        choose(&word, &[("exponential", Self::Exponential), ("fixed", Self::Fixed)], refused)
    }
}

/// The choice `word` stands for; case and the kind of dash don't matter.
fn choose<T: Copy>(word: &str, words: &[(&str, T)], refused: &Refused) -> Result<T, String> {
    let folded = |text: &str| text.trim().to_ascii_lowercase().replace('-', "_");
    let wanted = folded(word);
    if let Some((_, choice)) = words.iter().find(|(known, _)| folded(known) == wanted) {
        return Ok(*choice);
    }
    if let Some((refused, reason)) = refused.iter().find(|(known, _)| folded(known) == wanted) {
        return Err(format!("\"{refused}\" is refused: {reason}"));
    }
    let known: Vec<_> = words.iter().map(|(known, _)| format!("\"{known}\"")).collect();
    let known = known.join(", ");
    // What was typed is not repeated: in the wrong place it could be anything, a password too.
    match nearest(word, words.iter().map(|(known, _)| *known)) {
        Some(near) => Err(format!("no such choice; did you mean \"{near}\"? (one of {known})")),
        None => Err(format!("no such choice; write one of {known}")),
    }
}

#[cfg(test)]
mod tests {
    use super::{AssignmentStrategy, AutoOffsetReset, Guarantee};

    fn strategy(word: &str) -> Result<AssignmentStrategy, String> {
        word.to_owned().try_into()
    }

    #[test]
    fn case_and_dashes_do_not_matter() {
        assert_eq!(strategy("Cooperative_Sticky"), Ok(AssignmentStrategy::CooperativeSticky));
        assert_eq!(strategy("RoundRobin"), Ok(AssignmentStrategy::RoundRobin));
        assert_eq!(Guarantee::try_from("at-least-once".to_owned()), Ok(Guarantee::AtLeastOnce));
    }

    #[test]
    fn words_of_other_systems_are_refused_with_the_way_out() {
        assert_eq!(
            strategy("Sticky").unwrap_err(),
            "\"sticky\" is refused: librdkafka has no eager sticky strategy; use \
             \"cooperative-sticky\", which moves as few partitions and stops only those"
        );
        let exactly = Guarantee::try_from("exactly_once".to_owned()).unwrap_err();
        assert!(exactly.contains("use \"at_least_once\""), "{exactly}");
        let largest = AutoOffsetReset::try_from("largest".to_owned()).unwrap_err();
        assert!(largest.contains("\"latest\""), "{largest}");
    }

    #[test]
    fn a_misspelt_word_is_answered_with_the_nearest() {
        assert_eq!(
            strategy("rang").unwrap_err(),
            "no such choice; did you mean \"range\"? (one of \"cooperative-sticky\", \"range\", \
             \"roundrobin\")"
        );
    }

    #[test]
    fn a_start_at_a_time_is_an_at_sign_and_the_time() {
        let reset = |word: &str| AutoOffsetReset::try_from(word.to_owned());
        let wanted = Ok(AutoOffsetReset::AtTime(1_795_478_400_000));
        for word in [
            "@2026-11-24T00:00:00Z",
            " @2026-11-24T00:00:00.000z ",
            "@2026-11-24 00:00:00Z",
            "@2026-11-24T01:30:00+01:30",
            "@1795478400000",
        ] {
            assert_eq!(reset(word), wanted, "{word}");
        }
        let written = serde_json::to_value(AutoOffsetReset::AtTime(1_795_478_400_500)).unwrap();
        assert_eq!(written, "@2026-11-24T00:00:00.5Z");
        for (word, problem) in [
            ("@", "it is no moment in time"),
            ("@yesterday", "it is no moment in time"),
            // Without its zone a time is another one on another machine.
            ("@2026-11-24T00:00:00", "it is no moment in time"),
            ("@2026-11-24", "it is no moment in time"),
            ("@2026-02-30T00:00:00Z", "it is no moment in time"),
            ("@99999999999999999", "it is no moment in time"),
            ("@99999999999999999999999", "it is no moment in time"),
            ("@-1", "Kafka knows no time before 1970"),
            ("@1969-12-31T23:59:59Z", "Kafka knows no time before 1970"),
            ("2026-11-24T00:00:00Z", "a time to begin at has an `@` before it"),
            ("tomorrow", "no such choice; write one of"),
        ] {
            let error = reset(word).unwrap_err();
            assert!(error.starts_with(problem), "{word}: {error}");
            assert!(error.contains("@2026-11-24T00:00:00Z"), "{word}: {error}");
        }
    }

    #[test]
    fn a_choice_is_written_as_it_is_read() {
        for choice in [
            AssignmentStrategy::CooperativeSticky,
            AssignmentStrategy::Range,
            AssignmentStrategy::RoundRobin,
        ] {
            let written = serde_json::to_value(choice).unwrap();
            assert_eq!(written, choice.as_str());
            assert_eq!(strategy(choice.as_str()), Ok(choice));
        }
    }
}
