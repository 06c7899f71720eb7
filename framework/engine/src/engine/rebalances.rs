//! What changes when the group gives and takes partitions?
//!
//! Upholds INV-5: nothing starts unless it is ours, nothing of a lost partition is committed.

use super::{Ending, Engine};
use crate::action::{Action, Closing, CommitItem, RestoreFrom};
use crate::assignment::{Active, Assignment, Drain, Fetching, Helped, Phase, Preparing};
use crate::budget::Volume;
use crate::commit::Progress;
use crate::event::HeldEffects;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::planted::Bug;
use crate::standing::Standing;
use crate::time::Time;

impl Engine {
    pub(super) fn assigned(
        &mut self,
        now: Time,
        partitions: &[PartitionId],
        out: &mut Vec<Action>,
    ) {
        self.lose(now, partitions, out);
        self.commits_before_assignment = self.commits;
        out.push(Action::Acknowledge);
        for partition in partitions {
            let epoch = self.next_epoch(*partition);
            let phase = if self.ending != Ending::No {
                Phase::Released
            } else {
                let from = RestoreFrom::Committed;
                out.push(Action::Restore { partition: *partition, epoch, from });
                Phase::Restoring(Preparing::since(now, self.limits.restart_after))
            };
            self.assignments.insert(*partition, Assignment { epoch, phase });
        }
    }

    pub(super) fn revoked(
        &mut self,
        now: Time,
        partitions: Vec<PartitionId>,
        out: &mut Vec<Action>,
    ) {
        let drain = Drain {
            cancel_at: now + self.limits.drain_timeout,
            release_at: now + self.limits.release_timeout,
            cancelled: false,
            drained: false,
            seek: None,
        };
        let send_until = drain.cancel_at.max(drain.release_at - self.limits.delivery_timeout);
        for partition in &partitions {
            self.drain(*partition, drain, Some(send_until), out);
        }
        self.unacknowledged.get_or_insert_default().extend(partitions);
    }

    pub(super) fn drain(
        &mut self,
        partition: PartitionId,
        drain: Drain,
        send_until: Option<Time>,
        out: &mut Vec<Action>,
    ) {
        let bug = self.limits.bug;
        let Some(assignment) = self.assignments.get_mut(&partition) else {
            return;
        };
        let epoch = assignment.epoch;
        match &mut assignment.phase {
            Phase::Running(_) if Bug::ReleaseBeforeDrain.is(bug) => {
                out.push(Action::StopFetch { partition });
                assignment.phase = Phase::Released;
            }
            Phase::Running(_) => {
                if assignment.become_draining(drain) {
                    out.push(Action::StopFetch { partition });
                }
                out.push(Action::Drain { partition, send_until });
            }
            Phase::Restoring(_) => {
                assignment.phase = Phase::Released;
                out.push(Action::Close { partition, epoch, closing: Closing::Released });
            }
            Phase::Draining { drain: earlier, .. } => {
                earlier.cancel_at = earlier.cancel_at.min(drain.cancel_at);
                earlier.release_at = earlier.release_at.min(drain.release_at);
                earlier.seek = earlier.seek.and(drain.seek); // who gives it up does not go on
            }
            Phase::Released | Phase::Lost { .. } => {}
        }
    }

    /// Takes partitions out of our hands: nothing of them is committed any more.
    pub(super) fn lose(&mut self, now: Time, partitions: &[PartitionId], out: &mut Vec<Action>) {
        if Bug::IgnoreLost.is(self.limits.bug) {
            return;
        }
        let mut zombie_commit = Vec::new();
        for partition in partitions {
            let Some(assignment) = self.assignments.get_mut(partition) else {
                continue;
            };
            let (partition, epoch) = (*partition, assignment.epoch);
            if assignment.active().is_some_and(|active| active.fetch.is_some()) {
                out.push(Action::StopFetch { partition });
            }
            if let Some(active) =
                assignment.active().filter(|_| Bug::CommitLost.is(self.limits.bug))
            {
                zombie_commit.push(CommitItem {
                    partition,
                    epoch,
                    standing: Standing::at(active.expected),
                });
            }
            match assignment.phase {
                Phase::Restoring(_) | Phase::Running(_) | Phase::Draining { .. } => {
                    assignment.phase = Phase::Lost { since: now };
                    out.push(Action::Close { partition, epoch, closing: Closing::Lost });
                }
                Phase::Released | Phase::Lost { .. } => {}
            }
        }
        if !zombie_commit.is_empty() {
            out.push(Action::Commit { id: u64::MAX, items: zombie_commit });
        }
    }

    pub(super) fn restored(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        position: Offset,
        committed: Option<Standing>,
        out: &mut Vec<Action>,
    ) {
        let forgotten = Bug::PauseForgotten.is(self.limits.bug);
        let paused = self.paused.contains(&partition) && !forgotten;
        let stopped = self.stops;
        let Some(assignment) = self.current(partition, epoch) else {
            return;
        };
        if !matches!(assignment.phase, Phase::Restoring(_)) {
            return;
        }
        assignment.phase = Phase::Running(Active {
            expected: position,
            paused,
            // If there is no place for it, it loses it at once.
            fetch: (!paused).then(|| Fetching::from(position)),
            buffered: Volume::default(),
            effects: HeldEffects::default(),
            refusing: false,
            stopped,
            progress: Progress::starting_at(position, committed),
            heard: now,
            asked: now,
            fetched_anew_for: None,
            helped: Helped::Not,
            end: None,
            outside: false,
            out_of_range: false,
        });
        out.push(if paused {
            Action::Pause { partition }
        } else {
            Action::StartFetch { partition, from: position }
        });
    }

    /// Resets what is to be reset. Not while a commit of it is under way: what is read as
    /// committed meanwhile may be older than what that commit stores.
    pub(super) fn reset_wanted(&mut self, now: Time, out: &mut Vec<Action>) {
        let hasty = Bug::ResetUnderCommit.is(self.limits.bug);
        let ready =
            |(partition, _): &(&PartitionId, &Epoch)| hasty || !self.is_under_way(**partition);
        let ready: Vec<_> = self.resets.iter().filter(ready).map(|(p, e)| (*p, *e)).collect();
        for (partition, epoch) in ready {
            self.resets.remove(&partition);
            self.reset(now, partition, epoch, RestoreFrom::Committed, out);
        }
    }

    pub(super) fn reset(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        from: RestoreFrom,
        out: &mut Vec<Action>,
    ) {
        let Some(assignment) = self.current(partition, epoch) else {
            return;
        };
        let Phase::Running(active) = &assignment.phase else {
            return;
        };
        if active.fetch.is_some() {
            out.push(Action::StopFetch { partition });
        }
        let preparing = Preparing::since(now, self.limits.restart_after);
        self.begin_anew(partition, epoch, Preparing { from, ..preparing }, out);
    }

    /// The partition stays ours; its task ends and another begins.
    pub(super) fn begin_anew(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        preparing: Preparing,
        out: &mut Vec<Action>,
    ) {
        out.push(Action::Close { partition, epoch, closing: Closing::Reset });
        let epoch = self.next_epoch(partition);
        let from = preparing.from;
        let phase = Phase::Restoring(preparing);
        self.assignments.insert(partition, Assignment { epoch, phase });
        out.push(Action::Restore { partition, epoch, from });
    }

    /// Without its client nothing is ours any more, and nobody will say so.
    pub(super) fn member_gone(&mut self, now: Time, out: &mut Vec<Action>) {
        let all: Vec<_> = self.assignments.keys().copied().collect();
        self.lose(now, &all, out);
        self.assignments.clear();
        self.unacknowledged = None;
        self.in_flight = None;
    }
}
