//! Does a partition stand still that should not? It is said, and mended, a little more each time.
//!
//! ```text
//! not started   said, again and again ─► no sign of life: its task is begun anew
//! silent, lag   fetched anew ─► still silent: the client that fetches is replaced
//! lost          the group says nothing more of it ─► the member joins anew
//! ```

use super::{Ending, Engine};
use crate::action::{Action, SilentAction};
use crate::assignment::{Active, Helped, Phase, Preparing};
use crate::ids::{Epoch, PartitionId};
use crate::limits::EngineLimits;
use crate::planted::Bug;
use crate::time::Time;

/// A wait grows by doubling to so many times what it was.
const PATIENCE: u32 = 16;

/// What a running partition needs.
enum Help {
    None,
    /// Its fetch has broken off, and is due again.
    Resume,
    FetchAnew,
    RenewFetcher,
    AskEnd,
}

impl Engine {
    pub(super) fn watch(&mut self, now: Time, out: &mut Vec<Action>) {
        let limits = self.limits;
        let may_renew = now >= self.renewal.not_before;
        let (mut rejoin, mut renew, mut stuck) = (false, false, Vec::new());
        for (partition, assignment) in &mut self.assignments {
            let (partition, epoch) = (*partition, assignment.epoch);
            match &mut assignment.phase {
                // It is silent because it was told to be; how far it falls behind is still shown.
                Phase::Running(active) if self.paused.contains(&partition) => {
                    if now.since(active.asked) >= limits.silent_after {
                        active.asked = now;
                        out.push(Action::AskEnd { partition });
                    }
                }
                Phase::Running(active) => match help(now, &limits, active, may_renew) {
                    Help::None => {}
                    Help::Resume => fetch_anew(now, partition, active, out),
                    Help::FetchAnew => {
                        active.helped = Helped::FetchedAnew;
                        active.fetched_anew_for = active.end;
                        fetch_anew(now, partition, active, out);
                        out.push(Action::Silent { partition, what: SilentAction::FetchedAnew });
                    }
                    Help::RenewFetcher => {
                        active.helped = Helped::FetcherRenewed;
                        active.fetched_anew_for = active.end;
                        active.heard = now;
                        renew = true;
                        out.push(Action::Silent { partition, what: SilentAction::FetcherRenewed });
                    }
                    Help::AskEnd => {
                        active.asked = now;
                        out.push(Action::AskEnd { partition });
                    }
                },
                Phase::Restoring(preparing) => {
                    if !preparing.waits && now.since(preparing.moved) >= preparing.patience {
                        stuck.push((partition, epoch, *preparing));
                    } else if now.since(preparing.said) >= limits.silent_after {
                        preparing.said = now;
                        out.push(Action::Silent { partition, what: SilentAction::StillRestoring });
                    }
                }
                Phase::Lost { since } => rejoin |= now.since(*since) >= limits.rejoin_after,
                Phase::Draining { .. } | Phase::Released => {}
            }
        }
        if renew {
            self.renew_fetcher(now, out);
        }
        self.begin_stuck_anew(now, stuck, out);
        if rejoin && self.ending == Ending::No {
            // The group says nothing of them any more; what it says later is acknowledged.
            self.assignments.retain(|_, a| !matches!(a.phase, Phase::Lost { .. }));
            out.push(Action::Rejoin);
        }
    }

    pub(super) fn preparing(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        waits: bool,
    ) {
        if let Some(assignment) = self.current(partition, epoch)
            && let Phase::Restoring(preparing) = &mut assignment.phase
        {
            preparing.moved = now;
            preparing.waits = waits;
        }
    }

    /// The same client serves all partitions: one that is silent for a reason of its own must
    /// not disturb the others again and again.
    fn renew_fetcher(&mut self, now: Time, out: &mut Vec<Action>) {
        let factor = 2u32.saturating_pow(self.renewal.renewals).min(PATIENCE);
        self.renewal.renewals = self.renewal.renewals.saturating_add(1);
        self.renewal.not_before = now + self.limits.silent_after.saturating_mul(2 * factor);
        out.push(Action::RenewFetcher);
    }

    fn begin_stuck_anew(
        &mut self,
        now: Time,
        stuck: Vec<(PartitionId, Epoch, Preparing)>,
        out: &mut Vec<Action>,
    ) {
        for (partition, epoch, before) in stuck {
            let most = self.limits.restart_after.saturating_mul(PATIENCE);
            let patience = before.patience.saturating_mul(2).min(most);
            out.push(Action::Silent { partition, what: SilentAction::RestoredAnew });
            let Preparing { from, .. } = before;
            let preparing = Preparing { from, ..Preparing::since(now, patience) };
            self.begin_anew(partition, epoch, preparing, out);
        }
    }
}

/// A transaction's marker at the end of the log leaves a lag that no fetch can close, so each
/// end is worth each kind of help once.
fn help(now: Time, limits: &EngineLimits, active: &Active, may_renew: bool) -> Help {
    let Some(fetch) = active.fetch else {
        return Help::None;
    };
    let (lost, asleep) = (Bug::LostWakeUp.is(limits.bug), Bug::WatchdogAsleep.is(limits.bug));
    if asleep || (lost && fetch.again_at.is_some()) {
        return Help::None;
    }
    if fetch.again_at.is_some_and(|at| now >= at) {
        return Help::Resume;
    }
    if now.since(active.heard) < limits.silent_after {
        return Help::None;
    }
    let lagging = active.end.is_some_and(|end| end > active.expected);
    let new_end = active.end != active.fetched_anew_for;
    let not_enough = match active.helped {
        Helped::Not => false,
        Helped::FetchedAnew => true,
        Helped::FetcherRenewed => new_end,
    };
    if lagging && not_enough && may_renew {
        return Help::RenewFetcher;
    }
    if lagging && new_end {
        return Help::FetchAnew;
    }
    // A dead fetch learns of no new end: only a question can tell.
    let ask = now.since(active.asked) >= limits.silent_after;
    if ask { Help::AskEnd } else { Help::None }
}

fn fetch_anew(now: Time, partition: PartitionId, active: &mut Active, out: &mut Vec<Action>) {
    let from = active.expected;
    active.start_fetch(from, now);
    out.push(Action::StopFetch { partition });
    out.push(Action::StartFetch { partition, from });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::action::RestoreFrom;
    use crate::standing::Standing;
    use crate::{Closing, Event, Offset, RunInfo};

    const PARTITION: PartitionId = PartitionId(0);
    const EPOCH: Epoch = Epoch(1);

    fn assigned() -> (Engine, EngineLimits) {
        let limits = EngineLimits::default();
        let mut engine = Engine::new(limits);
        tell(&mut engine, 0, Event::Assigned { partitions: vec![PARTITION] });
        (engine, limits)
    }

    fn running() -> Engine {
        let (mut engine, _) = assigned();
        let (partition, epoch, position) = (PARTITION, EPOCH, Offset(3));
        tell(&mut engine, 0, Event::Restored { partition, epoch, position, committed: None });
        engine
    }

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn tell(engine: &mut Engine, seconds: u64, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        engine.handle(at(seconds), event, &mut actions);
        actions
    }

    fn tick(engine: &mut Engine, seconds: u64) -> Vec<Action> {
        let mut actions = Vec::new();
        let _wake = engine.tick(at(seconds), &mut actions);
        actions
    }

    /// What the watchdogs say each second up to a moment, and when.
    fn barks(engine: &mut Engine, seconds: std::ops::Range<u64>) -> Vec<(u64, SilentAction)> {
        let barked = |action| match action {
            Action::Silent { what, .. } => Some(what),
            _ => None,
        };
        let mut all = Vec::new();
        for second in seconds {
            let now = tick(engine, second).into_iter().filter_map(barked);
            all.extend(now.map(|what| (second, what)));
        }
        all
    }

    #[test]
    fn a_partition_that_gives_no_sign_of_life_is_begun_anew_and_waited_for_longer_each_time() {
        let (mut engine, _) = assigned();
        let said = barks(&mut engine, 0..1_000);
        let anew = said.iter().filter(|(_, what)| *what == SilentAction::RestoredAnew);
        let anew: Vec<u64> = anew.map(|(second, _)| *second).collect();
        assert_eq!(anew, [120, 360, 840]);
        assert_eq!(said[0], (30, SilentAction::StillRestoring));
        assert_eq!(engine.epoch(PARTITION), Some(Epoch(4)));
    }

    #[test]
    fn beginning_anew_ends_the_old_task_before_the_new_one_starts() {
        let (mut engine, limits) = assigned();
        let actions = tick(&mut engine, limits.restart_after.as_secs());
        let closing = Closing::Reset;
        let close = Action::Close { partition: PARTITION, epoch: EPOCH, closing };
        let restore =
            Action::Restore { partition: PARTITION, epoch: Epoch(2), from: RestoreFrom::Committed };
        assert!(actions.windows(2).any(|two| two == [close.clone(), restore.clone()]));
        // INV-7: what the old task still says counts for nothing.
        let (partition, position) = (PARTITION, Offset(9));
        let late = Event::Restored { partition, epoch: EPOCH, position, committed: None };
        assert_eq!(tell(&mut engine, 121, late), []);
    }

    #[test]
    fn a_restore_that_makes_progress_is_left_alone() {
        let (mut engine, _) = assigned();
        for second in 0..2_000 {
            if second % 60 == 0 {
                let (partition, epoch) = (PARTITION, EPOCH);
                tell(&mut engine, second, Event::Preparing { partition, epoch, waits: false });
            }
            tick(&mut engine, second);
        }
        assert_eq!(engine.epoch(PARTITION), Some(EPOCH));
    }

    #[test]
    fn user_code_that_a_start_waits_for_is_named_but_not_hurried() {
        let (mut engine, _) = assigned();
        let (partition, epoch) = (PARTITION, EPOCH);
        tell(&mut engine, 0, Event::Preparing { partition, epoch, waits: true });
        let said = barks(&mut engine, 0..1_000);
        assert!(said.len() > 30);
        assert!(said.iter().all(|(_, what)| *what == SilentAction::StillRestoring), "{said:?}");
    }

    #[test]
    fn a_silent_partition_with_lag_is_fetched_anew_and_then_gets_a_new_client() {
        let mut engine = running();
        tell(&mut engine, 0, Event::End { partition: PARTITION, end: Offset(10) });
        let expected = [(30, SilentAction::FetchedAnew), (60, SilentAction::FetcherRenewed)];
        assert_eq!(barks(&mut engine, 0..500), expected, "each end is worth each help once");
        let again = tell(&mut engine, 500, Event::FetcherReplaced);
        assert_eq!(again, [Action::StartFetch { partition: PARTITION, from: Offset(3) }]);
        tell(&mut engine, 500, Event::End { partition: PARTITION, end: Offset(11) });
        assert_eq!(barks(&mut engine, 500..900), [(530, SilentAction::FetcherRenewed)]);
    }

    #[test]
    fn one_silent_partition_does_not_take_the_client_from_the_others_again_and_again() {
        let mut engine = running();
        let mut renewed = Vec::new();
        for second in 0..7_200 {
            let end = Offset(10 + i64::try_from(second).unwrap());
            tell(&mut engine, second, Event::End { partition: PARTITION, end });
            if tick(&mut engine, second).contains(&Action::RenewFetcher) {
                tell(&mut engine, second, Event::FetcherReplaced);
                renewed.push(second);
            }
        }
        assert!((8..=11).contains(&renewed.len()), "{renewed:?}");
        assert!(renewed.windows(2).all(|two| two[1] - two[0] >= 60), "{renewed:?}");
    }

    #[test]
    fn a_record_ends_the_silence() {
        let mut engine = running();
        tell(&mut engine, 0, Event::End { partition: PARTITION, end: Offset(10) });
        assert_eq!(barks(&mut engine, 0..40), [(30, SilentAction::FetchedAnew)]);
        let run = RunInfo { first: Offset(3), last: Offset(3), records: 1, bytes: 1 };
        tell(&mut engine, 40, Event::Fetched { partition: PARTITION, run });
        tell(&mut engine, 40, Event::End { partition: PARTITION, end: Offset(12) });
        assert_eq!(barks(&mut engine, 40..80), [(70, SilentAction::FetchedAnew)]);
    }

    #[test]
    fn without_its_client_the_group_is_waited_for_and_nothing_is_committed() {
        let mut engine = running();
        let (partition, epoch) = (PARTITION, EPOCH);
        tell(&mut engine, 1, Event::Sealed { partition, epoch, standing: Standing::at(Offset(5)) });
        let sent = tick(&mut engine, 1);
        let commit = sent.iter().find_map(|action| match action {
            Action::Commit { id, .. } => Some(*id),
            _ => None,
        });
        let gone = tell(&mut engine, 2, Event::MemberGone);
        let close = Action::Close { partition, epoch, closing: Closing::Lost };
        assert_eq!(gone, [Action::StopFetch { partition }, close]);
        let statuses = vec![(partition, crate::CommitStatus::Accepted)];
        let late = Event::CommitAnswered { id: commit.unwrap(), statuses };
        assert_eq!(tell(&mut engine, 3, late), []);
        assert_eq!(barks(&mut engine, 3..500), []);
        let given = tell(&mut engine, 500, Event::Assigned { partitions: vec![partition] });
        let restore = Action::Restore { partition, epoch: Epoch(2), from: RestoreFrom::Committed };
        assert_eq!(given, [Action::Acknowledge, restore]);
    }
}
