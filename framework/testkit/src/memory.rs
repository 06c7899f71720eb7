//! A cluster in memory: logs, one group, committed offsets; every port of a worker on it.
//!
//! It does what a cluster does on a good day, and what a test tells it to: members come and go,
//! partitions are given and taken, deliveries and commits fail on demand. It does not assign
//! anything by itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use pelton::ports::{
    Admin, ClientKind, Clients, CommitEntry, Committed, CommittedOffsets, Created, Done, Fetch,
    FetchEvent, Host, Member, MemberEvent, OutRecord, PortError, Producer, Reports, RestoreFetches,
    SendError, TopicIdentity, TopicSpec, Waker,
};
use pelton::{Run, TopicPartition};
use pelton_engine::{CommitStatus, Time};

use crate::murmur2::partition_for_key;

/// The cluster; clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct MemoryCluster(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    topics: BTreeMap<String, Vec<Vec<Stored>>>,
    /// The first offset of a log, where it is not 0.
    lows: HashMap<TopicPartition, i64>,
    committed: HashMap<TopicPartition, (i64, String)>,
    /// By number; a killed one is gone.
    members: BTreeMap<usize, Membership>,
    joined: usize,
    /// So many of the next deliveries fail.
    failing_deliveries: usize,
    /// Of the next deliveries these fail, counted from 0.
    failing_at: Vec<usize>,
    /// No delivery to it succeeds.
    failing_topic: Option<Arc<str>>,
    /// The answers of the next commits, instead of `Accepted`.
    commit_answers: VecDeque<CommitStatus>,
    /// Producers that were replaced; and whether the current one refuses everything.
    producer: u64,
    producer_broken: bool,
    /// So many of the next questions for committed offsets are never answered.
    unanswered: usize,
    /// Answers of commits that are held back, while they are.
    held_answers: Option<Vec<(usize, MemberEvent)>>,
    /// Fetches that are to break off.
    breaking_off: BTreeSet<TopicPartition>,
    /// Counts everything that happens.
    activity: u64,
}

/// One member of the group and its fetcher.
#[derive(Debug, Default)]
struct Membership {
    events: VecDeque<MemberEvent>,
    /// What the member has; changed by acknowledgements.
    owned: Vec<TopicPartition>,
    waiting: Option<MemberEvent>,
    leaving: bool,
    running: BTreeMap<TopicPartition, i64>,
    /// The fetcher is to break, or is broken.
    fetcher: FetcherState,
    /// What a member that broke had, for the one that takes its place.
    left: Vec<TopicPartition>,
    /// Members that were made in the place of a broken one.
    rebuilt: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FetcherState {
    #[default]
    Whole,
    Breaking,
    Broken,
    /// It brings nothing, and does not say why.
    Silent,
}

impl State {
    fn member(&mut self, number: usize) -> &mut Membership {
        self.members.entry(number).or_default()
    }

    fn is_owned_by_another(&self, number: usize, partition: &TopicPartition) -> bool {
        let mut others = self.members.iter().filter(|(other, _)| **other != number);
        others.any(|(_, member)| member.owned.contains(partition))
    }
}

/// A record in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
    pub(crate) timestamp_ms: Option<i64>,
}

impl MemoryCluster {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn create_topic(&self, name: &str, partitions: i32) {
        let count = usize::try_from(partitions).unwrap_or(1);
        self.state().topics.entry(name.to_owned()).or_insert_with(|| vec![Vec::new(); count]);
    }

    /// Appends a record; the key chooses the partition as in Java.
    pub(crate) fn append(&self, topic: &str, partition: Option<i32>, record: Stored) -> (i32, i64) {
        let mut state = self.state();
        state.activity += 1;
        let logs = state.topics.entry(topic.to_owned()).or_insert_with(|| vec![Vec::new()]);
        let count = i32::try_from(logs.len()).unwrap_or(1);
        let chosen = partition
            .or_else(|| record.key.as_ref().map(|key| partition_for_key(key, count)))
            .unwrap_or(0)
            .clamp(0, count - 1);
        let log = &mut logs[usize::try_from(chosen).unwrap_or(0)];
        log.push(record);
        (chosen, i64::try_from(log.len()).unwrap_or(i64::MAX) - 1)
    }

    /// Records below `below` are gone, as if by retention.
    pub(crate) fn delete_records(&self, partition: &TopicPartition, below: i64) {
        let mut state = self.state();
        state.activity += 1;
        state.lows.insert(partition.clone(), below);
    }

    pub(crate) fn low(&self, partition: &TopicPartition) -> i64 {
        self.state().lows.get(partition).copied().unwrap_or(0)
    }

    /// The log ends at `end` from now on, as after an unclean election.
    pub(crate) fn truncate(&self, partition: &TopicPartition, end: i64) {
        let mut state = self.state();
        state.activity += 1;
        let at = usize::try_from(partition.partition()).unwrap_or(usize::MAX);
        if let Some(log) = state.topics.get_mut(partition.topic()).and_then(|logs| logs.get_mut(at))
        {
            log.truncate(usize::try_from(end).unwrap_or(0));
        }
    }

    pub(crate) fn records(&self, topic: &str) -> Vec<(i32, Stored)> {
        let state = self.state();
        let logs = state.topics.get(topic).cloned().unwrap_or_default();
        (0..).zip(logs).flat_map(|(p, log)| log.into_iter().map(move |r| (p, r))).collect()
    }

    pub(crate) fn partitions(&self, topic: &str) -> Vec<TopicPartition> {
        let count = self.state().topics.get(topic).map_or(0, Vec::len);
        let count = i32::try_from(count).unwrap_or(0);
        (0..count).map(|partition| TopicPartition::new(topic, partition)).collect()
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.state().topics.keys().cloned().collect()
    }

    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.state().committed.get(partition).map(|(offset, _)| *offset)
    }

    pub(crate) fn log(&self, partition: &TopicPartition) -> Vec<Stored> {
        let at = usize::try_from(partition.partition()).unwrap_or(usize::MAX);
        let state = self.state();
        state
            .topics
            .get(partition.topic())
            .and_then(|logs| logs.get(at))
            .cloned()
            .unwrap_or_default()
    }

    /// A new member without partitions. Returns its number, from 0.
    pub(crate) fn join(&self) -> usize {
        let mut state = self.state();
        let number = state.joined;
        state.joined += 1;
        state.members.insert(number, Membership::default());
        number
    }

    /// A member is dead: what it had belongs to nobody.
    pub(crate) fn forget(&self, member: usize) {
        let mut state = self.state();
        state.activity += 1;
        state.members.remove(&member);
    }

    pub(crate) fn tell(&self, member: usize, event: MemberEvent) {
        let mut state = self.state();
        state.activity += 1;
        state.member(member).events.push_back(event);
    }

    pub(crate) fn owned(&self) -> Vec<TopicPartition> {
        let state = self.state();
        state.members.values().flat_map(|member| member.owned.iter().cloned()).collect()
    }

    pub(crate) fn owner(&self, partition: &TopicPartition) -> Option<usize> {
        let state = self.state();
        let mut members = state.members.iter();
        members.find(|(_, m)| m.owned.contains(partition)).map(|(number, _)| *number)
    }

    pub(crate) fn fail_deliveries(&self, count: usize) {
        self.state().failing_deliveries = count;
    }

    pub(crate) fn fail_deliveries_at(&self, numbers: &[usize]) {
        self.state().failing_at = numbers.to_vec();
    }

    pub(crate) fn fail_deliveries_to(&self, topic: Option<&str>) {
        self.state().failing_topic = topic.map(Arc::from);
    }

    pub(crate) fn answer_commits(&self, answers: impl IntoIterator<Item = CommitStatus>) {
        self.state().commit_answers.extend(answers);
    }

    /// One of a worker's clients has a fatal error. They share one producer.
    pub(crate) fn break_client(&self, member: usize, client: ClientKind) {
        let mut state = self.state();
        state.activity += 1;
        match client {
            ClientKind::Member => {
                let broken = MemberEvent::Broken("the test breaks it".to_owned());
                state.member(member).events.push_front(broken);
            }
            ClientKind::Fetcher => state.member(member).fetcher = FetcherState::Breaking,
            ClientKind::Producer => state.producer_broken = true,
        }
    }

    /// A worker's fetcher brings nothing any more, until it is replaced.
    pub(crate) fn silence_fetcher(&self, member: usize) {
        self.state().member(member).fetcher = FetcherState::Silent;
    }

    /// So many of the next questions for committed offsets are never answered.
    pub(crate) fn leave_unanswered(&self, count: usize) {
        self.state().unanswered = count;
    }

    /// Answers of commits are held back, or come all at once; the commits count all the same.
    pub(crate) fn hold_commit_answers(&self, hold: bool) {
        let mut state = self.state();
        let held = if hold { Some(Vec::new()) } else { None };
        let released = std::mem::replace(&mut state.held_answers, held);
        state.activity += 1;
        for (member, answer) in released.into_iter().flatten() {
            state.member(member).events.push_back(answer);
        }
    }

    /// A fetch breaks off with an error; nothing comes until it is started again.
    pub(crate) fn break_off_fetch(&self, partition: &TopicPartition) {
        let mut state = self.state();
        state.activity += 1;
        state.breaking_off.insert(partition.clone());
    }

    /// The last `count` records that a running fetch has brought come once more.
    pub(crate) fn deliver_again(&self, partition: &TopicPartition, count: i64) {
        let mut state = self.state();
        state.activity += 1;
        for member in state.members.values_mut() {
            if let Some(position) = member.running.get_mut(partition) {
                *position = (*position - count).max(0);
            }
        }
    }

    /// The group's offset as somebody else has written it.
    pub(crate) fn set_committed(&self, partition: &TopicPartition, offset: i64, metadata: &str) {
        let stored = (offset, metadata.to_owned());
        self.state().committed.insert(partition.clone(), stored);
    }

    /// How many members were made in the place of broken ones of this worker.
    pub(crate) fn rebuilt_members(&self, member: usize) -> usize {
        self.state().member(member).rebuilt
    }

    pub(crate) fn activity(&self) -> u64 {
        self.state().activity
    }
}

pub(crate) struct MemoryMember {
    pub(crate) cluster: MemoryCluster,
    pub(crate) number: usize,
}

impl Member for MemoryMember {
    fn poll(&mut self) -> Option<MemberEvent> {
        let mut state = self.cluster.state();
        let rebalance = |event: &MemberEvent| {
            matches!(
                event,
                MemberEvent::Assigned(_) | MemberEvent::Revoked(_) | MemberEvent::Lost(_)
            )
        };
        let member = state.member(self.number);
        if member.waiting.is_some() && member.events.front().is_some_and(rebalance) {
            return None;
        }
        let event = member.events.pop_front()?;
        if rebalance(&event) {
            member.waiting = Some(event.clone());
        }
        state.activity += 1;
        Some(event)
    }

    fn acknowledge(&mut self) -> Result<(), PortError> {
        let mut state = self.cluster.state();
        state.activity += 1;
        let member = state.member(self.number);
        match member.waiting.take() {
            Some(MemberEvent::Assigned(partitions)) => member.owned.extend(partitions),
            Some(MemberEvent::Revoked(partitions) | MemberEvent::Lost(partitions)) => {
                member.owned.retain(|owned| !partitions.contains(owned));
            }
            _ => return Err(PortError::lasting("nothing waits for an acknowledgement")),
        }
        Ok(())
    }

    fn commit(&mut self, id: u64, entries: &[CommitEntry]) -> Result<(), PortError> {
        let mut state = self.cluster.state();
        state.activity += 1;
        let answer = state.commit_answers.pop_front();
        let mut statuses = Vec::new();
        for entry in entries {
            let foreign = state.is_owned_by_another(self.number, &entry.partition);
            let default = if foreign { CommitStatus::Retry } else { CommitStatus::Accepted };
            let status = answer.unwrap_or(default);
            if status == CommitStatus::Accepted {
                let stored = (entry.offset, entry.metadata.clone());
                state.committed.insert(entry.partition.clone(), stored);
            }
            if status == CommitStatus::MemberLost {
                state.member(self.number).owned.clear(); // the group does not know it
            }
            statuses.push((entry.partition.clone(), status));
        }
        let answered = MemberEvent::CommitAnswered { id, statuses };
        match &mut state.held_answers {
            Some(held) => held.push((self.number, answered)),
            None => state.member(self.number).events.push_back(answered),
        }
        Ok(())
    }

    fn committed(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(MemoryCommitted(self.cluster.clone()))
    }

    fn has_joined(&self) -> bool {
        true
    }

    fn leave(&mut self) {
        let mut state = self.cluster.state();
        let member = state.member(self.number);
        member.leaving = true;
        let owned = member.owned.clone();
        member.events.push_back(MemberEvent::Revoked(owned));
    }

    fn rejoin(&mut self) {
        let mut state = self.cluster.state();
        let member = state.member(self.number);
        let owned = member.owned.clone();
        member.events.push_back(MemberEvent::Lost(owned.clone()));
        member.events.push_back(MemberEvent::Assigned(owned));
    }

    fn has_left(&self) -> bool {
        let mut state = self.cluster.state();
        let member = state.member(self.number);
        member.leaving && member.owned.is_empty() && member.waiting.is_none()
    }

    fn close(self: Box<Self>, _graceful: bool) {}

    fn retire(self: Box<Self>, done: Done) {
        let mut state = self.cluster.state();
        state.activity += 1;
        let member = state.member(self.number);
        member.left.append(&mut member.owned);
        member.events.clear();
        member.waiting = None;
        drop(state);
        done();
    }
}

/// Makes the clients of the worker with this number anew.
pub(crate) struct MemoryClients {
    pub(crate) cluster: MemoryCluster,
    pub(crate) number: usize,
}

impl Clients for MemoryClients {
    /// The group gives back what the broken one had, unless another has it by now.
    fn member(&self, _waker: Waker) -> Result<Box<dyn Member>, PortError> {
        let mut state = self.cluster.state();
        state.activity += 1;
        let mut left = std::mem::take(&mut state.member(self.number).left);
        left.retain(|partition| !state.is_owned_by_another(self.number, partition));
        let member = state.member(self.number);
        member.rebuilt += 1;
        member.events.push_back(MemberEvent::Assigned(left));
        drop(state);
        Ok(Box::new(MemoryMember { cluster: self.cluster.clone(), number: self.number }))
    }

    fn fetch(&self, _waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        let mut state = self.cluster.state();
        state.activity += 1;
        let member = state.member(self.number);
        (member.fetcher, member.running) = (FetcherState::Whole, BTreeMap::new());
        drop(state);
        let positions = Positions::Member(self.number);
        Ok(Box::new(MemoryFetch { cluster: self.cluster.clone(), positions }))
    }
}

struct MemoryCommitted(MemoryCluster);

#[async_trait]
impl CommittedOffsets for MemoryCommitted {
    async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
        let is_answered = {
            let mut state = self.0.state();
            let is_answered = state.unanswered == 0;
            state.unanswered = state.unanswered.saturating_sub(1);
            is_answered
        };
        if !is_answered {
            futures::future::pending::<()>().await;
        }
        let state = self.0.state();
        let read = partitions.into_iter().map(|partition| {
            let stored = state.committed.get(&partition);
            Committed {
                offset: stored.map(|(offset, _)| *offset),
                metadata: stored.map_or_else(String::new, |(_, metadata)| metadata.clone()),
                partition,
            }
        });
        Ok(read.collect())
    }
}

pub(crate) struct MemoryFetch {
    pub(crate) cluster: MemoryCluster,
    /// The member whose input it fetches; a restore has positions of its own.
    pub(crate) positions: Positions,
}

pub(crate) enum Positions {
    Member(usize),
    Own(BTreeMap<TopicPartition, i64>),
}

impl MemoryFetch {
    fn with<T>(
        &mut self,
        act: impl FnOnce(&mut State, &mut BTreeMap<TopicPartition, i64>) -> T,
    ) -> T {
        let mut state = self.cluster.state();
        let member = match &mut self.positions {
            Positions::Own(own) => return act(&mut state, own),
            Positions::Member(member) => *member,
        };
        let mut running = std::mem::take(&mut state.member(member).running);
        let result = act(&mut state, &mut running);
        state.member(member).running = running;
        result
    }
}

impl MemoryFetch {
    /// A broken one says so once, and brings nothing any more.
    fn is_broken(&self, out: &mut Vec<FetchEvent>) -> bool {
        let Positions::Member(number) = self.positions else {
            return false;
        };
        let mut state = self.cluster.state();
        let before = std::mem::replace(&mut state.member(number).fetcher, FetcherState::Broken);
        match before {
            FetcherState::Whole | FetcherState::Silent => state.member(number).fetcher = before,
            FetcherState::Breaking => {
                state.activity += 1;
                out.push(FetchEvent::Broken("the test breaks it".to_owned()));
            }
            FetcherState::Broken => {}
        }
        before != FetcherState::Whole
    }
}

impl Fetch for MemoryFetch {
    fn start(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), PortError> {
        self.with(|state, running| {
            state.activity += 1;
            running.insert(partition.clone(), offset);
        });
        Ok(())
    }

    fn stop(&mut self, partition: &TopicPartition) -> Result<(), PortError> {
        self.with(|_, running| running.remove(partition));
        Ok(())
    }

    fn poll(&mut self, max_records: usize, out: &mut Vec<FetchEvent>) {
        if self.is_broken(out) {
            return;
        }
        let mut left = max_records;
        self.with(|state, running| {
            let mut lost = Vec::new();
            for (partition, position) in running.iter_mut() {
                if state.breaking_off.remove(partition) {
                    let reason = "the test breaks it off".to_owned();
                    lost.push(partition.clone());
                    out.push(FetchEvent::Trouble { partition: partition.clone(), reason });
                    continue;
                }
                let at = usize::try_from(partition.partition()).unwrap_or(0);
                let Some(log) = state.topics.get(partition.topic()).and_then(|logs| logs.get(at))
                else {
                    continue;
                };
                let low = state.lows.get(partition).copied().unwrap_or(0);
                let end = i64::try_from(log.len()).unwrap_or(i64::MAX);
                if !(low..=end).contains(position) {
                    let (partition, offset) = (partition.clone(), *position);
                    lost.push(partition.clone());
                    out.push(FetchEvent::OutOfRange { partition, offset });
                    continue;
                }
                let mut run = Run::new(partition.clone());
                let from = usize::try_from(*position).unwrap_or(0);
                for record in log.iter().skip(from).take(left) {
                    let headers = record.headers.iter().map(|(n, v)| (n.as_str(), v.as_deref()));
                    let (key, value) = (record.key.as_deref(), record.value.as_deref());
                    run.push(*position, record.timestamp_ms, key, value, headers);
                    *position += 1;
                    left -= 1;
                }
                if !run.is_empty() {
                    state.activity += 1;
                    out.push(FetchEvent::Run(run));
                }
            }
            for partition in lost {
                running.remove(&partition); // dead until it is started again
            }
        });
    }

    fn end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.cluster.state();
        let at = usize::try_from(partition.partition()).ok()?;
        let log = state.topics.get(partition.topic())?.get(at)?;
        i64::try_from(log.len()).ok()
    }

    fn close(self: Box<Self>) {}
}

impl RestoreFetches for MemoryCluster {
    fn open(&self, _waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        Ok(Box::new(MemoryFetch {
            cluster: self.clone(),
            positions: Positions::Own(BTreeMap::new()),
        }))
    }
}

impl Producer for MemoryCluster {
    fn send(
        &self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
    ) -> Result<(), SendError> {
        let fails = {
            let mut state = self.state();
            if state.producer_broken {
                let reason = "the test breaks it".to_owned();
                return Err(SendError::Broken { client: state.producer + 1, reason });
            }
            let fails = state.failing_deliveries > 0
                || state.failing_at.contains(&0)
                || state.failing_topic.as_deref() == Some(&*record.topic);
            state.failing_deliveries = state.failing_deliveries.saturating_sub(1);
            state.failing_at.retain(|at| *at > 0);
            state.failing_at.iter_mut().for_each(|at| *at -= 1);
            fails
        };
        if fails {
            reports.report(ticket, Err(PortError::passing("the test lets this delivery fail")));
            return Ok(());
        }
        let stored = Stored {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp_ms: record.timestamp_ms,
        };
        self.append(&record.topic, record.partition, stored);
        reports.report(ticket, Ok(()));
        Ok(())
    }

    fn renew(&self, client: u64) -> Result<(), PortError> {
        let mut state = self.state();
        state.activity += 1;
        if state.producer + 1 == client {
            state.producer += 1;
            state.producer_broken = false;
        }
        Ok(())
    }

    fn close(&self, _graceful: bool) {}
}

#[async_trait]
impl Admin for MemoryCluster {
    async fn partitions(&self, topic: &str) -> Result<Option<i32>, PortError> {
        let count = self.state().topics.get(topic).map(Vec::len);
        Ok(count.and_then(|count| i32::try_from(count).ok()))
    }

    async fn identity(&self, topic: &str) -> Result<TopicIdentity, PortError> {
        let there = self.state().topics.contains_key(topic);
        let known = TopicIdentity::There { id: None };
        Ok(if there { known } else { TopicIdentity::Missing })
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64), PortError> {
        Ok((self.low(partition), i64::try_from(self.log(partition).len()).unwrap_or(i64::MAX)))
    }

    async fn offset_at(&self, partition: &TopicPartition, time_ms: i64) -> Result<i64, PortError> {
        let log = self.log(partition);
        let newer = |record: &Stored| record.timestamp_ms.is_some_and(|at| at >= time_ms);
        let at = log.iter().position(newer).unwrap_or(log.len());
        Ok(i64::try_from(at).unwrap_or(i64::MAX))
    }

    async fn create(&self, topic: &TopicSpec) -> Result<Created, PortError> {
        self.create_topic(&topic.name, topic.partitions);
        Ok(Created::New)
    }

    async fn settings(&self, _topic: &str) -> Result<Option<Vec<(String, String)>>, PortError> {
        Ok(None)
    }

    async fn cluster_id(&self) -> Option<String> {
        None
    }
}

/// 2026-01-01: what wall clocks show when virtual time begins.
pub(crate) const WALL_CLOCK_BEGIN_MS: i64 = 1_767_225_600_000;

/// Virtual time: tokio's paused clock.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    pub(crate) start: tokio::time::Instant,
    /// Another one for each process.
    pub(crate) seed: u64,
}

impl Host for VirtualHost {
    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn wall_clock_ms(&self) -> i64 {
        WALL_CLOCK_BEGIN_MS + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(0)
    }

    fn seed(&self) -> u64 {
        self.seed
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
