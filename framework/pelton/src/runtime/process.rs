//! How does a worker start, and how does it end?
//!
//! `start` checks what was declared, opens the clients and gives the poll loop its thread;
//! `Running` waits for the end. The order of the end (FACTS): drain, commit, leave, acknowledge,
//! close the fetcher, close the member, close the producer.

use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use pelton_engine::{Engine, EngineLimits, Time};
use tokio::sync::{Semaphore, oneshot};

use crate::config::RESTORES;
use crate::error::{Exit, WorkerError};
use crate::host::Machine;
use crate::kafka::{ClientSettings, KafkaAdmin, KafkaClients, KafkaProducer, KafkaRestores};
use crate::output::{GateLimits, SendGate};
use crate::panic_place;
use crate::ports::{Clients, Host, PortError, Ports, Waker};
use crate::runtime::committed::CurrentCommitted;
use crate::runtime::live::{Control, Fault, Live, Pacer};
use crate::runtime::lookout::{self, Duty, Hang, Lookout};
use crate::runtime::poll_loop::{LoopParts, PollLoop, Turn};
use crate::runtime::shared::{EventSender, Plan, Shared};
use crate::runtime::start_up;
use crate::runtime::status::StatusBoard;
use crate::telemetry::{Observer, WorkerMetrics};

/// What a worker is made from, once it is configured.
#[derive(Debug)]
pub(crate) struct WorkerParts {
    pub(crate) plan: Plan,
    pub(crate) clients: ClientSettings,
    pub(crate) limits: EngineLimits,
    pub(crate) live: Live,
    pub(crate) gate: GateLimits,
    /// A poll loop that hangs for so long has lost its partitions.
    pub(crate) max_poll_interval: Duration,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// A worker at work.
pub(crate) struct Running {
    ended: oneshot::Receiver<Result<(), WorkerError>>,
}

impl Running {
    /// Waits for the end. Cancel safe.
    pub(crate) async fn ended(&mut self) -> Result<(), WorkerError> {
        (&mut self.ended).await.unwrap_or_else(|_| {
            Err(WorkerError::System(
                "the poll loop's thread died; this is a bug in Pelton".to_owned(),
            ))
        })
    }
}

/// What a worker is called in commits.
fn incarnation(host: &dyn Host) -> String {
    format!("{:x}", host.seed())
}

/// A worker on ports of the caller's choice, stepped by the caller: for test kits.
///
/// The caller owns the clock (its [`Host`]), calls [`step`](Self::step) when something has
/// happened or its time has come, and lets the tokio runtime run in between.
/// [`Worker::on_ports`](crate::Worker::on_ports) makes one; `pelton_testkit::TestDriver` is the
/// comfortable way to use it.
///
/// ```
/// use pelton::{SteppedWorker, Worker, ports::Ports};
///
/// /// Ends a worker in good order; `pass` moves its host's clock to the time it is given.
/// async fn end(worker: Worker, ports: Ports, pass: impl Fn(pelton_engine::Time)) -> bool {
///     let mut worker: SteppedWorker = worker.on_ports(ports);
///     worker.shut_down();
///     while let Some(at) = worker.step() {
///         tokio::task::yield_now().await; // its tasks run
///         pass(at);
///     }
///     matches!(worker.ended(), Some(Ok(())))
/// }
/// ```
#[derive(Debug)]
pub struct SteppedWorker {
    poll_loop: Option<PollLoop>,
    host: Arc<dyn Host>,
    ended: Option<Result<(), WorkerError>>,
    status: Arc<StatusBoard>,
    control: Arc<Control>,
}

impl SteppedWorker {
    pub(crate) fn new(
        parts: WorkerParts,
        status: Arc<StatusBoard>,
        control: Arc<Control>,
        ports: Ports,
    ) -> Self {
        panic_place::remember();
        let (queue, inbox) = mpsc::channel();
        let metrics = WorkerMetrics::new(&parts.clients.group_id);
        let shared = Arc::new(Shared {
            gate: SendGate::new(ports.host.now(), parts.gate),
            in_flight: parts.plan.in_flight(),
            breakers: parts.plan.breakers(&metrics, ports.host.seed()),
            incarnation: incarnation(&*ports.host),
            alone: Arc::default(),
            plan: parts.plan,
            host: Arc::clone(&ports.host),
            committed: CurrentCommitted::new(ports.member.committed()),
            admin: ports.admin,
            producer: ports.producer,
            restores: ports.restores,
            observer: parts.observer,
            metrics: metrics.clone(),
            restoring: Semaphore::new(RESTORES),
            pacer: Pacer::new(&parts.live, ports.host.now()),
            refusals: parts.clients.refusals,
            start_below: AtomicU64::new(0),
        });
        let poll_loop = PollLoop::new(LoopParts {
            member: ports.member,
            fetch: ports.fetch,
            clients: ports.clients,
            look: Arc::default(),
            shared,
            runtime: tokio::runtime::Handle::current(),
            engine: Engine::new(parts.limits),
            live: parts.live,
            inbox,
            events: EventSender::new(queue, ports.waker),
            cluster: None,
            status: Arc::clone(&status),
            metrics,
        });
        Self { poll_loop: Some(poll_loop), host: ports.host, ended: None, status, control }
    }

    /// One round of the poll loop. Returns when to call again at the latest; `None` once the
    /// worker has ended.
    pub fn step(&mut self) -> Option<Time> {
        let mut poll_loop = self.poll_loop.take()?;
        let now = self.host.now();
        if let Some(live) = self.control.take_change() {
            poll_loop.change(now, live);
        }
        for wish in self.control.take_wishes() {
            poll_loop.wish(now, wish);
        }
        match poll_loop.step(now) {
            Turn::Again(at) => {
                self.poll_loop = Some(poll_loop);
                Some(at)
            }
            Turn::Over => {
                self.ended = Some(poll_loop.finish());
                None
            }
        }
    }

    /// Does a call of its user code wait for something? While none does, its next moment is known:
    /// the earliest of its own ([`Host::sleep`]) and of what [`step`](Self::step) returned.
    #[must_use]
    pub fn has_waiting_calls(&self) -> bool {
        self.poll_loop.as_ref().is_some_and(PollLoop::has_waiting_calls)
    }

    /// Begins a graceful shutdown.
    pub fn shut_down(&mut self) {
        let now = self.host.now();
        if let Some(poll_loop) = &mut self.poll_loop {
            poll_loop.shut_down(now);
        }
    }

    /// How it ended, once it has.
    #[must_use]
    pub fn ended(&self) -> Option<&Result<(), WorkerError>> {
        self.ended.as_ref()
    }

    /// What it shows of itself.
    #[must_use]
    pub fn status(&self) -> &dyn crate::admin::Status {
        &*self.status
    }
}

/// Checks, connects and starts the poll loop on a thread of its own.
///
/// # Errors
///
/// If something declared is missing, or a client can't be made.
pub(crate) async fn start(
    parts: WorkerParts,
    status: Arc<StatusBoard>,
    control: &Arc<Control>,
) -> Result<Running, WorkerError> {
    panic_place::remember();
    let host: Arc<dyn Host> = Arc::new(Machine::new());
    let lasting = |error: PortError| WorkerError::ClientSettings { reason: error.reason };
    let refusals = Arc::clone(&parts.clients.refusals);
    if let Some(tokens) = &parts.clients.tokens {
        tokens.start(&host, &refusals, &parts.plan.bootstrap_servers).await?;
    }
    let admin = KafkaAdmin::new(&parts.clients).map_err(lasting)?;
    let cluster = start_up::reach(&parts.plan, &admin, &*host, &refusals).await?;
    start_up::check(&parts.plan, &admin, &*host, &refusals).await?;
    let producer = KafkaProducer::new(parts.clients.clone()).map_err(lasting)?;
    let runtime = tokio::runtime::Handle::current();
    let (ended, receiver) = oneshot::channel();
    let end = Arc::new(End(Mutex::new(Some(ended))));
    let control = Arc::clone(control);
    let look = Arc::<Lookout>::default();
    let metrics = WorkerMetrics::new(&parts.clients.group_id);
    let (running, over) = mpsc::channel();
    lookout::start(Duty {
        lookout: Arc::clone(&look),
        host: Arc::clone(&host),
        status: Arc::clone(&status),
        metrics: metrics.clone(),
        max_poll_interval: parts.max_poll_interval,
        over,
        give_up: give_up(&end, &status, &control),
    })
    .map_err(|error| WorkerError::System(format!("the lookout's thread: {error}")))?;
    let body = move || {
        let _until_the_end: mpsc::Sender<()> = running;
        let thread = std::thread::current();
        control.adopt(thread.clone());
        let waker: Waker = Arc::new(move || thread.unpark());
        let subscription =
            parts.plan.inputs.iter().map(|input| input.subscription.name().to_owned());
        let clients = KafkaClients::new(parts.clients.clone(), subscription.collect());
        let fetch = clients.fetch(Arc::clone(&waker)).map_err(lasting);
        let made = fetch
            .and_then(|fetch| Ok((clients.member(Arc::clone(&waker)).map_err(lasting)?, fetch)));
        let result = made.and_then(|(member, fetch)| {
            let (queue, inbox) = mpsc::channel();
            let shared = Arc::new(Shared {
                gate: SendGate::new(host.now(), parts.gate),
                in_flight: parts.plan.in_flight(),
                breakers: parts.plan.breakers(&metrics, host.seed()),
                incarnation: incarnation(&*host),
                alone: Arc::default(),
                plan: parts.plan,
                host: Arc::clone(&host),
                committed: CurrentCommitted::new(member.committed()),
                admin: Arc::new(admin),
                producer: Arc::new(producer),
                restores: Arc::new(KafkaRestores { settings: parts.clients }),
                observer: parts.observer,
                metrics: metrics.clone(),
                restoring: Semaphore::new(RESTORES),
                pacer: Pacer::new(&parts.live, host.now()),
                refusals,
                start_below: AtomicU64::new(0),
            });
            let poll_loop = PollLoop::new(LoopParts {
                member,
                fetch,
                clients: Arc::new(clients),
                look,
                shared,
                runtime,
                engine: Engine::new(parts.limits),
                live: parts.live,
                inbox,
                events: EventSender::new(queue, waker),
                cluster,
                status,
                metrics,
            });
            let driving = AssertUnwindSafe(|| drive(poll_loop, &*host, &control));
            std::panic::catch_unwind(driving).unwrap_or_else(|_| {
                Err(WorkerError::System(
                    "the poll loop panicked; this is a bug in Pelton".to_owned(),
                ))
            })
        });
        end.tell(result);
    };
    std::thread::Builder::new()
        .name("pelton-poll".to_owned())
        .spawn(body)
        .map_err(|error| WorkerError::System(format!("the poll loop's thread: {error}")))?;
    Ok(Running { ended: receiver })
}

/// Tells once how the worker has ended: the poll loop does, or the lookout in its stead.
struct End(Mutex<Option<oneshot::Sender<Result<(), WorkerError>>>>);

impl End {
    fn tell(&self, result: Result<(), WorkerError>) {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(ended) = ended {
            let _nobody_waits = ended.send(result).is_err();
        }
    }
}

/// What the lookout does when the poll loop hangs for too long: the worker ends without it. If
/// the process is there for this worker alone and can't end by itself (handlers hold every thread
/// of the runtime), it is ended by force.
fn give_up(
    end: &Arc<End>,
    status: &Arc<StatusBoard>,
    control: &Arc<Control>,
) -> Box<dyn FnOnce(Hang) + Send> {
    let (end, status, control) = (Arc::clone(end), Arc::clone(status), Arc::clone(control));
    Box::new(move |hang| {
        let error = hang.error();
        status.failed(&error);
        control.end(); // should it ever wake
        // No log line before the end by force: whoever reads the log may have stopped.
        end.tell(Err(error));
        if control.owns_process() {
            std::thread::sleep(GRACE);
            let exit = Exit::from(Err(hang.error()));
            exit.explain();
            signal_hook::low_level::exit(i32::from(exit.code()));
        }
    })
}

/// A process that is to end has so long to do it by itself.
const GRACE: Duration = Duration::from_secs(2);

/// Calls the loop until it is over.
///
/// A panic leaves the loop and its clients as they are: closing a client can hang.
fn drive(poll_loop: PollLoop, host: &dyn Host, control: &Control) -> Result<(), WorkerError> {
    let status = Arc::clone(&poll_loop.status);
    let mut poll_loop = ManuallyDrop::new(poll_loop);
    loop {
        let now = host.now();
        if let Some(live) = control.take_change() {
            poll_loop.change(now, live);
        }
        for wish in control.take_wishes() {
            poll_loop.wish(now, wish);
        }
        if control.is_end_wanted() {
            poll_loop.shut_down(now);
        }
        match control.take_fault() {
            None => {}
            Some(Fault::Break(client)) => poll_loop.break_for_test(client),
            Some(Fault::Hang) => loop {
                std::thread::park();
            },
        }
        match poll_loop.step(now) {
            Turn::Over => break,
            Turn::Again(at) => {
                let wait = at.since(host.now());
                if !wait.is_zero() {
                    std::thread::park_timeout(wait);
                }
            }
        }
    }
    let result = ManuallyDrop::into_inner(poll_loop).finish();
    status.ended();
    result
}
