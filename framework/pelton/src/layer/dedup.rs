//! Was a record with this id done before? What a store remembers of the last ones.
//!
//! ```text
//!  id ──hash──► bucket: [(offset, id), …]     one entry of a store, of the ids that fall into it
//!                 │ look: is it there, from an earlier offset within the window?   → skip
//!                 └ add, forget what lies before the window: a merge, made when the record is done
//! ```
//!
//! - An id is remembered by an effect of its record: if the attempt fails, or the record becomes a dead
//!   letter, it is not, and the next record with the id is handled.
//! - It is remembered *with its offset*: a record that is handled again, because its commit was lost,
//!   finds itself and is no repetition of itself. Outputs that had not got through come this time.
//! - A bucket is shared by ids of several keys, which slots handle at once. It is changed by merges
//!   alone, which are made one after the other, and what a slot looks for in it is its own id, which no
//!   other slot has in hand while records with one id have one key. So INV-17 holds in its meaning: no
//!   write follows from a read that another slot's write may have overtaken.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::HandlerError;
use crate::fnv1a::fnv1a;
use crate::handler::Handler;
use crate::layer::Layer;
use crate::record::Record;
use crate::state::Store;

/// A [`Layer`] that skips records whose id was done before, within a window.
///
/// Of records with the same id in a partition the first is handled. Those that follow it less than
/// `window` offsets behind are *skipped*: done at once, without effects, counted as `skipped` in
/// `pelton_records_total`. Ids are remembered in a store, exactly as durable as the offsets are: over
/// restarts and hand-overs. A record that is handled again after a crash is not taken for a repetition of
/// itself.
///
/// Under `Ordering::Key` only records of the same key are recognised for sure: others may be in hand at
/// the same time; and the window counts back from the furthest record that is done. `Ordering::Unordered`
/// is refused when the first record comes (fatal): two records with one id may be in hand there.
///
/// Not around a batch handler (fatal): what becomes of a record of a batch is not known yet when its
/// repetition in the same batch is looked at, and if it is given up, that one must be handled.
///
/// # Memory
///
/// A partition remembers about `window` ids, and never more than 64 or sixteen times as many. Each takes
/// its own bytes, at most 500 (what is no printable ASCII counts four times), and about 30 more, in memory
/// and in the store's changelog: a window of 100,000 UUIDs is 7 MB for each partition. Each record that is
/// handled writes one entry of the store, of 8 ids or so.
///
/// A window on the other side of a power of two begins anew, and what was there stays in the store until it
/// has another name.
///
/// ```
/// # use pelton::{Context, Handler, HandlerError, Record, Worker};
/// # struct Print;
/// # impl Handler for Print {
/// #     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> { Ok(()) }
/// # }
/// use pelton::Dedup;
///
/// let mut app = Worker::builder("printer");
/// let seen = app.store("seen");
/// app.input("user_logins")
///     .layer(Dedup::new(seen, 100_000, |record| record.header("id").map(Into::into)))
///     .handler(|_slot| Print);
/// ```
#[derive(Clone)]
pub struct Dedup<F> {
    store: Store<u64, Remembered>,
    window: u64,
    id: F,
}

/// What a store of [`Dedup`] holds under each of its keys: ids, and the offsets of their records.
///
/// ```
/// use pelton::{Remembered, Store, Worker};
///
/// let seen: Store<u64, Remembered> = Worker::builder("printer").store("seen");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Remembered(Vec<(i64, String)>);

/// So many ids fall into one bucket, on average; and so many at most.
const PER_BUCKET: u64 = 8;
const MOST_PER_BUCKET: usize = 64;

/// No id is longer.
const MAX_ID_BYTES: usize = 500;

impl<F> Dedup<F>
where
    F: for<'r> Fn(&Record<'r>) -> Option<Cow<'r, [u8]>> + Clone + Send + Sync + 'static,
{
    /// Remembers in `store`, which serves nothing else, the ids of the last `window` records of each
    /// partition. `id` must say the same of the same record; where it says `None`, the record is handled
    /// and nothing is remembered. An id of more than 500 bytes makes its record invalid.
    #[must_use]
    pub fn new(store: Store<u64, Remembered>, window: u64, id: F) -> Self {
        Self { store, window: window.max(1), id }
    }

    /// Is the record the first with its id? Then the id is remembered, if the record gets done.
    fn is_first(&self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<bool, HandlerError> {
        let Some(id) = self.id_of(record)? else { return Ok(true) };
        let (bucket, offset) = (self.bucket(&id), record.offset());
        let earliest = offset.saturating_sub(i64::try_from(self.window).unwrap_or(i64::MAX));
        let seen = ctx.look(self.store, &bucket)?.unwrap_or_default();
        let earlier = earliest + 1..offset;
        if seen.0.iter().any(|(at, known)| earlier.contains(at) && *known == id) {
            let partition = record.topic_partition();
            tracing::debug!(%partition, offset, "a record with its id was done before: it is skipped");
            return Ok(false);
        }
        ctx.merge(self.store, &bucket, move |seen: Option<Remembered>| {
            let mut ids = seen.unwrap_or_default().0;
            ids.retain(|(at, known)| *at > earliest && *known != id);
            let too_many = (ids.len() + 1).saturating_sub(MOST_PER_BUCKET);
            ids.drain(..too_many);
            ids.push((offset, id));
            Remembered(ids)
        })?;
        Ok(true)
    }

    /// As a text, whatever its bytes are.
    fn id_of(&self, record: &Record<'_>) -> Result<Option<String>, HandlerError> {
        let Some(id) = (self.id)(record) else { return Ok(None) };
        if id.len() > MAX_ID_BYTES {
            let problem = format!("its id has {} bytes, more than {MAX_ID_BYTES}", id.len());
            return Err(HandlerError::invalid(problem));
        }
        Ok(Some(id.escape_ascii().to_string()))
    }

    /// The key of the id's bucket. Buckets are as many as a power of two, and are numbered from that
    /// number on, so that those of another window have other keys.
    fn bucket(&self, id: &str) -> u64 {
        let buckets = (self.window / PER_BUCKET).clamp(1, 1 << 32).next_power_of_two();
        buckets | (fnv1a(id.as_bytes()) & (buckets - 1))
    }
}

impl<F> std::fmt::Debug for Dedup<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dedup").field("window", &self.window).finish_non_exhaustive()
    }
}

impl<F> Layer for Dedup<F>
where
    F: for<'r> Fn(&Record<'r>) -> Option<Cow<'r, [u8]>> + Clone + Send + Sync + 'static,
{
    async fn handle<H: Handler>(
        &mut self,
        inner: &mut H,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        if self.is_first(record, ctx)? {
            return inner.handle(record, ctx).await;
        }
        ctx.skip();
        Ok(())
    }
}
