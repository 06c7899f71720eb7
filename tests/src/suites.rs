//! The runs that prove the promises: each suite has a short form for `cargo test` and a long one
//! for `cargo chaos`.
//!
//! A suite's function carries out one run and returns what it showed; the tables here say how
//! `cargo chaos` runs it, round by round.

pub mod bounce;
pub mod coordinator;
pub mod crashing;
pub mod dead_brokers;
pub mod freeze;
pub mod hanging_key;
pub mod keys;
pub mod kill;
pub mod leader;
pub mod membership;
pub mod memory;
pub mod nemesis;
pub mod network;
pub mod outage;
pub mod patterns;
pub mod poisoned;
pub mod restarts;
pub mod results;
pub mod roll;
pub mod soak;
pub mod spell;
pub mod storm;
mod table;
pub mod unavailable;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rig::Outcome;
pub use table::{ALL, Suite};

/// What one round of a suite showed.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// Did it hold what the suite promises?
    pub passed: bool,
    /// Events and records; summed over rounds.
    pub counts: BTreeMap<String, u64>,
    /// Durations in milliseconds; pooled over rounds.
    pub samples_ms: BTreeMap<String, Vec<f64>>,
    /// Everything it said.
    pub text: String,
}

impl Round {
    /// A round that is judged by an outcome.
    #[must_use]
    pub fn of(outcome: &Outcome, passed: bool) -> Self {
        let ledger = &outcome.ledger;
        let repeats = u64::try_from(ledger.repeats.len()).unwrap_or(u64::MAX);
        let violations =
            pelton_testkit::ledger::Invariant::ALL.iter().map(|i| ledger.count(*i)).sum();
        let wrong = outcome.output.too_low.len()
            + outcome.output.too_high.len()
            + outcome.changelog.too_low.len()
            + outcome.changelog.too_high.len();
        let counts = [
            ("records", ledger.records),
            ("lost", ledger.lost),
            ("repeated", repeats),
            ("unexplained repeats", ledger.unexplained_repeats()),
            ("violations", violations),
            ("wrong last values", u64::try_from(wrong).unwrap_or(u64::MAX)),
        ];
        let samples = [
            ("kept gap", &outcome.kept_gaps.events),
            ("calm gap", &outcome.kept_gaps.calm),
            ("revoked to released", &outcome.drains),
            ("hand-over pause", &outcome.pauses),
        ];
        let millis = |durations: &Vec<Duration>| {
            durations.iter().map(|duration| duration.as_secs_f64() * 1_000.0).collect()
        };
        Self {
            passed,
            counts: counts.into_iter().map(|(name, count)| (name.to_owned(), count)).collect(),
            samples_ms: samples
                .into_iter()
                .map(|(name, samples)| (name.to_owned(), millis(samples)))
                .collect(),
            text: outcome.to_string(),
        }
    }

    /// The same with the counts of another run added.
    #[must_use]
    pub fn plus(mut self, other: &Self) -> Self {
        for (name, count) in &other.counts {
            *self.counts.entry(name.clone()).or_default() += count;
        }
        self
    }

    /// The same without the times of hand-overs: they say nothing where the load has stopped or
    /// a broker is missing.
    #[must_use]
    pub fn without_times(mut self) -> Self {
        self.samples_ms.clear();
        self
    }

    /// The same with durations more.
    #[must_use]
    pub fn measuring(mut self, name: &str, samples: impl IntoIterator<Item = Duration>) -> Self {
        let samples = samples.into_iter().map(|sample| sample.as_secs_f64() * 1_000.0);
        self.samples_ms.entry(name.to_owned()).or_default().extend(samples);
        self
    }

    /// The same with one count more.
    #[must_use]
    pub fn counting(mut self, name: &str, count: u64) -> Self {
        self.counts.insert(name.to_owned(), count);
        self
    }
}
