//! When is sealed and committed, and what does an answer change?

use super::*;

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
    let (partition, standing, proof) = (PARTITION, Standing::at(Offset(3)), false);
    assert_eq!(worker.sealed(3), [Action::Committed { partition, standing, proof }]);
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

/// What is read as committed while a commit is under way may be older than what that one stores:
/// the partition would begin again below it.
#[test]
fn inv_6_a_reset_waits_until_no_commit_of_its_partition_is_under_way() {
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

/// The connection broke, or the answer names others only: stored or not, nobody knows.
#[test]
fn inv_1_no_answer_is_not_taken_for_a_yes() {
    for statuses in [vec![(PARTITION, CommitStatus::Unknown)], vec![]] {
        let mut worker = Worker::running(limits());
        worker.sealed(4);
        let id = commit(&worker.tick()).expect("a commit");
        assert_eq!(worker.tell(Event::CommitAnswered { id, statuses }), []);
        let view = worker.engine.partitions().next().expect("a partition");
        assert_eq!(view.committed, Some(Offset(3)));
        assert_eq!(commit(&worker.tick_at(Time::ZERO + limits().commit_retry)), Some(id + 1));
    }
}
