//! Who is asked for committed offsets? The member that is there now: it may have been rebuilt.

use std::sync::{Arc, PoisonError, RwLock};

use crate::ports::{Committed, CommittedOffsets, PortError};
use crate::topic_partition::TopicPartition;

/// Reads through the current member.
pub(crate) struct CurrentCommitted(RwLock<Arc<dyn CommittedOffsets>>);

impl CurrentCommitted {
    pub(crate) fn new(reader: Arc<dyn CommittedOffsets>) -> Self {
        Self(RwLock::new(reader))
    }

    /// Another member has taken the place of the one before.
    pub(crate) fn replace(&self, reader: Arc<dyn CommittedOffsets>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = reader;
    }

    /// As [`CommittedOffsets::read`]. Cancel safe.
    pub(crate) async fn read(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> Result<Vec<Committed>, PortError> {
        let reader = Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        reader.read(partitions).await
    }
}
