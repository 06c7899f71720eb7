//! What would a group's coordinator do? One group, classic or KIP-848, as a pure state machine.
//!
//! The first member decides the kind; a group that is empty again may change it. One
//! simplification beside those of [`super::wire`]: in a classic group the coordinator computes
//! the assignment when the leader asks for it. In Kafka the leader itself does.

mod assignors;
mod broker_assigned;
mod classic;
mod offsets;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use self::broker_assigned::{Beat, BrokerAssigned};
use self::classic::{Classic, Join, Metadata};
use self::offsets::Offsets;
use super::wire::{
    CallId, Code, GroupAnswer, GroupRequest, MemberId, ProducerIdentity, StoredOffset,
};

/// Every topic there is, with its number of partitions.
pub(crate) type Topics = BTreeMap<Arc<str>, i32>;

pub(crate) type GroupAnswers = Vec<(CallId, GroupAnswer)>;

/// A broker's settings for groups.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GroupConfig {
    /// KIP-848 only: classic members bring their own.
    pub(crate) session_timeout: Duration,
    /// KIP-848 only.
    pub(crate) heartbeat_interval: Duration,
    /// How long the first member of a classic group waits for others. Kafka's own default is 3 s.
    pub(crate) initial_rebalance_delay: Duration,
    /// KIP-1251: a commit with a former member epoch is accepted if the member has had the
    /// partition since. Kafka 4.3 does; older brokers answer `STALE_MEMBER_EPOCH`.
    pub(crate) former_epochs_may_commit: bool,
}

impl Default for GroupConfig {
    fn default() -> Self {
        Self {
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_millis(300),
            initial_rebalance_delay: Duration::ZERO,
            former_epochs_may_commit: true,
        }
    }
}

/// One group, as its coordinator keeps it.
#[derive(Debug)]
pub(crate) struct Group {
    config: GroupConfig,
    kind: Kind,
    offsets: Offsets,
    ids: Ids,
}

#[derive(Debug)]
enum Kind {
    Classic(Classic),
    BrokerAssigned(BrokerAssigned),
}

/// Names members; no name is given twice.
#[derive(Debug)]
struct Ids {
    group: Arc<str>,
    given: u64,
}

impl Ids {
    fn next(&mut self) -> MemberId {
        self.given += 1;
        format!("{}-m{}", self.group, self.given).into()
    }
}

/// Who commits, as it says.
#[derive(Clone, Copy, Debug)]
struct Committer<'a> {
    member: Option<&'a str>,
    instance: Option<&'a str>,
    generation: i32,
    transactional: bool,
}

impl Group {
    pub(crate) fn new(name: &str, config: GroupConfig) -> Self {
        Self {
            config,
            kind: Kind::Classic(Classic::new(0, config.initial_rebalance_delay)),
            offsets: Offsets::default(),
            ids: Ids { group: name.into(), given: 0 },
        }
    }

    /// Answers go to `out`, at once or in a later call (Join, Sync wait).
    ///
    /// Whoever hands over a `TransactionalCommit` has verified that the producer's transaction is
    /// open and includes this group's offsets, as Kafka does since KIP-890: otherwise one that
    /// comes late would stay pending for ever.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        call: CallId,
        request: GroupRequest,
        topics: &Topics,
        out: &mut GroupAnswers,
    ) {
        match request {
            GroupRequest::Join {
                member,
                instance,
                assignor,
                topics: subscribed,
                owned,
                session_timeout,
                rebalance_timeout,
            } => {
                let metadata = Metadata { assignor, topics: subscribed, owned };
                let join =
                    Join { call, member, instance, metadata, session_timeout, rebalance_timeout };
                self.become_classic();
                match &mut self.kind {
                    Kind::Classic(classic) => classic.join(now, join, &mut self.ids, out),
                    Kind::BrokerAssigned(_) => {
                        let refused = Err(Code::InconsistentGroupProtocol);
                        out.push((call, GroupAnswer::Joined(refused)));
                    }
                }
            }
            GroupRequest::Sync { member, instance, generation } => match &mut self.kind {
                Kind::Classic(classic) => {
                    let who = (&*member, instance.as_deref());
                    classic.sync(now, call, who, generation, topics, out);
                }
                Kind::BrokerAssigned(_) => {
                    out.push((call, GroupAnswer::Synced(Err(Code::UnknownMemberId))));
                }
            },
            GroupRequest::Heartbeat { member, instance, generation } => {
                let beaten = match &mut self.kind {
                    Kind::Classic(classic) => {
                        classic.heartbeat(now, &member, instance.as_deref(), generation)
                    }
                    Kind::BrokerAssigned(_) => Err(Code::UnknownMemberId),
                };
                out.push((call, GroupAnswer::Beaten(beaten)));
            }
            GroupRequest::Leave { member, instance } => {
                let left = match &mut self.kind {
                    Kind::Classic(classic) => classic.leave(now, &member, instance.as_deref(), out),
                    Kind::BrokerAssigned(_) => Err(Code::UnknownMemberId),
                };
                out.push((call, GroupAnswer::Left(left)));
            }
            GroupRequest::ConsumerHeartbeat {
                member,
                instance,
                epoch,
                topics: subscribed,
                owned,
                rebalance_timeout,
            } => {
                let beat = Beat { member, instance, epoch, subscribed, owned, rebalance_timeout };
                if epoch >= 0 {
                    self.become_broker_assigned();
                }
                let beaten = match &mut self.kind {
                    Kind::BrokerAssigned(group) => group.beat(now, beat, &self.config, topics),
                    Kind::Classic(classic) if classic.is_empty() => Err(Code::UnknownMemberId),
                    Kind::Classic(_) => Err(Code::InconsistentGroupProtocol),
                };
                out.push((call, GroupAnswer::ConsumerBeaten(beaten)));
            }
            GroupRequest::Commit { member, instance, generation, offsets } => {
                let who = Committer {
                    member: member.as_deref(),
                    instance: instance.as_deref(),
                    generation,
                    transactional: false,
                };
                let stored = self.commit(now, who, None, offsets, topics);
                out.push((call, GroupAnswer::Committed(stored)));
            }
            GroupRequest::TransactionalCommit {
                producer,
                member,
                instance,
                generation,
                offsets,
            } => {
                let who = Committer {
                    member: member.as_deref(),
                    instance: instance.as_deref(),
                    generation,
                    transactional: true,
                };
                let stored = self.commit(now, who, Some(producer), offsets, topics);
                out.push((call, GroupAnswer::Committed(stored)));
            }
            GroupRequest::Committed { partitions, stable } => {
                let offsets = self.offsets.read(partitions, stable);
                out.push((call, GroupAnswer::Offsets(offsets)));
            }
        }
    }

    /// Session ends, rebalance timeouts, delays.
    pub(crate) fn turn(&mut self, now: Time, _topics: &Topics, out: &mut GroupAnswers) {
        match &mut self.kind {
            Kind::Classic(classic) => classic.turn(now, out),
            Kind::BrokerAssigned(group) => group.turn(now),
        }
    }

    pub(crate) fn wake(&self) -> Option<Time> {
        match &self.kind {
            Kind::Classic(classic) => classic.wake(),
            Kind::BrokerAssigned(group) => group.wake(),
        }
    }

    /// Topics were made, grew, or are gone. A classic group's coordinator does not care: its
    /// members see it. A KIP-848 group's computes anew at the next heartbeat.
    pub(crate) fn topics_changed(&mut self, _now: Time, topics: &Topics, _out: &mut GroupAnswers) {
        self.offsets.forget_topics(topics);
        if let Kind::BrokerAssigned(group) = &mut self.kind {
            group.topics_changed();
        }
    }

    /// A new coordinator took over: session timers start anew, waiting calls are gone. Of a
    /// classic group only the last complete round was written down; one under way is forgotten.
    pub(crate) fn moved(&mut self, now: Time) {
        match &mut self.kind {
            Kind::Classic(classic) => classic.moved(now),
            Kind::BrokerAssigned(group) => group.moved(now, &self.config),
        }
    }

    pub(crate) fn committed(&self, partition: &TopicPartition) -> Option<&StoredOffset> {
        self.offsets.get(partition)
    }

    /// Everything that is committed.
    pub(crate) fn all_committed(&self) -> impl Iterator<Item = (&TopicPartition, &StoredOffset)> {
        self.offsets.all()
    }

    /// Another tool writes every offset as it is, with metadata of its own.
    pub(crate) fn damage_metadata(&mut self) {
        self.offsets.damage();
    }

    /// An operator's: the group must be empty (`false` otherwise). `None` deletes it.
    pub(crate) fn reset_offset(
        &mut self,
        partition: TopicPartition,
        offset: Option<StoredOffset>,
    ) -> bool {
        let is_empty = self.is_empty();
        if is_empty {
            self.offsets.reset(partition, offset);
        }
        is_empty
    }

    /// The transaction is over: its pending offsets are stored or forgotten. Also tells the
    /// producer's epoch, so a former one is refused from here on.
    pub(crate) fn end_transaction(&mut self, producer: ProducerIdentity, commit: bool) {
        self.offsets.end_transaction(producer, commit);
    }

    /// Whether a transaction's offsets wait here for its end.
    pub(crate) fn has_pending(&self, producer: i64) -> bool {
        self.offsets.has_pending(producer)
    }

    pub(crate) fn is_empty(&self) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.is_empty(),
            Kind::BrokerAssigned(group) => group.is_empty(),
        }
    }

    /// The generation, or the epoch of a KIP-848 group.
    pub(crate) fn generation(&self) -> i32 {
        match &self.kind {
            Kind::Classic(classic) => classic.generation(),
            Kind::BrokerAssigned(group) => group.epoch(),
        }
    }

    pub(crate) fn members(&self) -> Vec<MemberId> {
        match &self.kind {
            Kind::Classic(classic) => classic.members(),
            Kind::BrokerAssigned(group) => group.members(),
        }
    }

    /// Who owns what, as the coordinator sees it. In KIP-848 a partition that is being given
    /// back still has its owner.
    pub(crate) fn owners(&self) -> BTreeMap<TopicPartition, MemberId> {
        let of = |(id, partitions): (MemberId, Vec<TopicPartition>)| {
            partitions.into_iter().map(move |partition| (partition, Arc::clone(&id)))
        };
        self.assignments().into_iter().flat_map(of).collect()
    }

    /// What each member has: the same, without hiding a partition that two have.
    pub(crate) fn assignments(&self) -> Vec<(MemberId, Vec<TopicPartition>)> {
        match &self.kind {
            Kind::Classic(classic) => classic.assignments(),
            Kind::BrokerAssigned(group) => group.assignments(),
        }
    }

    /// Has every member been told what it is to have, with nothing left to give back?
    pub(crate) fn is_settled(&self) -> bool {
        match &self.kind {
            Kind::Classic(classic) => classic.is_settled(),
            Kind::BrokerAssigned(group) => group.is_settled(),
        }
    }

    fn become_classic(&mut self) {
        if let Kind::BrokerAssigned(group) = &self.kind
            && group.is_empty()
        {
            let delay = self.config.initial_rebalance_delay;
            self.kind = Kind::Classic(Classic::new(group.epoch(), delay));
        }
    }

    fn become_broker_assigned(&mut self) {
        if let Kind::Classic(classic) = &self.kind
            && classic.is_empty()
        {
            self.kind = Kind::BrokerAssigned(BrokerAssigned::new(classic.generation()));
        }
    }

    fn commit(
        &mut self,
        now: Time,
        who: Committer<'_>,
        producer: Option<ProducerIdentity>,
        offsets: Vec<(TopicPartition, StoredOffset)>,
        topics: &Topics,
    ) -> Vec<(TopicPartition, Result<(), Code>)> {
        let known = match &mut self.kind {
            Kind::Classic(classic) => classic.may_commit(now, who),
            Kind::BrokerAssigned(group) => group.may_commit(who),
        };
        let mut stored = Vec::with_capacity(offsets.len());
        for (partition, offset) in offsets {
            let allowed = known.and_then(|()| match &self.kind {
                Kind::BrokerAssigned(group) => {
                    let lenient = self.config.former_epochs_may_commit;
                    group.may_commit_partition(who, &partition, lenient)
                }
                Kind::Classic(_) => Ok(()),
            });
            let exists =
                topics.get(partition.topic()).is_some_and(|count| partition.partition() < *count);
            let result = allowed.and_then(|()| match producer {
                _ if !exists => Err(Code::UnknownTopicOrPartition),
                Some(producer) => self.offsets.store_pending(producer, &partition, offset),
                None => self.offsets.store(&partition, offset),
            });
            stored.push((partition, result));
        }
        stored
    }
}
