//! How is the memory budget divided? What librdkafka may fetch ahead is set aside; the rest is for
//! records and their effects.
//!
//! A fetch response may be as large as `fetch.max.bytes`, and one is asked for whenever less than
//! `queued.max.messages.kbytes` are waiting (for the whole client: its partitions share one queue).
//! A message pins the response it came in, so a third part may be held by what is being copied.
//! The producer's copies of outputs are no part of their own: outputs under way count twice.

use super::error::ConfigError;
use super::settings::Settings;
use super::units::ByteCount;

const MIB: u64 = 1024 * 1024;

/// Restores that run at the same time; each has a client of its own.
pub(crate) const RESTORES: usize = 4;

/// The parts of a worker's memory budget, in bytes where the name does not say otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MemoryShares {
    /// librdkafka's `fetch.max.bytes`: one response of one broker.
    pub(crate) fetch_response: u64,
    /// librdkafka's `queued.max.messages.kbytes` of the fetcher.
    pub(crate) fetch_queue_kbytes: u64,
    /// The same of a client that restores.
    pub(crate) restore_queue_kbytes: u64,
    /// librdkafka's `fetch.message.max.bytes`: of one partition in a response.
    pub(crate) partition_response: u64,
    /// librdkafka's `queue.buffering.max.kbytes`.
    pub(crate) producer_kbytes: u64,
    /// Set aside for what the fetcher has fetched ahead.
    pub(crate) fetch_ahead: u64,
    /// Set aside for restores, where there is something to restore.
    pub(crate) restores: u64,
    budget: u64,
}

impl MemoryShares {
    /// What these settings come to; values that were passed through under `[kafka]` stand.
    pub(crate) fn of(settings: &Settings) -> Self {
        let budget = settings.memory_budget.as_u64();
        let passed = |names: &[&str]| {
            let mut values = names.iter().filter_map(|name| settings.kafka.value(name));
            values.find_map(|value| value.trim().parse::<u64>().ok())
        };
        // librdkafka refuses responses that are smaller than the largest message.
        let message = passed(&["message.max.bytes"]).unwrap_or(0).max(MIB);
        let fetch_response = passed(&["fetch.max.bytes"])
            .unwrap_or_else(|| (budget / 16).min(16 * MIB).max(message));
        let partition = ["fetch.message.max.bytes", "max.partition.fetch.bytes"];
        let partition_response = passed(&partition).unwrap_or_else(|| MIB.min(fetch_response));
        let fetch_queue_kbytes = passed(&["queued.max.messages.kbytes"])
            .unwrap_or_else(|| (budget / 16).clamp(MIB, 32 * MIB) / 1024);
        let restore_queue_kbytes =
            ((budget / 128).clamp(MIB, 8 * MIB) / 1024).min(fetch_queue_kbytes);
        Self {
            fetch_response,
            fetch_queue_kbytes,
            restore_queue_kbytes,
            partition_response,
            producer_kbytes: passed(&["queue.buffering.max.kbytes"])
                .unwrap_or_else(|| (budget / 8).clamp(4 * MIB, 64 * MIB) / 1024),
            fetch_ahead: 2 * fetch_response + 1024 * fetch_queue_kbytes,
            restores: RESTORES as u64
                * (1024 * restore_queue_kbytes + 2 * partition_response.max(message)),
            budget,
        }
    }

    /// All of it.
    pub(crate) fn budget(self) -> u64 {
        self.budget
    }

    /// What is left for records and their effects.
    pub(crate) fn records(self, has_changelogs: bool) -> u64 {
        let restores = if has_changelogs { self.restores } else { 0 };
        self.budget.saturating_sub(self.fetch_ahead).saturating_sub(restores)
    }
}

impl Settings {
    /// Half of the budget at least is for records and effects.
    pub(super) fn check_memory(&self) -> Result<(), ConfigError> {
        let least = ByteCount::from_mib(32);
        if self.memory_budget < least {
            let problem = format!("a worker can't run within it; give at least \"{least}\"");
            return Err(self.invalid("memory_budget", problem));
        }
        let shares = MemoryShares::of(self);
        let ahead = shares.fetch_ahead + shares.restores;
        if ahead <= shares.budget / 4 * 3 {
            return Ok(());
        }
        let fetched = ["fetch.max.bytes", "queued.max.messages.kbytes", "message.max.bytes"];
        let given = fetched.into_iter().find(|name| self.kafka.value(name).is_some());
        let key = given.map_or_else(|| "memory_budget".to_owned(), |name| format!("kafka.{name}"));
        let reason = format!(
            "librdkafka could fetch {} ahead (twice `fetch.max.bytes` and \
             `queued.max.messages.kbytes`, and {RESTORES} restores), more than three quarters of \
             `memory_budget` ({}); lower the one, raise the other, or leave the first to Pelton",
            ByteCount::from_bytes(ahead / MIB * MIB),
            self.memory_budget,
        );
        Err(self.contradiction(&key, reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(mib: u64, kafka: &[(&str, &str)]) -> MemoryShares {
        let mut settings =
            Settings { memory_budget: ByteCount::from_mib(mib), ..Settings::default() };
        for (key, value) in kafka {
            settings.kafka.set(*key, *value);
        }
        MemoryShares::of(&settings)
    }

    #[test]
    fn the_parts_never_come_to_more_than_the_budget() {
        for mib in [32, 64, 100, 128, 256, 1024, 65536] {
            let shares = shares(mib, &[]);
            let all = shares.fetch_ahead + shares.restores + shares.records(true);
            assert_eq!(all, mib * MIB, "{shares:?}");
            assert!(shares.records(true) * 4 >= mib * MIB, "{shares:?}");
            assert!(shares.fetch_response >= 1_000_000, "librdkafka's message.max.bytes");
            assert!(shares.partition_response <= shares.fetch_response);
        }
    }

    #[test]
    fn what_is_passed_through_counts() {
        let own = shares(256, &[]);
        let passed = shares(256, &[("queued.max.messages.kbytes", "65536")]);
        assert_eq!(own.fetch_queue_kbytes, 16 * 1024);
        assert_eq!(own.records(false) - passed.records(false), 48 * MIB);
        assert_eq!(shares(256, &[("max.partition.fetch.bytes", "1000")]).partition_response, 1000);
        assert_eq!(shares(64, &[("message.max.bytes", "9000000")]).fetch_response, 9_000_000);
    }
}
