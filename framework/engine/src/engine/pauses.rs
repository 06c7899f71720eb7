//! What has an operator paused? Partitions that are ours, and are not worked on for a while.
//!
//! A pause is no state of a partition but a word beside it: it holds over assignments, and a
//! paused partition drains, commits and is lost like any other. Upholds INV-15: nothing of a
//! paused partition is fetched or started, and it goes on where it stood.

use super::Engine;
use crate::action::Action;
use crate::assignment::Phase;
use crate::ids::PartitionId;

impl Engine {
    pub(super) fn pause(&mut self, partitions: &[PartitionId], out: &mut Vec<Action>) {
        for partition in partitions {
            if self.paused.insert(*partition)
                && let Some(assignment) = self.assignments.get_mut(partition)
                && let Phase::Running(active) = &mut assignment.phase
            {
                if active.fetch.take().is_some() {
                    out.push(Action::StopFetch { partition: *partition });
                }
                out.push(Action::Pause { partition: *partition });
            }
        }
    }

    /// The next tick starts the fetch.
    pub(super) fn resume(&mut self, partitions: &[PartitionId], out: &mut Vec<Action>) {
        for partition in partitions {
            let running = self
                .assignments
                .get(partition)
                .is_some_and(|assignment| matches!(assignment.phase, Phase::Running(_)));
            if self.paused.remove(partition) && running {
                out.push(Action::Resume { partition: *partition });
            }
        }
    }
}
