//! At which moment, and at which byte, does the engine do what it must? One rule, one test.

mod commits;
mod drains;
mod fetches;
mod turns;
mod wakes;
mod watchdogs;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::standing::Standing;
use crate::{
    Action, Closing, CommitStatus, Engine, EngineLimits, Epoch, Event, HeldEffects, Offset,
    PartitionId, RunInfo, Time,
};

const PARTITION: PartitionId = PartitionId(0);
const EPOCH: Epoch = Epoch(1);
const NANO: Duration = Duration::from_nanos(1);

struct Worker {
    engine: Engine,
    now: Time,
    /// When the engine wants to be called again at the latest.
    wake: Option<Time>,
    /// What is fetched.
    fetching: BTreeSet<PartitionId>,
}

impl Worker {
    fn new(limits: EngineLimits) -> Self {
        let (now, wake, fetching) = (Time::ZERO, None, BTreeSet::new());
        Self { engine: Engine::new(limits), now, wake, fetching }
    }

    /// Partition 0 runs from offset 3 on, which is committed.
    fn running(limits: EngineLimits) -> Self {
        Self::running_many(limits, 1)
    }

    /// So many partitions run from offset 3 on, which is committed.
    fn running_many(limits: EngineLimits, partitions: u32) -> Self {
        let mut worker = Self::new(limits);
        let partitions: Vec<_> = (0..partitions).map(PartitionId).collect();
        worker.tell(Event::Assigned { partitions: partitions.clone() });
        for partition in partitions {
            worker.restored(partition);
        }
        worker.tick();
        worker
    }

    fn restored(&mut self, partition: PartitionId) {
        let (position, committed) = (Offset(3), Some(Standing::at(Offset(3))));
        self.tell(Event::Restored { partition, epoch: EPOCH, position, committed });
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.engine.handle(self.now, event, &mut actions);
        self.saw(&actions);
        actions
    }

    fn tick(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.wake = self.engine.tick(self.now, &mut actions);
        self.saw(&actions);
        actions
    }

    fn saw(&mut self, actions: &[Action]) {
        for action in actions {
            match action {
                Action::StartFetch { partition, .. } => {
                    assert!(self.fetching.insert(*partition), "a double start jumps");
                }
                Action::StopFetch { partition } => {
                    assert!(self.fetching.remove(partition), "a stop of what does not run");
                }
                _ => {}
            }
        }
    }

    fn tick_at(&mut self, now: Time) -> Vec<Action> {
        self.now = now;
        self.tick()
    }

    fn works(&mut self) {
        let (partition, epoch) = (PARTITION, EPOCH);
        self.tell(Event::Progressed { partition, epoch, records: 0, bytes: 0, dirty: true });
    }

    fn sealed(&mut self, offset: i64) -> Vec<Action> {
        let (partition, epoch, standing) = (PARTITION, EPOCH, Standing::at(Offset(offset)));
        self.tell(Event::Sealed { partition, epoch, standing })
    }

    fn holds(&mut self, outputs: u64, unsealed: u64) {
        let effects = HeldEffects { outputs, stores: unsealed, unsealed, largest: 0 };
        self.tell(Event::Holds { partition: PARTITION, epoch: EPOCH, effects });
    }

    /// A run of one record, which is the next expected one, has arrived. Is it delivered?
    fn fetched(&mut self, partition: PartitionId, bytes: u64) -> Vec<Action> {
        let mut views = self.engine.partitions();
        let view = views.find(|view| view.partition == partition);
        let at = view.and_then(|view| view.position).expect("it runs");
        drop(views);
        let run = RunInfo { first: at, last: at, records: 1, bytes };
        self.tell(Event::Fetched { partition, run })
    }

    /// Its task is through with one record.
    fn freed(&mut self, partition: PartitionId, records: u64, bytes: u64) {
        let (epoch, dirty) = (EPOCH, false);
        self.tell(Event::Progressed { partition, epoch, records, bytes, dirty });
    }

    fn end_is(&mut self, partition: PartitionId, end: i64) {
        self.tell(Event::End { partition, end: Offset(end) });
    }

    fn answer(&mut self, id: u64, of: PartitionId, status: CommitStatus) -> Vec<Action> {
        self.tell(Event::CommitAnswered { id, statuses: vec![(of, status)] })
    }
}

fn limits() -> EngineLimits {
    EngineLimits { budget_bytes: 1_000, effects: false, ..EngineLimits::default() }
}

fn seals(actions: &[Action]) -> bool {
    actions.contains(&Action::Seal { partition: PARTITION })
}

fn commit(actions: &[Action]) -> Option<u64> {
    actions.iter().find_map(|action| match action {
        Action::Commit { id, .. } => Some(*id),
        _ => None,
    })
}

fn delivered(actions: &[Action]) -> bool {
    actions.iter().any(|action| matches!(action, Action::Deliver { .. }))
}

fn seconds(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

fn closed(closing: Closing) -> Action {
    Action::Close { partition: PARTITION, epoch: EPOCH, closing }
}
