//! Does the model's coordinator answer as Kafka's does? Rule by rule.

use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::group::{Group, GroupAnswers, GroupConfig, Topics};
use super::wire::{
    Assignor, CallId, Code, ConsumerBeaten, GroupAnswer, GroupRequest, Joined, MemberId,
    ProducerIdentity, StoredOffset,
};

const SESSION: Duration = Duration::from_secs(6);
const REBALANCE: Duration = Duration::from_secs(30);

/// A group at a table: requests go in, answers lie there until they are looked at.
struct Table {
    group: Group,
    topics: Topics,
    now: Time,
    calls: u64,
    answers: GroupAnswers,
    assignor: Assignor,
}

impl Table {
    fn new(assignor: Assignor, partitions: i32) -> Self {
        Self::with(assignor, partitions, GroupConfig::default())
    }

    fn with(assignor: Assignor, partitions: i32, config: GroupConfig) -> Self {
        Self {
            group: Group::new("counters", config),
            topics: [("logins".into(), partitions)].into(),
            now: Time(1),
            calls: 0,
            answers: Vec::new(),
            assignor,
        }
    }

    fn ask(&mut self, request: GroupRequest) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.group.handle(self.now, call, request, &self.topics, &mut self.answers);
        call
    }

    /// Time passes, and the group hears of each moment it wants to.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(at) = self.group.wake().filter(|at| *at <= until) {
            self.now = at;
            self.group.turn(at, &self.topics, &mut self.answers);
        }
        self.now = until;
    }

    fn answer(&mut self, call: CallId) -> Option<GroupAnswer> {
        let at = self.answers.iter().position(|(answered, _)| *answered == call)?;
        Some(self.answers.remove(at).1)
    }

    fn join(&mut self, member: Option<&MemberId>, instance: Option<&str>) -> CallId {
        self.join_with(member, instance, &[])
    }

    fn join_with(
        &mut self,
        member: Option<&MemberId>,
        instance: Option<&str>,
        owned: &[i32],
    ) -> CallId {
        self.ask(GroupRequest::Join {
            member: member.cloned(),
            instance: instance.map(Into::into),
            assignor: self.assignor,
            topics: vec!["logins".into()],
            owned: owned.iter().map(|p| logins(*p)).collect(),
            session_timeout: SESSION,
            rebalance_timeout: REBALANCE,
        })
    }

    /// A member's name and its Join that waits.
    fn named_join(&mut self) -> (MemberId, CallId) {
        let call = self.join(None, None);
        let Some(GroupAnswer::Named(id)) = self.answer(call) else { panic!("no name") };
        let call = self.join(Some(&id), None);
        (id, call)
    }

    fn joined(&mut self, call: CallId) -> Result<Joined, Code> {
        match self.answer(call) {
            Some(GroupAnswer::Joined(joined)) => joined,
            other => panic!("not joined: {other:?}"),
        }
    }

    fn sync(&mut self, member: &MemberId, generation: i32) -> CallId {
        self.ask(GroupRequest::Sync { member: Arc::clone(member), instance: None, generation })
    }

    fn synced(&mut self, call: CallId) -> Result<Vec<i32>, Code> {
        match self.answer(call) {
            Some(GroupAnswer::Synced(synced)) => synced.map(|of| numbers(&of)),
            other => panic!("not synced: {other:?}"),
        }
    }

    /// So many members in a stable group, and its generation.
    fn stable(&mut self, members: usize) -> (Vec<MemberId>, i32) {
        let mut ids: Vec<MemberId> = Vec::new();
        let mut generation = 0;
        for _ in 0..members {
            let (id, call) = self.named_join();
            let mut calls = vec![call];
            calls.extend(ids.clone().iter().map(|id| self.join(Some(id), None)));
            ids.push(id);
            for call in calls {
                generation = self.joined(call).unwrap().generation;
            }
            self.sync_all(&ids, generation);
        }
        (ids, generation)
    }

    fn sync_all(&mut self, ids: &[MemberId], generation: i32) -> Vec<Vec<i32>> {
        let calls: Vec<_> = ids.iter().map(|id| self.sync(id, generation)).collect();
        calls.into_iter().map(|call| self.synced(call).unwrap()).collect()
    }

    fn beat(&mut self, member: &MemberId, generation: i32) -> Result<(), Code> {
        self.beat_as(member, None, generation)
    }

    fn beat_as(
        &mut self,
        member: &MemberId,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), Code> {
        let (member, instance) = (Arc::clone(member), instance.map(Into::into));
        let call = self.ask(GroupRequest::Heartbeat { member, instance, generation });
        match self.answer(call) {
            Some(GroupAnswer::Beaten(beaten)) => beaten,
            other => panic!("not beaten: {other:?}"),
        }
    }

    fn leave(&mut self, member: &MemberId) -> Result<(), Code> {
        let call = self.ask(GroupRequest::Leave { member: Arc::clone(member), instance: None });
        match self.answer(call) {
            Some(GroupAnswer::Left(left)) => left,
            other => panic!("not left: {other:?}"),
        }
    }

    fn commit(
        &mut self,
        member: Option<&MemberId>,
        generation: i32,
        partition: i32,
        offset: i64,
    ) -> Result<(), Code> {
        let call = self.ask(GroupRequest::Commit {
            member: member.cloned(),
            instance: None,
            generation,
            offsets: vec![(logins(partition), at(offset))],
        });
        self.committed(call)
    }

    fn commit_in_transaction(
        &mut self,
        producer: ProducerIdentity,
        member: Option<&MemberId>,
        generation: i32,
        offset: i64,
    ) -> Result<(), Code> {
        let call = self.ask(GroupRequest::TransactionalCommit {
            producer,
            member: member.cloned(),
            instance: None,
            generation,
            offsets: vec![(logins(0), at(offset))],
        });
        self.committed(call)
    }

    fn committed(&mut self, call: CallId) -> Result<(), Code> {
        match self.answer(call) {
            Some(GroupAnswer::Committed(stored)) => stored[0].1,
            other => panic!("not committed: {other:?}"),
        }
    }

    fn offset(&self, partition: i32) -> Option<i64> {
        self.group.committed(&logins(partition)).map(|stored| stored.offset)
    }

    fn stable_offset(&mut self) -> Result<Option<i64>, Code> {
        let call = self.ask(GroupRequest::Committed { partitions: vec![logins(0)], stable: true });
        match self.answer(call) {
            Some(GroupAnswer::Offsets(mut read)) => {
                read.remove(0).1.map(|stored| stored.map(|stored| stored.offset))
            }
            other => panic!("no offsets: {other:?}"),
        }
    }

    fn consumer(
        &mut self,
        member: &str,
        instance: Option<&str>,
        epoch: i32,
        owned: Option<&[i32]>,
    ) -> Result<ConsumerBeaten, Code> {
        let call = self.ask(GroupRequest::ConsumerHeartbeat {
            member: member.into(),
            instance: instance.map(Into::into),
            epoch,
            topics: (epoch == 0).then(|| vec!["logins".into()]),
            owned: owned.map(|owned| owned.iter().map(|p| logins(*p)).collect()),
            rebalance_timeout: REBALANCE,
        });
        match self.answer(call) {
            Some(GroupAnswer::ConsumerBeaten(beaten)) => beaten,
            other => panic!("no heartbeat: {other:?}"),
        }
    }

    /// A KIP-848 heartbeat that tells nothing new: the epoch, and what has changed.
    fn pulse(&mut self, member: &str, epoch: i32) -> (i32, Option<Vec<i32>>) {
        told(self.consumer(member, None, epoch, None))
    }

    fn tell(&mut self, member: &str, epoch: i32, owned: &[i32]) -> (i32, Option<Vec<i32>>) {
        told(self.consumer(member, None, epoch, Some(owned)))
    }
}

fn told(beaten: Result<ConsumerBeaten, Code>) -> (i32, Option<Vec<i32>>) {
    let beaten = beaten.unwrap();
    (beaten.epoch, beaten.assignment.map(|of| numbers(&of)))
}

fn logins(partition: i32) -> TopicPartition {
    TopicPartition::new("logins", partition)
}

fn at(offset: i64) -> StoredOffset {
    StoredOffset { offset, metadata: String::new() }
}

fn numbers(partitions: &[TopicPartition]) -> Vec<i32> {
    partitions.iter().map(TopicPartition::partition).collect()
}

const fn producer(epoch: i16) -> ProducerIdentity {
    ProducerIdentity { id: 7, epoch }
}

#[test]
fn a_round_waits_for_everybody_who_was_in_the_last_one() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(1);
    let (second, call) = table.named_join();
    assert!(table.answer(call).is_none(), "the first has not joined anew");
    assert_eq!(table.beat(&ids[0], generation), Err(Code::RebalanceInProgress));
    let first = table.join(Some(&ids[0]), None);
    assert_eq!(table.joined(first).unwrap().generation, generation + 1);
    assert!(!table.joined(call).unwrap().is_leader);
    assert_eq!(table.sync_all(&[Arc::clone(&ids[0]), second], generation + 1), [[0, 1], [2, 3]]);
}

#[test]
fn who_does_not_join_anew_in_time_is_out() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(2);
    let (_, call) = table.named_join();
    let first = table.join(Some(&ids[0]), None);
    for _ in 0..29 {
        table.pass(Duration::from_secs(1));
        assert!(table.beat(&ids[1], generation).is_err(), "it is alive, and told to join");
    }
    assert!(table.answer(call).is_none());
    table.pass(Duration::from_secs(1));
    assert!(table.joined(call).is_ok());
    assert!(table.joined(first).is_ok());
    assert_eq!(table.beat(&ids[1], generation), Err(Code::UnknownMemberId));
    assert_eq!(table.group.members().len(), 2);
}

#[test]
fn a_name_that_is_not_used_holds_up_a_round_until_its_session_ends() {
    let mut table = Table::new(Assignor::Range, 4);
    let unused = table.join(None, None);
    assert!(matches!(table.answer(unused), Some(GroupAnswer::Named(_))));
    let (_, call) = table.named_join();
    table.pass(SESSION - Duration::from_millis(1));
    assert!(table.answer(call).is_none());
    table.pass(Duration::from_millis(1));
    assert!(table.joined(call).is_ok());
}

#[test]
fn the_first_member_waits_for_others_as_long_as_the_broker_says() {
    let delay = Duration::from_secs(3);
    let config = GroupConfig { initial_rebalance_delay: delay, ..GroupConfig::default() };
    let mut table = Table::with(Assignor::Range, 4, config);
    let (_, first) = table.named_join();
    table.pass(Duration::from_secs(2));
    let (_, second) = table.named_join();
    table.pass(Duration::from_secs(2));
    assert!(table.answer(first).is_none(), "the second one's coming began the delay anew");
    table.pass(Duration::from_secs(1));
    assert_eq!(table.joined(first).unwrap().generation, 1);
    assert_eq!(table.joined(second).unwrap().generation, 1);
}

#[test]
fn a_session_without_heartbeats_ends_and_the_others_begin_a_round() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(2);
    for _ in 0..7 {
        table.pass(Duration::from_secs(1));
        let told = table.beat(&ids[0], generation);
        let over = table.group.members().len() == 1;
        assert_eq!(told, if over { Err(Code::RebalanceInProgress) } else { Ok(()) });
    }
    assert_eq!(table.beat(&ids[1], generation), Err(Code::UnknownMemberId));
    assert_eq!(table.commit(Some(&ids[1]), generation, 0, 5), Err(Code::UnknownMemberId));
}

#[test]
fn a_sync_waits_for_the_leader_and_whoever_does_not_sync_is_out() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(2);
    let calls: Vec<_> = ids.iter().map(|id| table.join(Some(id), None)).collect();
    let leads: Vec<bool> = calls.iter().map(|c| table.joined(*c).unwrap().is_leader).collect();
    assert_eq!(leads, [true, false]);
    let waiting = table.sync(&ids[1], generation + 1);
    assert!(table.answer(waiting).is_none());
    assert_eq!(table.commit(Some(&ids[1]), generation + 1, 0, 5), Err(Code::RebalanceInProgress));
    for _ in 0..30 {
        table.pass(Duration::from_secs(1));
        assert_eq!(table.beat(&ids[0], generation + 1).is_ok(), table.group.members().len() == 2);
    }
    assert_eq!(table.synced(waiting), Err(Code::RebalanceInProgress));
    assert_eq!(table.group.members(), [Arc::clone(&ids[1])]);
}

#[test]
fn a_commit_counts_only_in_its_generation_and_not_while_the_assignment_is_made() {
    let mut table = Table::new(Assignor::Range, 4);
    assert_eq!(table.commit(None, -1, 0, 3), Ok(()), "an operator, and nobody is there");
    let (ids, generation) = table.stable(2);
    assert_eq!(table.commit(None, -1, 0, 4), Err(Code::UnknownMemberId));
    assert_eq!(table.commit(Some(&ids[0]), generation - 1, 0, 5), Err(Code::IllegalGeneration));
    assert_eq!(table.commit(Some(&ids[0]), generation, 0, 6), Ok(()));
    let rejoined = table.join(Some(&ids[0]), None);
    assert_eq!(table.commit(Some(&ids[1]), generation, 0, 7), Ok(()), "others still drain");
    let other = table.join(Some(&ids[1]), None);
    assert!(table.joined(rejoined).is_ok() && table.joined(other).is_ok());
    assert_eq!(table.commit(Some(&ids[1]), generation, 0, 8), Err(Code::IllegalGeneration));
    let ahead = generation + 1;
    assert_eq!(table.commit(Some(&ids[1]), ahead, 0, 9), Err(Code::RebalanceInProgress));
    assert_eq!(table.offset(0), Some(7));
    assert_eq!(table.commit(Some(&ids[0]), generation, 9, 1), Err(Code::IllegalGeneration));
    table.sync_all(&ids, ahead);
    assert_eq!(table.commit(Some(&ids[0]), ahead, 9, 1), Err(Code::UnknownTopicOrPartition));
}

#[test]
fn a_static_member_that_comes_back_takes_its_place_without_a_round() {
    let mut table = Table::new(Assignor::Range, 4);
    let call = table.join(None, Some("worker-0"));
    let former = table.joined(call).unwrap();
    let sync = GroupRequest::Sync {
        member: Arc::clone(&former.member),
        instance: Some("worker-0".into()),
        generation: former.generation,
    };
    let call = table.ask(sync);
    assert_eq!(table.synced(call), Ok(vec![0, 1, 2, 3]));
    let call = table.join(None, Some("worker-0"));
    let successor = table.joined(call).unwrap();
    assert_eq!(successor.generation, former.generation);
    assert_ne!(successor.member, former.member);
    let call = table.sync(&successor.member, former.generation);
    assert_eq!(table.synced(call), Ok(vec![0, 1, 2, 3]));
    let fenced = table.beat_as(&former.member, Some("worker-0"), former.generation);
    assert_eq!(fenced, Err(Code::FencedInstanceId));
    assert_eq!(table.beat_as(&successor.member, Some("worker-0"), former.generation), Ok(()));
    let leave = |member: &MemberId| GroupRequest::Leave {
        member: Arc::clone(member),
        instance: Some("worker-0".into()),
    };
    let call = table.ask(leave(&former.member));
    let left = table.answer(call);
    assert!(matches!(left, Some(GroupAnswer::Left(Err(Code::FencedInstanceId)))), "{left:?}");
    let call = table.ask(leave(&successor.member));
    assert!(matches!(table.answer(call), Some(GroupAnswer::Left(Ok(())))));
    assert!(table.group.is_empty());
}

#[test]
fn a_static_member_stays_in_a_round_it_missed_until_its_session_ends() {
    let mut table = Table::new(Assignor::Range, 4);
    let call = table.join(None, Some("worker-0"));
    let first = table.joined(call).unwrap();
    let call = table.sync(&first.member, first.generation);
    assert!(table.synced(call).is_ok());
    let call = table.join(None, Some("worker-1"));
    for _ in 0..30 {
        table.pass(Duration::from_secs(1));
        if table.group.generation() == first.generation {
            let told = table.beat_as(&first.member, Some("worker-0"), first.generation);
            assert_eq!(told, Err(Code::RebalanceInProgress));
        }
    }
    let second = table.joined(call).unwrap();
    let call = table.sync(&second.member, second.generation);
    assert_eq!(table.synced(call), Ok(vec![2, 3]), "the other half is the absent one's");
    table.pass(SESSION / 2);
    assert_eq!(table.beat_as(&second.member, Some("worker-1"), second.generation), Ok(()));
    table.pass(SESSION / 2);
    assert_eq!(table.group.members(), [second.member]);
}

#[test]
fn a_new_coordinator_forgets_a_round_under_way_but_not_the_last_complete_one() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(2);
    let before = table.group.owners();
    let (third, _) = table.named_join();
    for id in &ids {
        table.join(Some(id), None);
    }
    table.pass(Duration::from_secs(1));
    table.group.moved(table.now);
    assert_eq!(table.group.generation(), generation);
    assert_eq!(table.group.owners(), before);
    assert_eq!(table.beat(&third, generation + 1), Err(Code::UnknownMemberId));
    table.pass(SESSION - Duration::from_millis(1));
    assert_eq!(table.beat(&ids[0], generation), Ok(()), "its session began anew");
}

#[test]
fn whoever_leaves_is_gone_at_once() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(2);
    assert_eq!(table.leave(&ids[1]), Ok(()));
    assert_eq!(table.leave(&ids[1]), Err(Code::UnknownMemberId));
    assert_eq!(table.beat(&ids[0], generation), Err(Code::RebalanceInProgress));
    assert_eq!(table.leave(&ids[0]), Ok(()));
    assert!(table.group.is_empty());
}

#[test]
fn a_follower_that_asks_again_gets_the_running_round_and_a_leader_begins_one() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(2);
    let call = table.join(Some(&ids[1]), None);
    assert_eq!(table.joined(call).unwrap().generation, generation);
    let call = table.join(Some(&ids[0]), None);
    assert!(table.answer(call).is_none());
    assert_eq!(table.beat(&ids[1], generation), Err(Code::RebalanceInProgress));
}

#[test]
fn cooperative_takes_in_one_round_and_gives_in_the_next() {
    let mut table = Table::new(Assignor::CooperativeSticky, 4);
    let (ids, _) = table.stable(1);
    let (second, call) = table.named_join();
    let first = table.join_with(Some(&ids[0]), None, &[0, 1, 2, 3]);
    let generation = table.joined(first).unwrap().generation;
    assert!(table.joined(call).is_ok());
    let both = [Arc::clone(&ids[0]), Arc::clone(&second)];
    assert_eq!(table.sync_all(&both, generation), [vec![0, 1], vec![]]);
    let first = table.join_with(Some(&ids[0]), None, &[0, 1]);
    let call = table.join_with(Some(&second), None, &[]);
    assert!(table.joined(first).is_ok() && table.joined(call).is_ok());
    assert_eq!(table.sync_all(&both, generation + 1), [vec![0, 1], vec![2, 3]]);
}

#[test]
fn eager_assignors_share_fairly() {
    let mut table = Table::new(Assignor::Range, 5);
    table.stable(2);
    assert_eq!(spread(&table), [3, 2]);
    let mut table = Table::new(Assignor::RoundRobin, 5);
    table.stable(3);
    assert_eq!(spread(&table), [2, 2, 1]);
}

fn spread(table: &Table) -> Vec<usize> {
    table.group.assignments().iter().map(|(_, partitions)| partitions.len()).collect()
}

#[test]
fn a_group_is_of_one_kind_until_it_is_empty() {
    let mut table = Table::new(Assignor::Range, 4);
    let (ids, generation) = table.stable(1);
    let refused = table.consumer("c1", None, 0, Some(&[]));
    assert_eq!(refused, Err(Code::InconsistentGroupProtocol));
    table.assignor = Assignor::CooperativeSticky;
    let call = table.join(None, None);
    assert_eq!(table.joined(call), Err(Code::InconsistentGroupProtocol));
    table.leave(&ids[0]).unwrap();
    assert!(table.tell("c1", 0, &[]).0 > generation, "its epoch goes on");
    let call = table.join(None, None);
    assert_eq!(table.joined(call), Err(Code::InconsistentGroupProtocol));
}

#[test]
fn a_partition_is_given_only_when_its_former_owner_has_given_it_back() {
    let mut table = Table::new(Assignor::Broker, 4);
    assert_eq!(table.tell("c1", 0, &[]), (1, Some(vec![0, 1, 2, 3])));
    assert_eq!(table.tell("c1", 1, &[0, 1, 2, 3]), (1, None));
    assert_eq!(table.tell("c2", 0, &[]), (2, Some(vec![])), "nothing is free");
    assert_eq!(table.pulse("c1", 1), (1, Some(vec![0, 1])), "it is to give two back");
    assert_eq!(table.pulse("c1", 1), (1, None), "and has not yet");
    assert_eq!(table.pulse("c2", 2), (2, None));
    assert_eq!(table.group.owners().len(), 4);
    assert_eq!(table.tell("c1", 1, &[0, 1]), (2, None), "with that it is in the new epoch");
    assert_eq!(table.pulse("c2", 2), (2, Some(vec![2, 3])));
    assert!(table.group.is_settled());
}

#[test]
fn a_member_that_does_not_give_back_in_time_is_fenced() {
    let mut table = Table::new(Assignor::Broker, 2);
    table.tell("c1", 0, &[]);
    table.tell("c2", 0, &[]);
    table.pulse("c1", 1);
    for _ in 0..29 {
        table.pass(Duration::from_secs(1));
        assert_eq!(table.pulse("c1", 1), (1, None));
        table.pulse("c2", 2);
    }
    table.pass(Duration::from_secs(1));
    assert_eq!(table.consumer("c1", None, 1, None), Err(Code::UnknownMemberId));
    assert_eq!(table.pulse("c2", 2).1, Some(vec![0, 1]));
}

#[test]
fn a_member_of_another_epoch_is_fenced_unless_only_an_answer_was_lost() {
    let mut table = Table::new(Assignor::Broker, 2);
    table.tell("c1", 0, &[]);
    assert_eq!(table.consumer("c1", None, 9, None), Err(Code::FencedMemberEpoch));
    table.tell("c2", 0, &[]);
    table.pulse("c1", 1);
    assert_eq!(table.tell("c1", 1, &[0]), (2, None));
    assert_eq!(table.tell("c1", 1, &[0]), (2, None), "the answer got lost");
    assert_eq!(table.consumer("c1", None, 1, None), Err(Code::FencedMemberEpoch));
    assert_eq!(table.consumer("c1", None, 1, Some(&[0, 1])), Err(Code::FencedMemberEpoch));
}

#[test]
fn a_static_place_is_taken_over_only_when_it_was_left() {
    let mut table = Table::new(Assignor::Broker, 2);
    assert!(table.consumer("c1", Some("worker-0"), 0, Some(&[])).is_ok());
    let taken = table.consumer("c2", Some("worker-0"), 0, Some(&[]));
    assert_eq!(taken, Err(Code::UnreleasedInstanceId));
    assert!(table.consumer("c1", Some("worker-0"), -2, None).is_ok());
    let epoch = table.group.generation();
    let successor = table.consumer("c2", Some("worker-0"), 0, Some(&[]));
    assert_eq!(told(successor), (epoch, Some(vec![0, 1])), "without a new epoch");
    let former = table.consumer("c1", Some("worker-0"), epoch, None);
    assert_eq!(former, Err(Code::FencedInstanceId));
    assert!(table.consumer("c2", Some("worker-0"), -2, None).is_ok());
    table.pass(SESSION);
    assert!(table.group.is_empty(), "nobody came");
}

#[test]
fn a_former_epoch_commits_what_the_member_had_then_if_the_broker_is_new_enough() {
    for (lenient, expected) in [(true, Ok(())), (false, Err(Code::StaleMemberEpoch))] {
        let config = GroupConfig { former_epochs_may_commit: lenient, ..GroupConfig::default() };
        let mut table = Table::with(Assignor::Broker, 2, config);
        table.tell("c1", 0, &[]);
        table.tell("c2", 0, &[]);
        table.pulse("c1", 1);
        table.tell("c1", 1, &[0]);
        table.pulse("c2", 2);
        let (first, second): (MemberId, MemberId) = ("c1".into(), "c2".into());
        assert_eq!(table.commit(Some(&first), 1, 0, 5), expected);
        assert_eq!(table.commit(Some(&first), 2, 0, 6), Ok(()));
        assert_eq!(table.commit(Some(&second), 1, 1, 5), Err(Code::StaleMemberEpoch));
        assert_eq!(table.commit(Some(&first), 1, 1, 5), Err(Code::StaleMemberEpoch));
        assert_eq!(table.commit(Some(&first), 3, 0, 7), Err(Code::StaleMemberEpoch));
        let zombie = table.commit_in_transaction(producer(0), Some(&second), 1, 9);
        assert_eq!(zombie, Err(Code::IllegalGeneration), "producers know of generations only");
        let unknown = table.commit(Some(&"c9".into()), 2, 0, 9);
        assert_eq!(unknown, Err(Code::UnknownMemberId));
    }
}

#[test]
fn growth_reaches_a_kip_848_group_with_the_next_heartbeat() {
    let mut table = Table::new(Assignor::Broker, 2);
    table.tell("c1", 0, &[]);
    table.topics.insert("logins".into(), 3);
    table.group.topics_changed(table.now, &table.topics, &mut table.answers);
    assert_eq!(table.pulse("c1", 1), (2, Some(vec![0, 1, 2])));
    table.topics.clear();
    table.group.topics_changed(table.now, &table.topics, &mut table.answers);
    assert_eq!(table.pulse("c1", 2), (2, Some(vec![])), "deletion too");
}

#[test]
fn a_transactions_offsets_count_when_it_commits_and_hold_up_stable_reads_until_then() {
    let mut table = Table::new(Assignor::Range, 1);
    let (ids, generation) = table.stable(1);
    let member = Some(&ids[0]);
    assert_eq!(table.commit_in_transaction(producer(0), member, generation, 5), Ok(()));
    assert_eq!(table.offset(0), None);
    assert_eq!(table.stable_offset(), Err(Code::UnstableOffsetCommit));
    table.group.end_transaction(producer(0), true);
    assert_eq!(table.stable_offset(), Ok(Some(5)));
    assert_eq!(table.commit_in_transaction(producer(0), member, generation, 6), Ok(()));
    table.group.end_transaction(producer(1), false);
    assert_eq!(table.stable_offset(), Ok(Some(5)), "aborted, with a new epoch");
    let zombie = table.commit_in_transaction(producer(0), member, generation, 7);
    assert_eq!(zombie, Err(Code::InvalidProducerEpoch));
    let old = table.commit_in_transaction(producer(1), member, generation - 1, 7);
    assert_eq!(old, Err(Code::IllegalGeneration));
}

#[test]
fn of_two_transactions_the_offset_that_was_appended_later_counts() {
    let mut table = Table::new(Assignor::Range, 1);
    let other = ProducerIdentity { id: 8, epoch: 0 };
    assert_eq!(table.commit_in_transaction(producer(0), None, -1, 60), Ok(()));
    assert_eq!(table.commit_in_transaction(other, None, -1, 50), Ok(()));
    table.group.end_transaction(other, true);
    table.group.end_transaction(producer(0), true);
    assert_eq!(table.offset(0), Some(50), "committed first, appended last");
}

#[test]
fn metadata_that_is_too_large_is_refused() {
    let mut table = Table::new(Assignor::Range, 1);
    for (bytes, expected) in [(4096, Ok(())), (4097, Err(Code::OffsetMetadataTooLarge))] {
        let stored = StoredOffset { offset: 1, metadata: "x".repeat(bytes) };
        let call = table.ask(GroupRequest::Commit {
            member: None,
            instance: None,
            generation: -1,
            offsets: vec![(logins(0), stored)],
        });
        assert_eq!(table.committed(call), expected);
    }
}

#[test]
fn an_operator_resets_offsets_only_of_an_empty_group() {
    let mut table = Table::new(Assignor::Range, 1);
    assert!(table.group.reset_offset(logins(0), Some(at(3))));
    assert_eq!(table.offset(0), Some(3));
    table.stable(1);
    assert!(!table.group.reset_offset(logins(0), None));
    assert_eq!(table.offset(0), Some(3));
}
