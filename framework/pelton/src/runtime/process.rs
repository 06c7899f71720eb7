//! How does a worker start, and how does it end?
//!
//! `start` checks what was declared, opens the clients and gives the poll loop its thread;
//! `Running` waits for the end. The order of the end (FACTS): drain, commit, leave, acknowledge,
//! close the fetcher, close the member, close the producer.

use std::mem::ManuallyDrop;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pelton_engine::{Engine, EngineLimits, Time};
use tokio::sync::{Semaphore, oneshot};

use crate::config::RESTORES;
use crate::error::WorkerError;
use crate::host::Machine;
use crate::kafka::{ClientSettings, Membership};
use crate::kafka::{KafkaAdmin, KafkaFetch, KafkaMember, KafkaProducer, KafkaRestores};
use crate::output::SendGate;
use crate::ports::{Host, Member, PortError, Ports, Waker};
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
    /// A silence of the poll loop above it is taken for a frozen process.
    pub(crate) thaw_limit: Duration,
    pub(crate) observer: Option<Arc<dyn Observer>>,
}

/// Tells a running worker to end, from anywhere.
///
/// ```
/// # fn doc(handle: pelton::WorkerHandle) {
/// handle.shut_down(); // drain, commit, leave; Worker::run returns when it is done
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct WorkerHandle(Arc<Stop>);

#[derive(Default)]
struct Stop {
    wanted: AtomicBool,
    thread: std::sync::OnceLock<std::thread::Thread>,
}

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stop").field("wanted", &self.wanted).finish_non_exhaustive()
    }
}

impl WorkerHandle {
    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    /// Begins a graceful shutdown; calling it again changes nothing.
    pub fn shut_down(&self) {
        self.0.wanted.store(true, Ordering::Release);
        if let Some(thread) = self.0.thread.get() {
            thread.unpark();
        }
    }

    fn is_wanted(&self) -> bool {
        self.0.wanted.load(Ordering::Acquire)
    }
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
}

impl SteppedWorker {
    pub(crate) fn new(parts: WorkerParts, status: Arc<StatusBoard>, ports: Ports) -> Self {
        let (queue, inbox) = mpsc::channel();
        let metrics = WorkerMetrics::new(&parts.clients.group_id);
        let shared = Arc::new(Shared {
            gate: SendGate::new(ports.host.now(), parts.thaw_limit),
            plan: parts.plan,
            host: Arc::clone(&ports.host),
            committed: ports.member.committed(),
            admin: ports.admin,
            producer: ports.producer,
            restores: ports.restores,
            observer: parts.observer,
            metrics: metrics.clone(),
            restoring: Semaphore::new(RESTORES),
            start_below: AtomicU64::new(0),
        });
        let poll_loop = PollLoop::new(LoopParts {
            member: ports.member,
            fetch: ports.fetch,
            shared,
            runtime: tokio::runtime::Handle::current(),
            engine: Engine::new(parts.limits),
            inbox,
            events: EventSender::new(queue, ports.waker),
            incarnation: "stepped".to_owned(),
            cluster: None,
            status: Arc::clone(&status),
            metrics,
        });
        Self { poll_loop: Some(poll_loop), host: ports.host, ended: None, status }
    }

    /// One round of the poll loop. Returns when to call again at the latest; `None` once the
    /// worker has ended.
    pub fn step(&mut self) -> Option<Time> {
        let mut poll_loop = self.poll_loop.take()?;
        match poll_loop.step(self.host.now()) {
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
    handle: &WorkerHandle,
) -> Result<Running, WorkerError> {
    let host: Arc<dyn Host> = Arc::new(Machine::new());
    let lasting = |error: PortError| WorkerError::Kafka(error.reason);
    let admin =
        KafkaAdmin::new(&parts.clients.asking(), &parts.clients.changing()).map_err(lasting)?;
    start_up::check(&parts.plan, &admin, &*host).await?;
    let cluster = crate::ports::Admin::cluster_id(&admin).await;
    let producer = KafkaProducer::new(parts.clients.producer()).map_err(lasting)?;
    let runtime = tokio::runtime::Handle::current();
    let (ended, receiver) = oneshot::channel();
    let incarnation = format!("{:x}", host.seed());
    let handle = handle.clone();
    let body = move || {
        let thread = std::thread::current();
        let _first = handle.0.thread.set(thread.clone());
        let waker: Waker = Arc::new(move || thread.unpark());
        let made = connect(&parts, Arc::clone(&waker));
        let result = made.and_then(|(member, fetch)| {
            let (queue, inbox) = mpsc::channel();
            let metrics = WorkerMetrics::new(&parts.clients.group_id);
            let shared = Arc::new(Shared {
                gate: SendGate::new(host.now(), parts.thaw_limit),
                plan: parts.plan,
                host: Arc::clone(&host),
                committed: member.committed(),
                admin: Arc::new(admin),
                producer: Arc::new(producer),
                restores: Arc::new(KafkaRestores { settings: parts.clients }),
                observer: parts.observer,
                metrics: metrics.clone(),
                restoring: Semaphore::new(RESTORES),
                start_below: AtomicU64::new(0),
            });
            let poll_loop = PollLoop::new(LoopParts {
                member: Box::new(member),
                fetch: Box::new(fetch),
                shared,
                runtime,
                engine: Engine::new(parts.limits),
                inbox,
                events: EventSender::new(queue, waker),
                incarnation,
                cluster,
                status,
                metrics,
            });
            let driving = AssertUnwindSafe(|| drive(poll_loop, &*host, &handle));
            std::panic::catch_unwind(driving).unwrap_or_else(|_| {
                Err(WorkerError::System(
                    "the poll loop panicked; this is a bug in Pelton".to_owned(),
                ))
            })
        });
        let _nobody_waits = ended.send(result).is_err();
    };
    std::thread::Builder::new()
        .name("pelton-poll".to_owned())
        .spawn(body)
        .map_err(|error| WorkerError::System(format!("the poll loop's thread: {error}")))?;
    Ok(Running { ended: receiver })
}

fn connect(parts: &WorkerParts, waker: Waker) -> Result<(KafkaMember, KafkaFetch), WorkerError> {
    let lasting = |error: PortError| WorkerError::Kafka(error.reason);
    let fetch = KafkaFetch::new(&parts.clients.fetcher(), Arc::clone(&waker)).map_err(lasting)?;
    let membership = Membership {
        subscription: parts
            .plan
            .inputs
            .iter()
            .map(|input| input.subscription.name().to_owned())
            .collect(),
        incremental: parts.clients.protocol.is_incremental(),
        is_static: parts.clients.group_instance_id.is_some(),
    };
    let member = KafkaMember::join(&parts.clients.member(), membership, waker).map_err(lasting)?;
    Ok((member, fetch))
}

/// Calls the loop until it is over.
///
/// A panic leaves the loop and its clients as they are: closing a client can hang.
fn drive(poll_loop: PollLoop, host: &dyn Host, handle: &WorkerHandle) -> Result<(), WorkerError> {
    let status = Arc::clone(&poll_loop.status);
    let mut poll_loop = ManuallyDrop::new(poll_loop);
    loop {
        let now = host.now();
        if handle.is_wanted() {
            poll_loop.shut_down(now);
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
