//! When is a partition given up, and when the group?

use super::*;
use crate::{CommitItem, RestoreFrom};

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

/// What is read as committed while a commit is under way may be older than what that stores.
#[test]
fn a_seek_that_is_too_late_goes_on_when_its_commit_is_answered() {
    let mut worker = Worker::running(limits());
    worker.sealed(4);
    assert_eq!(commit(&worker.tick()), Some(1));
    worker.tell(Event::SeekWanted { partition: PARTITION, to: Offset(70) });
    let late = Time::ZERO + limits().release_timeout;
    assert!(!worker.tick_at(late).contains(&closed(Closing::Reset)), "it is not answered");
    assert!(worker.wake.is_none_or(|wake| wake > late), "and nobody asks without a rest");
    worker.answer(1, PARTITION, CommitStatus::Accepted);
    let begun = worker.tick();
    assert!(begun.contains(&closed(Closing::Reset)));
    let from = RestoreFrom::Committed; // not everything was durable
    let restore = Action::Restore { partition: PARTITION, epoch: Epoch(2), from };
    assert!(begun.contains(&restore), "{begun:?}");
}

/// What is acknowledged is everybody's to take.
#[test]
fn inv_5_a_revocation_is_acknowledged_with_the_last_of_its_partitions() {
    let mut worker = Worker::running_many(limits(), 2);
    let partitions = [PARTITION, PartitionId(1)];
    worker.tell(Event::Revoked { partitions: partitions.into() });
    for (partition, last) in partitions.into_iter().zip([false, true]) {
        worker.tell(Event::Drained { partition, epoch: EPOCH });
        let actions = worker.tick();
        let closed = Action::Close { partition, epoch: EPOCH, closing: Closing::Released };
        assert!(actions.contains(&closed));
        assert_eq!(actions.contains(&Action::Acknowledge), last);
    }
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

/// The last commit goes out even if nothing has moved: its answer says that the group can be left
/// in good order.
#[test]
fn a_shutdown_commits_once_more_and_leaves_the_group_when_nothing_is_left() {
    let mut worker = Worker::running(limits());
    let end = |limit_s| Event::Shutdown { cancel_at: seconds(limit_s), release_at: seconds(20) };
    let asked = worker.tell(end(10));
    assert!(asked.contains(&Action::Drain { partition: PARTITION, send_until: None }), "{asked:?}");
    worker.tell(end(1)); // said twice, it is the first that counts
    let sent = worker.tick_at(seconds(1));
    assert_eq!(commit(&sent), Some(1));
    worker.answer(1, PARTITION, CommitStatus::Accepted);
    worker.sealed(4);
    let standing = Standing::at(Offset(4));
    let item = CommitItem { partition: PARTITION, epoch: EPOCH, standing };
    assert!(worker.tick().contains(&Action::Commit { id: 2, items: vec![item] }), "what was done");
    assert!(!sent.contains(&Action::Cancel { partition: PARTITION }) && !leaves(&sent), "{sent:?}");
    worker.tell(Event::Drained { partition: PARTITION, epoch: EPOCH });
    assert!(!leaves(&worker.tick()), "the commit is not answered");
    worker.answer(2, PARTITION, CommitStatus::Accepted);
    let last = worker.tick();
    assert!(last.contains(&closed(Closing::Released)) && leaves(&last), "{last:?}");
    let late = worker.tell(Event::Assigned { partitions: vec![PartitionId(1)] });
    assert_eq!(late, [Action::Acknowledge], "nothing starts any more");
    assert!(!leaves(&worker.tick()), "it leaves once");
}

#[test]
fn who_has_nothing_leaves_at_once_and_who_is_not_told_to_never() {
    let mut worker = Worker::new(limits());
    assert_eq!(worker.tick(), []);
    worker.tell(Event::Shutdown { cancel_at: seconds(1), release_at: seconds(2) });
    assert_eq!(worker.tick(), [Action::Leave]);
}

fn leaves(actions: &[Action]) -> bool {
    actions.contains(&Action::Leave)
}
