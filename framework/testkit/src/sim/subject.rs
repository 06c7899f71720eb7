//! What is simulated? Workers of a kind, what they are fed, and what must be true of what they
//! wrote.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pelton::{TopicPartition, WorkerBuilder};

use super::plan::Plan;
use super::story::story;
use crate::driver::Emitted;
use crate::ledger::{Ledger, Verdict};
use crate::memory::WALL_CLOCK_BEGIN_MS;
use crate::model::Random;

/// Chance for a load's records: from the seed, the same in every run of it.
///
/// ```
/// use pelton_testkit::sim::Draw;
///
/// let (mut one, mut other) = (Draw::of(7), Draw::of(7));
/// assert_eq!(one.below(100), other.below(100));
/// assert!((3..=5).contains(&one.between(3, 5)));
/// ```
#[derive(Clone, Debug)]
pub struct Draw(Random);

impl Draw {
    /// The draws of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        Self(Random::new(seed))
    }

    /// From 0 to below `bound`; 0 for a bound of 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// From `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.between(low, high)
    }

    /// True once in `n` times; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.0.one_in(n)
    }

    /// One of them; `None` of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        self.0.pick(of)
    }
}

/// Key and value of a record.
pub(super) type Fed = (Option<Vec<u8>>, Option<Vec<u8>>);

type MakeRecord = dyn Fn(&Plan, &mut Draw) -> Fed + Send + Sync;
type Judge = dyn Fn(&Written<'_>) -> Result<(), String> + Send + Sync;

/// What is simulated.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) app: Arc<dyn Fn(&Plan) -> WorkerBuilder + Send + Sync>,
    pub(super) inputs: Vec<(String, Arc<MakeRecord>)>,
    pub(super) judges: Vec<Arc<Judge>>,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inputs: Vec<_> = self.inputs.iter().map(|(topic, _)| topic).collect();
        f.debug_struct("Subject").field("inputs", &inputs).finish_non_exhaustive()
    }
}

/// What stands in the topics when everything is done, and what the ledger says of it.
///
/// ```
/// use pelton_testkit::sim::Written;
///
/// /// Has every order been answered at least once?
/// fn all_answered(written: &Written<'_>) -> Result<(), String> {
///     let (orders, answers) = (written.records("orders").len(), written.records("answers").len());
///     if answers >= orders { Ok(()) } else { Err(format!("{answers} answers to {orders} orders")) }
/// }
/// ```
#[derive(Debug)]
pub struct Written<'a> {
    pub(super) logs: &'a dyn Logs,
    /// What was run.
    pub plan: &'a Plan,
    /// What the ledger says.
    pub verdict: &'a Verdict,
    pub(super) ledger: &'a Ledger,
}

/// Reads a topic, partition by partition, in order.
pub(super) trait Logs: fmt::Debug {
    fn records(&self, topic: &str) -> Vec<Logged>;
}

/// After a fault connections are made and leaders found within so long.
pub(super) const RECOVERY: Duration = Duration::from_secs(5);

/// What a client has is under way, or stored, within so long if nothing is wrong.
const LINGERS: Duration = Duration::from_secs(1);

/// A record as it lies in its log.
#[derive(Debug)]
pub(super) struct Logged {
    pub(super) partition: TopicPartition,
    pub(super) timestamp_ms: Option<i64>,
    pub(super) record: Emitted,
}

impl Written<'_> {
    /// The records of a topic, input or output, partition by partition, in order.
    #[must_use]
    pub fn records(&self, topic: &str) -> Vec<Emitted> {
        self.logs.records(topic).into_iter().map(|logged| logged.record).collect()
    }

    /// The same, without those that were written late: a fault can have held them up
    /// ([`Fault::may_hold_a_write`](super::Fault::may_hold_a_write)) when their client got them,
    /// and a record of the same key that was stamped later stands in front of them. The client had
    /// them already when the network cut its worker off, and sent them when another worker had
    /// taken over: no worker can take back what its client has (the hole under "One owner" in
    /// `docs/guarantees.md`).
    #[must_use]
    pub fn records_in_time(&self, topic: &str) -> Vec<Emitted> {
        let mut newest = BTreeMap::new();
        let mut in_time = |logged: &Logged| {
            let newest = newest.entry(logged.record.key.clone()).or_insert(logged.timestamp_ms);
            let is_overtaken = logged.timestamp_ms < *newest;
            *newest = logged.timestamp_ms.max(*newest);
            !(is_overtaken && logged.timestamp_ms.is_some_and(|stamp| self.may_be_held_up(stamp)))
        };
        let mut records = self.logs.records(topic);
        records.retain(|logged| in_time(logged));
        records.into_iter().map(|logged| logged.record).collect()
    }

    /// Can a fault hold up what was given to a client at that time?
    fn may_be_held_up(&self, stamp_ms: i64) -> bool {
        let since = u64::try_from(stamp_ms.saturating_sub(WALL_CLOCK_BEGIN_MS)).unwrap_or(0);
        let since = Duration::from_millis(since);
        self.plan.faults.iter().filter(|timed| timed.fault.may_hold_a_write()).any(|timed| {
            let over = timed.at + timed.fault.length() + RECOVERY;
            since + LINGERS > timed.at && since < over
        })
    }

    /// What happened around the last record with that key, for an error that a reader is to
    /// understand: its attempts, the commits that cover it, what became of its partition, faults;
    /// indented, a line each. Where retention took records away it may tell of another record.
    #[must_use]
    pub fn story(&self, topic: &str, key: &[u8]) -> String {
        let (mut offset, mut last, mut before) = (0, None, None);
        for Logged { partition, record, .. } in self.logs.records(topic) {
            offset = if before.as_ref() == Some(&partition) { offset + 1 } else { 0 };
            if record.key.as_deref() == Some(key) {
                last = Some((partition.clone(), offset));
            }
            before = Some(partition);
        }
        last.map_or_else(String::new, |(partition, offset)| story(self.ledger, &partition, offset))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{Fault, TimedFault};

    #[derive(Debug)]
    struct Log(&'static [(&'static str, i64)]);

    impl Logs for Log {
        fn records(&self, topic: &str) -> Vec<Logged> {
            let logged = |(key, stamp): &(&str, i64)| Logged {
                partition: TopicPartition::new(topic, 0),
                timestamp_ms: Some(WALL_CLOCK_BEGIN_MS + stamp),
                record: Emitted {
                    partition: 0,
                    key: Some(key.as_bytes().to_vec()),
                    value: Some(stamp.to_string().into_bytes()),
                    headers: Vec::new(),
                },
            };
            self.0.iter().map(logged).collect()
        }
    }

    /// A worker was cut off with outputs under way, and replaced: its client sent them again when the
    /// network was good, and an older total came last. (Seed 2171 of the simulator, before
    /// `records_in_time`.)
    #[test]
    fn late_writes_are_left_out_where_a_fault_can_have_held_them_up() {
        let log = Log(&[
            ("a", 10),
            ("b", 40),
            ("a", 30),
            ("a", 20),
            ("a", 30),
            ("b", 39),
            ("a", 9_900),
            ("a", 9_800),
        ]);
        let (ledger, verdict) = (Ledger::default(), Verdict::default());
        let in_time = |faults: Vec<Fault>| {
            let mut plan = Plan::of(1).calm();
            let timed = |fault| TimedFault::new(Duration::ZERO, fault);
            plan.faults = faults.into_iter().map(timed).collect();
            let written = Written { logs: &log, plan: &plan, verdict: &verdict, ledger: &ledger };
            let stamps = written.records_in_time("out").into_iter();
            stamps.map(|record| record.json::<i64>()).collect::<Vec<_>>()
        };
        assert_eq!(in_time(vec![Fault::Cut { worker: 0 }]), [10, 40, 30, 30, 9_900, 9_800]);
        let freeze = Fault::Freeze { worker: 0, lasts: Duration::ZERO };
        assert_eq!(in_time(vec![freeze]), [10, 40, 30, 20, 30, 39, 9_900, 9_800]);
    }
}
