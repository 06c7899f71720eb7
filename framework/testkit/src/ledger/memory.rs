//! Where does a ledger go when nothing leaves the process? Into memory, in the order of the calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton::TopicPartition;
use pelton::ports::Host;
use pelton::telemetry::{Observation, Observer};
use pelton_engine::Time;
use tokio::time::Instant;

use super::line::{Entry, Fault, FaultKind, Line};
use super::reader::{Ledger, Process};
use crate::memory::WALL_CLOCK_BEGIN_MS;

/// A ledger in memory, for workers in one process: with a [`TestDriver`](crate::TestDriver), in
/// its virtual time. Clones are the same ledger.
///
/// ```
/// use pelton::{Context, Handler, HandlerError, Record, Worker};
/// use pelton_testkit::TestDriver;
/// use pelton_testkit::ledger::{Check, MemoryLedger};
///
/// struct Nothing;
/// impl Handler for Nothing {
///     async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
///         Ok(())
///     }
/// }
///
/// let ledger = MemoryLedger::new();
/// let mut app = Worker::builder("nothing");
/// app.input("words").handler(|_slot| Nothing);
/// app.observer(ledger.worker("a"));
/// let mut driver = TestDriver::new(app);
/// driver.send("words", "k", "hello");
/// assert!(driver.shut_down().is_ok());
///
/// let verdict = Check::new().hold(&ledger.ledger(), &driver.truth());
/// assert!(verdict.is_clean(), "{verdict}");
/// assert_eq!(verdict.done, 1);
/// ```
#[derive(Clone, Debug)]
pub struct MemoryLedger {
    begun: Instant,
    written: Arc<Mutex<Written>>,
}

#[derive(Debug, Default)]
struct Written {
    processes: Vec<Process>,
    lines: Vec<Line>,
}

impl Default for MemoryLedger {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryLedger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self { begun: Instant::now(), written: Arc::default() }
    }

    /// An observer for the worker called `name`. Each call counts as a process of its own; its
    /// id is its number, from 1.
    #[must_use]
    pub fn worker(&self, name: &str) -> Arc<dyn Observer> {
        let process = self.process(name, None);
        Arc::new(Page { ledger: self.clone(), process, clock: None })
    }

    /// An observer for a worker with a clock of its own.
    pub(crate) fn worker_on(&self, name: &str, clock: Arc<dyn Host>) -> Arc<dyn Observer> {
        let process = self.process(name, Some(clock.now()));
        Arc::new(Page { ledger: self.clone(), process, clock: Some(clock) })
    }

    /// Something is done to the last worker that was called `name`, at a moment.
    pub(crate) fn fault_at(&self, at: Time, kind: FaultKind, name: &str) {
        let fault = self.process_fault(kind, name);
        self.write_fault(Some(at), fault);
    }

    /// Something is done to no worker in particular, at a moment.
    pub(crate) fn trouble_at(&self, at: Time, fault: Fault) {
        self.write_fault(Some(at), fault);
    }

    /// Something is about to be done to the last worker that was called `name`.
    pub fn fault(&self, kind: FaultKind, name: &str) {
        let fault = self.process_fault(kind, name);
        self.write_fault(None, fault);
    }

    fn process_fault(&self, kind: FaultKind, name: &str) -> Fault {
        let named = |process: &&Process| &*process.name == name;
        let pid = self.written().processes.iter().rfind(named).map_or(0, |process| process.pid);
        Fault::Process { kind, name: name.into(), pid }
    }

    /// A broker is about to be killed or cut off.
    pub fn broker_kill(&self, broker: &str) {
        self.write_fault(None, Fault::BrokerKill { broker: broker.into() });
    }

    /// The network between workers and brokers is about to fail; `what` says how, in one word.
    pub fn network(&self, what: &str) {
        self.write_fault(None, Fault::Network { what: what.into() });
    }

    /// Whatever was wrong with the network is over. Write it *after* it is.
    pub fn network_healed(&self) {
        self.write_fault(None, Fault::NetworkHealed);
    }

    /// The group's committed offset is about to be set by hand.
    pub fn offset_reset(&self, partition: &TopicPartition, offset: i64) {
        self.write_fault(None, Fault::OffsetReset { partition: partition.clone(), offset });
    }

    /// What has been written so far.
    #[must_use]
    pub fn ledger(&self) -> Ledger {
        let written = self.written();
        Ledger::from_parts(written.processes.clone(), written.lines.clone())
    }

    fn process(&self, name: &str, at: Option<Time>) -> usize {
        let mut written = self.written();
        let pid = u32::try_from(written.processes.len() + 1).unwrap_or(u32::MAX);
        let begun = self.now(&written, at);
        let passed_ms = i64::try_from(begun / 1_000_000).unwrap_or(i64::MAX);
        written.processes.push(Process {
            name: name.into(),
            pid,
            begun,
            wall_ms: WALL_CLOCK_BEGIN_MS.saturating_add(passed_ms),
        });
        written.processes.len() - 1
    }

    fn write_fault(&self, at: Option<Time>, fault: Fault) {
        let faults = self.written().processes.iter().position(|process| &*process.name == "faults");
        let process = faults.unwrap_or_else(|| self.process("faults", at));
        self.write(process, at, Entry::Fault(fault));
    }

    fn write(&self, process: usize, at: Option<Time>, entry: Entry) {
        let mut written = self.written();
        let at = self.now(&written, at);
        written.lines.push(Line { at, process, entry });
    }

    /// Never before the last line: every runtime has a clock of its own.
    fn now(&self, written: &Written, at: Option<Time>) -> u64 {
        let now = at.map_or_else(
            || Instant::now().saturating_duration_since(self.begun),
            |at| at.since(Time::ZERO),
        );
        let last = written.lines.last().map_or(0, |line| line.at);
        u64::try_from(now.as_nanos()).unwrap_or(u64::MAX).max(last)
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One worker's way into the ledger.
#[derive(Debug)]
struct Page {
    ledger: MemoryLedger,
    process: usize,
    /// Where lines get their time from; `None`: from the runtime that writes them.
    clock: Option<Arc<dyn Host>>,
}

impl Observer for Page {
    fn observe(&self, observation: &Observation<'_>) {
        if let Some(entry) = Entry::of(observation) {
            let at = self.clock.as_ref().map(|clock| clock.now());
            self.ledger.write(self.process, at, entry);
        }
    }
}
