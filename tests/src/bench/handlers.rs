//! What do the measured handlers do? Nothing, wait, or compute; and each counts what it does.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pelton::host::Machine;
use pelton::ports::Host;
use pelton::{Context, Handler, HandlerError, Record};

use super::processor;

/// What the handlers of a worker have counted. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts(Arc<All>);

#[derive(Debug, Default)]
struct All {
    /// One for each handler, which is its only writer.
    tallies: Mutex<Vec<Arc<Tally>>>,
    /// Counted only where it is the question: it is one number for all threads.
    in_flight: AtomicU64,
}

/// A handler's own, on a cache line of its own.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(super) struct Tally {
    records: AtomicU64,
    handling_ns: AtomicU64,
}

impl Tally {
    fn add(&self, handling: Duration) {
        let add =
            |to: &AtomicU64, n: u64| to.store(to.load(Ordering::Relaxed) + n, Ordering::Relaxed);
        add(&self.records, 1);
        add(&self.handling_ns, u64::try_from(handling.as_nanos()).unwrap_or(u64::MAX));
    }
}

impl Counts {
    fn tally(&self) -> Arc<Tally> {
        let tally = Arc::<Tally>::default();
        self.0.tallies.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&tally));
        tally
    }

    /// Records handled so far, and the time that they were in handlers in all.
    pub(super) fn handled(&self) -> (u64, Duration) {
        let tallies = self.0.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = |of: fn(&Tally) -> &AtomicU64| {
            tallies.iter().map(|tally| of(tally).load(Ordering::Relaxed)).sum()
        };
        (sum(|tally| &tally.records), Duration::from_nanos(sum(|tally| &tally.handling_ns)))
    }

    /// Handlers made so far: one for each slot.
    pub(super) fn slots(&self) -> usize {
        self.0.tallies.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Records in handlers just now, where handlers count them.
    pub(super) fn in_flight(&self) -> u64 {
        self.0.in_flight.load(Ordering::Relaxed)
    }
}

/// Is ready at once.
pub(super) struct Ready(Arc<Tally>);

impl Ready {
    pub(super) fn new(counts: &Counts) -> Self {
        Self(counts.tally())
    }
}

impl Handler for Ready {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.add(Duration::ZERO);
        Ok(())
    }
}

/// Waits, as for the answer of another service.
pub(super) struct Waits {
    tally: Arc<Tally>,
    counts: Counts,
    host: Arc<Machine>,
    how_long: Duration,
}

impl Waits {
    pub(super) fn new(counts: &Counts, host: &Arc<Machine>, how_long: Duration) -> Self {
        let (tally, counts) = (counts.tally(), counts.clone());
        Self { tally, counts, host: Arc::clone(host), how_long }
    }

    pub(super) async fn wait(&self) {
        let begun = self.host.now();
        self.counts.0.in_flight.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.how_long).await;
        self.counts.0.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.tally.add(self.host.now().since(begun));
    }
}

impl Handler for Waits {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        self.wait().await;
        Ok(())
    }
}

/// Computes: so much work each time, whatever else the processor does meanwhile.
pub(super) struct Computes {
    tally: Arc<Tally>,
    host: Arc<Machine>,
    work: Work,
}

impl Computes {
    pub(super) fn new(counts: &Counts, host: &Arc<Machine>, work: Work) -> Self {
        Self { tally: counts.tally(), host: Arc::clone(host), work }
    }
}

impl Handler for Computes {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let begun = self.host.now();
        self.work.do_it(record.offset().unsigned_abs());
        self.tally.add(self.host.now().since(begun));
        Ok(())
    }
}

/// So many steps of something that can't be left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    steps: u64,
}

impl Work {
    /// As many steps as take about so much processor time on this machine.
    pub(super) fn of(time: Duration) -> Self {
        const STEPS: u64 = 20_000_000;
        let begun = processor::of_this_thread();
        Self { steps: STEPS }.do_it(1);
        let took = processor::of_this_thread().saturating_sub(begun);
        let share = time.as_nanos().saturating_mul(u128::from(STEPS)) / took.as_nanos().max(1);
        Self { steps: u64::try_from(share).unwrap_or(STEPS).max(1) }
    }

    fn do_it(self, seed: u64) {
        let step = |value: u64| (value ^ (value >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let end = (0..self.steps).fold(seed | 1, |value, _| step(std::hint::black_box(value)));
        std::hint::black_box(end);
    }
}
