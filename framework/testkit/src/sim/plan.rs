//! What does a seed stand for? A topology, a load and a schedule of faults, drawn from it.
//!
//! Each part is drawn from a source of its own, so that leaving a fault out changes nothing else:
//! that is how a failing schedule is shrunk.

use std::fmt;
use std::time::Duration;

use pelton::Ordering;
use pelton::config::{AssignmentStrategy, GroupProtocol};

use super::fault::{Fault, TimedFault};
use crate::model::Random;

/// What a seed stands for.
///
/// ```
/// use pelton_testkit::sim::Plan;
///
/// let plan = Plan::of(7);
/// assert_eq!(plan.to_string(), Plan::of(7).to_string());
/// assert!((2..=6).contains(&plan.workers) && (1..=16).contains(&plan.partitions));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Plan {
    /// What it was drawn from.
    pub seed: u64,
    /// Workers at a time: 2 to 6.
    pub workers: usize,
    /// Partitions of each topic: 1 to 16.
    pub partitions: i32,
    /// Brokers.
    pub nodes: usize,
    /// Records of the load.
    pub records: u64,
    /// Different keys.
    pub keys: u64,
    /// The load lasts so long.
    pub load: Duration,
    /// Records come in bursts, one every so long, as from producers that linger; zero: one by one.
    pub burst: Duration,
    /// A worker that waits notices what comes within so long: how busy its machine is. At least a
    /// millisecond, which its clock can't divide.
    pub latency: Duration,
    /// `group_protocol`.
    pub protocol: GroupProtocol,
    /// `assignment_strategy`, for the classic protocol.
    pub strategy: AssignmentStrategy,
    /// Has each worker a `group_instance_id`?
    pub is_static: bool,
    /// `session_timeout_ms`.
    pub session_timeout: Duration,
    /// `commit_interval`.
    pub commit_interval: Duration,
    /// `drain_timeout`.
    pub drain_timeout: Duration,
    /// What is kept in order, and how many records are in hand at once.
    pub ordering: Ordering,
    /// One record in so many is never done, and becomes a dead letter; 0 for none.
    pub poison_one_in: u64,
    /// One record in so many ends its process, whoever handles it, and becomes a dead letter; 0 for
    /// none.
    pub killer_one_in: u64,
    /// Records that kill are looked for: commits say what may be in hand.
    pub cautious: bool,
    /// One record in so many is completed by something else than its handler; 0 for none.
    pub deferred_one_in: u64,
    /// Records are handled in batches.
    pub batches: bool,
    /// Its handlers have no store: their slots take several records at once.
    pub stateless: bool,
    /// What fails too often in place waits in retry topics.
    pub retry_topics: bool,
    /// A breaker pauses the input where many attempts fail, and many do.
    pub breaker: bool,
    /// An attempt may take only so long (`attempt_timeout`), and some would take for ever.
    pub attempt_timeout: bool,
    /// A record is given up by how long it has been tried, not by how often.
    pub limited_by_time: bool,
    /// Each retry waits as long as the one before.
    pub fixed_waits: bool,
    /// `memory_budget_records`.
    pub budget_records: u64,
    /// One record in so many takes long; 0 for none.
    pub slow_one_in: u64,
    /// One record in so many fails at first; 0 for none.
    pub failing_one_in: u64,
    /// One record in so many deletes what its key has; 0 for none.
    pub deleting_one_in: u64,
    /// Effects wait for a flush (`flush_every`).
    pub flushes: bool,
    /// The handler ticks (`tick_every`).
    pub ticks: bool,
    /// Clients do now and then what librdkafka does: records come twice, events and answers late.
    pub odd_clients: bool,
    /// Retention overtakes readers.
    pub retention: bool,
    /// What is done to it all, in order.
    pub faults: Vec<TimedFault>,
}

impl Plan {
    /// The plan that `seed` stands for.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let mut random = Random::new(seed ^ 0x5045_4c54_4f4e);
        let mut faults_from = random.fork();
        let mut pace_from = Random::new(seed.rotate_left(29) ^ 0x9ace);
        let workers = size(random.between(2, 6).min(random.between(2, 6)));
        let partitions = i32::try_from(random.between(1, 16)).unwrap_or(1);
        let load = random.duration(Duration::from_secs(6), Duration::from_secs(20));
        let (protocol, strategy) = match random.below(6) {
            0 => (GroupProtocol::Classic, AssignmentStrategy::Range),
            1 => (GroupProtocol::Classic, AssignmentStrategy::RoundRobin),
            2 | 3 => (GroupProtocol::Classic, AssignmentStrategy::CooperativeSticky),
            _ => (GroupProtocol::Consumer, AssignmentStrategy::CooperativeSticky),
        };
        let nodes = 3;
        let mut order_from = Random::new(seed.rotate_left(41) ^ 0x0dde);
        let concurrency = u32::try_from(order_from.between(2, 40)).unwrap_or(2);
        let ordering = match order_from.below(6) {
            0..3 => Ordering::Partition,
            3 | 4 => Ordering::key(concurrency),
            _ => Ordering::unordered(concurrency),
        };
        let mut policy_from = Random::new(seed.rotate_left(17) ^ 0x9011_c1e5);
        let flushes = random.one_in(4);
        let mut plan = Self {
            seed,
            workers,
            partitions,
            nodes,
            records: random.between(500, 2_500),
            keys: random.between(1, 60),
            load,
            burst: Duration::from_millis([1, 50, 200, 200][size(pace_from.below(4))]),
            latency: Duration::from_millis([1, 5, 10, 10][size(pace_from.below(4))]),
            protocol,
            strategy,
            is_static: random.one_in(4),
            session_timeout: random.duration(Duration::from_secs(6), Duration::from_secs(10)),
            commit_interval: random.duration(Duration::from_millis(100), Duration::from_secs(2)),
            drain_timeout: random.duration(Duration::from_millis(500), Duration::from_secs(4)),
            ordering,
            poison_one_in: [0, 0, 60, 300][size(order_from.below(4))],
            deferred_one_in: [0, 0, 10, 100][size(order_from.below(4))],
            batches: order_from.one_in(4),
            killer_one_in: [0, 0, 0, 800][size(order_from.below(4))],
            stateless: order_from.one_in(3),
            retry_topics: order_from.one_in(2),
            breaker: order_from.one_in(8),
            attempt_timeout: policy_from.one_in(3),
            limited_by_time: policy_from.one_in(4),
            fixed_waits: policy_from.one_in(3),
            cautious: !order_from.one_in(4),
            budget_records: [100_000, 200, 64][size(random.below(3))],
            slow_one_in: [0, 20, 100, 300][size(random.below(4))],
            failing_one_in: [0, 50, 200][size(random.below(3))],
            deleting_one_in: [0, 0, 40][size(random.below(3))],
            flushes,
            ticks: random.one_in(if flushes { 2 } else { 4 }),
            odd_clients: random.one_in(4),
            retention: random.one_in(12),
            faults: Vec::new(),
        };
        // What needs a slot of its own, and a change that does not commute.
        plan.flushes &= ordering == Ordering::Partition && !plan.batches;
        plan.ticks &= !plan.batches;
        plan.cautious |= plan.killer_one_in > 0;
        plan.stateless &= !plan.flushes && !plan.batches && !plan.ticks;
        plan.retry_topics &= plan.stateless;
        if plan.breaker {
            // A record that always fails where it is may keep a breaker open for ever (decision 0018).
            (plan.failing_one_in, plan.poison_one_in, plan.retry_topics) = (10, 0, false);
            plan.attempt_timeout = false; // so many would hang
        }
        if plan.batches {
            // All of a batch take their time together.
            plan.attempt_timeout &= matches!(plan.slow_one_in, 0 | 300);
            plan.limited_by_time &= !plan.attempt_timeout;
        }
        plan.limited_by_time &= !plan.retry_topics;
        if plan.limited_by_time && plan.poison_one_in > 0 {
            plan.poison_one_in = 300; // each is tried for long
        }
        if plan.flushes || plan.batches {
            plan.deferred_one_in = 0;
        }
        if matches!(ordering, Ordering::Unordered { .. }) {
            plan.deleting_one_in = 0;
        }
        let count = faults_from.between(0, 9);
        let mut faults: Vec<TimedFault> = Vec::new();
        for _ in 0..count {
            let mut fault = TimedFault::draw(&plan, &mut faults_from);
            // Troubles come together: one strikes while the one before it is being dealt with.
            let soon = faults_from.duration(Duration::ZERO, Duration::from_secs(2));
            if faults_from.one_in(3)
                && let Some(before) = faults.last()
            {
                fault.at = before.at + soon;
            }
            faults.push(fault);
        }
        for _ in 0..order_from.below(3) {
            faults.push(TimedFault::draw_control(&plan, &mut order_from));
        }
        faults.sort_by_key(|fault| fault.at);
        plan.faults = faults;
        plan
    }

    /// Has it a fault like this?
    pub(crate) fn has(&self, is: impl Fn(&Fault) -> bool) -> bool {
        self.faults.iter().any(|timed| is(&timed.fault))
    }

    /// The same without any fault, and without records that end their process.
    #[must_use]
    pub fn calm(mut self) -> Self {
        self.faults.clear();
        self.killer_one_in = 0;
        self
    }
}

/// What is kept in order, in words.
fn order(ordering: Ordering) -> String {
    let concurrency = ordering.concurrency();
    match ordering {
        Ordering::Partition => "partitions in order".to_owned(),
        Ordering::Key { .. } => format!("keys in order, {concurrency} at once"),
        _ => format!("unordered, {concurrency} at once"),
    }
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(0)
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match self.protocol {
            GroupProtocol::Classic => format!("{:?}", self.strategy).to_lowercase(),
            _ => "KIP-848".to_owned(),
        };
        writeln!(
            f,
            "seed {}: {} workers, {} partitions, {} records of {} keys within {:.1} s, one burst \
             every {} ms, noticed within {} ms; {group}{}, {}, session {:.1} s, commits every {:.1} s, drains up to {:.1} s; slow 1 in {}, failing 1 in {}, deleting 1 in {}, poison 1 in {}, killing 1 in {}, deferred 1 in {}{}{}{}{}{}{}{}{}{}{}{}",
            self.seed,
            self.workers,
            self.partitions,
            self.records,
            self.keys,
            self.load.as_secs_f64(),
            self.burst.as_millis(),
            self.latency.as_millis(),
            if self.is_static { ", static members" } else { "" },
            order(self.ordering),
            self.session_timeout.as_secs_f64(),
            self.commit_interval.as_secs_f64(),
            self.drain_timeout.as_secs_f64(),
            self.slow_one_in,
            self.failing_one_in,
            self.deleting_one_in,
            self.poison_one_in,
            self.killer_one_in,
            self.deferred_one_in,
            if self.batches { ", batches" } else { "" },
            if self.cautious { ", cautious" } else { "" },
            if self.stateless { ", stateless" } else { "" },
            if self.retry_topics { ", retry topics" } else { "" },
            if self.breaker { ", breaker" } else { "" },
            if self.attempt_timeout { ", attempt timeout" } else { "" },
            if self.limited_by_time { ", limited by time" } else { "" },
            if self.fixed_waits { ", fixed waits" } else { "" },
            if self.flushes { ", flushes" } else { "" },
            if self.ticks { ", ticks" } else { "" },
            if self.odd_clients { ", odd clients" } else { "" },
        )?;
        for fault in &self.faults {
            writeln!(f, "  {fault}")?;
        }
        Ok(())
    }
}
