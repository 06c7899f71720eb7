//! The one loop that talks to the group: events to the engine, actions to the world.
//!
//! It never runs user code, never waits for a handler and makes no blocking call to a broker.
//! [`PollLoop::step`] does one round and says when to call it again: production gives it a
//! thread, the test kit calls it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use pelton_engine::{
    Action, Bug, Closing, CommitItem, CommitStatus, Engine, Envelope, Epoch, Event, Offset,
    PartitionId, PartitionView, RunInfo, SilentAction, Time,
};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::PartitionStatus;
use crate::error::WorkerError;
use crate::ports::{CommitEntry, Fetch, FetchEvent, Member, MemberEvent};
use crate::record::Run;
use crate::runtime::desk::{Command, Lease};
use crate::runtime::input::Input;
use crate::runtime::partition_task::TaskParts;
use crate::runtime::shared::{EventSender, Shared, TaskEvent, Then};
use crate::runtime::status::{StatusBoard, partition_status};
use crate::telemetry::{CommitOutcome, Observation, PartitionMetrics, WorkerMetrics};
use crate::topic_partition::TopicPartition;

/// The loop looks around at least so often: it is also the gate's pulse.
pub(crate) const PULSE: Duration = Duration::from_millis(100);

/// Between two updates of what the worker shows of itself.
const STATUS_INTERVAL: Duration = Duration::from_millis(250);

pub(crate) struct PollLoop {
    member: Box<dyn Member>,
    fetch: Box<dyn Fetch>,
    shared: Arc<Shared>,
    runtime: tokio::runtime::Handle,
    engine: Engine,
    inbox: mpsc::Receiver<TaskEvent>,
    events: EventSender,
    names: Names,
    tasks: BTreeMap<PartitionId, Task>,
    /// Tasks that were told to end and may still be in user code; the next assignment of their
    /// partition waits for them.
    ending_tasks: HashMap<PartitionId, EndingTask>,
    /// The run that the engine is deciding about.
    at_hand: Option<Run>,
    fetched: Vec<FetchEvent>,
    actions: Vec<Action>,
    commit: Option<SentCommit>,
    incarnation: String,
    cluster: Option<String>,
    pub(crate) status: Arc<StatusBoard>,
    metrics: WorkerMetrics,
    next_status: Time,
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
    settled: u32,
    draining_since: Option<Time>,
    metrics: PartitionMetrics,
}

/// A task that was told to end.
struct EndingTask {
    body: JoinHandle<()>,
    since: Time,
    metrics: PartitionMetrics,
    /// It was found not to yield, and counted.
    blocked: bool,
}

struct SentCommit {
    id: u64,
    items: Vec<CommitItem>,
    at: Time,
}

/// A task that has not ended so long after it was told to is in code that never yields: hooks
/// that wait are cut off earlier.
const BLOCKED_AFTER: Duration = Duration::from_secs(15);

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

/// Numbers for topic-partitions, given at first sight.
#[derive(Default)]
struct Names {
    ids: HashMap<TopicPartition, PartitionId>,
    names: Vec<TopicPartition>,
}

impl Names {
    fn id(&mut self, partition: &TopicPartition) -> PartitionId {
        if let Some(id) = self.ids.get(partition) {
            return *id;
        }
        let id = PartitionId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.ids.insert(partition.clone(), id);
        self.names.push(partition.clone());
        id
    }

    fn ids(&mut self, partitions: &[TopicPartition]) -> Vec<PartitionId> {
        partitions.iter().map(|partition| self.id(partition)).collect()
    }

    fn name(&self, id: PartitionId) -> Option<&TopicPartition> {
        usize::try_from(id.0).ok().and_then(|at| self.names.get(at))
    }
}

/// What a poll loop is made from.
pub(crate) struct LoopParts {
    pub(crate) member: Box<dyn Member>,
    pub(crate) fetch: Box<dyn Fetch>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) engine: Engine,
    pub(crate) inbox: mpsc::Receiver<TaskEvent>,
    pub(crate) events: EventSender,
    pub(crate) incarnation: String,
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
        parts.status.started(&parts.shared.host);
        Self {
            member: parts.member,
            fetch: parts.fetch,
            shared: parts.shared,
            runtime: parts.runtime,
            engine: parts.engine,
            inbox: parts.inbox,
            events: parts.events,
            names: Names::default(),
            tasks: BTreeMap::new(),
            ending_tasks: HashMap::new(),
            at_hand: None,
            fetched: Vec::new(),
            actions: Vec::new(),
            commit: None,
            incarnation: parts.incarnation,
            cluster: parts.cluster,
            status: parts.status,
            metrics: parts.metrics,
            next_status: Time::ZERO,
            failure: None,
            ending: Ending::No,
        }
    }

    /// One round: hear everything, decide, act.
    pub(crate) fn step(&mut self, now: Time) -> Turn {
        if self.shared.gate.beat(now) {
            self.thawed(now);
        }
        while let Some(event) = self.member.poll() {
            self.member_event(now, event);
        }
        while let Ok(event) = self.inbox.try_recv() {
            self.task_event(now, event);
        }
        let more = self.take_records(now);
        let wake = self.engine.tick(now, &mut self.actions);
        self.act(now);
        self.end_if_due(now);
        if now >= self.next_status {
            self.next_status = now + STATUS_INTERVAL;
            self.show_status(now);
        }
        if self.ending == Ending::Over {
            return Turn::Over;
        }
        let pulse = now + PULSE;
        Turn::Again(if more { now } else { wake.map_or(pulse, |wake| wake.min(pulse)) })
    }

    /// Begins a graceful shutdown; a second call changes nothing.
    pub(crate) fn shut_down(&mut self, now: Time) {
        if self.ending != Ending::No {
            return;
        }
        tracing::info!("shutting down: partitions drain");
        self.shared.observe(&Observation::Stopping);
        self.status.draining();
        // Three quarters for what runs, the rest to commit and to leave.
        let limit = self.shared.plan.shutdown_timeout;
        let cancel_at = now + limit * 6 / 10;
        let release_at = now + limit * 8 / 10;
        self.ending = Ending::Draining { give_up_at: now + limit * 9 / 10 };
        self.tell(now, Event::Shutdown { cancel_at, release_at });
    }

    /// Ends the clients. Returns why the worker ended, if not by request.
    pub(crate) fn finish(self) -> Result<(), WorkerError> {
        let graceful = self.member.has_left();
        for task in self.tasks.into_values() {
            task.lease.alive.store(false, Ordering::Release);
            task.cancel.send_replace(true);
            // Dropping the task's commands ends it, as a loss.
        }
        self.fetch.close();
        self.member.close(graceful);
        self.shared.producer.close(graceful);
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        if !graceful {
            return Err(WorkerError::ShutdownTimeout {
                limit: self.shared.plan.shutdown_timeout,
                reason: "the group could not be left; its coordinator does not answer".to_owned(),
            });
        }
        self.shared.observe(&Observation::Stopped);
        Ok(())
    }

    // --- hearing --------------------------------------------------------------------------

    fn tell(&mut self, now: Time, event: Event) {
        self.engine.handle(now, event, &mut self.actions);
        self.act(now);
    }

    fn member_event(&mut self, now: Time, event: MemberEvent) {
        match event {
            MemberEvent::Assigned(partitions) => {
                tracing::info!(partitions = %list(&partitions), "assigned");
                self.status.joined();
                self.metrics.assigned.increment(1);
                let ids = self.names.ids(&partitions);
                self.tell(now, Event::Assigned { partitions: ids });
            }
            MemberEvent::Revoked(partitions) => {
                tracing::info!(partitions = %list(&partitions), "revoked");
                self.metrics.revoked.increment(1);
                let ids = self.names.ids(&partitions);
                for id in &ids {
                    self.observe(*id, |partition, epoch| Observation::Revoked { partition, epoch });
                }
                self.tell(now, Event::Revoked { partitions: ids });
            }
            MemberEvent::Lost(partitions) => {
                tracing::warn!(partitions = %list(&partitions), "lost: what was not committed runs again elsewhere");
                self.metrics.lost.increment(1);
                let ids = self.names.ids(&partitions);
                self.tell(now, Event::Lost { partitions: ids });
            }
            MemberEvent::CommitAnswered { id, statuses } => {
                self.commit_answered(now, id, &statuses)
            }
            MemberEvent::Trouble(reason) => {
                tracing::warn!(reason, "the group's client reports trouble")
            }
            MemberEvent::InstanceFenced(reason) => {
                self.fail(now, WorkerError::InstanceFenced { reason })
            }
            MemberEvent::Fatal(reason) => self.fail(now, WorkerError::Client { reason }),
        }
    }

    fn task_event(&mut self, now: Time, event: TaskEvent) {
        match event {
            TaskEvent::Engine(event) => self.tell(now, event),
            TaskEvent::Settled { partition, epoch, partitions } => {
                if let Some(task) =
                    self.tasks.get_mut(&partition).filter(|task| task.epoch == epoch)
                {
                    task.settled = partitions;
                }
            }
            TaskEvent::Failed(error) => self.fail(now, error),
            TaskEvent::CoordinatorAnswers(Then::Rejoin) if self.ending == Ending::No => {
                self.member.rejoin();
            }
            TaskEvent::CoordinatorAnswers(Then::Leave) => {
                if let Ending::Draining { give_up_at } = self.ending {
                    self.ending = Ending::Leaving { give_up_at };
                    self.member.leave();
                }
            }
            TaskEvent::CoordinatorAnswers(Then::Rejoin) => {}
            TaskEvent::OutOfRange { partition, epoch, error } => {
                let current = self.tasks.get(&partition).is_some_and(|task| task.epoch == epoch);
                if current {
                    self.fail(now, error);
                }
            }
        }
    }

    /// Hands over what has been fetched. Returns whether there may be more.
    fn take_records(&mut self, now: Time) -> bool {
        let mut fetched = std::mem::take(&mut self.fetched);
        self.fetch.poll(self.shared.plan.max_poll_records, &mut fetched);
        let more = !fetched.is_empty();
        for event in fetched.drain(..) {
            match event {
                FetchEvent::Run(run) => self.take_run(now, run),
                FetchEvent::OutOfRange { partition, offset } => {
                    self.out_of_range(&partition, offset)
                }
                FetchEvent::Trouble { partition, reason } => {
                    tracing::warn!(%partition, reason, "the fetch of a partition broke off; it will be started anew");
                    let partition = self.names.id(&partition);
                    self.tell(now, Event::FetchFailed { partition });
                }
                FetchEvent::End { .. } => {}
            }
        }
        self.fetched = fetched;
        more
    }

    fn take_run(&mut self, now: Time, run: Run) {
        let (Some(first), Some(last)) = (run.offsets().next(), run.offsets().next_back()) else {
            return;
        };
        let partition = self.names.id(run.partition());
        let info = RunInfo {
            first: Offset(first),
            last: Offset(last),
            records: u64::try_from(run.len()).unwrap_or(u64::MAX),
            bytes: u64::try_from(run.bytes()).unwrap_or(u64::MAX),
        };
        self.at_hand = Some(run);
        self.tell(now, Event::Fetched { partition, run: info });
        self.at_hand = None;
    }

    fn commit_answered(&mut self, now: Time, id: u64, statuses: &[(TopicPartition, CommitStatus)]) {
        let statuses: Vec<_> =
            statuses.iter().map(|(name, status)| (self.names.id(name), *status)).collect();
        if let Some(sent) = self.commit.take_if(|sent| sent.id == id) {
            self.metrics.commit_seconds.record(now.since(sent.at));
            self.observe_answers(&sent, &statuses);
        }
        self.tell(now, Event::CommitAnswered { id, statuses });
    }

    fn observe_answers(&self, sent: &SentCommit, statuses: &[(PartitionId, CommitStatus)]) {
        for item in &sent.items {
            let status = statuses.iter().find(|(id, _)| *id == item.partition);
            let outcome = match status.map(|(_, status)| *status) {
                Some(CommitStatus::Accepted) => CommitOutcome::Accepted,
                Some(CommitStatus::Unknown) | None => CommitOutcome::Unknown,
                Some(CommitStatus::Retry | CommitStatus::MemberLost | CommitStatus::TopicGone) => {
                    CommitOutcome::Refused
                }
            };
            self.metrics.commit(outcome).increment(1);
            if let Some(partition) = self.names.name(item.partition) {
                let (id, epoch, offset) = (sent.id, item.epoch.0, item.offset.0);
                self.shared.observe(&Observation::CommitKnown {
                    id,
                    partition,
                    epoch,
                    offset,
                    outcome,
                });
            }
        }
    }

    /// The process was frozen: nothing is sent before the group has confirmed that we are in it.
    fn thawed(&mut self, now: Time) {
        tracing::warn!(
            "the process stood still for longer than half its session; outputs wait for proof of ownership"
        );
        let all: Vec<_> = self.tasks.iter().map(|(id, task)| (*id, task.epoch)).collect();
        for (partition, epoch) in all {
            self.tell(now, Event::ProofWanted { partition, epoch });
        }
    }

    // --- acting ---------------------------------------------------------------------------

    fn act(&mut self, now: Time) {
        let mut actions = std::mem::take(&mut self.actions);
        for action in actions.drain(..) {
            self.act_on(now, action);
        }
        self.actions = actions;
    }

    fn act_on(&mut self, now: Time, action: Action) {
        match action {
            Action::Acknowledge => {
                if let Err(error) = self.member.acknowledge() {
                    let reason = format!("a rebalance could not be acknowledged: {error}");
                    self.fail(now, WorkerError::Client { reason });
                }
            }
            Action::Restore { partition, epoch } => self.restore(now, partition, epoch),
            Action::StartFetch { partition, from } => self.start_fetch(now, partition, from),
            Action::StopFetch { partition } => self.stop_fetch(partition),
            Action::Deliver { partition, skip_below } => self.deliver(partition, skip_below),
            Action::Backwards { partition, offset, .. } => {
                if let Some(name) = self.names.name(partition).cloned() {
                    self.out_of_range(&name, offset.0);
                }
            }
            Action::Seal { partition } => self.command(partition, Command::Seal),
            Action::Drain { partition, send_until } => {
                if let Some(task) = self.tasks.get_mut(&partition) {
                    task.draining_since = Some(now);
                }
                self.command(partition, Command::Drain { send_until });
            }
            Action::Cancel { partition } => {
                tracing::warn!(partition = %self.show(partition), "the drain has reached its deadline; what runs is cut off");
                if let Some(task) = self.tasks.get(&partition) {
                    task.cancel.send_replace(true);
                }
                self.command(partition, Command::Cancel);
            }
            Action::Close { partition, epoch, closing } => {
                self.close(now, partition, epoch, closing)
            }
            Action::Commit { id, items } => self.send_commit(now, id, items),
            Action::Committed { partition, offset, proof } => {
                self.command(partition, Command::Committed { offset, proof });
            }
            Action::AskEnd { partition } => self.ask_end(partition),
            Action::Silent { partition, what: SilentAction::FetchedAnew } => {
                tracing::warn!(partition = %self.show(partition), "nothing came although there is lag; the fetch was started anew");
            }
            Action::Silent { partition, what: SilentAction::StillRestoring } => {
                tracing::warn!(partition = %self.show(partition), "the partition has not started yet");
            }
            Action::Rejoin => {
                tracing::warn!("the group has forgotten this member; it joins anew");
                self.ask_coordinator(Then::Rejoin);
            }
            Action::Leave => self.ask_coordinator(Then::Leave),
        }
    }

    fn restore(&mut self, now: Time, partition: PartitionId, epoch: Epoch) {
        let Some(name) = self.names.name(partition).cloned() else {
            return;
        };
        let inputs = Arc::clone(&self.shared.plan.inputs);
        let Some(input) = inputs.iter().find(|input| input.subscription.matches(name.topic()))
        else {
            let problem = format!("the group has given {name}, which no declared input matches");
            return self.fail(now, WorkerError::Declaration(problem));
        };
        self.shared.observe(&Observation::Assigned { partition: &name, epoch: epoch.0 });
        let (commands, receiver) = tokio::sync::mpsc::unbounded_channel();
        let lease = Arc::new(Lease::new());
        let metrics = self.metrics.partition(name.topic(), name.partition());
        let (cancel, cancelled) = watch::channel(false);
        let parts = TaskParts {
            id: partition,
            epoch,
            partition: name,
            spec: input.spec.clone(),
            shared: Arc::clone(&self.shared),
            commands: receiver,
            own_commands: commands.downgrade(),
            events: self.events.clone(),
            lease: Arc::clone(&lease),
            metrics: metrics.clone(),
            cancelled,
            thaws: self.shared.gate.thaws(),
            predecessor: self.ending_tasks.remove(&partition).map(|ending| ending.body),
        };
        let body = self.runtime.spawn(input.slots.task(parts));
        self.tasks.insert(
            partition,
            Task {
                epoch,
                commands,
                lease,
                cancel,
                body,
                settled: 0,
                draining_since: None,
                metrics,
            },
        );
    }

    fn start_fetch(&mut self, now: Time, partition: PartitionId, from: Offset) {
        let Some(name) = self.names.name(partition).cloned() else {
            return;
        };
        if let Err(error) = self.fetch.start(&name, from.0) {
            tracing::error!(partition = %name, %error, "the fetch could not be started");
            self.fail(now, WorkerError::Client { reason: format!("fetching {name}: {error}") });
        }
    }

    fn stop_fetch(&mut self, partition: PartitionId) {
        let Some(name) = self.names.name(partition) else {
            return;
        };
        if let Err(error) = self.fetch.stop(name) {
            tracing::warn!(partition = %name, %error, "the fetch could not be stopped");
        }
        if let Some(task) = self.tasks.get(&partition) {
            task.metrics.fetch_stops.increment(1);
        }
    }

    fn deliver(&mut self, partition: PartitionId, skip_below: Offset) {
        let Some(mut run) = self.at_hand.take() else {
            return;
        };
        let (all, bytes) = (run.len(), run.bytes());
        if run.skip_below(skip_below.0) > 0 {
            self.skipped(partition, all - run.len(), bytes.saturating_sub(run.bytes()));
        }
        if !run.is_empty() {
            self.command(partition, Command::Run(run));
        }
    }

    /// Records that came twice: the engine has counted them as buffered.
    fn skipped(&self, partition: PartitionId, records: usize, bytes: usize) {
        tracing::warn!(partition = %self.show(partition), records, "records came twice from the client and were dropped");
        let Some(task) = self.tasks.get(&partition) else {
            return;
        };
        let records = u64::try_from(records).unwrap_or(u64::MAX);
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        task.metrics.redelivered_records.increment(records);
        let epoch = task.epoch;
        let dirty = false;
        // By the way of all events: the actions around this one come first.
        self.events.send(TaskEvent::Engine(Event::Progressed {
            partition,
            epoch,
            records,
            bytes,
            dirty,
        }));
    }

    fn command(&self, partition: PartitionId, command: Command) {
        if let Some(task) = self.tasks.get(&partition) {
            // A task that has ended by itself is found out by its drain's deadline.
            let _ended = task.commands.send(command).is_err();
        }
    }

    fn close(&mut self, now: Time, partition: PartitionId, epoch: Epoch, closing: Closing) {
        let Some(task) = self.tasks.remove(&partition) else {
            return;
        };
        if Bug::IgnoreLost.is(self.shared.plan.bug) && closing == Closing::Lost {
            self.tasks.insert(partition, task);
            return;
        }
        task.metrics.released();
        if let Some(since) = task.draining_since.filter(|_| closing == Closing::Released) {
            task.metrics.drain_seconds.record(now.since(since));
        }
        task.lease.alive.store(false, Ordering::Release);
        task.cancel.send_replace(true);
        let _ended = task.commands.send(Command::Close(closing)).is_err();
        let ending =
            EndingTask { body: task.body, since: now, metrics: task.metrics, blocked: false };
        self.ending_tasks.insert(partition, ending);
        if let Some(name) = self.names.name(partition) {
            let (partition, epoch) = (name, epoch.0);
            self.shared.observe(&match closing {
                Closing::Released => Observation::Released { partition, epoch },
                Closing::Lost => Observation::Lost { partition, epoch },
                Closing::Reset => Observation::Reset { partition, epoch },
            });
        }
    }

    fn send_commit(&mut self, now: Time, id: u64, items: Vec<CommitItem>) {
        let mut entries = Vec::with_capacity(items.len());
        for item in &items {
            let Some(partition) = self.names.name(item.partition) else {
                continue;
            };
            let settled = self.tasks.get(&item.partition).map_or(0, |task| task.settled);
            let envelope = Envelope {
                cluster: self.cluster.clone(),
                partitions: settled,
                incarnation: Some((self.incarnation.clone(), id)),
                done_set: String::new(),
            };
            let (epoch, offset) = (item.epoch.0, item.offset.0);
            self.shared.observe(&Observation::CommitTried { id, partition, epoch, offset });
            let metadata = envelope.encode();
            entries.push(CommitEntry { partition: partition.clone(), offset, metadata });
        }
        self.commit = Some(SentCommit { id, items, at: now });
        if let Err(error) = self.member.commit(id, &entries) {
            tracing::warn!(%error, "the commit could not be sent; it will be tried again");
            let statuses: Vec<_> =
                entries.into_iter().map(|entry| (entry.partition, CommitStatus::Retry)).collect();
            // Answered later, as every commit is: an answer within its own sending would
            // send it again at once.
            self.events.send(TaskEvent::Engine(Event::CommitAnswered {
                id,
                statuses: statuses.iter().map(|(name, s)| (self.names.id(name), *s)).collect(),
            }));
            self.commit = None;
        }
    }

    // --- the end --------------------------------------------------------------------------

    /// The group is left only if its coordinator answers: librdkafka 2.12.1 can crash in
    /// LeaveGroup where it is away.
    fn ask_coordinator(&self, then: Then) {
        let seen = self.names.names.first().cloned();
        let declared = self.shared.plan.inputs.iter().find_map(Input::topic);
        let topic = || declared.map(|topic| TopicPartition::new(topic, 0));
        let Some(probe) = seen.or_else(topic) else {
            // A pattern that has matched nothing yet: there is nothing to ask about.
            return self.events.send(TaskEvent::CoordinatorAnswers(then));
        };
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        let deadline = shared.host.now() + shared.plan.shutdown_timeout;
        self.runtime.spawn(async move {
            while let Err(error) = shared.committed.read(vec![probe.clone()]).await {
                tracing::warn!(%error, "the group's coordinator does not answer yet; the group can't be left without it");
                shared.host.sleep(PULSE).await;
                if shared.host.now() >= deadline {
                    return;
                }
            }
            events.send(TaskEvent::CoordinatorAnswers(then));
        });
    }

    /// Asks for the end of a silent partition's log, off the loop.
    fn ask_end(&self, partition: PartitionId) {
        let Some(name) = self.names.name(partition).cloned() else {
            return;
        };
        let (shared, events) = (Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            match shared.admin.offsets(&name).await {
                Ok((_, end)) => {
                    events.send(TaskEvent::Engine(Event::End { partition, end: Offset(end) }));
                }
                Err(error) => {
                    tracing::warn!(partition = %name, %error, "nothing comes, and the log's end is not known");
                }
            }
        });
    }

    /// Finds out what the log holds, off the loop, and ends the worker with it, unless the
    /// partition has been given up meanwhile.
    fn out_of_range(&mut self, name: &TopicPartition, offset: i64) {
        let partition = self.names.id(name);
        let Some(epoch) = self.tasks.get(&partition).map(|task| task.epoch) else {
            return;
        };
        let (name, shared, events) = (name.clone(), Arc::clone(&self.shared), self.events.clone());
        self.runtime.spawn(async move {
            let (low, high) = shared.admin.offsets(&name).await.unwrap_or((-1, -1));
            let error = WorkerError::OutOfRange { partition: name, offset, low, high };
            events.send(TaskEvent::OutOfRange { partition, epoch, error });
        });
    }

    fn fail(&mut self, now: Time, error: WorkerError) {
        tracing::error!(%error, "the worker can't go on");
        self.status.failed(&error);
        let fenced =
            matches!(error, WorkerError::InstanceFenced { .. } | WorkerError::Client { .. });
        self.failure.get_or_insert(error);
        self.shut_down(now);
        if fenced {
            // The client is of no use any more: there is nothing to commit with.
            self.ending = Ending::Over;
        }
    }

    fn end_if_due(&mut self, now: Time) {
        match self.ending {
            Ending::Leaving { .. } if self.member.has_left() => self.ending = Ending::Over,
            Ending::Draining { give_up_at } | Ending::Leaving { give_up_at }
                if now >= give_up_at =>
            {
                tracing::error!("the shutdown takes too long; what was not committed runs again");
                self.ending = Ending::Over;
            }
            Ending::No | Ending::Draining { .. } | Ending::Leaving { .. } | Ending::Over => {}
        }
    }

    // --- showing --------------------------------------------------------------------------

    fn show_status(&mut self, now: Time) {
        let ends: Vec<_> = self
            .engine
            .partitions()
            .filter_map(|view| {
                let name = self.names.name(view.partition)?;
                self.fetch.end_offset(name).map(|end| (view.partition, end))
            })
            .collect();
        for (partition, end) in ends {
            self.tell(now, Event::End { partition, end: Offset(end) });
        }
        if !self.status.has_joined() && self.member.has_joined() {
            self.status.joined(); // a spare member hears of no assignment
        }
        let wall = self.shared.host.wall_clock_ms();
        let lines = self.engine.partitions().filter_map(|view| {
            let name = self.names.name(view.partition)?;
            let task = self.tasks.get(&view.partition);
            let oldest = task.map_or(-1, |task| task.lease.oldest.load(Ordering::Relaxed));
            let behind = u64::try_from(wall - oldest).ok().filter(|_| oldest >= 0);
            let line = partition_status(name, &view, behind.map(Duration::from_millis))?;
            if let Some(task) = task {
                measure(&task.metrics, &view, &line);
            }
            Some(line)
        });
        self.status.show(now, lines.collect());
        self.measure_memory();
        self.find_blocked(now);
    }

    #[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
    fn measure_memory(&self) {
        let records: u64 = self.engine.partitions().map(|view| view.buffered_bytes).sum();
        let effects: usize =
            self.tasks.values().map(|t| t.lease.effects_bytes.load(Ordering::Relaxed)).sum();
        self.metrics.memory_used_bytes.set(records as f64 + effects as f64);
        self.metrics.memory_budget_bytes.set(self.engine.limits().budget_bytes as f64);
    }

    /// Forgets the tasks that have ended and names those that can't be ended.
    fn find_blocked(&mut self, now: Time) {
        if let Some(dead) = self.tasks.iter().find(|(_, task)| task.body.is_finished()) {
            let problem =
                format!("the task of {} died; this is a bug in Pelton", self.show(*dead.0));
            self.fail(now, WorkerError::System(problem));
        }
        self.ending_tasks.retain(|_, ending| !ending.body.is_finished());
        for (partition, ending) in &mut self.ending_tasks {
            if !ending.blocked && now.since(ending.since) >= BLOCKED_AFTER {
                ending.blocked = true;
                ending.metrics.blocked_handlers.increment(1);
                let partition = self.names.name(*partition).map(ToString::to_string);
                tracing::error!(
                    partition,
                    "a handler does not yield although it was cancelled; its effects are discarded, and this process can't run the partition again before it returns"
                );
            }
        }
    }

    fn observe(
        &self,
        id: PartitionId,
        observation: impl for<'a> FnOnce(&'a TopicPartition, u64) -> Observation<'a>,
    ) {
        if let Some((partition, epoch)) = self.names.name(id).zip(self.engine.epoch(id)) {
            self.shared.observe(&observation(partition, epoch.0));
        }
    }

    fn show(&self, id: PartitionId) -> String {
        self.names.name(id).map_or_else(|| "unknown".to_owned(), ToString::to_string)
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    let names: Vec<_> = partitions.iter().map(ToString::to_string).collect();
    names.join(" ")
}

/// Sets a partition's gauges.
#[expect(clippy::cast_precision_loss, reason = "gauges are floats")]
fn measure(metrics: &PartitionMetrics, view: &PartitionView, line: &PartitionStatus) {
    for (gauge, value) in [
        (&metrics.position, line.position),
        (&metrics.committed_offset, line.committed),
        (&metrics.end_offset, line.end_offset),
        (&metrics.lag_records, line.lag),
    ] {
        if let Some(value) = value {
            gauge.set(value as f64);
        }
    }
    metrics.lag_seconds.set(line.time_lag_seconds.unwrap_or(0.0));
    metrics.buffered_records.set(view.buffered_records as f64);
    metrics.buffered_bytes.set(view.buffered_bytes as f64);
}
