//! What does a KIP-848 member say in its heartbeats, and what does it make of the answers?

use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::MemberEvent;

use super::{BACKOFF, Failure, LONG_BACKOFF, Leaving, MemberClient, Phase};
use crate::model::wire::{Code, GroupAnswer, GroupRequest, MemberId, Wire};

impl MemberClient {
    pub(super) fn turn_broker_assigned(&mut self, wire: &mut Wire<'_>) {
        match self.phase {
            Phase::Out(Some(at)) if at <= wire.now => self.beat_broker_assigned(wire),
            Phase::In if self.leaving == Leaving::No => {
                self.look_at_target(wire);
                if self.heartbeat.call.is_none() && self.heartbeat.due <= wire.now {
                    self.beat_broker_assigned(wire);
                }
            }
            Phase::Out(_) | Phase::Joining(_) | Phase::Syncing(_) | Phase::In => {}
        }
    }

    /// Joins, or stays. It tells what it has after each change, and everything after a failure.
    pub(super) fn beat_broker_assigned(&mut self, wire: &mut Wire<'_>) {
        let joins = self.phase != Phase::In;
        let Some(to) = self.coordinator(wire) else {
            if joins {
                self.join_at(wire.now + BACKOFF);
            } else {
                self.heartbeat.due = wire.now + BACKOFF;
            }
            return;
        };
        if joins {
            self.generation = 0;
            self.heartbeat.call = None;
        }
        let all = joins || std::mem::take(&mut self.tells_all);
        let owned = all || std::mem::take(&mut self.tells_owned);
        let request = GroupRequest::ConsumerHeartbeat {
            member: self.name(),
            instance: self.config.instance.clone(),
            epoch: self.generation,
            topics: all.then(|| self.config.topics.clone()),
            owned: owned.then(|| self.told_to_broker()),
            rebalance_timeout: self.config.rebalance_timeout,
        };
        let call = self.ask(to, request, self.config.session_timeout, wire);
        if joins {
            self.phase = Phase::Joining(call);
        } else {
            self.heartbeat.call = Some(call);
            self.heartbeat.due = wire.now + self.heartbeat.interval;
        }
    }

    pub(super) fn beaten(&mut self, answer: Result<GroupAnswer, Failure>, wire: &mut Wire<'_>) {
        if self.leaving != Leaving::No {
            return;
        }
        let joins = self.phase != Phase::In;
        let code = match answer {
            Ok(GroupAnswer::ConsumerBeaten(Ok(beaten))) => {
                let is_told = self.rebalance.is_none() && !self.tells_owned;
                if is_told && self.confirmed != self.owned {
                    self.confirmed.clone_from(&self.owned);
                }
                self.phase = Phase::In;
                self.generation = beaten.epoch;
                self.heartbeat.heard = wire.now;
                self.heartbeat.interval = beaten.interval;
                self.heartbeat.due =
                    wire.now + if self.tells_owned { Duration::ZERO } else { beaten.interval };
                if let Some(assignment) = beaten.assignment {
                    self.target = Some(assignment.into_iter().collect());
                }
                self.turn_broker_assigned(wire);
                return;
            }
            Ok(GroupAnswer::ConsumerBeaten(Err(code))) | Err(Failure::Code(code)) => Some(code),
            Ok(_) | Err(Failure::Call(_)) => None,
        };
        self.tells_all = true;
        let again = wire.now + BACKOFF;
        self.heartbeat.due = again;
        if joins {
            self.join_at(again);
        }
        match code {
            None => self.asks_again = again,
            Some(Code::UnknownMemberId | Code::FencedMemberEpoch) => self.fenced(wire),
            Some(Code::UnreleasedInstanceId) if self.config.again => {
                let text = "unreleased: the group has not let go of the client before this one";
                self.end_with(MemberEvent::Broken(text.to_owned()));
                wire.wake();
            }
            Some(Code::UnreleasedInstanceId) => {
                let text = "unreleased: another process has our group instance id";
                self.end_with(MemberEvent::InstanceFenced(text.to_owned()));
                wire.wake();
            }
            Some(Code::GroupAuthorizationFailed) => {
                self.end_with(MemberEvent::Broken("the group is refused".to_owned()));
                wire.wake();
            }
            Some(code) => {
                if !self.handle_general(code, wire) {
                    self.heartbeat.due = wire.now + LONG_BACKOFF;
                    if joins {
                        self.join_at(wire.now + LONG_BACKOFF);
                    }
                    self.trouble(format!("a heartbeat: {code:?}"), wire);
                }
            }
        }
    }

    /// Others have what it had. While an event is under way that is not told: it comes after it.
    fn fenced(&mut self, wire: &mut Wire<'_>) {
        self.forget_membership();
        self.lose_everything(wire);
    }

    fn look_at_target(&mut self, wire: &mut Wire<'_>) {
        if !self.rebalance.is_none() {
            return;
        }
        let Some(target) = self.target.take() else { return };
        if target == self.owned {
            // The broker may wait to hear it.
            if self.tells_owned {
                self.heartbeat.due = wire.now;
            }
        } else {
            self.move_to(&target, false, wire);
        }
    }

    pub(super) fn send_leaving_beat(&self, wire: &mut Wire<'_>) {
        let Some(to) = self.coordinator(wire) else { return };
        let request = GroupRequest::ConsumerHeartbeat {
            member: self.name(),
            instance: self.config.instance.clone(),
            epoch: if self.config.instance.is_some() { -2 } else { -1 },
            topics: None,
            owned: None,
            rebalance_timeout: self.config.rebalance_timeout,
        };
        self.ask(to, request, self.config.session_timeout, wire);
    }

    fn told_to_broker(&self) -> Vec<TopicPartition> {
        if self.config.faults.tells_only_confirmed && !self.rebalance.is_none() {
            self.confirmed.iter().cloned().collect()
        } else {
            self.claimed()
        }
    }

    fn name(&self) -> MemberId {
        self.member.as_ref().map_or_else(|| format!("c{}", self.id.0).into(), Arc::clone)
    }
}
