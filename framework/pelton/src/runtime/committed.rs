//! Who is asked for committed offsets? The member that is there now: it may have been rebuilt.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::ports::{Committed, CommittedOffsets, PortError};
use crate::topic_partition::TopicPartition;

/// Reads through the current member.
pub(crate) struct CurrentCommitted {
    reader: RwLock<Arc<dyn CommittedOffsets>>,
    /// Planted bug: what was read first.
    first: Mutex<BTreeMap<TopicPartition, Committed>>,
}

impl CurrentCommitted {
    pub(crate) fn new(reader: Arc<dyn CommittedOffsets>) -> Self {
        Self { reader: RwLock::new(reader), first: Mutex::default() }
    }

    /// Another member has taken the place of the one before.
    pub(crate) fn replace(&self, reader: Arc<dyn CommittedOffsets>) {
        *self.reader.write().unwrap_or_else(PoisonError::into_inner) = reader;
    }

    /// As [`CommittedOffsets::read`]. Cancel safe.
    pub(crate) async fn read(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Committed>, PortError> {
        let reader = Arc::clone(&self.reader.read().unwrap_or_else(PoisonError::into_inner));
        reader.read(partitions).await
    }

    /// Planted bug: the answer of the first time is as good as any.
    pub(crate) async fn read_once(
        &self,
        partition: &TopicPartition,
    ) -> Result<Option<Committed>, PortError> {
        let known = lock(&self.first).get(partition).cloned();
        if known.is_some() {
            return Ok(known);
        }
        let read = self.read(vec![partition.clone()]).await?.into_iter().next();
        if let Some(committed) = &read {
            lock(&self.first).insert(partition.clone(), committed.clone());
        }
        Ok(read)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
