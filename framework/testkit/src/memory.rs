//! A cluster in memory: logs, one group, committed offsets; every port of a worker on it.
//!
//! It does what a cluster with one worker does on a good day, and what a test tells it to:
//! partitions are given and taken, deliveries and commits fail on demand.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::future::BoxFuture;
use pelton::ports::{
    Admin, CommitEntry, Committed, CommittedOffsets, Created, Fetch, FetchEvent, Host, Member,
    MemberEvent, OutRecord, PortError, Producer, Reports, RestoreFetches, SendError, TopicSpec,
    Waker,
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
    committed: HashMap<TopicPartition, (i64, String)>,
    events: VecDeque<MemberEvent>,
    /// What the member has; changed by acknowledgements.
    owned: Vec<TopicPartition>,
    waiting: Option<MemberEvent>,
    leaving: bool,
    running: BTreeMap<TopicPartition, i64>,
    /// So many of the next deliveries fail.
    failing_deliveries: usize,
    /// The answers of the next commits, instead of `Accepted`.
    commit_answers: VecDeque<CommitStatus>,
    /// Counts everything that happens.
    activity: u64,
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

    pub(crate) fn tell(&self, event: MemberEvent) {
        let mut state = self.state();
        state.activity += 1;
        state.events.push_back(event);
    }

    pub(crate) fn owned(&self) -> Vec<TopicPartition> {
        self.state().owned.clone()
    }

    pub(crate) fn fail_deliveries(&self, count: usize) {
        self.state().failing_deliveries = count;
    }

    pub(crate) fn answer_commits(&self, answers: impl IntoIterator<Item = CommitStatus>) {
        self.state().commit_answers.extend(answers);
    }

    pub(crate) fn activity(&self) -> u64 {
        self.state().activity
    }
}

pub(crate) struct MemoryMember(pub(crate) MemoryCluster);

impl Member for MemoryMember {
    fn poll(&mut self) -> Option<MemberEvent> {
        let mut state = self.0.state();
        let rebalance = |event: &MemberEvent| {
            matches!(
                event,
                MemberEvent::Assigned(_) | MemberEvent::Revoked(_) | MemberEvent::Lost(_)
            )
        };
        if state.waiting.is_some() && state.events.front().is_some_and(rebalance) {
            return None;
        }
        let event = state.events.pop_front()?;
        state.activity += 1;
        if rebalance(&event) {
            state.waiting = Some(event.clone());
        }
        Some(event)
    }

    fn acknowledge(&mut self) -> Result<(), PortError> {
        let mut state = self.0.state();
        state.activity += 1;
        match state.waiting.take() {
            Some(MemberEvent::Assigned(partitions)) => state.owned.extend(partitions),
            Some(MemberEvent::Revoked(partitions) | MemberEvent::Lost(partitions)) => {
                state.owned.retain(|owned| !partitions.contains(owned));
            }
            _ => return Err(PortError::lasting("nothing waits for an acknowledgement")),
        }
        Ok(())
    }

    fn commit(&mut self, id: u64, entries: &[CommitEntry]) -> Result<(), PortError> {
        let mut state = self.0.state();
        state.activity += 1;
        let status = state.commit_answers.pop_front().unwrap_or(CommitStatus::Accepted);
        let mut statuses = Vec::new();
        for entry in entries {
            if status == CommitStatus::Accepted {
                let stored = (entry.offset, entry.metadata.clone());
                state.committed.insert(entry.partition.clone(), stored);
            }
            statuses.push((entry.partition.clone(), status));
        }
        state.events.push_back(MemberEvent::CommitAnswered { id, statuses });
        Ok(())
    }

    fn committed(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(MemoryCommitted(self.0.clone()))
    }

    fn has_joined(&self) -> bool {
        true
    }

    fn leave(&mut self) {
        let mut state = self.0.state();
        state.leaving = true;
        let owned = state.owned.clone();
        state.events.push_back(MemberEvent::Revoked(owned));
    }

    fn rejoin(&mut self) {
        let mut state = self.0.state();
        let owned = state.owned.clone();
        state.events.push_back(MemberEvent::Lost(owned.clone()));
        state.events.push_back(MemberEvent::Assigned(owned));
    }

    fn has_left(&self) -> bool {
        let state = self.0.state();
        state.leaving && state.owned.is_empty() && state.waiting.is_none()
    }

    fn close(self: Box<Self>, _graceful: bool) {}
}

struct MemoryCommitted(MemoryCluster);

#[async_trait]
impl CommittedOffsets for MemoryCommitted {
    async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
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
    /// A restore has positions of its own.
    pub(crate) own: Option<BTreeMap<TopicPartition, i64>>,
}

impl MemoryFetch {
    fn with<T>(
        &mut self,
        act: impl FnOnce(&mut State, &mut BTreeMap<TopicPartition, i64>) -> T,
    ) -> T {
        let mut state = self.cluster.state();
        if let Some(own) = &mut self.own {
            return act(&mut state, own);
        }
        let mut running = std::mem::take(&mut state.running);
        let result = act(&mut state, &mut running);
        state.running = running;
        result
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
        let mut left = max_records;
        self.with(|state, running| {
            for (partition, position) in running.iter_mut() {
                let at = usize::try_from(partition.partition()).unwrap_or(0);
                let Some(log) = state.topics.get(partition.topic()).and_then(|logs| logs.get(at))
                else {
                    continue;
                };
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
        Ok(Box::new(MemoryFetch { cluster: self.clone(), own: Some(BTreeMap::new()) }))
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
            let fails = state.failing_deliveries > 0;
            state.failing_deliveries = state.failing_deliveries.saturating_sub(1);
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

    fn close(&self, _graceful: bool) {}
}

#[async_trait]
impl Admin for MemoryCluster {
    async fn partitions(&self, topic: &str) -> Result<Option<i32>, PortError> {
        let count = self.state().topics.get(topic).map(Vec::len);
        Ok(count.and_then(|count| i32::try_from(count).ok()))
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64), PortError> {
        let fetch = MemoryFetch { cluster: self.clone(), own: None };
        Ok((0, fetch.end_offset(partition).unwrap_or(0)))
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

/// Virtual time: tokio's paused clock.
#[derive(Debug)]
pub(crate) struct VirtualHost {
    pub(crate) start: tokio::time::Instant,
}

impl Host for VirtualHost {
    fn now(&self) -> Time {
        Time::ZERO + self.start.elapsed()
    }

    fn wall_clock_ms(&self) -> i64 {
        // 2026-01-01, plus what has passed.
        1_767_225_600_000 + i64::try_from(self.start.elapsed().as_millis()).unwrap_or(0)
    }

    fn seed(&self) -> u64 {
        1
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        tokio::time::sleep(duration).boxed()
    }
}
