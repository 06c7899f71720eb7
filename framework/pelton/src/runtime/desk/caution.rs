//! Who runs records that may kill the worker? One at a time, named in a commit before it starts.
//!
//! The rules are the schedule's; here they meet seals, commits, and the worker's other partitions.
//!
//! Upholds INV-18.

use pelton_engine::{Time, Turn};

use super::{Desk, State};
use crate::output::{Failure, FailureKind};
use crate::runtime::alone::Asked;

impl Desk {
    /// Has a commit made where the next record waits for one that says that it may be in hand.
    pub(super) fn announce(&mut self, now: Time) {
        let is_trial = self.schedule.is_trial(now);
        if !self.schedule.is_alone(now) {
            self.alone.leave();
        } else if !is_trial {
            self.alone.unbar();
        }
        if self.state != State::Running {
            return;
        }
        // Nothing starts, or nothing is next: who was named is in hand no more. That needs no turn.
        let rests = self.paused || self.contact.room(now) == 0;
        if (rests || self.schedule.wants_rest(now)) && self.schedule.announce_rest() {
            self.seal();
            self.pump(now);
            return;
        }
        if rests || !self.schedule.wants_commit(now) {
            return;
        }
        if self.schedule.is_alone(now) {
            match self.alone.ask(is_trial, now) {
                Asked::Wait => return,
                Asked::GiveUp if !is_trial || !self.alone.is_ours() => {
                    let partition = &self.place.partition;
                    tracing::warn!(%partition, "other partitions look for records that kill their process, and have for long: this one's run as usual");
                    self.alone.leave();
                    self.schedule.be_quick();
                }
                Asked::Ours | Asked::GiveUp => {}
            }
        }
        self.schedule.announce(now);
        self.seal();
        self.pump(now);
    }

    /// The record has killed as many as may die of it: it does not run again.
    pub(super) fn condemn(&mut self, turn: Turn, now: Time) {
        let deaths = self.schedule.deaths_of(turn.offset);
        let (partition, offset) = (&self.place.partition, turn.offset.0);
        tracing::error!(%partition, offset, deaths, "processes have died with this record in hand, one after the other: it is not handled again");
        let text = format!("{deaths} processes died with it in hand");
        self.observe_start(turn);
        let outcome = self.bury(turn, &Failure { kind: FailureKind::Crashed, text }, now);
        self.count(outcome);
    }

    /// Says that the last owner has died, if it has.
    pub(crate) fn say_careful(&self) {
        if self.schedule.is_careful() {
            let partition = &self.place.partition;
            tracing::warn!(%partition, "the last owner died with records in hand: they are handled one at a time, to see which one kills");
        }
    }
}
