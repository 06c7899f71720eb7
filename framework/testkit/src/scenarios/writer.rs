//! Who writes in a scenario? A producer, and what was reported of its records.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton::ports::{OutRecord, PortError, Producer, Reports, SendError};

use super::place::{Failure, Played};
use super::stage::wait_for;

#[derive(Default)]
struct Heard(Mutex<BTreeMap<u64, Vec<Result<(), PortError>>>>);

impl Heard {
    fn all(&self) -> MutexGuard<'_, BTreeMap<u64, Vec<Result<(), PortError>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reports for Heard {
    fn report(&self, ticket: u64, result: Result<(), PortError>) {
        self.all().entry(ticket).or_default().push(result);
    }
}

pub(super) struct Writer {
    producer: Arc<dyn Producer>,
    heard: Arc<Heard>,
    sent: AtomicU64,
}

impl Writer {
    pub(super) fn new(producer: Arc<dyn Producer>) -> Self {
        Self { producer, heard: Arc::default(), sent: AtomicU64::new(0) }
    }

    /// Queues a record; its ticket. Tickets are 0, 1, ….
    pub(super) fn queue(&self, record: &OutRecord) -> Result<u64, SendError> {
        let reports: Arc<dyn Reports> = Arc::clone(&self.heard) as Arc<dyn Reports>;
        let ticket = self.sent.load(Ordering::Relaxed);
        self.producer.send(record, ticket, &reports)?;
        self.sent.store(ticket + 1, Ordering::Relaxed);
        Ok(ticket)
    }

    pub(super) fn send(
        &self,
        topic: &str,
        partition: i32,
        key: Option<&str>,
        value: &str,
    ) -> Played<u64> {
        let queued = self.queue(&record(topic, Some(partition), key, Some(value)));
        queued.map_err(|error| Failure::Broke(format!("sending: {error:?}")))
    }

    /// What was reported of a record, once something was.
    pub(super) async fn report(&self, ticket: u64) -> Played<Result<(), PortError>> {
        wait_for("a delivery report", || self.heard.all().get(&ticket)?.first().cloned()).await
    }

    /// Waits for all reports. None may fail.
    pub(super) async fn all_stored(&self) -> Played {
        for ticket in 0..self.sent.load(Ordering::Relaxed) {
            self.report(ticket).await??;
        }
        Ok(())
    }

    /// How often the records were reported as stored, at least and at most.
    pub(super) fn reports_per_record(&self) -> (usize, usize) {
        let heard = self.heard.all();
        let counts = || heard.values().map(Vec::len);
        (counts().min().unwrap_or(0), counts().max().unwrap_or(0))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.producer.close(false);
    }
}

pub(super) fn record(
    topic: &str,
    partition: Option<i32>,
    key: Option<&str>,
    value: Option<&str>,
) -> OutRecord {
    OutRecord {
        topic: topic.into(),
        partition,
        key: key.map(|key| key.as_bytes().to_vec()),
        value: value.map(|value| value.as_bytes().to_vec()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

/// Does trying again help, says the port?
pub(super) fn said(result: &Result<(), PortError>) -> &'static str {
    match result {
        Ok(()) => "stored",
        Err(error) if error.retryable => "failed, may be tried again",
        Err(_) => "failed for good",
    }
}
