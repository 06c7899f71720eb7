//! What is in a partition, and what may a reader see of it? One log: idempotent appends, open and
//! ended transactions, compaction, retention.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pelton_engine::Time;

use super::wire::{Code, Fetched, LogRecord, ProducerBatch, ProducerIdentity};

/// A producer that sends nothing for so long is forgotten (`producer.id.expiration.ms`).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// So many of a producer's last batches are known again when they come a second time.
const KNOWN_BATCHES: usize = 5;

/// One partition's log. Its leader of the moment writes it; it moves with the leadership.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// By offset, ascending. Transaction markers take an offset and leave a hole.
    entries: VecDeque<Entry>,
    start: i64,
    end: i64,
    leader_epoch: i32,
    producers: BTreeMap<i64, Writer>,
    /// Open transactions: producer id and first offset.
    open: BTreeMap<i64, i64>,
    /// What producers wrote was lost: an unknown one may be in the middle of its numbers.
    has_lost_writers: bool,
}

#[derive(Clone, Debug)]
struct Entry {
    offset: i64,
    record: Arc<LogRecord>,
    /// The producer whose transaction it belonged to when it was written.
    transaction: Option<i64>,
    is_aborted: bool,
    /// A compaction has seen this tombstone.
    is_compacted: bool,
}

/// What a log knows of a producer.
#[derive(Clone, Debug)]
struct Writer {
    epoch: i16,
    /// First sequence number, length, first offset; oldest first.
    batches: VecDeque<(i32, i32, i64)>,
    last: Time,
}

impl Log {
    /// Appends a batch; returns the first record's offset. A batch that is one of the last five of
    /// its producer is not appended again: it answers where it is.
    pub(crate) fn append(&mut self, now: Time, batch: &ProducerBatch) -> Result<i64, Code> {
        let offset = self.end;
        if let Some((producer, sequence)) = batch.producer {
            if let Some(stored) = self.check(now, producer, sequence, batch)? {
                return Ok(stored);
            }
            let writer = self.producers.entry(producer.id).or_insert_with(|| Writer {
                epoch: producer.epoch,
                batches: VecDeque::new(),
                last: now,
            });
            if writer.epoch != producer.epoch {
                (writer.epoch, writer.batches) = (producer.epoch, VecDeque::new());
            }
            if writer.batches.len() == KNOWN_BATCHES {
                writer.batches.pop_front();
            }
            writer.batches.push_back((sequence, length(batch), offset));
            writer.last = now;
            if batch.transactional && !batch.records.is_empty() {
                self.open.entry(producer.id).or_insert(offset);
            }
        }
        let transaction = batch.producer.filter(|_| batch.transactional).map(|(by, _)| by.id);
        for record in &batch.records {
            self.add(Arc::clone(record), transaction);
        }
        Ok(offset)
    }

    /// Appends a record from outside, without a producer. Returns its offset.
    pub(crate) fn push(&mut self, record: impl Into<Arc<LogRecord>>) -> i64 {
        self.add(record.into(), None);
        self.end - 1
    }

    /// Writes the marker that ends a producer's transaction; its epoch fences older ones. A marker
    /// of an older epoch than the log knows is nothing.
    pub(crate) fn end_transaction(&mut self, producer: ProducerIdentity, commit: bool) {
        if let Some(writer) = self.producers.get_mut(&producer.id) {
            if writer.epoch > producer.epoch {
                return;
            }
            if writer.epoch < producer.epoch {
                (writer.epoch, writer.batches) = (producer.epoch, VecDeque::new());
            }
        }
        if let Some(first) = self.open.remove(&producer.id)
            && !commit
        {
            let from = self.position(first);
            let written = self.entries.range_mut(from..);
            for entry in written.filter(|entry| entry.transaction == Some(producer.id)) {
                entry.is_aborted = true;
            }
        }
        self.end += 1; // the marker
    }

    /// At most `max_records` records from an offset on.
    pub(crate) fn fetch(
        &self,
        from: i64,
        max_records: usize,
        read_committed: bool,
    ) -> Result<Fetched, Code> {
        if from < self.start || from > self.end {
            return Err(Code::OffsetOutOfRange);
        }
        let limit = if read_committed { self.last_stable() } else { self.end };
        let mut records = Vec::new();
        let mut next = from.max(limit);
        for entry in self.entries.range(self.position(from)..) {
            if entry.offset >= limit {
                break;
            }
            if records.len() == max_records {
                next = entry.offset;
                break;
            }
            if !(read_committed && entry.is_aborted) {
                records.push((entry.offset, Arc::clone(&entry.record)));
            }
        }
        Ok(Fetched { records, next, log_start: self.start, end: limit })
    }

    /// The first offset.
    pub(crate) const fn start(&self) -> i64 {
        self.start
    }

    /// The offset the next record takes.
    pub(crate) const fn end(&self) -> i64 {
        self.end
    }

    /// No record at or above it is known to be committed or aborted.
    pub(crate) fn last_stable(&self) -> i64 {
        self.open.values().min().copied().unwrap_or(self.end)
    }

    /// Counts the leaders.
    pub(crate) const fn leader_epoch(&self) -> i32 {
        self.leader_epoch
    }

    /// Another leader writes it from now on.
    pub(crate) const fn next_leader(&mut self) {
        self.leader_epoch += 1;
    }

    /// Leaves the last record of each key, and tombstones; offsets stay, with holes. What is not
    /// yet stable is left alone; aborted records go; records without a key stay.
    pub(crate) fn compact(&mut self) {
        let stable = self.last_stable();
        let mut seen = BTreeSet::new();
        let mut kept = VecDeque::new();
        while let Some(mut entry) = self.entries.pop_back() {
            if entry.offset < stable {
                if entry.is_aborted || entry.record.key.clone().is_some_and(|key| !seen.insert(key))
                {
                    continue;
                }
                entry.is_compacted = true;
            }
            kept.push_front(entry);
        }
        self.entries = kept;
    }

    /// Drops the tombstones that a compaction has kept: their while is over.
    pub(crate) fn drop_tombstones(&mut self) {
        let is_done = |entry: &Entry| entry.is_compacted && entry.record.value.is_none();
        self.entries.retain(|entry| !is_done(entry));
    }

    /// Retention: what is below `offset` is gone.
    pub(crate) fn delete_below(&mut self, offset: i64) {
        self.start = self.start.max(offset.min(self.end));
        self.entries.drain(..self.position(self.start));
    }

    /// An unclean election: the log ends at `offset` from now on.
    pub(crate) fn truncate(&mut self, offset: i64) {
        if offset >= self.end {
            return;
        }
        self.end = offset.max(self.start);
        let end = self.end;
        self.entries.truncate(self.position(end));
        self.open.retain(|_, first| *first < end);
        for writer in self.producers.values_mut() {
            writer.batches.retain(|(_, length, first)| first + i64::from(*length) <= end);
        }
        self.producers.retain(|_, writer| !writer.batches.is_empty());
        self.has_lost_writers = true;
    }

    /// All records that are there; committed ones, or also open and aborted ones.
    pub(crate) fn records(&self, read_committed: bool) -> impl Iterator<Item = (i64, &LogRecord)> {
        let limit = if read_committed { self.last_stable() } else { self.end };
        let seen = self.entries.iter().take_while(move |entry| entry.offset < limit);
        let seen = seen.filter(move |entry| !(read_committed && entry.is_aborted));
        seen.map(|entry| (entry.offset, &*entry.record))
    }

    fn add(&mut self, record: Arc<LogRecord>, transaction: Option<i64>) {
        let offset = self.end;
        let (is_aborted, is_compacted) = (false, false);
        self.entries.push_back(Entry { offset, record, transaction, is_aborted, is_compacted });
        self.end += 1;
    }

    /// Where the entries at or above an offset begin.
    fn position(&self, offset: i64) -> usize {
        self.entries.partition_point(|entry| entry.offset < offset)
    }

    /// May this batch be appended? Answers its offset if it has been.
    fn check(
        &self,
        now: Time,
        producer: ProducerIdentity,
        sequence: i32,
        batch: &ProducerBatch,
    ) -> Result<Option<i64>, Code> {
        let known = self.producers.get(&producer.id);
        let Some(writer) = known.filter(|writer| now.since(writer.last) < FORGOTTEN_AFTER) else {
            // Kafka accepts any number of a producer it does not know. Nobody it has not
            // forgotten begins in the middle, unless a first batch is overtaken.
            let may_be_forgotten = self.has_lost_writers || known.is_some();
            return if sequence == 0 || may_be_forgotten {
                Ok(None)
            } else {
                Err(Code::OutOfOrderSequenceNumber)
            };
        };
        if producer.epoch < writer.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        if producer.epoch > writer.epoch {
            return if sequence == 0 { Ok(None) } else { Err(Code::OutOfOrderSequenceNumber) };
        }
        let again =
            |(first, long, _): &&(i32, i32, i64)| (*first, *long) == (sequence, length(batch));
        if let Some((_, _, offset)) = writer.batches.iter().find(again) {
            return Ok(Some(*offset));
        }
        let expected = writer.batches.back().map_or(0, |(first, long, _)| after(*first, *long));
        if sequence == expected { Ok(None) } else { Err(Code::OutOfOrderSequenceNumber) }
    }
}

fn length(batch: &ProducerBatch) -> i32 {
    i32::try_from(batch.records.len()).unwrap_or(i32::MAX)
}

/// The sequence number that follows `count` records: they begin again at 0.
pub(crate) fn after(sequence: i32, count: i32) -> i32 {
    let next = i64::from(sequence) + i64::from(count);
    i32::try_from(next % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
