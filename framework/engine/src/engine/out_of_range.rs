//! A position is not in its log: when may the partition leave it?
//!
//! Not before everything that was read is done and committed: it may be nowhere else any more.
//! Then the partition is reset, with a new epoch, because where it goes on may lie behind what is
//! committed (INV-6). Where that is, the runtime finds out and decides by its policy.

use super::Engine;
use crate::action::{Action, RestoreFrom};
use crate::assignment::{Assignment, Fetching, Phase};
use crate::ids::{Epoch, Offset, PartitionId};
use crate::log_range::LogRange;
use crate::standing::Standing;
use crate::time::Time;

impl Engine {
    /// Nothing more can be read at the partition's position.
    pub(super) fn out_of_range(&mut self, partition: PartitionId, out: &mut Vec<Action>) {
        let Some(Assignment { phase: Phase::Running(active), .. }) =
            self.assignments.get_mut(&partition)
        else {
            return;
        };
        if active.fetch.take().is_some() {
            out.push(Action::StopFetch { partition });
        }
        active.out_of_range = true;
    }

    /// The answer to [`Action::AskEnd`]. A position outside the log is fetched anew once, which
    /// makes Kafka say what it thinks of it; asked again and still outside, it is out of range: a
    /// new leader may lag behind for a moment.
    pub(super) fn log_seen(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        log: LogRange,
        out: &mut Vec<Action>,
    ) {
        let Some(Assignment { phase: Phase::Running(active), .. }) = self.current(partition, epoch)
        else {
            return;
        };
        active.end = Some(log.end);
        let expected = active.expected;
        if log.allows(expected) || active.heard > active.asked {
            active.outside = false;
        } else if active.outside {
            self.out_of_range(partition, out);
        } else if active.fetch.is_some() {
            active.outside = true;
            active.fetch = Some(Fetching::from(expected));
            active.refusing = false;
            out.push(Action::StopFetch { partition });
            out.push(Action::StartFetch { partition, from: expected });
        }
    }

    /// Resets what is out of range and has nothing left to do.
    pub(super) fn leave_lost_positions(&mut self, now: Time, out: &mut Vec<Action>) {
        let leaves = |(partition, assignment): (&PartitionId, &Assignment)| {
            let Phase::Running(active) = &assignment.phase else {
                return None;
            };
            let committed = active.progress.committed.as_ref().map(Standing::offset);
            let through = committed == Some(active.expected);
            let leaves = active.out_of_range && through && !self.is_under_way(*partition);
            leaves.then_some((*partition, assignment.epoch, active.expected))
        };
        let leaving: Vec<(PartitionId, Epoch, Offset)> =
            self.assignments.iter().filter_map(leaves).collect();
        for (partition, epoch, position) in leaving {
            self.reset(now, partition, epoch, RestoreFrom::OutOfRange(position), out);
        }
    }
}
