//! When does a watchdog bark, and what does it do then?

use super::*;
use crate::LogRange;

#[test]
fn the_end_of_a_paused_partition_is_asked_for_at_its_interval() {
    let mut worker = Worker::running(limits());
    worker.tell(Event::Paused { partitions: vec![PARTITION] });
    let ask = Action::AskEnd { partition: PARTITION };
    for (second, asks) in [(29, false), (30, true), (59, false), (60, true)] {
        assert_eq!(worker.tick_at(seconds(second)).contains(&ask), asks, "at {second} s");
    }
}

/// The group says nothing of partitions that a commit's answer took away.
#[test]
fn who_has_lost_everything_and_hears_nothing_joins_anew_once() {
    let limits = EngineLimits { silent_after: Duration::from_secs(1_000), ..limits() };
    let mut worker = Worker::running_many(limits, 2);
    worker.sealed(4);
    let id = commit(&worker.tick()).expect("a commit");
    worker.answer(id, PARTITION, CommitStatus::MemberLost);
    worker.tell(Event::Assigned { partitions: vec![PartitionId(2)] });
    assert!(!worker.tick_at(seconds(60) - NANO).contains(&Action::Rejoin));
    assert!(worker.tick_at(seconds(60)).contains(&Action::Rejoin));
    let left: Vec<_> = worker.engine.partitions().map(|view| view.partition).collect();
    assert_eq!(left, [PartitionId(2)], "what was lost is forgotten, and nothing else");
    assert!(!worker.tick_at(seconds(500)).contains(&Action::Rejoin));
}

#[test]
fn who_is_ending_does_not_join_anew() {
    let mut worker = Worker::running(limits());
    worker.sealed(4);
    let id = commit(&worker.tick()).expect("a commit");
    worker.answer(id, PARTITION, CommitStatus::MemberLost);
    worker.tell(Event::Shutdown { cancel_at: seconds(10), release_at: seconds(20) });
    assert!(!worker.tick_at(seconds(60)).contains(&Action::Rejoin));
}

/// What the answer says was true before the record came.
#[test]
fn a_log_that_does_not_hold_the_position_is_not_believed_if_a_record_came_since_it_was_asked() {
    let (partition, epoch) = (PARTITION, EPOCH);
    let log = LogRange { low: Offset(0), end: Offset(2) };
    let ask = Action::AskEnd { partition };
    let anew = [Action::StopFetch { partition }, Action::StartFetch { partition, from: Offset(3) }];
    let mut worker = Worker::running(limits());
    assert!(worker.tick_at(seconds(30)).contains(&ask));
    worker.now = seconds(31);
    worker.fetched(partition, 1);
    assert_eq!(worker.tell(Event::LogSeen { partition, epoch, log }), []);
    let mut silent = Worker::running(limits());
    assert_eq!(silent.tell(Event::LogSeen { partition, epoch, log }), anew, "nothing came since");
}
