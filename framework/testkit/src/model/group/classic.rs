//! What does a classic group do with joins, syncs, heartbeats, leaves and time?
//!
//! ```text
//!   Empty -- join --> Preparing -- all joined, or time is up --> Completing
//!                        ^  ^                                        |
//!   somebody comes,      |  |         somebody comes or goes         | the leader syncs
//!   goes or wants anew   |  +----------------------------------------+
//!                        |                                           v
//!                        +---------------------------------------- Stable
//! ```

mod rounds;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::{Committer, GroupAnswers, Ids, Topics};
use crate::model::wire::{Assignor, CallId, Code, GroupAnswer, Joined, MemberId};

#[derive(Debug)]
pub(super) struct Classic {
    state: State,
    generation: i32,
    initial_delay: Duration,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
    instances: BTreeMap<Arc<str>, MemberId>,
    /// Named, and to join with that name until then.
    named: BTreeMap<MemberId, Time>,
    /// Who has not synced by then is out. It goes on after the round is complete.
    sync_by: Option<Time>,
    /// What was written down last: the group as of its last complete round.
    written: Written,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Empty,
    Preparing { not_before: Time, deadline: Time },
    Completing,
    Stable,
}

#[derive(Clone, Debug)]
struct Member {
    instance: Option<Arc<str>>,
    metadata: Metadata,
    session_timeout: Duration,
    rebalance_timeout: Duration,
    expires: Time,
    joining: Option<CallId>,
    syncing: Option<CallId>,
    synced: bool,
    assignment: Vec<TopicPartition>,
}

impl Member {
    fn is_waiting(&self) -> bool {
        self.joining.is_some() || self.syncing.is_some()
    }
}

#[derive(Debug, Default)]
struct Written {
    generation: i32,
    leader: Option<MemberId>,
    members: BTreeMap<MemberId, Member>,
}

/// What a member tells when it joins. If it is what the coordinator knows, nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Metadata {
    pub(super) assignor: Assignor,
    pub(super) topics: Vec<Arc<str>>,
    pub(super) owned: Vec<TopicPartition>,
}

pub(super) struct Join {
    pub(super) call: CallId,
    pub(super) member: Option<MemberId>,
    pub(super) instance: Option<Arc<str>>,
    pub(super) metadata: Metadata,
    pub(super) session_timeout: Duration,
    pub(super) rebalance_timeout: Duration,
}

impl Classic {
    pub(super) fn new(generation: i32, initial_delay: Duration) -> Self {
        Self {
            state: State::Empty,
            generation,
            initial_delay,
            leader: None,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            named: BTreeMap::new(),
            sync_by: None,
            written: Written { generation, ..Written::default() },
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.named.is_empty()
    }

    pub(super) fn generation(&self) -> i32 {
        self.generation
    }

    pub(super) fn members(&self) -> Vec<MemberId> {
        self.members.keys().cloned().collect()
    }

    pub(super) fn assignments(&self) -> Vec<(MemberId, Vec<TopicPartition>)> {
        let members = self.members.iter();
        members.map(|(id, member)| (Arc::clone(id), member.assignment.clone())).collect()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.state == State::Stable && self.members.values().all(|member| member.synced)
    }

    pub(super) fn join(&mut self, now: Time, join: Join, ids: &mut Ids, out: &mut GroupAnswers) {
        let mut others = self.members.values();
        if others.any(|member| member.metadata.assignor != join.metadata.assignor) {
            out.push((join.call, GroupAnswer::Joined(Err(Code::InconsistentGroupProtocol))));
            return;
        }
        match (&join.member, &join.instance) {
            (None, Some(instance)) => match self.instances.get(instance).cloned() {
                Some(former) => self.replace_static(now, &former, join, ids, out),
                None => {
                    let id = ids.next();
                    self.add(now, id, join, out);
                }
            },
            (None, None) => {
                let id = ids.next();
                self.named.insert(Arc::clone(&id), now + join.session_timeout);
                out.push((join.call, GroupAnswer::Named(id)));
            }
            (Some(id), _) => {
                let id = Arc::clone(id);
                if join.instance.is_none() && self.named.remove(&id).is_some() {
                    self.add(now, id, join, out);
                    return;
                }
                match self.known(&id, join.instance.as_deref()) {
                    Ok(()) => self.rejoin(now, &id, join, out),
                    Err(code) => out.push((join.call, GroupAnswer::Joined(Err(code)))),
                }
            }
        }
    }

    /// A sync, answered when the leader has synced.
    pub(super) fn sync(
        &mut self,
        now: Time,
        call: CallId,
        (id, instance): (&str, Option<&str>),
        generation: i32,
        topics: &Topics,
        out: &mut GroupAnswers,
    ) {
        let refused = match self.state {
            State::Empty => Err(Code::UnknownMemberId),
            _ if generation != self.generation => Err(Code::IllegalGeneration),
            State::Preparing { .. } => Err(Code::RebalanceInProgress),
            State::Completing | State::Stable => Ok(()),
        };
        let known = self.known(id, instance).and(refused);
        let member = match (known, self.members.get_mut(id)) {
            (Ok(()), Some(member)) => member,
            (known, _) => {
                let code = known.err().unwrap_or(Code::UnknownMemberId);
                out.push((call, GroupAnswer::Synced(Err(code))));
                return;
            }
        };
        member.synced = true;
        member.expires = now + member.session_timeout;
        if self.state == State::Stable {
            out.push((call, GroupAnswer::Synced(Ok(member.assignment.clone()))));
        } else {
            member.syncing = Some(call);
            if self.leader.as_deref() == Some(id) {
                self.assign(now, topics, out);
            }
        }
        if self.members.values().all(|member| member.synced) {
            self.sync_by = None;
        }
    }

    pub(super) fn heartbeat(
        &mut self,
        now: Time,
        id: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), Code> {
        self.known(id, instance)?;
        if generation != self.generation {
            return Err(Code::IllegalGeneration);
        }
        self.stay(now, id);
        if matches!(self.state, State::Preparing { .. }) {
            return Err(Code::RebalanceInProgress);
        }
        Ok(())
    }

    pub(super) fn leave(
        &mut self,
        now: Time,
        id: &str,
        instance: Option<&str>,
        out: &mut GroupAnswers,
    ) -> Result<(), Code> {
        if self.named.remove(id).is_some() {
            self.complete_if_all_joined(now, out);
            return Ok(());
        }
        self.known(id, instance)?;
        self.remove(now, id, out);
        Ok(())
    }

    pub(super) fn may_commit(&mut self, now: Time, who: Committer<'_>) -> Result<(), Code> {
        if who.generation < 0 && self.state == State::Empty {
            return Ok(());
        }
        if who.generation >= 0 || who.member.is_some() || who.instance.is_some() {
            let id = who.member.unwrap_or_default();
            self.known(id, who.instance)?;
            if who.generation != self.generation {
                return Err(Code::IllegalGeneration);
            }
            if !who.transactional && self.state == State::Completing {
                return Err(Code::RebalanceInProgress);
            }
            self.stay(now, id);
        } else if !who.transactional {
            return Err(Code::UnknownMemberId);
        }
        Ok(())
    }

    pub(super) fn turn(&mut self, now: Time, out: &mut GroupAnswers) {
        self.named.retain(|_, until| *until > now);
        while let Some(id) = self.expired(now) {
            self.remove(now, &id, out);
        }
        if self.sync_by.is_some_and(|by| by <= now) {
            self.sync_by = None;
            let late: Vec<MemberId> = self.named_where(|member| !member.synced);
            for id in &late {
                self.forget(id, out);
            }
            if !late.is_empty() && self.state != State::Empty {
                self.prepare(now, out);
            }
        }
        match self.state {
            State::Preparing { deadline, .. } if deadline <= now => self.complete_join(now, out),
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Empty | State::Completing | State::Stable => {}
        }
    }

    pub(super) fn wake(&self) -> Option<Time> {
        let silent = self.members.values().filter(|member| !member.is_waiting());
        let round = match self.state {
            State::Preparing { not_before, deadline } => {
                [Some(deadline), Some(not_before).filter(|_| self.have_all_joined())]
            }
            State::Empty | State::Completing | State::Stable => [None, None],
        };
        silent
            .map(|member| member.expires)
            .chain(self.named.values().copied())
            .chain(self.sync_by)
            .chain(round.into_iter().flatten())
            .min()
    }

    pub(super) fn moved(&mut self, now: Time) {
        if self.state != State::Stable {
            self.generation = self.written.generation;
            self.leader.clone_from(&self.written.leader);
            self.members.clone_from(&self.written.members);
        }
        self.named.clear();
        self.sync_by = None;
        self.instances.clear();
        for (id, member) in &mut self.members {
            (member.joining, member.syncing, member.synced) = (None, None, true);
            member.expires = now + member.session_timeout;
            if let Some(instance) = &member.instance {
                self.instances.insert(Arc::clone(instance), Arc::clone(id));
            }
        }
        self.state = if self.members.is_empty() { State::Empty } else { State::Stable };
    }

    /// Is there such a member, and is it the one of its instance?
    fn known(&self, id: &str, instance: Option<&str>) -> Result<(), Code> {
        if let Some(instance) = instance {
            return match self.instances.get(instance) {
                None => Err(Code::UnknownMemberId),
                Some(current) if **current != *id => Err(Code::FencedInstanceId),
                Some(_) => Ok(()),
            };
        }
        if self.members.contains_key(id) { Ok(()) } else { Err(Code::UnknownMemberId) }
    }

    fn stay(&mut self, now: Time, id: &str) {
        if let Some(member) = self.members.get_mut(id) {
            member.expires = now + member.session_timeout;
        }
    }

    fn expired(&self, now: Time) -> Option<MemberId> {
        let is_over = |member: &Member| !member.is_waiting() && member.expires <= now;
        self.members.iter().find(|(_, member)| is_over(member)).map(|(id, _)| Arc::clone(id))
    }

    fn named_where(&self, test: impl Fn(&Member) -> bool) -> Vec<MemberId> {
        let passing = self.members.iter().filter(|(_, member)| test(member));
        passing.map(|(id, _)| Arc::clone(id)).collect()
    }

    fn add(&mut self, now: Time, id: MemberId, join: Join, out: &mut GroupAnswers) {
        if let Some(instance) = &join.instance {
            self.instances.insert(Arc::clone(instance), Arc::clone(&id));
        }
        self.leader.get_or_insert_with(|| Arc::clone(&id));
        let member = Member {
            instance: join.instance,
            metadata: join.metadata,
            session_timeout: join.session_timeout,
            rebalance_timeout: join.rebalance_timeout,
            expires: now + join.session_timeout,
            joining: Some(join.call),
            syncing: None,
            synced: false,
            assignment: Vec::new(),
        };
        self.members.insert(id, member);
        match &mut self.state {
            State::Preparing { not_before, deadline } => {
                // The first round waits for more as long as more come.
                if *not_before > now {
                    *not_before = (now + self.initial_delay).min(*deadline);
                }
                self.complete_if_all_joined(now, out);
            }
            State::Empty | State::Completing | State::Stable => self.prepare(now, out),
        }
    }

    fn rejoin(&mut self, now: Time, id: &str, join: Join, out: &mut GroupAnswers) {
        let is_leader = self.leader.as_deref() == Some(id);
        let Some(member) = self.members.get_mut(id) else { return };
        let is_same = member.metadata == join.metadata;
        let answered_at_once = match self.state {
            State::Completing => is_same,
            State::Stable => is_same && !is_leader,
            State::Empty | State::Preparing { .. } => false,
        };
        member.expires = now + join.session_timeout;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        if answered_at_once {
            // It had not heard of the round that is complete already.
            out.push((join.call, GroupAnswer::Joined(Ok(self.joined(id)))));
            return;
        }
        member.metadata = join.metadata;
        member.joining = Some(join.call);
        match self.state {
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Empty | State::Completing | State::Stable => self.prepare(now, out),
        }
    }

    /// A new process with a known instance id takes the place of the one before.
    fn replace_static(
        &mut self,
        now: Time,
        former: &str,
        join: Join,
        ids: &mut Ids,
        out: &mut GroupAnswers,
    ) {
        let Some(mut member) = self.members.remove(former) else { return };
        if let Some(call) = member.joining.take() {
            out.push((call, GroupAnswer::Joined(Err(Code::FencedInstanceId))));
        }
        if let Some(call) = member.syncing.take() {
            out.push((call, GroupAnswer::Synced(Err(Code::FencedInstanceId))));
        }
        let id = ids.next();
        if let Some(instance) = &join.instance {
            self.instances.insert(Arc::clone(instance), Arc::clone(&id));
        }
        if self.leader.as_deref() == Some(former) {
            self.leader = Some(Arc::clone(&id));
        }
        member.metadata = join.metadata;
        member.session_timeout = join.session_timeout;
        member.rebalance_timeout = join.rebalance_timeout;
        member.expires = now + join.session_timeout;
        if self.state == State::Stable {
            self.members.insert(Arc::clone(&id), member);
            self.write();
            out.push((join.call, GroupAnswer::Joined(Ok(self.joined(&id)))));
            return;
        }
        member.joining = Some(join.call);
        self.members.insert(id, member);
        match self.state {
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Empty | State::Completing | State::Stable => self.prepare(now, out),
        }
    }

    fn joined(&self, id: &str) -> Joined {
        Joined {
            member: id.into(),
            generation: self.generation,
            is_leader: self.leader.as_deref() == Some(id),
        }
    }

    /// Takes a member out; the others go on without it.
    fn remove(&mut self, now: Time, id: &str, out: &mut GroupAnswers) {
        self.forget(id, out);
        match self.state {
            State::Completing | State::Stable => self.prepare(now, out),
            State::Preparing { .. } => self.complete_if_all_joined(now, out),
            State::Empty => {}
        }
    }

    fn forget(&mut self, id: &str, out: &mut GroupAnswers) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(call) = member.joining {
            out.push((call, GroupAnswer::Joined(Err(Code::UnknownMemberId))));
        }
        if let Some(call) = member.syncing {
            out.push((call, GroupAnswer::Synced(Err(Code::UnknownMemberId))));
        }
        if let Some(instance) = member.instance {
            self.instances.remove(&instance);
        }
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
    }
}
