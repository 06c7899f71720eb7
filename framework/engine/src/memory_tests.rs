//! INV-4, held against random workloads: a client that fetches ahead, tasks that are slow, stuck,
//! or tell late what they hold, deliveries and commits that take their time.
//!
//! No run is larger here than the first, which comes alone, and effects are of one size: so nothing
//! surprises, and nothing may ever come to more than the budget.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use crate::standing::Standing;
use crate::{
    Action, Bug, CommitStatus, Engine, EngineLimits, Epoch, Event, HeldEffects, Offset,
    PartitionId, RunInfo, Time,
};

/// Sizes of a workload.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    partitions: u32,
    budget: u64,
    run: u64,
    /// Records in a run.
    records: i64,
    outputs: u64,
    writes: u64,
    bug: Option<Bug>,
}

impl Sizes {
    fn effects(self) -> u64 {
        self.outputs + self.writes
    }

    /// A run and its effects, as far as they are expected, and a little.
    fn room(self) -> u64 {
        (self.run + self.effects().max(2 * self.run)) * 9 / 8
    }

    /// Is there room for that in every partition at once?
    fn fit_all(self) -> bool {
        u64::from(self.partitions) * self.room() <= self.budget
    }
}

/// A partition's task and what the client has of the partition.
#[derive(Debug, Default)]
struct Task {
    fetching: bool,
    /// What the client asks for next.
    position: i64,
    /// The next offset that may be handed over.
    expected: i64,
    /// Records left of each run at hand, and its bytes.
    runs: VecDeque<(i64, u64)>,
    outputs: u64,
    unsealed: u64,
    sealed: u64,
    done: i64,
    seal_wanted: bool,
    stuck: bool,
    /// It has no records.
    quiet: bool,
    /// The round in which it finished a record last.
    moved: u64,
}

type Fetched = (PartitionId, i64, u64);

#[derive(Debug)]
struct World {
    sizes: Sizes,
    engine: Engine,
    now: Time,
    tasks: BTreeMap<PartitionId, Task>,
    /// What the client has fetched, in order: partition, first offset, bytes.
    queue: VecDeque<Fetched>,
    at_hand: Option<Fetched>,
    commit: Option<(u64, Vec<PartitionId>)>,
    random: u64,
    round: u64,
}

const EPOCH: Epoch = Epoch(1);

impl World {
    fn new(sizes: Sizes, seed: u64) -> Self {
        let limits = EngineLimits {
            budget_bytes: sizes.budget,
            budget_records: 1_000_000,
            bug: sizes.bug,
            ..EngineLimits::default()
        };
        let mut world = Self {
            sizes,
            engine: Engine::new(limits),
            now: Time::ZERO,
            tasks: BTreeMap::new(),
            queue: VecDeque::new(),
            at_hand: None,
            commit: None,
            random: seed | 1,
            round: 0,
        };
        let all: Vec<_> = (0..sizes.partitions).map(PartitionId).collect();
        world.tell(Event::Assigned { partitions: all.clone() });
        for partition in all {
            world.tasks.insert(partition, Task::default());
            let (position, committed) = (Offset(0), Some(Standing::at(Offset(0))));
            world.tell(Event::Restored { partition, epoch: EPOCH, position, committed });
        }
        world.tick();
        world
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    fn tell(&mut self, event: Event) {
        let mut actions = Vec::new();
        self.engine.handle(self.now, event, &mut actions);
        self.act(actions);
    }

    fn tick(&mut self) {
        let mut actions = Vec::new();
        self.engine.tick(self.now, &mut actions);
        self.act(actions);
        self.check();
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::StartFetch { partition, from } => {
                    let task = self.tasks.get_mut(&partition).expect("a task");
                    assert_eq!(from.0, task.expected, "the fetch skips or repeats");
                    (task.fetching, task.position) = (true, from.0);
                }
                Action::StopFetch { partition } => {
                    self.tasks.get_mut(&partition).expect("a task").fetching = false;
                    self.queue.retain(|(queued, ..)| *queued != partition);
                }
                Action::Deliver { partition, skip_below } => {
                    let (at, first, bytes) = self.at_hand.take().expect("a run is at hand");
                    let task = self.tasks.get_mut(&partition).expect("a task");
                    assert_eq!((at, first), (partition, task.expected), "a gap, or a repeat");
                    assert_eq!(skip_below.0, task.expected);
                    task.expected += self.sizes.records;
                    task.runs.push_back((self.sizes.records, bytes));
                }
                Action::Seal { partition } => {
                    self.tasks.get_mut(&partition).expect("a task").seal_wanted = true;
                }
                Action::Commit { id, items } => {
                    let of = items.iter().map(|item| item.partition).collect();
                    self.commit = Some((id, of));
                }
                Action::Committed { partition, .. } => {
                    self.tasks.get_mut(&partition).expect("a task").sealed = 0;
                }
                _ => {}
            }
        }
    }

    /// What is really held, told or not.
    fn held(&self) -> u64 {
        let held = |task: &Task| {
            let runs: u64 = task.runs.iter().map(|(_, bytes)| bytes).sum();
            runs + task.outputs + task.unsealed + task.sealed
        };
        self.tasks.values().map(held).sum()
    }

    fn check(&self) {
        let bound = self.sizes.budget.max(self.sizes.room());
        let held = self.held();
        assert!(held <= bound, "INV-4: {held} of {bound} bytes are held: {:?}", self.sizes);
    }

    fn tell_effects(&mut self, partition: PartitionId) {
        let largest = self.sizes.effects();
        let task = &self.tasks[&partition];
        let (stores, unsealed) = (task.unsealed + task.sealed, task.unsealed);
        let effects = HeldEffects { outputs: task.outputs, stores, unsealed, largest };
        self.tell(Event::Holds { partition, epoch: EPOCH, effects });
    }

    /// Everybody gets a turn; what a turn does is up to chance.
    fn round(&mut self) {
        self.round += 1;
        self.now = self.now + Duration::from_millis(self.below(40));
        self.tell_ends();
        self.client_fetches();
        self.poll();
        self.tick();
        let start_below = self.engine.start_below();
        let all: Vec<_> = self.tasks.keys().copied().collect();
        for partition in all {
            self.work(partition, start_below);
            self.deliver_and_seal(partition);
        }
        if self.below(3) > 0
            && let Some((id, of)) = self.commit.take()
        {
            let statuses = of.iter().map(|p| (*p, CommitStatus::Accepted)).collect();
            self.tell(Event::CommitAnswered { id, statuses });
            for partition in of {
                self.tell_effects(partition);
            }
        }
        self.tick();
    }

    /// Where the logs end, as somebody thinks: right of the quiet, sometimes long ago of others.
    fn tell_ends(&mut self) {
        let all: Vec<_> = self.tasks.iter().map(|(id, t)| (*id, t.quiet, t.expected)).collect();
        for (partition, quiet, expected) in all {
            if (quiet && self.round > 50) || self.below(10) == 0 {
                self.tell(Event::End { partition, end: Offset(expected) });
            }
        }
    }

    fn client_fetches(&mut self) {
        let start = self.below(self.sizes.partitions.into());
        let all: Vec<_> = self.tasks.keys().copied().collect();
        for at in 0..all.len() {
            let partition = all[(at + usize::try_from(start).unwrap_or(0)) % all.len()];
            let more = self.below(4);
            let part = 1 + self.below(4);
            let learned = self.tasks.values().any(|task| task.expected > 0);
            let bytes = if learned { (self.sizes.run / part).max(1) } else { self.sizes.run };
            let task = self.tasks.get_mut(&partition).expect("a task");
            for _ in 0..more {
                if task.fetching && !task.quiet {
                    self.queue.push_back((partition, task.position, bytes));
                    task.position += self.sizes.records;
                }
            }
        }
    }

    /// What is taken out of the client at once is told one by one: a stop comes too late for it.
    fn poll(&mut self) {
        let learned = self.tasks.values().any(|task| task.expected > 0);
        let many = if learned { self.below(20) } else { 1 };
        let many = usize::try_from(many).unwrap_or(0).min(self.queue.len());
        let taken: Vec<_> = self.queue.drain(..many).collect();
        for (partition, first, bytes) in taken {
            self.at_hand = Some((partition, first, bytes));
            let records = self.sizes.records;
            let run = RunInfo {
                first: Offset(first),
                last: Offset(first + records - 1),
                records: records.unsigned_abs(),
                bytes,
            };
            self.tell(Event::Fetched { partition, run });
            self.at_hand = None;
        }
    }

    /// At most one record, as a desk does it.
    fn work(&mut self, partition: PartitionId, start_below: u64) {
        let idle = self.below(3) == 0;
        let (sizes, round) = (self.sizes, self.round);
        let task = self.tasks.get_mut(&partition).expect("a task");
        let runs: u64 = task.runs.iter().map(|(_, bytes)| bytes).sum();
        let effects = task.outputs + task.unsealed + task.sealed;
        let may = effects == 0 || runs + effects <= start_below;
        let Some((left, run)) = task.runs.front_mut().filter(|_| may && !idle && !task.stuck)
        else {
            return;
        };
        *left -= 1;
        let (freed, run) = (*left == 0, *run);
        if freed {
            task.runs.pop_front();
        }
        task.done += 1;
        task.moved = round;
        task.outputs += sizes.outputs;
        task.unsealed += sizes.writes;
        // What was gained is told before what was freed; without anything freed, later.
        if freed || self.below(2) == 0 {
            self.tell_effects(partition);
        }
        let bytes = if freed { run } else { 0 };
        let (epoch, records, dirty) = (EPOCH, 1, true);
        self.tell(Event::Progressed { partition, epoch, records, bytes, dirty });
    }

    fn deliver_and_seal(&mut self, partition: PartitionId) {
        let delivers = self.below(3) > 0;
        let task = self.tasks.get_mut(&partition).expect("a task");
        if delivers {
            task.outputs = 0;
        }
        let seals = task.seal_wanted && delivers;
        if seals {
            task.seal_wanted = false;
            task.sealed += std::mem::take(&mut task.unsealed);
        }
        let standing = Standing::at(Offset(task.done));
        self.tell_effects(partition);
        if seals {
            self.tell(Event::Sealed { partition, epoch: EPOCH, standing });
        }
    }
}

/// Lives through some rounds; in the end everybody who is not stuck has moved of late.
fn live(sizes: Sizes, stuck: u32, quiet: u32, seed: u64, rounds: u64) {
    let mut world = World::new(sizes, seed);
    // Of partitions that never finish anything all others are independent, as long as there is
    // room for all.
    let stuck = if sizes.fit_all() { stuck.min(sizes.partitions - 1) } else { 0 };
    for (partition, task) in &mut world.tasks {
        task.stuck = partition.0 < stuck;
        task.quiet = sizes.partitions - partition.0 <= quiet;
    }
    for _ in 0..rounds {
        world.round();
    }
    // In the worst case they take turns one at a time, each some rounds long: a quiet one keeps its
    // turn for half a second, about 25 rounds. Where all are taken for being at the end of their logs,
    // the place is for whom the client has something first: chance may be against one a few times.
    let patience = 400 + 100 * u64::from(sizes.partitions);
    for (partition, task) in &world.tasks {
        let moved = task.stuck || task.quiet || world.round - task.moved <= patience;
        assert!(moved, "INV-4: {partition:?} starves: {task:?} of {sizes:?}");
    }
}

fn sizes() -> impl Strategy<Value = Sizes> {
    (1u32..14, 1_000u64..20_000, 1u64..1_500, 1i64..4, 0u64..1_000, 0u64..1_000).prop_map(
        |(partitions, budget, run, records, outputs, writes)| {
            // Before it has learned better, the engine expects twice a run.
            let most = 2 * run;
            let outputs = outputs.min(most / 2);
            let writes = writes.min(most / 2);
            Sizes { partitions, budget, run, records, outputs, writes, bug: None }
        },
    )
}

fn cases() -> ProptestConfig {
    ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases())]

    /// What is held never comes to more than the budget (or one run and its effects, where that is
    /// more), whatever is slow, and nobody starves.
    #[test]
    fn inv_4_everything_held_fits_the_budget_and_nobody_starves(
        sizes in sizes(),
        stuck in 0u32..5,
        quiet in 0u32..5,
        seed in any::<u64>(),
    ) {
        live(sizes, stuck, quiet, seed, 2_000);
    }
}

#[test]
fn inv_4_sixty_four_partitions_of_large_records_take_turns() {
    let (run, outputs, writes) = (1_000_000, 1_800_000, 200_000);
    let budget = 92 * 1024 * 1024;
    let sizes = Sizes { partitions: 64, budget, run, records: 1, outputs, writes, bug: None };
    assert!(!sizes.fit_all(), "there is not enough for all at once");
    live(sizes, 0, 10, 7, 3_000);
}

/// Those that have reached the end of their logs need no place: it is for the one that has not.
#[test]
fn a_busy_partition_waits_for_no_quiet_one() {
    let (budget, run) = (10_000, 1_000);
    let (outputs, writes) = (1_000, 500);
    let sizes = Sizes { partitions: 30, budget, run, records: 1, outputs, writes, bug: None };
    let mut world = World::new(sizes, 7);
    for (partition, task) in &mut world.tasks {
        task.quiet = partition.0 > 0;
    }
    for _ in 0..1_000 {
        world.round();
    }
    let done = world.tasks[&PartitionId(0)].done;
    assert!(done > 40, "{done} records in 1,000 rounds");
}

/// The workloads can tell.
#[cfg(feature = "planted-bugs")]
#[test]
fn a_budget_that_is_ignored_is_found() {
    let sizes = Sizes {
        partitions: 8,
        budget: 10_000,
        run: 1_000,
        records: 1,
        outputs: 500,
        writes: 100,
        bug: Some(Bug::IgnoreBudget),
    };
    assert!(std::panic::catch_unwind(|| live(sizes, 0, 0, 7, 1_000)).is_err());
    let bug = Some(Bug::NeverResume);
    assert!(std::panic::catch_unwind(|| live(Sizes { bug, ..sizes }, 0, 0, 7, 2_000)).is_err());
}
