//! The one loop that talks to the group: events to the engine, actions to the world.
//!
//! It never runs user code, never waits for a handler and makes no blocking call to a broker.
//! [`PollLoop::step`] does one round and says when to call it again: production gives it a
//! thread, the test kit calls it. What it hears, does, asks and shows, and how it ends, stand in
//! files of their own below this one.

mod act;
mod ask;
mod change;
mod end;
mod hear;
mod rebuild;
mod show;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pelton_engine::{Action, CommitItem, Engine, Epoch, Event, Offset, PartitionId, Time};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use self::rebuild::Repairs;
use crate::admin::JumpStatus;
use crate::error::WorkerError;
use crate::ports::{Clients, Fetch, FetchEvent, Member};
use crate::record::Run;
use crate::runtime::desk::Command;
use crate::runtime::in_poll::WaitingCalls;
use crate::runtime::lease::Lease;
use crate::runtime::live::Live;
use crate::runtime::lookout::{Doing, Lookout};
use crate::runtime::names::Names;
use crate::runtime::shared::{EventSender, Shared, TaskEvent, TopicMark};
use crate::runtime::status::StatusBoard;
use crate::runtime::wish::Scope;
use crate::telemetry::{PartitionMetrics, WorkerMetrics};

/// The loop looks around at least so often: it is also the gate's pulse.
pub(crate) const PULSE: Duration = Duration::from_millis(100);

/// So many reports of tasks are heard per step: no task can keep the loop from its other duties.
const EVENTS_PER_STEP: u32 = 10_000;

/// Between two updates of what the worker shows of itself.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct PollLoop {
    member: Box<dyn Member>,
    fetch: Box<dyn Fetch>,
    clients: Arc<dyn Clients>,
    repairs: Repairs,
    look: Arc<Lookout>,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    engine: Engine,
    live: Live,
    /// Topics and partitions that somebody wants to rest.
    wished_pauses: BTreeSet<Scope>,
    /// What rests now.
    paused: BTreeSet<PartitionId>,
    inbox: mpsc::Receiver<TaskEvent>,
    events: EventSender,
    names: Names,
    tasks: BTreeMap<PartitionId, Task>,
    /// Tasks that were told to end and may still be in user code; the next assignment of their
    /// partition waits for them.
    ending_tasks: HashMap<PartitionId, EndingTask>,
    waiting_calls: WaitingCalls,
    /// The run that the engine is deciding about.
    at_hand: Option<Run>,
    fetched: Vec<FetchEvent>,
    actions: Vec<Action>,
    commit: Option<SentCommit>,
    cluster: Option<String>,
    pub(crate) status: Arc<StatusBoard>,
    metrics: WorkerMetrics,
    next_status: Time,
    next_topics: Time,
    /// This round is the first after a standstill: what is heard in it may be old.
    thawed_now: bool,
    /// Assignments heard of.
    assignments: u64,
    /// Input topics that are not there.
    missing: BTreeSet<String>,
    /// The last jump of each partition of ours.
    jumps: BTreeMap<PartitionId, JumpStatus>,
    failure: Option<WorkerError>,
    ending: Ending,
}

/// A partition's task, as the loop knows it.
struct Task {
    epoch: Epoch,
    commands: UnboundedSender<Command>,
    lease: Arc<Lease>,
    cancel: watch::Sender<bool>,
    body: JoinHandle<()>,
    topic: TopicMark,
    /// Another id of its topic, seen once: a broker may lag behind.
    other_topic: Option<String>,
    /// Its position is not in its log, and that has been said.
    out_of_range: bool,
    draining_since: Option<Time>,
    metrics: PartitionMetrics,
}

/// A task that was told to end.
struct EndingTask {
    body: JoinHandle<()>,
    since: Time,
    topic: TopicMark,
    metrics: PartitionMetrics,
    /// It was found not to yield, and counted.
    blocked: bool,
    /// The record it began last.
    last_begun: Offset,
}

struct SentCommit {
    id: u64,
    items: Vec<CommitItem>,
    at: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    Draining {
        give_up_at: Time,
    },
    /// The group has been told; its last revocation is on its way.
    Leaving {
        give_up_at: Time,
    },
    Over,
}

/// What the loop says after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Call again at this moment, or earlier if woken.
    Again(Time),
    /// The worker has ended.
    Over,
}

/// What a poll loop is made from.
pub(crate) struct LoopParts {
    pub(crate) member: Box<dyn Member>,
    pub(crate) fetch: Box<dyn Fetch>,
    pub(crate) clients: Arc<dyn Clients>,
    pub(crate) look: Arc<Lookout>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) engine: Engine,
    pub(crate) live: Live,
    pub(crate) inbox: mpsc::Receiver<TaskEvent>,
    pub(crate) events: EventSender,
    pub(crate) cluster: Option<String>,
    pub(crate) status: Arc<StatusBoard>,
    pub(crate) metrics: WorkerMetrics,
}

impl std::fmt::Debug for PollLoop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PollLoop").field("engine", &self.engine).finish_non_exhaustive()
    }
}

impl PollLoop {
    pub(crate) fn new(parts: LoopParts) -> Self {
        Self {
            member: parts.member,
            fetch: parts.fetch,
            clients: parts.clients,
            repairs: Repairs::default(),
            look: parts.look,
            shared: parts.shared,
            runtime: parts.runtime,
            engine: parts.engine,
            live: parts.live,
            wished_pauses: BTreeSet::new(),
            paused: BTreeSet::new(),
            inbox: parts.inbox,
            events: parts.events,
            names: Names::default(),
            tasks: BTreeMap::new(),
            ending_tasks: HashMap::new(),
            waiting_calls: WaitingCalls::default(),
            at_hand: None,
            fetched: Vec::new(),
            actions: Vec::new(),
            commit: None,
            cluster: parts.cluster,
            status: parts.status,
            metrics: parts.metrics,
            next_status: Time::ZERO,
            next_topics: Time::ZERO,
            thawed_now: false,
            assignments: 0,
            missing: BTreeSet::new(),
            jumps: BTreeMap::new(),
            failure: None,
            ending: Ending::No,
        }
    }

    pub(crate) fn has_waiting_calls(&self) -> bool {
        self.waiting_calls.are_there()
    }

    /// One round: hear everything, decide, act.
    pub(crate) fn step(&mut self, now: Time) -> Turn {
        self.look.turn();
        self.thawed_now = self.shared.gate.beat(now);
        if self.thawed_now {
            self.thawed(now);
        }
        self.rebuild_due(now);
        self.look.doing(Doing::AskingTheMember);
        while let Some(event) = self.member.poll() {
            self.member_event(now, event);
        }
        self.look.doing(Doing::HearingTasks);
        let mut heard = 0;
        while heard < EVENTS_PER_STEP
            && let Ok(event) = self.inbox.try_recv()
        {
            self.task_event(now, event);
            heard += 1;
        }
        self.look.doing(Doing::TakingRecords);
        let more = self.take_records(now) || heard == EVENTS_PER_STEP;
        self.look.doing(Doing::Deciding);
        let wake = self.engine.tick(now, &mut self.actions);
        self.shared.start_below.store(self.engine.start_below(), Ordering::Relaxed);
        self.act(now);
        self.end_if_due(now);
        if now >= self.next_status {
            self.next_status = now + STATUS_INTERVAL;
            self.look.doing(Doing::Showing);
            self.show_status(now);
        }
        if now >= self.next_topics && self.ending == Ending::No {
            self.next_topics = Time(u64::MAX); // until this round has ended
            self.ask_topics();
        }
        if self.ending == Ending::Over {
            return Turn::Over;
        }
        self.look.doing(Doing::Resting);
        let rebuild = self.repairs.wake(self.ending != Ending::No);
        let wake = [wake, rebuild].into_iter().flatten().fold(now + PULSE, Time::min);
        Turn::Again(if more { now } else { wake })
    }

    fn tell(&mut self, now: Time, event: Event) {
        self.engine.handle(now, event, &mut self.actions);
        self.act(now);
    }

    fn act(&mut self, now: Time) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.act_on(now, action);
        }
        self.actions = actions;
    }
}
