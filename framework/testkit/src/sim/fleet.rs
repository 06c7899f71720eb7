//! How do several workers run in one thread, each on a clock of its own? They are driven up to
//! the next moment of the world, one after the other; a frozen one is left out, and so is one for
//! which nothing comes up to then: its clock is put right when something does.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use pelton::ports::{Host, Waker};
use pelton::{SteppedWorker, WorkerBuilder, WorkerHandle};
use pelton_engine::Time;
use tokio::sync::Notify;

use crate::model::{ClientPlan, Process, SharedWorld, SimHost};

/// A worker's process.
pub(super) struct Hosted {
    // Its tasks go before what they use.
    runtime: tokio::runtime::Runtime,
    worker: SteppedWorker,
    handle: WorkerHandle,
    host: Arc<SimHost>,
    pub(super) process: Process,
    pub(super) name: String,
    number: usize,
    attention: Arc<Attention>,
    due: Time,
    /// When it was left, nothing in it was ready to run.
    settled: bool,
    over: bool,
    /// It was ended because it did not stand still any more.
    spins: bool,
    /// It was ended by a record of its own.
    died: bool,
    pub(super) frozen: bool,
    /// It has been asked to end.
    pub(super) ending: bool,
}

thread_local! {
    /// The worker that this thread is driving is to die.
    static DIES: Cell<bool> = const { Cell::new(false) };
}

/// Ends the simulated process that calls it, as an abort would: at once, with all that it has in
/// hand. The returned future never ends.
///
/// ```no_run
/// use pelton::{Context, Handler, HandlerError, Record};
///
/// /// Can't bear empty records.
/// struct Fragile;
///
/// impl Handler for Fragile {
///     async fn handle(&mut self, record: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
///         if record.value().is_none() {
///             pelton_testkit::sim::die().await;
///         }
///         Ok(())
///     }
/// }
/// ```
pub async fn die() {
    DIES.set(true);
    std::future::pending().await
}

/// A worker that looks around so often within a moment spins.
const MOST_ROUNDS: u32 = 20_000;

/// What wakes a worker.
#[derive(Default)]
struct Attention {
    /// The poll loop is to look.
    wanted: AtomicBool,
    /// Something has changed: look again at what comes next.
    bell: Notify,
}

/// What a process is started with.
pub(super) struct Birth {
    pub(super) name: String,
    pub(super) at: Time,
    pub(super) seed: u64,
    pub(super) clients: ClientPlan,
}

impl Hosted {
    /// Starts a process at `birth.at`. `app` gets its clock, for its ledger.
    ///
    /// # Errors
    ///
    /// Why the worker can't be built.
    pub(super) fn start(
        world: &SharedWorld,
        birth: Birth,
        app: impl FnOnce(Arc<dyn Host>) -> WorkerBuilder,
    ) -> Result<Self, String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .map_err(|error| format!("no runtime: {error}"))?;
        let start = {
            let _inside = runtime.enter();
            tokio::time::Instant::now()
        };
        runtime.block_on(tokio::time::advance(birth.at.since(Time::ZERO)));
        let host = Arc::new(SimHost::new(start, birth.seed));
        let attention = Arc::<Attention>::default();
        let _inside = runtime.enter();
        let (worker, handle) = app(Arc::clone(&host) as Arc<dyn Host>)
            .build()
            .map_err(|error| format!("the worker can't be built: {error}"))?;
        let number = world.lock().start_process();
        let bell = Arc::clone(&attention);
        let moved: Waker = Arc::new(move || bell.bell.notify_one());
        let process = Process::new(world, number, birth.clients, Arc::clone(&host), moved);
        let awake = Arc::clone(&attention);
        let waker: Waker = Arc::new(move || {
            awake.wanted.store(true, Ordering::Relaxed);
            awake.bell.notify_one();
        });
        let worker = worker.on_ports(process.ports(waker));
        drop(_inside);
        Ok(Self {
            runtime,
            worker,
            handle,
            host,
            process,
            name: birth.name,
            number,
            attention,
            due: birth.at,
            settled: false,
            over: false,
            spins: false,
            died: false,
            frozen: false,
            ending: false,
        })
    }

    /// Has it nothing to do up to `until`?
    fn rests(&self, world: &SharedWorld, until: Time) -> bool {
        let told = {
            let mut world = world.lock();
            world.take_stirred(self.number) || world.is_woken(self.number)
        };
        self.settled
            && !told
            && !self.attention.wanted.load(Ordering::Relaxed)
            && self.due > until
            && !self.worker.has_waiting_calls()
            && self.host.wakes().is_none_or(|wakes| wakes > until)
    }

    /// Lets it run until `until`, or until it has done something that the world must see first.
    pub(super) fn drive(&mut self, world: &SharedWorld, until: Time) {
        if self.over || self.rests(world, until) {
            return;
        }
        self.catch_up(world);
        let Self {
            runtime, worker, host, attention, due, settled, over, spins, died, number, ..
        } = self;
        let mut rounds = 0u32;
        runtime.block_on(async {
            *settled = false;
            loop {
                rounds += 1;
                if DIES.take() {
                    (*died, *over) = (true, true);
                    return;
                }
                if rounds > MOST_ROUNDS {
                    *spins = true;
                    *over = true;
                    return;
                }
                let now = host.now();
                let (woken, next) = {
                    let mut world = world.lock();
                    (world.take_woken(*number), world.next())
                };
                if attention.wanted.swap(false, Ordering::Relaxed) || woken || *due <= now {
                    match worker.step() {
                        Some(at) => *due = at,
                        None => {
                            *over = true;
                            return;
                        }
                    }
                    *settled = false;
                    deliver(world);
                    tokio::task::yield_now().await; // its tasks run
                    continue;
                }
                let target = next.map_or(until, |next| next.min(until)).min(*due);
                if target <= now {
                    return;
                }
                tokio::select! {
                    biased;
                    () = attention.bell.notified() => {
                        *settled = false;
                        deliver(world);
                    }
                    // Time passes only while nothing is ready to run.
                    () = tokio::time::sleep_until(host.at(target)) => *settled = true,
                }
            }
        });
    }

    /// A frozen process wakes up: its clock has gone on without it.
    pub(super) fn thaw(&mut self, now: Time) {
        let behind = now.since(self.host_now());
        self.runtime.block_on(tokio::time::advance(behind));
        self.frozen = false;
    }

    fn host_now(&self) -> Time {
        let _inside = self.runtime.enter();
        self.host.now()
    }

    /// Its clock goes on to the world's moment. Nothing was to happen in it up to then.
    fn catch_up(&self, world: &SharedWorld) {
        let _inside = self.runtime.enter();
        let behind = world.lock().now().since(self.host.now());
        if behind > Duration::ZERO {
            // The clock is moved when it is first polled.
            let _rest_of_it = tokio::time::advance(behind).now_or_never();
        }
    }

    /// Something is done to it from outside, in its own time.
    pub(super) fn inside<T>(
        &mut self,
        world: &SharedWorld,
        act: impl FnOnce(&mut SteppedWorker, &Process) -> T,
    ) -> T {
        self.catch_up(world);
        self.settled = false;
        let _inside = self.runtime.enter();
        act(&mut self.worker, &self.process)
    }

    /// Somebody asks something of its worker.
    pub(super) fn ask(&mut self, world: &SharedWorld, wish: impl FnOnce(&WorkerHandle)) {
        wish(&self.handle);
        self.attention.wanted.store(true, Ordering::Relaxed);
        self.inside(world, |_, _| ());
    }

    pub(super) fn number(&self) -> usize {
        self.number
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Was it ended by a record of its own?
    pub(super) fn has_died(&self) -> bool {
        self.died
    }

    /// How it ended by itself, if it did, and not well.
    pub(super) fn failure(&self) -> Option<String> {
        if self.spins {
            return Some("it spins: its poll loop never rests".to_owned());
        }
        let ended = self.worker.ended()?;
        ended.as_ref().err().map(ToString::to_string)
    }

    /// The process is gone, with all its tasks.
    pub(super) fn kill(self, world: &SharedWorld) {
        let Self { runtime, worker, number, .. } = self;
        drop(runtime);
        world.lock().end_process(number);
        drop(worker);
    }
}

/// Delivery reports reach the tasks that wait for them; outside of the world's lock.
pub(super) fn deliver(world: &SharedWorld) {
    let reports = world.lock().take_reports();
    for (reports, ticket, result) in reports {
        reports.report(ticket, result);
    }
}
