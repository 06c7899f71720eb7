//! What does a commit say besides its offset? One versioned line of tagged fields.
//!
//! `pelton1 <checksum> <tag>=<value> …`: text, because Kafka mangles bytes that are not UTF-8,
//! and readable in `kafka-consumer-groups`. The checksum is FNV-1a (32 bit) over everything
//! behind it. Tags that begin with a capital letter are required: a reader that does not know
//! one must not use the envelope. Values hold no space.
//!
//! Upholds INV-8: metadata written by others, or damaged, is never acted on.

use std::fmt;

use crate::caution::Window;
use crate::done_set::DoneSet;
use crate::holds::Holds;
use crate::standing::Mark;

/// No metadata is longer than this, in bytes; Kafka's own limit is 4,096
/// (`offset.metadata.max.bytes`) and above 32 KiB the connection is dropped.
pub const METADATA_LIMIT_BYTES: usize = 4_000;

/// Marks take no more of it.
const MARKS_LIMIT_BYTES: usize = 1_500;

/// Nor do keys with records in a retry topic.
const HOLDS_LIMIT_BYTES: usize = 800;

const MAGIC: &str = "pelton";
const VERSION: &str = "1";

/// The fields of a commit's metadata.
///
/// ```
/// use pelton_engine::Envelope;
///
/// let envelope = Envelope { partitions: 12, incarnation: Some(("a7".to_owned(), 3)), ..Envelope::default() };
/// let text = envelope.encode();
/// assert!(text.starts_with("pelton1 "));
/// assert_eq!(Envelope::decode(&text), Ok(Some(envelope)));
/// assert_eq!(Envelope::decode("written by another tool"), Ok(None));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The cluster the commit belongs to, where it is known (`c`).
    pub cluster: Option<String>,
    /// The id of the topic the offset belongs to, where topics have ids (`t`): one that was deleted
    /// and made anew has another.
    pub topic: Option<String>,
    /// The topic's partition count that the group has settled on (`p`).
    pub partitions: u32,
    /// Which process wrote it and its how many-th commit it was (`i`).
    pub incarnation: Option<(String, u64)>,
    /// What is known of records that are not done (`m`).
    pub marks: Vec<Mark>,
    /// What its writer may have in hand, where that is said (`w`).
    pub window: Option<Window>,
    /// Keys with records in a retry topic (`h`).
    pub holds: Holds,
    /// What is done above the committed offset, if anything (`d`).
    pub done_set: Option<DoneSet>,
}

/// Why metadata that is ours can't be used.
///
/// ```
/// use pelton_engine::{Envelope, EnvelopeError};
///
/// // A later version wrote it: ours, and not to be acted on.
/// let error = Envelope::decode("pelton9 00000000 p=3").unwrap_err();
/// assert_eq!(error, EnvelopeError::Version("9".to_owned()));
/// assert_eq!(error.to_string(), "written by envelope version 9");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Written by a version this one does not know.
    Version(String),
    /// A required field this version does not know.
    RequiredTag(String),
    /// The checksum does not fit, or a field can't be read.
    Damaged,
}

impl fmt::Display for EnvelopeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "written by envelope version {version}"),
            Self::RequiredTag(tag) => write!(f, "has the unknown required field {tag}"),
            Self::Damaged => f.write_str("is damaged"),
        }
    }
}

impl std::error::Error for EnvelopeError {}

impl Envelope {
    /// The text to commit, at most [`METADATA_LIMIT_BYTES`] long.
    ///
    /// The done-set gets the room that is left, and what does not fit is left out: a part of it
    /// is as true.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut body = format!("p={}", self.partitions);
        if let Some((name, n)) = &self.incarnation {
            body.push_str(&format!(" i={}:{n}", token(name, 200)));
        }
        if let Some(cluster) = &self.cluster {
            body.push_str(&format!(" c={}", token(cluster, 200)));
        }
        if let Some(topic) = &self.topic {
            body.push_str(&format!(" t={}", token(topic, 100)));
        }
        if let Some(window) = &self.window {
            body.push_str(&format!(" w={}", window.encode()));
        }
        let holds = self.holds.encode(HOLDS_LIMIT_BYTES);
        if !holds.is_empty() {
            body.push_str(&format!(" h={holds}"));
        }
        let marks = Mark::encode_all(&self.marks, MARKS_LIMIT_BYTES);
        if !marks.is_empty() {
            body.push_str(&format!(" m={marks}"));
        }
        let head = MAGIC.len() + VERSION.len() + 10;
        let room = METADATA_LIMIT_BYTES.saturating_sub(head + body.len() + " d=".len());
        let done = self.done_set.as_ref().map(|done| done.encode(room)).unwrap_or_default();
        if !done.is_empty() {
            body.push_str(&format!(" d={done}"));
        }
        format!("{MAGIC}{VERSION} {:08x} {body}", checksum(&body))
    }

    /// Reads metadata: `None` if somebody else wrote it.
    ///
    /// # Errors
    ///
    /// If it is ours and can't be used.
    pub fn decode(text: &str) -> Result<Option<Self>, EnvelopeError> {
        let Some(rest) = text.strip_prefix(MAGIC) else {
            return Ok(None);
        };
        let (version, rest) = rest.split_once(' ').ok_or(EnvelopeError::Damaged)?;
        if version != VERSION {
            return Err(EnvelopeError::Version(version.chars().take(20).collect()));
        }
        let (sum, body) = rest.split_once(' ').ok_or(EnvelopeError::Damaged)?;
        if u32::from_str_radix(sum, 16) != Ok(checksum(body)) {
            return Err(EnvelopeError::Damaged);
        }
        let mut envelope = Self::default();
        for field in body.split(' ') {
            let (tag, value) = field.split_once('=').ok_or(EnvelopeError::Damaged)?;
            envelope.take(tag, value)?;
        }
        Ok(Some(envelope))
    }

    /// The done-set in the text of an envelope, as it stands there; empty if there is none.
    ///
    /// ```
    /// use pelton_engine::{DoneSet, Envelope, Offset};
    ///
    /// let mut done = DoneSet::above(Offset(5));
    /// done.push(Offset(7), Offset(7));
    /// let text = Envelope { done_set: Some(done), ..Envelope::default() }.encode();
    /// assert_eq!(Envelope::done_set_of(&text), "5-7bE");
    /// ```
    #[must_use]
    pub fn done_set_of(text: &str) -> &str {
        text.split(' ').find_map(|field| field.strip_prefix("d=")).unwrap_or_default()
    }

    fn take(&mut self, tag: &str, value: &str) -> Result<(), EnvelopeError> {
        match tag {
            "p" => self.partitions = value.parse().map_err(|_| EnvelopeError::Damaged)?,
            "c" => self.cluster = Some(value.to_owned()),
            "t" => self.topic = Some(value.to_owned()),
            "m" => self.marks = Mark::decode_all(value).ok_or(EnvelopeError::Damaged)?,
            "w" => self.window = Some(Window::decode(value).ok_or(EnvelopeError::Damaged)?),
            "h" => self.holds = Holds::decode(value).ok_or(EnvelopeError::Damaged)?,
            "d" => {
                let done = DoneSet::decode(value).map_err(|_| EnvelopeError::Damaged)?;
                self.done_set = Some(done);
            }
            "i" => {
                let (name, n) = value.rsplit_once(':').ok_or(EnvelopeError::Damaged)?;
                let n = n.parse().map_err(|_| EnvelopeError::Damaged)?;
                self.incarnation = Some((name.to_owned(), n));
            }
            _ if tag.starts_with(|first: char| first.is_ascii_uppercase()) => {
                return Err(EnvelopeError::RequiredTag(tag.chars().take(20).collect()));
            }
            _ => {}
        }
        Ok(())
    }
}

/// At most `limit` bytes of a value, without the characters that would end a field.
fn token(value: &str, limit: usize) -> String {
    value.chars().filter(char::is_ascii_graphic).take(limit).collect()
}

fn checksum(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |sum, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A body with a checksum that fits.
#[cfg(test)]
pub(crate) fn sealed(version: &str, body: &str) -> String {
    format!("pelton{version} {:08x} {body}", checksum(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caution::Hand;
    use crate::ids::Offset;
    use proptest::prelude::*;

    #[test]
    fn inv_8_other_tools_metadata_is_ignored_and_damaged_metadata_is_refused() {
        assert_eq!(Envelope::decode(""), Ok(None));
        assert_eq!(Envelope::decode("a note by the operator"), Ok(None));
        assert_eq!(Envelope::decode("pelton1 00000000 p=3"), Err(EnvelopeError::Damaged));
        assert_eq!(Envelope::decode("pelton"), Err(EnvelopeError::Damaged));
    }

    #[test]
    fn an_unknown_version_or_required_tag_is_named_and_an_unknown_optional_tag_is_ignored() {
        assert_eq!(Envelope::decode(&sealed("9", "p=3")), Err(EnvelopeError::Version("9".into())));
        let required = sealed("1", "p=3 Zoo=1");
        assert_eq!(Envelope::decode(&required), Err(EnvelopeError::RequiredTag("Zoo".into())));
        let optional = Envelope::decode(&sealed("1", "p=3 zoo=1"));
        assert_eq!(optional.map(|e| e.map(|e| e.partitions)), Ok(Some(3)));
    }

    #[test]
    fn the_longest_envelope_keeps_kafkas_limit() {
        let cluster = Some("c".repeat(10_000));
        let envelope = Envelope { cluster, done_set: Some(every_other()), ..Envelope::default() };
        assert!(envelope.encode().len() <= METADATA_LIMIT_BYTES);
    }

    /// A done-set that has more to say than there is room.
    fn every_other() -> DoneSet {
        let mut done = DoneSet::above(Offset(0));
        (0..100_000).for_each(|n| done.push(Offset(2 * n + 1), Offset(2 * n + 1)));
        done
    }

    /// Other versions read it: it is as it always was.
    #[test]
    fn inv_8_the_text_is_the_same_in_every_version() {
        let incarnation = Some(("a7".to_owned(), 3));
        let envelope = Envelope { partitions: 12, incarnation, ..Envelope::default() };
        assert_eq!(envelope.encode(), "pelton1 4aa195de p=12 i=a7:3");
    }

    #[test]
    fn a_done_set_gets_the_room_that_is_left() {
        let envelope = Envelope { done_set: Some(every_other()), ..Envelope::default() };
        let text = envelope.encode();
        assert!((METADATA_LIMIT_BYTES - 4..=METADATA_LIMIT_BYTES).contains(&text.len()));
        let read = Envelope::decode(&text).ok().flatten().and_then(|read| read.done_set);
        let highest = read.and_then(|done| done.highest()).expect("a part of it");
        assert!(highest > Offset(20_000) && highest.0 % 2 == 1, "{highest}");
    }

    proptest! {
        #[test]
        fn any_text_decodes_without_a_panic(text in ".{0,200}") {
            prop_assert!(Envelope::decode(&text).is_ok() || text.starts_with("pelton"));
            prop_assert!(!matches!(Envelope::decode(&sealed("1", &text)), Ok(None)));
        }

        #[test]
        fn what_is_encoded_is_decoded(
            partitions in any::<u32>(), n in any::<u64>(), name in "[a-z0-9:-]{1,40}", done in prop::option::of(1i64..1 << 40),
        ) {
            let done_set = done.map(|done| {
                let mut set = DoneSet::above(Offset(done));
                set.push(Offset(2 * done), Offset(3 * done));
                set
            });
            let marks = done.map(|done| Mark { attempts: 3, ..Mark::of(Offset(done)) });
            let marks = marks.into_iter().collect();
            let holds = Holds::decode("4d:9,7.1").filter(|_| done.is_some()).unwrap_or_default();
            let window = done.map(|done| Window { until: Offset(done), suspects: Offset(done), hand: Hand::Below(Offset(7)), deaths: 1 });
            let envelope = Envelope {
                cluster: Some("abc_DEF-1".into()), topic: Some("Q0s-x_9".into()), partitions, incarnation: Some((name, n)), marks, window, holds, done_set,
            };
            prop_assert_eq!(Envelope::decode(&envelope.encode()), Ok(Some(envelope)));
        }
    }
}
