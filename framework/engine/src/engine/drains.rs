//! When may a partition be given up, and when has everything been?
//!
//! Upholds INV-5: nothing is released before its drain has ended or its deadline has passed; and
//! no loss is acknowledged before the commits under way are answered.

use super::{Ending, Engine};
use crate::action::{Action, Closing};
use crate::assignment::{Assignment, Drain, Phase};
use crate::ids::PartitionId;
use crate::planted::Bug;
use crate::time::Time;

impl Engine {
    pub(super) fn cancel_overdue(&mut self, now: Time, out: &mut Vec<Action>) {
        for (partition, assignment) in &mut self.assignments {
            let Phase::Draining { drain, .. } = &mut assignment.phase else {
                continue;
            };
            if now >= drain.cancel_at && !drain.cancelled && !drain.drained {
                drain.cancelled = true;
                out.push(Action::Cancel { partition: *partition });
            }
        }
    }

    pub(super) fn release_drained(&mut self, now: Time, out: &mut Vec<Action>) {
        let bug = self.limits.bug;
        let mut finished = Vec::new();
        for (partition, assignment) in &self.assignments {
            let Phase::Draining { active, drain } = &assignment.phase else {
                continue;
            };
            let settled = active.progress.is_settled() || Bug::ReleaseBeforeCommit.is(bug);
            let too_late =
                now >= drain.release_at || (Bug::JoinTimeOut.is(bug) && now >= drain.cancel_at);
            let through = drain.drained && settled;
            // What is read as committed while a commit is under way may be older than it stores.
            let waits = drain.seek.is_some() && self.is_under_way(*partition);
            if (through || too_late) && !waits {
                finished.push((*partition, assignment.epoch, drain.seek.is_some(), through));
            }
        }
        for (partition, epoch, seeks, through) in finished {
            if seeks {
                self.go_on(now, partition, epoch, through, out);
            } else {
                self.release(partition, out);
            }
        }
    }

    pub(super) fn release(&mut self, partition: PartitionId, out: &mut Vec<Action>) {
        if let Some(assignment) = self.assignments.get_mut(&partition) {
            assignment.phase = Phase::Released;
            out.push(Action::Close {
                partition,
                epoch: assignment.epoch,
                closing: Closing::Released,
            });
        }
    }

    pub(super) fn acknowledge_released(&mut self, out: &mut Vec<Action>) {
        let Some(waiting) = &self.unacknowledged else {
            return;
        };
        let bug = self.limits.bug;
        // A commit that is under way when its partition is lost can't be called back. Once the
        // loss is acknowledged the member joins anew, and a client that has yet to send the
        // commit, or sends it again, sends it as that member: it would be accepted.
        let gone = |partition: &&PartitionId| match self.assignments.get(*partition) {
            Some(Assignment { phase: Phase::Lost { .. }, .. }) => {
                !self.is_under_way(**partition) || Bug::AcknowledgeUnderCommit.is(bug)
            }
            Some(assignment) => assignment.active().is_none(),
            None => true,
        };
        let over: Vec<_> = waiting.iter().filter(gone).copied().collect();
        let first_is_over = Bug::AcknowledgeFirst.is(bug) && !over.is_empty();
        if Bug::IgnoreLost.is(bug) || first_is_over || over.len() == waiting.len() {
            for partition in over.iter().filter(|_| !Bug::IgnoreLost.is(bug)) {
                self.assignments.remove(partition);
            }
            self.unacknowledged = None;
            out.push(Action::Acknowledge);
        }
    }

    pub(super) fn begin_shutdown(
        &mut self,
        now: Time,
        cancel_at: Time,
        release_at: Time,
        out: &mut Vec<Action>,
    ) {
        if self.ending != Ending::No {
            return;
        }
        self.ending = Ending::Draining;
        let drain = Drain { cancel_at, release_at, cancelled: false, drained: false, seek: None };
        let all: Vec<_> = self.assignments.keys().copied().collect();
        for partition in all {
            // The last commit is sent even if nothing moved: its answer says that the group
            // can still be left in good order.
            if let Some(active) =
                self.assignments.get_mut(&partition).and_then(Assignment::active_mut)
            {
                active.progress.want_proof();
            }
            self.drain(partition, drain, None, out);
        }
        self.next_commit = now;
    }

    pub(super) fn leave_when_empty(&mut self, out: &mut Vec<Action>) {
        let drained = self
            .assignments
            .values()
            .all(|a| matches!(a.phase, Phase::Released | Phase::Lost { .. }));
        if self.ending == Ending::Draining && drained {
            self.ending = Ending::Left;
            out.push(Action::Leave);
        }
    }
}
