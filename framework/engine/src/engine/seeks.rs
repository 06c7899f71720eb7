//! How does a partition go on at another offset because somebody wants it?
//!
//! As if it were handed over to itself: what has started finishes, its effects become durable, what
//! is done is committed; then it begins anew at the other offset, with a new epoch, and commits that
//! at once. So a seek loses no effect of a record that was done before it. One that can't be finished
//! in a drain's time is not made.

use super::{Ending, Engine};
use crate::action::{Action, RestoreFrom};
use crate::assignment::{Drain, Phase, Preparing};
use crate::ids::{Epoch, Offset, PartitionId};
use crate::planted::Bug;
use crate::time::Time;

impl Engine {
    /// Somebody wants the partition to go on at `to`. Of one that is not at work here nothing
    /// happens.
    pub(super) fn seek(
        &mut self,
        now: Time,
        partition: PartitionId,
        to: Offset,
        out: &mut Vec<Action>,
    ) {
        let drain = Drain {
            cancel_at: now + self.limits.drain_timeout,
            release_at: now + self.limits.release_timeout,
            cancelled: false,
            drained: false,
            seek: Some(to),
        };
        let Some(assignment) = self.assignments.get_mut(&partition) else { return };
        match &mut assignment.phase {
            Phase::Running(active) if Bug::SeekWithoutDrain.is(self.limits.bug) => {
                let (epoch, fetches) = (assignment.epoch, active.fetch.is_some());
                out.extend(fetches.then_some(Action::StopFetch { partition }));
                let preparing = Preparing::since(now, self.limits.restart_after);
                let from = RestoreFrom::Seek(to);
                self.begin_anew(partition, epoch, Preparing { from, ..preparing }, out);
            }
            Phase::Running(_) if self.ending == Ending::No => {
                let send_until =
                    drain.cancel_at.max(drain.release_at - self.limits.delivery_timeout);
                self.drain(partition, drain, Some(send_until), out);
            }
            // The last word counts.
            Phase::Draining { drain, .. } if drain.seek.is_some() => drain.seek = Some(to),
            Phase::Restoring(preparing) => {
                let from = RestoreFrom::Seek(to);
                let preparing = Preparing { from, ..*preparing };
                let epoch = assignment.epoch;
                self.begin_anew(partition, epoch, preparing, out);
            }
            Phase::Running(_) | Phase::Draining { .. } | Phase::Released | Phase::Lost { .. } => {}
        }
    }

    /// The drain for a seek is over; if not everything is durable and committed, the partition goes
    /// on where its commit says.
    pub(super) fn go_on(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        through: bool,
        out: &mut Vec<Action>,
    ) {
        let Some(assignment) = self.assignments.get(&partition) else { return };
        let Phase::Draining { drain, .. } = &assignment.phase else { return };
        // What was cut off had started, and is not to be skipped.
        let seek = drain.seek.filter(|_| through && !drain.cancelled);
        let from = seek.map_or(RestoreFrom::Committed, RestoreFrom::Seek);
        let preparing = Preparing::since(now, self.limits.restart_after);
        self.begin_anew(partition, epoch, Preparing { from, ..preparing }, out);
    }
}
