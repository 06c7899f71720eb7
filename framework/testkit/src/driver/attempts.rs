//! How often was a record tried? Counted as the workers tell it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use pelton::TopicPartition;
use pelton::telemetry::{Observation, Observer};

/// Attempts by record, of all workers of a driver.
#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<BTreeMap<(TopicPartition, i64), u32>>);

impl Attempts {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<(TopicPartition, i64), u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn of(&self, partition: TopicPartition, offset: i64) -> u32 {
        self.counts().get(&(partition, offset)).copied().unwrap_or(0)
    }
}

impl Observer for Attempts {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::Start { partition, offset, .. } = observation {
            *self.counts().entry(((*partition).clone(), *offset)).or_insert(0) += 1;
        }
    }
}
