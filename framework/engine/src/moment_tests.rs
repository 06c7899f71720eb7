//! At which moment, and at which byte, does the engine do what it must? One rule, one test.

use std::time::Duration;

use crate::{
    Action, Closing, CommitStatus, Engine, EngineLimits, Epoch, Event, HeldEffects, Offset,
    PartitionId, Time,
};

const PARTITION: PartitionId = PartitionId(0);
const EPOCH: Epoch = Epoch(1);
const NANO: Duration = Duration::from_nanos(1);

struct Worker {
    engine: Engine,
    now: Time,
}

impl Worker {
    /// Partition 0 runs from offset 3 on, which is committed.
    fn running(limits: EngineLimits) -> Self {
        let mut worker = Self { engine: Engine::new(limits), now: Time::ZERO };
        worker.tell(Event::Assigned { partitions: vec![PARTITION] });
        worker.restored(PARTITION);
        worker.tick();
        worker
    }

    fn restored(&mut self, partition: PartitionId) {
        let (position, committed) = (Offset(3), Some(Offset(3)));
        self.tell(Event::Restored { partition, epoch: EPOCH, position, committed });
    }

    fn tell(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.engine.handle(self.now, event, &mut actions);
        actions
    }

    fn tick(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        self.engine.tick(self.now, &mut actions);
        actions
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
        let (partition, epoch, offset) = (PARTITION, EPOCH, Offset(offset));
        self.tell(Event::Sealed { partition, epoch, offset })
    }

    fn holds(&mut self, outputs: u64, unsealed: u64) {
        let effects = HeldEffects { outputs, stores: unsealed, unsealed, largest: 0 };
        self.tell(Event::Holds { partition: PARTITION, epoch: EPOCH, effects });
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

fn closed(closing: Closing) -> Action {
    Action::Close { partition: PARTITION, epoch: EPOCH, closing }
}

#[test]
fn what_is_dirty_is_sealed_at_its_interval_once_and_what_is_clean_never() {
    let mut worker = Worker::running(limits());
    let interval = limits().commit_interval;
    worker.works();
    assert!(!seals(&worker.tick_at(Time::ZERO + interval - NANO)));
    assert!(seals(&worker.tick_at(Time::ZERO + interval)));
    worker.works();
    assert!(!seals(&worker.tick_at(Time::ZERO + interval * 2)), "the first is not answered");
    worker.sealed(4);
    assert!(seals(&worker.tick_at(Time::ZERO + interval * 3)));
    worker.sealed(5);
    assert!(!seals(&worker.tick_at(Time::ZERO + interval * 4)), "nothing is dirty");
}

/// 1,000 bytes of room: more than half of it, some of it writes, must not wait for its interval.
#[test]
fn writes_are_sealed_at_once_only_if_they_help_to_make_room() {
    for (outputs, unsealed, pressed) in
        [(0, 500, false), (0, 501, true), (400, 101, true), (501, 0, false), (900, 1, true)]
    {
        let mut worker = Worker::running(limits());
        worker.holds(outputs, unsealed);
        assert_eq!(seals(&worker.tick()), pressed, "{outputs} and {unsealed} bytes");
        assert!(!seals(&worker.tick()), "asked for twice");
    }
}

/// One record's effects fill most of the room: the next one's must find a place.
#[test]
fn large_effects_are_sealed_before_half_of_the_room_is_full() {
    for (held, pressed) in [(300, false), (301, true)] {
        let mut worker = Worker::running(limits());
        let effects = HeldEffects { largest: 700, ..HeldEffects::default() };
        worker.tell(Event::Holds { partition: PARTITION, epoch: EPOCH, effects });
        worker.holds(0, held);
        assert_eq!(seals(&worker.tick()), pressed, "{held} bytes");
    }
}

#[test]
fn a_seal_that_moves_nothing_is_answered_without_a_commit() {
    let mut worker = Worker::running(limits());
    let (partition, offset, proof) = (PARTITION, Offset(3), false);
    assert_eq!(worker.sealed(3), [Action::Committed { partition, offset, proof }]);
    assert_eq!(commit(&worker.tick()), None);
    assert_eq!(worker.sealed(4), []);
    assert_eq!(commit(&worker.tick()), Some(1));
}

#[test]
fn commits_are_counted_and_an_answer_to_another_is_none() {
    let mut worker = Worker::running(limits());
    for id in 1..4 {
        worker.sealed(i64::try_from(id).expect("few") + 3);
        assert_eq!(commit(&worker.tick()), Some(id));
        assert_eq!(worker.answer(id + 1, PARTITION, CommitStatus::Accepted), []);
        assert_eq!(worker.answer(id, PARTITION, CommitStatus::Accepted).len(), 1);
    }
}

/// The group takes everything from who is not in it; but what is said of a commit that was sent
/// before the last assignment is said of a membership that may be over.
#[test]
fn who_is_no_member_loses_all_unless_it_became_one_since() {
    let other = PartitionId(1);
    for (assigned_since, lost) in [(false, true), (true, false)] {
        let mut worker = Worker::running(limits());
        worker.sealed(4);
        let id = commit(&worker.tick()).expect("a commit");
        if assigned_since {
            worker.tell(Event::Assigned { partitions: vec![other] });
        }
        let actions = worker.answer(id, PARTITION, CommitStatus::MemberLost);
        assert_eq!(actions.contains(&closed(Closing::Lost)), lost, "{actions:?}");
    }
    let mut worker = Worker::running(limits());
    worker.sealed(4);
    let id = commit(&worker.tick()).expect("a commit");
    let actions = worker.answer(id, PARTITION, CommitStatus::Retry);
    assert_eq!(actions, [], "a refusal says nothing of the membership");
}

#[test]
fn a_drained_partition_whose_topic_is_gone_is_released_at_once() {
    for (drained, status, released) in [
        (true, CommitStatus::TopicGone, true),
        (false, CommitStatus::TopicGone, false),
        (true, CommitStatus::Retry, false),
    ] {
        let mut worker = Worker::running(limits());
        worker.sealed(4);
        worker.tell(Event::Revoked { partitions: vec![PARTITION] });
        let id = commit(&worker.tick()).expect("a commit");
        if drained {
            worker.tell(Event::Drained { partition: PARTITION, epoch: EPOCH });
        }
        let actions = worker.answer(id, PARTITION, status);
        assert_eq!(actions.contains(&closed(Closing::Released)), released, "{status:?}");
    }
}

#[test]
fn a_drain_cancels_once_at_its_limit_and_releases_at_its_own_whatever_is_committed() {
    let mut worker = Worker::running(limits());
    worker.now = Time::ZERO + Duration::from_secs(100);
    let (begun, limits) = (worker.now, limits());
    let (cancel_at, release_at) = (begun + limits.drain_timeout, begun + limits.release_timeout);
    let asked = worker.tell(Event::Revoked { partitions: vec![PARTITION] });
    let send_until = Some(release_at - limits.delivery_timeout);
    assert!(asked.contains(&Action::Drain { partition: PARTITION, send_until }), "{asked:?}");
    let cancel = Action::Cancel { partition: PARTITION };
    assert!(!worker.tick_at(cancel_at - NANO).contains(&cancel));
    assert!(worker.tick_at(cancel_at).contains(&cancel));
    assert!(!worker.tick_at(cancel_at + NANO).contains(&cancel), "once");
    assert!(!worker.tick_at(release_at - NANO).contains(&closed(Closing::Released)));
    let end = worker.tick_at(release_at);
    assert!(end.contains(&closed(Closing::Released)) && end.contains(&Action::Acknowledge));
    assert_eq!(worker.engine.partitions().count(), 0, "what is given up is forgotten");
}

#[test]
fn what_has_drained_is_released_when_its_commit_is_accepted_and_cancels_nothing() {
    let mut worker = Worker::running(limits());
    worker.sealed(4);
    worker.tell(Event::Revoked { partitions: vec![PARTITION] });
    worker.tell(Event::Drained { partition: PARTITION, epoch: EPOCH });
    let sent = worker.tick();
    assert!(!sent.contains(&closed(Closing::Released)), "its commit is not answered");
    let late = worker.tick_at(Time::ZERO + limits().drain_timeout);
    assert_eq!(late, [], "nothing runs that could be cancelled");
    worker.answer(1, PARTITION, CommitStatus::Accepted);
    assert!(worker.tick().contains(&closed(Closing::Released)));
}

/// Once a loss is acknowledged the member joins anew, and a commit that its client has yet to send
/// would go out as that of the new member.
#[test]
fn inv_5_a_loss_is_acknowledged_when_no_commit_of_it_is_under_way() {
    let lost = |worker: &mut Worker| {
        worker.tell(Event::Lost { partitions: vec![PARTITION] });
        worker.tick()
    };
    let mut idle = Worker::running(EngineLimits::default());
    assert!(lost(&mut idle).contains(&Action::Acknowledge), "nothing is under way");

    let mut worker = Worker::running(EngineLimits::default());
    worker.sealed(5);
    assert_eq!(commit(&worker.tick()), Some(1));
    assert!(!lost(&mut worker).contains(&Action::Acknowledge), "the commit is not answered");
    worker.answer(1, PARTITION, CommitStatus::Unknown);
    assert!(worker.tick().contains(&Action::Acknowledge));
}

/// What is read as committed while a commit is under way may be older than what that one stores:
/// the partition would begin again below it.
#[test]
fn inv_6_a_reset_waits_until_no_commit_of_its_partition_is_under_way() {
    let restores =
        |actions: &[Action]| actions.iter().any(|action| matches!(action, Action::Restore { .. }));
    let reset = Event::ResetWanted { partition: PARTITION, epoch: EPOCH };
    let mut idle = Worker::running(EngineLimits::default());
    idle.tell(reset.clone());
    assert!(idle.tick().contains(&closed(Closing::Reset)), "nothing is under way");

    let mut worker = Worker::running(EngineLimits::default());
    worker.sealed(5);
    assert_eq!(commit(&worker.tick()), Some(1));
    worker.tell(reset);
    assert!(!worker.tick().contains(&closed(Closing::Reset)), "the commit is not answered");
    worker.answer(1, PARTITION, CommitStatus::Accepted);
    assert!(worker.tick().contains(&closed(Closing::Reset)));
}
