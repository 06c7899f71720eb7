//! How does a worker reach the model? Its ports, each a hand on a client in the world.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use pelton::TopicPartition;
use pelton::ports::{
    Admin, ClientKind, Clients, CommitEntry, Committed, CommittedOffsets, Created, Done, Fetch,
    FetchEvent, Host, Member, MemberEvent, OutRecord, PortError, Ports, Producer, Reports,
    RestoreFetches, SendError, TopicIdentity, TopicSpec, Waker,
};
use pelton_engine::Time;

use super::fetcher::{FetchClient, FetchConfig};
use super::member::{MemberClient, MemberConfig};
use super::producer::{ProducerClient, ProducerConfig};
use super::transactional::{TransactionalClient, TransactionalConfig};
use super::wire::{ClientId, Wire};
use super::world::{AnyClient, World};
use crate::memory::WALL_CLOCK_BEGIN_MS;

/// The world, shared by everybody in it.
#[derive(Clone)]
pub(crate) struct SharedWorld(Arc<Mutex<World>>);

impl SharedWorld {
    pub(crate) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a worker's clients are made.
#[derive(Clone)]
pub(crate) struct ClientPlan {
    pub(crate) member: MemberConfig,
    pub(crate) fetch: FetchConfig,
    pub(crate) restore: FetchConfig,
    pub(crate) producer: ProducerConfig,
}

/// One worker's process: where its ports come from.
#[derive(Clone)]
pub(crate) struct Process {
    world: SharedWorld,
    number: usize,
    plan: Arc<ClientPlan>,
    host: Arc<SimHost>,
    /// Something was done to the world: its next moment may be another one.
    moved: Waker,
    current: Arc<Mutex<Current>>,
}

/// The clients at work.
#[derive(Default)]
struct Current {
    member: Option<ClientId>,
    fetch: Option<ClientId>,
    producer: Option<ClientId>,
}

impl Process {
    pub(crate) fn new(
        world: &SharedWorld,
        number: usize,
        plan: ClientPlan,
        host: Arc<SimHost>,
        moved: Waker,
    ) -> Self {
        let (world, current) = (world.clone(), Arc::default());
        Self { world, number, plan: Arc::new(plan), host, moved, current }
    }

    pub(crate) fn ports(&self, waker: Waker) -> Ports {
        let producer = self.new_producer();
        let fetch = self.new_fetch();
        let member = self.new_member(false);
        Ports {
            member,
            fetch,
            clients: Arc::new(self.clone()),
            producer,
            admin: Arc::new(self.clone()),
            restores: Arc::new(self.clone()),
            host: Arc::clone(&self.host) as Arc<dyn Host>,
            waker,
        }
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, make: impl FnOnce(ClientId, &Self) -> AnyClient) -> ClientId {
        let id = self.world.lock().add_client(self.host.now(), self.number, |id, _| make(id, self));
        (self.moved)();
        id
    }

    pub(crate) fn new_producer(&self) -> Arc<dyn Producer> {
        let client = self.add(|id, this| {
            AnyClient::Producer(ProducerClient::new(id, this.plan.producer.clone()))
        });
        self.current().producer = Some(client);
        Arc::new(SimProducer { process: self.clone(), client })
    }

    pub(crate) fn new_transactional(&self, config: TransactionalConfig) -> SimTransactional {
        let client = self
            .add(|id, _| AnyClient::Transactional(Box::new(TransactionalClient::new(id, config))));
        SimTransactional { process: self.clone(), client }
    }

    pub(crate) fn new_member(&self, again: bool) -> Box<dyn Member> {
        let client = self.add(|id, this| {
            let config = MemberConfig { again, ..this.plan.member.clone() };
            AnyClient::Member(Box::new(MemberClient::new(id, config)))
        });
        self.current().member = Some(client);
        Box::new(SimMember { process: self.clone(), client })
    }

    fn new_fetch(&self) -> Box<dyn Fetch> {
        let client =
            self.add(|id, this| AnyClient::Fetcher(FetchClient::new(id, this.plan.fetch.clone())));
        let before = self.current().fetch.replace(client);
        if let Some(before) = before {
            self.world.lock().drop_client(before);
        }
        Box::new(SimFetch { process: self.clone(), client, is_restore: false })
    }

    fn call<T>(
        &self,
        client: ClientId,
        act: impl FnOnce(&mut AnyClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        let mut world = self.world.lock();
        let result = world.call(self.host.now(), client, act);
        drop(world);
        (self.moved)();
        result
    }

    fn with_member<T>(
        &self,
        client: ClientId,
        act: impl FnOnce(&mut MemberClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        self.call(client, |client, wire| match client {
            AnyClient::Member(member) => Some(act(member, wire)),
            AnyClient::Fetcher(_) | AnyClient::Producer(_) | AnyClient::Transactional(_) => None,
        })
        .flatten()
    }

    fn with_fetch<T>(
        &self,
        client: ClientId,
        act: impl FnOnce(&mut FetchClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        self.call(client, |client, wire| match client {
            AnyClient::Fetcher(fetch) => Some(act(fetch, wire)),
            AnyClient::Member(_) | AnyClient::Producer(_) | AnyClient::Transactional(_) => None,
        })
        .flatten()
    }

    fn with_producer<T>(
        &self,
        client: ClientId,
        act: impl FnOnce(&mut ProducerClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        self.call(client, |client, wire| match client {
            AnyClient::Producer(producer) => Some(act(producer, wire)),
            AnyClient::Member(_) | AnyClient::Fetcher(_) | AnyClient::Transactional(_) => None,
        })
        .flatten()
    }

    fn with_transactional<T>(
        &self,
        client: ClientId,
        act: impl FnOnce(&mut TransactionalClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        self.call(client, |client, wire| match client {
            AnyClient::Transactional(producer) => Some(act(producer, wire)),
            AnyClient::Member(_) | AnyClient::Fetcher(_) | AnyClient::Producer(_) => None,
        })
        .flatten()
    }

    /// Has the worker heard of a revocation that it has not acknowledged yet?
    pub(crate) fn is_giving_back(&self) -> bool {
        let member = self.current().member;
        let asked = member.and_then(|client| self.with_member(client, |m, _| m.is_giving_back()));
        asked.unwrap_or(false)
    }

    /// Breaks the client at work, as a fatal error of librdkafka would.
    pub(crate) fn break_client(&self, client: ClientKind) {
        match client {
            ClientKind::Member => self.break_member(),
            ClientKind::Fetcher => self.break_fetcher(),
            ClientKind::Producer => self.break_producer(),
        }
    }

    fn break_member(&self) {
        let client = self.current().member;
        if let Some(client) = client {
            let _gone = self.with_member(client, |member, wire| {
                member.break_with("broken by the simulation");
                wire.wake();
            });
        }
    }

    fn break_fetcher(&self) {
        let client = self.current().fetch;
        if let Some(client) = client {
            let _gone = self.with_fetch(client, |fetch, wire| {
                fetch.break_with("broken by the simulation");
                wire.wake();
            });
        }
    }

    pub(crate) fn break_off_fetches(&self) {
        let client = self.current().fetch;
        if let Some(client) = client {
            let _gone = self.with_fetch(client, |fetch, wire| {
                fetch.break_off();
                wire.wake();
            });
        }
    }

    pub(crate) fn silence_fetcher(&self) {
        let client = self.current().fetch;
        if let Some(client) = client {
            let _gone = self.with_fetch(client, |fetch, _| fetch.silence());
        }
    }

    fn break_producer(&self) {
        let client = self.current().producer;
        if let Some(client) = client {
            let _gone = self.with_producer(client, |producer, _| {
                producer.break_with("broken by the simulation")
            });
        }
    }
}

fn gone() -> PortError {
    PortError::lasting("the client is gone")
}

struct SimMember {
    process: Process,
    client: ClientId,
}

impl Member for SimMember {
    fn poll(&mut self) -> Option<MemberEvent> {
        self.process.with_member(self.client, MemberClient::poll).flatten()
    }

    fn acknowledge(&mut self) -> Result<(), PortError> {
        self.process
            .with_member(self.client, MemberClient::acknowledge)
            .unwrap_or_else(|| Err(gone()))
    }

    fn commit(&mut self, id: u64, entries: &[CommitEntry]) -> Result<(), PortError> {
        let sent =
            self.process.with_member(self.client, |member, wire| member.commit(id, entries, wire));
        sent.unwrap_or_else(|| Err(gone()))
    }

    fn committed(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(SimCommitted { process: self.process.clone(), client: self.client })
    }

    fn has_joined(&self) -> bool {
        self.process.with_member(self.client, |member, _| member.has_joined()).unwrap_or(false)
    }

    fn leave(&mut self) {
        let _gone = self.process.with_member(self.client, MemberClient::leave);
    }

    fn rejoin(&mut self) {
        let _gone = self.process.with_member(self.client, MemberClient::rejoin);
    }

    fn has_left(&self) -> bool {
        self.process.with_member(self.client, |member, _| member.has_left()).unwrap_or(true)
    }

    fn close(self: Box<Self>, graceful: bool) {
        let _gone =
            self.process.with_member(self.client, |member, wire| member.close(graceful, wire));
    }

    fn retire(self: Box<Self>, done: Done) {
        let _gone = self.process.with_member(self.client, |member, wire| member.close(true, wire));
        done();
    }
}

struct SimCommitted {
    process: Process,
    client: ClientId,
}

#[async_trait]
impl CommittedOffsets for SimCommitted {
    async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
        let (tell, told) = oneshot::channel();
        let tell = Box::new(move |answer| drop::<Result<(), _>>(tell.send(answer)));
        let asked = self.process.with_member(self.client, |member, wire| {
            member.read_committed(partitions, tell, wire);
        });
        if asked.is_none() {
            return Err(PortError::passing("the client is gone"));
        }
        told.await.unwrap_or_else(|_| Err(PortError::passing("the client is gone")))
    }
}

struct SimFetch {
    process: Process,
    client: ClientId,
    is_restore: bool,
}

impl Fetch for SimFetch {
    fn start(&mut self, partition: &TopicPartition, offset: i64) -> Result<(), PortError> {
        let started = self
            .process
            .with_fetch(self.client, |fetch, wire| fetch.start(partition, offset, wire));
        started.unwrap_or_else(|| Err(gone()))
    }

    fn stop(&mut self, partition: &TopicPartition) -> Result<(), PortError> {
        let stopped =
            self.process.with_fetch(self.client, |fetch, wire| fetch.stop(partition, wire));
        stopped.unwrap_or(Ok(()))
    }

    fn poll(&mut self, max_records: usize, out: &mut Vec<FetchEvent>) {
        let _gone =
            self.process.with_fetch(self.client, |fetch, wire| fetch.poll(max_records, out, wire));
    }

    fn end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.process.with_fetch(self.client, |fetch, _| fetch.end_offset(partition)).flatten()
    }

    /// May come from any thread, so it touches nothing: a fetcher's successor takes it away.
    fn close(self: Box<Self>) {
        if self.is_restore {
            self.process.world.lock().drop_client(self.client);
        }
    }
}

struct SimProducer {
    process: Process,
    client: ClientId,
}

impl Producer for SimProducer {
    fn send(
        &self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
    ) -> Result<(), SendError> {
        let sent = self.process.with_producer(self.client, |producer, wire| {
            producer.send(record, ticket, reports, wire)
        });
        sent.unwrap_or_else(|| Err(SendError::Refused(gone())))
    }

    fn renew(&self, client: u64) -> Result<(), PortError> {
        let renewed =
            self.process.with_producer(self.client, |producer, wire| producer.renew(client, wire));
        renewed.unwrap_or_else(|| Err(gone()))
    }

    fn close(&self, graceful: bool) {
        let _gone = self
            .process
            .with_producer(self.client, |producer, wire| producer.close(graceful, wire));
    }
}

/// A transactional producer: no port yet. Calls on one that is gone have no outcome.
pub(crate) struct SimTransactional {
    process: Process,
    client: ClientId,
}

impl SimTransactional {
    pub(crate) fn with<T>(
        &self,
        act: impl FnOnce(&mut TransactionalClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        self.process.with_transactional(self.client, act)
    }
}

impl Clients for Process {
    fn member(&self, _waker: Waker) -> Result<Box<dyn Member>, PortError> {
        let before = self.current().member.take();
        if let Some(before) = before {
            self.world.lock().drop_client(before);
        }
        Ok(self.new_member(true))
    }

    fn fetch(&self, _waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        Ok(self.new_fetch())
    }
}

impl RestoreFetches for Process {
    fn open(&self, _waker: Waker) -> Result<Box<dyn Fetch>, PortError> {
        let client = self
            .add(|id, this| AnyClient::Fetcher(FetchClient::new(id, this.plan.restore.clone())));
        Ok(Box::new(SimFetch { process: self.clone(), client, is_restore: true }))
    }
}

impl Process {
    /// A question and its answer take a while; without a broker none comes.
    async fn ask(&self) -> Result<(), PortError> {
        const ROUND_TRIP: Duration = Duration::from_millis(2);
        const PATIENCE: Duration = Duration::from_secs(5);
        let cut_off = self.world.lock().is_cut_off(self.host.now());
        self.host.sleep(if cut_off { PATIENCE } else { ROUND_TRIP }).await;
        if cut_off { Err(PortError::passing("no broker answers")) } else { Ok(()) }
    }
}

#[async_trait]
impl Admin for Process {
    async fn partitions(&self, topic: &str) -> Result<Option<i32>, PortError> {
        self.ask().await?;
        Ok(self.world.lock().cluster.topics().get(topic).copied())
    }

    async fn identity(&self, topic: &str) -> Result<TopicIdentity, PortError> {
        self.ask().await?;
        let there = self.world.lock().cluster.topics().contains_key(topic);
        let known = TopicIdentity::There { id: Some(format!("id-of-{topic}")) };
        Ok(if there { known } else { TopicIdentity::Missing })
    }

    async fn offsets(&self, partition: &TopicPartition) -> Result<(i64, i64), PortError> {
        self.ask().await?;
        let world = self.world.lock();
        let log =
            world.cluster.log(partition).ok_or_else(|| PortError::passing("no such partition"))?;
        // The client that asks is a careful reader: an open transaction hides the rest from it.
        Ok((log.start(), log.last_stable()))
    }

    async fn offset_at(&self, partition: &TopicPartition, time_ms: i64) -> Result<i64, PortError> {
        self.ask().await?;
        let world = self.world.lock();
        let log =
            world.cluster.log(partition).ok_or_else(|| PortError::passing("no such partition"))?;
        let newer =
            |record: &super::wire::LogRecord| record.timestamp_ms.is_some_and(|at| at >= time_ms);
        let found = log.records(false).find(|(_, record)| newer(record)).map(|(offset, _)| offset);
        Ok(found.unwrap_or_else(|| log.end()))
    }

    async fn create(&self, topic: &TopicSpec) -> Result<Created, PortError> {
        self.ask().await?;
        let mut world = self.world.lock();
        let existed = world.cluster.topics().contains_key(&*topic.name);
        world.cluster.create_topic(&topic.name, topic.partitions);
        Ok(if existed { Created::Existed } else { Created::New })
    }

    async fn settings(&self, _topic: &str) -> Result<Option<Vec<(String, String)>>, PortError> {
        Ok(None)
    }

    async fn cluster_id(&self) -> Option<String> {
        Some("simulated".to_owned())
    }
}

/// A worker's clock: tokio's, paused. All workers' clocks begin at the same moment.
#[derive(Debug)]
pub(crate) struct SimHost {
    /// What this runtime's clock showed at the beginning of all.
    start: tokio::time::Instant,
    seed: u64,
    sleeps: Arc<Mutex<Sleeps>>,
}

/// What sleeps, by the moment it wakes up at.
#[derive(Debug, Default)]
struct Sleeps {
    until: BTreeSet<(Time, u64)>,
    number: u64,
}

/// Somebody sleeps, until this is dropped.
struct Sleeper {
    sleeps: Arc<Mutex<Sleeps>>,
    own: (Time, u64),
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let mut sleeps = self.sleeps.lock().unwrap_or_else(PoisonError::into_inner);
        sleeps.until.remove(&self.own);
    }
}

impl SimHost {
    pub(crate) fn new(start: tokio::time::Instant, seed: u64) -> Self {
        Self { start, seed, sleeps: Arc::default() }
    }

    /// What this runtime's clock shows at a moment.
    pub(crate) fn at(&self, moment: Time) -> tokio::time::Instant {
        self.start + moment.since(Time::ZERO)
    }

    /// When the first of those wakes up that sleep by [`Host::sleep`].
    pub(crate) fn wakes(&self) -> Option<Time> {
        let sleeps = self.sleeps.lock().unwrap_or_else(PoisonError::into_inner);
        sleeps.until.first().map(|(until, _)| *until)
    }

    fn sleeper(&self, until: Time) -> Sleeper {
        let mut sleeps = self.sleeps.lock().unwrap_or_else(PoisonError::into_inner);
        sleeps.number += 1;
        let own = (until, sleeps.number);
        sleeps.until.insert(own);
        Sleeper { sleeps: Arc::clone(&self.sleeps), own }
    }
}

impl Host for SimHost {
    /// Asked inside the worker's runtime.
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
        let sleeper = self.sleeper(self.now() + duration);
        let sleep = tokio::time::sleep(duration);
        async move {
            let _until_it_wakes = sleeper;
            sleep.await;
        }
        .boxed()
    }
}

/// What stands in the logs of a topic at the end.
pub(crate) fn records_of(
    world: &World,
    topic: &str,
) -> BTreeMap<TopicPartition, Vec<(i64, super::wire::LogRecord)>> {
    let of_topic = world.cluster.partitions().filter(|partition| partition.topic() == topic);
    let read = |partition: &TopicPartition| {
        let log = world.cluster.log(partition)?;
        let records = log.records(true).map(|(offset, record)| (offset, record.clone()));
        Some((partition.clone(), records.collect()))
    };
    of_topic.filter_map(read).collect()
}
