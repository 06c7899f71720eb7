//! How is a worker measured? It runs on endless records, warms up, and is looked at round by round.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering as Atomic};
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Duration;

use pelton::config::{AutoOffsetReset, Settings};
use pelton::host::Machine;
use pelton::ports::{Host, Waker};
use pelton::{Handler, Ordering, Worker, WorkerError};

use super::arguments::Arguments;
use super::endless::{Endless, TOPIC};
use super::handlers::Counts;
use super::processor;
use crate::{Deadline, Stopwatch};

/// So many threads run the handlers.
const THREADS: usize = 2;

/// So many keys the records have, over all partitions.
pub(super) const KEYS: u32 = 50_000;

/// Before it is measured: slots are made, memory is taken, caches are warm.
pub(super) const WARM_UP: Duration = Duration::from_millis(500);

/// A worker that has not handled a record by then never will.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(1);

#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) ordering: Ordering,
    pub(super) partitions: i32,
    /// Look at what is in flight, too. The handler counts it then.
    pub(super) in_flight: bool,
}

impl Case {
    pub(super) fn name(&self) -> String {
        let ordering = match self.ordering {
            Ordering::Key { concurrency } => format!("key({concurrency})"),
            Ordering::Unordered { concurrency } => format!("unordered({concurrency})"),
            _ => "partition".to_owned(),
        };
        let s = if self.partitions == 1 { "" } else { "s" };
        format!("{ordering}, {} partition{s}", self.partitions)
    }
}

/// What happened between two looks.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Round {
    pub(super) records: u64,
    pub(super) passed: Duration,
    /// Of the whole process.
    pub(super) processor: Duration,
    pub(super) poll_loop: Option<Duration>,
    /// Of the whole process, had nobody else been there.
    pub(super) wanted: Option<Duration>,
    pub(super) source: Duration,
    /// In handlers, all records together.
    pub(super) handling: Duration,
    pub(super) mean_in_flight: f64,
    pub(super) peak_in_flight: u64,
    /// Slots made since the worker began.
    pub(super) slots: usize,
}

impl Round {
    pub(super) fn rate(&self) -> f64 {
        self.records as f64 / self.passed.as_secs_f64()
    }

    /// So much of that for each record, in nanoseconds.
    pub(super) fn each(&self, of: Duration) -> f64 {
        of.as_secs_f64() * 1e9 / self.records as f64
    }

    pub(super) fn cores(&self) -> f64 {
        self.processor.as_secs_f64() / self.passed.as_secs_f64()
    }

    /// What [`cores`](Self::cores) would be with the machine to itself; the same where nobody counts.
    pub(super) fn wanted_cores(&self) -> f64 {
        self.wanted.unwrap_or(self.processor).as_secs_f64() / self.passed.as_secs_f64()
    }
}

/// Runs a worker and measures it. `make` makes a handler.
pub(super) fn measure<H: Handler>(
    case: Case,
    arguments: &Arguments,
    host: &Arc<Machine>,
    make: impl Fn(&Counts) -> H + Send + Sync + 'static,
) -> Result<Vec<Round>, WorkerError> {
    let (runtime, counts) = (runtime()?, Counts::default());
    let (world, for_handlers) = (Endless::new(case.partitions, KEYS), counts.clone());
    let worker = worker(case.ordering, move || make(&for_handlers))?;
    let stepping = Stepping::start(worker, &world, host, runtime.handle().clone())
        .map_err(|error| system(&error))?;
    let subject = Subject { case, counts, world, stepping };
    let rounds = subject.rounds(arguments);
    subject.stepping.end()?;
    runtime.shutdown_timeout(Duration::from_secs(5));
    rounds
}

/// A worker on endless records.
pub(super) fn worker<H: Handler>(
    ordering: Ordering,
    make: impl Fn() -> H + Send + Sync + 'static,
) -> Result<Worker, WorkerError> {
    let mut settings = Settings::default();
    "nowhere:9092".clone_into(&mut settings.bootstrap_servers);
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.admin.enabled = false;
    let mut app = Worker::builder("bench");
    app.settings(settings);
    app.input(TOPIC).ordering(ordering).handler(move |_slot| make());
    Ok(app.build()?.0)
}

/// What handlers run on.
pub(super) fn runtime() -> Result<tokio::runtime::Runtime, WorkerError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(THREADS).enable_time().build().map_err(|error| system(&error))
}

fn system(error: &std::io::Error) -> WorkerError {
    WorkerError::System(error.to_string())
}

/// A worker at work.
struct Subject {
    case: Case,
    counts: Counts,
    world: Endless,
    stepping: Stepping,
}

impl Subject {
    fn rounds(&self, arguments: &Arguments) -> Result<Vec<Round>, WorkerError> {
        let deadline = Deadline::after(PATIENCE);
        while self.counts.handled().0 == 0 {
            if deadline.has_passed() || self.stepping.has_ended() {
                return Err(WorkerError::System(format!("{}: no record", self.case.name())));
            }
            std::thread::sleep(LOOK);
        }
        std::thread::sleep(WARM_UP);
        Ok((0..arguments.rounds()).map(|_| self.round(arguments.round())).collect())
    }

    fn round(&self, length: Duration) -> Round {
        let watch = Stopwatch::start();
        let before = self.totals();
        let (mut looks, mut sum, mut peak) = (0_u64, 0_u64, 0);
        if self.case.in_flight {
            while watch.elapsed() < length {
                std::thread::sleep(LOOK);
                let in_flight = self.counts.in_flight();
                (looks, sum, peak) = (looks + 1, sum + in_flight, in_flight.max(peak));
            }
        } else {
            std::thread::sleep(length);
        }
        let (after, passed) = (self.totals(), watch.elapsed());
        let between = |of: fn(&Round) -> Option<Duration>| {
            of(&after).zip(of(&before)).map(|(after, before)| after.saturating_sub(before))
        };
        Round {
            records: after.records - before.records,
            passed,
            processor: after.processor - before.processor,
            poll_loop: between(|round| round.poll_loop),
            wanted: between(|round| round.wanted),
            source: after.source - before.source,
            handling: after.handling - before.handling,
            mean_in_flight: sum as f64 / looks.max(1) as f64,
            peak_in_flight: peak,
            slots: self.counts.slots(),
        }
    }

    /// What there was since the worker began.
    fn totals(&self) -> Round {
        let (records, handling) = self.counts.handled();
        Round {
            records,
            processor: processor::of_this_process(),
            poll_loop: processor::of_thread(self.stepping.thread_id.load(Atomic::Relaxed)),
            wanted: processor::wanted(),
            source: Duration::from_nanos(self.world.source_ns()),
            handling,
            ..Round::default()
        }
    }
}

/// The thread that steps the worker as production's does: it rests between steps until it is woken.
pub(super) struct Stepping {
    end_wanted: Arc<AtomicBool>,
    /// The system's id of the thread; 0 before it runs.
    thread_id: Arc<AtomicI32>,
    ended: mpsc::Receiver<Result<(), WorkerError>>,
    thread: JoinHandle<()>,
}

impl Stepping {
    pub(super) fn start(
        worker: Worker,
        world: &Endless,
        host: &Arc<Machine>,
        runtime: tokio::runtime::Handle,
    ) -> std::io::Result<Self> {
        let (tell, ended) = mpsc::channel();
        let (end_wanted, thread_id) = (Arc::<AtomicBool>::default(), Arc::<AtomicI32>::default());
        let (wanted, id) = (Arc::clone(&end_wanted), Arc::clone(&thread_id));
        let (world, host) = (world.clone(), Arc::clone(host));
        let body = move || {
            id.store(nix::unistd::gettid().as_raw(), Atomic::Relaxed);
            let thread = std::thread::current();
            let waker: Waker = Arc::new(move || thread.unpark());
            let _in_runtime = runtime.enter();
            let mut worker = worker.on_ports(world.ports(Arc::clone(&host), waker));
            let mut is_ending = false;
            while let Some(at) = worker.step() {
                if wanted.load(Atomic::Relaxed) && !std::mem::replace(&mut is_ending, true) {
                    worker.shut_down();
                    continue;
                }
                let wait = at.since(host.now());
                if !wait.is_zero() {
                    std::thread::park_timeout(wait);
                }
            }
            let ended = match worker.ended() {
                Some(Err(error)) => Err(WorkerError::System(error.to_string())),
                Some(Ok(())) | None => Ok(()),
            };
            let _nobody_waits = tell.send(ended).is_err();
        };
        let thread = std::thread::Builder::new().name("bench-poll".to_owned()).spawn(body)?;
        Ok(Self { end_wanted, thread_id, ended, thread })
    }

    fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends the worker in good order.
    pub(super) fn end(self) -> Result<(), WorkerError> {
        const LIMIT: Duration = Duration::from_secs(30);
        self.end_wanted.store(true, Atomic::Relaxed);
        self.thread.thread().unpark();
        let late = |_| WorkerError::System("the worker does not end".to_owned());
        self.ended.recv_timeout(LIMIT).map_err(late)?
    }
}
