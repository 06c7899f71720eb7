//! What does a handler see of a record, and where do its bytes live?
//!
//! Records that arrived together travel as one [`Run`]: their bytes are copied once into one
//! arena, so that a record kept for long never pins a whole fetch response.

use std::ops::Range;

use serde::Deserialize;

use crate::error::HandlerError;
use crate::json_problem;
use crate::topic_partition::TopicPartition;

/// Records of one partition that arrived together, in offset order.
///
/// ```
/// use pelton::{Run, TopicPartition};
///
/// let mut run = Run::new(TopicPartition::new("user_logins", 0));
/// run.push(7, Some(1_700_000_000_000), Some(b"alice"), Some(b"{}"), []);
/// assert_eq!(run.len(), 1);
/// assert_eq!(run.record(0).unwrap().key(), Some(&b"alice"[..]));
/// ```
#[derive(Clone, Debug)]
pub struct Run {
    partition: TopicPartition,
    arena: Vec<u8>,
    entries: Vec<Entry>,
    headers: Vec<HeaderEntry>,
}

/// Where a record is. There may be a hundred thousand of them: it is kept small.
#[derive(Clone, Debug)]
struct Entry {
    offset: i64,
    /// [`NO_TIMESTAMP`] where there is none.
    timestamp: i64,
    /// In the arena, its key begins here, and its value behind that.
    start: usize,
    /// [`ABSENT`] where there is none.
    key_bytes: usize,
    value_bytes: usize,
    first_header: u32,
    headers: u32,
}

/// No record has this timestamp.
const NO_TIMESTAMP: i64 = i64::MIN;

/// No slice has this length.
const ABSENT: usize = usize::MAX;

impl Entry {
    fn key(&self) -> Option<Range<usize>> {
        (self.key_bytes != ABSENT).then(|| self.start..self.start + self.key_bytes)
    }

    fn value(&self) -> Option<Range<usize>> {
        let start = self.key().map_or(self.start, |key| key.end);
        (self.value_bytes != ABSENT).then(|| start..start + self.value_bytes)
    }

    fn headers(&self) -> Range<usize> {
        let [first, count] = [self.first_header, self.headers]
            .map(|number| usize::try_from(number).unwrap_or(usize::MAX));
        first..first + count
    }
}

#[derive(Clone, Debug)]
struct HeaderEntry {
    name: Range<usize>,
    value: Option<Range<usize>>,
}

impl Run {
    /// An empty run.
    #[must_use]
    pub fn new(partition: TopicPartition) -> Self {
        Self { partition, arena: Vec::new(), entries: Vec::new(), headers: Vec::new() }
    }

    /// Copies one record to the end of the run. `timestamp` is milliseconds since 1970.
    pub fn push<'h>(
        &mut self,
        offset: i64,
        timestamp: Option<i64>,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) {
        let start = self.arena.len();
        let [key_bytes, value_bytes] =
            [key, value].map(|bytes| bytes.map_or(ABSENT, |bytes| self.copy(bytes).len()));
        let first = self.headers.len();
        for (name, value) in headers {
            let name = self.copy(name.as_bytes());
            let value = value.map(|bytes| self.copy(bytes));
            self.headers.push(HeaderEntry { name, value });
        }
        let timestamp = timestamp.unwrap_or(NO_TIMESTAMP);
        // No machine holds as many headers as would not fit.
        let [first_header, headers] = [first, self.headers.len() - first]
            .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
        let entry =
            Entry { offset, timestamp, start, key_bytes, value_bytes, first_header, headers };
        self.entries.push(entry);
    }

    fn copy(&mut self, bytes: &[u8]) -> Range<usize> {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        start..self.arena.len()
    }

    /// The partition all of its records belong to.
    #[must_use]
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// How many records it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Does it hold none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// What it takes in memory: keys, values and headers, and what it takes to find them. Records
    /// that were skipped count until the run is dropped.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.arena.capacity()
            + self.entries.capacity() * size_of::<Entry>()
            + self.headers.capacity() * size_of::<HeaderEntry>()
    }

    /// The record at `index`, counted from 0.
    #[must_use]
    pub fn record(&self, index: usize) -> Option<Record<'_>> {
        self.entries.get(index).map(|entry| Record { run: self, entry })
    }

    /// Its records, first to last.
    #[must_use]
    pub fn records(&self) -> impl DoubleEndedIterator<Item = Record<'_>> + '_ {
        self.entries.iter().map(|entry| Record { run: self, entry })
    }

    /// The offset of the record at `index`.
    #[must_use]
    pub fn offset(&self, index: usize) -> Option<i64> {
        self.entries.get(index).map(|entry| entry.offset)
    }

    /// Its offsets, first to last.
    #[must_use]
    pub fn offsets(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        self.entries.iter().map(|entry| entry.offset)
    }

    /// Drops the records below `offset`; returns how many they were.
    pub fn skip_below(&mut self, offset: i64) -> usize {
        let keep = self.entries.partition_point(|entry| entry.offset < offset);
        self.entries.drain(..keep);
        keep
    }
}

/// One record, as Kafka delivered it.
///
/// A key or a value may be absent (`None`), which is not the same as empty: a record without a
/// value is a tombstone.
///
/// ```
/// use pelton::{Run, TopicPartition};
///
/// let mut run = Run::new(TopicPartition::new("user_logins", 2));
/// run.push(7, None, Some(b""), None, [("seq", Some(&b"12"[..]))]);
/// let record = run.record(0).unwrap();
/// assert_eq!((record.topic(), record.partition(), record.offset()), ("user_logins", 2, 7));
/// assert_eq!(record.key(), Some(&b""[..]));
/// assert!(record.value().is_none());
/// assert_eq!(record.header("seq"), Some(&b"12"[..]));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    run: &'a Run,
    entry: &'a Entry,
}

impl<'a> Record<'a> {
    /// Its topic's name.
    #[must_use]
    pub fn topic(&self) -> &'a str {
        self.run.partition.topic()
    }

    /// Its partition's number.
    #[must_use]
    pub fn partition(&self) -> i32 {
        self.run.partition.partition()
    }

    /// Its topic and partition.
    #[must_use]
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.run.partition
    }

    /// Its offset.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.entry.offset
    }

    /// Its timestamp in milliseconds since 1970, if it has one.
    #[must_use]
    pub fn timestamp_ms(&self) -> Option<i64> {
        Some(self.entry.timestamp).filter(|timestamp| *timestamp != NO_TIMESTAMP)
    }

    /// Its key, if it has one; it may be empty.
    #[must_use]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.slice(self.entry.key())
    }

    /// Its key as text.
    ///
    /// # Errors
    ///
    /// *Invalid* if it has none, or it is not UTF-8: trying again can't help.
    pub fn key_str(&self) -> Result<&'a str, HandlerError> {
        let key = self.key().ok_or_else(|| HandlerError::invalid("the record has no key"))?;
        std::str::from_utf8(key)
            .map_err(|error| HandlerError::invalid(format!("the key is not UTF-8: {error}")))
    }

    /// Its value; `None` is a tombstone.
    #[must_use]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.slice(self.entry.value())
    }

    /// Its headers, in order; a name may occur more than once.
    #[must_use]
    pub fn headers(
        &self,
    ) -> impl DoubleEndedIterator<Item = (&'a str, Option<&'a [u8]>)> + use<'a> {
        let this = *self;
        self.run.headers[self.entry.headers()].iter().map(move |header| {
            let name = std::str::from_utf8(&this.run.arena[header.name.clone()]).unwrap_or("");
            (name, this.slice(header.value.clone()))
        })
    }

    /// The value of its last header called `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().rev().find(|(found, _)| *found == name).and_then(|(_, value)| value)
    }

    /// The bytes of its key and value.
    pub(crate) fn bytes(&self) -> usize {
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
        length(self.key()) + length(self.value())
    }

    /// Reads its value as JSON; text may be borrowed from the record.
    ///
    /// # Errors
    ///
    /// If it has no value or the value does not fit `T`: the record is *invalid*, is never
    /// retried, and the input's `on_invalid` decides what becomes of it.
    pub fn json<T: Deserialize<'a>>(&self) -> Result<T, HandlerError> {
        let value = self.value().ok_or_else(|| HandlerError::invalid("the record has no value"))?;
        serde_json::from_slice(value)
            .map_err(|error| HandlerError::invalid(json_problem::describe(&error)))
    }

    fn slice(&self, range: Option<Range<usize>>) -> Option<&'a [u8]> {
        range.map(|range| &self.run.arena[range])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        let mut run = Run::new(TopicPartition::new("t", 0));
        for offset in [3, 5, 9] {
            run.push(offset, Some(offset), Some(b"k"), Some(b"\"v\""), []);
        }
        run
    }

    #[test]
    fn records_below_the_position_are_dropped_and_counted() {
        let mut run = run();
        assert_eq!(run.skip_below(6), 2);
        assert_eq!(run.offsets().collect::<Vec<_>>(), [9]);
        assert_eq!(run.record(0).map(|r| r.json::<&str>().expect("JSON")), Some("v"));
    }

    #[test]
    fn a_value_that_is_no_json_is_invalid() {
        let mut run = run();
        run.push(10, None, None, Some(b"{"), []);
        run.push(11, None, None, None, []);
        for index in [3, 4] {
            let error = run.record(index).and_then(|r| r.json::<u64>().err()).expect("an error");
            assert!(error.is_invalid());
        }
    }
}
