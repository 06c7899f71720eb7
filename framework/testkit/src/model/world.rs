//! What happens next? One queue of everything that is to happen, in virtual time.
//!
//! The world hosts the clients inside the workers' processes, the network and the brokers. The
//! workers themselves run outside of it, on clocks of their own, and reach it through the ports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{PortError, Reports};
use pelton_engine::Time;

use super::cluster::Cluster;
use super::fetcher::FetchClient;
use super::member::MemberClient;
use super::network::{LIFETIME, Network, Way};
use super::producer::ProducerClient;
use super::queue::{Entry, Queue};
use super::random::Random;
use super::transactional::{Callback, Outcome, TransactionalClient};
use super::tricks::{RequestKind, Trick, Tricks};
use super::wire::{
    Answer, CallError, CallId, Client, ClientId, Code, GroupAnswer, GroupRequest, LogRecord, Node,
    Outgoing, Request, Wire,
};

/// A client, whichever it is.
pub(crate) enum AnyClient {
    Member(Box<MemberClient>),
    Fetcher(FetchClient),
    Producer(ProducerClient),
    Transactional(Box<TransactionalClient>),
}

impl AnyClient {
    fn client(&mut self) -> &mut dyn Client {
        match self {
            Self::Member(client) => &mut **client,
            Self::Fetcher(client) => client,
            Self::Producer(client) => client,
            Self::Transactional(client) => &mut **client,
        }
    }
}

struct Hosted {
    worker: usize,
    client: AnyClient,
    /// Its next turn.
    turn: Option<Entry>,
    /// Those that nobody has answered.
    calls: BTreeSet<CallId>,
}

/// A call that was not answered yet.
#[derive(Clone, Copy)]
struct Asked {
    client: ClientId,
    node: Node,
    deadline: Entry,
}

/// A worker's process, as the world sees it.
#[derive(Default)]
struct Process {
    /// What its clients would have heard while it was frozen.
    frozen: Option<VecDeque<Happening>>,
    /// Its poll loop is to look.
    woken: bool,
    /// Its clients have heard or done something: its tasks may have been told of it.
    stirred: bool,
}

/// What can happen.
enum Happening {
    Arrives {
        client: ClientId,
        connection: u64,
        call: CallId,
        node: Node,
        request: Request,
        trick: Option<Trick>,
    },
    Answered {
        client: ClientId,
        connection: u64,
        call: CallId,
        node: Node,
        answer: Answer,
    },
    Broken {
        client: ClientId,
        call: CallId,
    },
    Deadline {
        client: ClientId,
        call: CallId,
    },
    /// The connection of that number, if it is whole still.
    Breaks {
        client: ClientId,
        node: Node,
        connection: u64,
    },
    Turn {
        client: ClientId,
    },
    Append {
        partition: TopicPartition,
        record: LogRecord,
    },
    Cluster,
}

impl Happening {
    /// Whose process hears it, if one does.
    fn client(&self) -> Option<ClientId> {
        match self {
            Self::Answered { client, .. }
            | Self::Broken { client, .. }
            | Self::Deadline { client, .. }
            | Self::Turn { client } => Some(*client),
            Self::Arrives { .. } | Self::Breaks { .. } | Self::Append { .. } | Self::Cluster => {
                None
            }
        }
    }
}

/// A delivery report on its way to a worker's task.
pub(crate) type Report = (Arc<dyn Reports>, u64, Result<(), PortError>);

/// Everything but the workers.
pub(crate) struct World {
    now: Time,
    queue: Queue<Happening>,
    pub(crate) cluster: Cluster,
    network: Network,
    clients: BTreeMap<ClientId, Box<Hosted>>,
    processes: Vec<Process>,
    /// Who asked: answers find their way back.
    callers: BTreeMap<CallId, Asked>,
    tricks: Tricks,
    reports: Vec<Report>,
    outcomes: Vec<(Callback, Outcome)>,
    cluster_turn: Option<Entry>,
    random: Random,
    next_call: u64,
    next_client: u32,
    /// What happened, if anybody wants to know.
    pub(crate) trace: Option<String>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World").field("now", &self.now).finish_non_exhaustive()
    }
}

impl World {
    pub(crate) fn new(cluster: Cluster, random: Random) -> Self {
        Self {
            now: Time::ZERO,
            queue: Queue::default(),
            cluster,
            network: Network::default(),
            clients: BTreeMap::new(),
            processes: Vec::new(),
            callers: BTreeMap::new(),
            tricks: Tricks::default(),
            reports: Vec::new(),
            outcomes: Vec::new(),
            cluster_turn: None,
            random,
            next_call: 1,
            next_client: 1,
            trace: None,
        }
    }

    pub(crate) fn now(&self) -> Time {
        self.now
    }

    /// When something is to happen next.
    pub(crate) fn next(&self) -> Option<Time> {
        self.queue.next()
    }

    fn push(&mut self, at: Time, what: Happening) -> Entry {
        self.queue.push(at.max(self.now), what)
    }

    /// Writes a line into the trace.
    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            let _never_fails = writeln!(trace, "{:>12.6} {}", seconds(now), line());
        }
    }

    // --- processes and their clients

    /// A new process; its number.
    pub(crate) fn start_process(&mut self) -> usize {
        self.processes.push(Process::default());
        self.processes.len() - 1
    }

    pub(crate) fn add_client(
        &mut self,
        at: Time,
        worker: usize,
        make: impl FnOnce(ClientId, &mut Random) -> AnyClient,
    ) -> ClientId {
        let id = ClientId(self.next_client);
        self.next_client += 1;
        let mut random = self.random.fork();
        let client = make(id, &mut random);
        let turn = Some(self.push(at, Happening::Turn { client: id }));
        let hosted = Hosted { worker, client, turn, calls: BTreeSet::new() };
        self.clients.insert(id, Box::new(hosted));
        id
    }

    /// A client is gone without a word: its connections close, nothing it sent is undone.
    pub(crate) fn drop_client(&mut self, client: ClientId) {
        if let Some(hosted) = self.clients.remove(&client) {
            for call in hosted.calls {
                self.settle(call);
                self.cluster.forget(call);
            }
            hosted.turn.into_iter().for_each(|turn| self.queue.cancel(turn));
        }
        self.network.forget(client);
    }

    /// A process is gone, and its clients.
    pub(crate) fn end_process(&mut self, worker: usize) {
        let own: Vec<_> = self
            .clients
            .iter()
            .filter(|(_, hosted)| hosted.worker == worker)
            .map(|(id, _)| *id)
            .collect();
        for client in own {
            self.drop_client(client);
        }
        self.processes[worker].frozen = None;
    }

    pub(crate) fn freeze(&mut self, worker: usize) {
        self.processes[worker].frozen.get_or_insert_default();
    }

    /// What was held back is heard at once, in order.
    pub(crate) fn thaw(&mut self, worker: usize) {
        for what in self.processes[worker].frozen.take().into_iter().flatten() {
            self.push(self.now, what);
        }
    }

    /// Is its poll loop to look? Asked once.
    pub(crate) fn take_woken(&mut self, worker: usize) -> bool {
        std::mem::take(&mut self.processes[worker].woken)
    }

    pub(crate) fn is_woken(&self, worker: usize) -> bool {
        self.processes[worker].woken
    }

    /// May its tasks have been told something since the last question?
    pub(crate) fn take_stirred(&mut self, worker: usize) -> bool {
        std::mem::take(&mut self.processes[worker].stirred)
    }

    pub(crate) fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    pub(crate) fn take_outcomes(&mut self) -> Vec<(Callback, Outcome)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Calls a client from its worker, at the worker's time.
    pub(crate) fn call<T>(
        &mut self,
        now: Time,
        client: ClientId,
        act: impl FnOnce(&mut AnyClient, &mut Wire<'_>) -> T,
    ) -> Option<T> {
        let at = now.max(self.now);
        let mut hosted = self.clients.remove(&client)?;
        let mut out = Vec::new();
        let mut wire = Wire {
            now: at,
            directory: self.cluster.directory(),
            random: &mut self.random,
            next_call: &mut self.next_call,
            out: &mut out,
            wakes: false,
        };
        let result = act(&mut hosted.client, &mut wire);
        if wire.wakes {
            self.processes[hosted.worker].woken = true;
        }
        match &mut hosted.client {
            AnyClient::Producer(producer) => self.reports.append(&mut producer.take_reports()),
            AnyClient::Transactional(producer) => {
                self.reports.append(&mut producer.take_reports());
                self.outcomes.append(&mut producer.take_outcomes());
            }
            AnyClient::Member(_) | AnyClient::Fetcher(_) => {}
        }
        if let Some(wake) = hosted.client.client().wake() {
            // A client that is not content yet is called again a little later.
            let wake = if wake <= at { at + Duration::from_micros(20) } else { wake };
            if hosted.turn.is_none_or(|turn| turn.at() > wake) {
                hosted.turn.into_iter().for_each(|later| self.queue.cancel(later));
                hosted.turn = Some(self.push(wake, Happening::Turn { client }));
            }
        }
        let worker = hosted.worker;
        hosted.calls.extend(out.iter().map(|sent| sent.call));
        self.clients.insert(client, hosted);
        for sent in out {
            self.send(at, worker, client, sent);
        }
        Some(result)
    }

    fn send(&mut self, now: Time, worker: usize, client: ClientId, sent: Outgoing) {
        let Outgoing { call, to: node, request, deadline } = sent;
        let deadline = self.push(deadline, Happening::Deadline { client, call });
        self.callers.insert(call, Asked { client, node, deadline });
        if !self.cluster.is_up(node) {
            let refused =
                now + self.random.duration(Duration::from_millis(1), Duration::from_millis(5));
            self.push(refused, Happening::Broken { client, call });
            return;
        }
        let trick = self.tricks.meet(&request);
        if let Some(trick) = trick {
            self.note(|| format!("{trick:?} of process {worker}: {}", brief(&request)));
        }
        self.network.asked(client, node, call);
        let journey = self.network.send(now, (worker, client), node, Way::There, &mut self.random);
        let connection = journey.connection;
        let Some(arrives) = journey.arrives else {
            self.push(now + LIFETIME, Happening::Breaks { client, node, connection });
            return;
        };
        self.push(arrives, Happening::Arrives { client, connection, call, node, request, trick });
    }

    /// The call is answered, or nobody waits for its answer any more. Who asked, if somebody did.
    fn settle(&mut self, call: CallId) -> Option<Asked> {
        let asked = self.callers.remove(&call)?;
        self.queue.cancel(asked.deadline);
        if let Some(hosted) = self.clients.get_mut(&asked.client) {
            hosted.calls.remove(&call);
        }
        Some(asked)
    }

    /// A frozen node hears and says nothing before it thaws.
    fn frozen_until(&self, node: Node) -> Option<Time> {
        self.cluster.frozen_until(node).filter(|until| *until > self.now)
    }

    // --- time

    /// Carries out what is due up to `until`, in order.
    pub(crate) fn run(&mut self, until: Time) {
        while let Some((at, what)) = self.queue.pop(until) {
            self.now = self.now.max(at);
            self.happen(what);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, what: Happening) {
        let Some(what) = self.hold_if_frozen(what) else { return };
        let (now, mut answers) = (self.now, Vec::new());
        match what {
            Happening::Arrives { client, connection, call, node, request, trick } => {
                if !self.network.is_whole(client, node, connection) || !self.cluster.is_up(node) {
                    return;
                }
                if let Some(until) = self.frozen_until(node) {
                    let what =
                        Happening::Arrives { client, connection, call, node, request, trick };
                    self.push(until, what);
                    return;
                }
                if trick == Some(Trick::LoseRequest) {
                    return self.cut(client, node);
                }
                self.note(|| format!("{client:?} {call:?} -> node {node} {}", brief(&request)));
                if trick == Some(Trick::TimeOut)
                    && let Some(answer) = self.timed_out(node, &request)
                {
                    return self.answer(vec![(call, answer)]);
                }
                self.cluster.handle(now, node, call, request, &mut answers);
                if trick == Some(Trick::LoseAnswer) {
                    answers.retain(|(answered, _)| *answered != call);
                    self.cut(client, node);
                }
            }
            Happening::Answered { client, connection, call, node, answer } => {
                let whole = self.network.is_whole(client, node, connection);
                if whole && self.network.answered(client, node, call) {
                    self.tell(client, call, Ok(answer));
                }
                return;
            }
            Happening::Broken { client, call } => {
                return self.tell(client, call, Err(CallError::Disconnected));
            }
            Happening::Breaks { client, node, connection } => {
                if self.network.is_whole(client, node, connection) {
                    self.cut(client, node);
                }
                return;
            }
            Happening::Deadline { client, call } => return self.give_up(client, call),
            Happening::Turn { client } => return self.turn(client),
            Happening::Append { partition, record } => {
                let _offset = self.cluster.append(now, &partition, record, &mut answers);
            }
            Happening::Cluster => {
                self.cluster_turn = None;
                self.cluster.turn(now, &mut answers);
            }
        }
        self.answer(answers);
    }

    /// What the group's coordinator says when it could not store a member's commit in time; it
    /// refuses those of others.
    fn timed_out(&mut self, node: Node, request: &Request) -> Option<Answer> {
        let Request::Group { group, request: GroupRequest::Commit { member, offsets, .. } } =
            request
        else {
            return None;
        };
        let member = member.as_ref()?;
        let is_its = self.cluster.coordinator_of(group) == Some(node)
            && self.cluster.group(group).is_some_and(|group| group.members().contains(member));
        let late =
            |(partition, _): &(TopicPartition, _)| (partition.clone(), Err(Code::RequestTimedOut));
        let answers = offsets.iter().map(late);
        is_its.then(|| Answer::Group(GroupAnswer::Committed(answers.collect())))
    }

    /// `None`: a frozen process is to hear it, and does when it thaws; or nobody is there to.
    fn hold_if_frozen(&mut self, what: Happening) -> Option<Happening> {
        let Some(client) = what.client() else { return Some(what) };
        let worker = self.clients.get(&client)?.worker;
        match &mut self.processes[worker].frozen {
            Some(held) => {
                held.push_back(what);
                None
            }
            None => Some(what),
        }
    }

    /// No answer has come in time. One time-out, and librdkafka closes the connection
    /// (`socket.max.fails` is 1): what is on its way is lost.
    fn give_up(&mut self, client: ClientId, call: CallId) {
        let Some(Asked { node, .. }) = self.callers.get(&call).copied() else { return };
        self.network.answered(client, node, call);
        self.cluster.forget(call);
        self.cut(client, node);
        self.tell(client, call, Err(CallError::TimedOut));
    }

    fn turn(&mut self, client: ClientId) {
        let now = self.now;
        if let Some(hosted) = self.clients.get_mut(&client) {
            hosted.turn = hosted.turn.filter(|turn| turn.at() > now);
        }
        self.stir(client);
        self.call(now, client, |client, wire| {
            if client.client().wake().is_some_and(|wake| wake <= wire.now) {
                client.client().turn(wire);
            }
        });
    }

    fn stir(&mut self, client: ClientId) {
        if let Some(hosted) = self.clients.get(&client) {
            self.processes[hosted.worker].stirred = true;
        }
    }

    fn tell(&mut self, client: ClientId, call: CallId, answer: Result<Answer, CallError>) {
        if self.settle(call).is_none() {
            return; // told before
        }
        let now = self.now;
        self.note(|| format!("{client:?} {call:?} <- {}", brief_answer(&answer)));
        self.stir(client);
        self.call(now, client, |client, wire| client.client().answered(call, answer, wire));
    }

    /// Sends answers back, and looks when the brokers want their next turn.
    fn answer(&mut self, answers: Vec<(CallId, Answer)>) {
        for (call, answer) in answers {
            let Some(Asked { client, node, .. }) = self.callers.get(&call).copied() else {
                continue;
            };
            let Some(worker) = self.clients.get(&client).map(|hosted| hosted.worker) else {
                continue;
            };
            let sent = self.frozen_until(node).unwrap_or(self.now);
            let journey =
                self.network.send(sent, (worker, client), node, Way::Back, &mut self.random);
            let connection = journey.connection;
            let Some(at) = journey.arrives else {
                self.push(sent + LIFETIME, Happening::Breaks { client, node, connection });
                continue;
            };
            self.push(at, Happening::Answered { client, connection, call, node, answer });
        }
        if let Some(wake) = self.cluster.wake()
            && self.cluster_turn.is_none_or(|turn| turn.at() > wake)
        {
            self.cluster_turn.take().into_iter().for_each(|later| self.queue.cancel(later));
            let wake = wake.max(self.now + Duration::from_micros(20));
            self.cluster_turn = Some(self.push(wake, Happening::Cluster));
        }
    }

    fn cut(&mut self, client: ClientId, node: Node) {
        for call in self.network.cut(client, node) {
            self.cluster.forget(call);
            let heard = self.now + self.random.duration(Duration::ZERO, Duration::from_millis(2));
            self.push(heard, Happening::Broken { client, call });
        }
    }

    // --- what is done to it

    /// A record is appended to an input at `at`.
    pub(crate) fn append_at(&mut self, at: Time, partition: TopicPartition, record: LogRecord) {
        self.push(at, Happening::Append { partition, record });
    }

    /// The next request of a kind meets this.
    pub(crate) fn play(&mut self, kind: RequestKind, trick: Trick) {
        self.tricks.add(kind, trick);
    }

    /// How many messages were lost by a trick since the last question.
    pub(crate) fn take_played(&mut self) -> u32 {
        self.tricks.take_met()
    }

    /// Tricks that nobody has met yet are off.
    pub(crate) fn no_more_tricks(&mut self) {
        self.tricks.clear();
    }

    /// Breaks all connections between a process and a node.
    pub(crate) fn cut_off(&mut self, worker: usize, node: Node) {
        for client in self.clients_of(worker) {
            self.cut(client, node);
        }
    }

    fn clients_of(&self, worker: usize) -> Vec<ClientId> {
        self.clients
            .iter()
            .filter(|(_, hosted)| hosted.worker == worker)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn hold(&mut self, worker: usize, node: Node, way: Way, until: Time) {
        self.network.hold(worker, node, way, until);
    }

    pub(crate) fn slow(&mut self, worker: usize, node: Node, extra: Duration, until: Time) {
        self.network.slow(worker, node, extra, until);
    }

    pub(crate) fn freeze_node(&mut self, node: Node, until: Time) {
        self.cluster.freeze(node, until);
    }

    /// A broker dies: its connections break, others take over.
    pub(crate) fn node_down(&mut self, node: Node) {
        for client in self.network.clients_of(node) {
            self.cut(client, node);
        }
        self.cluster.down(self.now, node);
        self.answer(Vec::new());
    }

    pub(crate) fn node_up(&mut self, node: Node) {
        self.cluster.up(node);
    }

    /// The partition's or the group's duties move to another node.
    pub(crate) fn move_leader(&mut self, partition: &TopicPartition) {
        self.cluster.move_leader(self.now, partition);
        self.answer(Vec::new());
    }

    pub(crate) fn move_coordinator(&mut self, group: &str) {
        let group: Arc<str> = group.into();
        if let Some(node) = self.cluster.coordinator_of(&group) {
            self.cluster.vacate(self.now, &group);
            // Joins that wait on the old one are never answered by it.
            for client in self.network.clients_of(node) {
                self.cut(client, node);
            }
        }
        self.answer(Vec::new());
    }

    /// Another tool removes a process's members from their group, whichever protocol that has. They
    /// hear of it when they ask the group something. False if its coordinator can't be asked.
    pub(crate) fn expel(&mut self, worker: usize, group: &str) -> bool {
        let group: Arc<str> = group.into();
        let mut answers = Vec::new();
        let coordinator = self.cluster.coordinator_of(&group);
        let Some(node) = coordinator.filter(|node| self.frozen_until(*node).is_none()) else {
            return false;
        };
        for client in self.clients_of(worker) {
            let hosted = self.clients.get(&client).map(|hosted| &hosted.client);
            let Some(AnyClient::Member(member)) = hosted else { continue };
            let (Some(member), instance, _) = member.identity() else { continue };
            let leave =
                GroupRequest::Leave { member: Arc::clone(&member), instance: instance.clone() };
            let last_beat = GroupRequest::ConsumerHeartbeat {
                member,
                instance,
                epoch: -1,
                topics: None,
                owned: None,
                rebalance_timeout: Duration::ZERO,
            };
            for request in [leave, last_beat] {
                let request = Request::Group { group: Arc::clone(&group), request };
                let call = CallId(self.next_call);
                self.next_call += 1;
                self.cluster.handle(self.now, node, call, request, &mut answers);
            }
        }
        self.answer(answers); // the tool's own go nowhere
        true
    }

    /// Another tool writes the group's offsets as they are, with metadata of its own.
    pub(crate) fn damage_metadata(&mut self, group: &str) {
        self.cluster.damage_metadata(group);
    }

    /// So many tenths of the log are gone.
    pub(crate) fn delete_records(&mut self, partition: &TopicPartition, tenths: u32) {
        if let Some(log) = self.cluster.log_mut(partition) {
            let (start, end) = (log.start(), log.end());
            log.delete_below(start + (end - start) * i64::from(tenths.min(10)) / 10);
        }
    }

    /// Does a process reach no node at all?
    pub(crate) fn is_cut_off(&self, at: Time) -> bool {
        let mut nodes = 0..self.cluster.directory().nodes;
        let is_frozen = |node| self.cluster.frozen_until(node).is_some_and(|until| until > at);
        nodes.all(|node| !self.cluster.is_up(node) || is_frozen(node))
    }
}

pub(crate) fn seconds(at: Time) -> f64 {
    at.since(Time::ZERO).as_secs_f64()
}

fn brief(request: &Request) -> String {
    cut_short(format!("{request:?}"))
}

fn brief_answer(answer: &Result<Answer, CallError>) -> String {
    cut_short(format!("{answer:?}"))
}

fn cut_short(mut text: String) -> String {
    const LONGEST: usize = 200;
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}
