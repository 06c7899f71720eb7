//! What do the brokers do? Nodes that come and go, partitions with leaders, groups and
//! transactions with coordinators; a request in, answers out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::group::{Group, GroupConfig};
use super::log::Log;
use super::random::Random;
use super::transactions::{Ending, Target, Transactions};
use super::wire::{
    Answer, CallId, Code, Directory, FetchPosition, GroupAnswer, GroupRequest, LogRecord, Node,
    ProducerBatch, Request,
};

/// All brokers.
#[derive(Debug)]
pub(crate) struct Cluster {
    nodes: Vec<bool>,
    /// Until when a node is frozen, or was.
    frozen: Vec<Option<Time>>,
    topics: BTreeMap<Arc<str>, i32>,
    partitions: BTreeMap<TopicPartition, Partition>,
    groups: BTreeMap<Arc<str>, Group>,
    transactions: Transactions,
    /// Who coordinates a group or a transactional id.
    offices: BTreeMap<Arc<str>, Office>,
    parked: BTreeMap<CallId, Parked>,
    directory: Directory,
    group_config: GroupConfig,
    random: Random,
}

#[derive(Debug)]
struct Partition {
    log: Log,
    leader: Option<Node>,
    /// Its next leader takes over then.
    election: Option<Time>,
    waiting: Vec<CallId>,
}

#[derive(Clone, Copy, Debug)]
struct Office {
    node: Option<Node>,
    /// The next one takes over, or the new one has read its memory.
    ready: Option<Time>,
}

/// A fetch that waits for records.
#[derive(Debug)]
struct Parked {
    node: Node,
    positions: Vec<FetchPosition>,
    read_committed: bool,
    until: Time,
}

/// A node that thaws hears what has arrived meanwhile before its timers run out. (Kafka does both
/// at the same time.)
const THAWING: Duration = Duration::from_millis(200);

/// A new leader or coordinator is found within so long.
const ELECTION: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(2_500));

impl Cluster {
    pub(crate) fn new(nodes: usize, group_config: GroupConfig, random: Random) -> Self {
        let directory = Directory { nodes, ..Directory::default() };
        Self {
            nodes: vec![true; nodes],
            frozen: vec![None; nodes],
            topics: BTreeMap::new(),
            partitions: BTreeMap::new(),
            groups: BTreeMap::new(),
            transactions: Transactions::default(),
            offices: BTreeMap::new(),
            parked: BTreeMap::new(),
            directory,
            group_config,
            random,
        }
    }

    pub(crate) fn create_topic(&mut self, name: &str, partitions: i32) {
        let name: Arc<str> = name.into();
        if self.topics.contains_key(&name) {
            return;
        }
        for number in 0..partitions {
            let partition = TopicPartition::new(&*name, number);
            let leader = self.next_node(usize::try_from(number).unwrap_or(0));
            self.directory.leaders.insert(partition.clone(), leader);
            let log = Log::default();
            let hosted = Partition { log, leader, election: None, waiting: Vec::new() };
            self.partitions.insert(partition, hosted);
        }
        self.topics.insert(name, partitions);
    }

    /// The first node that is up, from `from` on.
    fn next_node(&self, from: usize) -> Option<Node> {
        let count = self.nodes.len();
        (from..from + count).map(|node| node % count).find(|node| self.nodes[*node])
    }

    pub(crate) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn topics(&self) -> &BTreeMap<Arc<str>, i32> {
        &self.topics
    }

    pub(crate) fn log(&self, partition: &TopicPartition) -> Option<&Log> {
        self.partitions.get(partition).map(|partition| &partition.log)
    }

    pub(crate) fn log_mut(&mut self, partition: &TopicPartition) -> Option<&mut Log> {
        self.partitions.get_mut(partition).map(|partition| &mut partition.log)
    }

    pub(crate) fn group(&self, name: &str) -> Option<&Group> {
        self.groups.get(name)
    }

    pub(crate) fn damage_metadata(&mut self, group: &str) {
        if let Some(group) = self.groups.get_mut(group) {
            group.damage_metadata();
        }
    }

    pub(crate) fn is_up(&self, node: Node) -> bool {
        self.nodes.get(node).copied().unwrap_or(false)
    }

    pub(crate) fn partitions(&self) -> impl Iterator<Item = &TopicPartition> {
        self.partitions.keys()
    }

    /// Appends a record from outside.
    pub(crate) fn append(
        &mut self,
        now: Time,
        partition: &TopicPartition,
        record: LogRecord,
        out: &mut Vec<(CallId, Answer)>,
    ) -> Option<i64> {
        let hosted = self.partitions.get_mut(partition)?;
        let offset = hosted.log.push(record);
        self.feed(now, partition, out);
        Some(offset)
    }

    /// A request has arrived at a node. Without an answer now one comes by itself, later.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        node: Node,
        call: CallId,
        request: Request,
        out: &mut Vec<(CallId, Answer)>,
    ) {
        match request {
            Request::Group { group, request } => {
                self.group_request(now, node, call, (group, request), out)
            }
            Request::Produce { batches } => {
                let mut answers = Vec::with_capacity(batches.len());
                let mut fed = Vec::new();
                for batch in batches {
                    let answer = self.produce(now, node, &batch);
                    if answer.is_ok() {
                        fed.push(batch.partition.clone());
                    }
                    answers.push((batch.partition, answer));
                }
                out.push((call, Answer::Produced(answers)));
                for partition in fed {
                    self.feed(now, &partition, out);
                }
            }
            Request::Fetch { partitions: positions, read_committed, max_wait } => {
                let until = now + max_wait;
                self.fetch_or_park(call, Parked { node, positions, read_committed, until }, out);
            }
            Request::Offsets { partition, read_committed } => {
                let answer = self.offsets(node, &partition, read_committed);
                out.push((call, Answer::Offsets(answer)));
            }
            Request::InitProducer { transactional_id, timeout, known } => {
                if let Some(id) = &transactional_id
                    && let Err(code) = self.office(now, node, id)
                {
                    return out.push((call, Answer::Producer(Err(code))));
                }
                let mut endings = Vec::new();
                let answer =
                    self.transactions.init(transactional_id.as_ref(), timeout, known, &mut endings);
                out.push((call, Answer::Producer(answer)));
                self.write(now, endings, out);
            }
            Request::Transaction { transactional_id, producer, request } => {
                if let Err(code) = self.office(now, node, &transactional_id) {
                    return out.push((call, Answer::Transaction(Err(code))));
                }
                let mut endings = Vec::new();
                let answer = self.transactions.request(
                    now,
                    &transactional_id,
                    producer,
                    request,
                    &mut endings,
                );
                out.push((call, Answer::Transaction(answer)));
                self.write(now, endings, out);
            }
        }
    }

    fn fetch_or_park(&mut self, call: CallId, parked: Parked, out: &mut Vec<(CallId, Answer)>) {
        if let Some(answer) = self.fetch(&parked, false) {
            return out.push((call, answer));
        }
        for position in &parked.positions {
            if let Some(hosted) = self.partitions.get_mut(&position.partition) {
                hosted.waiting.push(call);
            }
        }
        self.parked.insert(call, parked);
    }

    fn offsets(
        &self,
        node: Node,
        partition: &TopicPartition,
        read_committed: bool,
    ) -> Result<(i64, i64), Code> {
        let hosted = self.partitions.get(partition).ok_or(Code::UnknownTopicOrPartition)?;
        if hosted.leader != Some(node) {
            return Err(Code::NotLeaderOrFollower);
        }
        let log = &hosted.log;
        Ok((log.start(), if read_committed { log.last_stable() } else { log.end() }))
    }

    fn group_request(
        &mut self,
        now: Time,
        node: Node,
        call: CallId,
        (name, request): (Arc<str>, GroupRequest),
        out: &mut Vec<(CallId, Answer)>,
    ) {
        if let Err(code) = self.office(now, node, &name) {
            return out.push((call, Answer::Refused(code)));
        }
        // KIP-890: offsets of a transaction that is not open would stay pending for ever.
        if let GroupRequest::TransactionalCommit { producer, offsets, .. } = &request
            && let Err(code) = self.transactions.verify_group(*producer, &name)
        {
            let refused = offsets.iter().map(|(partition, _)| (partition.clone(), Err(code)));
            return out.push((call, Answer::Group(GroupAnswer::Committed(refused.collect()))));
        }
        let config = &self.group_config;
        let group =
            self.groups.entry(Arc::clone(&name)).or_insert_with(|| Group::new(&name, *config));
        let mut answers = Vec::new();
        group.handle(now, call, request, &self.topics, &mut answers);
        out.extend(answers.into_iter().map(of_group));
    }

    /// Is the node the coordinator of this group or transactional id, and ready?
    fn office(&mut self, now: Time, node: Node, name: &Arc<str>) -> Result<(), Code> {
        let office = self.coordinator(name);
        match office {
            Office { node: Some(own), ready } if own == node => {
                if ready.is_some_and(|at| at > now) {
                    Err(Code::CoordinatorLoadInProgress)
                } else {
                    Ok(())
                }
            }
            _ => Err(Code::NotCoordinator),
        }
    }

    /// Gives a group or a transactional id a coordinator, if it has none yet.
    pub(crate) fn found(&mut self, name: &str) {
        self.coordinator(&name.into());
    }

    pub(crate) fn coordinator_of(&mut self, name: &str) -> Option<Node> {
        self.coordinator(&name.into()).node
    }

    fn coordinator(&mut self, name: &Arc<str>) -> Office {
        if let Some(office) = self.offices.get(name) {
            return *office;
        }
        let first = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap_or(0);
        let office = Office { node: self.next_node(first), ready: None };
        self.offices.insert(Arc::clone(name), office);
        self.directory.coordinators.insert(Arc::clone(name), office.node);
        office
    }

    fn produce(&mut self, now: Time, node: Node, batch: &ProducerBatch) -> Result<i64, Code> {
        let hosted =
            self.partitions.get_mut(&batch.partition).ok_or(Code::UnknownTopicOrPartition)?;
        if hosted.leader != Some(node) {
            return Err(Code::NotLeaderOrFollower);
        }
        if batch.transactional
            && let Some((producer, _)) = batch.producer
        {
            self.transactions.verify(producer, &batch.partition)?;
        }
        hosted.log.append(now, batch)
    }

    /// Records of a fetch; `None` if it is to wait.
    fn fetch(&self, parked: &Parked, over: bool) -> Option<Answer> {
        let mut answers = Vec::new();
        for position in &parked.positions {
            let answer = match self.partitions.get(&position.partition) {
                None => Err(Code::UnknownTopicOrPartition),
                Some(hosted) if hosted.leader != Some(parked.node) => {
                    Err(Code::NotLeaderOrFollower)
                }
                Some(hosted) => {
                    hosted.log.fetch(position.offset, position.max_records, parked.read_committed)
                }
            };
            // A position beyond aborted records moves on without one.
            let news = match &answer {
                Ok(fetched) => !fetched.records.is_empty() || fetched.next > position.offset,
                Err(_) => true,
            };
            if news || over {
                answers.push((position.partition.clone(), answer));
            }
        }
        (over || !answers.is_empty()).then_some(Answer::Fetched(answers))
    }

    /// Fetches that wait for this partition have something, perhaps.
    fn feed(&mut self, _now: Time, partition: &TopicPartition, out: &mut Vec<(CallId, Answer)>) {
        let Some(hosted) = self.partitions.get_mut(partition) else {
            return;
        };
        for call in std::mem::take(&mut hosted.waiting) {
            let Some(parked) = self.parked.get(&call) else {
                continue;
            };
            match self.fetch(parked, false) {
                Some(answer) => {
                    self.parked.remove(&call);
                    out.push((call, answer));
                }
                None => {
                    if let Some(hosted) = self.partitions.get_mut(partition) {
                        hosted.waiting.push(call);
                    }
                }
            }
        }
    }

    /// Writes the ends of transactions where they belong.
    fn write(&mut self, now: Time, endings: Vec<Ending>, out: &mut Vec<(CallId, Answer)>) {
        for Ending { transactional_id, producer, commit, targets } in endings {
            for target in targets {
                match target {
                    Target::Log(partition) => {
                        if let Some(hosted) = self.partitions.get_mut(&partition) {
                            hosted.log.end_transaction(producer, commit);
                        }
                        self.feed(now, &partition, out);
                    }
                    Target::Group(group) => {
                        if let Some(group) = self.groups.get_mut(&group) {
                            group.end_transaction(producer, commit);
                        }
                    }
                }
            }
            self.transactions.ended(&transactional_id);
        }
    }

    /// What has come due: sessions, elections, waiting fetches, transactions' time-outs.
    pub(crate) fn turn(&mut self, now: Time, out: &mut Vec<(CallId, Answer)>) {
        let due: Vec<_> = self
            .parked
            .iter()
            .filter(|(_, parked)| parked.until <= now)
            .map(|(call, _)| *call)
            .collect();
        for call in due {
            if let Some(parked) = self.parked.remove(&call)
                && let Some(answer) = self.fetch(&parked, true)
            {
                for position in &parked.positions {
                    if let Some(hosted) = self.partitions.get_mut(&position.partition) {
                        hosted.waiting.retain(|waiting| *waiting != call);
                    }
                }
                out.push((call, answer));
            }
        }
        let mut answers = Vec::new();
        for (name, group) in &mut self.groups {
            let node = self.offices.get(name).and_then(|office| office.node);
            let held = node.and_then(|node| self.frozen[node]).map(|until| until + THAWING);
            if group.wake().is_some_and(|at| at <= now) && held.is_none_or(|until| until <= now) {
                group.turn(now, &self.topics, &mut answers);
            }
        }
        out.extend(answers.into_iter().map(of_group));
        if self.transactions.wake().is_some_and(|at| at <= now) {
            let endings = self.transactions.turn(now);
            self.write(now, endings, out);
        }
        self.elect(now, out);
    }

    fn elect(&mut self, now: Time, out: &mut Vec<(CallId, Answer)>) {
        let due = |at: Option<Time>| at.is_some_and(|at| at <= now);
        let elected: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, hosted)| due(hosted.election))
            .map(|(partition, _)| partition.clone())
            .collect();
        for partition in elected {
            let from = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap_or(0);
            let leader = self.next_node(from);
            if let Some(hosted) = self.partitions.get_mut(&partition) {
                hosted.leader = leader;
                hosted.log.next_leader();
                hosted.election = leader.is_none().then(|| now + ELECTION.0);
            }
            self.directory.leaders.insert(partition.clone(), leader);
            self.feed(now, &partition, out);
        }
        let vacant: Vec<_> = self
            .offices
            .iter()
            .filter(|(_, office)| office.node.is_none() && due(office.ready))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in vacant {
            let from = usize::try_from(self.random.below(self.nodes.len() as u64)).unwrap_or(0);
            let node = self.next_node(from);
            let load = self.random.duration(Duration::ZERO, ELECTION.0);
            self.offices.insert(
                Arc::clone(&name),
                Office { node, ready: Some(now + load.max(ELECTION.0)) },
            );
            self.directory.coordinators.insert(Arc::clone(&name), node);
            if let Some(group) = self.groups.get_mut(&name) {
                group.moved(now);
            }
        }
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        let fetches = self.parked.values().map(|parked| parked.until);
        let groups = self.groups.iter().filter_map(|(name, group)| {
            let node = self.offices.get(name).and_then(|office| office.node);
            let held = node.and_then(|node| self.frozen[node]).map(|until| until + THAWING);
            Some(group.wake()?.max(held.unwrap_or(Time::ZERO)))
        });
        let elections = self.partitions.values().filter_map(|hosted| hosted.election);
        let vacant = self.offices.values().filter(|office| office.node.is_none());
        let offices = vacant.filter_map(|office| office.ready);
        fetches.chain(groups).chain(elections).chain(offices).chain(self.transactions.wake()).min()
    }

    /// A connection broke: a fetch that waited on it is gone.
    pub(crate) fn forget(&mut self, call: CallId) {
        self.parked.remove(&call);
    }

    /// A node is gone: others take over what it led and coordinated, after a while.
    pub(crate) fn down(&mut self, now: Time, node: Node) {
        self.nodes[node] = false;
        let led: Vec<_> = self
            .partitions
            .iter()
            .filter(|(_, p)| p.leader == Some(node))
            .map(|(p, _)| p.clone())
            .collect();
        let delay = self.random.duration(ELECTION.0, ELECTION.1);
        for partition in led {
            self.leaderless(now + delay, &partition);
        }
        let held: Vec<_> = self
            .offices
            .iter()
            .filter(|(_, office)| office.node == Some(node))
            .map(|(name, _)| Arc::clone(name))
            .collect();
        for name in held {
            self.vacate(now, &name);
        }
    }

    /// A node is back; it leads nothing at first.
    pub(crate) fn up(&mut self, node: Node) {
        self.nodes[node] = true;
        self.frozen[node] = None;
    }

    pub(crate) fn freeze(&mut self, node: Node, until: Time) {
        self.frozen[node] = Some(until);
    }

    pub(crate) fn frozen_until(&self, node: Node) -> Option<Time> {
        self.frozen[node]
    }

    fn leaderless(&mut self, until: Time, partition: &TopicPartition) {
        if let Some(hosted) = self.partitions.get_mut(partition) {
            hosted.leader = None;
            hosted.election = Some(until);
            self.directory.leaders.insert(partition.clone(), None);
        }
    }

    /// Another node is to lead the partition.
    pub(crate) fn move_leader(&mut self, now: Time, partition: &TopicPartition) {
        let delay = self.random.duration(Duration::from_millis(5), ELECTION.0);
        self.leaderless(now + delay, partition);
    }

    /// Another node is to coordinate the group or the transactional id.
    pub(crate) fn vacate(&mut self, now: Time, name: &Arc<str>) {
        let delay = self.random.duration(ELECTION.0, ELECTION.1);
        self.offices.insert(Arc::clone(name), Office { node: None, ready: Some(now + delay) });
        self.directory.coordinators.insert(Arc::clone(name), None);
    }
}

fn of_group((call, answer): (CallId, GroupAnswer)) -> (CallId, Answer) {
    (call, Answer::Group(answer))
}
