//! The engine's promises, held against random histories of a group, a log and slow tasks.
//!
//! `World` plays everything around the engine: it carries out the actions, checks each of them
//! against what may be true at that moment, and makes up the next event. What it knows of a
//! partition is what a careful human would write down.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use proptest::prelude::*;

use crate::standing::Standing;
use crate::{
    Action, Bug, Closing, CommitStatus, Engine, EngineLimits, Epoch, Event, LogRange, Offset,
    PartitionId, RestoreFrom, RunInfo, Time,
};

const PARTITIONS: u32 = 4;
const MAX_RUN_RECORDS: i64 = 40;
const BUDGET_RECORDS: u64 = 200;

/// A partition's task, as the world sees it.
#[derive(Debug)]
struct Task {
    epoch: Epoch,
    running: bool,
    fetching: bool,
    /// The next offset the fetch brings.
    position: i64,
    /// Delivered and not done.
    buffered: i64,
    /// Everything below it is done.
    done: i64,
    /// Everything below it is durable.
    sealed: Standing,
    /// Behind the first open record so many are done, too.
    above: i64,
    seals_asked: u32,
    draining: bool,
    /// It was told to start nothing.
    paused: bool,
    /// One record ran when that word came.
    in_hand: bool,
    accepted: Option<Standing>,
    /// Nothing more can be read: its log does not hold `position`.
    astray: bool,
    /// It goes on here.
    seek: Option<i64>,
}

/// A rebalance event that is not acknowledged.
#[derive(Debug)]
enum Waiting {
    Assigned,
    Taken(Vec<PartitionId>),
}

/// A commit without an answer: its number, what it commits.
type Sent = (u64, Vec<(PartitionId, Epoch, Standing)>);

#[derive(Debug)]
struct World {
    engine: Engine,
    now: Time,
    owned: BTreeMap<PartitionId, ()>,
    /// What the operator has paused.
    paused: BTreeSet<PartitionId>,
    tasks: BTreeMap<PartitionId, Task>,
    waiting: Option<Waiting>,
    committed: BTreeMap<PartitionId, Standing>,
    in_flight: Option<Sent>,
    at_hand: Option<(PartitionId, i64, i64)>,
    /// The position of the partition that was just reset because its log does not hold it.
    left_behind: Option<i64>,
    /// What the task that was closed last had done was committed.
    all_committed: bool,
    left: bool,
    ending: bool,
    /// The client that fetches is to be replaced.
    renewing: bool,
}

impl World {
    fn new(bug: Option<Bug>) -> Self {
        let budget_records = BUDGET_RECORDS;
        let limits = EngineLimits { budget_records, bug, ..EngineLimits::default() };
        Self {
            engine: Engine::new(limits),
            now: Time::ZERO,
            owned: BTreeMap::new(),
            paused: BTreeSet::new(),
            tasks: BTreeMap::new(),
            waiting: None,
            committed: BTreeMap::new(),
            in_flight: None,
            at_hand: None,
            left_behind: None,
            all_committed: true,
            left: false,
            ending: false,
            renewing: false,
        }
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.engine.handle(self.now, event, &mut actions);
        self.act(actions);
    }

    fn tick(&mut self) {
        let mut actions = Vec::new();
        let wake = self.engine.tick(self.now, &mut actions);
        assert!(wake.is_none_or(|at| at >= self.now), "a wake in the past");
        let idle = actions.is_empty();
        assert!(!idle || wake.is_none_or(|at| at > self.now), "nothing to do, and it won't wait");
        self.act(actions);
        if std::mem::take(&mut self.renewing) {
            self.fetcher_replaced();
        }
        self.check_budget();
        self.check_pauses();
    }

    /// What is paused is neither fetched nor worked on, and the engine says so of it.
    fn check_pauses(&self) {
        for (partition, task) in &self.tasks {
            let paused = self.paused.contains(partition);
            assert!(!(paused && task.fetching), "{partition:?} is paused and fetched");
            if task.running && !task.draining {
                assert_eq!(task.paused, paused, "{partition:?} was told the wrong thing");
            }
        }
        for view in self.engine.partitions() {
            assert_eq!(view.paused, self.paused.contains(&view.partition));
        }
    }

    fn check_budget(&self) {
        let held: i64 = self.tasks.values().map(|task| task.buffered).sum();
        let bound = BUDGET_RECORDS + u64::from(PARTITIONS) * MAX_RUN_RECORDS.unsigned_abs();
        assert!(held.unsigned_abs() <= bound, "INV-4: {held} records are held");
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            self.act_on(action);
        }
    }

    fn act_on(&mut self, action: Action) {
        match action {
            Action::Acknowledge => self.acknowledged(),
            Action::Restore { partition, epoch, from } => {
                assert!(self.owned.contains_key(&partition), "restores what is not ours");
                assert!(!self.tasks.contains_key(&partition), "two tasks of one partition");
                let left = self.left_behind.take();
                let (astray, seek) = match from {
                    RestoreFrom::Committed => (None, None),
                    RestoreFrom::OutOfRange(at) => (Some(at.0), None),
                    RestoreFrom::Seek(to) => (None, Some(to.0)),
                };
                assert!(
                    left.is_none() || astray == left || seek.is_some(),
                    "a jump that nobody knows of"
                );
                if seek.is_some() {
                    assert!(self.all_committed, "a seek leaves work behind that is not committed");
                }
                let mut task = Task::restoring(epoch);
                task.astray = astray.is_some();
                task.seek = seek;
                task.done = astray.unwrap_or(0);
                self.tasks.insert(partition, task);
            }
            Action::StartFetch { partition, from } => {
                let task = self.tasks.get_mut(&partition).expect("INV-5: a fetch needs a task");
                assert!(!task.fetching, "a double start jumps (FACTS)");
                assert!(task.running && !task.draining, "INV-5: nothing starts unless running");
                assert!(!task.astray, "it fetches where nothing is");
                assert_eq!(from.0, task.done + task.buffered, "the fetch skips or repeats");
                assert!(!self.paused.contains(&partition), "a paused partition is fetched");
                task.fetching = true;
                task.position = from.0;
            }
            Action::StopFetch { partition } => {
                if let Some(task) = self.tasks.get_mut(&partition) {
                    assert!(task.fetching, "a stop of what does not run");
                    task.fetching = false;
                }
            }
            Action::Deliver { partition, skip_below } => {
                let (at, first, last) = self.at_hand.take().expect("a run is at hand");
                assert_eq!(at, partition);
                let task = self.tasks.get_mut(&partition).expect("a task takes the run");
                assert!(!task.paused, "a paused partition is given records");
                assert_eq!(skip_below.0, task.done + task.buffered, "the guard lets repeats pass");
                let (epoch, records) = (task.epoch, last + 1 - first);
                let fresh = (last + 1 - skip_below.0).clamp(0, records);
                task.buffered += fresh;
                let skipped = (records - fresh).unsigned_abs();
                if skipped > 0 {
                    self.tell(progressed(partition, epoch, skipped, false));
                }
            }
            Action::Seal { partition } => {
                if let Some(task) = self.tasks.get_mut(&partition) {
                    task.seals_asked += 1;
                }
            }
            Action::Drain { partition, .. } => {
                let task = self.tasks.get_mut(&partition).expect("a drain needs a task");
                assert!(!task.fetching, "INV-5: a drain begins with the fetch stopped");
                task.draining = true;
                task.buffered = 0; // what waits is dropped
            }
            Action::Pause { partition } | Action::Resume { partition } => {
                let task = self.tasks.get_mut(&partition).expect("a pause needs a task");
                assert!(task.running && !task.draining, "a pause of what does not run");
                task.paused = matches!(action, Action::Pause { .. });
                task.in_hand = task.paused && task.buffered > 0;
            }
            Action::Close { partition, epoch, closing } => self.closed(partition, epoch, closing),
            Action::Commit { id, items } => {
                assert!(self.in_flight.is_none(), "INV-6: two commits in flight");
                let mut sent = Vec::new();
                for item in items {
                    let task =
                        self.tasks.get(&item.partition).expect("INV-5: commits what is ours");
                    assert_eq!(task.epoch, item.epoch, "INV-7: of another assignment");
                    let passes = item.standing.is_ahead_of(&task.sealed);
                    assert!(!passes, "INV-1: a commit passes what is durable");
                    let floor = task.accepted.as_ref();
                    let goes_back = floor.is_some_and(|floor| floor.is_ahead_of(&item.standing));
                    assert!(!goes_back, "INV-6: a commit goes backwards");
                    sent.push((item.partition, item.epoch, item.standing));
                }
                self.in_flight = Some((id, sent));
            }
            Action::Leave => {
                assert!(self.ending && self.tasks.is_empty(), "INV-5: leaves with work undone");
                self.left = true;
            }
            Action::Cancel { .. }
            | Action::Committed { .. }
            | Action::AskEnd { .. }
            | Action::Silent { .. }
            | Action::Rejoin => {}
            Action::RenewFetcher => self.renewing = true,
        }
    }

    fn acknowledged(&mut self) {
        match self.waiting.take().expect("nothing waits for an acknowledgement") {
            Waiting::Assigned => {}
            Waiting::Taken(partitions) => {
                for partition in partitions {
                    self.owned.remove(&partition);
                    let task = self.tasks.get(&partition);
                    assert!(task.is_none(), "INV-5: released before its task was closed");
                }
            }
        }
    }

    fn closed(&mut self, partition: PartitionId, epoch: Epoch, closing: Closing) {
        let task = self.tasks.remove(&partition).expect("a close needs a task");
        assert_eq!(task.epoch, epoch);
        assert!(!task.fetching, "a partition is given up while it is fetched");
        let durable =
            task.accepted.as_ref().is_some_and(|accepted| !task.sealed.is_ahead_of(accepted));
        let sealed = task.sealed.offset() == Offset(task.done);
        self.all_committed = !task.running || durable && sealed;
        let leaves = closing == Closing::Reset && task.astray && !task.draining;
        self.left_behind = leaves.then(|| {
            assert_eq!(task.buffered, 0, "what was read is thrown away");
            let accepted = task.accepted.as_ref().map(Standing::offset);
            let all = !task.running || accepted == Some(Offset(task.done));
            assert!(all, "what was done is not committed");
            task.done
        });
        let accepted = task.accepted.as_ref();
        let is_open = accepted.is_none_or(|accepted| task.sealed.is_ahead_of(accepted));
        if closing == Closing::Released && task.draining && is_open {
            // Released with work uncommitted: only a deadline may do that.
            assert!(
                self.now > Time::ZERO + Duration::from_secs(5),
                "INV-5: no deadline has passed"
            );
        }
    }

    fn rebalance(&mut self, waiting: Waiting, event: Event) {
        self.waiting = Some(waiting);
        self.tell(event);
    }

    /// One thing happens; `what` and `size` choose.
    fn happen(&mut self, what: u8, pick: u32, size: u8) {
        let partition = PartitionId(pick % PARTITIONS);
        let size = i64::from(size);
        match what {
            0 | 1 if self.waiting.is_none() && !self.owned.contains_key(&partition) => {
                self.owned.insert(partition, ());
                self.rebalance(Waiting::Assigned, Event::Assigned { partitions: vec![partition] });
            }
            2 if self.waiting.is_none() => {
                let asked: Vec<_> =
                    self.owned.keys().copied().filter(|p| p.0 % 2 == pick % 2).collect();
                self.rebalance(Waiting::Taken(asked.clone()), Event::Revoked { partitions: asked });
            }
            3 if self.waiting.is_none() && size % 4 == 0 => {
                let taken: Vec<_> =
                    self.owned.keys().copied().filter(|p| p.0 >= pick % 4).collect();
                self.rebalance(Waiting::Taken(taken.clone()), Event::Lost { partitions: taken });
            }
            4 | 5 => self.restored(partition),
            6..=9 => self.fetched(partition, size),
            10..=12 => self.worked(partition, size),
            13 | 14 => self.sealed(partition),
            15 => self.drained(partition),
            16 | 17 => self.answered(size),
            18 => self.now = self.now + Duration::from_millis(size.unsigned_abs() * 40),
            19 => self.late(partition),
            23 => self.goes_astray(partition),
            24 => self.log_is_seen(partition, size),
            20 => self.tell(Event::FetchFailed { partition }),
            21 => {
                if let Some(task) = self.tasks.get(&partition) {
                    self.tell(Event::ProofWanted { partition, epoch: task.epoch });
                }
            }
            22 if size == 7 && !self.ending => {
                self.ending = true;
                let (cancel_at, release_at) = (self.now, self.now + Duration::from_secs(5));
                self.tell(Event::Shutdown { cancel_at, release_at });
            }
            29 => {
                let partitions = vec![partition];
                if self.paused.insert(partition) {
                    self.tell(Event::Paused { partitions });
                }
            }
            30 | 31 => self.resume(partition),
            32 => self.tell(Event::SeekWanted { partition, to: Offset(size * 7) }),
            25 if size % 8 == 0 => self.member_gone(),
            26 => {
                if let Some(task) = self.tasks.get(&partition) {
                    let epoch = task.epoch;
                    self.tell(Event::Preparing { partition, epoch, waits: size % 2 == 0 });
                }
            }
            27 => self.fetcher_replaced(),
            28 => {
                if let Some(task) = self.tasks.get(&partition).filter(|task| task.running) {
                    let end = Offset(task.position + size);
                    self.tell(Event::End { partition, end });
                }
            }
            _ => {}
        }
        self.tick();
    }

    fn resume(&mut self, partition: PartitionId) {
        if self.paused.remove(&partition) {
            self.tell(Event::Resumed { partitions: vec![partition] });
        }
    }

    /// The member's client is gone, with all it had and all it was asked.
    fn member_gone(&mut self) {
        (self.waiting, self.in_flight) = (None, None);
        self.owned.clear();
        self.tell(Event::MemberGone);
        assert!(self.tasks.is_empty(), "INV-5: a task outlives the membership");
    }

    /// The new client has nothing started.
    fn fetcher_replaced(&mut self) {
        for task in self.tasks.values_mut() {
            task.fetching = false;
        }
        self.tell(Event::FetcherReplaced);
    }

    fn restored(&mut self, partition: PartitionId) {
        // One member, one coordinator, one connection: a commit that was sent before the question
        // for the committed offset is settled before its answer.
        if self.in_flight.as_ref().is_some_and(|(_, items)| items.iter().any(|i| i.0 == partition))
        {
            self.answered(3);
        }
        let committed = self.committed.get(&partition).cloned();
        let Some(task) = self.tasks.get_mut(&partition).filter(|task| !task.running) else {
            return;
        };
        // Out of range: the log goes on anywhere, before or behind what is committed.
        let jumped = task.seek.unwrap_or_else(|| (task.epoch.0 * 37 % 200).cast_signed());
        let astray = task.astray || task.seek.take().is_some();
        let committed = committed.filter(|_| !astray);
        let base = committed.as_ref().map_or(0, |committed| committed.offset().0);
        let position = if astray { jumped } else { base };
        (task.running, task.astray) = (true, false);
        let start = Standing::at(Offset(position));
        task.sealed = committed.clone().unwrap_or(start);
        // What was done above a commit is done.
        let highest = committed.as_ref().and_then(|committed| committed.done.highest());
        let above = highest.map_or(0, |highest| highest.0 - position);
        (task.done, task.above, task.accepted) = (position, above, committed.clone());
        let epoch = task.epoch;
        self.tell(Event::Restored { partition, epoch, position: Offset(position), committed });
    }

    fn fetched(&mut self, partition: PartitionId, size: i64) {
        let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.fetching) else {
            return;
        };
        let records = size % MAX_RUN_RECORDS + 1;
        // Now and then the client delivers some records twice (FACTS: position guard).
        let (first, last) = (task.position, task.position + records - 1);
        task.position = if size % 11 == 0 { first } else { last + 1 };
        self.at_hand = Some((partition, first, last));
        let run = RunInfo {
            first: Offset(first),
            last: Offset(last),
            records: records.unsigned_abs(),
            bytes: records.unsigned_abs(),
        };
        self.tell(Event::Fetched { partition, run });
        self.at_hand = None;
    }

    fn worked(&mut self, partition: PartitionId, size: i64) {
        let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.buffered > 0) else {
            return;
        };
        // Paused: what ran when the word came finishes, and nothing else starts.
        if task.paused && !std::mem::take(&mut task.in_hand) {
            return;
        }
        let records = if task.paused { 1 } else { (size % task.buffered) + 1 };
        task.buffered -= records;
        task.done += records;
        task.above = 0;
        let epoch = task.epoch;
        self.tell(progressed(partition, epoch, records.unsigned_abs(), true));
    }

    fn sealed(&mut self, partition: PartitionId) {
        let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.seals_asked > 0) else {
            return;
        };
        task.seals_asked -= 1;
        let (epoch, standing) = (task.epoch, task.seal());
        self.tell(Event::Sealed { partition, epoch, standing });
    }

    fn drained(&mut self, partition: PartitionId) {
        let Some(task) = self.tasks.get_mut(&partition).filter(|task| task.draining) else {
            return;
        };
        let (epoch, standing) = (task.epoch, task.seal());
        self.tell(Event::Sealed { partition, epoch, standing });
        self.tell(Event::Drained { partition, epoch });
    }

    fn answered(&mut self, size: i64) {
        let Some((id, items)) = self.in_flight.take() else {
            return;
        };
        let status = match size % 8 {
            0 => CommitStatus::Retry,
            1 => CommitStatus::Unknown,
            2 if size % 5 == 0 => CommitStatus::MemberLost,
            _ => CommitStatus::Accepted,
        };
        let mut statuses = Vec::new();
        for (partition, epoch, standing) in items {
            if status == CommitStatus::Accepted {
                self.committed.insert(partition, standing.clone());
                if let Some(task) = self.tasks.get_mut(&partition).filter(|t| t.epoch == epoch) {
                    task.accepted = Some(standing);
                }
            }
            statuses.push((partition, status));
        }
        self.tell(Event::CommitAnswered { id, statuses });
    }

    /// The log no longer holds what comes next, or is another one.
    fn goes_astray(&mut self, partition: PartitionId) {
        if let Some(task) = self.tasks.get_mut(&partition).filter(|t| t.running && !t.draining) {
            task.astray = true;
        }
        self.tell(Event::OutOfRange { partition });
    }

    /// The log is looked at: now and then it does not hold what comes next, for a moment only,
    /// since something comes before it is looked at again.
    fn log_is_seen(&mut self, partition: PartitionId, size: i64) {
        let Some(task) = self.tasks.get(&partition).filter(|task| !task.astray) else {
            return;
        };
        let (epoch, next) = (task.epoch, task.done + task.buffered);
        for (low, end) in [(0, next - size % 5), (0, next), (next + size % 5, next + 9)] {
            let log = LogRange { low: Offset(low), end: Offset(end) };
            self.tell(Event::LogSeen { partition, epoch, log });
            self.fetched(partition, size);
            self.tick();
            if self.tasks.get(&partition).is_none_or(|t| t.done + t.buffered != next) {
                return;
            }
        }
    }

    /// INV-7: an answer of an assignment that is over changes nothing.
    fn late(&mut self, partition: PartitionId) {
        let current = self.tasks.get(&partition).map_or(99, |task| task.epoch.0);
        let epoch = Epoch(current.wrapping_sub(1));
        let offset = Offset(1_000_000);
        let before = format!("{:?}", self.engine);
        let standing = Standing::at(offset);
        self.tell(Event::Sealed { partition, epoch, standing });
        self.tell(Event::Drained { partition, epoch });
        self.tell(Event::Restored { partition, epoch, position: offset, committed: None });
        self.tell(progressed(partition, epoch, 1_000, true));
        let log = LogRange { low: offset, end: offset };
        self.tell(Event::LogSeen { partition, epoch, log });
        assert_eq!(before, format!("{:?}", self.engine), "INV-7: a late answer counted");
    }

    /// Nothing disturbs any more: everything must come to its end.
    fn settle(&mut self) {
        for _ in 0..400 {
            self.now = self.now + Duration::from_millis(300);
            for pick in 0..PARTITIONS {
                let partition = PartitionId(pick);
                self.restored(partition);
                self.worked(partition, i64::MAX - 1);
                self.sealed(partition);
                self.drained(partition);
            }
            self.answered(3);
            self.tick();
        }
    }

    /// Nothing is stuck, but for what is paused.
    fn rest(&self, paused: &BTreeSet<PartitionId>) {
        assert!(self.waiting.is_none(), "an event is never acknowledged");
        for (partition, task) in &self.tasks {
            let fetching = !paused.contains(partition);
            assert!(task.running && task.fetching == fetching, "{partition:?} is stuck: {task:?}");
            let committed = self.committed.get(partition).map(Standing::offset);
            assert_eq!(committed, Some(Offset(task.done)), "uncommitted work");
        }
        assert!(!self.ending || self.left, "the group is never left");
    }
}

impl Task {
    /// Each time a little more is done behind the first open record.
    fn seal(&mut self) -> Standing {
        self.above = (self.above + 1).min(self.buffered - 1).max(self.above);
        self.sealed = Standing::at(Offset(self.done));
        self.sealed.done.push(Offset(self.done + 1), Offset(self.done + self.above));
        self.sealed.clone()
    }

    fn restoring(epoch: Epoch) -> Self {
        Self {
            epoch,
            running: false,
            fetching: false,
            position: 0,
            buffered: 0,
            done: 0,
            sealed: Standing::at(Offset(0)),
            above: 0,
            seals_asked: 0,
            draining: false,
            paused: false,
            in_hand: false,
            accepted: None,
            astray: false,
            seek: None,
        }
    }
}

fn progressed(partition: PartitionId, epoch: Epoch, records: u64, dirty: bool) -> Event {
    Event::Progressed { partition, epoch, records, bytes: records, dirty }
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 1024, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// INV-4, INV-5, INV-6, INV-7, INV-15 over random histories; and at the end nothing is stuck: every
    /// event is acknowledged, everything done is committed, every partition fetches. What an
    /// operator pauses is neither fetched nor given records, is handed over all the same, and
    /// goes on where it stood.
    #[test]
    fn inv_4_5_6_7_and_15_hold_whatever_happens(
        history in proptest::collection::vec((0u8..33, any::<u32>(), any::<u8>()), 0..300),
    ) {
        live(None, history);
    }
}

/// One history from its beginning to its rest: with what is paused left so, then resumed.
fn live(bug: Option<Bug>, history: impl IntoIterator<Item = (u8, u32, u8)>) {
    let mut world = World::new(bug);
    for (what, pick, size) in history {
        world.happen(what, pick, size);
    }
    world.settle();
    world.rest(&world.paused);
    for partition in std::mem::take(&mut world.paused) {
        world.tell(Event::Resumed { partitions: vec![partition] });
    }
    world.settle();
    world.rest(&BTreeSet::new());
}

/// The histories can tell: each of these breaks a promise that they hold the engine to.
#[cfg(feature = "planted-bugs")]
#[test]
fn each_bug_planted_into_the_engine_is_found() {
    let bugs = [
        Bug::ReleaseBeforeDrain,
        Bug::IgnoreLost,
        Bug::CommitBackwards,
        Bug::CommitLost,
        Bug::NeverResume,
        Bug::AnyEpoch,
        Bug::PauseForgotten,
        Bug::CommitsOvertake,
        Bug::ReleaseBeforeCommit,
        Bug::AcknowledgeFirst,
        Bug::SeekWithoutDrain,
    ];
    for bug in bugs {
        let found = (1..2_000u64).any(|seed| {
            let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut next = move || {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random.to_le_bytes()
            };
            let history: Vec<_> = (0..200)
                .map(|_| {
                    let bytes = next();
                    let pick = u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
                    (bytes[0] % 33, pick, bytes[5])
                })
                .collect();
            std::panic::catch_unwind(|| live(Some(bug), history)).is_err()
        });
        assert!(found, "{} is not found", bug.name());
    }
}

/// A partition that has handled 100 records and committed 40 of them; its fetch runs.
fn in_the_middle() -> World {
    let mut world = World::new(None);
    let partition = PartitionId(0);
    world.owned.insert(partition, ());
    world.rebalance(Waiting::Assigned, Event::Assigned { partitions: vec![partition] });
    world.restored(partition);
    for _ in 0..4 {
        world.fetched(partition, 24);
    }
    world.worked(partition, 39);
    world.now = world.now + Duration::from_secs(2);
    world.tick();
    world.sealed(partition);
    for _ in 0..2 {
        world.answered(3); // the start, then what is done
        world.tick();
    }
    world
}

#[test]
fn what_was_read_before_the_log_lost_its_place_is_finished_first() {
    let partition = PartitionId(0);
    let mut world = in_the_middle();
    assert_eq!(
        (world.tasks[&partition].done, world.committed[&partition].offset()),
        (40, Offset(40))
    );
    world.goes_astray(partition);
    world.now = world.now + Duration::from_secs(60);
    world.tick();
    assert_eq!(world.tasks[&partition].epoch, Epoch(1), "60 records wait: they are not dropped");
    world.settle();
    let task = &world.tasks[&partition];
    assert_eq!(task.epoch, Epoch(2), "a commit may go backwards only in another assignment");
    assert!(task.fetching && task.done == 74, "{task:?}"); // where the world lets it go on
    assert_eq!(world.committed[&partition].offset(), Offset(74), "the new start is committed");
}

/// A log that ends before the position and does not say so: asked for once, it may be a leader
/// that lags behind; twice, and nothing came in between, it has lost records.
#[test]
fn a_log_that_ends_before_the_position_twice_is_out_of_range() {
    let (partition, epoch) = (PartitionId(0), Epoch(1));
    let silent = EngineLimits::default().silent_after;
    let log = |end| LogRange { low: Offset(0), end: Offset(end) };
    let mut engine = Engine::new(EngineLimits::default());
    let mut out = Vec::new();
    let mut now = Time::ZERO;
    engine.handle(now, Event::Assigned { partitions: vec![partition] }, &mut out);
    let (position, committed) = (Offset(100), Some(Standing::at(Offset(100))));
    engine.handle(now, Event::Restored { partition, epoch, position, committed }, &mut out);
    let mut look = |engine: &mut Engine, end| {
        now = now + silent;
        out.clear();
        engine.tick(now, &mut out);
        assert!(out.contains(&Action::AskEnd { partition }), "{out:?}");
        out.clear();
        engine.handle(now, Event::LogSeen { partition, epoch, log: log(end) }, &mut out);
        engine.tick(now, &mut out);
        out.clone()
    };
    let anew =
        [Action::StopFetch { partition }, Action::StartFetch { partition, from: Offset(100) }];
    assert_eq!(look(&mut engine, 80), anew, "Kafka is made to say what it thinks of the position");
    assert_eq!(look(&mut engine, 100), [], "it was only late");
    assert_eq!(look(&mut engine, 80), anew);
    let reset = look(&mut engine, 80);
    let from = RestoreFrom::OutOfRange(Offset(100));
    let restore = Action::Restore { partition, epoch: Epoch(2), from };
    assert_eq!((&reset[0], reset.last()), (&Action::StopFetch { partition }, Some(&restore)));
}

/// The task that is to find out where to go on gives no sign of life: the next one must know.
#[test]
fn a_lost_position_is_not_forgotten_when_its_partition_is_begun_anew() {
    let partition = PartitionId(0);
    let mut world = in_the_middle();
    world.goes_astray(partition);
    let mut seen = Vec::new();
    for _ in 0..400 {
        world.now = world.now + Duration::from_secs(1);
        let mut actions = Vec::new();
        let _wake = world.engine.tick(world.now, &mut actions);
        seen.extend(actions.iter().filter_map(|action| match action {
            Action::Restore { from, .. } => Some(*from),
            _ => None,
        }));
        world.act(actions);
        world.worked(partition, i64::MAX - 1);
        world.sealed(partition);
        world.answered(3);
    }
    assert_eq!(seen, [RestoreFrom::OutOfRange(Offset(100)); 3]);
}
