//! What is simulated? Workers of a kind, what they are fed, and what must be true of what they
//! wrote.

use std::fmt;
use std::sync::Arc;

use pelton::{TopicPartition, WorkerBuilder};

use super::plan::Plan;
use super::story::story;
use crate::driver::Emitted;
use crate::ledger::{Ledger, Verdict};
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

/// Reads a topic.
pub(super) trait Logs: fmt::Debug {
    fn records(&self, topic: &str) -> Vec<(TopicPartition, Emitted)>;
}

impl Written<'_> {
    /// The records of a topic, input or output, partition by partition, in order.
    #[must_use]
    pub fn records(&self, topic: &str) -> Vec<Emitted> {
        self.logs.records(topic).into_iter().map(|(_, record)| record).collect()
    }

    /// What happened around the last record with that key, for an error that a reader is to
    /// understand: its attempts, the commits that cover it, what became of its partition, faults;
    /// indented, a line each. Where retention took records away it may tell of another record.
    #[must_use]
    pub fn story(&self, topic: &str, key: &[u8]) -> String {
        let (mut offset, mut last, mut before) = (0, None, None);
        for (partition, record) in self.logs.records(topic) {
            offset = if before.as_ref() == Some(&partition) { offset + 1 } else { 0 };
            if record.key.as_deref() == Some(key) {
                last = Some((partition.clone(), offset));
            }
            before = Some(partition);
        }
        last.map_or_else(String::new, |(partition, offset)| story(self.ledger, &partition, offset))
    }
}
