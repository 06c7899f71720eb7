//! Who should have which partition? Kafka's assignors, as functions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pelton::TopicPartition;

use super::Topics;
use crate::model::wire::{Assignor, MemberId};

/// A member, as an assignor sees it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a> {
    pub(super) id: &'a MemberId,
    pub(super) topics: &'a [Arc<str>],
    pub(super) owned: &'a [TopicPartition],
}

pub(super) type Assignment = BTreeMap<MemberId, BTreeSet<TopicPartition>>;

/// Candidates stand in the order in which they are served: static ones by instance, then the
/// others by id.
pub(super) fn assign(
    assignor: Assignor,
    candidates: &[Candidate<'_>],
    topics: &Topics,
) -> Assignment {
    match assignor {
        Assignor::Range => range(candidates, topics),
        Assignor::RoundRobin => round_robin(candidates, topics),
        Assignor::CooperativeSticky => cooperative_sticky(candidates, topics),
        Assignor::Broker => sticky(candidates, topics),
    }
}

fn nothing(candidates: &[Candidate<'_>]) -> Assignment {
    candidates.iter().map(|candidate| (Arc::clone(candidate.id), BTreeSet::new())).collect()
}

fn subscribed<'a>(candidates: &[Candidate<'a>], topic: &str) -> Vec<Candidate<'a>> {
    let wants = |candidate: &&Candidate<'_>| candidate.topics.iter().any(|t| &**t == topic);
    candidates.iter().filter(wants).copied().collect()
}

fn range(candidates: &[Candidate<'_>], topics: &Topics) -> Assignment {
    let mut assignment = nothing(candidates);
    for (topic, count) in topics {
        let members = subscribed(candidates, topic);
        let Ok(n) = i32::try_from(members.len()) else { continue };
        if n == 0 {
            continue;
        }
        let mut next = 0;
        for (i, member) in (0..n).zip(members) {
            let share = count / n + i32::from(i < count % n);
            let part = (next..next + share).map(|p| TopicPartition::new(Arc::clone(topic), p));
            assignment.entry(Arc::clone(member.id)).or_default().extend(part);
            next += share;
        }
    }
    assignment
}

fn round_robin(candidates: &[Candidate<'_>], topics: &Topics) -> Assignment {
    let mut assignment = nothing(candidates);
    let mut turn = 0;
    for (topic, count) in topics {
        if subscribed(candidates, topic).is_empty() {
            continue;
        }
        for partition in 0..*count {
            let member = loop {
                let member = candidates[turn % candidates.len()];
                turn += 1;
                if member.topics.iter().any(|t| t == topic) {
                    break member;
                }
            };
            let partition = TopicPartition::new(Arc::clone(topic), partition);
            assignment.entry(Arc::clone(member.id)).or_default().insert(partition);
        }
    }
    assignment
}

/// What somebody has is given to another only when it has been given back: in the next round.
fn cooperative_sticky(candidates: &[Candidate<'_>], topics: &Topics) -> Assignment {
    let mut assignment = sticky(candidates, topics);
    for (id, partitions) in &mut assignment {
        let others = || candidates.iter().filter(|candidate| candidate.id != id);
        partitions.retain(|p| !others().any(|other| other.owned.contains(p)));
    }
    assignment
}

/// Everybody keeps what it has, as far as nobody is left with two partitions less than another.
fn sticky(candidates: &[Candidate<'_>], topics: &Topics) -> Assignment {
    let mut assignment = nothing(candidates);
    for (topic, count) in topics {
        let members = subscribed(candidates, topic);
        if members.is_empty() {
            continue;
        }
        for partition in (0..*count).map(|p| TopicPartition::new(Arc::clone(topic), p)) {
            let mut owners = members.iter().filter(|member| member.owned.contains(&partition));
            // Two that say so: at least one of them is wrong.
            if let (Some(owner), None) = (owners.next(), owners.next())
                && let Some(kept) = assignment.get_mut(owner.id)
            {
                kept.insert(partition);
            }
        }
    }
    for (topic, count) in topics {
        let members = subscribed(candidates, topic);
        for partition in (0..*count).map(|p| TopicPartition::new(Arc::clone(topic), p)) {
            if assignment.values().any(|kept| kept.contains(&partition)) {
                continue;
            }
            let poorest = members.iter().min_by_key(|m| assignment.get(m.id).map(BTreeSet::len));
            if let Some(poorest) = poorest
                && let Some(kept) = assignment.get_mut(poorest.id)
            {
                kept.insert(partition);
            }
        }
    }
    while let Some((from, to, partition)) = unfair(candidates, &assignment) {
        assignment.entry(from).or_default().remove(&partition);
        assignment.entry(to).or_default().insert(partition);
    }
    assignment
}

/// A partition whose move makes it fairer.
fn unfair(
    candidates: &[Candidate<'_>],
    assignment: &Assignment,
) -> Option<(MemberId, MemberId, TopicPartition)> {
    let load = |id: &MemberId| assignment.get(id).map_or(0, BTreeSet::len);
    let mut by_load: Vec<_> = candidates.iter().collect();
    by_load.sort_by_key(|candidate| load(candidate.id));
    for rich in by_load.iter().rev() {
        for poor in &by_load {
            if load(rich.id) < load(poor.id) + 2 {
                break;
            }
            let movable = |p: &&TopicPartition| poor.topics.iter().any(|t| **t == *p.topic());
            let partition = assignment.get(rich.id)?.iter().rev().find(movable);
            if let Some(partition) = partition {
                return Some((Arc::clone(rich.id), Arc::clone(poor.id), partition.clone()));
            }
        }
    }
    None
}
