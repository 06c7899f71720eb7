//! One partition's loop: take commands, do the next step, again.
//!
//! The task owns the partition's desk and its slot. User code runs here and nowhere else; while
//! it waits, the desk goes on. The task never waits for another partition.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{FutureExt, poll};
use pelton_engine::{Bug, Closing, Epoch, Event, Finish, Offset, PartitionId, Time};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{UnboundedReceiver, WeakUnboundedSender};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::context::{Effects, Place};
use crate::error::{HandlerError, WorkerError};
use crate::handler::Handler;
use crate::ports::{PortError, Reports};
use crate::runtime::desk::{Command, Desk, Lease, Step};
use crate::runtime::input::{HandlerFactory, InputSpec, OnInvalid};
use crate::runtime::prepare::{Preparing, prepare};
use crate::runtime::shared::{EventSender, LostPosition, Shared, TaskEvent};
use crate::runtime::slot::{Called, Slot};
use crate::runtime::start::{SignsOfLife, Stage};
use crate::state::Stores;
use crate::telemetry::{Observation, PartitionMetrics, RecordOutcome};
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
    pub(crate) metrics: PartitionMetrics,
    pub(crate) cancelled: watch::Receiver<bool>,
    /// The task of this partition's assignment before, while it has not ended.
    pub(crate) predecessor: Option<JoinHandle<()>>,
    /// The record that one began last (a planted bug takes it for still in hand).
    pub(crate) last_begun: Option<Offset>,
    /// It can't go on at this position.
    pub(crate) lost_position: Option<LostPosition>,
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

/// Runs a partition from its assignment to its end.
pub(crate) async fn run<H: Handler>(mut parts: TaskParts, factory: HandlerFactory<H>) {
    let Some((mut desk, position, committed)) = begin(&mut parts).await else {
        return;
    };
    let bug = parts.shared.plan.bug;
    let mut slot = Slot::new(Arc::clone(&desk.place), Arc::clone(&parts.lease), factory, bug);
    parts.signs().at(Stage::Hook);
    if let Some(closing) = assigned(&mut desk, &mut slot, &mut parts.commands).await {
        return end(&desk, &mut slot, closing).await;
    }
    let (partition, epoch) = (desk.id, desk.epoch);
    let start =
        Observation::Started { partition: &parts.partition, epoch: epoch.0, position: position.0 };
    desk.shared.observe(&start);
    let restored = Event::Restored { partition, epoch, position, committed };
    parts.events.send(TaskEvent::Engine(restored));
    desk.tell_progress(desk.now()); // what `assigned` did is to be committed, too
    let closing = go(&mut desk, &mut slot, &mut parts.commands).await;
    end(&desk, &mut slot, closing).await;
}

/// Reads the start offset, restores the stores and sets up the desk; `None` if the partition
/// was given up meanwhile.
async fn begin(parts: &mut TaskParts) -> Option<(Desk, Offset, Option<Offset>)> {
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
    });
    let behind = Bug::StartBehindCommit.is(parts.shared.plan.bug) && prepared.committed.is_some();
    let position = Offset((prepared.position - if behind { 20 } else { 0 }).max(0));
    let mut desk = Desk::new(
        partition,
        epoch,
        place,
        Arc::clone(&parts.shared),
        parts.spec.clone(),
        parts.events.clone(),
        Arc::new(ReportsToTask(parts.own_commands.clone())),
        Arc::clone(&parts.lease),
        parts.metrics.clone(),
        parts.thaws,
        position,
    );
    desk.plant(parts.last_begun);
    Some((desk, position, prepared.committed.map(Offset)))
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

/// Calls the `assigned` hook until it succeeds.
async fn assigned<H: Handler>(
    desk: &mut Desk,
    slot: &mut Slot<H>,
    commands: &mut UnboundedReceiver<Command>,
) -> Option<Closing> {
    let mut attempt = 0;
    loop {
        let called = tokio::select! {
            biased;
            closing = closed(commands) => return Some(closing),
            called = slot.assigned() => called,
        };
        attempt += 1;
        match called {
            Called::Done(effects) => {
                desk.enter(effects);
                return None;
            }
            Called::Failed(error) if error.is_fatal() => {
                desk.fail(handler_failed(desk, Offset(-1), &error));
                return Some(closed(commands).await);
            }
            Called::Failed(error) => log_retry(desk, "assigned", attempt, &error.to_string()),
            Called::Panicked(panic) => {
                slot.discard();
                log_retry(desk, "assigned", attempt, &panic);
            }
        }
        let wait = desk.spec.retry.backoff(attempt, desk.epoch.0);
        tokio::select! {
            biased;
            closing = closed(commands) => return Some(closing),
            () = desk.shared.host.sleep(wait) => {}
        }
    }
}

/// The loop. Ends when the partition is closed.
async fn go<H: Handler>(
    desk: &mut Desk,
    slot: &mut Slot<H>,
    commands: &mut UnboundedReceiver<Command>,
) -> Closing {
    let mut busy = 0u32;
    loop {
        let now = desk.now();
        loop {
            match commands.try_recv() {
                Ok(command) => desk.take(command, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Closing::Lost,
            }
        }
        match desk.step(now) {
            Step::Closed(closing) => return closing,
            Step::Handle { index, offset, attempt } => {
                handle(desk, slot, commands, Turn { index, offset, attempt }).await;
                busy += 1;
                if busy.is_multiple_of(64) {
                    tokio::task::yield_now().await; // other partitions share this thread
                }
            }
            Step::Flush => flush(desk, slot, commands).await,
            Step::Tick => tick(desk, slot, commands).await,
            Step::Drained => {
                if supervise(desk, commands, slot.revoked()).await.is_none() {
                    slot.discard();
                }
                desk.drained();
            }
            Step::Wait(until) => wait(desk, commands, until, now).await,
        }
    }
}

/// Ends with a command, at a moment, or when the poll loop has forgotten this task.
async fn wait(
    desk: &mut Desk,
    commands: &mut UnboundedReceiver<Command>,
    until: Option<Time>,
    now: Time,
) {
    let timer = async {
        match until {
            Some(until) => desk.shared.host.sleep(until.since(now)).await,
            None => std::future::pending().await,
        }
    };
    let command = tokio::select! {
        biased;
        command = commands.recv() => command.or(Some(Command::Close(Closing::Lost))),
        () = timer => None,
    };
    if let Some(command) = command {
        let now = desk.now();
        desk.take(command, now);
    }
}

/// Runs user code to its end while the desk goes on; `None` if it had to be cut off.
async fn supervise(
    desk: &mut Desk,
    commands: &mut UnboundedReceiver<Command>,
    code: impl Future<Output = Called>,
) -> Option<Called> {
    let mut code = pin!(code);
    if let Poll::Ready(called) = poll!(code.as_mut()) {
        return Some(called); // most handlers never wait
    }
    loop {
        let now = desk.now();
        let timer = desk.pump_wake().map_or_else(
            || std::future::pending().boxed(),
            |at| desk.shared.host.sleep(at.since(now)),
        );
        tokio::select! {
            biased;
            called = code.as_mut() => return Some(called),
            command = commands.recv() => match command {
                Some(command) => desk.take(command, desk.now()),
                None => {
                    desk.take(Command::Close(Closing::Lost), desk.now());
                    // The poll loop has forgotten this task. Always cut off, but for a planted bug.
                    return if desk.must_cut() { None } else { Some(code.await) };
                }
            },
            () = timer => {}
        }
        if desk.must_cut() {
            return None;
        }
        let now = desk.now();
        desk.pump(now);
    }
}

/// One attempt at one record.
#[derive(Clone, Copy)]
struct Turn {
    index: u64,
    offset: Offset,
    attempt: u32,
}

async fn handle<H: Handler>(
    desk: &mut Desk,
    slot: &mut Slot<H>,
    commands: &mut UnboundedReceiver<Command>,
    turn: Turn,
) {
    let Some((run, at)) = desk.record(turn.index) else {
        return;
    };
    let Some(record) = run.record(at) else { return };
    desk.observe_start(turn.offset, turn.attempt, record.timestamp_ms());
    let begun = desk.now();
    let called = supervise(desk, commands, slot.handle(&record, turn.attempt)).await;
    let now = desk.now();
    desk.metrics.handler_seconds.record(now.since(begun));
    let outcome = match called {
        Some(Called::Done(effects)) => {
            let waits = desk.spec.flush_every.is_some();
            let outcome = if waits { RecordOutcome::Handled } else { RecordOutcome::Done };
            desk.observe_end(turn.offset, turn.attempt, outcome);
            desk.done(turn.index, effects, now);
            outcome
        }
        Some(Called::Failed(error)) => failed(desk, turn, &error, now),
        Some(Called::Panicked(panic)) => {
            slot.discard();
            log_retry(desk, "handle", turn.attempt, &panic);
            desk.observe_end(turn.offset, turn.attempt, RecordOutcome::Panicked);
            if Bug::PanicCountsAsDone.is(desk.shared.plan.bug) {
                desk.done(turn.index, Effects::default(), now);
            } else {
                desk.not_done(turn.index, Finish::Retry, now);
            }
            desk.reset_if_handled();
            RecordOutcome::Panicked
        }
        None => {
            slot.discard();
            desk.observe_end(turn.offset, turn.attempt, RecordOutcome::Cancelled);
            desk.not_done(turn.index, Finish::Cancelled, now);
            desk.reset_if_handled();
            RecordOutcome::Cancelled
        }
    };
    desk.metrics.records(outcome).increment(1);
    if matches!(outcome, RecordOutcome::Retry | RecordOutcome::Panicked) {
        desk.metrics.retries.increment(1);
    }
}

/// The handler returned an error: try again, skip, or stop.
fn failed(desk: &mut Desk, turn: Turn, error: &HandlerError, now: Time) -> RecordOutcome {
    let partition = desk.place.partition.clone();
    let (offset, attempt) = (turn.offset.0, turn.attempt);
    let outcome = if error.is_retryable() {
        tracing::warn!(%partition, offset, attempt, %error, "the record failed and will be tried again");
        RecordOutcome::Retry
    } else if error.is_invalid() && desk.spec.on_invalid == OnInvalid::Skip {
        tracing::warn!(%partition, offset, %error, "the record is invalid and is skipped");
        RecordOutcome::Skipped
    } else {
        RecordOutcome::Fatal
    };
    desk.observe_end(turn.offset, attempt, outcome);
    match outcome {
        RecordOutcome::Retry => desk.not_done(turn.index, Finish::Retry, now),
        RecordOutcome::Skipped => desk.done(turn.index, Effects::default(), now),
        _ => {
            desk.not_done(turn.index, Finish::Cancelled, now);
            let error = if error.is_invalid() {
                WorkerError::InvalidRecord { partition, offset, reason: error.to_string() }
            } else {
                handler_failed(desk, turn.offset, error)
            };
            desk.fail(error);
        }
    }
    outcome
}

async fn flush<H: Handler>(
    desk: &mut Desk,
    slot: &mut Slot<H>,
    commands: &mut UnboundedReceiver<Command>,
) {
    match supervise(desk, commands, slot.flush()).await {
        Some(Called::Done(effects)) => {
            desk.observe_flush();
            desk.flushed(effects, desk.now());
        }
        Some(Called::Failed(error)) if error.is_fatal() => {
            // What was handled can't become done any more: the drain must not ask again.
            slot.discard();
            desk.forget_handled();
            desk.fail(handler_failed(desk, Offset(-1), &error));
        }
        Some(Called::Failed(error)) => {
            log_retry(desk, "flush", 1, &error.to_string());
            let now = desk.now();
            if Bug::FailedFlushCounts.is(desk.shared.plan.bug) {
                desk.flushed(Effects::default(), now);
            } else {
                desk.flush_failed(now);
            }
        }
        Some(Called::Panicked(panic)) => {
            log_retry(desk, "flush", 1, &panic);
            slot.discard();
            desk.reset_if_handled();
        }
        None => {
            slot.discard();
            desk.reset_if_handled();
        }
    }
}

async fn tick<H: Handler>(
    desk: &mut Desk,
    slot: &mut Slot<H>,
    commands: &mut UnboundedReceiver<Command>,
) {
    match supervise(desk, commands, slot.tick()).await {
        Some(Called::Done(effects)) => desk.ticked(effects, desk.now()),
        Some(Called::Failed(error)) if error.is_fatal() => {
            desk.fail(handler_failed(desk, Offset(-1), &error));
        }
        Some(Called::Failed(error)) => log_retry(desk, "tick", 1, &error.to_string()),
        Some(Called::Panicked(panic)) => {
            log_retry(desk, "tick", 1, &panic);
            slot.discard();
            desk.reset_if_handled();
        }
        None => {
            slot.discard();
            desk.reset_if_handled();
        }
    }
}

/// The last hooks; a hook that hangs is cut off.
async fn end<H: Handler>(desk: &Desk, slot: &mut Slot<H>, closing: Closing) {
    let hooks = async {
        if closing != Closing::Released {
            slot.lost().await;
        }
        slot.close().await;
    };
    tokio::select! {
        biased;
        () = hooks => {}
        () = desk.shared.host.sleep(HOOK_LIMIT) => {
            tracing::warn!(partition = %desk.place.partition, "the handler's last hook hangs and is cut off");
        }
    }
}

fn handler_failed(desk: &Desk, offset: Offset, error: &HandlerError) -> WorkerError {
    WorkerError::Handler {
        partition: desk.place.partition.clone(),
        offset: offset.0,
        reason: error.to_string(),
    }
}

fn log_retry(desk: &Desk, call: &str, attempt: u32, error: &str) {
    tracing::warn!(partition = %desk.place.partition, call, attempt, error, "user code failed and will be called again");
}
