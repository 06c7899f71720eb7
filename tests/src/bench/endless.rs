//! Where do the records come from? A world without a broker: one member, records without end.
//!
//! The member is given all partitions at once and its commits are accepted at once. A partition that
//! is started brings records as fast as they are taken, in offset order, until it is stopped. A poll
//! brings records of one partition, as fetch responses do; partitions take turns.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use pelton::host::Machine;
use pelton::ports::{
    Admin, Clients, CommitEntry, Committed, CommittedOffsets, Created, Done, Fetch, FetchEvent,
    Host, Member, MemberEvent, OutRecord, PortError, Ports, Producer, Reports, RestoreFetches,
    SendError, TopicIdentity, TopicSpec, Waker,
};
use pelton::{Run, TopicPartition};
use pelton_engine::CommitStatus;

use super::processor;
use super::random::Random;

pub(super) const TOPIC: &str = "endless";

/// So many bytes a value has.
const VALUE_BYTES: usize = 100;

/// Records wanted of a log without an end.
const END: i64 = i64::MAX / 2;

/// The world; clones are the same one.
#[derive(Clone, Debug)]
pub(super) struct Endless {
    partitions: i32,
    keys: u32,
    /// Processor time that making records took, in nanoseconds.
    source_ns: Arc<AtomicU64>,
    written: Arc<Written>,
}

/// What a worker has left behind.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The highest offset that was committed.
    pub(super) committed: AtomicI64,
    /// The values of what was sent.
    pub(super) sent: Mutex<Vec<Vec<u8>>>,
}

impl Endless {
    /// A topic of so many partitions and so many keys over all of them.
    pub(super) fn new(partitions: i32, keys: u32) -> Self {
        Self { partitions, keys, source_ns: Arc::default(), written: Arc::default() }
    }

    /// Processor time that making records took so far, in nanoseconds.
    pub(super) fn source_ns(&self) -> u64 {
        self.source_ns.load(Ordering::Relaxed)
    }

    /// What has been sent and committed.
    #[cfg(test)]
    pub(super) fn written(&self) -> &Written {
        &self.written
    }

    /// The ports of the one worker there is.
    pub(super) fn ports(&self, host: Arc<Machine>, waker: Waker) -> Ports {
        let all = (0..self.partitions).map(|number| TopicPartition::new(TOPIC, number)).collect();
        let member = EndlessMember {
            events: VecDeque::from([MemberEvent::Assigned(all)]),
            written: Arc::clone(&self.written),
            ..EndlessMember::default()
        };
        Ports {
            member: Box::new(member),
            fetch: Box::new(EndlessFetch::new(self)),
            clients: Arc::new(NothingElse),
            producer: Arc::new(EndlessProducer(Arc::clone(&self.written))),
            admin: Arc::new(self.clone()),
            restores: Arc::new(NothingElse),
            host: host as Arc<dyn Host>,
            waker,
        }
    }
}

/// The group's only member.
#[derive(Debug, Default)]
struct EndlessMember {
    events: VecDeque<MemberEvent>,
    owned: Vec<TopicPartition>,
    /// What waits for an acknowledgement.
    waiting: Option<MemberEvent>,
    leaving: bool,
    written: Arc<Written>,
}

impl Member for EndlessMember {
    fn poll(&mut self) -> Option<MemberEvent> {
        let event = self.events.pop_front()?;
        if matches!(event, MemberEvent::Assigned(_) | MemberEvent::Revoked(_)) {
            self.waiting = Some(event.clone());
        }
        Some(event)
    }

    fn acknowledge(&mut self) -> Result<(), PortError> {
        match self.waiting.take() {
            Some(MemberEvent::Assigned(partitions)) => self.owned = partitions,
            Some(MemberEvent::Revoked(_)) => self.owned.clear(),
            _ => return Err(PortError::lasting("nothing waits for an acknowledgement")),
        }
        Ok(())
    }

    fn commit(&mut self, id: u64, entries: &[CommitEntry]) -> Result<(), PortError> {
        for entry in entries {
            self.written.committed.fetch_max(entry.offset, Ordering::Relaxed);
        }
        let accepted = |entry: &CommitEntry| (entry.partition.clone(), CommitStatus::Accepted);
        let statuses = entries.iter().map(accepted).collect();
        self.events.push_back(MemberEvent::CommitAnswered { id, statuses });
        Ok(())
    }

    fn committed(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(NothingElse)
    }

    fn has_joined(&self) -> bool {
        true
    }

    fn leave(&mut self) {
        self.leaving = true;
        self.events.push_back(MemberEvent::Revoked(self.owned.clone()));
    }

    fn rejoin(&mut self) {}

    fn has_left(&self) -> bool {
        self.leaving && self.owned.is_empty() && self.waiting.is_none()
    }

    fn close(self: Box<Self>, _graceful: bool) {}

    fn retire(self: Box<Self>, done: Done) {
        done();
    }
}

/// Records without end.
#[derive(Debug)]
struct EndlessFetch {
    world: Endless,
    /// The next offset of each partition that is started.
    running: BTreeMap<TopicPartition, i64>,
    /// The partition whose turn was last.
    last: i32,
    random: Random,
    value: [u8; VALUE_BYTES],
}

impl EndlessFetch {
    fn new(world: &Endless) -> Self {
        let (running, value) = (BTreeMap::new(), [b'v'; VALUE_BYTES]);
        Self { world: world.clone(), running, last: -1, random: Random::default(), value }
    }
}

impl Fetch for EndlessFetch {
    fn start(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), PortError> {
        self.running.insert(partition.clone(), offset);
        Ok(())
    }

    fn stop(&mut self, partition: &TopicPartition) -> Result<(), PortError> {
        self.running.remove(partition);
        Ok(())
    }

    fn poll(&mut self, max_records: usize, out: &mut Vec<FetchEvent>) {
        let after = |partition: &TopicPartition| partition.partition() > self.last;
        let next = self.running.keys().find(|partition| after(partition));
        let Some(partition) = next.or_else(|| self.running.keys().next()).cloned() else { return };
        let begun = processor::of_this_thread();
        let Some(position) = self.running.get_mut(&partition) else { return };
        self.last = partition.partition();
        // A key lives in one partition.
        let (number, partitions) = (self.last.unsigned_abs(), self.world.partitions.unsigned_abs());
        let keys = u64::from((self.world.keys / partitions).max(1));
        let mut run = Run::new(partition);
        for _ in 0..max_records {
            let key = self.random.below(keys) * u64::from(partitions) + u64::from(number);
            run.push(
                *position,
                Some(1_767_225_600_000),
                Some(&key.to_be_bytes()),
                Some(&self.value),
                [],
            );
            *position += 1;
        }
        out.push(FetchEvent::Run(run));
        let took = processor::of_this_thread().saturating_sub(begun);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.world.source_ns.fetch_add(took, Ordering::Relaxed);
    }

    fn end_offset(&self, _: &TopicPartition) -> Option<i64> {
        Some(END)
    }

    fn close(self: Box<Self>) {}
}

#[async_trait]
impl Admin for Endless {
    async fn partitions(&self, _: &str) -> Result<Option<i32>, PortError> {
        Ok(Some(self.partitions))
    }

    async fn identity(&self, _: &str) -> Result<TopicIdentity, PortError> {
        Ok(TopicIdentity::There { id: None })
    }

    async fn offsets(&self, _: &TopicPartition) -> Result<(i64, i64), PortError> {
        Ok((0, END))
    }

    async fn offset_at(&self, _: &TopicPartition, _: i64) -> Result<i64, PortError> {
        Ok(0)
    }

    async fn create(&self, _: &TopicSpec) -> Result<Created, PortError> {
        Ok(Created::Existed)
    }

    async fn settings(&self, _: &str) -> Result<Option<Vec<(String, String)>>, PortError> {
        Ok(None)
    }

    async fn cluster_id(&self) -> Option<String> {
        None
    }
}

/// What no measured worker needs: outputs, changelogs, other clients, earlier commits.
#[derive(Debug)]
struct NothingElse;

#[async_trait]
impl CommittedOffsets for NothingElse {
    async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
        let nothing = |partition| Committed { partition, offset: None, metadata: String::new() };
        Ok(partitions.into_iter().map(nothing).collect())
    }
}

impl Clients for NothingElse {
    fn member(&self, _: Waker) -> Result<Box<dyn Member>, PortError> {
        Err(PortError::lasting("there is one member"))
    }

    fn fetch(&self, _: Waker) -> Result<Box<dyn Fetch>, PortError> {
        Err(PortError::lasting("there is one fetcher"))
    }
}

impl RestoreFetches for NothingElse {
    fn open(&self, _: Waker) -> Result<Box<dyn Fetch>, PortError> {
        Err(PortError::lasting("there are no changelogs"))
    }
}

/// Delivers at once.
#[derive(Debug)]
struct EndlessProducer(Arc<Written>);

impl Producer for EndlessProducer {
    fn send(
        &self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
    ) -> Result<(), SendError> {
        let mut sent = self.0.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push(record.value.clone().unwrap_or_default());
        reports.report(ticket, Ok(()));
        Ok(())
    }

    fn renew(&self, _: u64) -> Result<(), PortError> {
        Ok(())
    }

    fn close(&self, _: bool) {}
}
