//! How does one seed run? Load, faults and workers in virtual time until everything is done and
//! stands still; then the ledger judges.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton::config::{AssignmentStrategy, AutoOffsetReset, GroupProtocol, OnOutOfRange, Settings};
use pelton::{Bug, TopicPartition};
use pelton_engine::Time;

use super::fault::{Fault, TimedFault};
use super::fleet::{Birth, Hosted, deliver};
use super::plan::Plan;
use super::report::{Figures, Outcome};
use super::subject::{Draw, Logs, Subject, Written};
use crate::driver::Emitted;
use crate::ledger::{Check, Fault as Told, FaultKind, MemoryLedger, Truth};
use crate::memory::WALL_CLOCK_BEGIN_MS;
use crate::model::{
    Assignor, ClientPlan, Cluster, FetchConfig, GroupConfig, LogRecord, MemberConfig, MemberFaults,
    ProducerConfig, Random, SharedWorld, World, records_of,
};
use crate::partition_for_key;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// After the load and the last fault everything is done within so long.
const PATIENCE: Duration = Duration::from_secs(240);

/// A partition that has records and starts none for so long is stuck; above every fault's length.
const STUCK: Duration = Duration::from_secs(120);

/// What librdkafka's members do now and then.
const ODD: MemberFaults = MemberFaults {
    late_event: 4,
    event_delay: Duration::from_secs(2),
    stalled_assignment: 12,
    stall: Duration::from_secs(3),
    late_answer: 0,
    answer_delay: Duration::ZERO,
    lost_answer: 20,
    tells_only_confirmed: false,
    keeps_what_is_void: false,
};

/// What a run is to tell besides its outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) trace: bool,
}

/// One run under way.
struct Run<'a> {
    subject: &'a Subject,
    plan: Plan,
    /// The group of the workers, and what they read.
    group: String,
    inputs: Vec<String>,
    bug: Option<Bug>,
    world: SharedWorld,
    ledger: MemoryLedger,
    /// By place; a place is empty while its process is down.
    fleet: Vec<Option<Hosted>>,
    agenda: BTreeMap<(Time, u32), Deed>,
    order: u32,
    incarnations: u64,
    problems: Vec<String>,
    carried_out: u32,
    /// So many network faults last.
    bad_network: u32,
}

enum Deed {
    Fault(Fault),
    Start(usize),
    Thaw(usize),
    NodeUp(usize),
    End { place: usize, back_after: Option<Duration> },
    Healed,
    Calm,
}

/// Runs the plan, with a bug planted or none.
pub(super) fn run(subject: &Subject, plan: &Plan, bug: Option<Bug>, wanted: Wanted) -> Outcome {
    let mut run = Run::new(subject, plan.clone(), bug, wanted);
    run.prepare();
    let rest = run.run_to_rest();
    run.judge(rest)
}

impl<'a> Run<'a> {
    fn new(subject: &'a Subject, plan: Plan, bug: Option<Bug>, wanted: Wanted) -> Self {
        let mut random = Random::new(plan.seed);
        let group = GroupConfig {
            session_timeout: plan.session_timeout,
            heartbeat_interval: SECOND,
            ..GroupConfig::default()
        };
        let mut cluster = Cluster::new(plan.nodes, group, random.fork());
        let mut problems = Vec::new();
        let (mut topics, mut inputs, mut own_group) = (Vec::new(), Vec::new(), String::new());
        match declared(subject, &plan) {
            Ok(declared) => (topics, inputs, own_group) = declared,
            Err(reason) => problems.push(reason),
        }
        for topic in &topics {
            cluster.create_topic(topic, plan.partitions);
        }
        cluster.found(&own_group);
        let mut world = World::new(cluster, random.fork());
        world.trace = wanted.trace.then(String::new);
        let fleet = (0..plan.workers).map(|_| None).collect();
        Self {
            subject,
            plan,
            group: own_group,
            inputs,
            bug,
            world: SharedWorld::new(world),
            ledger: MemoryLedger::new(),
            fleet,
            agenda: BTreeMap::new(),
            order: 0,
            incarnations: 0,
            problems,
            carried_out: 0,
            bad_network: 0,
        }
    }

    fn plan_for(&mut self, at: Time, deed: Deed) {
        self.order += 1;
        self.agenda.insert((at, self.order), deed);
    }

    /// Writes the load and the faults into the agenda.
    fn prepare(&mut self) {
        let mut random = Random::new(self.plan.seed.rotate_left(17) ^ 0x10ad);
        for place in 0..self.plan.workers {
            let at = Time::ZERO + random.duration(Duration::ZERO, SECOND);
            self.plan_for(at, Deed::Start(place));
        }
        // Some of it is there before anybody reads.
        let begin = Time::ZERO;
        let mut draw = Draw::of(random.next());
        {
            let mut world = self.world.lock();
            for _ in 0..self.plan.records {
                let at = begin + random.duration(Duration::ZERO, self.plan.load);
                let Some((topic, make)) = random.pick(&self.subject.inputs) else { break };
                let (key, value) = make(&self.plan, &mut draw);
                let count = self.plan.partitions;
                let number = match &key {
                    Some(key) => partition_for_key(key, count),
                    None => i32::try_from(draw.below(u64::from(count.unsigned_abs()))).unwrap_or(0),
                };
                let partition = TopicPartition::new(topic.as_str(), number);
                let since = i64::try_from(at.since(Time::ZERO).as_millis()).unwrap_or(0);
                let record = LogRecord {
                    key,
                    value,
                    headers: Vec::new(),
                    timestamp_ms: Some(WALL_CLOCK_BEGIN_MS + since),
                };
                world.append_at(at, partition, record);
            }
        }
        for TimedFault { at, fault } in self.plan.faults.clone() {
            self.plan_for(Time::ZERO + at, Deed::Fault(fault));
        }
        let over = self.plan.faults.iter().map(|timed| timed.at + timed.fault.length()).max();
        let calm = Time::ZERO + over.unwrap_or_default().max(self.plan.load) + SECOND;
        self.plan_for(calm, Deed::Calm);
    }

    /// Lets everything happen until all is done; false if it never is.
    fn run_to_rest(&mut self) -> bool {
        let end = self.agenda.keys().next_back().map_or(Time::ZERO, |(at, _)| *at) + PATIENCE;
        let mut looked = Time::ZERO;
        loop {
            let now = self.world.lock().now();
            if now >= end {
                return false;
            }
            if self.agenda.is_empty() && now >= looked + SECOND / 4 {
                looked = now;
                if self.is_at_rest() {
                    return true;
                }
                if !self.problems.is_empty() {
                    return false;
                }
            }
            self.advance(end.min(now + SECOND / 4));
        }
    }

    /// Lets the world and all workers run up to its next moment, at most to `limit`.
    fn advance(&mut self, limit: Time) {
        let until = self.next(limit);
        for hosted in self.fleet.iter_mut().flatten().filter(|hosted| !hosted.frozen) {
            hosted.drive(&self.world, until);
        }
        // Somebody may have done something that comes earlier.
        let until = self.next(until);
        self.world.lock().run(until);
        deliver(&self.world);
        if self.world.lock().take_played() > 0 {
            self.network_fails(until, SECOND);
        }
        self.supervise(until);
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= until) {
            let deed = entry.remove();
            self.carry_out(until, deed);
        }
    }

    /// The next moment, in whole milliseconds: workers' clocks know no others.
    fn next(&self, limit: Time) -> Time {
        let world = self.world.lock();
        let next = [world.next(), self.agenda.keys().next().map(|(at, _)| *at)];
        let next = next.into_iter().flatten().fold(limit, Time::min).max(world.now());
        let millis = next.since(Time::ZERO).as_nanos().div_ceil(MILLISECOND.as_nanos());
        Time::ZERO + MILLISECOND * u32::try_from(millis).unwrap_or(u32::MAX)
    }

    fn is_at_rest(&self) -> bool {
        let world = self.world.lock();
        let Some(group) = world.cluster.group(&self.group) else { return false };
        let read = |partition: &&TopicPartition| {
            self.inputs.iter().any(|topic| topic == partition.topic())
        };
        let inputs = world.cluster.partitions().filter(read);
        let mut ends =
            inputs.filter_map(|partition| Some((partition, world.cluster.log(partition)?.end())));
        ends.all(|(partition, end)| {
            end == 0 || group.committed(partition).is_some_and(|stored| stored.offset == end)
        })
    }

    /// A process that has ended by itself is started again, as a supervisor does; whether it may
    /// end so is another question.
    fn supervise(&mut self, now: Time) {
        const RESTART: Duration = SECOND;
        let dead =
            |hosted: &Option<Hosted>| hosted.as_ref().is_some_and(|h| h.is_over() && !h.ending);
        while let Some(place) = self.fleet.iter().position(dead) {
            let Some(hosted) = self.fleet[place].take() else { return };
            let failure = hosted.failure().unwrap_or_else(|| "without a word".to_owned());
            let name = hosted.name.clone();
            self.world.lock().note(|| format!("{name} ended: {failure}"));
            // The broker holds the name of a static member that was killed until its session ends.
            let expected = self.plan.is_static && failure.starts_with("PLT-0501");
            if !expected {
                self.problems.push(format!("{name} ended: {failure}"));
            }
            hosted.kill(&self.world);
            self.plan_for(now + RESTART, Deed::Start(place));
        }
    }

    fn start(&mut self, now: Time, place: usize) {
        if self.fleet.get(place).is_some_and(Option::is_some) {
            return;
        }
        self.incarnations += 1;
        let name = format!("worker-{place}");
        let settings = settings(&self.plan, &name);
        let birth = Birth {
            name: name.clone(),
            at: now,
            seed: self.plan.seed.wrapping_mul(31).wrapping_add(self.incarnations),
            clients: clients(&self.plan, &settings, (&self.group, &self.inputs)),
        };
        let (subject, plan, ledger, bug) =
            (self.subject, &self.plan, self.ledger.clone(), self.bug);
        let started = Hosted::start(&self.world, birth, |clock| {
            let mut app = (subject.app)(plan);
            app.settings(settings);
            app.observer(ledger.worker_on(&name, clock));
            app.plant(bug);
            app
        });
        match started {
            Ok(hosted) => {
                if self.fleet.len() <= place {
                    self.fleet.resize_with(place + 1, || None);
                }
                self.fleet[place] = Some(hosted);
            }
            Err(reason) => self.problems.push(reason),
        }
    }

    fn carry_out(&mut self, now: Time, deed: Deed) {
        match deed {
            Deed::Fault(fault) => self.inflict(now, &fault),
            Deed::Start(place) => self.start(now, place),
            Deed::Thaw(place) => {
                if let Some(hosted) = self.fleet.get_mut(place).and_then(Option::as_mut)
                    && hosted.frozen
                {
                    self.ledger.fault_at(now, FaultKind::Continue, &hosted.name);
                    hosted.thaw(now);
                    self.world.lock().thaw(hosted.number());
                }
            }
            Deed::NodeUp(node) => self.world.lock().node_up(node),
            Deed::End { place, back_after } => self.end(now, place, back_after),
            Deed::Healed => {
                self.bad_network -= 1;
                if self.bad_network == 0 {
                    self.ledger.trouble_at(now, Told::NetworkHealed);
                }
            }
            Deed::Calm => {
                self.world.lock().no_more_tricks();
                // A hole of classic groups: a static member that is killed between the two rounds
                // of a cooperative rebalance comes back without a new one, and what was to move
                // belongs to nobody until the next (docs/guarantees.md). Here it comes.
                if self.plan.is_static
                    && self.plan.strategy == AssignmentStrategy::CooperativeSticky
                {
                    self.inflict(now, &Fault::Visitor { stays: SECOND * 3 });
                }
            }
        }
    }

    fn inflict(&mut self, now: Time, fault: &Fault) {
        if let Some(place) = fault.worker()
            && !self.fleet.get(place).is_some_and(|hosted| {
                hosted
                    .as_ref()
                    .is_some_and(|hosted| !hosted.frozen && !hosted.is_over() && !hosted.ending)
            })
        {
            return; // it is down, or frozen
        }
        self.carried_out += 1;
        self.world.lock().note(|| format!("FAULT {fault}"));
        match fault {
            Fault::KillNode { .. }
            | Fault::FreezeNode { .. }
            | Fault::MoveCoordinator
            | Fault::MoveLeader { .. } => {
                self.ledger.trouble_at(now, Told::BrokerKill { broker: "brokers".into() });
            }
            Fault::Blackhole { .. } | Fault::Cut { .. } | Fault::Slow { .. } => {
                self.network_fails(now, fault.length().max(SECOND));
            }
            _ => {}
        }
        let mut world = self.world.lock();
        match fault {
            Fault::KillNode { node, back_after } => {
                world.node_down(*node);
                drop(world);
                return self.plan_for(now + *back_after, Deed::NodeUp(*node));
            }
            Fault::FreezeNode { node, lasts } => return world.freeze_node(*node, now + *lasts),
            Fault::DamageMetadata => return world.damage_metadata(&self.group),
            Fault::DeleteRecords { partition, tenths } => {
                let Some(topic) = self.inputs.first() else { return };
                let partition = TopicPartition::new(topic.as_str(), *partition);
                return world.delete_records(&partition, *tenths);
            }
            Fault::MoveCoordinator => return world.move_coordinator(&self.group),
            Fault::MoveLeader { partition } => {
                let Some(topic) = self.inputs.first() else { return };
                return world.move_leader(&TopicPartition::new(topic.as_str(), *partition));
            }
            Fault::Lose { what, answer, times } => {
                for _ in 0..*times {
                    world.play(what.kind(), Fault::trick(*answer), None);
                }
                return;
            }
            _ => drop(world),
        }
        match fault {
            Fault::Visitor { stays } => {
                let place = self.fleet.len();
                self.start(now, place);
                return self.plan_for(now + *stays, Deed::End { place, back_after: None });
            }
            Fault::Terminate { worker, back_after } => {
                return self.end(now, *worker, Some(*back_after));
            }
            Fault::Kill { worker, back_after } => {
                if let Some(hosted) = self.fleet[*worker].take() {
                    self.ledger.fault_at(now, FaultKind::Kill, &hosted.name);
                    hosted.kill(&self.world);
                }
                return self.plan_for(now + *back_after, Deed::Start(*worker));
            }
            _ => {}
        }
        let Some(place) = fault.worker() else { return };
        let Some(hosted) = self.fleet[place].as_mut() else { return };
        let nodes = 0..self.plan.nodes;
        match fault {
            Fault::Freeze { lasts, .. } => {
                self.ledger.fault_at(now, FaultKind::Stop, &hosted.name);
                hosted.frozen = true;
                self.world.lock().freeze(hosted.number());
                self.plan_for(now + *lasts, Deed::Thaw(place));
            }
            Fault::BreakClient { client, .. } => hosted.inside(|_, process| match client {
                pelton::ports::ClientKind::Member => process.break_member(),
                pelton::ports::ClientKind::Fetcher => process.break_fetcher(),
                pelton::ports::ClientKind::Producer => process.break_producer(),
            }),
            Fault::BreakOffFetches { .. } => {
                hosted.inside(|_, process| process.break_off_fetches())
            }
            Fault::SilenceFetcher { .. } => hosted.inside(|_, process| process.silence_fetcher()),
            Fault::Cut { .. } => {
                let number = hosted.number();
                nodes.for_each(|node| self.world.lock().cut_off(number, node));
            }
            Fault::Slow { extra, lasts, .. } => {
                let number = hosted.number();
                nodes.for_each(|node| self.world.lock().slow(number, node, *extra, now + *lasts));
            }
            Fault::Blackhole { node, to_the_broker, lasts, .. } => {
                let (number, way) = (hosted.number(), Fault::way(*to_the_broker));
                for node in nodes.filter(|each| node.is_none_or(|node| node == *each)) {
                    self.world.lock().hold(number, node, way, now + *lasts);
                }
            }
            Fault::Kill { .. }
            | Fault::Terminate { .. }
            | Fault::Visitor { .. }
            | Fault::KillNode { .. }
            | Fault::FreezeNode { .. }
            | Fault::MoveCoordinator
            | Fault::MoveLeader { .. }
            | Fault::DamageMetadata
            | Fault::DeleteRecords { .. }
            | Fault::Lose { .. } => {}
        }
    }

    /// The ledger is told that the network fails, and when it does no more.
    fn network_fails(&mut self, now: Time, lasts: Duration) {
        self.ledger.trouble_at(now, Told::Network { what: "failing".into() });
        self.bad_network += 1;
        self.plan_for(now + lasts, Deed::Healed);
    }

    /// Ends a worker gracefully; once it has ended its process is taken away, and another one
    /// may come.
    fn end(&mut self, now: Time, place: usize, back_after: Option<Duration>) {
        let Some(hosted) = self.fleet.get_mut(place).and_then(Option::as_mut) else { return };
        if hosted.frozen {
            return self.plan_for(now + SECOND / 10, Deed::End { place, back_after });
        }
        if !hosted.is_over() && !hosted.ending {
            self.ledger.fault_at(now, FaultKind::Terminate, &hosted.name);
            hosted.ending = true;
            hosted.inside(|worker, _| worker.shut_down());
        }
        if !hosted.is_over() {
            return self.plan_for(now + SECOND / 50, Deed::End { place, back_after });
        }
        if let Some(failure) = hosted.failure() {
            let name = &hosted.name;
            self.world.lock().note(|| format!("{name} ended: {failure}"));
        }
        if let Some(hosted) = self.fleet[place].take() {
            hosted.kill(&self.world);
        }
        if let Some(back_after) = back_after {
            self.plan_for(now + back_after, Deed::Start(place));
        }
    }

    /// All workers end, and the ledger is held against the logs.
    fn judge(mut self, at_rest: bool) -> Outcome {
        let now = self.world.lock().now();
        if at_rest {
            for place in 0..self.fleet.len() {
                self.plan_for(now, Deed::End { place, back_after: None });
            }
            let end = now + SECOND * 60;
            while self.fleet.iter().any(Option::is_some) && self.world.lock().now() < end {
                self.advance(end);
            }
            for hosted in self.fleet.iter().flatten() {
                self.problems.push(format!("{} does not end", hosted.name));
            }
        } else if self.problems.is_empty() {
            self.problems.push(format!(
                "not everything is done {} s after the last fault",
                PATIENCE.as_secs()
            ));
        }
        let world = self.world.lock();
        let truth = truth(&world, &self.group, &self.inputs);
        let ledger = self.ledger.ledger();
        // The drain of a shutdown ends first: at eight tenths of `shutdown_timeout`.
        let deadline = (self.plan.drain_timeout + SECOND * 10) * 8 / 10;
        let check = Check::new().stuck_after(STUCK).drain_timeout(deadline);
        let verdict = check.hold(&ledger, &truth);
        let written = Written { logs: &*world, plan: &self.plan, verdict: &verdict };
        let judges = self.subject.judges.iter().filter(|_| at_rest);
        let wrong: Vec<_> = judges.filter_map(|judge| judge(&written).err()).collect();
        let figures = Figures {
            records: self.plan.records,
            workers: self.plan.workers,
            faults: self.carried_out,
            virtual_time: world.now().since(Time::ZERO),
        };
        let trace = world.trace.clone();
        self.problems.extend(wrong);
        Outcome {
            plan: self.plan.clone(),
            verdict,
            problems: std::mem::take(&mut self.problems),
            figures,
            ledger,
            trace,
        }
    }
}

/// What the worker reads and writes, and its group.
fn declared(subject: &Subject, plan: &Plan) -> Result<(Vec<String>, Vec<String>, String), String> {
    let mut app = (subject.app)(plan);
    app.settings(settings(plan, "nobody"));
    let (worker, _handle) =
        app.build().map_err(|error| format!("the worker can't be built: {error}"))?;
    Ok((worker.topics(), worker.input_topics(), worker.group_id().to_owned()))
}

fn settings(plan: &Plan, name: &str) -> Settings {
    let mut settings = Settings::default();
    "simulated:9092".clone_into(&mut settings.bootstrap_servers);
    settings.group_protocol = plan.protocol;
    settings.assignment_strategy = plan.strategy;
    settings.group_instance_id = plan.is_static.then(|| name.to_owned());
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.commit_interval = plan.commit_interval;
    settings.drain_timeout = Some(plan.drain_timeout);
    settings.shutdown_timeout = plan.drain_timeout + SECOND * 10;
    settings.session_timeout_ms = millis(plan.session_timeout);
    settings.heartbeat_interval_ms = 1_000;
    settings.max_poll_interval_ms = 60_000;
    settings.on_out_of_range = OnOutOfRange::Earliest;
    settings.memory_budget_records = plan.budget_records;
    settings.admin.enabled = false;
    settings
}

impl Logs for World {
    fn records(&self, topic: &str) -> Vec<(TopicPartition, Emitted)> {
        let of = |(partition, records): (TopicPartition, Vec<(i64, LogRecord)>)| {
            let number = partition.partition();
            records.into_iter().map(move |(_, record)| {
                let LogRecord { key, value, headers, timestamp_ms: _ } = record;
                (partition.clone(), Emitted { partition: number, key, value, headers })
            })
        };
        records_of(self, topic).into_iter().flat_map(of).collect()
    }
}

fn truth(world: &World, group: &str, inputs: &[String]) -> Truth {
    let mut truth = Truth::new();
    for (partition, records) in inputs.iter().flat_map(|topic| records_of(world, topic)) {
        for (offset, record) in &records {
            truth.record(&partition, *offset, record.key.as_deref(), record.timestamp_ms);
        }
        let committed = world.cluster.group(group).and_then(|group| group.committed(&partition));
        let end = world.cluster.log(&partition).map_or(0, |log| log.end());
        truth.at_rest(&partition, committed.map(|stored| stored.offset), end);
    }
    truth
}

fn clients(plan: &Plan, settings: &Settings, (group, inputs): (&str, &[String])) -> ClientPlan {
    let assignor = match (plan.protocol, plan.strategy) {
        (GroupProtocol::Classic, AssignmentStrategy::Range) => Assignor::Range,
        (GroupProtocol::Classic, AssignmentStrategy::RoundRobin) => Assignor::RoundRobin,
        (GroupProtocol::Classic, _) => Assignor::CooperativeSticky,
        _ => Assignor::Broker,
    };
    let topics: Vec<_> = inputs.iter().map(String::as_str).collect();
    let member = MemberConfig {
        instance: settings.group_instance_id.as_deref().map(Arc::from),
        session_timeout: plan.session_timeout,
        heartbeat_interval: SECOND,
        rebalance_timeout: Duration::from_millis(u64::from(settings.max_poll_interval_ms)),
        faults: if plan.odd_clients { ODD } else { MemberFaults::default() },
        ..MemberConfig::new(group, assignor, &topics)
    };
    // As the real fetcher is set up (`kafka/settings.rs`).
    let fetch = FetchConfig {
        max_wait: Duration::from_millis(100),
        repeats: if plan.odd_clients { 30 } else { 0 },
        ..FetchConfig::default()
    };
    let restore = FetchConfig { tell_ends: true, read_committed: true, ..FetchConfig::default() };
    let message_timeout = Duration::from_millis(7_500).min(plan.session_timeout / 2);
    let producer =
        ProducerConfig { delivery_timeout: message_timeout, ..ProducerConfig::default() };
    ClientPlan { member, fetch, restore, producer }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
