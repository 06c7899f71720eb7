//! What should the worker do next? Events in, actions out, for all partitions together.
//!
//! The engine sees records only as runs: offsets, counts, bytes. The runtime carries out the
//! actions in the order they are given and reports back by events. It must call
//! [`Engine::tick`] after each batch of events and again at the time that call returns.
//!
//! Upholds INV-4 (budget), INV-5 (nothing starts without ownership, nothing is released before
//! its drain), INV-6 (commits are monotone, one in flight) and INV-7 (late answers of another
//! epoch change nothing).

mod commits;
mod drains;
mod fetches;
mod out_of_range;
mod pauses;
mod rebalances;
mod seeks;
mod watchdogs;

use std::collections::{BTreeMap, BTreeSet};

use crate::action::Action;
use crate::assignment::{Active, Assignment, PartitionState, Phase};
use crate::budget::{Sizes, Volume};
use crate::event::{Event, HeldEffects};
use crate::ids::{Epoch, Offset, PartitionId};
use crate::limits::EngineLimits;
use crate::planted::Bug;
use crate::standing::Standing;
use crate::time::Time;

/// What can be seen of a partition.
///
/// ```
/// use pelton_engine::{Engine, PartitionView};
///
/// /// Records behind the end of the log, of all partitions where both offsets are known.
/// fn lag(engine: &Engine) -> i64 {
///     let behind = |view: PartitionView| Some(view.end?.0 - view.committed?.0);
///     engine.partitions().filter_map(behind).sum()
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PartitionView {
    /// Which partition.
    pub partition: PartitionId,
    /// Of which assignment.
    pub epoch: Epoch,
    /// Its state.
    pub state: PartitionState,
    /// The next offset to arrive.
    pub position: Option<Offset>,
    /// What Kafka has stored.
    pub committed: Option<Offset>,
    /// The log's end.
    pub end: Option<Offset>,
    /// Records in its buffer.
    pub buffered_records: u64,
    /// Bytes in its buffer.
    pub buffered_bytes: u64,
    /// An operator has paused it.
    pub paused: bool,
    /// What it holds of effects that Kafka does not have yet.
    pub effects: HeldEffects,
}

/// The worker's half that decides for all partitions.
///
/// ```
/// use pelton_engine::{Action, Standing, Engine, EngineLimits, Epoch, Event, Offset, PartitionId, Time};
///
/// let (now, partition, epoch) = (Time::ZERO, PartitionId(0), Epoch(1));
/// let (mut engine, mut actions) = (Engine::new(EngineLimits::default()), Vec::new());
/// engine.handle(now, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// let (position, committed) = (Offset(3), None);
/// engine.handle(now, Event::Restored { partition, epoch, position, committed }, &mut actions);
/// // Records 3 and 4 are done and durable: 5 is committed.
/// let standing = Standing::at(Offset(5));
/// engine.handle(now, Event::Sealed { partition, epoch, standing }, &mut actions);
/// let wake = engine.tick(now, &mut actions);
/// assert!(matches!(&actions[..], [.., Action::Commit { items, .. }] if items[0].offset() == Offset(5)));
/// assert!(wake.is_some()); // tick again then, or after the next event
/// ```
#[derive(Debug)]
pub struct Engine {
    limits: EngineLimits,
    assignments: BTreeMap<PartitionId, Assignment>,
    epochs: BTreeMap<PartitionId, u64>,
    /// What an operator has paused, assigned or not.
    paused: BTreeSet<PartitionId>,
    /// A revocation or loss that is not acknowledged yet, and of what.
    unacknowledged: Option<BTreeSet<PartitionId>>,
    in_flight: Option<InFlight>,
    /// Partitions that are to be reset as soon as no commit of theirs is under way.
    resets: BTreeMap<PartitionId, Epoch>,
    commits: u64,
    /// The last commit sent before the last assignment: what is said of it, or of an earlier
    /// one, is said of a membership that may be over.
    commits_before_assignment: u64,
    next_commit: Time,
    ending: Ending,
    renewal: Renewal,
    /// How large runs and effects are.
    sizes: Sizes,
    /// Fetches stopped since the beginning: the order in which they wait.
    stops: u64,
    /// Somebody waits for a place to fetch.
    waits: bool,
}

/// When the client that fetches may be replaced because a partition is silent.
#[derive(Clone, Copy, Debug, Default)]
struct Renewal {
    not_before: Time,
    renewals: u32,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    items: Vec<(PartitionId, Epoch)>,
}

/// How far a shutdown has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    No,
    Draining,
    Left,
}

impl Engine {
    /// An engine without partitions.
    #[must_use]
    pub fn new(limits: EngineLimits) -> Self {
        Self {
            limits,
            assignments: BTreeMap::new(),
            epochs: BTreeMap::new(),
            paused: BTreeSet::new(),
            unacknowledged: None,
            in_flight: None,
            resets: BTreeMap::new(),
            commits: 0,
            commits_before_assignment: 0,
            next_commit: Time::ZERO,
            ending: Ending::No,
            renewal: Renewal::default(),
            sizes: Sizes::default(),
            stops: 0,
            waits: false,
        }
    }

    /// The settings it decides by.
    #[must_use]
    pub fn limits(&self) -> &EngineLimits {
        &self.limits
    }

    /// Takes in what has happened; what has to be done at once is appended to `out`.
    pub fn handle(&mut self, now: Time, event: Event, out: &mut Vec<Action>) {
        match event {
            Event::Assigned { partitions } => self.assigned(now, &partitions, out),
            Event::Revoked { partitions } => self.revoked(now, partitions, out),
            Event::Lost { partitions } => {
                self.lose(now, &partitions, out);
                self.unacknowledged.get_or_insert_default().extend(partitions);
            }
            Event::Restored { partition, epoch, position, committed } => {
                self.restored(now, partition, epoch, position, committed, out);
            }
            Event::Preparing { partition, epoch, waits } => {
                self.preparing(now, partition, epoch, waits);
            }
            Event::Fetched { partition, run } => self.fetched(now, partition, run, out),
            Event::Progressed { partition, epoch, records, bytes, dirty } => {
                self.progressed(partition, epoch, Volume { records, bytes }, dirty);
            }
            Event::Holds { partition, epoch, effects } => {
                self.holds(now, partition, epoch, effects);
            }
            Event::Sealed { partition, epoch, standing } => {
                self.sealed(partition, epoch, standing, out);
            }
            Event::Drained { partition, epoch } => {
                if let Some(Assignment { phase: Phase::Draining { drain, .. }, .. }) =
                    self.current(partition, epoch)
                {
                    drain.drained = true;
                }
            }
            Event::ProofWanted { partition, epoch } => {
                if let Some(active) = self.active(partition, epoch) {
                    active.progress.want_proof();
                }
            }
            Event::ResetWanted { partition, epoch } => {
                self.resets.insert(partition, epoch);
            }
            Event::FetchFailed { partition } => self.fetch_failed(now, partition),
            Event::OutOfRange { partition } => self.out_of_range(partition, out),
            Event::LogSeen { partition, epoch, log } => {
                self.log_seen(partition, epoch, log, out);
            }
            Event::FetcherReplaced => self.fetcher_replaced(now, out),
            Event::MemberGone => self.member_gone(now, out),
            Event::End { partition, end } => {
                if let Some(active) =
                    self.assignments.get_mut(&partition).and_then(Assignment::active_mut)
                {
                    active.end = Some(end);
                }
            }
            Event::CommitAnswered { id, statuses } => self.answered(now, id, &statuses, out),
            Event::Paused { partitions } => self.pause(&partitions, out),
            Event::Resumed { partitions } => self.resume(&partitions, out),
            Event::SeekWanted { partition, to } => self.seek(now, partition, to, out),
            Event::Shutdown { cancel_at, release_at } => {
                self.begin_shutdown(now, cancel_at, release_at, out);
            }
        }
    }

    /// Does what time and the events since the last call make due. Returns when it must be
    /// called again at the latest.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Action>) -> Option<Time> {
        self.leave_lost_positions(now, out);
        self.reset_wanted(now, out);
        self.regulate_fetches(now, out);
        self.seal_if_due(now, out);
        self.watch(now, out);
        self.cancel_overdue(now, out);
        self.release_drained(now, out);
        self.send_commit(now, out);
        self.acknowledge_released(out);
        self.leave_when_empty(out);
        self.next_wake(now)
    }

    /// The assigned partitions, by number.
    pub fn partitions(&self) -> impl Iterator<Item = PartitionView> + '_ {
        self.assignments.iter().map(|(partition, assignment)| {
            let active = assignment.active();
            PartitionView {
                partition: *partition,
                epoch: assignment.epoch,
                state: assignment.state(),
                position: active.map(|a| a.expected),
                committed: active.and_then(|a| a.progress.committed.as_ref()).map(Standing::offset),
                end: active.and_then(|a| a.end),
                buffered_records: active.map_or(0, |a| a.buffered.records),
                buffered_bytes: active.map_or(0, |a| a.buffered.bytes),
                paused: self.paused.contains(partition),
                effects: active.map(|a| a.effects).unwrap_or_default(),
            }
        })
    }

    /// A partition's task starts a record only while it holds at most so many bytes, of records
    /// and effects, or no effects at all: there is room for the effects of one record more.
    #[must_use]
    pub fn start_below(&self) -> u64 {
        let room = self.room();
        if Bug::IgnoreBudget.is(self.limits.bug) { u64::MAX } else { room.bytes - room.effects }
    }

    /// The partition's current epoch, while it is assigned.
    #[must_use]
    pub fn epoch(&self, partition: PartitionId) -> Option<Epoch> {
        self.assignments.get(&partition).map(|assignment| assignment.epoch)
    }

    fn next_wake(&self, now: Time) -> Option<Time> {
        let mut wake = (!self.assignments.is_empty()).then_some(self.next_commit);
        wake = earlier(wake, self.next_turn());
        for (partition, assignment) in &self.assignments {
            let due = match &assignment.phase {
                Phase::Running(active) => {
                    let again_at = active.fetch.and_then(|fetch| fetch.again_at);
                    earlier(self.retry_at(active), again_at)
                }
                Phase::Draining { active, drain } => {
                    let over = drain.cancelled || drain.drained;
                    let deadline = if over { drain.release_at } else { drain.cancel_at };
                    let waits = drain.seek.is_some() && self.is_under_way(*partition);
                    let deadline = Some(deadline).filter(|at| *at > now || !waits);
                    earlier(self.retry_at(active), deadline)
                }
                Phase::Restoring(_) | Phase::Released | Phase::Lost { .. } => None,
            };
            wake = earlier(wake, due);
        }
        wake.map(|at| at.max(now))
    }

    /// When a refused commit can be sent again; while another is in flight, nothing can.
    fn retry_at(&self, active: &Active) -> Option<Time> {
        active.progress.retry_at().filter(|_| self.in_flight.is_none())
    }

    fn next_epoch(&mut self, partition: PartitionId) -> Epoch {
        let epoch = self.epochs.entry(partition).or_insert(0);
        *epoch += 1;
        Epoch(*epoch)
    }

    /// The assignment, if it is still the one meant (INV-7).
    fn current(&mut self, partition: PartitionId, epoch: Epoch) -> Option<&mut Assignment> {
        let any = Bug::AnyEpoch.is(self.limits.bug);
        self.assignments.get_mut(&partition).filter(|assignment| assignment.epoch == epoch || any)
    }

    fn active(&mut self, partition: PartitionId, epoch: Epoch) -> Option<&mut Active> {
        self.current(partition, epoch).and_then(Assignment::active_mut)
    }
}

/// The earlier of two moments that may not be.
fn earlier(a: Option<Time>, b: Option<Time>) -> Option<Time> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
