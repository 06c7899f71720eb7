//! When is what committed, and what does Kafka's answer mean?
//!
//! Upholds INV-6 (one commit in flight, never backwards) and INV-7 (answers of another epoch
//! change nothing).

use super::{Ending, Engine, InFlight};
use crate::action::{Action, CommitItem};
use crate::assignment::Phase;
use crate::commit::{Accepted, CommitStatus};
use crate::ids::{Epoch, PartitionId};
use crate::planted::Bug;
use crate::standing::Standing;
use crate::time::Time;

impl Engine {
    /// At every interval what is dirty is sealed; in between only what must be durable to make
    /// room: writes that fill half of a partition's room with what else it holds.
    pub(super) fn seal_if_due(&mut self, now: Time, out: &mut Vec<Action>) {
        let due = now >= self.next_commit;
        if due {
            self.next_commit = now + self.limits.commit_interval;
        }
        let room = self.room();
        for (partition, assignment) in &mut self.assignments {
            let Phase::Running(active) = &mut assignment.phase else {
                continue;
            };
            let held = active.held();
            let pressed = active.effects.unsealed > 0
                && (held > room.bytes / 2 || held > room.bytes - room.effects);
            if (due && active.progress.dirty || pressed) && !active.progress.sealing {
                active.progress.dirty = false;
                active.progress.sealing = true;
                out.push(Action::Seal { partition: *partition });
            }
        }
    }

    pub(super) fn sealed(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        standing: Standing,
        out: &mut Vec<Action>,
    ) {
        let (bug, ending) = (self.limits.bug, self.ending);
        let Some(assignment) = self.current(partition, epoch) else {
            return;
        };
        let ends_without = (Bug::NoCommitOnRevoke.is(bug)
            && matches!(assignment.phase, Phase::Draining { .. }))
            || (Bug::NoCommitOnShutdown.is(bug) && ending != Ending::No);
        if ends_without {
            return;
        }
        let Some(active) = assignment.active_mut() else {
            return;
        };
        active.progress.sealing = false;
        let committed = active.progress.committed.as_ref();
        if let Some(committed) = committed.filter(|committed| !standing.is_ahead_of(committed)) {
            // Effects without an offset of their own (a tick's): nothing has to be committed.
            let standing = committed.clone();
            out.push(Action::Committed { partition, standing, proof: false });
        }
        let sevenfold = standing.offset().0 % 7 == 0;
        active.progress.ready(standing);
        if Bug::CommitBackwards.is(bug) && sevenfold {
            active.progress.ready_backwards(15);
        }
    }

    pub(super) fn send_commit(&mut self, now: Time, out: &mut Vec<Action>) {
        let overtakes = Bug::CommitsOvertake.is(self.limits.bug);
        if self.in_flight.is_some() && !overtakes {
            return;
        }
        let mut items = Vec::new();
        for (partition, assignment) in &mut self.assignments {
            let epoch = assignment.epoch;
            let Some(active) = assignment.active_mut() else {
                continue;
            };
            if overtakes {
                active.progress.leave_in_flight();
            }
            if Bug::ProofForgetsDoneSet.is(self.limits.bug) {
                active.progress.forget_done_set();
            }
            if let Some(standing) = active.progress.take(now) {
                items.push(CommitItem { partition: *partition, epoch, standing });
            }
        }
        if items.is_empty() {
            return;
        }
        self.commits += 1;
        let id = self.commits;
        let owners = items.iter().map(|item| (item.partition, item.epoch)).collect();
        self.in_flight = Some(InFlight { id, items: owners });
        out.push(Action::Commit { id, items });
    }

    /// Is a commit of the partition unanswered?
    pub(super) fn is_under_way(&self, partition: PartitionId) -> bool {
        let in_flight = self.in_flight.as_ref().map_or(&[][..], |commit| &commit.items);
        in_flight.iter().any(|(of, _)| *of == partition)
    }

    pub(super) fn answered(
        &mut self,
        now: Time,
        id: u64,
        statuses: &[(PartitionId, CommitStatus)],
        out: &mut Vec<Action>,
    ) {
        let Some(in_flight) = self.in_flight.take_if(|in_flight| in_flight.id == id) else {
            return;
        };
        let (retry, bug) = (self.limits.commit_retry, self.limits.bug);
        for (partition, epoch) in in_flight.items {
            let status = statuses
                .iter()
                .find(|(answered, _)| *answered == partition)
                .map_or(CommitStatus::Unknown, |(_, status)| *status);
            let status = match status {
                CommitStatus::Unknown if Bug::NoAnswerIsAccepted.is(bug) => CommitStatus::Accepted,
                status => status,
            };
            let Some(assignment) = self.current(partition, epoch) else {
                continue;
            };
            let drained =
                matches!(&assignment.phase, Phase::Draining { drain, .. } if drain.drained);
            let Some(active) = assignment.active_mut() else {
                continue;
            };
            if let Some(accepted) = active.progress.answered(status, now, retry) {
                let Accepted { standing, proof } = accepted;
                out.push(Action::Committed { partition, standing, proof });
            }
            if status == CommitStatus::TopicGone && drained {
                self.release(partition, out);
            }
        }
        // Whatever has become of the commit's own partitions: who is not in the group owns none.
        let lost = statuses.iter().any(|(_, status)| *status == CommitStatus::MemberLost);
        let lost = lost && !Bug::IgnoreMemberLost.is(bug);
        if lost && id > self.commits_before_assignment {
            let all: Vec<_> = self.assignments.keys().copied().collect();
            self.lose(now, &all, out);
        }
    }
}
