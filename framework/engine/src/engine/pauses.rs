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
                active.paused = true;
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
            if self.paused.remove(partition)
                && let Some(assignment) = self.assignments.get_mut(partition)
                && let Phase::Running(active) = &mut assignment.phase
            {
                active.paused = false;
                out.push(Action::Resume { partition: *partition });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::standing::Standing;
    use crate::{EngineLimits, Epoch, Event, Offset, RunInfo, Time};

    /// The budget has one place, and the records of a paused partition are in it: others take the
    /// rest of it, which the paused one does not need.
    #[test]
    fn a_paused_partition_keeps_no_more_of_the_budget_than_it_holds() {
        let [paused, other] = [PartitionId(0), PartitionId(1)];
        let limits =
            EngineLimits { budget_bytes: 1_100, effects: false, ..EngineLimits::default() };
        let (mut engine, mut actions) = (Engine::new(limits), Vec::new());
        let now = Time::ZERO;
        let mut tell = |engine: &mut Engine, event| engine.handle(now, event, &mut actions);
        tell(&mut engine, Event::Assigned { partitions: vec![paused, other] });
        let run = RunInfo { first: Offset(0), last: Offset(4), records: 5, bytes: 500 };
        let epoch = Epoch(1);
        for partition in [paused, other] {
            let (position, committed) = (Offset(0), Some(Standing::at(Offset(0))));
            tell(&mut engine, Event::Restored { partition, epoch, position, committed });
            tell(&mut engine, Event::End { partition, end: Offset(100) });
        }
        tell(&mut engine, Event::Fetched { partition: paused, run });
        engine.tick(now, &mut actions);
        let fetches = |actions: &[Action]| {
            actions.iter().rev().find_map(|action| match action {
                Action::StartFetch { partition, .. } if *partition == other => Some(true),
                Action::StopFetch { partition } if *partition == other => Some(false),
                _ => None,
            })
        };
        assert_eq!(fetches(&actions), Some(false), "two have no place");
        engine.handle(now, Event::Paused { partitions: vec![paused] }, &mut actions);
        engine.tick(now, &mut actions);
        assert_eq!(fetches(&actions), Some(true));
    }
}
