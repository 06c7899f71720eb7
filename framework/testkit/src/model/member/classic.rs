//! What does a classic member say to its coordinator, and what does it make of the answers?

use std::sync::Arc;

use super::{BACKOFF, Failure, LONG_BACKOFF, Leaving, MemberClient, Phase};
use crate::model::wire::{Code, GroupAnswer, GroupRequest, Wire};

impl MemberClient {
    pub(super) fn turn_classic(&mut self, wire: &mut Wire<'_>) {
        match self.phase {
            Phase::Out(Some(at)) if at <= wire.now => self.try_join(wire),
            Phase::In if self.leaving == Leaving::No => {
                self.check_session(wire);
                self.check_topics(wire);
                self.beat_classic(wire);
            }
            Phase::Out(_) | Phase::Joining(_) | Phase::Syncing(_) | Phase::In => {}
        }
    }

    pub(super) fn try_join(&mut self, wire: &mut Wire<'_>) {
        if self.config.is_broker_assigned() {
            self.beat_broker_assigned(wire);
            return;
        }
        let Some(to) = self.coordinator(wire) else {
            self.join_at(wire.now + BACKOFF);
            return;
        };
        self.asked_to_join = wire.now;
        self.seen_topics = self.counts(wire);
        self.metadata_due = wire.now + self.config.metadata_interval;
        let request = GroupRequest::Join {
            member: self.member.clone(),
            instance: self.config.instance.clone(),
            assignor: self.config.assignor,
            topics: self.config.topics.clone(),
            owned: if self.config.is_incremental() {
                self.owned.iter().cloned().collect()
            } else {
                Vec::new()
            },
            session_timeout: self.config.session_timeout,
            rebalance_timeout: self.config.rebalance_timeout,
        };
        self.heartbeat.call = None;
        let timeout = self.config.rebalance_timeout + self.config.session_timeout;
        self.phase = Phase::Joining(self.ask(to, request, timeout, wire));
    }

    pub(super) fn joined(&mut self, answer: Result<GroupAnswer, Failure>, wire: &mut Wire<'_>) {
        match answer {
            Ok(GroupAnswer::Named(id)) => {
                self.member = Some(id);
                if self.owned.is_empty() {
                    self.join_at(wire.now);
                    self.try_join(wire);
                } else {
                    // It was another member who had this.
                    self.lose_everything(wire);
                }
            }
            Ok(GroupAnswer::Joined(Ok(joined))) => {
                self.member = Some(joined.member);
                self.generation = joined.generation;
                self.is_leader = joined.is_leader;
                self.heartbeat.heard = wire.now;
                self.sync(wire);
            }
            Ok(GroupAnswer::Joined(Err(code))) | Err(Failure::Code(code)) => {
                self.failed_to_join(code, wire);
            }
            Ok(_) | Err(Failure::Call(_)) => {
                self.asks_again = wire.now + BACKOFF;
                self.join_at(wire.now + LONG_BACKOFF);
            }
        }
    }

    fn failed_to_join(&mut self, code: Code, wire: &mut Wire<'_>) {
        let syncs = matches!(self.phase, Phase::Syncing(_));
        self.join_at(wire.now + LONG_BACKOFF);
        if self.handle_general(code, wire) {
            return;
        }
        match code {
            Code::UnknownMemberId | Code::IllegalGeneration => {
                self.generation = -1;
                if code == Code::UnknownMemberId {
                    self.member = None;
                }
                let keeps =
                    !syncs && code == Code::UnknownMemberId && self.config.instance.is_some();
                if !(keeps && self.config.faults.keeps_what_is_void) {
                    // What a cooperative member has kept belongs to others by now.
                    self.lose_everything(wire);
                }
            }
            Code::RebalanceInProgress => self.join_soon(wire),
            code => {
                self.trouble(format!("joining the group: {code:?}"), wire);
            }
        }
    }

    fn sync(&mut self, wire: &mut Wire<'_>) {
        let (Some(to), Some(member)) = (self.coordinator(wire), self.member.clone()) else {
            self.join_at(wire.now + BACKOFF);
            return;
        };
        let instance = self.config.instance.clone();
        let request = GroupRequest::Sync { member, instance, generation: self.generation };
        let call = self.ask(to, request, self.config.session_timeout, wire);
        self.phase = Phase::Syncing(call);
    }

    pub(super) fn synced(&mut self, answer: Result<GroupAnswer, Failure>, wire: &mut Wire<'_>) {
        match answer {
            Ok(GroupAnswer::Synced(Ok(assignment))) => {
                self.phase = Phase::In;
                self.heartbeat.heard = wire.now;
                self.heartbeat.due = wire.now + self.heartbeat.interval;
                if self.config.is_incremental() {
                    self.move_to(&assignment.into_iter().collect(), true, wire);
                } else {
                    self.tell_assigned(assignment, wire);
                }
            }
            Ok(GroupAnswer::Synced(Err(code))) | Err(Failure::Code(code)) => {
                self.failed_to_join(code, wire);
            }
            Ok(_) | Err(Failure::Call(_)) => {
                self.asks_again = wire.now + BACKOFF;
                self.join_at(wire.now + LONG_BACKOFF);
            }
        }
    }

    fn beat_classic(&mut self, wire: &mut Wire<'_>) {
        let is_due = self.phase == Phase::In
            && self.heartbeat.call.is_none()
            && self.heartbeat.due <= wire.now;
        if !is_due {
            return;
        }
        let Some(to) = self.coordinator(wire) else {
            self.heartbeat.due = wire.now + BACKOFF;
            return;
        };
        let request = GroupRequest::Heartbeat {
            member: self.member.clone().unwrap_or_else(|| "".into()),
            instance: self.config.instance.clone(),
            generation: self.generation,
        };
        self.heartbeat.due = wire.now + self.heartbeat.interval;
        let call = self.ask(to, request, self.config.session_timeout, wire);
        self.heartbeat.call = Some(call);
    }

    pub(super) fn heard(&mut self, answer: &Result<GroupAnswer, Failure>, wire: &mut Wire<'_>) {
        if self.phase != Phase::In || self.leaving != Leaving::No {
            return;
        }
        let code = match answer {
            Ok(GroupAnswer::Beaten(Ok(()))) => {
                self.heartbeat.heard = wire.now;
                return;
            }
            Ok(GroupAnswer::Beaten(Err(code))) | Err(Failure::Code(code)) => *code,
            Ok(_) | Err(Failure::Call(_)) => {
                self.asks_again = wire.now + BACKOFF;
                self.heartbeat.due = wire.now + BACKOFF;
                return;
            }
        };
        if self.handle_general(code, wire) {
            self.heartbeat.due = wire.now + BACKOFF;
            return;
        }
        match code {
            Code::RebalanceInProgress => {
                self.heartbeat.heard = wire.now;
                self.join_next_round(wire);
            }
            Code::UnknownMemberId | Code::IllegalGeneration => self.cast_out(code, wire),
            code => self.trouble(format!("a heartbeat: {code:?}"), wire),
        }
    }

    /// A heartbeat or a commit has told that it is no member, or one of a former round.
    pub(super) fn cast_out(&mut self, code: Code, wire: &mut Wire<'_>) {
        self.generation = -1;
        if code == Code::UnknownMemberId {
            self.member = None;
        }
        self.lose_everything(wire);
    }

    /// Looked at only while nothing is under way, as librdkafka does.
    fn check_session(&mut self, wire: &mut Wire<'_>) {
        let ends = self.heartbeat.heard + self.config.session_timeout;
        if self.rebalance.is_none() && ends <= wire.now {
            self.trouble("the session has ended without an answer".to_owned(), wire);
            self.forget_membership();
            self.lose_everything(wire);
        }
    }

    fn check_topics(&mut self, wire: &mut Wire<'_>) {
        if self.phase != Phase::In || !self.rebalance.is_none() || wire.now < self.metadata_due {
            return;
        }
        self.metadata_due = wire.now + self.config.metadata_interval;
        let seen = self.counts(wire);
        if seen == self.seen_topics {
            return;
        }
        let before = std::mem::replace(&mut self.seen_topics, seen);
        let topics = self.config.topics.iter().zip(before.iter().zip(&self.seen_topics));
        let gone: Vec<Arc<str>> = topics
            .filter(|(_, (before, now))| before.is_some() && now.is_none())
            .map(|(topic, _)| Arc::clone(topic))
            .collect();
        for topic in &gone {
            let what = format!("subscribed topic not available: {topic}: unknown topic");
            self.trouble(what, wire);
        }
        if self.config.is_incremental() && !gone.is_empty() {
            self.lose_topics(&gone, wire);
        } else {
            self.join_next_round(wire);
        }
    }

    fn counts(&self, wire: &Wire<'_>) -> Vec<Option<i32>> {
        self.config.topics.iter().map(|topic| wire.directory.partitions(topic)).collect()
    }

    pub(super) fn send_leave(&self, wire: &mut Wire<'_>) {
        let (Some(to), Some(member)) = (self.coordinator(wire), self.member.as_ref()) else {
            return;
        };
        let member = Arc::clone(member);
        let instance = self.config.instance.clone();
        let request = GroupRequest::Leave { member, instance };
        self.ask(to, request, self.config.session_timeout, wire);
    }
}
