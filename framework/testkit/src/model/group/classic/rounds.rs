//! How does a round of a classic group go? Everybody joins, the leader syncs, all is written down.

use std::sync::Arc;
use std::time::Duration;

use pelton_engine::Time;

use super::{Classic, Member, State, Written};
use crate::model::group::assignors::{self, Candidate};
use crate::model::group::{GroupAnswers, Topics};
use crate::model::wire::{Assignor, Code, GroupAnswer, MemberId};

impl Classic {
    /// Begins a round: everybody is to join anew.
    pub(super) fn prepare(&mut self, now: Time, out: &mut GroupAnswers) {
        for member in self.members.values_mut() {
            if let Some(call) = member.syncing.take() {
                out.push((call, GroupAnswer::Synced(Err(Code::RebalanceInProgress))));
                member.expires = now + member.session_timeout;
            }
        }
        self.sync_by = None;
        let timeout = self.members.values().map(|member| member.rebalance_timeout).max();
        let deadline = now + timeout.unwrap_or_default();
        let first = self.state == State::Empty;
        let delay = if first { self.initial_delay } else { Duration::ZERO };
        self.state = State::Preparing { not_before: (now + delay).min(deadline), deadline };
        self.complete_if_all_joined(now, out);
    }

    pub(super) fn have_all_joined(&self) -> bool {
        self.named.is_empty() && self.members.values().all(|member| member.joining.is_some())
    }

    pub(super) fn complete_if_all_joined(&mut self, now: Time, out: &mut GroupAnswers) {
        if let State::Preparing { not_before, .. } = self.state
            && not_before <= now
            && self.have_all_joined()
        {
            self.complete_join(now, out);
        }
    }

    /// Whoever has joined is in the new generation. Static members stay in it even if they have
    /// not: only the end of its session takes one out.
    pub(super) fn complete_join(&mut self, now: Time, out: &mut GroupAnswers) {
        for id in self.named_where(|m| m.joining.is_none() && m.instance.is_none()) {
            self.forget(&id, out);
        }
        let joined = |member: &Member| member.joining.is_some();
        let timeout = self.members.values().map(|m| m.rebalance_timeout).max().unwrap_or_default();
        if !self.members.is_empty() && !self.members.values().any(joined) {
            self.state = State::Preparing { not_before: now, deadline: now + timeout };
            return;
        }
        self.generation += 1;
        if self.members.is_empty() {
            self.state = State::Empty;
            self.leader = None;
            self.write();
            return;
        }
        let leads = |id: &MemberId| self.members.get(id).is_some_and(joined);
        if !self.leader.as_ref().is_some_and(leads) {
            let first = self.members.iter().find(|(_, member)| joined(member));
            self.leader = first.map(|(id, _)| Arc::clone(id));
        }
        self.state = State::Completing;
        self.sync_by = Some(now + timeout);
        let mut answers = Vec::with_capacity(self.members.len());
        for (id, member) in &mut self.members {
            member.synced = false;
            if let Some(call) = member.joining.take() {
                member.expires = now + member.session_timeout;
                answers.push((call, Arc::clone(id)));
            }
        }
        let answers = answers.into_iter();
        out.extend(answers.map(|(call, id)| (call, GroupAnswer::Joined(Ok(self.joined(&id))))));
    }

    /// The leader has synced: the assignment is known.
    pub(super) fn assign(&mut self, now: Time, topics: &Topics, out: &mut GroupAnswers) {
        let mut candidates: Vec<_> = self.members.iter().collect();
        candidates.sort_by_key(|(id, member)| {
            (member.instance.is_none(), member.instance.clone(), Arc::clone(id))
        });
        let assignor = candidates.first().map(|(_, member)| member.metadata.assignor);
        let candidates: Vec<_> = candidates
            .iter()
            .map(|(id, member)| Candidate {
                id,
                topics: &member.metadata.topics,
                owned: &member.metadata.owned,
            })
            .collect();
        let mut assignment =
            assignors::assign(assignor.unwrap_or(Assignor::Range), &candidates, topics);
        self.state = State::Stable;
        for (id, member) in &mut self.members {
            member.assignment =
                assignment.remove(id).map(|part| part.into_iter().collect()).unwrap_or_default();
            if let Some(call) = member.syncing.take() {
                member.expires = now + member.session_timeout;
                out.push((call, GroupAnswer::Synced(Ok(member.assignment.clone()))));
            }
        }
        self.write();
    }

    pub(super) fn write(&mut self) {
        self.written = Written {
            generation: self.generation,
            leader: self.leader.clone(),
            members: self.members.clone(),
        };
    }
}
