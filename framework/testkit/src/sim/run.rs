//! How does one seed run? Load, faults and workers in virtual time until everything is done and
//! stands still. How faults are carried out and runs judged stands in files of their own.

use std::time::Duration;

use pelton::config::AssignmentStrategy;
use pelton::{Bug, TopicPartition};
use pelton_engine::Time;

use super::fault::{Fault, TimedFault};
use super::fleet::{Birth, Hosted, deliver};
use super::plan::Plan;
use super::report::Outcome;
use super::setup::{Declared, clients, declared, settings};
use super::subject::{Draw, Subject};
use crate::ledger::{Fault as Told, FaultKind, MemoryLedger};
use crate::memory::WALL_CLOCK_BEGIN_MS;
use crate::model::{Cluster, GroupConfig, LogRecord, Queue, Random, SharedWorld, World};
use crate::partition_for_key;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

/// After the load and the last fault everything is done within so long: each death costs a session and
/// slow records run one at a time after it, a breaker pauses all of them again and again, all records may
/// be of one key.
pub(super) const PATIENCE: Duration = Duration::from_secs(480);

/// What a run is to tell besides its outcome.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    pub(super) trace: bool,
}

/// One run under way.
pub(super) struct Run<'a> {
    pub(super) subject: &'a Subject,
    pub(super) plan: Plan,
    pub(super) declared: Declared,
    bug: Option<Bug>,
    pub(super) world: SharedWorld,
    pub(super) ledger: MemoryLedger,
    /// By place; a place is empty while its process is down.
    pub(super) fleet: Vec<Option<Hosted>>,
    agenda: Queue<Deed>,
    incarnations: u64,
    pub(super) problems: Vec<String>,
    pub(super) carried_out: u32,
    /// Freezes that wait for their worker to give partitions back.
    pub(super) lurking: Vec<(usize, Duration)>,
    /// So many network faults last.
    pub(super) bad_network: u32,
}

/// What stands on the agenda.
pub(super) enum Deed {
    /// The operator lets a worker go on as usual.
    Release(usize),
    Fault(Fault),
    Start(usize),
    Thaw(usize),
    NodeUp(usize),
    End {
        place: usize,
        back_after: Option<Duration>,
    },
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
        let declared = declared(subject, &plan).unwrap_or_else(|reason| {
            problems.push(reason);
            Declared::default()
        });
        for topic in &declared.topics {
            cluster.create_topic(topic, plan.partitions);
        }
        cluster.found(&declared.group);
        let mut world = World::new(cluster, random.fork());
        world.trace = wanted.trace.then(String::new);
        let fleet = (0..plan.workers).map(|_| None).collect();
        Self {
            subject,
            plan,
            declared,
            bug,
            world: SharedWorld::new(world),
            ledger: MemoryLedger::new(),
            fleet,
            agenda: Queue::default(),
            incarnations: 0,
            problems,
            carried_out: 0,
            lurking: Vec::new(),
            bad_network: 0,
        }
    }

    pub(super) fn plan_for(&mut self, at: Time, deed: Deed) {
        self.agenda.push(at, deed);
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
                let at = up_to(at, self.plan.burst);
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
        let end = self.agenda.last().unwrap_or(Time::ZERO) + PATIENCE;
        let mut looked = Time::ZERO;
        loop {
            let now = self.world.lock().now();
            if now >= end {
                return false;
            }
            if self.agenda.next().is_none() && now >= looked + SECOND / 4 {
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

    /// Lets the world and all workers run up to its next moment, at most to the first one from
    /// `limit` on at which anybody looks.
    pub(super) fn advance(&mut self, limit: Time) {
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
        self.strike(until);
        while let Some((_, deed)) = self.agenda.pop(until) {
            self.carry_out(until, deed);
        }
    }

    /// The next moment at which anybody looks. Workers' clocks know no parts of a millisecond.
    fn next(&self, limit: Time) -> Time {
        let world = self.world.lock();
        let next = [world.next(), self.agenda.next()];
        let next = next.into_iter().flatten().fold(limit, Time::min).max(world.now());
        up_to(up_to(next, self.plan.latency), MILLISECOND)
    }

    fn is_at_rest(&self) -> bool {
        let world = self.world.lock();
        let Some(group) = world.cluster.group(&self.declared.group) else { return false };
        let read = |partition: &&TopicPartition| {
            self.declared.inputs.iter().any(|topic| topic == partition.topic())
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
            if hosted.has_died() {
                self.fleet[place] = Some(hosted);
                self.kill(now, place, RESTART);
                continue;
            }
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

    pub(super) fn start(&mut self, now: Time, place: usize) {
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
            clients: clients(&self.plan, &settings, &self.declared),
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
            Deed::Release(place) => self.ask(place, |handle, input| {
                handle.resume(input);
                handle.limit_rate(input, None);
            }),
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
                self.lurking.clear();
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

    /// Ends a worker gracefully; once it has ended its process is taken away, and another one
    /// may come.
    pub(super) fn end(&mut self, now: Time, place: usize, back_after: Option<Duration>) {
        let Some(hosted) = self.fleet.get_mut(place).and_then(Option::as_mut) else { return };
        if hosted.frozen {
            return self.plan_for(now + SECOND / 10, Deed::End { place, back_after });
        }
        if !hosted.is_over() && !hosted.ending {
            self.ledger.fault_at(now, FaultKind::Terminate, &hosted.name);
            hosted.ending = true;
            hosted.inside(&self.world, |worker, _| worker.shut_down());
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
}

/// The first moment from `at` on that is a whole number of steps; `at` itself without a step.
fn up_to(at: Time, step: Duration) -> Time {
    let (since, step) = (at.since(Time::ZERO).as_nanos(), step.as_nanos());
    let beyond = if step == 0 { 0 } else { since.next_multiple_of(step) - since };
    at + Duration::from_nanos(u64::try_from(beyond).unwrap_or(0))
}
