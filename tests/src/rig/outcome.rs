//! What became of a run? The ledger's verdict, the outputs', the changelog's, and the times.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_testkit::ledger::{
    Cause, Check, KeptGaps, Ledger, Quantiles, Timeline, TotalsCheck, TotalsVerdict, Truth, Verdict,
};
use serde::Deserialize;

use crate::rig::{Names, Poison};
use crate::{Cluster, ClusterError, StoredRecord};

/// A run, judged by a reader that has nothing to do with its workers.
#[derive(Debug)]
pub struct Outcome {
    /// What the ledger says.
    pub ledger: Verdict,
    /// The last total of every user in the output.
    pub output: TotalsVerdict,
    /// The last total of every user in the changelog.
    pub changelog: TotalsVerdict,
    /// Revoked → released, in a process.
    pub drains: Vec<Duration>,
    /// A partition's silence between two owners, graceful ones.
    pub pauses: Vec<Duration>,
    /// The silence of partitions that stay.
    pub kept_gaps: KeptGaps,
}

/// A partition that has records and handles none for so long is stuck: longer than a session, a
/// broker's failure and a rebalance after it together.
pub(crate) const STUCK: Duration = Duration::from_secs(40);

/// What the workers of a run leave in its output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effects {
    /// A running total per user, from a store.
    Totals,
    /// The place of each record.
    Places,
}

#[derive(Deserialize)]
struct Total {
    user: String,
    total: u64,
}

#[derive(Deserialize)]
struct Login {
    user: String,
    status: String,
}

impl Outcome {
    pub(crate) fn of<C: Cluster + ?Sized>(
        cluster: &C,
        names: &Names,
        ledger: &Path,
        effects: Effects,
        begins: &[i64],
        rules: Check,
    ) -> Result<Self, ClusterError> {
        let begin = |partition: i32| {
            usize::try_from(partition).ok().and_then(|at| begins.get(at).copied()).unwrap_or(0)
        };
        let mut input = match effects {
            Effects::Totals => cluster.read_topic(&names.input)?,
            Effects::Places => cluster.read_places(&names.input)?,
        };
        input.retain(|record| record.offset >= begin(record.partition));
        let truth = truth(cluster, names, &input, begin)?;
        let refused = |error: &dyn fmt::Display| ClusterError::refused("the ledger", error);
        let ledger = Ledger::read(ledger).map_err(|error| refused(&error))?;
        let verdict = rules.hold(&ledger, &truth);
        let (output, changelog) = match effects {
            Effects::Totals => {
                let totals = TotalsCheck::new(successes(&input)).allowing(verdict.repeats_by_key());
                let changelog = stored(&cluster.read_topic(&names.changelog())?)?;
                let output = cluster.read_topic(&names.output)?;
                (totals.hold(emitted(&output)?), totals.hold(changelog))
            }
            Effects::Places => {
                let output = cluster.read_places(&names.output)?;
                (witnessed(&input, &output, &verdict), TotalsVerdict::default())
            }
        };
        let timeline = Timeline::of(&ledger);
        let graceful = timeline.hand_overs().into_iter().filter(|hand_over| hand_over.graceful);
        Ok(Self {
            output,
            changelog,
            drains: timeline.drains().iter().map(|drain| drain.length).collect(),
            pauses: graceful.map(|hand_over| hand_over.pause).collect(),
            kept_gaps: timeline.kept_gaps(),
            ledger: verdict,
        })
    }

    /// Nothing lost, nothing out of order, every repeat explained, every last value right.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.ledger.is_clean() && self.output.is_clean() && self.changelog.is_clean()
    }

    /// Clean, and every repeat was caused by one of these.
    #[must_use]
    pub fn repeats_only_by(&self, causes: &[Cause]) -> bool {
        let mut all = self.ledger.repeats.iter();
        self.is_clean() && all.all(|repeat| repeat.cause.is_some_and(|c| causes.contains(&c)))
    }

    /// Clean, and no record was handled twice.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.is_clean() && self.ledger.repeats.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.ledger)?;
        writeln!(f, "output: {}", self.output)?;
        writeln!(f, "changelog: {}", self.changelog)?;
        let times = [
            ("revoked to released", &self.drains),
            ("hand-over pause", &self.pauses),
            ("kept partitions' gap", &self.kept_gaps.events),
            ("calm gap", &self.kept_gaps.calm),
        ];
        for (name, durations) in times {
            if let Some(quantiles) = Quantiles::of(durations.iter().copied()) {
                writeln!(f, "{name}: {quantiles}")?;
            }
        }
        Ok(())
    }
}

fn truth<C: Cluster + ?Sized>(
    cluster: &C,
    names: &Names,
    input: &[StoredRecord],
    begin: impl Fn(i32) -> i64,
) -> Result<Truth, ClusterError> {
    let mut truth = Truth::new();
    for record in input {
        let partition = TopicPartition::new(names.input.as_str(), record.partition);
        truth.record(&partition, record.offset, record.key.as_deref(), record.timestamp);
    }
    let ends = cluster.ends(&names.input)?;
    for committed in cluster.committed(&names.group, &names.input)? {
        let partition = TopicPartition::new(names.input.as_str(), committed.partition);
        let end = usize::try_from(committed.partition).ok().and_then(|at| ends.get(at).copied());
        truth.at_rest(&partition, committed.offset, end.unwrap_or(0));
        truth.begins_at(&partition, begin(committed.partition));
    }
    Ok(truth)
}

/// An independent count of the input: successes per user, of records that can be handled.
fn successes(input: &[StoredRecord]) -> BTreeMap<Vec<u8>, u64> {
    let mut counts = BTreeMap::new();
    let sound = input.iter().filter(|record| Poison::of(record).is_none());
    let logins = sound.filter_map(|record| record.value.as_deref());
    for login in logins.filter_map(|value| serde_json::from_slice::<Login>(value).ok()) {
        if login.status == "success" {
            *counts.entry(login.user.into_bytes()).or_insert(0) += 1;
        }
    }
    counts
}

fn emitted(records: &[StoredRecord]) -> Result<Vec<(Vec<u8>, u64)>, ClusterError> {
    let read = |record: &StoredRecord| {
        let total: Total = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        Ok((total.user.into_bytes(), total.total))
    };
    let all: Result<_, serde_json::Error> = records.iter().map(read).collect();
    all.map_err(|error| ClusterError::refused("a total in the output", error))
}

fn stored(records: &[StoredRecord]) -> Result<Vec<(Vec<u8>, u64)>, ClusterError> {
    let read = |record: &StoredRecord| {
        let total = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        Ok((record.key.clone().unwrap_or_default(), total))
    };
    let all: Result<_, serde_json::Error> = records.iter().map(read).collect();
    all.map_err(|error| ClusterError::refused("a total in the changelog", error))
}

/// Is each record's place in the output, as often as the record was handled?
fn witnessed(input: &[StoredRecord], output: &[StoredRecord], verdict: &Verdict) -> TotalsVerdict {
    let place = |partition: i32, offset: i64| format!("{partition}-{offset}").into_bytes();
    let mut repeats = BTreeMap::new();
    for repeat in verdict.repeats.iter().filter(|repeat| repeat.cause.is_some()) {
        *repeats.entry(place(repeat.partition.partition(), repeat.offset)).or_insert(0) += 1;
    }
    let mut seen = BTreeMap::new();
    for key in output.iter().filter_map(|record| record.key.clone()) {
        *seen.entry(key).or_insert(0) += 1;
    }
    let expected = input.iter().map(|record| (place(record.partition, record.offset), 1));
    TotalsCheck::new(expected).allowing(repeats).hold(seen)
}
