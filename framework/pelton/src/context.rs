//! What may a handler do besides reading the record? Read and write stores, emit, look around.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::error::HandlerError;
use crate::output::{Emit, Output, OutputSpec};
use crate::ports::OutRecord;
use crate::state::{Store, StoreKey, StoreSpec, Stores, Writes, decode, encode};
use crate::topic_partition::TopicPartition;

/// Keys and values above it are refused in the attempt: librdkafka's `message.max.bytes`
/// (1,000,000) less what Kafka adds to a record.
pub(crate) const MAX_RECORD_BYTES: usize = 999_000;

/// The handler's hands: stores, outputs, and where it stands.
///
/// What is emitted or written here belongs to the record at hand and counts only when the
/// handler returns `Ok`. Reads see the record's own writes and everything done before it.
///
/// ```
/// use pelton::{Context, HandlerError, Output, Record, Store};
///
/// fn count(record: &Record<'_>, ctx: &mut Context<'_>, totals: Store<str, u64>, out: Output)
///     -> Result<(), HandlerError>
/// {
///     let user: &str = record.json()?;
///     let total = ctx.update(totals, user, |n| n.unwrap_or(0) + 1)?;
///     ctx.emit(out, user, &total)
/// }
/// ```
#[derive(Debug)]
pub struct Context<'a> {
    pub(crate) place: &'a Place,
    pub(crate) attempt: u32,
    pub(crate) may_emit: bool,
    pub(crate) effects: Effects,
}

/// Where a slot stands: what does not change from record to record.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) partition: TopicPartition,
    pub(crate) epoch: u64,
    pub(crate) outputs: Arc<[OutputSpec]>,
    /// Every declared store, and which of `stores` holds its content, if the input uses it.
    pub(crate) declared: Arc<[StoreSpec]>,
    pub(crate) bound: Vec<Option<usize>>,
    pub(crate) stores: Stores,
    pub(crate) cancelled: watch::Receiver<bool>,
}

/// What one attempt wants to have done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) outputs: Vec<OutRecord>,
    pub(crate) writes: BTreeMap<usize, Writes>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(place: &'a Place, attempt: u32, may_emit: bool) -> Self {
        Self { place, attempt, may_emit, effects: Effects::default() }
    }

    /// Writes `value` as JSON under `key` to an output. The partition follows from the key as
    /// Java's producer would choose it (murmur2).
    ///
    /// # Errors
    ///
    /// If the value is no JSON, the record is larger than 999,000 bytes, or this is a hook that
    /// may not emit: fatal, because trying again can't help.
    pub fn emit<K, V>(&mut self, output: Output, key: &K, value: &V) -> Result<(), HandlerError>
    where
        K: AsRef<[u8]> + ?Sized,
        V: Serialize + ?Sized,
    {
        self.emit_record(output, Emit::new().key(key).json(value)?)
    }

    /// Writes a record without a value: readers of a compacted topic forget the key.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub fn tombstone<K>(&mut self, output: Output, key: &K) -> Result<(), HandlerError>
    where
        K: AsRef<[u8]> + ?Sized,
    {
        self.emit_record(output, Emit::new().key(key))
    }

    /// Writes a record with headers, a partition or a timestamp of your choice.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit), or if the topic had no such partition when the worker started.
    pub fn emit_record(&mut self, output: Output, record: Emit) -> Result<(), HandlerError> {
        let spec = self.place.outputs.get(output.index).ok_or_else(|| {
            HandlerError::fatal("this output was declared for another application")
        })?;
        if !self.may_emit {
            return Err(HandlerError::fatal("nothing may be emitted in this hook"));
        }
        let partitions = spec.partitions.load(Ordering::Relaxed);
        if let Some(partition) = record.partition
            && (partition < 0 || (partitions > 0 && partition >= partitions))
        {
            return Err(HandlerError::fatal(format!(
                "{} has {partitions} partitions, there is no partition {partition}",
                spec.topic
            )));
        }
        let record = OutRecord {
            topic: Arc::clone(&spec.topic),
            partition: record.partition,
            key: record.key,
            value: record.value,
            headers: record.headers,
            timestamp_ms: record.timestamp_ms,
        };
        if record.bytes() > MAX_RECORD_BYTES {
            return Err(HandlerError::fatal(format!(
                "a record of {} bytes for {} is larger than {MAX_RECORD_BYTES}",
                record.bytes(),
                spec.topic
            )));
        }
        self.effects.outputs.push(record);
        Ok(())
    }

    /// The value under `key`, if there is one.
    ///
    /// # Errors
    ///
    /// If the store is not bound to this input, or its content does not fit `V` (both fatal).
    pub fn get<K, V>(&self, store: Store<K, V>, key: &K) -> Result<Option<V>, HandlerError>
    where
        K: StoreKey + ?Sized,
        V: DeserializeOwned,
    {
        let (at, name) = self.bound(store.index)?;
        let key = key.store_key();
        let own = self.effects.writes.get(&at).and_then(|writes| writes.get(key.as_ref()));
        if let Some(written) = own {
            return written.as_deref().map(|bytes| decode(name, bytes)).transpose();
        }
        let stores = self.place.stores.lock();
        stores[at].read(&key).map(|bytes| decode(name, bytes)).transpose()
    }

    /// Puts `value` under `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get), or if the value is no JSON or larger than 999,000 bytes.
    pub fn put<K, V>(&mut self, store: Store<K, V>, key: &K, value: &V) -> Result<(), HandlerError>
    where
        K: StoreKey + ?Sized,
        V: Serialize,
    {
        let bytes = encode(value)?;
        self.write(store.index, key.store_key().into_owned(), Some(bytes))
    }

    /// Removes `key`.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub fn delete<K, V>(&mut self, store: Store<K, V>, key: &K) -> Result<(), HandlerError>
    where
        K: StoreKey + ?Sized,
    {
        self.write(store.index, key.store_key().into_owned(), None)
    }

    /// Replaces the value under `key` by what `change` makes of it, and returns the new one.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get) and [`put`](Self::put).
    pub fn update<K, V>(
        &mut self,
        store: Store<K, V>,
        key: &K,
        change: impl FnOnce(Option<V>) -> V,
    ) -> Result<V, HandlerError>
    where
        K: StoreKey + ?Sized,
        V: Serialize + DeserializeOwned,
    {
        let value = change(self.get(store, key)?);
        self.put(store, key, &value)?;
        Ok(value)
    }

    /// Which attempt at the record this is, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The partition this slot works for.
    #[must_use]
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.place.partition
    }

    /// Counts this partition's assignments in this process, from 1: a fencing number for
    /// effects outside Pelton within one process.
    #[must_use]
    pub fn assignment_epoch(&self) -> u64 {
        self.place.epoch
    }

    /// Has the attempt been cut off? For work the handler has spawned elsewhere.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.place.cancelled.borrow()
    }

    /// A handle that outlives the attempt and tells when the partition is cut off or lost.
    #[must_use]
    pub fn cancellation(&self) -> Cancellation {
        Cancellation(self.place.cancelled.clone())
    }

    fn write(
        &mut self,
        store: usize,
        key: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<(), HandlerError> {
        let (at, name) = self.bound(store)?;
        let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
        if bytes > MAX_RECORD_BYTES {
            return Err(HandlerError::fatal(format!(
                "an entry of {bytes} bytes for the store {name} is larger than {MAX_RECORD_BYTES}"
            )));
        }
        self.effects.writes.entry(at).or_default().insert(key, value);
        Ok(())
    }

    fn bound(&self, store: usize) -> Result<(usize, &'a str), HandlerError> {
        let place: &'a Place = self.place;
        let spec = place.declared.get(store).ok_or_else(|| {
            HandlerError::fatal("this store was declared for another application")
        })?;
        let at = place.bound.get(store).copied().flatten().ok_or_else(|| {
            HandlerError::fatal(format!(
                "the store {} is not bound to the input {}; declare it with .uses(store)",
                spec.name,
                place.partition.topic()
            ))
        })?;
        Ok((at, &spec.name))
    }
}

/// Tells when a partition's running attempt is cut off.
///
/// ```
/// # async fn doc(ctx: &pelton::Context<'_>) {
/// let cancellation = ctx.cancellation();
/// tokio::spawn(async move {
///     cancellation.cancelled().await; // stop what the handler began
/// });
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Cancellation(watch::Receiver<bool>);

impl Cancellation {
    /// Has it happened?
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when it happens, or when the partition's task has ended. Cancel safe.
    pub async fn cancelled(mut self) {
        // An error means that the task is gone: that is a cancellation too.
        let _gone = self.0.wait_for(|cancelled| *cancelled).await.is_err();
    }
}
