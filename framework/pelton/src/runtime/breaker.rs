//! Which record of an input may start while what its handlers call is broken? One at a time, of the
//! partition that asks first.
//!
//! The rules are the engine's [`Circuit`]; here the partitions of an input share it, and their tasks
//! are woken when it changes.
//!
//! Upholds INV-20.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use pelton_engine::{Breaker, Circuit, CircuitChange, CircuitState, PartitionId, Permit, Time};
use tokio::sync::Notify;

/// One input's breaker, for all of its partitions in this worker, and for those of its retry topics.
#[derive(Debug)]
pub(crate) struct InputBreaker {
    input: String,
    state: Gauge,
    shared: Mutex<Contacts>,
}

#[derive(Debug)]
struct Contacts {
    circuit: Circuit,
    /// How often it has opened.
    openings: u64,
    /// The task of each partition.
    tasks: BTreeMap<PartitionId, Arc<Notify>>,
}

impl InputBreaker {
    pub(crate) fn new(input: &str, breaker: Breaker, state: Gauge, seed: u64) -> Self {
        state.set(0.0);
        let circuit = Circuit::new(breaker, seed);
        let shared = Mutex::new(Contacts { circuit, openings: 0, tasks: BTreeMap::new() });
        Self { input: input.to_owned(), state, shared }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().circuit.state() == CircuitState::Closed
    }

    fn lock(&self) -> MutexGuard<'_, Contacts> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, circuit: &Circuit) {
        self.state.set(match circuit.state() {
            CircuitState::Closed => 0.0,
            CircuitState::HalfOpen => 1.0,
            CircuitState::Open => 2.0,
        });
    }

    fn start(&self, partition: PartitionId, now: Time) -> Option<Permit> {
        let mut shared = self.lock();
        let permit = shared.circuit.start(partition, now);
        if permit == Some(Permit::Probe) {
            self.show(&shared.circuit);
        }
        permit
    }

    fn ended(&self, partition: PartitionId, permit: Permit, how: Ended<'_>, now: Time) {
        let mut shared = self.lock();
        let went_well = how.as_ref().map(Result::is_ok);
        let change = shared.circuit.ended(partition, permit, went_well, now);
        let Some(change) = change else { return };
        self.show(&shared.circuit);
        shared.openings += u64::from(matches!(change, CircuitChange::Opened { .. }));
        shared.tasks.values().for_each(|task| task.notify_one());
        drop(shared);
        let input = &self.input;
        match (change, how) {
            (CircuitChange::Opened { wait }, Some(Err(error))) => {
                tracing::warn!(
                    input,
                    ?wait,
                    error,
                    "the breaker is open: too much of this input fails, and nothing of it starts for a while"
                );
            }
            (CircuitChange::Closed, _) => tracing::info!(input, "the breaker is closed again"),
            (CircuitChange::Opened { .. } | CircuitChange::MayProbe, _) => {}
        }
    }
}

/// How an attempt has ended, if that says something of what it called.
type Ended<'a> = Option<Result<(), &'a str>>;

/// One partition's contact with its input's breaker; without one everything may start. A probe that
/// it has goes to others when it is dropped.
#[derive(Debug)]
pub(crate) struct Contact {
    breaker: Option<Arc<InputBreaker>>,
    partition: PartitionId,
    probe: Probe,
    /// So many openings it has heard of.
    openings: u64,
}

/// Is an attempt of this partition the probe?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    No,
    /// The one that starts now.
    Taken,
    /// The one at the record with this index.
    At(u64),
}

impl Contact {
    /// The partition's contact; its `task` is woken when the breaker has changed.
    pub(crate) fn of(
        breaker: Option<Arc<InputBreaker>>,
        partition: PartitionId,
        task: Arc<Notify>,
    ) -> Self {
        let openings = breaker.as_ref().map_or(0, |breaker| {
            let mut all = breaker.lock();
            all.tasks.insert(partition, task);
            // An outage that is over is no reason to forget what has failed since.
            if all.circuit.state() == CircuitState::Closed { all.openings } else { 0 }
        });
        Self { breaker, partition, probe: Probe::No, openings }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.breaker.as_ref().is_none_or(|breaker| breaker.is_closed())
    }

    /// Has it opened since it was asked last?
    pub(crate) fn has_opened(&mut self) -> bool {
        let Some(breaker) = &self.breaker else { return false };
        let openings = breaker.lock().openings;
        std::mem::replace(&mut self.openings, openings) != openings
    }

    /// How many more may start now.
    pub(crate) fn room(&self, now: Time) -> usize {
        let breaker = self.breaker.as_ref();
        breaker.map_or(usize::MAX, |breaker| breaker.lock().circuit.room(self.partition, now))
    }

    /// When it may probe, if that is a matter of time.
    pub(crate) fn opens_at(&self) -> Option<Time> {
        self.breaker.as_ref()?.lock().circuit.opens_at(self.partition)
    }

    /// May an attempt start? What it is at is said by [`begins`](Self::begins).
    pub(crate) fn take(&mut self, now: Time) -> bool {
        let Some(breaker) = self.breaker.as_ref().filter(|_| self.probe != Probe::Taken) else {
            return true;
        };
        let permit = breaker.start(self.partition, now);
        if permit == Some(Permit::Probe) {
            self.probe = Probe::Taken;
        }
        permit.is_some()
    }

    /// Is what starts now to be a single record, because it probes?
    pub(crate) fn probes(&self) -> bool {
        self.probe == Probe::Taken
    }

    /// An attempt at the record with this index begins, or none does after all.
    pub(crate) fn begins(&mut self, index: Option<u64>, now: Time) {
        match (self.probe, index) {
            (Probe::Taken, Some(index)) => self.probe = Probe::At(index),
            (Probe::Taken, None) => self.tell(Permit::Probe, None, now),
            (Probe::No | Probe::At(_), _) => {}
        }
    }

    /// The attempt at the record with this index went well, or failed for what it called.
    pub(crate) fn ended(&mut self, index: u64, how: Result<(), &str>, now: Time) {
        let is_probe = self.probe == Probe::At(index);
        self.tell(if is_probe { Permit::Probe } else { Permit::Usual }, Some(how), now);
    }

    /// The attempt at the record with this index is over. If nothing was said of it, it says nothing.
    pub(crate) fn over(&mut self, index: u64, now: Time) {
        if self.probe == Probe::At(index) {
            self.tell(Permit::Probe, None, now);
        }
    }

    fn tell(&mut self, permit: Permit, how: Ended<'_>, now: Time) {
        if permit == Permit::Probe {
            self.probe = Probe::No;
        }
        if let Some(breaker) = &self.breaker {
            breaker.ended(self.partition, permit, how, now);
        }
    }
}

impl Drop for Contact {
    fn drop(&mut self) {
        if let Some(breaker) = &self.breaker {
            breaker.lock().tasks.remove(&self.partition);
            if self.probe != Probe::No {
                breaker.ended(self.partition, Permit::Probe, None, Time::ZERO);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::telemetry::WorkerMetrics;

    fn woken(task: &Notify) -> bool {
        task.notified().now_or_never().is_some()
    }

    #[test]
    fn who_leaves_with_the_probe_lets_another_probe() {
        let breaker = Breaker::default().sliding_window(1);
        let breaker = Arc::new(InputBreaker::new("in", breaker, Gauge::noop(), 7));
        let tasks = [0, 1].map(|_| Arc::new(Notify::new()));
        let [mut a, mut b] = [0, 1].map(|n| {
            Contact::of(Some(Arc::clone(&breaker)), PartitionId(n), Arc::clone(&tasks[n as usize]))
        });
        assert!(a.take(Time::ZERO));
        a.begins(Some(3), Time::ZERO);
        a.ended(3, Err("no"), Time::ZERO);
        assert!(woken(&tasks[0]) && woken(&tasks[1]));
        assert!(!a.is_closed() && !a.take(Time::ZERO));
        let now = Time::ZERO + Duration::from_secs(60);
        assert!(a.take(now) && a.probes() && !b.take(now));
        a.begins(None, now); // it had nothing to start
        assert!(woken(&tasks[1]) && a.take(now));
        a.begins(Some(3), now);
        assert!(!b.take(now));
        drop(a);
        assert!(woken(&tasks[1]) && b.take(now));
        b.begins(Some(9), now);
        b.over(9, now); // it panicked
        assert!(woken(&tasks[1]) && b.take(now));
        b.begins(Some(9), now);
        b.ended(9, Ok(()), now);
        assert!(b.is_closed() && b.room(now) == usize::MAX);
    }

    #[test]
    fn the_gauge_shows_where_it_stands() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let gauge =
            metrics::with_local_recorder(&recorder, || WorkerMetrics::new("app").breaker("in"));
        let breaker = Breaker::default().sliding_window(1);
        let breaker = Arc::new(InputBreaker::new("in", breaker, gauge, 7));
        let mut contact = Contact::of(Some(breaker), PartitionId(0), Arc::new(Notify::new()));
        let now = Time::ZERO + Duration::from_secs(60);
        let shown = |state: u8| {
            let line = format!("pelton_breaker_state{{group=\"app\",input=\"in\"}} {state}");
            assert!(recorder.handle().render().contains(&line), "{line}");
        };
        shown(0);
        contact.ended(3, Err("no"), Time::ZERO);
        shown(2);
        assert!(contact.take(now));
        shown(1);
        contact.begins(Some(3), now);
        contact.ended(3, Ok(()), now);
        shown(0);
    }
}
