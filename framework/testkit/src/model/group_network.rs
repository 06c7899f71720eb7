//! What is between members and their coordinator in the tests of groups? A small network of
//! its own: it delays, loses requests or only their answers, and moves the coordinator.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{CommitEntry, MemberEvent};
use pelton_engine::{CommitStatus, Time};

use super::group::{Group, GroupAnswers, GroupConfig, Topics};
use super::member::{MemberClient, MemberConfig};
use super::random::Random;
use super::wire::{
    Answer, CallError, CallId, Client, ClientId, Code, Directory, Node, Outgoing, Request, Wire,
};

pub(super) const GROUP: &str = "counters";

/// What befalls the network.
#[derive(Clone, Copy, Debug)]
pub(super) struct Weather {
    pub(super) delay: (Duration, Duration),
    /// One in so many requests is lost, and one in so many answers of requests carried out.
    pub(super) loses: u64,
}

impl Weather {
    pub(super) const CALM: Self =
        Self { delay: (Duration::from_micros(200), Duration::from_millis(2)), loses: 0 };
}

/// A process: its client, and a worker that acknowledges.
pub(super) struct Seat {
    pub(super) client: MemberClient,
    pub(super) events: Vec<(Time, MemberEvent)>,
    /// It takes that long to give back.
    pub(super) drain: Duration,
    acknowledges_at: Option<Time>,
    /// Its client has something to tell, and it has not looked since.
    woken: bool,
    pub(super) frozen: bool,
    /// Its client runs, but nobody polls it.
    pub(super) deaf: bool,
    pub(super) commits: BTreeMap<u64, Vec<(TopicPartition, CommitStatus)>>,
}

pub(super) struct Network {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) weather: Weather,
    pub(super) topics: Topics,
    pub(super) group: Group,
    pub(super) seats: BTreeMap<u32, Seat>,
    directory: Directory,
    next_call: u64,
    letters: BTreeMap<(Time, u64), Letter>,
    posted: u64,
    last_arrival: BTreeMap<(ClientId, bool), Time>,
    asked: BTreeMap<CallId, ClientId>,
    /// Calls that the coordinator has and whose deadline it does not know.
    deadlines: BTreeMap<(Time, CallId), ClientId>,
    coordinator: Option<Node>,
    seated: u32,
    traces: bool,
}

enum Letter {
    Request { from: ClientId, outgoing: Outgoing },
    Answer { to: ClientId, call: CallId, answer: Result<Answer, CallError> },
}

impl Network {
    pub(super) fn new(seed: u64, topics: &[(&str, i32)], config: GroupConfig) -> Self {
        let topics: Topics = topics.iter().map(|(name, count)| ((*name).into(), *count)).collect();
        let mut network = Self {
            now: Time(1),
            random: Random::new(seed),
            weather: Weather::CALM,
            topics,
            group: Group::new(GROUP, config),
            seats: BTreeMap::new(),
            directory: Directory { nodes: 3, ..Directory::default() },
            next_call: 0,
            letters: BTreeMap::new(),
            posted: 0,
            last_arrival: BTreeMap::new(),
            asked: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            coordinator: Some(0),
            seated: 0,
            traces: std::env::var_os("GROUP_TRACE").is_some(),
        };
        network.write_directory();
        network
    }

    fn write_directory(&mut self) {
        self.directory.leaders.clear();
        for partition in partitions(&self.topics) {
            self.directory.leaders.insert(partition, Some(0));
        }
        self.directory.coordinators.insert(GROUP.into(), self.coordinator);
    }

    pub(super) fn seat(&mut self, config: MemberConfig) -> u32 {
        self.seated += 1;
        let seat = Seat {
            client: MemberClient::new(ClientId(self.seated), config),
            events: Vec::new(),
            drain: Duration::from_millis(5),
            acknowledges_at: None,
            woken: false,
            frozen: false,
            deaf: false,
            commits: BTreeMap::new(),
        };
        self.seats.insert(self.seated, seat);
        self.seated
    }

    pub(super) fn client(&mut self, seat: u32) -> &mut MemberClient {
        &mut self.seats.get_mut(&seat).unwrap().client
    }

    pub(super) fn owned(&self, seat: u32) -> Vec<i32> {
        self.seats[&seat].client.owned().iter().map(TopicPartition::partition).collect()
    }

    /// What happened to a seat, as short words.
    pub(super) fn story(&self, seat: u32) -> Vec<String> {
        let numbers = |partitions: &[TopicPartition]| {
            let numbers = partitions.iter().map(|p| p.partition().to_string());
            numbers.collect::<Vec<_>>().join(" ")
        };
        let tell = |event: &MemberEvent| match event {
            MemberEvent::Assigned(p) => format!("assigned {}", numbers(p)).trim().to_owned(),
            MemberEvent::Revoked(p) => format!("revoked {}", numbers(p)).trim().to_owned(),
            MemberEvent::Lost(p) => format!("lost {}", numbers(p)).trim().to_owned(),
            MemberEvent::CommitAnswered { .. } => "commit".to_owned(),
            MemberEvent::Trouble(_) => "trouble".to_owned(),
            MemberEvent::InstanceFenced(_) => "fenced".to_owned(),
            MemberEvent::Broken(_) => "broken".to_owned(),
            MemberEvent::Fatal(_) => "fatal".to_owned(),
        };
        self.seats[&seat].events.iter().map(|(_, event)| tell(event)).collect()
    }

    pub(super) fn forget_stories(&mut self) {
        self.seats.values_mut().for_each(|seat| seat.events.clear());
    }

    /// The process is gone; what it has sent arrives.
    pub(super) fn kill(&mut self, seat: u32) {
        self.seats.remove(&seat);
    }

    pub(super) fn with<R>(
        &mut self,
        seat: u32,
        act: impl FnOnce(&mut MemberClient, &mut Wire<'_>) -> R,
    ) -> R {
        let mut out = Vec::new();
        let mut wire = Wire {
            now: self.now,
            directory: &self.directory,
            random: &mut self.random,
            next_call: &mut self.next_call,
            out: &mut out,
            wakes: false,
        };
        let its = self.seats.get_mut(&seat).unwrap();
        let result = act(&mut its.client, &mut wire);
        its.woken |= wire.wakes;
        self.post(ClientId(seat), out);
        result
    }

    pub(super) fn commit(&mut self, seat: u32, id: u64, offset: i64) {
        let entries: Vec<_> = self.seats[&seat]
            .client
            .owned()
            .iter()
            .map(|p| CommitEntry { partition: p.clone(), offset, metadata: String::new() })
            .collect();
        let _refused = self.with(seat, |client, wire| client.commit(id, &entries, wire)).is_err();
    }

    /// A new coordinator, after a while without one: all connections to the old one break.
    pub(super) fn move_coordinator(&mut self, to: Option<Node>) {
        self.coordinator = to;
        self.group.moved(self.now);
        self.write_directory();
        for (call, client) in std::mem::take(&mut self.asked) {
            self.answer(client, call, Err(CallError::Disconnected));
        }
    }

    pub(super) fn change_topics(&mut self, topics: &[(&str, i32)]) {
        self.topics = topics.iter().map(|(name, count)| ((*name).into(), *count)).collect();
        self.write_directory();
        let mut out = GroupAnswers::new();
        self.group.topics_changed(self.now, &self.topics, &mut out);
        self.answer_all(out);
    }

    fn post(&mut self, from: ClientId, out: Vec<Outgoing>) {
        for outgoing in out {
            self.asked.insert(outgoing.call, from);
            self.deadlines.insert((outgoing.deadline, outgoing.call), from);
            if self.random.one_in(self.weather.loses) {
                self.answer(from, outgoing.call, Err(CallError::Disconnected));
                continue;
            }
            let at = self.arrival(from, true);
            self.posted += 1;
            self.letters.insert((at, self.posted), Letter::Request { from, outgoing });
        }
    }

    fn arrival(&mut self, client: ClientId, to_broker: bool) -> Time {
        let delay = self.random.duration(self.weather.delay.0, self.weather.delay.1);
        let last = self.last_arrival.entry((client, to_broker)).or_default();
        *last = (*last).max(self.now + delay);
        *last
    }

    fn answer(&mut self, to: ClientId, call: CallId, answer: Result<Answer, CallError>) {
        let at = self.arrival(to, false);
        self.posted += 1;
        self.letters.insert((at, self.posted), Letter::Answer { to, call, answer });
    }

    fn answer_all(&mut self, out: GroupAnswers) {
        for (call, answer) in out {
            let Some(to) = self.asked.get(&call).copied() else { continue };
            let lost = self.random.one_in(self.weather.loses);
            let answer =
                if lost { Err(CallError::Disconnected) } else { Ok(Answer::Group(answer)) };
            self.answer(to, call, answer);
        }
    }

    /// Runs until `until`; `look` sees every moment.
    pub(super) fn run(&mut self, span: Duration, mut look: impl FnMut(&Self)) {
        let until = self.now + span;
        while let Some(next) = self.next_moment().filter(|next| *next <= until) {
            self.now = self.now.max(next);
            self.step();
            look(self);
        }
        self.now = until;
    }

    pub(super) fn settle(&mut self) {
        self.run(Duration::from_secs(30), |_| {});
    }

    fn next_moment(&self) -> Option<Time> {
        let awake = || self.seats.values().filter(|seat| !seat.frozen);
        let letters = self.letters.keys().next().map(|(at, _)| *at);
        let deadline = self.deadlines.keys().next().map(|(at, _)| *at);
        let clients = awake().filter_map(|seat| seat.client.wake());
        let acks = awake().filter(|seat| !seat.deaf).filter_map(|seat| seat.acknowledges_at);
        let woken = awake().any(|seat| seat.woken && !seat.deaf).then_some(self.now);
        let own = [letters, self.group.wake(), deadline, woken].into_iter().flatten();
        own.chain(clients).chain(acks).min()
    }

    fn step(&mut self) {
        let mut out = GroupAnswers::new();
        self.group.turn(self.now, &self.topics, &mut out);
        self.answer_all(out);
        while let Some(due) = self.letters.first_entry().filter(|e| e.key().0 <= self.now) {
            match due.remove() {
                Letter::Request { from, outgoing } => self.serve(from, outgoing),
                Letter::Answer { to, call, answer } => self.deliver(to, call, answer),
            }
        }
        while let Some(due) = self.deadlines.first_entry().filter(|e| e.key().0 <= self.now) {
            let ((_, call), client) = due.remove_entry();
            self.deliver(client, call, Err(CallError::TimedOut));
        }
        let seats: Vec<u32> = self.seats.keys().copied().collect();
        for seat in seats {
            self.work(seat);
        }
    }

    fn serve(&mut self, from: ClientId, outgoing: Outgoing) {
        if !self.asked.contains_key(&outgoing.call) {
            return; // its connection is broken
        }
        if self.coordinator != Some(outgoing.to) {
            let refused = Ok(Answer::Refused(Code::NotCoordinator));
            self.answer(from, outgoing.call, refused);
            return;
        }
        let Request::Group { request, .. } = outgoing.request else { panic!("not to a group") };
        self.trace(|| format!("c{} asks {:?} {request:?}", from.0, outgoing.call));
        let mut out = GroupAnswers::new();
        self.group.handle(self.now, outgoing.call, request, &self.topics, &mut out);
        self.answer_all(out);
    }

    /// Prints, if `GROUP_TRACE` is set.
    fn trace(&self, what: impl FnOnce() -> String) {
        if self.traces {
            println!("{:>9} us  {}", self.now.0 / 1000, what());
        }
    }

    fn deliver(&mut self, to: ClientId, call: CallId, answer: Result<Answer, CallError>) {
        if self.asked.remove(&call).is_none() {
            let known = matches!(answer, Err(CallError::Disconnected));
            if !known {
                return;
            }
        }
        self.trace(|| format!("c{} hears {call:?} {answer:?}", to.0));
        self.deadlines.retain(|(_, other), _| *other != call);
        if self.seats.contains_key(&to.0) {
            self.with(to.0, |client, wire| client.answered(call, answer, wire));
        }
    }

    /// What a worker does whenever it may.
    fn work(&mut self, seat: u32) {
        let now = self.now;
        if self.seats[&seat].frozen {
            return;
        }
        if self.seats[&seat].client.wake().is_some_and(|at| at <= now) {
            self.with(seat, |client, wire| client.turn(wire));
        }
        while !self.seats[&seat].deaf {
            self.seats.get_mut(&seat).unwrap().woken = false;
            let at = self.seats[&seat].acknowledges_at;
            if at.is_some_and(|at| at <= now) {
                self.with(seat, |client, wire| client.acknowledge(wire)).unwrap();
                self.seats.get_mut(&seat).unwrap().acknowledges_at = None;
            }
            let Some(event) = self.with(seat, MemberClient::poll) else { break };
            self.trace(|| format!("c{seat} polls {event:?}"));
            let seat = self.seats.get_mut(&seat).unwrap();
            match &event {
                MemberEvent::Assigned(_) => {
                    assert!(seat.acknowledges_at.is_none(), "an event while one waits");
                    seat.acknowledges_at = Some(now);
                }
                MemberEvent::Revoked(_) | MemberEvent::Lost(_) => {
                    assert!(seat.acknowledges_at.is_none(), "an event while one waits");
                    seat.acknowledges_at = Some(now + seat.drain);
                }
                MemberEvent::CommitAnswered { id, statuses } => {
                    seat.commits.insert(*id, statuses.clone());
                }
                _ => {}
            }
            seat.events.push((now, event));
        }
    }

    /// Nobody has what another one has: as the coordinator sees it, and among the clients that
    /// it would accept a commit from.
    pub(super) fn check_owners(&self) {
        let mut seen = BTreeSet::new();
        let assignments = self.group.assignments();
        for (member, partitions) in &assignments {
            for partition in partitions {
                assert!(seen.insert(partition), "{partition} is {member}'s and another's");
            }
        }
        let generation = self.group.generation();
        let mut seen: BTreeMap<&TopicPartition, u32> = BTreeMap::new();
        for (number, seat) in &self.seats {
            let (member, _, of_member) = seat.client.identity();
            let is_known = |member: &Arc<str>| assignments.iter().any(|(id, _)| id == member);
            let is_broker_assigned =
                member.as_ref().is_some_and(|m| m.starts_with('c') && !m.contains('-'));
            let counts = is_broker_assigned || of_member == generation;
            if !member.as_ref().is_some_and(is_known) || !counts {
                continue;
            }
            for partition in seat.client.owned() {
                if let Some(other) = seen.insert(partition, *number) {
                    panic!("{partition} is had by {other} and {number} in {generation}");
                }
            }
        }
    }

    /// Everything has an owner, and the owners know it.
    pub(super) fn check_calm(&self) {
        assert!(self.group.is_settled(), "not settled: {:#?}", self.group);
        let owners = self.group.owners();
        let everything: BTreeSet<_> = partitions(&self.topics).collect();
        assert_eq!(owners.keys().cloned().collect::<BTreeSet<_>>(), everything);
        for (partition, owner) in &owners {
            let has = |seat: &&Seat| seat.client.owned().contains(partition);
            let holders: Vec<_> = self.seats.values().filter(has).collect();
            assert_eq!(holders.len(), 1, "{partition} is had by {}", holders.len());
            assert_eq!(holders[0].client.identity().0.as_ref(), Some(owner), "{partition}");
        }
    }
}

pub(super) fn partitions(topics: &Topics) -> impl Iterator<Item = TopicPartition> + '_ {
    let of = |(topic, count): (&Arc<str>, &i32)| {
        let topic = Arc::clone(topic);
        (0..*count).map(move |p| TopicPartition::new(Arc::clone(&topic), p))
    };
    topics.iter().flat_map(of)
}
