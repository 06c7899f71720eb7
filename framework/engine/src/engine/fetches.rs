//! Which partitions fetch, and from where? Runs come in, fetches stop and start.
//!
//! Upholds INV-4: what is buffered stays below the budget, but for one run per partition.

use super::Engine;
use crate::action::Action;
use crate::assignment::{Assignment, Fetching, Helped, Phase};
use crate::budget::Volume;
use crate::event::RunInfo;
use crate::ids::{Epoch, PartitionId};
use crate::planted::Bug;
use crate::time::Time;

impl Engine {
    pub(super) fn fetched(
        &mut self,
        now: Time,
        partition: PartitionId,
        run: RunInfo,
        out: &mut Vec<Action>,
    ) {
        let (share, mut held) = (self.share(), self.held());
        let budget = self.budget();
        let Some(assignment) = self.assignments.get_mut(&partition) else {
            return;
        };
        let Phase::Running(active) = &mut assignment.phase else {
            return;
        };
        let expected = active.expected;
        if active.fetch.is_some_and(|fetch| run.first < fetch.from) {
            // The topic was truncated or recreated: going on would swallow records.
            self.out_of_range(partition, out);
            return;
        }
        active.heard = now;
        active.outside = false;
        active.helped = Helped::Not;
        if let Some(fetch) = &mut active.fetch {
            fetch.again_at = None;
        }
        out.push(Action::Deliver { partition, skip_below: expected });
        // What was delivered before is dropped by the runtime, which reports it as freed.
        let volume = Volume { records: run.records, bytes: run.bytes };
        active.buffered.add(volume);
        held.add(volume);
        active.expected = expected.max(run.last.next());
        active.end = active.end.max(Some(active.expected));
        let full = active.buffered.fills(share) || held.fills(budget);
        if full && active.fetch.take().is_some() {
            out.push(Action::StopFetch { partition });
        }
    }

    /// Stops what fills its share and starts what has room again. A partition with an empty
    /// buffer may always fetch one run, so that nobody starves behind others that are slow.
    pub(super) fn regulate_fetches(&mut self, now: Time, out: &mut Vec<Action>) {
        let (share, held, budget) = (self.share(), self.held(), self.budget());
        let bug = self.limits.bug;
        for (partition, assignment) in &mut self.assignments {
            let (partition, Phase::Running(active)) = (*partition, &mut assignment.phase) else {
                continue;
            };
            // Out of range: there is nothing to fetch.
            if active.out_of_range || self.paused.contains(&partition) {
                continue;
            }
            let room = active.buffered.leaves_half_of(share) && !held.fills(budget);
            if active.fetch.is_some() {
                if active.buffered.fills(share) {
                    active.fetch = None;
                    out.push(Action::StopFetch { partition });
                }
            } else if (room || active.buffered.is_empty()) && !Bug::NeverResume.is(bug) {
                active.fetch = Some(Fetching::from(active.expected));
                active.heard = now;
                out.push(Action::StartFetch { partition, from: active.expected });
            }
        }
    }

    pub(super) fn progressed(
        &mut self,
        partition: PartitionId,
        epoch: Epoch,
        freed: Volume,
        dirty: bool,
    ) {
        if let Some(active) = self.active(partition, epoch) {
            active.buffered.remove(freed);
            active.progress.dirty |= dirty;
        }
    }

    pub(super) fn fetch_failed(&mut self, now: Time, partition: PartitionId) {
        let retry = self.limits.fetch_retry;
        if let Some(Assignment { phase: Phase::Running(active), .. }) =
            self.assignments.get_mut(&partition)
            && let Some(fetch) = &mut active.fetch
        {
            fetch.again_at.get_or_insert(now + retry);
        }
    }

    /// Whatever was being fetched is fetched on by the new client.
    pub(super) fn fetcher_replaced(&mut self, now: Time, out: &mut Vec<Action>) {
        for (partition, assignment) in &mut self.assignments {
            if let Phase::Running(active) = &mut assignment.phase
                && active.fetch.is_some()
            {
                active.heard = now;
                active.fetch = Some(Fetching::from(active.expected));
                out.push(Action::StartFetch { partition: *partition, from: active.expected });
            }
        }
    }

    /// What all partitions together may buffer.
    pub(super) fn budget(&self) -> Volume {
        Volume { records: self.limits.budget_records, bytes: self.limits.budget_bytes }
    }

    /// What each running partition may buffer.
    pub(super) fn share(&self) -> Volume {
        let running = self.assignments.values().filter(|a| a.active().is_some()).count();
        self.budget().share(running)
    }

    /// What all partitions together have buffered.
    pub(super) fn held(&self) -> Volume {
        let mut held = Volume::default();
        for active in self.assignments.values().filter_map(Assignment::active) {
            held.add(active.buffered);
        }
        held
    }
}
