//! What does a KIP-848 group's coordinator do with heartbeats and time?
//!
//! The group has an epoch; each change of members, subscriptions or topics raises it and gives
//! everybody a target. A member goes from what it has to its target by itself: first it gives
//! back what it is not to have, then it is in the new epoch, then it gets what others have given
//! back.
//!
//! ```text
//!                 +--> Unrevoked -- has given back --+
//!   new epoch ----+                                  +--> Unreleased -- others have --> Settled
//!                 +--> (nothing to give back) -------+         (or nothing to wait for)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::assignors::{self, Candidate};
use super::{Committer, GroupConfig, Topics};
use crate::model::wire::{Assignor, Code, ConsumerBeaten, MemberId};

const LEAVES: i32 = -1;
const LEAVES_ITS_PLACE: i32 = -2;

#[derive(Debug)]
pub(super) struct BrokerAssigned {
    epoch: i32,
    /// Somebody came or went, or topics changed: the next heartbeat computes the targets.
    outdated: bool,
    members: BTreeMap<MemberId, Member>,
    instances: BTreeMap<Arc<str>, MemberId>,
    /// Who has a partition or has not given it back yet.
    holders: BTreeMap<TopicPartition, MemberId>,
}

#[derive(Debug)]
struct Member {
    instance: Option<Arc<str>>,
    topics: Vec<Arc<str>>,
    rebalance_timeout: Duration,
    epoch: i32,
    previous_epoch: i32,
    state: State,
    target: BTreeSet<TopicPartition>,
    /// With the member epoch at which it got it.
    assigned: BTreeMap<TopicPartition, i32>,
    /// To be given back.
    revoking: BTreeMap<TopicPartition, i32>,
    expires: Time,
    /// Until then it must have given back.
    revoked_by: Option<Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Settled,
    Unrevoked,
    Unreleased,
}

/// A heartbeat.
pub(super) struct Beat {
    pub(super) member: MemberId,
    pub(super) instance: Option<Arc<str>>,
    pub(super) epoch: i32,
    pub(super) subscribed: Option<Vec<Arc<str>>>,
    pub(super) owned: Option<Vec<TopicPartition>>,
    pub(super) rebalance_timeout: Duration,
}

impl BrokerAssigned {
    pub(super) fn new(epoch: i32) -> Self {
        Self {
            epoch,
            outdated: false,
            members: BTreeMap::new(),
            instances: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epoch
    }

    pub(super) fn members(&self) -> Vec<MemberId> {
        self.members.keys().cloned().collect()
    }

    pub(super) fn assignments(&self) -> Vec<(MemberId, Vec<TopicPartition>)> {
        let has = |member: &Member| {
            member.assigned.keys().chain(member.revoking.keys()).cloned().collect()
        };
        self.members.iter().map(|(id, member)| (Arc::clone(id), has(member))).collect()
    }

    pub(super) fn is_settled(&self) -> bool {
        let is_there =
            |member: &Member| member.state == State::Settled && member.epoch == self.epoch;
        !self.outdated && self.members.values().all(is_there)
    }

    pub(super) fn topics_changed(&mut self) {
        self.outdated = true;
    }

    pub(super) fn beat(
        &mut self,
        now: Time,
        beat: Beat,
        config: &GroupConfig,
        topics: &Topics,
    ) -> Result<ConsumerBeaten, Code> {
        if beat.epoch < 0 {
            return self.leave(&beat, config);
        }
        let joins = beat.epoch == 0;
        self.admit(now, &beat)?;
        let is_full = joins || (beat.subscribed.is_some() && beat.owned.is_some());
        let member = self.members.get_mut(&beat.member).ok_or(Code::UnknownMemberId)?;
        if !joins {
            member.check_epoch(&beat)?;
        }
        member.rebalance_timeout = beat.rebalance_timeout;
        if let Some(subscribed) = beat.subscribed
            && subscribed != member.topics
        {
            member.topics = subscribed;
            self.outdated = true;
        }
        member.expires = now + config.session_timeout;
        if self.outdated {
            self.compute_targets(topics);
        }
        let told = beat.owned.as_deref();
        let changed = self.reconcile(now, &beat.member, told);
        let member = self.members.get(&beat.member).ok_or(Code::UnknownMemberId)?;
        let assignment = (changed || is_full).then(|| member.assigned.keys().cloned().collect());
        Ok(ConsumerBeaten { epoch: member.epoch, interval: config.heartbeat_interval, assignment })
    }

    pub(super) fn turn(&mut self, now: Time) {
        let is_over = |member: &Member| {
            member.expires <= now || member.revoked_by.is_some_and(|by| by <= now)
        };
        let over = self.members.iter().filter(|(_, member)| is_over(member));
        let over: Vec<MemberId> = over.map(|(id, _)| Arc::clone(id)).collect();
        for id in over {
            self.remove(&id);
        }
    }

    pub(super) fn wake(&self) -> Option<Time> {
        self.members.values().flat_map(|m| [Some(m.expires), m.revoked_by]).flatten().min()
    }

    pub(super) fn moved(&mut self, now: Time, config: &GroupConfig) {
        for member in self.members.values_mut() {
            member.expires = now + config.session_timeout;
            member.revoked_by = member.revoked_by.map(|_| now + member.rebalance_timeout);
        }
    }

    pub(super) fn may_commit(&self, who: Committer<'_>) -> Result<(), Code> {
        let is_outsider = who.generation < 0 && who.member.is_none() && who.instance.is_none();
        if (who.generation < 0 && self.members.is_empty()) || (who.transactional && is_outsider) {
            return Ok(());
        }
        let id = who.member.unwrap_or_default();
        self.members.get(id).map(|_| ()).ok_or(Code::UnknownMemberId)
    }

    /// After [`Self::may_commit`].
    pub(super) fn may_commit_partition(
        &self,
        who: Committer<'_>,
        partition: &TopicPartition,
        lenient: bool,
    ) -> Result<(), Code> {
        let Some(member) = who.member.and_then(|id| self.members.get(id)) else { return Ok(()) };
        let since = member.assigned.get(partition).or_else(|| member.revoking.get(partition));
        let had_it_then = || since.is_some_and(|since| *since <= who.generation);
        let is_former = who.generation < member.epoch;
        if who.generation == member.epoch || (lenient && is_former && had_it_then()) {
            return Ok(());
        }
        // Producers know of generations only.
        Err(if who.transactional { Code::IllegalGeneration } else { Code::StaleMemberEpoch })
    }

    /// Makes a member of whoever joins; checks that a static one is the one of its instance.
    fn admit(&mut self, now: Time, beat: &Beat) -> Result<(), Code> {
        let joins = beat.epoch == 0;
        if let Some(instance) = &beat.instance {
            match self.instances.get(instance) {
                Some(holder) if *holder != beat.member => {
                    let former = Arc::clone(holder);
                    let has_left =
                        self.members.get(&former).is_some_and(|m| m.epoch == LEAVES_ITS_PLACE);
                    if !joins {
                        return Err(Code::FencedInstanceId);
                    }
                    if !has_left {
                        return Err(Code::UnreleasedInstanceId);
                    }
                    self.replace_static(&former, &beat.member);
                }
                None if !joins => return Err(Code::UnknownMemberId),
                Some(_) | None => {}
            }
        }
        if self.members.contains_key(&beat.member) {
            // One that left its place comes back itself.
            if let Some(member) = self.members.get_mut(&beat.member)
                && joins
                && member.epoch == LEAVES_ITS_PLACE
            {
                (member.epoch, member.previous_epoch) = (0, 0);
            }
            return Ok(());
        }
        if !joins {
            return Err(Code::UnknownMemberId);
        }
        if let Some(instance) = &beat.instance {
            self.instances.insert(Arc::clone(instance), Arc::clone(&beat.member));
        }
        let member = Member {
            instance: beat.instance.clone(),
            topics: Vec::new(),
            rebalance_timeout: beat.rebalance_timeout,
            epoch: 0,
            previous_epoch: 0,
            state: State::Settled,
            target: BTreeSet::new(),
            assigned: BTreeMap::new(),
            revoking: BTreeMap::new(),
            expires: now,
            revoked_by: None,
        };
        self.members.insert(Arc::clone(&beat.member), member);
        self.outdated = true;
        Ok(())
    }

    fn replace_static(&mut self, former: &str, successor: &MemberId) {
        let Some(mut member) = self.members.remove(former) else { return };
        (member.epoch, member.previous_epoch) = (0, 0);
        if let Some(instance) = &member.instance {
            self.instances.insert(Arc::clone(instance), Arc::clone(successor));
        }
        for holder in self.holders.values_mut().filter(|holder| ***holder == *former) {
            *holder = Arc::clone(successor);
        }
        self.members.insert(Arc::clone(successor), member);
    }

    fn leave(&mut self, beat: &Beat, config: &GroupConfig) -> Result<ConsumerBeaten, Code> {
        if let Some(instance) = &beat.instance {
            let holder = self.instances.get(instance).ok_or(Code::UnknownMemberId)?;
            if *holder != beat.member {
                return Err(Code::FencedInstanceId);
            }
        }
        let member = self.members.get_mut(&beat.member).ok_or(Code::UnknownMemberId)?;
        if beat.epoch == LEAVES_ITS_PLACE && member.instance.is_some() {
            // Its session goes on: when that ends, so does its place.
            member.epoch = LEAVES_ITS_PLACE;
            member.revoked_by = None;
            member.state = State::Settled;
            for partition in std::mem::take(&mut member.revoking).into_keys() {
                self.holders.remove(&partition);
            }
        } else {
            self.remove(&beat.member);
        }
        let interval = config.heartbeat_interval;
        let epoch = beat.epoch.clamp(LEAVES_ITS_PLACE, LEAVES);
        Ok(ConsumerBeaten { epoch, interval, assignment: None })
    }

    fn remove(&mut self, id: &str) {
        let Some(member) = self.members.remove(id) else { return };
        if let Some(instance) = member.instance {
            self.instances.remove(&instance);
        }
        self.holders.retain(|_, holder| **holder != *id);
        self.epoch += 1;
        self.outdated = true;
    }

    fn compute_targets(&mut self, topics: &Topics) {
        self.outdated = false;
        self.epoch += 1;
        let has: BTreeMap<&MemberId, Vec<TopicPartition>> =
            self.members.iter().map(|(id, m)| (id, m.target.iter().cloned().collect())).collect();
        let mut candidates: Vec<_> = self.members.iter().collect();
        candidates.sort_by_key(|(id, member)| {
            (member.instance.is_none(), member.instance.clone(), Arc::clone(id))
        });
        let candidates: Vec<_> = candidates
            .into_iter()
            .filter_map(|(id, member)| {
                Some(Candidate { id, topics: &member.topics, owned: has.get(id)? })
            })
            .collect();
        let mut targets = assignors::assign(Assignor::Broker, &candidates, topics);
        for (id, member) in &mut self.members {
            member.target = targets.remove(id).unwrap_or_default();
        }
    }

    /// Brings a member nearer to its target. Returns whether what it is to have has changed.
    fn reconcile(&mut self, now: Time, id: &MemberId, told: Option<&[TopicPartition]>) -> bool {
        let Some(member) = self.members.get_mut(id) else { return false };
        let still_has = |of: &BTreeMap<TopicPartition, i32>| {
            told.is_none_or(|told| told.iter().any(|p| of.contains_key(p)))
        };
        match member.state {
            State::Settled if member.epoch == self.epoch => return false,
            State::Unrevoked if still_has(&member.revoking) => return false,
            State::Settled | State::Unrevoked | State::Unreleased => {}
        }
        for partition in std::mem::take(&mut member.revoking).into_keys() {
            self.holders.remove(&partition);
        }
        member.revoked_by = None;
        let mut excess = BTreeMap::new();
        let target = &member.target;
        member.assigned.retain(|partition, since| {
            let stays = target.contains(partition);
            if !stays {
                excess.insert(partition.clone(), *since);
            }
            stays
        });
        if !excess.is_empty() && still_has(&excess) {
            member.state = State::Unrevoked;
            member.previous_epoch = member.epoch;
            member.revoking = excess;
            member.revoked_by = Some(now + member.rebalance_timeout);
            return true;
        }
        let mut changed = !excess.is_empty();
        for partition in excess.into_keys() {
            self.holders.remove(&partition);
        }
        member.previous_epoch = member.epoch;
        member.epoch = self.epoch;
        member.state = State::Settled;
        for partition in &member.target {
            if member.assigned.contains_key(partition) {
                continue;
            }
            if self.holders.contains_key(partition) {
                member.state = State::Unreleased;
                continue;
            }
            self.holders.insert(partition.clone(), Arc::clone(id));
            member.assigned.insert(partition.clone(), self.epoch);
            changed = true;
        }
        changed
    }
}

impl Member {
    /// The epoch it says must be its own, or the one before if the answer that told it the new
    /// one was lost.
    fn check_epoch(&self, beat: &Beat) -> Result<(), Code> {
        if beat.epoch == self.epoch {
            return Ok(());
        }
        let has_no_more = || {
            let owned = beat.owned.as_ref();
            owned.is_some_and(|owned| owned.iter().all(|p| self.assigned.contains_key(p)))
        };
        if beat.epoch < self.epoch && beat.epoch == self.previous_epoch && has_no_more() {
            return Ok(());
        }
        Err(Code::FencedMemberEpoch)
    }
}
