//! How does a store get its content back? From its changelog, before the partition runs.
//!
//! Upholds INV-10: no record of a partition is handled before its stores hold everything that
//! was durable when its committed offset was read.

use std::sync::Arc;
use std::time::Duration;

use pelton_engine::Bug;
use tokio::sync::Notify;

use crate::ports::{Admin, FetchEvent, Host, PortError, RestoreFetches};
use crate::record::Record;
use crate::runtime::{SignsOfLife, Stage};
use crate::state::StoreLayers;
use crate::state::changelog::{VERSION, VERSION_HEADER};
use crate::telemetry::PartitionMetrics;
use crate::topic_partition::TopicPartition;

/// What to restore, and from where.
pub(crate) struct RestoreRequest<'a> {
    pub(crate) store: &'a str,
    pub(crate) changelog: TopicPartition,
    pub(crate) fetches: &'a dyn RestoreFetches,
    pub(crate) admin: &'a dyn Admin,
    pub(crate) host: &'a dyn Host,
    pub(crate) metrics: &'a PartitionMetrics,
    pub(crate) signs: &'a SignsOfLife,
    pub(crate) bug: Option<Bug>,
}

/// A restore that hears nothing for so long is begun anew: others wait for their turn.
const SILENCE: Duration = Duration::from_secs(30);

/// Between two lines about a restore's progress.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Reads the changelog from its beginning to the end it has now. Cancel safe: dropping it ends
/// the client; nothing is half restored, because the layers come back whole or not at all.
///
/// # Errors
///
/// If Kafka does not answer (retryable), or the changelog holds what can't be read.
pub(crate) async fn restore(request: &RestoreRequest<'_>) -> Result<StoreLayers, PortError> {
    let (low, end) = request.admin.offsets(&request.changelog).await?;
    let end = if Bug::RestoreEndsEarly.is(request.bug) { end - 1 } else { end };
    let mut layers = StoreLayers::default();
    if low >= end {
        return Ok(layers);
    }
    let arrived = Arc::new(Notify::new());
    let wake = Arc::clone(&arrived);
    let mut fetch = request.fetches.open(Arc::new(move || wake.notify_one()))?;
    fetch.start(&request.changelog, low)?;
    let begun = request.host.now();
    let (mut reported, mut heard) = (begun, begun);
    let (mut position, mut records) = (low, 0u64);
    let mut events = Vec::new();
    while position < end {
        fetch.poll(10_000, &mut events);
        let now = request.host.now();
        if !events.is_empty() {
            heard = now;
        } else if now.since(heard) >= SILENCE {
            let silence = format!("the changelog says nothing at {position} of {end}");
            return Err(PortError::passing(silence));
        } else {
            tokio::select! {
                () = arrived.notified() => {}
                () = request.host.sleep(Duration::from_millis(100)) => {}
            }
        }
        for event in events.drain(..) {
            match event {
                FetchEvent::Run(run) => {
                    for record in (0..run.len()).filter_map(|index| run.record(index)) {
                        if record.offset() >= end && Bug::RestoreEndsEarly.is(request.bug) {
                            break;
                        }
                        let tombstones = !Bug::RestoreWithoutTombstones.is(request.bug);
                        if tombstones || record.value().is_some() {
                            take(&mut layers, &record)?;
                        }
                        position = record.offset() + 1;
                        records += 1;
                    }
                }
                FetchEvent::End { offset, .. } => position = position.max(offset),
                FetchEvent::OutOfRange { .. } => {
                    return Err(PortError::passing(
                        "the changelog was truncated while it was read",
                    ));
                }
                FetchEvent::Trouble { reason, .. } | FetchEvent::Broken(reason) => {
                    return Err(PortError::passing(reason));
                }
            }
        }
        if now.since(reported) >= PROGRESS_INTERVAL {
            reported = now;
            if now.since(heard) < PROGRESS_INTERVAL {
                request.signs.at(Stage::Restoring);
            }
            tracing::info!(store = request.store, changelog = %request.changelog, position, end, records, "restoring");
        }
    }
    fetch.close();
    let seconds = request.host.now().since(begun).as_secs_f64();
    request.metrics.restore_records.increment(records);
    request.metrics.restore_seconds.record(seconds);
    tracing::debug!(store = request.store, changelog = %request.changelog, records, seconds, "restored");
    Ok(layers)
}

pub(crate) fn take(layers: &mut StoreLayers, record: &Record<'_>) -> Result<(), PortError> {
    let version = record.header(VERSION_HEADER);
    if version.is_some_and(|version| version != VERSION) {
        return Err(PortError::lasting(format!(
            "the record at offset {} has store version {:?}, this program knows version 1: it was \
             written by a newer one",
            record.offset(),
            version.map(String::from_utf8_lossy).unwrap_or_default(),
        )));
    }
    if let Some(key) = record.key() {
        layers.restored(key.to_vec(), record.value().map(<[u8]>::to_vec));
    }
    Ok(())
}
