//! One partition's loop: take commands, see to what the slots can't, again.
//!
//! The task prepares the partition, makes its slots, wakes them when there is work, cuts them off
//! when their time is over and waits for their end. It never waits for another partition.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use pelton_engine::{Bug, Closing, DoneSet, Epoch, Event, Offset, PartitionId, Standing, Time};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, Id, JoinError, JoinHandle, JoinSet};

use crate::context::{Completing, Place};
use crate::error::WorkerError;
use crate::handler::Handler;
use crate::ports::{PortError, Reports};
use crate::runtime::breaker::InputBreaker;
use crate::runtime::desk::{Command, Desk, RetryTopic, SharedDesk};
use crate::runtime::in_flight::InFlight;
use crate::runtime::input::{HandlerFactory, InputSpec};
use crate::runtime::lease::Lease;
use crate::runtime::lookout::Lookout;
use crate::runtime::prepare::{Preparing, prepare};
use crate::runtime::shared::{EventSender, LostPosition, Shared, TaskEvent};
use crate::runtime::slot::Slot;
use crate::runtime::slot_task::SlotTask;
use crate::runtime::start::{SignsOfLife, Stage};
use crate::state::Stores;
use crate::telemetry::{Observation, PartitionMetrics, Samples};
use crate::topic_partition::TopicPartition;

/// What a partition's task is made from.
pub(crate) struct TaskParts {
    pub(crate) id: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) partition: TopicPartition,
    pub(crate) spec: InputSpec,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: UnboundedReceiver<Command>,
    /// Weak: the task ends when the poll loop forgets it.
    pub(crate) own_commands: WeakUnboundedSender<Command>,
    pub(crate) events: EventSender,
    pub(crate) lease: Arc<Lease>,
    pub(crate) look: Arc<Lookout>,
    /// The places that it shares with its input's other partitions.
    pub(crate) in_flight: Arc<InFlight>,
    /// What pauses its input while what that calls is broken.
    pub(crate) breaker: Option<Arc<InputBreaker>>,
    pub(crate) metrics: PartitionMetrics,
    pub(crate) cancelled: watch::Receiver<bool>,
    /// The task of this partition's assignment before, while it has not ended.
    pub(crate) predecessor: Option<JoinHandle<()>>,
    /// The record that one began last (a planted bug takes it for still in hand).
    pub(crate) last_begun: Option<Offset>,
    /// It can't go on at this position.
    pub(crate) lost_position: Option<LostPosition>,
    /// Somebody wants it to go on here.
    pub(crate) seek: Option<Offset>,
    /// How often the process had thawed when the partition was assigned: ownership is proved up
    /// to then, and no further.
    pub(crate) thaws: u64,
}

impl TaskParts {
    fn signs(&self) -> SignsOfLife {
        SignsOfLife {
            partition: self.id,
            epoch: self.epoch,
            lease: Arc::clone(&self.lease),
            events: self.events.clone(),
        }
    }
}

/// Who is asked how far the retry topics are done answers within this time, or is asked again.
const ASK_LIMIT: Duration = Duration::from_secs(30);

/// A hook that is still waiting after so long is cut off.
const HOOK_LIMIT: Duration = Duration::from_secs(10);

/// Delivery reports go the way of all commands.
struct ReportsToTask(WeakUnboundedSender<Command>);

impl Reports for ReportsToTask {
    fn report(&self, ticket: u64, result: Result<(), PortError>) {
        let error = result.err().map(|error| error.reason);
        if let Some(commands) = self.0.upgrade() {
            // A task that has ended needs no report.
            let _ended = commands.send(Command::Delivered { ticket, error }).is_err();
        }
    }
}

/// Completions go the way of all commands.
fn completing(commands: WeakUnboundedSender<Command>) -> Completing {
    Completing(Arc::new(move |index, attempt, result| {
        if let Some(commands) = commands.upgrade() {
            // A task that has ended needs no word.
            let _ended = commands.send(Command::Completed { index, attempt, result }).is_err();
        }
    }))
}

/// Runs a partition from its assignment to its end.
pub(crate) async fn run<H: Handler>(mut parts: TaskParts, factory: HandlerFactory<H>) {
    let Some((desk, position, committed)) = begin(&mut parts).await else {
        return;
    };
    let mut task = PartitionTask::new(parts, desk, factory);
    let mut first = task.new_slot();
    task.parts.signs().at(Stage::Hook);
    let assigned = tokio::select! {
        biased;
        closing = closed(&mut task.parts.commands) => Err(closing),
        assigned = first.assigned() => Ok(assigned),
    };
    let closing = match assigned {
        Err(closing) => closing,
        Ok(false) => closed(&mut task.parts.commands).await,
        Ok(true) => {
            task.started(position, committed);
            task.start(first);
            return task.go().await;
        }
    };
    task.desk.lock().take(Command::Close(closing), task.parts.shared.host.now());
    task.start(first);
    task.end(closing).await;
}

/// A partition whose records are handled.
struct PartitionTask<H> {
    parts: TaskParts,
    desk: SharedDesk,
    place: Arc<Place>,
    factory: HandlerFactory<H>,
    slots: JoinSet<usize>,
    /// By their number.
    handles: Vec<AbortHandle>,
    numbers: HashMap<Id, usize>,
    /// Rung by the slots.
    bell: Arc<Notify>,
    /// Under way: how far the retry topics go, and how far they are done.
    asking: Option<BoxFuture<'static, Retries>>,
}

impl<H: Handler> PartitionTask<H> {
    fn new(parts: TaskParts, desk: Desk, factory: HandlerFactory<H>) -> Self {
        let (place, bell) = (Arc::clone(&desk.place), desk.bell());
        let desk = SharedDesk::new(desk);
        let slots = JoinSet::new();
        let (handles, numbers) = (Vec::new(), HashMap::new());
        Self { parts, desk, place, factory, slots, handles, numbers, bell, asking: None }
    }

    fn started(&self, position: Offset, committed: Option<Standing>) {
        let (partition, epoch) = (self.parts.id, self.parts.epoch);
        self.parts.shared.observe(&Observation::Started {
            partition: &self.parts.partition,
            epoch: epoch.0,
            position: position.0,
        });
        let restored = Event::Restored { partition, epoch, position, committed };
        self.parts.events.send(TaskEvent::Engine(restored));
        // What `assigned` did is to be committed, too.
        self.desk.lock().tell_progress(self.parts.shared.host.now());
    }

    fn new_slot(&self) -> SlotTask<H> {
        let (index, wake, hand) = self.desk.lock().add_slot();
        let (marks, are_new) = self.parts.lease.marks_of(index);
        if are_new {
            self.parts.look.watch(self.parts.partition.clone(), &marks);
        }
        let (place, factory) = (Arc::clone(&self.place), self.factory.clone());
        let bug = self.parts.shared.plan.bug;
        SlotTask {
            slot: Slot::new(index, place, marks, self.parts.spec.clone(), factory, bug),
            desk: self.desk.clone(),
            hand,
            lease: Arc::clone(&self.parts.lease),
            shared: Arc::clone(&self.parts.shared),
            handler_seconds: Samples::of(self.parts.metrics.handler_seconds.clone()),
            partition: self.parts.partition.clone(),
            epoch: self.parts.epoch,
            retry: self.parts.spec.retry,
            wake,
        }
    }

    fn start(&mut self, slot: SlotTask<H>) {
        let index = slot.slot.index;
        let handle = self.slots.spawn(async move {
            slot.work().await;
            index
        });
        self.remember(index, handle);
    }

    fn remember(&mut self, slot: usize, handle: AbortHandle) {
        self.numbers.insert(handle.id(), slot);
        match self.handles.get_mut(slot) {
            Some(before) => *before = handle, // of one that has ended
            None => self.handles.push(handle),
        }
    }

    /// A slot that was not there when the partition began.
    fn start_another(&mut self) {
        let mut slot = self.new_slot();
        let index = slot.slot.index;
        self.desk.lock().joins(index);
        let handle = self.slots.spawn(async move {
            if slot.joins().await {
                slot.work().await;
            }
            index
        });
        self.remember(index, handle);
    }

    /// The loop. Ends when the partition is closed and its slots have ended.
    async fn go(mut self) {
        loop {
            self.hear();
            let now = self.parts.shared.host.now();
            let chores = self.desk.lock().attend(now);
            self.cut(&chores.cut);
            if let Some(closing) = chores.closed {
                return self.end(closing).await;
            }
            for _ in 0..chores.new_slots {
                self.start_another();
            }
            if let Some(committed) = chores.question {
                self.ask(committed);
            }
            self.wait(chores.wake, now).await;
        }
    }

    /// Takes the commands that are there.
    fn hear(&mut self) {
        let now = self.parts.shared.host.now();
        loop {
            let command = match self.parts.commands.try_recv() {
                Ok(command) => command,
                Err(TryRecvError::Empty) => return,
                // The poll loop has forgotten this task.
                Err(TryRecvError::Disconnected) => Command::Close(Closing::Lost),
            };
            let is_last = matches!(command, Command::Close(_));
            self.desk.lock().take(command, now);
            if is_last {
                return;
            }
        }
    }

    /// Ends with a command, a word of a slot, or at a moment.
    async fn wait(&mut self, until: Option<Time>, now: Time) {
        let host = &self.parts.shared.host;
        let timer = async {
            match until {
                Some(until) => host.sleep(until.since(now)).await,
                None => std::future::pending().await,
            }
        };
        let asking = &mut self.asking;
        let answer = async move {
            match asking {
                Some(answer) => answer.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            command = self.parts.commands.recv() => {
                let command = command.unwrap_or(Command::Close(Closing::Lost));
                self.desk.lock().take(command, host.now());
            }
            Some(ended) = self.slots.join_next_with_id() => self.ended(ended),
            Retries { committed, topics } = answer => {
                self.asking = None;
                self.desk.lock().heard_of_retries(&committed, &topics);
            }
            () = self.bell.notified() => {}
            () = timer => {}
        }
    }

    /// Asks how far the retry topics go and how far they are done, unless that is under way.
    fn ask(&mut self, committed: DoneSet) {
        let Some(route) = self.parts.spec.retry_route.as_ref().filter(|_| self.asking.is_none())
        else {
            return;
        };
        let topics = std::iter::once(&route.topic).chain(&route.beyond).cloned().collect();
        let (shared, number) = (Arc::clone(&self.parts.shared), self.parts.partition.partition());
        let limit = shared.host.sleep(ASK_LIMIT);
        self.asking = Some(Retries::read(shared, topics, number, committed, limit).boxed());
    }

    /// Cuts off what these slots run, at its next await.
    fn cut(&self, slots: &[usize]) {
        for handle in slots.iter().filter_map(|slot| self.handles.get(*slot)) {
            handle.abort();
        }
    }

    fn ended(&mut self, ended: Result<(Id, usize), JoinError>) {
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, _)| *id);
        let Some(slot) = self.numbers.remove(&id) else { return };
        let mut desk = self.desk.lock();
        desk.slot_ended(slot, self.parts.shared.host.now());
        if ended.is_err_and(|error| error.is_panic()) {
            let partition = &self.parts.partition;
            let reason = format!("a slot of {partition} panicked; this is a bug in Pelton");
            desk.fail(WorkerError::System(reason));
        }
    }

    /// The slots have their last hooks; one that hangs is cut off.
    async fn end(mut self, closing: Closing) {
        let host = Arc::clone(&self.parts.shared.host);
        let mut limit = host.sleep(HOOK_LIMIT);
        let mut in_time = true;
        while !self.slots.is_empty() {
            tokio::select! {
                biased;
                Some(ended) = self.slots.join_next_with_id() => self.ended(ended),
                () = &mut limit, if in_time => {
                    in_time = false;
                    // A handler that never yields is waited for all the same.
                    if Bug::TwoSlots.is(self.parts.shared.plan.bug) {
                        continue;
                    }
                    let partition = &self.parts.partition;
                    tracing::warn!(%partition, ?closing, "a handler's last hook hangs and is cut off");
                    self.slots.abort_all();
                }
            }
        }
    }
}

/// What is known of our partition in each retry topic.
struct Retries {
    /// This much was committed before they were asked.
    committed: DoneSet,
    /// In their order; none if one could not be asked.
    topics: Vec<RetryTopic>,
}

impl Retries {
    /// None is known if they do not answer within the limit: they are asked again.
    async fn read(
        shared: Arc<Shared>,
        names: Vec<Arc<str>>,
        number: i32,
        committed: DoneSet,
        limit: BoxFuture<'static, ()>,
    ) -> Self {
        tokio::select! {
            biased;
            read = Self::read_all(shared, names, number, committed.clone()) => read,
            () = limit => Self { committed, topics: Vec::new() },
        }
    }

    async fn read_all(
        shared: Arc<Shared>,
        names: Vec<Arc<str>>,
        number: i32,
        committed: DoneSet,
    ) -> Self {
        let mut topics = Vec::with_capacity(names.len());
        for name in names {
            let partition = TopicPartition::new(name, number);
            let read = async {
                let end = Offset(shared.admin.offsets(&partition).await?.1);
                let own = shared.committed.read(vec![partition.clone()]).await?.into_iter().next();
                let handled = own.and_then(|own| own.offset).map(Offset);
                Ok::<_, PortError>(RetryTopic { end, handled })
            };
            match read.await {
                Ok(topic) => topics.push(topic),
                Err(error) => {
                    tracing::debug!(%partition, %error, "how far the retry topic is done is not known");
                    return Self { committed, topics: Vec::new() };
                }
            }
        }
        Self { committed, topics }
    }
}

/// Reads the start offset, restores the stores and sets up the desk; `None` if the partition
/// was given up meanwhile.
async fn begin(parts: &mut TaskParts) -> Option<(Desk, Offset, Option<Standing>)> {
    let signs = parts.signs();
    let left_alone = Bug::TwoSlots.is(parts.shared.plan.bug);
    if let Some(predecessor) = parts.predecessor.take().filter(|_| !left_alone) {
        signs.at(Stage::Predecessor);
        // Order: a handler of the assignment before may still be at its last await. Waited for
        // even if this assignment ends meanwhile: the next one waits only for this task.
        let _panicked = predecessor.await.is_err();
    }
    signs.at(Stage::Reading);
    let preparing = Preparing {
        shared: &parts.shared,
        spec: &parts.spec,
        partition: &parts.partition,
        metrics: &parts.metrics,
        signs: &signs,
        lost_position: parts.lost_position.as_ref(),
        seek: parts.seek,
    };
    let prepared = tokio::select! {
        biased;
        _closed = closed(&mut parts.commands) => return None,
        prepared = prepare(&preparing) => prepared,
    };
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => {
            parts.events.send(TaskEvent::Failed(error));
            closed(&mut parts.commands).await;
            return None;
        }
    };
    let (partition, epoch) = (parts.id, parts.epoch);
    parts.events.send(TaskEvent::Settled { partition, epoch, topic: prepared.topic });
    if let Some(from) = prepared.sought_from {
        let (partition, epoch, to) = (&parts.partition, parts.epoch.0, prepared.position);
        parts.shared.observe(&Observation::Jumped { partition, epoch, from, to });
    }
    if let Some(jump) = prepared.jump {
        let (partition, epoch) = (&parts.partition, epoch.0);
        let (from, to) = (jump.position, jump.went_on_at);
        parts.shared.observe(&Observation::Jumped { partition, epoch, from, to });
        let (partition, epoch) = (parts.id, parts.epoch);
        parts.events.send(TaskEvent::Jumped { partition, epoch, jump });
    }
    let mut bound = vec![None; parts.shared.plan.stores.len()];
    for (at, store) in parts.spec.stores.iter().enumerate() {
        if let Some(place) = bound.get_mut(*store) {
            *place = Some(at);
        }
    }
    let place = Arc::new(Place {
        partition: parts.partition.clone(),
        epoch: epoch.0,
        outputs: Arc::clone(&parts.shared.plan.outputs),
        declared: Arc::clone(&parts.shared.plan.stores),
        bound,
        stores: Stores::new(prepared.stores),
        cancelled: parts.cancelled.clone(),
        host: Arc::clone(&parts.shared.host),
        group: Arc::clone(parts.shared.metrics.group()),
        complete: completing(parts.own_commands.clone()),
        bug: parts.shared.plan.bug,
    });
    let behind = Bug::StartBehindCommit.is(parts.shared.plan.bug) && prepared.committed.is_some();
    let position = Offset((prepared.position - if behind { 20 } else { 0 }).max(0));
    // What was done above a commit says nothing of another start.
    let committed = prepared.committed;
    let dropped = Bug::DoneSetDropped.is(parts.shared.plan.bug);
    let fits = |committed: &Standing| committed.offset() == position && !dropped;
    let before = committed.clone().filter(fits);
    let start = Standing { holds: prepared.holds, ..Standing::at(position) };
    let before = before.unwrap_or(start);
    if let Err(error) = check_retry_topics(parts, &before) {
        parts.events.send(TaskEvent::Failed(error));
        closed(&mut parts.commands).await;
        return None;
    }
    let reports = Arc::new(ReportsToTask(parts.own_commands.clone()));
    let mut desk = Desk::new(parts, place, reports, &before);
    desk.plant(parts.last_begun);
    desk.say_careful();
    desk.show_holds();
    Some((desk, position, committed))
}

/// Records that lie in a retry topic that this program does not have would lie there for ever, and their
/// keys would be held as long.
fn check_retry_topics(parts: &TaskParts, before: &Standing) -> Result<(), WorkerError> {
    let known = parts.spec.retry_route.as_ref().map_or(0, |route| 1 + route.beyond.len());
    let wanted = before.holds.topics();
    if wanted <= known {
        return Ok(());
    }
    Err(WorkerError::Declaration(format!(
        "the last commit of {} says that records of it lie in retry topic number {wanted}, and this program has {known} of them; put its retry topics back until pelton_held_keys is 0 everywhere",
        parts.partition
    )))
}

/// Ends when the poll loop closes the task or forgets it.
async fn closed(commands: &mut UnboundedReceiver<Command>) -> Closing {
    while let Some(command) = commands.recv().await {
        if let Command::Close(closing) = command {
            return closing;
        }
    }
    Closing::Lost
}
