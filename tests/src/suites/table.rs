//! Which suites are there for `cargo chaos`, and how long is the long form of each?

use std::time::Duration;

use pelton::Ordering;

use crate::rig::Protocol;
use crate::suites::hanging_key::Key;
use crate::suites::memory::Story;
use crate::suites::network::Held;
use crate::suites::outage::Help;
use crate::suites::spell::Trouble;
use crate::suites::{
    Round, bounce, coordinator, crashing, dead_brokers, freeze, hanging_key, keys, kill, leader,
    membership, memory, nemesis, network, outage, poisoned, restarts, roll, soak, storm,
};
use crate::{ClusterError, KafkaCluster};

/// A suite as `cargo chaos` runs it.
#[derive(Clone, Copy, Debug)]
pub struct Suite {
    /// Its name on the command line.
    pub name: &'static str,
    /// What it does and what it insists on.
    pub about: &'static str,
    /// Nodes of its cluster.
    pub nodes: usize,
    /// Proxies before them, for faults of the network.
    pub proxies: usize,
    /// Rounds of the long form.
    pub rounds: u32,
    /// One round; random choices are made from the seed.
    pub round: fn(&KafkaCluster, u64) -> Result<Round, ClusterError>,
}

/// Every suite there is.
pub const ALL: &[Suite] = &[
    Suite {
        name: "joins-range",
        about: "graceful joins and leaves, 5 a round, drains of 0 to 2 s: nothing lost or repeated",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| membership::round(kafka, Protocol::Range, seed),
    },
    Suite {
        name: "joins-cooperative-sticky",
        about: "the same; partitions that stay go on",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| membership::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "joins-static-membership",
        about: "the same; workers restart under their instance ids",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| membership::round(kafka, Protocol::StaticMembership, seed),
    },
    Suite {
        name: "joins-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| membership::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "joins-keys",
        about: "graceful joins and leaves, 5 a round, records kept in order key by key and done out of order: nothing lost or repeated, though commits alone would not tell it",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| keys::round_of_joins(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "joins-keys-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| keys::round_of_joins(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "kill-keys",
        about: "SIGKILL, 5 a round, records kept in order key by key: nothing lost; repeats only of what no commit had carried, by offset or done-set",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| keys::round_of_kills(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "kill-keys-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| keys::round_of_kills(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "poisoned",
        about: "one record in 200 fails always, by an error, a panic or a hang, 3 processes, a join and a leave: each becomes a dead letter byte for byte, the rest is done once and in order",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| poisoned::round(kafka, Ordering::Partition, seed),
    },
    Suite {
        name: "poisoned-keys",
        about: "the same, records kept in order key by key",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| poisoned::round(kafka, Ordering::key(64), seed),
    },
    Suite {
        name: "outage-retry-topics",
        about: "what the handlers call is broken for 9 s for half of all keys, a worker is killed and another leaves meanwhile: records wait in retry topics, and all are done in the order of their keys",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| outage::round(kafka, Help::RetryTopics, Ordering::key(64), seed),
    },
    Suite {
        name: "outage-retry-topics-partition",
        about: "the same, partitions in order",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| outage::round(kafka, Help::RetryTopics, Ordering::Partition, seed),
    },
    Suite {
        name: "outage-breaker",
        about: "the same, broken for all: the breaker opens, nothing is given up, and all is done in order",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| outage::round(kafka, Help::Breaker, Ordering::key(64), seed),
    },
    Suite {
        name: "crashing",
        about: "100 of 100,000 records fail always, 4 of them by an abort, 2 by taking all memory, 3 processes that are started again: each becomes a dead letter byte for byte after 3 deaths at most, the rest is done in order",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| crashing::round(kafka, Ordering::Partition, seed),
    },
    Suite {
        name: "crashing-keys",
        about: "the same, records kept in order key by key",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| crashing::round(kafka, Ordering::key(64), seed),
    },
    Suite {
        name: "hanging-key",
        about: "one of 50,000 keys hangs for 60 s at 5,000 records/s over 8 partitions: p99 of the others at most twice what it was",
        nodes: 1,
        proxies: 0,
        rounds: 3,
        round: |kafka, seed| hanging_key::round(kafka, Key::Average, seed),
    },
    Suite {
        name: "hanging-key-third",
        about: "the same with a key that makes a third of all records: its partition stops, and says so; the same of the others",
        nodes: 1,
        proxies: 0,
        rounds: 3,
        round: |kafka, seed| hanging_key::round(kafka, Key::Third, seed),
    },
    Suite {
        name: "kill",
        about: "SIGKILL under load, 5 a round: nothing lost; repeats only of what the killed had not committed",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| kill::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "kill-static-membership",
        about: "the same; the killed come back under their instance ids",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| kill::round(kafka, Protocol::StaticMembership, seed),
    },
    Suite {
        name: "kill-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| kill::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "freeze-cooperative-sticky",
        about: "SIGSTOP past the session, 5 a round, 3 of them mid-record, then SIGCONT: no commit of a lost partition, no value older than the truth",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| freeze::round(kafka, Protocol::CooperativeSticky, freeze::LONG, seed),
    },
    Suite {
        name: "freeze-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 4,
        round: |kafka, seed| freeze::round(kafka, Protocol::Kip848, freeze::LONG, seed),
    },
    Suite {
        name: "leader",
        about: "SIGKILL of the leader of an output, a changelog and an input partition in turn: nothing lost, no value older than the truth",
        nodes: 3,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| leader::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "leader-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| leader::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "coordinator",
        about: "SIGKILL of the group's coordinator, 3 a round: nothing lost, repeats only by the kill",
        nodes: 3,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| coordinator::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "coordinator-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| coordinator::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "roll",
        about: "every broker restarted in good order, twice a round: nothing lost or repeated, no rebalance",
        nodes: 3,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| roll::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "roll-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| roll::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "soak",
        about: "joins, leaves and restarts of brokers, ten minutes a round: open files and threads of those who stay are constant",
        nodes: 3,
        proxies: 0,
        rounds: 3,
        round: |kafka, seed| soak::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "soak-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: 0,
        rounds: 3,
        round: |kafka, seed| soak::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "storm",
        about: "50 joins and leaves in 60 s, records of 200 ms: nobody evicted, nothing lost or repeated, 95 % of the rate within 10 s",
        nodes: 1,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| storm::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "storm-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 2,
        round: |kafka, seed| storm::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "dead-brokers",
        about: "SIGTERM for 5 workers while every broker is dead, then for 5 while it is frozen: the end within shutdown_timeout + 2 s, never by a signal",
        nodes: 1,
        proxies: 0,
        rounds: 5,
        round: |kafka, _| {
            dead_brokers::round(kafka, Protocol::CooperativeSticky, dead_brokers::SHORT)
        },
    },
    Suite {
        name: "dead-brokers-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 5,
        round: |kafka, _| dead_brokers::round(kafka, Protocol::Kip848, dead_brokers::SHORT),
    },
    Suite {
        name: "dead-brokers-default-timeout",
        about: "the same with the default shutdown_timeout of 25 s",
        nodes: 1,
        proxies: 0,
        rounds: 1,
        round: |kafka, _| {
            dead_brokers::round(kafka, Protocol::CooperativeSticky, dead_brokers::DEFAULT)
        },
    },
    Suite {
        name: "memory",
        about: "64 partitions, records of 900 KB, slow handlers, 2 minutes a round: resident memory within the budget and a constant, no partition starves",
        nodes: 1,
        proxies: 0,
        rounds: 15,
        round: |kafka, _| memory::round(kafka, Story::LargeRecords, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-skewed",
        about: "the same with most records in one partition, 2 minutes",
        nodes: 1,
        proxies: 0,
        rounds: 1,
        round: |kafka, _| memory::round(kafka, Story::Skewed, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-slow-output",
        about: "the same, everything is emitted, and the broker is frozen for 10 s",
        nodes: 1,
        proxies: 0,
        rounds: 1,
        round: |kafka, _| memory::round(kafka, Story::SlowOutput, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-small-records",
        about: "the same with records of 100 bytes",
        nodes: 1,
        proxies: 0,
        rounds: 1,
        round: |kafka, _| memory::round(kafka, Story::SmallRecords, Duration::from_secs(120)),
    },
    Suite {
        name: "memory-big-writes",
        about: "the same with small records that put 100 KB into a store, and rare commits",
        nodes: 1,
        proxies: 0,
        rounds: 1,
        round: |kafka, _| memory::round(kafka, Story::BigWrites, Duration::from_secs(120)),
    },
    Suite {
        name: "kill-many",
        about: "SIGKILL at 8,000 records/s over 12 partitions, 10 a round: nothing lost; repeats only of what the killed had not committed",
        nodes: 1,
        proxies: 0,
        rounds: 20,
        round: |kafka, seed| kill::round_of_many(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "kill-many-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 20,
        round: |kafka, seed| kill::round_of_many(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "rolling",
        about: "6 workers, each restarted by SIGTERM in turn, 5 turns a round: nothing lost or repeated",
        nodes: 1,
        proxies: 0,
        rounds: 20,
        round: |kafka, seed| restarts::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "rolling-static-membership",
        about: "the same; workers restart under their instance ids",
        nodes: 1,
        proxies: 0,
        rounds: 20,
        round: |kafka, seed| restarts::round(kafka, Protocol::StaticMembership, seed),
    },
    Suite {
        name: "rolling-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 20,
        round: |kafka, seed| restarts::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "freeze-longer",
        about: "SIGSTOP of 2 to 4 session timeouts, 5 a round, 3 of them mid-record, then SIGCONT: no commit of a lost partition, no value older than the truth",
        nodes: 1,
        proxies: 0,
        rounds: 10,
        round: |kafka, seed| {
            freeze::round(kafka, Protocol::CooperativeSticky, freeze::LONGER, seed)
        },
    },
    Suite {
        name: "freeze-longer-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: 0,
        rounds: 10,
        round: |kafka, seed| freeze::round(kafka, Protocol::Kip848, freeze::LONGER, seed),
    },
    Suite {
        name: "bounce",
        about: "brokers ended by SIGTERM and by SIGKILL, as it comes, and started again, 5 a round: nothing lost, repeats only by the kills",
        nodes: 3,
        proxies: 0,
        rounds: 6,
        round: |kafka, seed| bounce::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "bounce-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: 0,
        rounds: 6,
        round: |kafka, seed| bounce::round(kafka, Protocol::Kip848, seed),
    },
    Suite {
        name: "network-blackhole",
        about: "the way to or from brokers dead, for some workers, for all, at one broker, shorter and longer than the session, 12 a round: nothing lost, drains, repeats only by it",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round(
                kafka,
                Protocol::CooperativeSticky,
                &[Trouble::DeafBroker, Trouble::MuteBroker],
                seed,
            )
        },
    },
    Suite {
        name: "network-blackhole-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round(
                kafka,
                Protocol::Kip848,
                &[Trouble::DeafBroker, Trouble::MuteBroker],
                seed,
            )
        },
    },
    Suite {
        name: "network-dry",
        about: "some workers cut off while the input runs dry, then reset: nothing lost, and once they are back no value older than the truth",
        nodes: 1,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round_dry(kafka, Protocol::CooperativeSticky, Held::IsGone, seed)
        },
    },
    Suite {
        name: "network-dry-kip-848",
        about: "the same; the broker assigns",
        nodes: 1,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| network::round_dry(kafka, Protocol::Kip848, Held::IsGone, seed),
    },
    Suite {
        name: "network-late-writes",
        about: "the same without the reset, so that what they had sent arrives last: nothing lost; counts the values that are too low for it, which Pelton does not promise to prevent",
        nodes: 1,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round_dry(kafka, Protocol::CooperativeSticky, Held::Arrives, seed)
        },
    },
    Suite {
        name: "network-resets",
        about: "connections reset several times a second for 20 s, for some workers, for all, at one broker: the same",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round(kafka, Protocol::CooperativeSticky, &[Trouble::Resets], seed)
        },
    },
    Suite {
        name: "network-resets-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| network::round(kafka, Protocol::Kip848, &[Trouble::Resets], seed),
    },
    Suite {
        name: "network-delay",
        about: "500 ms ± 250 ms each way for 20 s, for some workers, for all, at one broker: the same",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round(kafka, Protocol::CooperativeSticky, &[Trouble::Late], seed)
        },
    },
    Suite {
        name: "network-delay-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| network::round(kafka, Protocol::Kip848, &[Trouble::Late], seed),
    },
    Suite {
        name: "network-slow",
        about: "1 Mbit/s each way for 20 s, for some workers, for all, at one broker: the same",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| {
            network::round(kafka, Protocol::CooperativeSticky, &[Trouble::Narrow], seed)
        },
    },
    Suite {
        name: "network-slow-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 5,
        round: |kafka, seed| network::round(kafka, Protocol::Kip848, &[Trouble::Narrow], seed),
    },
    Suite {
        name: "nemesis",
        about: "kills, freezes, joins, leaves, bounces of brokers and a bad network in random subsets, with rests, 5 a round: nothing lost, every repeat explained",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 20,
        round: |kafka, seed| nemesis::round(kafka, Protocol::CooperativeSticky, seed),
    },
    Suite {
        name: "nemesis-kip-848",
        about: "the same; the broker assigns",
        nodes: 3,
        proxies: network::PROXIES,
        rounds: 20,
        round: |kafka, seed| nemesis::round(kafka, Protocol::Kip848, seed),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suite_has_a_name_of_its_own() {
        let mut names: Vec<_> = ALL.iter().map(|suite| suite.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
