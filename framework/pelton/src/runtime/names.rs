//! Which number stands for which topic-partition? The engine counts, the world has names.

use std::collections::HashMap;

use pelton_engine::PartitionId;

use crate::topic_partition::TopicPartition;

/// Numbers for topic-partitions, given at first sight.
#[derive(Default)]
pub(crate) struct Names {
    ids: HashMap<TopicPartition, PartitionId>,
    names: Vec<TopicPartition>,
}

impl Names {
    pub(crate) fn id(&mut self, partition: &TopicPartition) -> PartitionId {
        if let Some(id) = self.ids.get(partition) {
            return *id;
        }
        let id = PartitionId(u32::try_from(self.names.len()).unwrap_or(u32::MAX));
        self.ids.insert(partition.clone(), id);
        self.names.push(partition.clone());
        id
    }

    pub(crate) fn ids(&mut self, partitions: &[TopicPartition]) -> Vec<PartitionId> {
        partitions.iter().map(|partition| self.id(partition)).collect()
    }

    pub(crate) fn name(&self, id: PartitionId) -> Option<&TopicPartition> {
        usize::try_from(id.0).ok().and_then(|at| self.names.get(at))
    }

    /// All that have been seen.
    pub(crate) fn all(&self) -> impl Iterator<Item = &TopicPartition> {
        self.names.iter()
    }

    /// Any that has been seen.
    pub(crate) fn any(&self) -> Option<&TopicPartition> {
        self.names.first()
    }
}
