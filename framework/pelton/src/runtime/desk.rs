//! What is one partition's state of affairs? Its schedule, its bytes, its outbox.
//!
//! The partition's task owns the desk and its slot side by side: while user code runs in the
//! slot, the desk goes on taking commands, sending outputs and answering seals.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use pelton_engine::{
    Bug, Closing, Epoch, Event, Finish, Item, Next, Offset, PartitionId, RetryPolicy, Schedule,
    Time,
};

use crate::context::{Effects, Place};
use crate::error::WorkerError;
use crate::output::Outbox;
use crate::ports::{Reports, SendError};
use crate::record::Run;
use crate::runtime::input::InputSpec;
use crate::runtime::shared::{EventSender, Shared, TaskEvent};
use crate::state::changelog_records;
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

/// Undelivered outputs above either of these let no further record start.
const OUTBOX_RECORDS: usize = 10_000;
const OUTBOX_BYTES: usize = 16 * 1024 * 1024;

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
    /// Effects of handled records, until the flush.
    handled: Vec<Effects>,
    handled_records: usize,
    handled_since: Option<Time>,
    flush_wanted: bool,
    flush_failures: u32,
    flush_not_before: Time,
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
}

/// What a task and the poll loop share about one assignment, besides messages.
#[derive(Debug)]
pub(crate) struct Lease {
    /// False once the partition is no longer ours, however late the command arrives.
    pub(crate) alive: AtomicBool,
    /// Timestamp of the oldest record that is not done, or -1.
    pub(crate) oldest: AtomicI64,
    /// Bytes of effects that Kafka does not have yet.
    pub(crate) effects_bytes: AtomicUsize,
}

impl Lease {
    pub(crate) fn new() -> Self {
        Self {
            alive: AtomicBool::new(true),
            oldest: AtomicI64::new(-1),
            effects_bytes: AtomicUsize::new(0),
        }
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
        let mut schedule = Schedule::new(spec.ordering, position, spec.retry, seed);
        schedule.plant(shared.plan.bug);
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
            outbox: Outbox::new(),
            sealed: VecDeque::new(),
            handled: Vec::new(),
            handled_records: 0,
            handled_since: None,
            flush_wanted: false,
            flush_failures: 0,
            flush_not_before: now,
            progress: Freed::default(),
            progress_told: now,
            freed_below: 0,
            unsealed: false,
            state: State::Running,
            send_again_at: None,
            resends: 0,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.shared.host.now()
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

    fn committed(&mut self, offset: Offset, proof: bool) {
        while self.sealed.front().is_some_and(|(_, sealed)| *sealed <= offset) {
            let Some((number, _)) = self.sealed.pop_front() else {
                break;
            };
            for layers in self.place.stores.lock().iter_mut() {
                layers.committed(number);
            }
        }
        if proof && let Some(asked) = self.proof.asked.take() {
            self.proof.proved = asked;
            if self.outbox.is_blocked() && asked == self.shared.gate.thaws() {
                self.outbox.unblock();
            }
        }
    }

    fn delivered(&mut self, ticket: u64, error: Option<&str>, now: Time) {
        let topic = self.outbox.topic(ticket);
        if let Some((_, metrics)) =
            topic.and_then(|topic| self.outputs.iter().find(|(name, _)| Arc::ptr_eq(name, topic)))
        {
            if error.is_none() { &metrics.delivered } else { &metrics.failures }.increment(1);
        }
        if let Some(error) = error {
            tracing::warn!(partition = %self.place.partition, error, "an output was not delivered; it will be sent again");
        }
        if self.outbox.reported(ticket, error.is_none()) {
            self.block(now);
        } else if error.is_none() && !self.outbox.is_blocked() {
            self.resends = 0;
        }
    }

    fn block(&mut self, now: Time) {
        self.resends = self.resends.saturating_add(1);
        self.proof.not_before = now + RESEND.backoff(self.resends, self.epoch.0);
    }

    // --- what to do next ------------------------------------------------------------------

    /// Sends what may be sent and decides what comes next. A `Handle` counts as started.
    pub(crate) fn step(&mut self, now: Time) -> Step {
        self.pump(now);
        match self.state {
            State::Closed(closing) => Step::Closed(closing),
            State::Halted | State::Drained => Step::Wait(self.pump_wake()),
            State::Draining { cancelled, .. } => self.drain_step(now, cancelled),
            State::Running => self.running_step(now),
        }
    }

    fn running_step(&mut self, now: Time) -> Step {
        let flush = self.flush_at(now);
        if flush.is_some_and(|at| now >= at) {
            return Step::Flush;
        }
        if self.next_tick.is_some_and(|at| now >= at) {
            self.next_tick = self.spec.tick_every.map(|interval| now + interval);
            return Step::Tick;
        }
        let wake = [self.pump_wake(), flush, self.next_tick].into_iter().flatten().min();
        let flush_fails = self.flush_failures > 0;
        let outbox_full =
            self.outbox.len() >= OUTBOX_RECORDS || self.outbox.bytes() >= OUTBOX_BYTES;
        if flush_fails || outbox_full || self.sealed.len() >= UNCONFIRMED_SEALS {
            return Step::Wait(wake);
        }
        match self.schedule.next(now) {
            Next::Start { index, offset, attempt } => Step::Handle { index, offset, attempt },
            Next::WaitUntil(at) => Step::Wait(Some(wake.map_or(at, |wake| wake.min(at)))),
            Next::Idle => Step::Wait(wake),
        }
    }

    fn drain_step(&mut self, now: Time, cancelled: bool) -> Step {
        if cancelled {
            self.forget_handled(); // too late for a flush: they run again at the next owner
        }
        if !self.handled.is_empty() {
            if now >= self.flush_not_before {
                return Step::Flush;
            }
            let at = self.flush_not_before;
            return Step::Wait(Some(self.pump_wake().map_or(at, |wake| wake.min(at))));
        }
        if self.unsealed {
            self.seal();
            self.pump(now);
        }
        if self.outbox.is_empty() { Step::Drained } else { Step::Wait(self.pump_wake()) }
    }

    /// When the slot is to be flushed, if anything waits for it. After a failure it is the end of
    /// the wait.
    fn flush_at(&self, now: Time) -> Option<Time> {
        let (records, interval) = self.spec.flush_every?;
        let since = self.handled_since?;
        let due = if self.flush_wanted || self.handled_records >= records {
            now
        } else {
            since + interval
        };
        Some(due.max(self.flush_not_before))
    }

    /// When sending, a proof or a word to the poll loop is due, at the latest; that goes on
    /// whatever the slot does.
    pub(crate) fn pump_wake(&self) -> Option<Time> {
        let proof = (self.outbox.is_blocked() && self.proof.asked.is_none())
            .then_some(self.proof.not_before);
        let progress = self.progress.dirty.then_some(self.progress_told + PROGRESS_INTERVAL);
        [self.send_again_at, proof, progress].into_iter().flatten().min()
    }

    /// Must the attempt at hand be cut off?
    pub(crate) fn must_cut(&self) -> bool {
        matches!(self.state, State::Closed(_) | State::Draining { cancelled: true, .. })
    }

    // --- records --------------------------------------------------------------------------

    /// The run that holds the record with this index, and its place in it.
    pub(crate) fn record(&self, index: u64) -> Option<(Arc<Run>, usize)> {
        let at = self.runs.partition_point(|held| held.first <= index).checked_sub(1)?;
        let held = self.runs.get(at)?;
        Some((Arc::clone(&held.run), usize::try_from(index - held.first).ok()?))
    }

    /// The record is done: its effects and its offset enter the outbox together.
    pub(crate) fn done(&mut self, index: u64, effects: Effects, now: Time) {
        if self.spec.flush_every.is_some() {
            self.schedule.finished(index, Finish::Handled, now);
            self.handle_effects(effects);
            self.handled_records += 1;
            self.handled_since.get_or_insert(now);
            self.progress.dirty = true; // the next commit asks for a flush
        } else {
            self.schedule.finished(index, Finish::Done, now);
            self.enter(effects);
        }
        self.forget_done(now);
    }

    /// Effects that wait for the next flush: later records of the slot see them.
    fn handle_effects(&mut self, effects: Effects) {
        let mut stores = self.place.stores.lock();
        for (at, writes) in &effects.writes {
            if let Some(layers) = stores.get_mut(*at) {
                layers.apply_handled(writes.clone());
            }
        }
        drop(stores);
        self.handled.push(effects);
    }

    fn forget_handled(&mut self) {
        self.handled.clear();
        self.handled_records = 0;
        self.handled_since = None;
    }

    /// Effects of something done enter the outbox and the pending layer.
    pub(crate) fn enter(&mut self, effects: Effects) {
        if !effects.writes.is_empty() {
            let mut stores = self.place.stores.lock();
            for (at, writes) in effects.writes {
                if let Some(layers) = stores.get_mut(at) {
                    layers.apply(writes);
                }
            }
        }
        self.outbox.push(effects.outputs);
        self.progress.dirty = true;
        self.unsealed = true;
    }

    pub(crate) fn not_done(&mut self, index: u64, finish: Finish, now: Time) {
        self.schedule.finished(index, finish, now);
        self.forget_done(now);
    }

    /// Handled records are lost with the instance that handled them: the partition starts again
    /// behind the last one that is done.
    pub(crate) fn reset_if_handled(&mut self) {
        let wanted = !self.handled.is_empty() && self.state == State::Running;
        self.forget_handled();
        if wanted {
            self.halt();
            self.tell(Event::ResetWanted { partition: self.id, epoch: self.epoch });
        }
    }

    pub(crate) fn flushed(&mut self, effects: Effects, now: Time) {
        self.schedule.flushed();
        for layers in self.place.stores.lock().iter_mut() {
            layers.flushed();
        }
        for handled in std::mem::take(&mut self.handled) {
            self.outbox.push(handled.outputs);
        }
        self.forget_handled();
        self.flush_failures = 0;
        self.enter(effects);
        // The commit that waited for this flush need not wait for the next interval's word.
        if std::mem::take(&mut self.flush_wanted) {
            self.seal();
        }
        self.forget_done(now);
    }

    /// A tick's effects stand in the outbox like a record's, without an offset; behind those of
    /// the records handled before it, which wait for a flush.
    pub(crate) fn ticked(&mut self, effects: Effects, now: Time) {
        if effects.outputs.is_empty() && effects.writes.is_empty() {
            return;
        }
        if self.handled.is_empty() {
            self.enter(effects);
        } else {
            self.handle_effects(effects);
        }
        self.tell_progress(now);
    }

    pub(crate) fn flush_failed(&mut self, now: Time) {
        self.flush_failures = self.flush_failures.saturating_add(1);
        self.flush_not_before = now + self.spec.retry.backoff(self.flush_failures, self.epoch.0);
    }

    /// Frees the runs whose records are all done, and tells the poll loop now and then.
    fn forget_done(&mut self, now: Time) {
        let needed = self.schedule.first_needed();
        self.progress.records += needed.saturating_sub(self.freed_below);
        self.freed_below = self.freed_below.max(needed);
        while let Some(held) = self.runs.front() {
            let after = held.first + u64::try_from(held.run.len()).unwrap_or(u64::MAX);
            if after > needed {
                break;
            }
            self.progress.bytes += u64::try_from(held.run.bytes()).unwrap_or(u64::MAX);
            self.runs.pop_front();
        }
        if self.runs.is_empty() {
            self.lease.oldest.store(-1, Ordering::Relaxed);
        }
        if self.progress.records >= PROGRESS_RECORDS
            || self.runs.is_empty()
            || now.since(self.progress_told) >= PROGRESS_INTERVAL
        {
            self.tell_progress(now);
        }
    }

    pub(crate) fn tell_progress(&mut self, now: Time) {
        self.progress_told = now;
        let Freed { records, bytes, dirty } = std::mem::take(&mut self.progress);
        self.tell(Event::Progressed {
            partition: self.id,
            epoch: self.epoch,
            records,
            bytes,
            dirty,
        });
    }

    // --- outputs and commits --------------------------------------------------------------

    /// Closes the outbox: the changelog gets each key once, and once everything up to here is
    /// durable the poll loop hears how far the partition may commit.
    pub(crate) fn seal(&mut self) {
        let number = self.outbox.seals() + 1;
        let partition = self.place.partition.partition();
        let mut stores = self.place.stores.lock();
        for (declared, bound) in self.place.declared.iter().zip(&self.place.bound) {
            let Some(layers) = bound.and_then(|at| stores.get_mut(at)) else {
                continue;
            };
            let writes = layers.seal(number);
            if let Some(changelog) = &declared.changelog {
                self.outbox.push(changelog_records(changelog, partition, writes));
            }
        }
        drop(stores);
        let offset = self.schedule.committable();
        self.outbox.seal(offset);
        self.sealed.push_back((number, offset));
        self.progress.dirty = false;
        self.unsealed = false;
        if Bug::CommitBeforeDelivery.is(self.shared.plan.bug) {
            self.tell(Event::Sealed { partition: self.id, epoch: self.epoch, offset });
        }
    }

    /// Sends what may be sent and says what has become durable.
    pub(crate) fn pump(&mut self, now: Time) {
        self.send_again_at = None;
        self.ask_for_proof(now);
        if self.progress.dirty && now.since(self.progress_told) >= PROGRESS_INTERVAL {
            self.tell_progress(now);
        }
        let too_late = match self.state {
            State::Draining { send_until: Some(until), .. } => now >= until,
            _ => false,
        };
        while let Some((ticket, record)) = self.outbox.next_to_send().filter(|_| !too_late) {
            let ours = self.lease.alive.load(Ordering::Acquire);
            if !ours || !self.shared.gate.is_open(self.shared.host.now(), self.proof.proved) {
                self.send_again_at = Some(now + SEND_RETRY);
                break;
            }
            match self.shared.producer.send(record, ticket, &self.reports) {
                Ok(()) => self.outbox.sent(),
                Err(SendError::Full) => {
                    self.send_again_at = Some(now + SEND_RETRY);
                    break;
                }
                Err(SendError::Refused(error)) => {
                    tracing::warn!(partition = %self.place.partition, topic = %record.topic, %error, "an output was refused; it will be tried again");
                    self.outbox.refused();
                    self.block(now);
                    break;
                }
            }
        }
        self.say_durable();
    }

    fn say_durable(&mut self) {
        if let Some(seal) = self.outbox.take_durable() {
            let (partition, epoch) = (self.id, self.epoch);
            self.tell(Event::Sealed { partition, epoch, offset: seal.offset });
        }
        self.metrics.output_blocked.set(f64::from(u8::from(self.outbox.is_blocked())));
        self.lease.effects_bytes.store(self.outbox.bytes(), Ordering::Relaxed);
    }

    /// After a thaw, and before a resend, the group must confirm that the partition is ours.
    fn ask_for_proof(&mut self, now: Time) {
        let thaws = self.shared.gate.thaws();
        if self.proof.asked.is_some_and(|asked| asked != thaws) {
            self.proof.asked = None; // another thaw: the proof under way is worth nothing
        }
        let thawed = thaws != self.proof.proved;
        let resend = self.outbox.is_blocked() && now >= self.proof.not_before;
        if self.proof.asked.is_none() && (thawed || resend) {
            self.proof.asked = Some(thaws);
            self.tell(Event::ProofWanted { partition: self.id, epoch: self.epoch });
        }
    }

    // --- the end --------------------------------------------------------------------------

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
        let (partition, epoch) = (&self.place.partition, self.epoch.0);
        self.shared.observe(&Observation::Start { partition, epoch, offset: offset.0, attempt });
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
