//! How do effects reach Kafka, and how far may the partition commit? Seals, sends, reports, proofs.
//!
//! Upholds INV-12 (effects before offsets) and INV-13 (nothing is sent without ownership).

use std::sync::Arc;
use std::sync::atomic::Ordering;

use pelton_engine::{Bug, Event, Standing, Time};

use super::{Desk, PROGRESS_INTERVAL, RESEND, SEND_RETRY, State};
use crate::ports::SendError;
use crate::runtime::shared::TaskEvent;
use crate::state::changelog_records;

impl Desk {
    /// Closes the outbox: the changelog gets each key once, and once everything up to here is
    /// durable the poll loop hears how far the partition may commit.
    pub(crate) fn seal(&mut self) {
        let number = self.outbox.seals() + 1;
        let (partition, bug) = (self.place.partition.partition(), self.shared.plan.bug);
        let holds = self.holds.clone();
        let standing = Standing { holds, ..self.schedule.seal(self.now()) };
        if Bug::ChangelogBehindCommit.is(bug) {
            self.outbox.seal(standing.clone());
        }
        let mut stores = self.place.stores.lock();
        for (declared, bound) in self.place.declared.iter().zip(&self.place.bound) {
            let Some(layers) = bound.and_then(|at| stores.get_mut(at)) else {
                continue;
            };
            let mut writes = layers.seal(number);
            if Bug::OlderValueLast.is(bug) {
                writes.extend(layers.oldest_sealed());
            }
            if let Some(changelog) = &declared.changelog {
                self.outbox.push(changelog_records(changelog, partition, writes));
            }
        }
        drop(stores);
        if !Bug::ChangelogBehindCommit.is(bug) {
            self.outbox.seal(standing.clone());
        }
        // Before the answer: who hears it must not ask again for what is sealed.
        self.tell_effects_at_once(self.now());
        self.sealed.push_back((number, standing.clone()));
        self.progress.dirty = false;
        self.unsealed = false;
        let names_too_much = Bug::DoneSetBeforeDelivery.is(bug) && !standing.done.is_empty();
        if Bug::CommitBeforeDelivery.is(bug) || names_too_much {
            self.tell(Event::Sealed { partition: self.id, epoch: self.epoch, standing });
        }
    }

    /// Sends what may be sent and says what has become durable.
    pub(crate) fn pump(&mut self, now: Time) {
        if self.is_quiet(now) {
            return;
        }
        self.send_again_at = None;
        self.ask_for_proof(now);
        if self.progress.dirty && now.since(self.progress_told) >= PROGRESS_INTERVAL {
            self.tell_progress(now);
        }
        let too_late = match self.state {
            State::Draining { send_until: Some(until), .. } => now >= until,
            _ => false,
        };
        while let Some((ticket, record)) = self.outbox.next_to_send().filter(|_| !too_late) {
            let ours = self.lease.alive.load(Ordering::Acquire);
            let open = self.shared.gate.is_open(self.shared.host.now(), self.proof.proved)
                || Bug::SendWhenThawed.is(self.shared.plan.bug);
            if !ours || !open {
                self.send_again_at = Some(now + SEND_RETRY);
                break;
            }
            match self.shared.producer.send(record, ticket, &self.reports) {
                Ok(()) if Bug::SentTwice.is(self.shared.plan.bug) => {
                    let _again = self.shared.producer.send(record, ticket, &self.reports);
                    self.outbox.sent();
                }
                Ok(()) => self.outbox.sent(),
                Err(SendError::Full) => {
                    self.send_again_at = Some(now + SEND_RETRY);
                    break;
                }
                Err(SendError::Broken { client, reason }) => {
                    self.events.send(TaskEvent::ProducerBroke { client, reason });
                    self.observe_undelivered();
                    self.outbox.refused();
                    self.block(now);
                    break;
                }
                Err(SendError::Refused(error)) => {
                    // What Kafka refuses for good is said once, by the poll loop.
                    if !self.shared.refusals.stand() {
                        tracing::warn!(partition = %self.place.partition, topic = %record.topic, %error, "an output was refused; it will be tried again");
                    }
                    self.observe_undelivered();
                    self.outbox.refused();
                    self.block(now);
                    break;
                }
            }
        }
        self.say_durable(now);
    }

    /// Is there nothing to send, to report or to prove? So it is for most records of an input without
    /// outputs and stores, and this is all that they pay for them.
    fn is_quiet(&self, now: Time) -> bool {
        let is_due = |at: Time| now >= at;
        self.outbox.is_empty()
            && !self.shows_blocked
            && self.shared.gate.thaws() == self.proof.proved
            && !(self.progress.dirty && is_due(self.progress_told + PROGRESS_INTERVAL))
            && !self.effects_wake().is_some_and(is_due)
    }

    fn say_durable(&mut self, now: Time) {
        if let Some(seal) = self.outbox.take_durable() {
            let (partition, epoch) = (self.id, self.epoch);
            self.tell(Event::Sealed { partition, epoch, standing: seal.standing });
        }
        let is_blocked = self.outbox.is_held_back();
        if std::mem::replace(&mut self.shows_blocked, is_blocked) != is_blocked {
            self.metrics.output_blocked.set(f64::from(u8::from(is_blocked)));
        }
        self.tell_effects(now);
    }

    /// After a thaw, before a resend, and to send after a long silence of the group, it must confirm
    /// that the partition is ours.
    pub(super) fn ask_for_proof(&mut self, now: Time) {
        let thaws = self.shared.gate.thaws();
        if self.proof.asked.is_some_and(|asked| asked != thaws) {
            self.proof.asked = None; // another thaw: the proof under way is worth nothing
        }
        let thawed = thaws != self.proof.proved;
        let resend = self.outbox.is_blocked() && now >= self.proof.not_before;
        let unheard = !self.shared.gate.has_consent(now) && self.outbox.next_to_send().is_some();
        if self.proof.asked.is_none() && (thawed || resend || unheard) {
            self.proof.asked = Some(thaws);
            self.tell(Event::ProofWanted { partition: self.id, epoch: self.epoch });
        }
    }

    pub(super) fn committed(&mut self, committed: &Standing, proof: bool) {
        self.schedule.committed(committed);
        self.committed_done.clone_from(&committed.done);
        while self
            .sealed
            .front()
            .is_some_and(|(_, sealed)| !sealed.done.is_ahead_of(&committed.done))
        {
            let Some((number, _)) = self.sealed.pop_front() else {
                break;
            };
            for layers in self.place.stores.lock().iter_mut() {
                layers.committed(number);
            }
        }
        if proof && let Some(asked) = self.proof.asked.take() {
            self.proof.proved = asked;
            if self.outbox.is_blocked() && asked == self.shared.gate.thaws() {
                self.outbox.unblock();
            }
        }
    }

    pub(super) fn delivered(&mut self, ticket: u64, error: Option<&str>, now: Time) {
        let topic = self.outbox.topic(ticket);
        if let Some((_, metrics)) =
            topic.and_then(|topic| self.outputs.iter().find(|(name, _)| Arc::ptr_eq(name, topic)))
        {
            if error.is_none() { &metrics.delivered } else { &metrics.failures }.increment(1);
        }
        if error.is_some() && self.outbox.is_flowing() {
            self.observe_undelivered();
        }
        let is_said = self.shared.refusals.stand();
        if let Some(error) = error.filter(|_| self.outbox.is_flowing() && !is_said) {
            // The first of many: what was sent behind it is likely to fail with it.
            let topic = topic.map_or("", |topic| &**topic);
            tracing::warn!(partition = %self.place.partition, topic, error, "an output was not delivered; it and what was sent after it will be sent again");
        }
        if self.outbox.reported(ticket, error.is_none()) {
            self.block(now);
        } else if !self.outbox.is_held_back() {
            self.resends = 0; // what is delivered behind a record that fails on shortens no wait
        }
    }

    pub(super) fn block(&mut self, now: Time) {
        self.resends = self.resends.saturating_add(1);
        self.proof.not_before = now + RESEND.backoff(self.resends, self.epoch.0);
    }
}
