//! Do the clients keep their promises over a bad network? For their tests: a few nodes with logs,
//! requests that are delayed, lost, and carried out without an answer, and leaders that move.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{OutRecord, PortError, Reports};
use pelton_engine::Time;

use super::fetcher::{FetchClient, FetchConfig};
use super::log::Log;
use super::producer::{ProducerClient, ProducerConfig};
use super::random::Random;
use super::transactional::{TransactionalClient, TransactionalConfig};
use super::transactions::{Ending, Target, Transactions};
use super::wire::{
    Answer, CallError, CallId, Client, ClientId, Code, Directory, GroupAnswer, GroupRequest, Node,
    Outgoing, ProducerBatch, Request, Wire,
};

/// What goes wrong: once in so many; never for 0.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) lost_requests: u64,
    pub(super) lost_answers: u64,
    /// A request takes seconds instead of milliseconds.
    pub(super) slow: u64,
    /// At each request the partition's leadership moves.
    pub(super) moves: u64,
}

#[derive(Debug)]
enum Event {
    Arrives {
        client: usize,
        call: CallId,
        to: Node,
        request: Request,
        is_heard: bool,
        until: Time,
    },
    Answered {
        client: usize,
        call: CallId,
        answer: Result<Answer, CallError>,
    },
    /// Clients learn of a move.
    Known(TopicPartition, Option<Node>),
    /// A transaction's markers are written.
    Marked(Ending),
}

/// What was reported, by ticket.
#[derive(Debug, Default)]
pub(super) struct Heard(Mutex<BTreeMap<u64, Result<(), String>>>);

impl Heard {
    pub(super) fn all(&self) -> BTreeMap<u64, Result<(), String>> {
        self.0.lock().expect("not poisoned").clone()
    }
}

impl Reports for Heard {
    fn report(&self, ticket: u64, result: Result<(), PortError>) {
        let result = result.map_err(|error| error.reason);
        let before = self.0.lock().expect("not poisoned").insert(ticket, result);
        assert!(before.is_none(), "ticket {ticket} is reported twice");
    }
}

pub(super) struct Trial {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) faults: Faults,
    pub(super) logs: BTreeMap<TopicPartition, Log>,
    pub(super) transactions: Transactions,
    pub(super) leaders: BTreeMap<TopicPartition, Option<Node>>,
    pub(super) believed: Directory,
    pub(super) producers: Vec<ProducerClient>,
    pub(super) fetchers: Vec<FetchClient>,
    pub(super) transactional: Vec<TransactionalClient>,
    /// The group's offsets, and those of open transactions by producer id.
    pub(super) committed: BTreeMap<TopicPartition, i64>,
    pending: BTreeMap<i64, Vec<(TopicPartition, i64)>>,
    /// Answers given and requests seen, for a look.
    pub(super) requests: usize,
    next_call: u64,
    events: BTreeMap<(Time, u64), Event>,
    next_event: u64,
    /// When the last request of a client arrives at a node, and the last answer at the client.
    arrivals: BTreeMap<(usize, Node), (Time, Time)>,
}

pub(super) const NODES: usize = 3;
/// Where the numbers of other clients than producers begin.
const FETCHERS: usize = 1000;
const TRANSACTIONAL: usize = 2000;

pub(super) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(super) fn partition(number: i32) -> TopicPartition {
    TopicPartition::new("t", number)
}

pub(super) fn out(to: i32, value: u64) -> OutRecord {
    OutRecord {
        topic: "t".into(),
        partition: Some(to),
        key: None,
        value: Some(value.to_string().into_bytes()),
        headers: Vec::new(),
        timestamp_ms: None,
    }
}

impl Trial {
    pub(super) fn new(seed: u64, partitions: i32) -> Self {
        let leaders = |p: i32| (partition(p), Some(usize::try_from(p).expect("small") % NODES));
        let leaders: BTreeMap<_, _> = (0..partitions).map(leaders).collect();
        let mut believed =
            Directory { nodes: NODES, leaders: leaders.clone(), ..Directory::default() };
        believed.coordinators.insert("tx".into(), Some(0));
        believed.coordinators.insert("g".into(), Some(1));
        Self {
            now: Time::ZERO,
            random: Random::new(seed),
            faults: Faults::default(),
            logs: leaders.keys().map(|p| (p.clone(), Log::default())).collect(),
            transactions: Transactions::default(),
            leaders,
            believed,
            producers: Vec::new(),
            fetchers: Vec::new(),
            transactional: Vec::new(),
            committed: BTreeMap::new(),
            pending: BTreeMap::new(),
            requests: 0,
            next_call: 0,
            events: BTreeMap::new(),
            next_event: 0,
            arrivals: BTreeMap::new(),
        }
    }

    pub(super) fn add_producer(&mut self, config: ProducerConfig) -> usize {
        self.producers.push(ProducerClient::new(ClientId(0), config));
        self.producers.len() - 1
    }

    pub(super) fn add_transactional(&mut self, config: TransactionalConfig) -> usize {
        self.transactional.push(TransactionalClient::new(ClientId(2), config));
        self.transactional.len() - 1
    }

    pub(super) fn add_fetcher(&mut self, config: FetchConfig) -> usize {
        self.fetchers.push(FetchClient::new(ClientId(1), config));
        self.fetchers.len() - 1
    }

    /// A call on a producer, with its hand on the network.
    pub(super) fn producer<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut ProducerClient, &mut Wire<'_>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let mut wire = Wire {
            now: self.now,
            directory: &self.believed,
            random: &mut self.random,
            next_call: &mut self.next_call,
            out: &mut out,
            wakes: false,
        };
        let result = act(&mut self.producers[number], &mut wire);
        self.leave(number, out);
        for (reports, ticket, result) in self.producers[number].take_reports() {
            reports.report(ticket, result);
        }
        result
    }

    /// A call on a fetcher.
    pub(super) fn fetcher<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut FetchClient, &mut Wire<'_>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let mut wire = Wire {
            now: self.now,
            directory: &self.believed,
            random: &mut self.random,
            next_call: &mut self.next_call,
            out: &mut out,
            wakes: false,
        };
        let result = act(&mut self.fetchers[number], &mut wire);
        self.leave(FETCHERS + number, out);
        result
    }

    /// A call on a transactional producer.
    pub(super) fn transactional<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut TransactionalClient, &mut Wire<'_>) -> T,
    ) -> T {
        let mut out = Vec::new();
        let mut wire = Wire {
            now: self.now,
            directory: &self.believed,
            random: &mut self.random,
            next_call: &mut self.next_call,
            out: &mut out,
            wakes: false,
        };
        let result = act(&mut self.transactional[number], &mut wire);
        self.leave(TRANSACTIONAL + number, out);
        for (reports, ticket, result) in self.transactional[number].take_reports() {
            reports.report(ticket, result);
        }
        for (done, outcome) in self.transactional[number].take_outcomes() {
            done(outcome);
        }
        result
    }

    fn client<T>(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut dyn Client, &mut Wire<'_>) -> T,
    ) -> T {
        if number >= TRANSACTIONAL {
            self.transactional(number - TRANSACTIONAL, |client, wire| act(client, wire))
        } else if number >= FETCHERS {
            self.fetcher(number - FETCHERS, |client, wire| act(client, wire))
        } else {
            self.producer(number, |client, wire| act(client, wire))
        }
    }

    fn at(&mut self, time: Time, event: Event) {
        self.next_event += 1;
        self.events.insert((time, self.next_event), event);
    }

    fn leave(&mut self, client: usize, out: Vec<Outgoing>) {
        for Outgoing { call, to, request, deadline } in out {
            self.requests += 1;
            let is_slow = self.random.one_in(self.faults.slow);
            let delay = if is_slow { (200, 9_000) } else { (1, 10) };
            let mut arrival = self.now + self.random.duration(ms(delay.0), ms(delay.1));
            if !is_slow {
                let (last, _) = self.arrivals.entry((client, to)).or_default();
                arrival = arrival.max(*last);
                *last = arrival;
            }
            let is_lost = self.random.one_in(self.faults.lost_requests);
            let is_heard = !is_lost && !self.random.one_in(self.faults.lost_answers);
            if !is_heard {
                let (soon, disconnected) =
                    (self.now + self.random.duration(ms(1), ms(2_000)), CallError::Disconnected);
                let (at, why) = if self.random.one_in(2) {
                    (soon.min(deadline), disconnected)
                } else {
                    (deadline, CallError::TimedOut)
                };
                self.at(at, Event::Answered { client, call, answer: Err(why) });
            } else if is_slow {
                let answer = Err(CallError::TimedOut);
                self.at(deadline, Event::Answered { client, call, answer });
            }
            if !is_lost {
                let until = match &request {
                    Request::Fetch { max_wait, .. } => arrival + *max_wait,
                    _ => arrival,
                };
                self.at(arrival, Event::Arrives { client, call, to, request, is_heard, until });
            }
        }
    }

    /// Moves a leadership; clients hear of it later.
    pub(super) fn move_leader(&mut self, partition: &TopicPartition) {
        let to = self.random.below(NODES as u64 + 1);
        let to = usize::try_from(to).ok().filter(|node| *node < NODES);
        self.logs.get_mut(partition).expect("known").next_leader();
        self.leaders.insert(partition.clone(), to);
        let known = self.now + self.random.duration(ms(10), ms(800));
        self.at(known, Event::Known(partition.clone(), to));
        if to.is_none() {
            let back = usize::try_from(self.random.below(NODES as u64)).ok();
            self.at(known + ms(700), Event::Known(partition.clone(), back));
        }
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let event = self.events.keys().next().map(|(time, _)| *time);
            let turns = self.producers.iter().map(Client::wake);
            let turns = turns.chain(self.fetchers.iter().map(Client::wake));
            let turns = turns.chain(self.transactional.iter().map(Client::wake));
            let turn = turns.flatten().chain(self.transactions.wake()).min();
            let Some(next) = event.into_iter().chain(turn).min().filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if event.is_some_and(|at| at <= self.now) {
                let (_, event) = self.events.pop_first().expect("there is one");
                self.happen(event);
                continue;
            }
            for ending in self.transactions.turn(self.now) {
                self.mark_later(ending);
            }
            let numbers = (0..self.producers.len())
                .chain(FETCHERS..FETCHERS + self.fetchers.len())
                .chain(TRANSACTIONAL..TRANSACTIONAL + self.transactional.len());
            for number in numbers.collect::<Vec<_>>() {
                let due = |client: &mut dyn Client, wire: &mut Wire<'_>| {
                    if client.wake().is_some_and(|wake| wake <= wire.now) {
                        client.turn(wire);
                        assert!(client.wake().is_none_or(|wake| wake > wire.now), "it spins");
                    }
                };
                self.client(number, due);
            }
        }
        self.now = end;
    }

    fn mark_later(&mut self, ending: Ending) {
        let when = self.now + self.random.duration(ms(1), ms(30));
        self.at(when, Event::Marked(ending));
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Answered { client, call, answer } => {
                self.client(client, |client, wire| client.answered(call, answer, wire));
            }
            Event::Known(partition, leader) => {
                self.leaders.insert(partition.clone(), leader);
                self.believed.leaders.insert(partition, leader);
            }
            Event::Marked(ending) => {
                for target in &ending.targets {
                    match target {
                        Target::Log(partition) => {
                            let log = self.logs.get_mut(partition).expect("known");
                            log.end_transaction(ending.producer, ending.commit);
                        }
                        Target::Group(_) => {
                            let pending = self.pending.remove(&ending.producer.id);
                            let decided = pending.filter(|_| ending.commit);
                            self.committed.extend(decided.into_iter().flatten());
                        }
                    }
                }
                self.transactions.ended(&ending.transactional_id);
            }
            Event::Arrives { client, call, to, request, is_heard, until } => {
                if self.random.one_in(self.faults.moves) {
                    let moved = i32::try_from(self.random.below(self.logs.len() as u64));
                    self.move_leader(&partition(moved.expect("small")));
                }
                let Some(answer) = self.carry_out(to, &request, until) else {
                    let again = self.now + ms(20);
                    let event = Event::Arrives { client, call, to, request, is_heard, until };
                    return self.at(again, event);
                };
                if is_heard {
                    let (_, last) = self.arrivals.entry((client, to)).or_default();
                    let mut when = self.now + self.random.duration(ms(1), ms(10));
                    when = when.max(*last);
                    *last = when;
                    self.at(when, Event::Answered { client, call, answer: Ok(answer) });
                }
            }
        }
    }

    /// `None` if it is to wait.
    fn carry_out(&mut self, to: Node, request: &Request, until: Time) -> Option<Answer> {
        let leads = |partition: &TopicPartition| match self.leaders.get(partition) {
            Some(Some(leader)) if *leader == to => Ok(()),
            Some(_) => Err(Code::NotLeaderOrFollower),
            None => Err(Code::UnknownTopicOrPartition),
        };
        let mut endings = Vec::new();
        let answer = match request {
            Request::Produce { batches } => {
                let mut results = Vec::new();
                for batch in batches {
                    let result = leads(&batch.partition).and_then(|()| {
                        let log = self.logs.get_mut(&batch.partition).expect("known");
                        verify(&self.transactions, batch)?;
                        log.append(self.now, batch)
                    });
                    results.push((batch.partition.clone(), result));
                }
                Answer::Produced(results)
            }
            Request::Fetch { partitions, read_committed, .. } => {
                let mut results = Vec::new();
                for at in partitions {
                    let fetched = leads(&at.partition).and_then(|()| {
                        let log = &self.logs[&at.partition];
                        log.fetch(at.offset, at.max_records, *read_committed)
                    });
                    results.push((at.partition.clone(), fetched));
                }
                let is_empty = |result: &Result<_, _>| matches!(result, Ok(fetched) if super::wire::Fetched::is_empty(fetched));
                if self.now < until && results.iter().all(|(_, result)| is_empty(result)) {
                    return None;
                }
                Answer::Fetched(results)
            }
            Request::InitProducer { transactional_id, timeout, known } => {
                let id = transactional_id.as_ref();
                Answer::Producer(self.transactions.init(id, *timeout, *known, &mut endings))
            }
            Request::Transaction { transactional_id, producer, request } => {
                let (now, request) = (self.now, request.clone());
                let id = transactional_id;
                let result = self.transactions.request(now, id, *producer, request, &mut endings);
                Answer::Transaction(result)
            }
            Request::Group {
                group,
                request: GroupRequest::TransactionalCommit { producer, offsets, .. },
            } => {
                let result = self.transactions.verify_group(*producer, group);
                let of = |(partition, _): &(TopicPartition, _)| (partition.clone(), result);
                if result.is_ok() {
                    let new = offsets.iter().map(|(of, stored)| (of.clone(), stored.offset));
                    self.pending.entry(producer.id).or_default().extend(new);
                }
                Answer::Group(GroupAnswer::Committed(offsets.iter().map(of).collect()))
            }
            Request::Group { .. } | Request::Offsets { .. } => {
                Answer::Refused(Code::NotCoordinator)
            }
        };
        for ending in endings {
            self.mark_later(ending);
        }
        Some(answer)
    }

    pub(super) fn values(&self, number: i32, read_committed: bool) -> Vec<String> {
        let value = |record: &super::wire::LogRecord| {
            String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).into_owned()
        };
        let records = self.logs[&partition(number)].records(read_committed);
        records.map(|(_, record)| value(record)).collect()
    }
}

fn verify(transactions: &Transactions, batch: &ProducerBatch) -> Result<(), Code> {
    match batch.producer {
        Some((producer, _)) if batch.transactional => {
            transactions.verify(producer, &batch.partition)
        }
        _ => Ok(()),
    }
}

pub(super) fn heard() -> (Arc<Heard>, Arc<dyn Reports>) {
    let heard = Arc::new(Heard::default());
    let reports: Arc<dyn Reports> = Arc::clone(&heard) as Arc<dyn Reports>;
    (heard, reports)
}
