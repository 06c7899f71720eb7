//! What should the worker do next? Events in, actions out, for all partitions together.
//!
//! The engine sees records only as runs: offsets, counts, bytes. The runtime carries out the
//! actions in the order they are given and reports back by events. It must call
//! [`Engine::tick`] after each batch of events and again at the time that call returns.
//!
//! Upholds INV-4 (budget), INV-5 (nothing starts without ownership, nothing is released before
//! its drain), INV-6 (commits are monotone, one in flight) and INV-7 (late answers of another
//! epoch change nothing).

use std::collections::{BTreeMap, BTreeSet};

use crate::action::{Action, Closing, CommitItem, SilentAction};
use crate::assignment::{Active, Assignment, Drain, Fetching, PartitionState, Phase};
use crate::budget::Volume;
use crate::commit::{CommitStatus, Progress};
use crate::event::{Event, RunInfo};
use crate::ids::{Epoch, Offset, PartitionId};
use crate::limits::EngineLimits;
use crate::planted::Bug;
use crate::time::Time;

/// What can be seen of a partition.
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
}

/// The worker's half that decides for all partitions.
#[derive(Debug)]
pub struct Engine {
    limits: EngineLimits,
    assignments: BTreeMap<PartitionId, Assignment>,
    epochs: BTreeMap<PartitionId, u64>,
    /// A revocation or loss that is not acknowledged yet, and of what.
    unacknowledged: Option<BTreeSet<PartitionId>>,
    in_flight: Option<InFlight>,
    commits: u64,
    /// The last commit sent before the last assignment: what is said of it, or of an earlier
    /// one, is said of a membership that may be over.
    commits_before_assignment: u64,
    next_commit: Time,
    ending: Ending,
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
            unacknowledged: None,
            in_flight: None,
            commits: 0,
            commits_before_assignment: 0,
            next_commit: Time::ZERO,
            ending: Ending::No,
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
            Event::Fetched { partition, run } => self.fetched(now, partition, run, out),
            Event::Progressed { partition, epoch, records, bytes, dirty } => {
                self.progressed(partition, epoch, Volume { records, bytes }, dirty);
            }
            Event::Sealed { partition, epoch, offset } => {
                self.sealed(partition, epoch, offset, out);
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
            Event::ResetWanted { partition, epoch } => self.reset(now, partition, epoch, out),
            Event::FetchFailed { partition } => self.fetch_failed(now, partition),
            Event::End { partition, end } => {
                if let Some(active) =
                    self.assignments.get_mut(&partition).and_then(Assignment::active_mut)
                {
                    active.end = Some(end);
                }
            }
            Event::CommitAnswered { id, statuses } => self.answered(now, id, &statuses, out),
            Event::Shutdown { cancel_at, release_at } => {
                self.begin_shutdown(now, cancel_at, release_at, out);
            }
        }
    }

    /// Does what time and the events since the last call make due. Returns when it must be
    /// called again at the latest.
    pub fn tick(&mut self, now: Time, out: &mut Vec<Action>) -> Option<Time> {
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
                committed: active.and_then(|a| a.progress.committed),
                end: active.and_then(|a| a.end),
                buffered_records: active.map_or(0, |a| a.buffered.records),
                buffered_bytes: active.map_or(0, |a| a.buffered.bytes),
            }
        })
    }

    /// The partition's current epoch, while it is assigned.
    #[must_use]
    pub fn epoch(&self, partition: PartitionId) -> Option<Epoch> {
        self.assignments.get(&partition).map(|assignment| assignment.epoch)
    }

    // --- rebalances -----------------------------------------------------------------------

    fn assigned(&mut self, now: Time, partitions: &[PartitionId], out: &mut Vec<Action>) {
        self.lose(now, partitions, out);
        self.commits_before_assignment = self.commits;
        out.push(Action::Acknowledge);
        for partition in partitions {
            let epoch = self.next_epoch(*partition);
            let phase = if self.ending != Ending::No {
                Phase::Released
            } else {
                out.push(Action::Restore { partition: *partition, epoch });
                Phase::Restoring { since: now }
            };
            self.assignments.insert(*partition, Assignment { epoch, phase });
        }
    }

    fn revoked(&mut self, now: Time, partitions: Vec<PartitionId>, out: &mut Vec<Action>) {
        let drain = Drain {
            cancel_at: now + self.limits.drain_timeout,
            release_at: now + self.limits.release_timeout,
            cancelled: false,
            drained: false,
        };
        let send_until = drain.cancel_at.max(drain.release_at - self.limits.delivery_timeout);
        for partition in &partitions {
            self.drain(*partition, drain, Some(send_until), out);
        }
        self.unacknowledged.get_or_insert_default().extend(partitions);
    }

    fn drain(
        &mut self,
        partition: PartitionId,
        drain: Drain,
        send_until: Option<Time>,
        out: &mut Vec<Action>,
    ) {
        let bug = self.limits.bug;
        let Some(assignment) = self.assignments.get_mut(&partition) else {
            return;
        };
        let epoch = assignment.epoch;
        match &mut assignment.phase {
            Phase::Running(_) if Bug::ReleaseBeforeDrain.is(bug) => {
                out.push(Action::StopFetch { partition });
                assignment.phase = Phase::Released;
            }
            Phase::Running(_) => {
                if assignment.become_draining(drain) {
                    out.push(Action::StopFetch { partition });
                }
                out.push(Action::Drain { partition, send_until });
            }
            Phase::Restoring { .. } => {
                assignment.phase = Phase::Released;
                out.push(Action::Close { partition, epoch, closing: Closing::Released });
            }
            Phase::Draining { drain: earlier, .. } => {
                earlier.cancel_at = earlier.cancel_at.min(drain.cancel_at);
                earlier.release_at = earlier.release_at.min(drain.release_at);
            }
            Phase::Released | Phase::Lost { .. } => {}
        }
    }

    /// Takes partitions out of our hands: nothing of them is committed any more.
    fn lose(&mut self, now: Time, partitions: &[PartitionId], out: &mut Vec<Action>) {
        if Bug::IgnoreLost.is(self.limits.bug) {
            return;
        }
        let mut zombie_commit = Vec::new();
        for partition in partitions {
            let Some(assignment) = self.assignments.get_mut(partition) else {
                continue;
            };
            let (partition, epoch) = (*partition, assignment.epoch);
            if assignment.active().is_some_and(|active| active.fetch.is_some()) {
                out.push(Action::StopFetch { partition });
            }
            if let Some(active) =
                assignment.active().filter(|_| Bug::CommitLost.is(self.limits.bug))
            {
                zombie_commit.push(CommitItem { partition, epoch, offset: active.expected });
            }
            match assignment.phase {
                Phase::Restoring { .. } | Phase::Running(_) | Phase::Draining { .. } => {
                    assignment.phase = Phase::Lost { since: now };
                    out.push(Action::Close { partition, epoch, closing: Closing::Lost });
                }
                Phase::Released | Phase::Lost { .. } => {}
            }
        }
        if !zombie_commit.is_empty() {
            out.push(Action::Commit { id: u64::MAX, items: zombie_commit });
        }
    }

    fn restored(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        position: Offset,
        committed: Option<Offset>,
        out: &mut Vec<Action>,
    ) {
        let Some(assignment) = self.current(partition, epoch) else {
            return;
        };
        if !matches!(assignment.phase, Phase::Restoring { .. }) {
            return;
        }
        assignment.phase = Phase::Running(Active {
            expected: position,
            fetch: Some(Fetching::from(position)),
            buffered: Volume::default(),
            progress: Progress::starting_at(position, committed),
            heard: now,
            asked: now,
            fetched_anew_for: None,
            end: None,
        });
        out.push(Action::StartFetch { partition, from: position });
    }

    fn reset(&mut self, now: Time, partition: PartitionId, epoch: Epoch, out: &mut Vec<Action>) {
        let Some(assignment) = self.current(partition, epoch) else {
            return;
        };
        let Phase::Running(active) = &assignment.phase else {
            return;
        };
        if active.fetch.is_some() {
            out.push(Action::StopFetch { partition });
        }
        out.push(Action::Close { partition, epoch, closing: Closing::Reset });
        let epoch = self.next_epoch(partition);
        self.assignments
            .insert(partition, Assignment { epoch, phase: Phase::Restoring { since: now } });
        out.push(Action::Restore { partition, epoch });
    }

    // --- records --------------------------------------------------------------------------

    fn fetched(&mut self, now: Time, partition: PartitionId, run: RunInfo, out: &mut Vec<Action>) {
        let (share, mut held) = (self.share(), self.held());
        let budget = self.budget();
        let Some(assignment) = self.assignments.get_mut(&partition) else {
            return;
        };
        let Phase::Running(active) = &mut assignment.phase else {
            return;
        };
        let expected = active.expected;
        if active.fetch.is_some_and(|fetch| run.first < fetch.from) {
            out.push(Action::Backwards { partition, offset: run.first, expected });
            return;
        }
        active.heard = now;
        if let Some(fetch) = &mut active.fetch {
            fetch.again_at = None;
        }
        out.push(Action::Deliver { partition, skip_below: expected });
        // What was delivered before is dropped by the runtime, which reports it as freed.
        let volume = Volume { records: run.records, bytes: run.bytes };
        active.buffered.add(volume);
        held.add(volume);
        active.expected = expected.max(run.last.next());
        active.end = active.end.max(Some(active.expected));
        let full = active.buffered.fills(share) || held.fills(budget);
        if full && active.fetch.take().is_some() {
            out.push(Action::StopFetch { partition });
        }
    }

    /// Stops what fills its share and starts what has room again. A partition with an empty
    /// buffer may always fetch one run, so that nobody starves behind others that are slow.
    fn regulate_fetches(&mut self, now: Time, out: &mut Vec<Action>) {
        let (share, held, budget) = (self.share(), self.held(), self.budget());
        let bug = self.limits.bug;
        for (partition, assignment) in &mut self.assignments {
            let (partition, Phase::Running(active)) = (*partition, &mut assignment.phase) else {
                continue;
            };
            let room = active.buffered.leaves_half_of(share) && !held.fills(budget);
            if active.fetch.is_some() {
                if active.buffered.fills(share) {
                    active.fetch = None;
                    out.push(Action::StopFetch { partition });
                }
            } else if (room || active.buffered.is_empty()) && !Bug::NeverResume.is(bug) {
                active.fetch = Some(Fetching::from(active.expected));
                active.heard = now;
                out.push(Action::StartFetch { partition, from: active.expected });
            }
        }
    }

    fn progressed(&mut self, partition: PartitionId, epoch: Epoch, freed: Volume, dirty: bool) {
        if let Some(active) = self.active(partition, epoch) {
            active.buffered.remove(freed);
            active.progress.dirty |= dirty;
        }
    }

    fn fetch_failed(&mut self, now: Time, partition: PartitionId) {
        let retry = self.limits.fetch_retry;
        if let Some(Assignment { phase: Phase::Running(active), .. }) =
            self.assignments.get_mut(&partition)
            && let Some(fetch) = &mut active.fetch
        {
            fetch.again_at.get_or_insert(now + retry);
        }
    }

    /// What all partitions together may buffer.
    fn budget(&self) -> Volume {
        Volume { records: self.limits.budget_records, bytes: self.limits.budget_bytes }
    }

    /// What each running partition may buffer.
    fn share(&self) -> Volume {
        let running = self.assignments.values().filter(|a| a.active().is_some()).count();
        self.budget().share(running)
    }

    /// What all partitions together have buffered.
    fn held(&self) -> Volume {
        let mut held = Volume::default();
        for active in self.assignments.values().filter_map(Assignment::active) {
            held.add(active.buffered);
        }
        held
    }

    // --- commits --------------------------------------------------------------------------

    fn seal_if_due(&mut self, now: Time, out: &mut Vec<Action>) {
        if now < self.next_commit {
            return;
        }
        self.next_commit = now + self.limits.commit_interval;
        for (partition, assignment) in &mut self.assignments {
            let Phase::Running(active) = &mut assignment.phase else {
                continue;
            };
            if active.progress.dirty && !active.progress.sealing {
                active.progress.dirty = false;
                active.progress.sealing = true;
                out.push(Action::Seal { partition: *partition });
            }
        }
    }

    fn sealed(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        offset: Offset,
        out: &mut Vec<Action>,
    ) {
        let bug = self.limits.bug;
        let Some(assignment) = self.current(partition, epoch) else {
            return;
        };
        if Bug::NoCommitOnRevoke.is(bug) && matches!(assignment.phase, Phase::Draining { .. }) {
            return;
        }
        let Some(active) = assignment.active_mut() else {
            return;
        };
        active.progress.sealing = false;
        active.progress.ready(offset);
        if let Some(committed) = active.progress.committed.filter(|committed| offset <= *committed)
        {
            // Effects without an offset of their own (a tick's): nothing has to be committed.
            out.push(Action::Committed { partition, offset: committed, proof: false });
        }
        if Bug::CommitBackwards.is(bug) && offset.0 % 7 == 0 {
            active.progress.ready_backwards(15);
        }
    }

    fn send_commit(&mut self, now: Time, out: &mut Vec<Action>) {
        if self.in_flight.is_some() {
            return;
        }
        let mut items = Vec::new();
        for (partition, assignment) in &mut self.assignments {
            let epoch = assignment.epoch;
            let Some(active) = assignment.active_mut() else {
                continue;
            };
            if let Some(offset) = active.progress.take(now) {
                items.push(CommitItem { partition: *partition, epoch, offset });
            }
        }
        if items.is_empty() {
            return;
        }
        self.commits += 1;
        let id = self.commits;
        let owners = items.iter().map(|item| (item.partition, item.epoch)).collect();
        self.in_flight = Some(InFlight { id, items: owners });
        out.push(Action::Commit { id, items });
    }

    fn answered(
        &mut self,
        now: Time,
        id: u64,
        statuses: &[(PartitionId, CommitStatus)],
        out: &mut Vec<Action>,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == id) else {
            return;
        };
        let retry = self.limits.commit_retry;
        for (partition, epoch) in in_flight.items {
            let status = statuses
                .iter()
                .find(|(answered, _)| *answered == partition)
                .map_or(CommitStatus::Unknown, |(_, status)| *status);
            let Some(assignment) = self.current(partition, epoch) else {
                continue;
            };
            let drained =
                matches!(&assignment.phase, Phase::Draining { drain, .. } if drain.drained);
            let Some(active) = assignment.active_mut() else {
                continue;
            };
            if let Some(accepted) = active.progress.answered(status, now, retry) {
                let (offset, proof) = (accepted.offset, accepted.proof);
                out.push(Action::Committed { partition, offset, proof });
            }
            if status == CommitStatus::TopicGone && drained {
                self.release(partition, out);
            }
        }
        // Whatever has become of the commit's own partitions: who is not in the group owns none.
        let lost = statuses.iter().any(|(_, status)| *status == CommitStatus::MemberLost);
        if lost && id > self.commits_before_assignment {
            let all: Vec<_> = self.assignments.keys().copied().collect();
            self.lose(now, &all, out);
        }
    }

    // --- drains ---------------------------------------------------------------------------

    fn cancel_overdue(&mut self, now: Time, out: &mut Vec<Action>) {
        for (partition, assignment) in &mut self.assignments {
            let Phase::Draining { drain, .. } = &mut assignment.phase else {
                continue;
            };
            if now >= drain.cancel_at && !drain.cancelled && !drain.drained {
                drain.cancelled = true;
                out.push(Action::Cancel { partition: *partition });
            }
        }
    }

    fn release_drained(&mut self, now: Time, out: &mut Vec<Action>) {
        let mut finished = Vec::new();
        for (partition, assignment) in &self.assignments {
            let Phase::Draining { active, drain } = &assignment.phase else {
                continue;
            };
            if (drain.drained && active.progress.is_settled()) || now >= drain.release_at {
                finished.push(*partition);
            }
        }
        for partition in finished {
            self.release(partition, out);
        }
    }

    fn release(&mut self, partition: PartitionId, out: &mut Vec<Action>) {
        if let Some(assignment) = self.assignments.get_mut(&partition) {
            assignment.phase = Phase::Released;
            out.push(Action::Close {
                partition,
                epoch: assignment.epoch,
                closing: Closing::Released,
            });
        }
    }

    fn acknowledge_released(&mut self, out: &mut Vec<Action>) {
        let Some(waiting) = &self.unacknowledged else {
            return;
        };
        let gone = |partition: &PartitionId| match self.assignments.get(partition) {
            Some(assignment) => assignment.active().is_none(),
            None => true,
        };
        if Bug::IgnoreLost.is(self.limits.bug) || waiting.iter().all(gone) {
            for partition in waiting {
                if !Bug::IgnoreLost.is(self.limits.bug) {
                    self.assignments.remove(partition);
                }
            }
            self.unacknowledged = None;
            out.push(Action::Acknowledge);
        }
    }

    // --- shutdown, watchdogs, time --------------------------------------------------------

    fn begin_shutdown(
        &mut self,
        now: Time,
        cancel_at: Time,
        release_at: Time,
        out: &mut Vec<Action>,
    ) {
        if self.ending != Ending::No {
            return;
        }
        self.ending = Ending::Draining;
        let drain = Drain { cancel_at, release_at, cancelled: false, drained: false };
        let all: Vec<_> = self.assignments.keys().copied().collect();
        for partition in all {
            // The last commit is sent even if nothing moved: its answer says that the group
            // can still be left in good order.
            if let Some(active) =
                self.assignments.get_mut(&partition).and_then(Assignment::active_mut)
            {
                active.progress.want_proof();
            }
            self.drain(partition, drain, None, out);
        }
        self.next_commit = now;
    }

    fn leave_when_empty(&mut self, out: &mut Vec<Action>) {
        let drained = self
            .assignments
            .values()
            .all(|a| matches!(a.phase, Phase::Released | Phase::Lost { .. }));
        if self.ending == Ending::Draining && drained {
            self.ending = Ending::Left;
            out.push(Action::Leave);
        }
    }

    fn watch(&mut self, now: Time, out: &mut Vec<Action>) {
        let limits = self.limits;
        let mut rejoin = false;
        for (partition, assignment) in &mut self.assignments {
            let partition = *partition;
            match &mut assignment.phase {
                Phase::Running(active) => {
                    let Some(fetch) = active.fetch else {
                        continue;
                    };
                    let broken = fetch.again_at.is_some_and(|at| now >= at);
                    let quiet = now.since(active.heard) >= limits.silent_after;
                    // A transaction's marker at the end leaves a lag that no fetch can close.
                    let lagging = active.end.is_some_and(|end| end > active.expected)
                        && active.end != active.fetched_anew_for;
                    if broken || (quiet && lagging) {
                        active.heard = now;
                        active.fetch = Some(Fetching::from(active.expected));
                        out.push(Action::StopFetch { partition });
                        out.push(Action::StartFetch { partition, from: active.expected });
                    }
                    if !broken && quiet && lagging {
                        active.fetched_anew_for = active.end;
                        out.push(Action::Silent { partition, what: SilentAction::FetchedAnew });
                    } else if quiet && now.since(active.asked) >= limits.silent_after {
                        // A dead fetch learns of no new end: only a question can tell.
                        active.asked = now;
                        out.push(Action::AskEnd { partition });
                    }
                }
                Phase::Restoring { since } if now.since(*since) >= limits.silent_after => {
                    *since = now;
                    out.push(Action::Silent { partition, what: SilentAction::StillRestoring });
                }
                Phase::Lost { since } if now.since(*since) >= limits.rejoin_after => rejoin = true,
                Phase::Restoring { .. } | Phase::Lost { .. } => {}
                Phase::Draining { .. } | Phase::Released => {}
            }
        }
        if rejoin && self.ending == Ending::No {
            // The group says nothing of them any more; what it says later is acknowledged.
            self.assignments.retain(|_, a| !matches!(a.phase, Phase::Lost { .. }));
            out.push(Action::Rejoin);
        }
    }

    fn next_wake(&self, now: Time) -> Option<Time> {
        let mut wake = (!self.assignments.is_empty()).then_some(self.next_commit);
        for assignment in self.assignments.values() {
            let due = match &assignment.phase {
                Phase::Running(active) => {
                    let again_at = active.fetch.and_then(|fetch| fetch.again_at);
                    earlier(self.retry_at(active), again_at)
                }
                Phase::Draining { active, drain } => {
                    let over = drain.cancelled || drain.drained;
                    let deadline = if over { drain.release_at } else { drain.cancel_at };
                    earlier(self.retry_at(active), Some(deadline))
                }
                Phase::Restoring { .. } | Phase::Released | Phase::Lost { .. } => None,
            };
            wake = earlier(wake, due);
        }
        wake.map(|at| at.max(now))
    }

    /// When a refused commit can be sent again; while another is in flight, nothing can.
    fn retry_at(&self, active: &Active) -> Option<Time> {
        active.progress.retry_at().filter(|_| self.in_flight.is_none())
    }

    // --- look-ups -------------------------------------------------------------------------

    fn next_epoch(&mut self, partition: PartitionId) -> Epoch {
        let epoch = self.epochs.entry(partition).or_insert(0);
        *epoch += 1;
        Epoch(*epoch)
    }

    /// The assignment, if it is still the one meant (INV-7).
    fn current(&mut self, partition: PartitionId, epoch: Epoch) -> Option<&mut Assignment> {
        self.assignments.get_mut(&partition).filter(|assignment| assignment.epoch == epoch)
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
