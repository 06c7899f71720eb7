//! Which partitions fetch, and from where? Runs come in, fetches stop and start.
//!
//! A partition that has records, or fetches what is known to be there, has its whole room reserved
//! in the budget. One that has reached the end of its log only *watches*: it fetches without a
//! place, and what comes is refused if there is none. Who waits for a place starts in the order in
//! which they were stopped; who has a place and hears nothing gives it up, after a while, to those
//! who wait. So nobody starves, and nobody keeps what others need.
//!
//! Upholds INV-4: what is held stays below the budget.

use std::time::Duration;

use super::{Engine, HeldEffects};
use crate::action::Action;
use crate::assignment::{Active, Assignment, Fetching, Helped, Phase};
use crate::budget::{Room, Volume};
use crate::event::RunInfo;
use crate::ids::{Epoch, Offset, PartitionId};
use crate::planted::Bug;
use crate::time::Time;

/// A fetch that brings nothing for so long gives its place to one that waits.
const TURN: Duration = Duration::from_millis(500);

impl Engine {
    pub(super) fn fetched(
        &mut self,
        now: Time,
        partition: PartitionId,
        run: RunInfo,
        out: &mut Vec<Action>,
    ) {
        self.sizes.saw_run(run.bytes, now);
        let room = self.room();
        let reserved = self.reserved(room);
        let stopped = self.stops + 1;
        let bug = self.limits.bug;
        let boundless = Bug::IgnoreBudget.is(bug);
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
        // It came out of the client together with the run that stopped its fetch. From the first
        // refused on, all are refused: the next fetch begins with it.
        let with_it = active.held().saturating_add(run.bytes).saturating_add(room.effects);
        let fits = with_it <= room.bytes;
        if active.fetch.is_none() && (active.refusing || !fits) {
            active.refusing = true;
            return;
        }
        let no_place = reserved > 0 && reserved.saturating_add(room.bytes) > room.budget;
        if active.watches() && no_place && !boundless {
            active.refusing = true;
            active.end = active.end.max(Some(run.last.next()));
            active.fetch = None; // it keeps its place in the order
            out.push(Action::StopFetch { partition });
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
        active.buffered.add(Volume { records: run.records, bytes: run.bytes });
        if Bug::BudgetCountsTwice.is(bug) {
            active.buffered.add(Volume { records: run.records, bytes: run.bytes });
        }
        active.expected = expected.max(run.last.next());
        active.end = active.end.max(Some(active.expected));
        let full = room.is_full(active.buffered, active.effects.bytes()) && !boundless;
        if full && active.fetch.take().is_some() {
            active.stopped = stopped;
            self.stops = stopped;
            out.push(Action::StopFetch { partition });
        }
    }

    /// Stops what fills its room, and as much more as the budget has no place for; starts what has
    /// room again, as far as there is a place.
    pub(super) fn regulate_fetches(&mut self, now: Time, out: &mut Vec<Action>) {
        let room = self.room();
        let mut waiting = Vec::new();
        let mut fetching = Vec::new();
        let bug = self.limits.bug;
        let boundless = Bug::IgnoreBudget.is(bug);
        for (partition, assignment) in &mut self.assignments {
            if let Phase::Running(active) = &mut assignment.phase {
                // Out of range: there is nothing to fetch.
                if active.out_of_range || self.paused.contains(partition) {
                    continue;
                }
                let effects = active.effects.bytes();
                if active.fetch.is_some() && room.is_full(active.buffered, effects) && !boundless {
                    self.stops += 1;
                    active.stop_fetch(self.stops);
                    out.push(Action::StopFetch { partition: *partition });
                } else if active.fetch.is_some() {
                    if !active.watches() {
                        fetching.push((active.stopped, *partition));
                    }
                } else if room.is_free(active.buffered, effects) {
                    waiting.push((active.stopped, *partition));
                }
            }
        }
        let mut reserved = self.reserved(room);
        // Those that waited least are the first to lose their place, and the first to get it back.
        fetching.sort_unstable();
        while reserved > room.budget && !boundless {
            let Some((stopped, partition)) = fetching.pop() else { break };
            let alone = fetching.is_empty() && reserved <= room.bytes;
            if alone {
                break;
            }
            reserved = reserved.saturating_sub(self.stop(partition, stopped, room, out));
        }
        waiting.sort_unstable();
        self.waits = false;
        for (_, partition) in waiting {
            if Bug::NeverResume.is(self.limits.bug) {
                break;
            }
            // Nobody overtakes, but those who only watch.
            let watches = self.running(partition).is_some_and(|active| active.is_at_the_end());
            let may = watches
                || (!self.waits && self.find_place(now, partition, room, &mut reserved, out));
            if !may && !boundless {
                self.waits = true;
                continue;
            }
            if let Some(active) = self.running(partition) {
                let too_far = i64::from(Bug::ResumeOneTooFar.is(bug));
                let from = Offset(active.expected.0.saturating_add(too_far));
                reserved = reserved.saturating_sub(active.reserved(room));
                active.start_fetch(from, now);
                reserved = reserved.saturating_add(active.reserved(room));
                out.push(Action::StartFetch { partition, from });
            }
        }
    }

    /// Is there a place for one run more of this partition? Fetches that hear nothing make place.
    fn find_place(
        &mut self,
        now: Time,
        partition: PartitionId,
        room: Room,
        reserved: &mut u64,
        out: &mut Vec<Action>,
    ) -> bool {
        let own = self.running(partition).map_or(0, |active| active.reserved(room));
        let wanted = room.bytes.saturating_sub(own);
        while wanted > 0 && *reserved > 0 && reserved.saturating_add(wanted) > room.budget {
            let idle = self.assignments.iter().find(|(_, assignment)| match &assignment.phase {
                Phase::Running(active) => active.is_idle_since(now, TURN),
                _ => false,
            });
            let Some(idle) = idle.map(|(partition, _)| *partition) else {
                return false;
            };
            self.stops += 1;
            *reserved = reserved.saturating_sub(self.stop(idle, self.stops, room, out));
        }
        true
    }

    /// Stops a fetch; returns how much less is reserved for it.
    fn stop(
        &mut self,
        partition: PartitionId,
        stopped: u64,
        room: Room,
        out: &mut Vec<Action>,
    ) -> u64 {
        let Some(active) = self.running(partition) else {
            return 0;
        };
        let before = active.reserved(room);
        active.stop_fetch(stopped);
        let after = active.reserved(room);
        out.push(Action::StopFetch { partition });
        before.saturating_sub(after)
    }

    fn running(&mut self, partition: PartitionId) -> Option<&mut Active> {
        match &mut self.assignments.get_mut(&partition)?.phase {
            Phase::Running(active) => Some(active),
            _ => None,
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
            self.sizes.done(freed.records);
        }
    }

    pub(super) fn holds(
        &mut self,
        now: Time,
        partition: PartitionId,
        epoch: Epoch,
        effects: HeldEffects,
    ) {
        if let Some(active) = self.active(partition, epoch) {
            active.effects = effects;
            self.sizes.saw_effects(effects.largest, now);
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
                let from = active.expected;
                active.start_fetch(from, now);
                out.push(Action::StartFetch { partition: *partition, from });
            }
        }
    }

    /// What is held, and what may come to be held before anything can be stopped.
    fn reserved(&self, room: Room) -> u64 {
        let active = self.assignments.values().filter_map(Assignment::active);
        active.map(|active| active.reserved(room)).fold(0, u64::saturating_add)
    }

    /// When somebody's place falls to another, if one waits for it.
    pub(super) fn next_turn(&self) -> Option<Time> {
        let running = |assignment: &Assignment| match &assignment.phase {
            Phase::Running(active) if active.is_empty_handed() => Some(active.heard + TURN),
            _ => None,
        };
        self.assignments.values().filter_map(running).min().filter(|_| self.waits)
    }

    /// What each running partition may hold.
    pub(super) fn room(&self) -> Room {
        let running = self.assignments.values().filter(|a| a.active().is_some()).count();
        let budget =
            Volume { records: self.limits.budget_records, bytes: self.limits.budget_bytes };
        let effects = self.sizes.effects(self.limits.effects);
        Room::new(budget, running, self.sizes.run(), effects)
    }
}

impl Active {
    /// What it holds, in bytes.
    pub(crate) fn held(&self) -> u64 {
        self.buffered.bytes.saturating_add(self.effects.bytes())
    }

    /// Is nothing known to be there that it does not have?
    fn is_at_the_end(&self) -> bool {
        self.held() == 0 && self.end.is_some_and(|end| self.expected >= end)
    }

    /// Does it fetch only in case that something comes?
    fn watches(&self) -> bool {
        self.fetch.is_some() && self.is_at_the_end()
    }

    /// What it holds; if it fetches what is there or has records, what it may hold. A paused one
    /// comes to hold nothing more, and must not keep others from going on.
    fn reserved(&self, room: Room) -> u64 {
        let works = !self.buffered.is_empty() || (self.fetch.is_some() && !self.watches());
        let grows = works && !self.paused;
        if grows { self.held().max(room.bytes) } else { self.held() }
    }

    /// Does it fetch what is there, and has nothing yet?
    fn is_empty_handed(&self) -> bool {
        self.fetch.is_some() && self.held() == 0 && !self.watches()
    }

    fn is_idle_since(&self, now: Time, turn: Duration) -> bool {
        self.is_empty_handed() && now.since(self.heard) >= turn
    }

    fn stop_fetch(&mut self, stopped: u64) {
        self.fetch = None;
        self.stopped = stopped;
    }

    pub(super) fn start_fetch(&mut self, from: Offset, now: Time) {
        self.fetch = Some(Fetching::from(from));
        self.refusing = false;
        self.heard = now;
    }
}
