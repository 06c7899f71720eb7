//! What does the client tell of a rebalance, and what comes after each acknowledgement?
//!
//! ```text
//!   Revoked -> (assignment after it) -> Assigned -> steady
//!      |                                    |
//!      +--> rejoin, or leave                +--> rejoin (cooperative: something was given back)
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::MemberEvent;
use pelton_engine::Time;

use super::{Ended, LONG_BACKOFF, Leaving, MemberClient, Phase};
use crate::model::wire::{Assignor, Wire};

/// The event under way, and what follows it.
#[derive(Debug, Default)]
pub(super) struct Rebalance {
    event: Option<Event>,
    /// Incremental: assigned when the revocation is acknowledged.
    after: Option<Vec<TopicPartition>>,
    /// Then the group is joined anew.
    rejoins: bool,
}

#[derive(Debug)]
struct Event {
    kind: Kind,
    partitions: Vec<TopicPartition>,
    /// Not told before.
    from: Time,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    No,
    /// The worker was woken.
    Announced,
    /// It waits for its acknowledgement.
    HandedOut,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Assign,
    Revoke,
    Lost,
}

impl Rebalance {
    /// Is nothing under way?
    pub(super) fn is_none(&self) -> bool {
        self.event.is_none()
    }

    /// Does the worker give something back?
    fn is_giving_back(&self) -> bool {
        let revoked = |event: &Event| event.kind == Kind::Revoke && event.told == Told::HandedOut;
        self.event.as_ref().is_some_and(revoked)
    }

    pub(super) fn hand_out(&mut self, now: Time) -> Option<MemberEvent> {
        let event = self.event.as_mut()?;
        if event.told == Told::HandedOut || event.from > now {
            return None;
        }
        event.told = Told::HandedOut;
        let partitions = event.partitions.clone();
        Some(match event.kind {
            Kind::Assign => MemberEvent::Assigned(partitions),
            Kind::Revoke => MemberEvent::Revoked(partitions),
            Kind::Lost => MemberEvent::Lost(partitions),
        })
    }

    pub(super) fn announce(&mut self, wire: &mut Wire<'_>) {
        if let Some(event) = &mut self.event
            && event.told == Told::No
            && event.from <= wire.now
        {
            event.told = Told::Announced;
            wire.wake();
        }
    }

    pub(super) fn wake(&self) -> Option<Time> {
        self.event.as_ref().filter(|event| event.told == Told::No).map(|event| event.from)
    }
}

impl MemberClient {
    /// Has the worker heard of a revocation that it has not acknowledged yet?
    pub(crate) fn is_giving_back(&self) -> bool {
        self.ended == Ended::No && self.rebalance.is_giving_back()
    }

    fn tell(&mut self, kind: Kind, partitions: Vec<TopicPartition>, wire: &mut Wire<'_>) {
        let faults = &self.config.faults;
        let mut from = wire.now;
        if wire.random.one_in(faults.late_event) {
            from = from + wire.random.duration(Duration::ZERO, faults.event_delay);
        }
        if kind == Kind::Assign && wire.random.one_in(faults.stalled_assignment) {
            from = from + faults.stall;
        }
        self.rebalance.event = Some(Event { kind, partitions, from, told: Told::No });
        self.rebalance.announce(wire);
    }

    pub(super) fn tell_assigned(&mut self, partitions: Vec<TopicPartition>, wire: &mut Wire<'_>) {
        self.tell(Kind::Assign, partitions, wire);
    }

    /// What it has, or is about to have as soon as an assignment is acknowledged.
    pub(super) fn claimed(&self) -> Vec<TopicPartition> {
        let event = self.rebalance.event.as_ref().filter(|event| event.kind == Kind::Assign);
        let coming = event.into_iter().flat_map(|event| &event.partitions);
        let after = self.rebalance.after.iter().flatten();
        self.owned.iter().chain(coming).chain(after).cloned().collect()
    }

    /// From what it has to `target`: first back, then `Assigned`; it rejoins after a revocation if
    /// `rejoins`.
    pub(super) fn move_to(
        &mut self,
        target: &BTreeSet<TopicPartition>,
        rejoins: bool,
        wire: &mut Wire<'_>,
    ) {
        let excess: Vec<_> = self.owned.difference(target).cloned().collect();
        let added: Vec<_> = target.difference(&self.owned).cloned().collect();
        if excess.is_empty() {
            self.tell(Kind::Assign, added, wire);
        } else {
            self.rebalance.after = Some(added).filter(|added| rejoins || !added.is_empty());
            self.rebalance.rejoins = rejoins;
            self.tell(Kind::Revoke, excess, wire);
        }
    }

    /// The group begins a round: eager members give everything back first.
    pub(super) fn join_next_round(&mut self, wire: &mut Wire<'_>) {
        if !self.rebalance.is_none() {
            return;
        }
        if self.has_assignment && !self.config.is_incremental() {
            self.rebalance.rejoins = true;
            let everything = self.owned.iter().cloned().collect();
            self.tell(Kind::Revoke, everything, wire);
        } else {
            self.join_soon(wire);
        }
    }

    /// Whatever it had is not its own any more. Skipped while an event is under way, as
    /// librdkafka does: then it is found out after that.
    pub(super) fn lose_everything(&mut self, wire: &mut Wire<'_>) {
        if !self.rebalance.is_none() {
            return;
        }
        let has_something =
            if self.config.is_incremental() { !self.owned.is_empty() } else { self.has_assignment };
        if has_something {
            self.rebalance.rejoins = true;
            let everything = self.owned.iter().cloned().collect();
            self.phase = Phase::Out(None);
            self.tell(Kind::Lost, everything, wire);
        } else {
            self.join_soon(wire);
        }
    }

    /// Cooperative: topics are gone, and so is what it has of them. The leader tells the group.
    pub(super) fn lose_topics(&mut self, gone: &[Arc<str>], wire: &mut Wire<'_>) {
        let is_gone = |p: &&TopicPartition| gone.iter().any(|topic| **topic == *p.topic());
        let lost: Vec<_> = self.owned.iter().filter(is_gone).cloned().collect();
        if lost.is_empty() {
            self.join_next_round(wire);
        } else {
            self.rebalance.rejoins = self.is_leader;
            self.tell(Kind::Lost, lost, wire);
        }
    }

    pub(super) fn unsubscribe(&mut self, leaving: Leaving, wire: &mut Wire<'_>) {
        self.leaving = leaving;
        self.heartbeat.call = None;
        if self.phase != Phase::In {
            self.phase = Phase::Out(None);
        }
        if self.rebalance.is_none() {
            self.give_everything_back(wire);
        }
    }

    fn give_everything_back(&mut self, wire: &mut Wire<'_>) {
        self.rebalance.after = None;
        self.rebalance.rejoins = false;
        let has_something =
            if self.config.is_incremental() { !self.owned.is_empty() } else { self.has_assignment };
        if has_something {
            let everything = self.owned.iter().cloned().collect();
            self.tell(Kind::Revoke, everything, wire);
            return;
        }
        self.say_unsubscribed(wire);
        self.forget_membership();
        let anew = self.leaving == Leaving::ToJoinAnew;
        self.leaving = if anew { Leaving::No } else { Leaving::ForGood };
        self.phase = Phase::Out(None);
        if anew {
            self.join_now(wire);
        }
    }

    fn say_unsubscribed(&self, wire: &mut Wire<'_>) {
        if self.config.is_broker_assigned() {
            self.send_leaving_beat(wire);
        } else {
            // Also a static one: unsubscribing leaves (only closing does not).
            self.send_leave(wire);
        }
    }

    /// A classic cooperative member joins once a second at most, unless it has just acknowledged.
    pub(super) fn join_soon(&mut self, wire: &mut Wire<'_>) {
        let earliest = self.asked_to_join + LONG_BACKOFF;
        let waits = self.config.assignor == Assignor::CooperativeSticky && earliest > wire.now;
        if waits && !self.is_stuck {
            self.rebalance.rejoins = false;
            self.join_at(earliest);
        } else {
            self.join_now(wire);
        }
    }

    fn join_now(&mut self, wire: &mut Wire<'_>) {
        self.rebalance.rejoins = false;
        if self.is_stuck {
            // Until the worker looks again.
            self.phase = Phase::Out(None);
            return;
        }
        self.join_at(wire.now);
        self.try_join(wire);
    }

    pub(super) fn acknowledged(&mut self, wire: &mut Wire<'_>) {
        let Some(event) = self.rebalance.event.take_if(|event| event.told == Told::HandedOut)
        else {
            return;
        };
        match event.kind {
            Kind::Assign if self.config.is_incremental() => self.owned.extend(event.partitions),
            Kind::Assign => {
                self.owned = event.partitions.into_iter().collect();
                self.has_assignment = true;
            }
            Kind::Revoke | Kind::Lost if self.config.is_incremental() => {
                for partition in &event.partitions {
                    self.owned.remove(partition);
                }
            }
            Kind::Revoke | Kind::Lost => {
                self.owned.clear();
                self.has_assignment = false;
            }
        }
        self.tells_owned = true;
        if self.leaving != Leaving::No {
            self.give_everything_back(wire);
        } else if let Some(added) = self.rebalance.after.take() {
            self.tell(Kind::Assign, added, wire);
        } else if self.rebalance.rejoins {
            if self.is_forgotten() && !self.owned.is_empty() {
                self.lose_everything(wire);
            } else {
                self.join_now(wire);
            }
        } else if self.is_forgotten() {
            self.lose_everything(wire);
        } else if self.config.is_broker_assigned() {
            self.heartbeat.due = wire.now;
            self.turn_broker_assigned(wire);
        }
    }

    /// The group has let it know, while an event was under way, that it is no member any more.
    fn is_forgotten(&self) -> bool {
        self.generation <= 0
    }
}
