//! What may a handler do besides reading the record? Read and write stores, emit, look around.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pelton_engine::Bug;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::completion::{Complete, Completion};
use crate::effects::Effects;
use crate::error::HandlerError;
use crate::output::{Emit, Output, OutputSpec};
use crate::ports::{Host, OutRecord};
use crate::state::{
    BatchWrites, Merge, Store, StoreAccess, StoreKey, StoreSpec, Stores, Use, decode, encode,
};
use crate::topic_partition::TopicPartition;

/// Keys and values above it are refused in the attempt: librdkafka's `message.max.bytes`
/// (1,000,000) less what Kafka adds to a record.
pub(crate) const MAX_RECORD_BYTES: usize = 999_000;

/// The handler's hands: stores, outputs, and where it stands.
///
/// What is emitted or written here belongs to the record at hand and counts only when the
/// handler returns `Ok`. Reads see the record's own writes and everything done before it.
///
/// Which keys of a store a record may use follows from the input's ordering, so that two slots never
/// interleave a read and a write of the same key: all under `Ordering::Partition`, the record's own
/// ordering key under `Ordering::Key`, and under `Ordering::Unordered` only changes that commute
/// ([`add`](Self::add), [`merge`](Self::merge)).
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
    pub(crate) access: StoreAccess<'a>,
    /// Its number in its batch, where it is one of a batch, and what others of it have written so far.
    pub(crate) batch: Option<(usize, Arc<BatchWrites>)>,
    /// The record, if it may be left to somebody else.
    pub(crate) may_defer: Option<u64>,
    /// It is, for so long.
    pub(crate) deferred: Option<Duration>,
    /// Nothing is to be done for the record.
    skipped: bool,
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
    pub(crate) host: Arc<dyn Host>,
    /// The group that its metrics are labelled with.
    pub(crate) group: Arc<str>,
    pub(crate) complete: Completing,
    pub(crate) bug: Option<Bug>,
}

/// The way of completions to the partition.
pub(crate) struct Completing(pub(crate) Arc<Complete>);

impl std::fmt::Debug for Completing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completing")
    }
}

impl<'a> Context<'a> {
    pub(crate) fn new(place: &'a Place, attempt: u32, access: StoreAccess<'a>) -> Self {
        Self {
            place,
            attempt,
            may_emit: true,
            access,
            batch: None,
            may_defer: None,
            deferred: None,
            skipped: false,
            effects: Effects::default(),
        }
    }

    /// The same for a hook whose outputs nobody would send.
    pub(crate) fn without_outputs(self) -> Self {
        Self { may_emit: false, ..self }
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
        self.effects.send(record);
        Ok(())
    }

    /// The value under `key`, if there is one. Under `Ordering::Key` only the record's own ordering
    /// key may be read or written, under `Ordering::Unordered` none (see [`merge`](Self::merge)).
    ///
    /// # Errors
    ///
    /// If the store is not bound to this input, the ordering does not allow the key, or its content
    /// does not fit `V` (all fatal).
    pub fn get<K, V>(&self, store: Store<K, V>, key: &K) -> Result<Option<V>, HandlerError>
    where
        K: StoreKey + ?Sized,
        V: DeserializeOwned,
    {
        let (at, name) = self.bound(store.index)?;
        let key = key.store_key();
        self.access.check(name, &key)?;
        if let Some(written) = self.effects.written(at, key.as_ref()) {
            return written.as_deref().map(|bytes| decode(name, bytes)).transpose();
        }
        let batch = self.batch.as_ref();
        if let Some(written) = batch.and_then(|(number, batch)| batch.read(*number, at, &key)) {
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

    /// Changes the value under `key` when the record is done, by what it is then. For changes that
    /// commute: records that are handled at the same time are done in any order. Allowed under every
    /// ordering and for every key; the same attempt does not see it yet.
    ///
    /// Under `Ordering::Key` a store is for one of the two: records replace what their own keys hold
    /// ([`put`](Self::put), [`update`](Self::update), [`delete`](Self::delete)), or change what other records'
    /// keys hold by merges. What the one reads and replaces the other would change in between.
    ///
    /// `change` runs for a moment while the partition waits; if it panics, the attempt has failed.
    ///
    /// # Errors
    ///
    /// If the store is not bound to this input, this is a tick or hook beside other slots, or the key is
    /// another record's and the store is one whose records replace what their keys hold (all fatal).
    pub fn merge<K, V>(
        &mut self,
        store: Store<K, V>,
        key: &K,
        change: impl FnOnce(Option<V>) -> V + Send + 'static,
    ) -> Result<(), HandlerError>
    where
        K: StoreKey + ?Sized,
        V: Serialize + DeserializeOwned,
    {
        let (at, name) = self.bound(store.index)?;
        let key = key.store_key().into_owned();
        self.access.check_merge(name, &key)?;
        if self.access.is_anothers(&key) {
            self.use_as(Use::Shared, at, name)?;
        }
        if let Some((number, batch)) = &self.batch {
            batch.merge(*number, at, &key);
        }
        if Bug::MergeTooEarly.is(self.place.bug) {
            let now = self.place.stores.lock()[at].read(&key).map(<[u8]>::to_vec);
            let now = now.map(|bytes| decode::<V>(name, &bytes)).transpose()?;
            let value = encode(&change(now))?;
            self.effects.write(at, key, Some(value));
            return Ok(());
        }
        self.effects.merge(Merge::new(at, name, key, change));
        Ok(())
    }

    /// Adds `more` to the value under `key`, or to the type's default, when the record is done: a
    /// [`merge`](Self::merge).
    ///
    /// ```
    /// # use pelton::{Context, HandlerError, Record, Store};
    /// fn count(record: &Record<'_>, ctx: &mut Context<'_>, totals: Store<str, u64>) -> Result<(), HandlerError> {
    ///     ctx.add(totals, record.key_str()?, 1)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`merge`](Self::merge).
    pub fn add<K, V>(&mut self, store: Store<K, V>, key: &K, more: V) -> Result<(), HandlerError>
    where
        K: StoreKey + ?Sized,
        V: Serialize + DeserializeOwned + Default + std::ops::Add<Output = V> + Send + 'static,
    {
        self.merge(store, key, move |value| value.unwrap_or_default() + more)
    }

    /// What `store` holds under `key` as far as records are done, whatever their order. Only for what
    /// other slots change by merges, and for a question whose answer their changes can't alter.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get); not because of the key.
    pub(crate) fn look<K, V>(&self, store: Store<K, V>, key: &K) -> Result<Option<V>, HandlerError>
    where
        K: StoreKey + ?Sized,
        V: DeserializeOwned,
    {
        let (at, name) = self.bound(store.index)?;
        let key = key.store_key();
        self.access.check_look(name, &key)?;
        let stores = self.place.stores.lock();
        stores[at].read(&key).map(|bytes| decode(name, bytes)).transpose()
    }

    /// Nothing is to be done for the record: when the handler returns `Ok`, it is done without effects,
    /// whatever was emitted or written, and counted as `skipped`. In hooks, and of a record that is
    /// [deferred](Self::defer), it means nothing.
    ///
    /// ```
    /// # use pelton::{Context, HandlerError, Record};
    /// fn tombstones_are_nothing(record: &Record<'_>, ctx: &mut Context<'_>) {
    ///     if record.value().is_none() {
    ///         ctx.skip();
    ///     }
    /// }
    /// ```
    pub fn skip(&mut self) {
        self.skipped = true;
    }

    /// Was [`skip`](Self::skip) called?
    #[must_use]
    pub fn is_skipped(&self) -> bool {
        self.skipped
    }

    /// Leaves the record's completion to something else: when the handler returns `Ok`, its slot is
    /// free, and the record is done, its effects with it, when the returned [`Completion`] says so.
    /// Until then its offset and its ordering unit wait, and it keeps its place among the records in
    /// hand. Not completed within `limit`, the attempt has failed. If the handler returns an error,
    /// that counts, and the completion does not.
    ///
    /// A drain waits for it until its deadline.
    ///
    /// # Errors
    ///
    /// In hooks, in batches, and where the input has `flush_every` (fatal).
    pub fn defer(&mut self, limit: Duration) -> Result<Completion, HandlerError> {
        let index = self.may_defer.ok_or_else(|| {
            HandlerError::fatal(
                "only a single record can be deferred: not in a hook, not in a batch, and not where \
                 the input has flush_every",
            )
        })?;
        self.deferred = Some(limit);
        Ok(Completion::new(Arc::clone(&self.place.complete.0), index, self.attempt))
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
        self.access.check(name, &key)?;
        let bytes = key.len() + value.as_ref().map_or(0, Vec::len);
        if bytes > MAX_RECORD_BYTES {
            return Err(HandlerError::fatal(format!(
                "an entry of {bytes} bytes for the store {name} is larger than {MAX_RECORD_BYTES}"
            )));
        }
        if matches!(self.access, StoreAccess::OwnKey(_)) {
            self.use_as(Use::Own, at, name)?;
        }
        if let Some((number, batch)) = &self.batch {
            batch.write(*number, at, &key, value.as_ref());
        }
        self.effects.write(at, key, value);
        Ok(())
    }

    /// What one record reads of its own key and replaces, another may not change in between.
    fn use_as(&self, wanted: Use, at: usize, store: &str) -> Result<(), HandlerError> {
        let mut stores = self.place.stores.lock();
        if stores.get_mut(at).is_none_or(|layers| layers.use_as(wanted)) {
            return Ok(());
        }
        Err(HandlerError::fatal(format!(
            "the store {store} is used in two ways: under Ordering::Key its records either replace what \
             their own keys hold, or change what any key holds by add(…) and merge(…); use a store for each"
        )))
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
