//! What is really in the topics, and what has the group committed? The other side of a check.
//!
//! Filled by a reader that has nothing to do with the workers: a fresh consumer after the run,
//! or the test kit's own cluster.

use std::collections::BTreeMap;

use pelton::TopicPartition;

/// The input topics as they are, and the group's last word on them.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton_testkit::ledger::Truth;
///
/// let logins = TopicPartition::new("logins", 0);
/// let mut truth = Truth::new();
/// for (offset, user) in [(0, "alice"), (1, "bob"), (3, "alice")] { // 2 was compacted away
///     truth.record(&logins, offset, Some(user.as_bytes()), None);
/// }
/// truth.at_rest(&logins, Some(4), 4); // the run has ended: committed offset, end of the log
/// assert_eq!(truth.records(), 3);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub(crate) partitions: BTreeMap<TopicPartition, PartitionTruth>,
}

/// One partition of the truth.
#[derive(Clone, Debug, Default)]
pub(crate) struct PartitionTruth {
    /// In offset order, once [`Truth::sorted`] has run.
    pub(crate) records: Vec<TrueRecord>,
    /// Records below it are not the group's business.
    pub(crate) begin: i64,
    pub(crate) rest: Option<Rest>,
}

#[derive(Clone, Debug)]
pub(crate) struct TrueRecord {
    pub(crate) offset: i64,
    pub(crate) key: Option<Box<[u8]>>,
    pub(crate) timestamp_ms: Option<i64>,
}

/// What the group has left behind when everything stood still.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rest {
    pub(crate) committed: Option<i64>,
    pub(crate) end: i64,
}

impl Truth {
    /// Nothing known yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A record exists. Compacted records and transaction markers don't: leave them out.
    ///
    /// `timestamp_ms` (milliseconds since 1970) says since when, for A7; without one the record
    /// counts as there before the run.
    pub fn record(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        key: Option<&[u8]>,
        timestamp_ms: Option<i64>,
    ) {
        let key = key.map(Box::from);
        self.partition(partition).records.push(TrueRecord { offset, key, timestamp_ms });
    }

    /// The group began at `offset` on purpose (`auto_offset_reset = latest`, say): the records
    /// below it are not its business. Default 0.
    pub fn begins_at(&mut self, partition: &TopicPartition, offset: i64) {
        self.partition(partition).begin = offset;
    }

    /// Everything was handled and stood still: the group's committed offset and the end of the
    /// log, both read from Kafka after the run. Without it A2 is not checked for the partition.
    pub fn at_rest(&mut self, partition: &TopicPartition, committed: Option<i64>, end: i64) {
        self.partition(partition).rest = Some(Rest { committed, end });
    }

    /// How many records there are.
    #[must_use]
    pub fn records(&self) -> usize {
        self.partitions.values().map(|partition| partition.records.len()).sum()
    }

    /// How many records each key has; records without a key are left out.
    #[must_use]
    pub fn records_by_key(&self) -> BTreeMap<Vec<u8>, u64> {
        let mut counts = BTreeMap::new();
        for record in self.partitions.values().flat_map(|partition| &partition.records) {
            if let Some(key) = &record.key {
                *counts.entry(key.to_vec()).or_insert(0) += 1;
            }
        }
        counts
    }

    fn partition(&mut self, partition: &TopicPartition) -> &mut PartitionTruth {
        self.partitions.entry(partition.clone()).or_default()
    }
}

impl PartitionTruth {
    /// The same, its records in offset order and each once.
    pub(crate) fn sorted(&self) -> Self {
        let mut sorted = self.clone();
        sorted.records.sort_by_key(|record| record.offset);
        sorted.records.dedup_by_key(|record| record.offset);
        sorted
    }

    pub(crate) fn record(&self, offset: i64) -> Option<&TrueRecord> {
        let at = self.records.binary_search_by_key(&offset, |record| record.offset).ok()?;
        self.records.get(at)
    }
}
