//! Are the dead letters of a run the records that were poisoned, byte for byte, and no others?

use std::collections::BTreeMap;
use std::fmt;

use crate::StoredRecord;
use crate::rig::Poison;

/// What a reader that has nothing to do with the workers finds in the topic for dead letters.
///
/// ```
/// use pelton_tests::{DeadLetters, StoredRecord};
///
/// let poisoned = StoredRecord {
///     partition: 2,
///     offset: 7,
///     key: Some(b"alice".to_vec()),
///     value: Some(b"in".to_vec()),
///     headers: vec![("poison".to_owned(), Some(b"panic".to_vec()))],
///     timestamp: None,
/// };
/// let story = [
///     ("source-topic", "logins"),
///     ("source-partition", "2"),
///     ("source-offset", "7"),
///     ("attempts", "3"),
///     ("error-code", "panicked"),
///     ("error", "as told"),
///     ("worker", "worker-1"),
/// ];
/// let mut letter = poisoned.clone();
/// letter.headers.extend(story.map(|(name, value)| (format!("pelton-{name}"), Some(value.into()))));
///
/// let input = [poisoned];
/// assert!(DeadLetters::held("logins", &input, &[letter.clone()]).are_right());
/// assert!(!DeadLetters::held("logins", &input, &[]).are_right()); // it is missing
/// letter.value = Some(b"out".to_vec());
/// assert!(!DeadLetters::held("logins", &input, &[letter]).are_right()); // it is not the same
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetters {
    /// Records that were poisoned, by how.
    pub poisoned: BTreeMap<Poison, u64>,
    /// Dead letters of them.
    pub letters: u64,
    /// Letters of records that have one already.
    pub repeated: u64,
    /// Records without a letter, as `<partition>-<offset>`.
    pub missing: Vec<String>,
    /// Letters that are not as they must be, with what is wrong.
    pub wrong: Vec<String>,
}

impl DeadLetters {
    /// Holds the dead letters against the records of the topic `source`.
    #[must_use]
    pub fn held(source: &str, input: &[StoredRecord], letters: &[StoredRecord]) -> Self {
        let mut this = Self::default();
        let mut poisoned = BTreeMap::new();
        for record in input {
            if let Some(poison) = Poison::of(record) {
                *this.poisoned.entry(poison).or_default() += 1;
                poisoned.insert((record.partition, record.offset), (record, poison, 0_u64));
            }
        }
        for letter in letters {
            let place = number(letter, "partition").zip(number(letter, "offset"));
            let found = place.and_then(|(partition, offset)| {
                poisoned.get_mut(&(i32::try_from(partition).ok()?, offset))
            });
            let Some((record, poison, seen)) = found else {
                let place = format!("{}-{}", letter.partition, letter.offset);
                this.wrong.push(format!("letter {place} is of no poisoned record: {place:?}"));
                continue;
            };
            this.letters += 1;
            this.repeated += u64::from(*seen > 0);
            *seen += 1;
            if let Some(what) = difference(source, record, *poison, letter) {
                let place = format!("{}-{}", record.partition, record.offset);
                this.wrong.push(format!("the letter of record {place} {what}"));
            }
        }
        let without = poisoned.iter().filter(|(_, (_, _, seen))| *seen == 0);
        this.missing = without.map(|((at, offset), _)| format!("{at}-{offset}")).collect();
        this
    }

    /// Is there one of each poisoned record, at least, and is each as it must be?
    #[must_use]
    pub fn are_right(&self) -> bool {
        self.missing.is_empty() && self.wrong.is_empty()
    }

    /// How many records were poisoned.
    #[must_use]
    pub fn all_poisoned(&self) -> u64 {
        self.poisoned.values().sum()
    }
}

impl fmt::Display for DeadLetters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kinds: Vec<_> =
            self.poisoned.iter().map(|(poison, count)| format!("{count} {poison}")).collect();
        let Self { letters, repeated, missing, wrong, .. } = self;
        write!(f, "dead letters: {letters} of {} poisoned records", self.all_poisoned())?;
        write!(f, " ({}), {repeated} repeated", kinds.join(", "))?;
        write!(f, ", {} missing, {} wrong", missing.len(), wrong.len())?;
        for what in missing.iter().take(5).map(|place| format!("no letter of record {place}")) {
            write!(f, "\n  {what}")?;
        }
        wrong.iter().take(5).try_for_each(|what| write!(f, "\n  {what}"))
    }
}

fn number(letter: &StoredRecord, of: &str) -> Option<i64> {
    let value = letter.header(&format!("pelton-source-{of}"))?;
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// What of a dead letter is not as it must be.
fn difference(
    source: &str,
    record: &StoredRecord,
    poison: Poison,
    letter: &StoredRecord,
) -> Option<String> {
    if letter.key != record.key {
        return Some("has another key".to_owned());
    }
    if letter.value != record.value {
        return Some("has another value".to_owned());
    }
    let Some(story) = letter.headers.strip_prefix(record.headers.as_slice()) else {
        return Some(format!("does not begin with its headers: {:?}", letter.headers));
    };
    if let Some((foreign, _)) = story.iter().find(|(name, _)| !name.starts_with("pelton-")) {
        return Some(format!("has the header {foreign} more"));
    }
    if letter.header("pelton-source-topic") != Some(source.as_bytes()) {
        return Some("names another topic".to_owned());
    }
    if letter.header("pelton-error-code") != Some(poison.error_code().as_bytes()) {
        return Some(format!("does not say {}", poison.error_code()));
    }
    let untold = ["attempts", "error", "worker"]
        .into_iter()
        .find(|name| letter.header(&format!("pelton-{name}")).is_none_or(<[u8]>::is_empty));
    untold.map(|name| format!("does not tell pelton-{name}"))
}
