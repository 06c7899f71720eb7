//! What is one partition's state of affairs? Its schedule, its bytes, its outbox.
//!
//! The partition's task and its slots share the desk. The task brings commands; a slot comes when
//! it has nothing in hand, leaves what became of the last record, and takes the next. While user
//! code runs in the slots, the desk goes on sending outputs and answering seals.

mod caution;
mod deferrals;
mod flow;
mod handfuls;
mod memory;
mod outcomes;
mod records;
mod retry_topic;
mod slots;
mod steps;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pelton_engine::{
    Closing, DeadLetterGauge, DoneSet, Epoch, Event, HeldEffects, Holds, Item, Offset, Ordering,
    PartitionId, RetryPolicy, Schedule, Standing, Time, Turn,
};
use tokio::sync::Notify;

use self::deferrals::Deferrals;
use self::handfuls::Reach;
pub(crate) use self::memory::effects_bytes;
pub(crate) use self::retry_topic::RetryTopic;
use self::slots::{At, Slots};
use crate::context::Place;
use crate::effects::Effects;
use crate::error::{HandlerError, WorkerError};
use crate::output::Outbox;
use crate::ports::Reports;
use crate::record::Run;
use crate::runtime::alone::Turnstile;
use crate::runtime::breaker::Contact;
use crate::runtime::handful::Handful;
use crate::runtime::in_flight::Share;
use crate::runtime::input::InputSpec;
use crate::runtime::lease::Lease;
use crate::runtime::partition_task::TaskParts;
use crate::runtime::shared::{EventSender, Shared, TaskEvent};
use crate::telemetry::{Observation, OutputMetrics, PartitionMetrics, RecordOutcome};

/// What the poll loop and the producer tell a partition's task.
#[derive(Debug)]
pub(crate) enum Command {
    Run(Run),
    Seal,
    /// Finish what has started; send nothing after `send_until`.
    Drain {
        send_until: Option<Time>,
    },
    Cancel,
    /// Start nothing more until resumed.
    Pause,
    Resume,
    /// The pace has changed.
    ChangePace,
    Close(Closing),
    Committed {
        standing: Standing,
        proof: bool,
    },
    Delivered {
        ticket: u64,
        error: Option<String>,
    },
    /// A deferred attempt is completed.
    Completed {
        index: u64,
        attempt: u32,
        result: Result<(), HandlerError>,
    },
}

/// Undelivered outputs above it let no further record start.
const OUTBOX_RECORDS: usize = 10_000;

/// So many seals may wait for their commit before no further record starts: what a commit that
/// fails for long can make repeat, and what is kept for it, stays bounded.
const UNCONFIRMED_SEALS: usize = 64;

/// Between two tries to send where the client's queue is full or the gate is shut.
const SEND_RETRY: Duration = Duration::from_millis(5);

/// So many records that are done behind one that is not count as one that waits: only their places are
/// kept.
const DONE_BEHIND: u64 = 4;

/// Runs behind a record that is not done are looked through after so many more are done, or where more
/// are there one in so many of those.
const SWEEP_RECORDS: u64 = 256;
const SWEEP_SHARE: u64 = 16;

/// Between two proofs of ownership for an outbox that failed.
const RESEND: RetryPolicy =
    RetryPolicy::exponential(Duration::from_millis(200), Duration::from_secs(5));

/// The poll loop hears of progress at least after so many records, or where more wait after one in so
/// many of those, and at least so often: slow records are committed as promptly as fast ones.
const PROGRESS_RECORDS: u64 = 64;
const PROGRESS_SHARE: u64 = 8;
const PROGRESS_INTERVAL: Duration = Duration::from_millis(50);

pub(crate) struct Desk {
    pub(crate) id: PartitionId,
    pub(crate) epoch: Epoch,
    pub(crate) place: Arc<Place>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) spec: InputSpec,
    pub(crate) metrics: PartitionMetrics,
    events: EventSender,
    reports: Arc<dyn Reports>,
    lease: Arc<Lease>,
    outputs: Vec<(Arc<str>, OutputMetrics)>,
    schedule: Schedule,
    slots: Slots,
    /// How far they reach.
    reach: Reach,
    deferrals: Deferrals,
    /// Its part of the input's places, where slots share them.
    share: Option<Share>,
    /// Keys with records in the retry topic.
    holds: Holds,
    /// When to ask whether one can be let go.
    ask_at: Option<Time>,
    /// What Kafka has as done.
    committed_done: DoneSet,
    /// With its input's breaker.
    contact: Contact,
    /// Its turn to run records alone.
    alone: Turnstile,
    /// Wakes the partition's task.
    task: Arc<Notify>,
    /// When the task wakes by itself.
    task_wakes: Option<Time>,
    runs: VecDeque<Held>,
    outbox: Outbox,
    /// Seals that Kafka has not confirmed, oldest first.
    sealed: VecDeque<(u64, Standing)>,
    /// Bytes of its runs.
    run_bytes: usize,
    /// What it holds of effects, as the poll loop knows it.
    effects_told: HeldEffects,
    effects_told_at: Time,
    /// The most that one record's effects came to since they were told.
    largest_effects: u64,
    /// Outputs of handled records, until the flush.
    handled: Vec<Effects>,
    handled_records: usize,
    handled_bytes: usize,
    handled_since: Option<Time>,
    flush_wanted: bool,
    flush_failures: u32,
    flush_not_before: Time,
    /// When the partition is to start again from what is done, if it is to.
    reset_at: Option<Time>,
    /// First a commit is to say what has failed.
    reset_is_to_be_said: bool,
    progress: Freed,
    progress_told: Time,
    /// So many records are out of the buffer, and counted as such.
    freed_records: u64,
    /// So many were done behind the first one that is needed when its runs were last looked through.
    swept_behind: u64,
    /// The index of the record that is told to be the oldest.
    oldest_told: Option<u64>,
    /// Something was done since the last seal.
    unsealed: bool,
    state: State,
    send_again_at: Option<Time>,
    /// The outbox is shown as blocked.
    shows_blocked: bool,
    proof: Proof,
    resends: u32,
    next_tick: Option<Time>,
    paused: bool,
    /// When the next record may start, once asked for.
    may_start: Option<Time>,
    /// When there may be room for a record's effects again.
    look_for_room_at: Option<Time>,
    /// Since when records wait for others to make a batch with.
    lingers_since: Option<Time>,
    /// The most that one record's effects ever came to here.
    usual_effects: u64,
    /// What fails now has failed with others, in one call.
    failed_together: bool,
    /// What became of the last records.
    dead_letters: DeadLetterGauge,
    /// All is durable: the slots have their last hooks.
    revoking: bool,
    /// What runs is to be cut off, and is not yet.
    cut_wanted: bool,
}

/// The desk, as its task and its slots share it: locked for one step, never while user code runs.
#[derive(Clone)]
pub(crate) struct SharedDesk(Arc<Mutex<Desk>>);

impl SharedDesk {
    pub(crate) fn new(desk: Desk) -> Self {
        Self(Arc::new(Mutex::new(desk)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A run whose bytes are still needed, and the index of its first record.
struct Held {
    first: u64,
    run: Arc<Run>,
}

impl Held {
    fn indices(&self) -> std::ops::Range<u64> {
        self.first..self.first + u64::try_from(self.run.len()).unwrap_or(u64::MAX)
    }

    /// Where in the run the record with this index is, if it does not begin behind it.
    fn place(&self, index: u64) -> Option<usize> {
        usize::try_from(index.checked_sub(self.first)?).ok()
    }

    /// Its bytes, if all of its records have indices below `index`.
    fn bytes_below(&self, index: u64) -> Option<usize> {
        (self.indices().end <= index).then(|| self.run.bytes())
    }
}

/// Freed and not yet told.
#[derive(Default)]
struct Freed {
    records: u64,
    bytes: u64,
    dirty: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// Failed for good or waiting for a reset: nothing starts.
    Halted,
    Draining {
        cancelled: bool,
        send_until: Option<Time>,
    },
    Drained,
    Closed(Closing),
}

/// Proof of ownership, as the gate counts thaws.
#[derive(Clone, Copy, Debug)]
struct Proof {
    /// The thaw up to which ownership is proved.
    proved: u64,
    /// Asked for at this thaw, not answered yet.
    asked: Option<u64>,
    not_before: Time,
}

/// What a slot should do now. Records lie in its hand.
#[derive(Debug)]
pub(crate) enum Step {
    /// Handle what it has in hand, one after the other; this one first.
    Handle {
        first: Turn,
        /// Nobody else was called: the desk is to hear of it if one waits.
        is_alone: bool,
    },
    /// Handle what it has in hand at once.
    Batch {
        first: Turn,
    },
    Flush,
    Tick,
    /// Call the `revoked` hook.
    Revoked,
    /// Wait until woken.
    Rest,
    /// End: others are enough.
    Leave,
    /// Call the last hooks and end.
    End(Closing),
}

impl Step {
    /// The first attempt that it begins.
    fn first(&self) -> Option<Turn> {
        match self {
            Self::Handle { first, .. } | Self::Batch { first } => Some(*first),
            _ => None,
        }
    }
}

/// What the partition's task should do now.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// So many slots more are wanted.
    pub(crate) new_slots: usize,
    /// These are to be cut off.
    pub(crate) cut: Vec<usize>,
    /// The partition is over: wait for the slots to end.
    pub(crate) closed: Option<Closing>,
    /// It is to be asked whether keys are still held; this much is committed.
    pub(crate) question: Option<DoneSet>,
    /// Nothing else before this moment, unless something happens.
    pub(crate) wake: Option<Time>,
}

impl Desk {
    /// The desk of one assignment, whose outputs' reports go there, and which goes on as that tells.
    pub(crate) fn new(
        parts: &TaskParts,
        place: Arc<Place>,
        reports: Arc<dyn Reports>,
        before: &Standing,
    ) -> Self {
        let (id, epoch, bug) = (parts.id, parts.epoch, parts.shared.plan.bug);
        let (shared, spec) = (Arc::clone(&parts.shared), parts.spec.clone());
        let task = Arc::new(Notify::new());
        let shares = spec.ordering != Ordering::Partition;
        let share = shares.then(|| Share::of(&parts.in_flight, id, Arc::clone(&task), bug));
        let contact = Contact::of(parts.breaker.clone(), id, Arc::clone(&task));
        let seed = shared.host.seed() ^ u64::from(id.0).rotate_left(32) ^ epoch.0;
        let mut schedule = Schedule::resuming(spec.ordering, before.clone(), spec.retry, seed);
        if let Some(letters) = spec.dead_letters.as_ref().filter(|letters| letters.max_deaths > 0) {
            schedule.expect_deaths(letters.max_deaths, before);
        }
        if spec.flush_every.is_some() {
            schedule.say_failures(); // what fails begins the partition anew
        }
        let alone = Turnstile::of(&shared.alone, id, Arc::clone(&task));
        let now = shared.host.now();
        let dead_letters = spec.dead_letters.as_ref();
        let dead_letter_limit = dead_letters.map(|letters| letters.limit).unwrap_or_default();
        Self {
            id,
            epoch,
            metrics: parts.metrics.clone(),
            outputs: output_metrics(&shared, &place),
            next_tick: spec.tick_every.map(|interval| now + interval),
            proof: Proof { proved: parts.thaws, asked: None, not_before: now },
            place,
            shared,
            spec,
            events: parts.events.clone(),
            reports,
            lease: Arc::clone(&parts.lease),
            schedule,
            slots: Slots::default(),
            reach: Reach::default(),
            deferrals: Deferrals::default(),
            share,
            ask_at: (!before.holds.is_empty()).then_some(now),
            holds: before.holds.clone(),
            committed_done: before.done.clone(),
            contact,
            alone,
            task,
            task_wakes: None,
            runs: VecDeque::new(),
            run_bytes: 0,
            effects_told: HeldEffects::default(),
            effects_told_at: now,
            largest_effects: 0,
            outbox: Outbox::new(),
            sealed: VecDeque::new(),
            handled: Vec::new(),
            handled_records: 0,
            handled_bytes: 0,
            handled_since: None,
            flush_wanted: false,
            flush_failures: 0,
            flush_not_before: now,
            reset_at: None,
            reset_is_to_be_said: false,
            progress: Freed::default(),
            progress_told: now,
            freed_records: 0,
            swept_behind: 0,
            oldest_told: None,
            unsealed: false,
            state: State::Running,
            send_again_at: None,
            shows_blocked: false,
            resends: 0,
            paused: false,
            may_start: None,
            look_for_room_at: None,
            lingers_since: None,
            usual_effects: 0,
            failed_together: false,
            dead_letters: DeadLetterGauge::new(dead_letter_limit),
            revoking: false,
            cut_wanted: false,
        }
    }

    /// What its task is rung with.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.task)
    }

    /// Another slot: its number, what wakes it, and what it has in hand.
    pub(crate) fn add_slot(&mut self) -> (usize, Arc<Notify>, Arc<Handful>) {
        self.slots.add()
    }

    /// The slot is in its first hook, while others are at work; false if there is nothing for it to do.
    pub(crate) fn joins(&mut self, slot: usize) -> bool {
        self.slots.set(slot, At::Joining);
        self.state == State::Running
    }

    /// That has failed, and is to be tried again; false if there is nothing for it to do any more.
    pub(crate) fn joins_later(&mut self, slot: usize) -> bool {
        self.slots.set(slot, At::Waiting);
        self.ring(); // somebody may have waited for the hook's end
        self.state == State::Running
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.host.now()
    }

    /// Plants the worker's bug, if it has one.
    pub(crate) fn plant(&mut self, last_begun: Option<Offset>) {
        self.schedule.plant(self.shared.plan.bug, last_begun);
        self.outbox.plant(self.shared.plan.bug);
    }

    // --- commands -------------------------------------------------------------------------

    pub(crate) fn take(&mut self, command: Command, now: Time) {
        match command {
            Command::Run(run) => self.take_run(run, now),
            Command::Seal => {
                self.flush_wanted |= !self.handled.is_empty();
                self.seal();
            }
            Command::Drain { send_until } => {
                if matches!(self.state, State::Running | State::Halted) {
                    self.state = State::Draining { cancelled: false, send_until };
                    self.drop_waiting(now);
                }
            }
            Command::Cancel => {
                if let State::Draining { cancelled, .. } = &mut self.state {
                    *cancelled = true;
                    self.cut_wanted = true;
                }
            }
            Command::Pause => {
                self.paused = true;
                self.recall(now);
            }
            Command::Resume => self.paused = false,
            Command::ChangePace => {
                self.may_start = None;
                self.recall(now);
            }
            // The first word counts: behind it the channel ends, which would mean a loss.
            Command::Close(_) if matches!(self.state, State::Closed(_)) => {}
            Command::Close(closing) => {
                self.alone.leave();
                self.state = State::Closed(closing);
                self.cut_wanted = true;
                self.drop_waiting(now);
                self.slots.wake_all();
            }
            Command::Committed { standing, proof } => self.committed(&standing, proof),
            Command::Delivered { ticket, error } => self.delivered(ticket, error.as_deref(), now),
            Command::Completed { index, attempt, result } => {
                self.completed(index, attempt, result, now);
            }
        }
    }

    fn take_run(&mut self, run: Run, now: Time) {
        let bytes = run.bytes();
        let records = run.len();
        if self.state != State::Running {
            self.progress.records += u64::try_from(records).unwrap_or(u64::MAX);
            self.progress.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            self.tell_progress(now);
            return;
        }
        let first = self.schedule.arrived_records();
        let committable = self.schedule.committable();
        self.delay_retries(&run, now);
        let items = run
            .records()
            .map(|record| Item { offset: Offset(record.offset()), unit: self.spec.unit(&record) });
        if let Err(backwards) = self.schedule.push(items) {
            // The poll loop drops what was delivered before: this would be a bug of ours, and
            // going on would lose or swallow records.
            self.fail(WorkerError::Client {
                reason: format!(
                    "offset {} of {} arrived where {} or later was expected",
                    backwards.offset, self.place.partition, backwards.expected
                ),
            });
            return;
        }
        self.run_bytes += bytes;
        self.runs.push_back(Held { first, run: Arc::new(run) });
        if self.schedule.committable() != committable {
            // The last owner had done the first of them.
            self.progress.dirty = true;
            self.unsealed = true;
        }
    }

    fn drop_waiting(&mut self, now: Time) {
        self.recall(now);
        self.schedule.stop_starting(now);
    }

    /// The worker can't go on with this partition: nothing starts any more.
    pub(crate) fn fail(&mut self, error: WorkerError) {
        self.halt();
        self.events.send(TaskEvent::Failed(error));
    }

    fn halt(&mut self) {
        if self.state == State::Running {
            self.state = State::Halted;
        }
        self.drop_waiting(self.now());
    }

    fn tell(&self, event: Event) {
        self.events.send(TaskEvent::Engine(event));
    }

    fn observe_start(&self, Turn { offset, attempt, .. }: Turn) {
        let (partition, epoch) = (&self.place.partition, self.epoch.0);
        self.shared.observe(&Observation::Start { partition, epoch, offset: offset.0, attempt });
    }

    pub(crate) fn observe_flush(&self) {
        let (partition, epoch) = (&self.place.partition, self.epoch.0);
        self.shared.observe(&Observation::Flushed { partition, epoch });
    }

    fn observe_undelivered(&self) {
        let (partition, epoch) = (&self.place.partition, self.epoch.0);
        self.shared.observe(&Observation::Undelivered { partition, epoch });
    }

    pub(crate) fn observe_end(&self, turn: Turn, outcome: RecordOutcome) {
        let (partition, epoch) = (&self.place.partition, self.epoch.0);
        let Turn { offset: Offset(offset), attempt, .. } = turn;
        self.shared.observe(&Observation::End { partition, epoch, offset, attempt, outcome });
    }
}

/// The counters of every topic a partition writes to, found by the topic's shared name.
fn output_metrics(shared: &Shared, place: &Place) -> Vec<(Arc<str>, OutputMetrics)> {
    let outputs = place.outputs.iter().map(|output| &output.topic);
    let changelogs = place.declared.iter().filter_map(|store| store.changelog.as_ref());
    outputs
        .chain(changelogs)
        .map(|topic| (Arc::clone(topic), shared.metrics.output(topic)))
        .collect()
}
