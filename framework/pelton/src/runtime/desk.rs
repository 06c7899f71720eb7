//! What is one partition's state of affairs? Its schedule, its bytes, its outbox.
//!
//! The partition's task owns the desk and its slot side by side: while user code runs in the
//! slot, the desk goes on taking commands, sending outputs and answering seals.

mod flow;
mod memory;
mod records;
mod steps;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::time::Duration;

use pelton_engine::{
    Closing, Epoch, Event, HeldEffects, Item, Offset, PartitionId, RetryPolicy, Schedule, Time,
};

use crate::context::{Effects, Place};
use crate::error::WorkerError;
use crate::output::Outbox;
use crate::ports::Reports;
use crate::record::Run;
use crate::runtime::in_poll::{InPoll, WaitingCalls};
use crate::runtime::input::InputSpec;
use crate::runtime::shared::{EventSender, Shared, TaskEvent};
use crate::runtime::start::Stage;
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
        offset: Offset,
        proof: bool,
    },
    Delivered {
        ticket: u64,
        error: Option<String>,
    },
}

/// Undelivered outputs above it let no further record start.
const OUTBOX_RECORDS: usize = 10_000;

/// So many seals may wait for their commit before no further record starts: what a commit that
/// fails for long can make repeat, and what is kept for it, stays bounded.
const UNCONFIRMED_SEALS: usize = 64;

/// Between two tries to send where the client's queue is full or the gate is shut.
const SEND_RETRY: Duration = Duration::from_millis(5);

/// Between two proofs of ownership for an outbox that failed.
const RESEND: RetryPolicy =
    RetryPolicy { initial: Duration::from_millis(200), max: Duration::from_secs(5) };

/// The poll loop hears of progress at least after so many records, and at least so often: slow
/// records are committed as promptly as fast ones.
const PROGRESS_RECORDS: u64 = 64;
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
    runs: VecDeque<Held>,
    outbox: Outbox,
    /// Seals that Kafka has not confirmed, oldest first.
    sealed: VecDeque<(u64, Offset)>,
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
    progress: Freed,
    progress_told: Time,
    /// Records with an index below it are out of the buffer, and counted as such.
    freed_below: u64,
    /// Something was done since the last seal.
    unsealed: bool,
    state: State,
    send_again_at: Option<Time>,
    proof: Proof,
    resends: u32,
    next_tick: Option<Time>,
    paused: bool,
    /// When the next record may start, once asked for.
    may_start: Option<Time>,
}

/// What a task and the poll loop share about one assignment, besides messages.
#[derive(Debug)]
pub(crate) struct Lease {
    /// False once the partition is no longer ours, however late the command arrives.
    pub(crate) alive: AtomicBool,
    /// Timestamp of the oldest record that is not done, or -1.
    pub(crate) oldest: AtomicI64,
    /// Whether user code holds its thread.
    pub(crate) user_code: InPoll,
    /// How far its start has come.
    stage: AtomicU8,
}

impl Lease {
    pub(crate) fn new(waiting: WaitingCalls) -> Self {
        Self {
            alive: AtomicBool::new(true),
            oldest: AtomicI64::new(-1),
            user_code: InPoll::new(waiting),
            stage: AtomicU8::new(0),
        }
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// How far the partition's start has come, in words.
    pub(crate) fn stage(&self) -> &'static str {
        Stage::name(self.stage.load(Ordering::Relaxed))
    }
}

/// A run whose bytes are still needed, and the index of its first record.
struct Held {
    first: u64,
    run: Arc<Run>,
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

/// What the task should do now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Handle {
        index: u64,
        offset: Offset,
        attempt: u32,
    },
    Flush,
    Tick,
    Wait(Option<Time>),
    /// Everything is finished, flushed and durable: say so.
    Drained,
    Closed(Closing),
}

impl Desk {
    #[expect(clippy::too_many_arguments, reason = "called once, by the task that owns it")]
    pub(crate) fn new(
        id: PartitionId,
        epoch: Epoch,
        place: Arc<Place>,
        shared: Arc<Shared>,
        spec: InputSpec,
        events: EventSender,
        reports: Arc<dyn Reports>,
        lease: Arc<Lease>,
        metrics: PartitionMetrics,
        thaws: u64,
        position: Offset,
    ) -> Self {
        let seed = shared.host.seed() ^ u64::from(id.0).rotate_left(32) ^ epoch.0;
        let schedule = Schedule::new(spec.ordering, position, spec.retry, seed);
        let now = shared.host.now();
        Self {
            id,
            epoch,
            metrics,
            outputs: output_metrics(&shared, &place),
            next_tick: spec.tick_every.map(|interval| now + interval),
            proof: Proof { proved: thaws, asked: None, not_before: now },
            place,
            shared,
            spec,
            events,
            reports,
            lease,
            schedule,
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
            progress: Freed::default(),
            progress_told: now,
            freed_below: 0,
            unsealed: false,
            state: State::Running,
            send_again_at: None,
            resends: 0,
            paused: false,
            may_start: None,
        }
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
                }
            }
            Command::Pause => self.paused = true,
            Command::Resume => self.paused = false,
            Command::ChangePace => self.may_start = None,
            Command::Close(closing) => {
                self.state = State::Closed(closing);
                self.drop_waiting(now);
            }
            Command::Committed { offset, proof } => self.committed(offset, proof),
            Command::Delivered { ticket, error } => self.delivered(ticket, error.as_deref(), now),
        }
    }

    fn take_run(&mut self, run: Run, now: Time) {
        let items = run.offsets().map(|offset| Item { offset: Offset(offset), unit: 0 });
        let bytes = run.bytes();
        let records = run.len();
        if self.state != State::Running {
            self.progress.records += u64::try_from(records).unwrap_or(u64::MAX);
            self.progress.bytes += u64::try_from(bytes).unwrap_or(u64::MAX);
            self.tell_progress(now);
            return;
        }
        let first = self.arrivals();
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
    }

    /// The index the next record to arrive will get.
    fn arrivals(&self) -> u64 {
        self.runs.back().map_or_else(
            || self.schedule.first_needed(),
            |held| held.first + u64::try_from(held.run.len()).unwrap_or(u64::MAX),
        )
    }

    fn drop_waiting(&mut self, now: Time) {
        self.schedule.stop_starting();
        self.forget_done(now);
    }

    pub(crate) fn drained(&mut self) {
        if !matches!(self.state, State::Draining { .. }) {
            return; // closed while the last hook ran
        }
        self.state = State::Drained;
        self.tell(Event::Drained { partition: self.id, epoch: self.epoch });
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

    pub(crate) fn observe_start(&self, offset: Offset, attempt: u32, timestamp_ms: Option<i64>) {
        self.lease.oldest.store(timestamp_ms.unwrap_or(-1), Ordering::Relaxed);
        self.lease.user_code.at(offset.0);
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

    pub(crate) fn observe_end(&self, offset: Offset, attempt: u32, outcome: RecordOutcome) {
        let (partition, epoch) = (&self.place.partition, self.epoch.0);
        let offset = offset.0;
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
