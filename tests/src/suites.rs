//! The runs that prove the promises: each suite has a short form for `cargo test` and a long one
//! for `cargo chaos`.
//!
//! A suite's function carries out one run and returns what it showed; the tables here say how
//! `cargo chaos` runs it, round by round.

pub mod coordinator;
pub mod dead_brokers;
pub mod freeze;
pub mod kill;
pub mod leader;
pub mod membership;
pub mod memory;
pub mod patterns;
pub mod roll;
pub mod soak;
pub mod storm;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::rig::{Outcome, Protocol};
use crate::suites::memory::Story;
use crate::{ClusterError, KafkaCluster};

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

/// A suite as `cargo chaos` runs it.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does and what it insists on.
    pub about: &'static str,
    /// Nodes of its cluster; 0 where its rounds start clusters of their own.
    pub nodes: usize,
    /// Rounds of the long form.
    pub rounds: u32,
    /// One round.
    pub round: fn(&KafkaCluster) -> Result<Round, ClusterError>,
}

/// Every suite there is.
pub const ALL: &[Suite] = &[
    Suite {
        name: "joins-range",
        about: "graceful joins and leaves, 5 a round, drains of 0 to 2 s: nothing lost or repeated",
        nodes: 1,
        rounds: 4,
        round: |kafka| membership::round(kafka, Protocol::Range),
    },
    Suite {
        name: "joins-cooperative-sticky",
        about: "the same; partitions that stay go on",
        nodes: 1,
        rounds: 4,
        round: |kafka| membership::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "joins-static-membership",
        about: "the same; workers restart under their instance ids",
        nodes: 1,
        rounds: 4,
        round: |kafka| membership::round(kafka, Protocol::StaticMembership),
    },
    Suite {
        name: "joins-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        rounds: 4,
        round: |kafka| membership::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "kill",
        about: "SIGKILL under load, 5 a round: nothing lost; repeats only of what the killed had not committed",
        nodes: 1,
        rounds: 4,
        round: |kafka| kill::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "kill-static-membership",
        about: "the same; the killed come back under their instance ids",
        nodes: 1,
        rounds: 4,
        round: |kafka| kill::round(kafka, Protocol::StaticMembership),
    },
    Suite {
        name: "kill-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        rounds: 4,
        round: |kafka| kill::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "freeze-cooperative-sticky",
        about: "SIGSTOP past the session, 5 a round, 3 of them mid-record, then SIGCONT: no commit of a lost partition, no value older than the truth",
        nodes: 1,
        rounds: 4,
        round: |kafka| freeze::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "freeze-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        rounds: 4,
        round: |kafka| freeze::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "leader",
        about: "SIGKILL of the leader of an output, a changelog and an input partition in turn: nothing lost, no value older than the truth",
        nodes: 3,
        rounds: 2,
        round: |kafka| leader::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "leader-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        rounds: 2,
        round: |kafka| leader::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "coordinator",
        about: "SIGKILL of the group's coordinator, 3 a round: nothing lost, repeats only by the kill",
        nodes: 3,
        rounds: 2,
        round: |kafka| coordinator::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "coordinator-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        rounds: 2,
        round: |kafka| coordinator::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "roll",
        about: "every broker restarted in good order, twice a round: nothing lost or repeated, no rebalance",
        nodes: 3,
        rounds: 2,
        round: |kafka| roll::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "roll-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        rounds: 2,
        round: |kafka| roll::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "soak",
        about: "joins, leaves and restarts of brokers, ten minutes a round: open files and threads of those who stay are constant",
        nodes: 3,
        rounds: 3,
        round: |kafka| soak::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "soak-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        rounds: 3,
        round: |kafka| soak::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "storm",
        about: "50 joins and leaves in 60 s, records of 200 ms: nobody evicted, nothing lost or repeated, 95 % of the rate within 10 s",
        nodes: 1,
        rounds: 2,
        round: |kafka| storm::round(kafka, Protocol::CooperativeSticky),
    },
    Suite {
        name: "storm-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        rounds: 2,
        round: |kafka| storm::round(kafka, Protocol::Kip848),
    },
    Suite {
        name: "dead-brokers",
        about: "SIGTERM for 5 workers while every broker is dead, then for 5 while it is frozen: the end within shutdown_timeout + 2 s, never by a signal",
        nodes: 1,
        rounds: 5,
        round: |kafka| dead_brokers::round(kafka, Protocol::CooperativeSticky, dead_brokers::SHORT),
    },
    Suite {
        name: "dead-brokers-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        rounds: 5,
        round: |kafka| dead_brokers::round(kafka, Protocol::Kip848, dead_brokers::SHORT),
    },
    Suite {
        name: "dead-brokers-default-timeout",
        about: "the same with the default shutdown_timeout of 25 s",
        nodes: 1,
        rounds: 1,
        round: |kafka| {
            dead_brokers::round(kafka, Protocol::CooperativeSticky, dead_brokers::DEFAULT)
        },
    },
    Suite {
        name: "memory",
        about: "64 partitions, records of 900 KB, slow handlers, 2 minutes a round: resident memory within the budget and a constant, no partition starves",
        nodes: 1,
        rounds: 15,
        round: |kafka| memory::round(kafka, Story::LargeRecords, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-skewed",
        about: "the same with most records in one partition, 2 minutes",
        nodes: 1,
        rounds: 1,
        round: |kafka| memory::round(kafka, Story::Skewed, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-slow-output",
        about: "the same, everything is emitted, and the broker is frozen for 10 s",
        nodes: 1,
        rounds: 1,
        round: |kafka| memory::round(kafka, Story::SlowOutput, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-small-records",
        about: "the same with records of 100 bytes",
        nodes: 1,
        rounds: 1,
        round: |kafka| memory::round(kafka, Story::SmallRecords, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-big-writes",
        about: "the same with small records that put 100 KB into a store, and rare commits",
        nodes: 1,
        rounds: 1,
        round: |kafka| memory::round(kafka, Story::BigWrites, Duration::from_secs(120)),
    },
];
