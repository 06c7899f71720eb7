//! What has the group committed, and which transactions are about to change it?

use std::collections::BTreeMap;

use pelton::TopicPartition;

use super::Topics;
use crate::model::wire::{Code, ProducerIdentity, StoredOffset};

/// Kafka's `offset.metadata.max.bytes`.
const METADATA_BYTES: usize = 4096;

/// An offset and its place in the group's log: of two the one that was appended later counts.
#[derive(Clone, Debug)]
struct Appended {
    offset: StoredOffset,
    at: u64,
}

#[derive(Debug, Default)]
pub(super) struct Offsets {
    stored: BTreeMap<TopicPartition, Appended>,
    /// By producer id.
    pending: BTreeMap<i64, BTreeMap<TopicPartition, Appended>>,
    /// The newest epoch of each producer that was seen here.
    epochs: BTreeMap<i64, i16>,
    appended: u64,
}

impl Offsets {
    /// Another tool's metadata stands beside every offset.
    pub(super) fn damage(&mut self) {
        for appended in self.stored.values_mut() {
            "by another tool".clone_into(&mut appended.offset.metadata);
        }
    }

    pub(super) fn get(&self, partition: &TopicPartition) -> Option<&StoredOffset> {
        self.stored.get(partition).map(|appended| &appended.offset)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&TopicPartition, &StoredOffset)> {
        self.stored.iter().map(|(partition, appended)| (partition, &appended.offset))
    }

    pub(super) fn store(
        &mut self,
        partition: &TopicPartition,
        offset: StoredOffset,
    ) -> Result<(), Code> {
        let appended = self.append(offset)?;
        self.stored.insert(partition.clone(), appended);
        Ok(())
    }

    pub(super) fn store_pending(
        &mut self,
        producer: ProducerIdentity,
        partition: &TopicPartition,
        offset: StoredOffset,
    ) -> Result<(), Code> {
        let newest = self.epochs.entry(producer.id).or_insert(producer.epoch);
        if producer.epoch < *newest {
            return Err(Code::InvalidProducerEpoch);
        }
        *newest = producer.epoch;
        let appended = self.append(offset)?;
        self.pending.entry(producer.id).or_default().insert(partition.clone(), appended);
        Ok(())
    }

    pub(super) fn end_transaction(&mut self, producer: ProducerIdentity, commit: bool) {
        let newest = self.epochs.entry(producer.id).or_insert(producer.epoch);
        *newest = (*newest).max(producer.epoch);
        let Some(pending) = self.pending.remove(&producer.id) else { return };
        for (partition, appended) in pending {
            let is_newer = self.stored.get(&partition).is_none_or(|stored| stored.at < appended.at);
            if commit && is_newer {
                self.stored.insert(partition, appended);
            }
        }
    }

    pub(super) fn has_pending(&self, producer: i64) -> bool {
        self.pending.contains_key(&producer)
    }

    pub(super) fn read(
        &self,
        partitions: Vec<TopicPartition>,
        stable: bool,
    ) -> Vec<(TopicPartition, Result<Option<StoredOffset>, Code>)> {
        let read = |partition: TopicPartition| {
            let is_open = || self.pending.values().any(|of| of.contains_key(&partition));
            let result = if stable && is_open() {
                Err(Code::UnstableOffsetCommit)
            } else {
                Ok(self.get(&partition).cloned())
            };
            (partition, result)
        };
        partitions.into_iter().map(read).collect()
    }

    pub(super) fn reset(&mut self, partition: TopicPartition, offset: Option<StoredOffset>) {
        match offset {
            Some(offset) => {
                self.appended += 1;
                self.stored.insert(partition, Appended { offset, at: self.appended });
            }
            None => {
                self.stored.remove(&partition);
            }
        }
    }

    /// Kafka deletes the offsets of a topic with the topic.
    pub(super) fn forget_topics(&mut self, topics: &Topics) {
        self.stored.retain(|partition, _| topics.contains_key(partition.topic()));
        for pending in self.pending.values_mut() {
            pending.retain(|partition, _| topics.contains_key(partition.topic()));
        }
    }

    fn append(&mut self, offset: StoredOffset) -> Result<Appended, Code> {
        if offset.metadata.len() > METADATA_BYTES {
            return Err(Code::OffsetMetadataTooLarge);
        }
        self.appended += 1;
        Ok(Appended { offset, at: self.appended })
    }
}
