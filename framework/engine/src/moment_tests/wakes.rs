//! When must the engine be called again? At the moment at which something is due, and for nothing.

use super::*;

#[test]
fn without_partitions_there_is_nothing_to_wake_for() {
    let mut worker = Worker::new(limits());
    worker.tick();
    assert_eq!(worker.wake, None);
}

#[test]
fn a_running_partition_wakes_for_the_next_commit() {
    let commit_interval = Duration::from_secs(3);
    let mut worker = Worker::running(EngineLimits { commit_interval, ..limits() });
    assert_eq!(worker.engine.limits().commit_interval, commit_interval);
    assert_eq!(worker.wake, Some(seconds(3)));
    worker.tick_at(seconds(3));
    assert_eq!(worker.wake, Some(seconds(6)));
}

#[test]
fn a_refused_commit_wakes_for_its_next_try_once_nothing_is_in_flight() {
    let mut worker = Worker::running(limits());
    worker.sealed(4);
    assert_eq!(commit(&worker.tick()), Some(1));
    worker.answer(1, PARTITION, CommitStatus::Retry);
    worker.tick();
    let due = Time::ZERO + limits().commit_retry;
    assert_eq!(worker.wake, Some(due));
    assert_eq!(commit(&worker.tick_at(due - NANO)), None);
    assert_eq!(commit(&worker.tick_at(due)), Some(2));
}

/// A partition with a refused commit has to wait until another's commit is answered.
#[test]
fn a_try_that_is_due_does_not_wake_while_another_commit_is_in_flight() {
    let other = PartitionId(1);
    let mut worker = Worker::running_many(limits(), 2);
    worker.sealed(4);
    worker.tick();
    worker.answer(1, PARTITION, CommitStatus::Retry);
    let (epoch, standing) = (EPOCH, Standing::at(Offset(9)));
    worker.tell(Event::Sealed { partition: other, epoch, standing });
    assert_eq!(commit(&worker.tick()), Some(2));
    worker.tick_at(Time::ZERO + limits().commit_retry);
    assert_eq!(worker.wake, Some(Time::ZERO + limits().commit_interval));
    worker.answer(2, other, CommitStatus::Accepted);
    assert_eq!(commit(&worker.tick()), Some(3));
}

#[test]
fn a_drain_wakes_for_its_cancelling_then_for_its_release() {
    for drained in [false, true] {
        let mut worker = Worker::running(EngineLimits {
            commit_interval: Duration::from_secs(1_000),
            ..limits()
        });
        worker.tell(Event::Revoked { partitions: vec![PARTITION] });
        worker.tick();
        assert_eq!(worker.wake, Some(seconds(10)));
        worker.sealed(4);
        if drained {
            worker.tell(Event::Drained { partition: PARTITION, epoch: EPOCH });
            worker.tick();
        } else {
            worker.tick_at(seconds(10));
        }
        assert_eq!(worker.wake, Some(seconds(20)), "drained: {drained}");
    }
}

/// A record may start as long as what its partition holds leaves room for its effects.
#[test]
fn records_start_below_the_room_less_the_effects_of_one() {
    let mut worker = Worker::running(limits());
    assert_eq!(worker.engine.start_below(), 1_000);
    let effects = HeldEffects { largest: 100, ..HeldEffects::default() };
    worker.tell(Event::Holds { partition: PARTITION, epoch: EPOCH, effects });
    assert_eq!(worker.engine.start_below(), 900);
}
