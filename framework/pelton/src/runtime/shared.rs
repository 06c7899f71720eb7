//! What all loops of a worker share: the plan, the ports, the word to the poll loop.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pelton_engine::{Bug, Epoch, Event, Offset, PartitionId};
use tokio::sync::Semaphore;

use crate::admin::JumpStatus;
use crate::config::MemoryShares;
use crate::error::WorkerError;
use crate::output::{OutputSpec, SendGate};
use crate::ports::{Admin, Host, Producer, RestoreFetches, TopicIdentity, Waker};
use crate::refusals::Refusals;
use crate::runtime::alone::Alone;
use crate::runtime::breaker::InputBreaker;
use crate::runtime::committed::CurrentCommitted;
use crate::runtime::in_flight::InFlight;
use crate::runtime::input::Input;
use crate::runtime::live::Pacer;
use crate::state::StoreSpec;
use crate::telemetry::{Observation, Observer, WorkerMetrics};

/// The worker as it was declared and configured: values only.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Its `client_id`.
    pub(crate) worker: String,
    pub(crate) bootstrap_servers: String,
    pub(crate) inputs: Arc<[Input]>,
    pub(crate) outputs: Arc<[OutputSpec]>,
    pub(crate) stores: Arc<[StoreSpec]>,
    pub(crate) offset_reset: pelton_engine::OffsetReset,
    pub(crate) out_of_range: pelton_engine::OutOfRangePolicy,
    pub(crate) max_poll_records: usize,
    pub(crate) shutdown_timeout: Duration,
    /// How soon a topic that is gone, or another one of its name, is noticed.
    pub(crate) discovery: Duration,
    /// Is it the broker that assigns (KIP-848)? It tells topics of one name apart by itself.
    pub(crate) broker_assigns: bool,
    /// How the memory budget is divided.
    pub(crate) memory: MemoryShares,
    pub(crate) bug: Option<Bug>,
}

impl Plan {
    /// The places of each input.
    pub(crate) fn in_flight(&self) -> Vec<Arc<InFlight>> {
        let limits = self.inputs.iter().map(|input| input.spec.ordering.concurrency());
        limits.map(|limit| Arc::new(InFlight::new(limit))).collect()
    }

    /// The breakers of the inputs that have one, which their retry topics share: handlers call the same.
    pub(crate) fn breakers(
        &self,
        metrics: &WorkerMetrics,
        seed: u64,
    ) -> Vec<Option<Arc<InputBreaker>>> {
        let mut breakers = Vec::new();
        for input in self.inputs.iter() {
            let name = input.subscription.name();
            let leads_here = |other: &Input| other.spec.sends_retries_to(name);
            let origin = self.inputs.iter().position(leads_here);
            let shared: Option<&Option<_>> = origin.and_then(|origin| breakers.get(origin));
            let own = || {
                let breaker = input.spec.breaker?;
                Some(Arc::new(InputBreaker::new(name, breaker, metrics.breaker(name), seed)))
            };
            breakers.push(shared.cloned().unwrap_or_else(own));
        }
        breakers
    }

    /// Is there anything to restore?
    pub(crate) fn has_changelogs(&self) -> bool {
        self.stores.iter().any(|store| store.changelog.is_some())
    }
}

/// What every partition's task can reach.
pub(crate) struct Shared {
    pub(crate) plan: Plan,
    /// Of this worker, in commits: no other has the same.
    pub(crate) incarnation: String,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) committed: CurrentCommitted,
    pub(crate) admin: Arc<dyn Admin>,
    pub(crate) producer: Arc<dyn Producer>,
    pub(crate) restores: Arc<dyn RestoreFetches>,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) gate: SendGate,
    pub(crate) metrics: WorkerMetrics,
    /// So many restores run at once at most: each has a client of its own.
    pub(crate) restoring: Semaphore,
    pub(crate) pacer: Pacer,
    /// By input: how many of its records are in hand.
    pub(crate) in_flight: Vec<Arc<InFlight>>,
    /// By input: its breaker, where it has one.
    pub(crate) breakers: Vec<Option<Arc<InputBreaker>>>,
    /// Whose records run alone.
    pub(crate) alone: Arc<Alone>,
    /// What Kafka refuses at the moment.
    pub(crate) refusals: Arc<Refusals>,
    /// A task starts a record only while it holds at most so many bytes, or no effects.
    pub(crate) start_below: AtomicU64,
}

impl Shared {
    pub(crate) fn observe(&self, observation: &Observation<'_>) {
        if let Some(observer) = &self.observer {
            observer.observe(observation);
        }
    }
}

/// What a partition's task tells the poll loop.
pub(crate) enum TaskEvent {
    /// Something for the engine.
    Engine(Event),
    /// What this partition's commits have to say of its topic.
    Settled { partition: PartitionId, epoch: Epoch, topic: TopicMark },
    /// Which topic has this name now.
    TopicSeen { topic: String, identity: TopicIdentity },
    /// The worker can't go on.
    Failed(WorkerError),
    /// Every topic was asked about.
    TopicsAsked,
    /// A partition's position was not in its log; the policy has decided where it goes on.
    Jumped { partition: PartitionId, epoch: Epoch, jump: JumpStatus },
    /// The client that was broken is out of the group.
    MemberRetired,
    /// A producer's client refuses everything.
    ProducerBroke { client: u64, reason: String },
    /// The group's coordinator is there.
    CoordinatorAnswers(Then),
}

/// What a commit says of the topic it belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicMark {
    /// The partition count that the group has settled on.
    pub(crate) partitions: u32,
    /// The topic's id, where it has one.
    pub(crate) id: Option<String>,
}

/// A position that a partition can't go on at, and the topic it belongs to.
#[derive(Clone, Debug)]
pub(crate) struct LostPosition {
    pub(crate) position: Offset,
    pub(crate) topic: TopicMark,
}

/// What the coordinator was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    /// To leave the group.
    Leave,
    /// To leave it and join anew, unless something was assigned since this many assignments.
    Rejoin { assignments: u64 },
}

/// The way from a task to the poll loop.
#[derive(Clone)]
pub(crate) struct EventSender {
    queue: mpsc::Sender<TaskEvent>,
    waker: Waker,
}

impl EventSender {
    pub(crate) fn new(queue: mpsc::Sender<TaskEvent>, waker: Waker) -> Self {
        Self { queue, waker }
    }

    pub(crate) fn waker(&self) -> Waker {
        Arc::clone(&self.waker)
    }

    /// Tells the poll loop; once it has ended, nobody needs to know.
    pub(crate) fn send(&self, event: TaskEvent) {
        if self.queue.send(event).is_ok() {
            (self.waker)();
        }
    }
}
