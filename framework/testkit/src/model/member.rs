//! What would librdkafka's member of a group do? Joins, beats, hears, commits, in virtual time.
//!
//! It follows librdkafka 2.12.1 as measured and read, also where that is odd: heartbeats go on
//! while an acknowledgement waits, bad news that comes meanwhile is dropped, and a session that
//! ended is found out later.

mod broker_assigned;
mod classic;
mod commits;
mod rebalance;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{CommitEntry, Committed, MemberEvent, PortError};
use pelton_engine::Time;

use self::commits::Commits;
use self::rebalance::Rebalance;
use super::wire::{
    Answer, Assignor, CallError, CallId, Client, ClientId, Code, GroupRequest, MemberId, Node,
    Request, Wire,
};

/// Before it looks for the coordinator again, or repeats a request that failed.
const BACKOFF: Duration = Duration::from_millis(100);

/// After a refusal that will probably be repeated. Also the time from one Join to the next, where
/// librdkafka does not skip it.
const LONG_BACKOFF: Duration = Duration::from_secs(1);

/// A member's settings.
#[derive(Clone, Debug)]
pub(crate) struct MemberConfig {
    pub(crate) group: Arc<str>,
    pub(crate) assignor: Assignor,
    pub(crate) topics: Vec<Arc<str>>,
    /// Makes it a static member.
    pub(crate) instance: Option<Arc<str>>,
    /// Classic; in KIP-848 the broker's counts, and this one only bounds requests.
    pub(crate) session_timeout: Duration,
    /// Classic; in KIP-848 the broker tells.
    pub(crate) heartbeat_interval: Duration,
    /// `max.poll.interval.ms`: also what the group gives it to give partitions back.
    pub(crate) rebalance_timeout: Duration,
    /// Classic: so often it looks whether its topics have changed.
    pub(crate) metadata_interval: Duration,
    /// It reads committed offsets only where no transaction is open (`read_committed`).
    pub(crate) stable: bool,
    /// It takes the place of one that broke.
    pub(crate) again: bool,
    pub(crate) faults: MemberFaults,
}

impl MemberConfig {
    pub(crate) fn new(group: &str, assignor: Assignor, topics: &[&str]) -> Self {
        Self {
            group: group.into(),
            assignor,
            topics: topics.iter().map(|topic| (*topic).into()).collect(),
            instance: None,
            session_timeout: Duration::from_secs(6),
            heartbeat_interval: Duration::from_secs(1),
            rebalance_timeout: Duration::from_secs(30),
            metadata_interval: Duration::from_secs(5),
            stable: true,
            again: false,
            faults: MemberFaults::default(),
        }
    }

    fn is_broker_assigned(&self) -> bool {
        self.assignor == Assignor::Broker
    }

    fn is_incremental(&self) -> bool {
        matches!(self.assignor, Assignor::CooperativeSticky | Assignor::Broker)
    }
}

/// What the client does wrong, each once in so many times; 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemberFaults {
    /// A rebalance event is told late, by up to `event_delay`.
    pub(crate) late_event: u64,
    pub(crate) event_delay: Duration,
    /// An assignment is told very late, by `stall`.
    pub(crate) stalled_assignment: u64,
    pub(crate) stall: Duration,
    /// The answer of a commit is told late, by up to `answer_delay`.
    pub(crate) late_answer: u64,
    pub(crate) answer_delay: Duration,
    /// What Kafka said of a commit gets lost: it is told as not known.
    pub(crate) lost_answer: u64,
    /// Not by chance but always, as the source of 2.12.1 reads: a full heartbeat (after trouble
    /// with the coordinator) tells only what was confirmed, not an assignment that waits for its
    /// acknowledgement. The group may then give that to another one at once.
    pub(crate) tells_only_confirmed: bool,
    /// Likewise: a static cooperative member that learns from its Join that the group does not
    /// know it keeps what it has, and joins anew with it.
    pub(crate) keeps_what_is_void: bool,
}

/// A client that is one process's member of a group.
#[derive(Debug)]
pub(crate) struct MemberClient {
    id: ClientId,
    config: MemberConfig,
    phase: Phase,
    member: Option<MemberId>,
    /// KIP-848: the member epoch. -1 or 0: none.
    generation: i32,
    is_leader: bool,
    /// What the partitions of its topics were when it joined.
    seen_topics: Vec<Option<i32>>,
    owned: BTreeSet<TopicPartition>,
    /// Eager: an assignment was made, even of nothing.
    has_assignment: bool,
    /// KIP-848: what the broker wants it to have, if that was not looked at yet.
    target: Option<BTreeSet<TopicPartition>>,
    rebalance: Rebalance,
    heartbeat: Heartbeat,
    /// KIP-848: what the next heartbeat is to tell, and what Kafka has confirmed to have heard.
    tells_all: bool,
    confirmed: BTreeSet<TopicPartition>,
    tells_owned: bool,
    /// When the worker looked last, and that it did not for too long.
    polled: Time,
    is_stuck: bool,
    /// Classic: when it sent its last Join.
    asked_to_join: Time,
    /// No question goes to a coordinator before.
    asks_again: Time,
    metadata_due: Time,
    commits: Commits,
    troubles: VecDeque<MemberEvent>,
    leaving: Leaving,
    left: bool,
    ended: Ended,
}

/// Where it stands with its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It has not joined, and will then.
    Out(Option<Time>),
    Joining(CallId),
    Syncing(CallId),
    In,
}

#[derive(Clone, Copy, Debug)]
struct Heartbeat {
    call: Option<CallId>,
    due: Time,
    interval: Duration,
    /// When the coordinator said last that all is well.
    heard: Time,
}

/// What it is about to do when everything is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    No,
    ForGood,
    ToJoinAnew,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    No,
    /// A fatal error: it says nothing any more, and waits for its end.
    Broken,
    Closed,
}

impl MemberClient {
    /// It joins on its first turn.
    pub(crate) fn new(id: ClientId, config: MemberConfig) -> Self {
        let broker_assigned = config.is_broker_assigned();
        let member = broker_assigned.then(|| format!("c{}", id.0).into());
        Self {
            id,
            phase: Phase::Out(Some(Time::ZERO)),
            member,
            generation: if broker_assigned { 0 } else { -1 },
            is_leader: false,
            seen_topics: Vec::new(),
            owned: BTreeSet::new(),
            has_assignment: false,
            target: None,
            rebalance: Rebalance::default(),
            heartbeat: Heartbeat {
                call: None,
                due: Time::ZERO,
                interval: config.heartbeat_interval,
                heard: Time::ZERO,
            },
            tells_all: true,
            tells_owned: false,
            confirmed: BTreeSet::new(),
            polled: Time::ZERO,
            is_stuck: false,
            asked_to_join: Time::ZERO,
            asks_again: Time::ZERO,
            metadata_due: Time::ZERO,
            commits: Commits::default(),
            troubles: VecDeque::new(),
            leaving: Leaving::No,
            left: false,
            ended: Ended::No,
            config,
        }
    }

    /// The next event. After a rebalance event the next one comes when that is acknowledged.
    pub(crate) fn poll(&mut self, wire: &mut Wire<'_>) -> Option<MemberEvent> {
        if self.ended == Ended::Closed {
            return None;
        }
        self.polled = wire.now;
        let was_stuck = std::mem::take(&mut self.is_stuck) && self.ended == Ended::No;
        if was_stuck && self.phase == Phase::Out(None) && self.rebalance.is_none() {
            self.join_at(wire.now);
            self.try_join(wire);
        }
        let answer = self.commits.answered(wire.now);
        answer.or_else(|| self.troubles.pop_front()).or_else(|| self.rebalance.hand_out(wire.now))
    }

    /// Answers the rebalance event that was handed out last.
    pub(crate) fn acknowledge(&mut self, wire: &mut Wire<'_>) -> Result<(), PortError> {
        if self.ended == Ended::Closed {
            return Err(PortError::passing("the member is closed"));
        }
        self.acknowledged(wire);
        Ok(())
    }

    /// One request per topic, answered as [`MemberEvent::CommitAnswered`].
    pub(crate) fn commit(
        &mut self,
        id: u64,
        entries: &[CommitEntry],
        wire: &mut Wire<'_>,
    ) -> Result<(), PortError> {
        if self.ended != Ended::No {
            return Err(PortError::passing("committing: the client can't go on"));
        }
        self.commits.begin(id, entries, wire.now + self.config.session_timeout);
        self.send_commits(wire);
        Ok(())
    }

    /// `tell` hears the answer, within 5 s.
    pub(crate) fn read_committed(
        &mut self,
        partitions: Vec<TopicPartition>,
        tell: Box<dyn FnOnce(Result<Vec<Committed>, PortError>) + Send>,
        wire: &mut Wire<'_>,
    ) {
        if self.ended == Ended::Closed {
            tell(Err(PortError::passing("the member is closed")));
            return;
        }
        self.commits.begin_read(partitions, tell, wire.now);
        self.send_commits(wire);
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.generation > 0
    }

    /// What it has, as acknowledged.
    pub(crate) fn owned(&self) -> &BTreeSet<TopicPartition> {
        &self.owned
    }

    /// The member id and generation, as a transaction needs them.
    pub(crate) fn identity(&self) -> (Option<MemberId>, Option<Arc<str>>, i32) {
        (self.member.clone(), self.config.instance.clone(), self.generation)
    }

    /// Gives everything back and leaves, unless it is static: then it only says so.
    pub(crate) fn leave(&mut self, wire: &mut Wire<'_>) {
        self.left = true;
        if self.config.instance.is_none() && self.ended == Ended::No {
            self.unsubscribe(Leaving::ForGood, wire);
        }
    }

    /// Leaves and joins anew, as one the group does not know.
    pub(crate) fn rejoin(&mut self, wire: &mut Wire<'_>) {
        if self.ended == Ended::No {
            self.unsubscribe(Leaving::ToJoinAnew, wire);
        }
    }

    pub(crate) fn has_left(&self) -> bool {
        let is_static = self.config.instance.is_some();
        self.left && self.rebalance.is_none() && (is_static || self.owned.is_empty())
    }

    /// The end. A graceful one leaves the group, as far as its kind of member does when it is
    /// closed; it also ends a broken one, as `Member::retire` does.
    pub(crate) fn close(&mut self, graceful: bool, wire: &mut Wire<'_>) {
        if self.ended == Ended::Closed {
            return;
        }
        if graceful {
            self.say_goodbye(wire);
        }
        self.ended = Ended::Closed;
        self.commits.close();
    }

    /// A fatal error: from here on it does nothing.
    pub(crate) fn break_with(&mut self, reason: &str) {
        self.end_with(MemberEvent::Broken(reason.to_owned()));
    }

    fn end_with(&mut self, event: MemberEvent) {
        if self.ended == Ended::No {
            self.ended = Ended::Broken;
            self.troubles.push_back(event);
        }
    }

    fn trouble(&mut self, what: String, wire: &mut Wire<'_>) {
        self.troubles.push_back(MemberEvent::Trouble(what));
        wire.wake();
    }

    /// Where the coordinator is thought to be, unless it is too early to ask again.
    fn coordinator(&self, wire: &Wire<'_>) -> Option<Node> {
        if wire.now < self.asks_again {
            return None;
        }
        wire.directory.coordinator(&self.config.group)
    }

    fn ask(
        &self,
        to: Node,
        request: GroupRequest,
        timeout: Duration,
        wire: &mut Wire<'_>,
    ) -> CallId {
        let group = Arc::clone(&self.config.group);
        wire.ask(to, Request::Group { group, request }, timeout)
    }

    fn join_at(&mut self, at: Time) {
        self.phase = Phase::Out(Some(at));
    }

    /// A code every request can be answered with. Returns whether that explains it.
    fn handle_general(&mut self, code: Code, wire: &mut Wire<'_>) -> bool {
        match code {
            Code::NotCoordinator
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress => {
                self.asks_again = wire.now + BACKOFF;
                true
            }
            Code::FencedInstanceId => {
                let text = "fenced: another process has our group instance id";
                self.end_with(MemberEvent::InstanceFenced(text.to_owned()));
                wire.wake();
                true
            }
            _ => false,
        }
    }

    /// Sends what tells the group at once that it is gone, if its kind of member does.
    fn say_goodbye(&self, wire: &mut Wire<'_>) {
        let is_member = self.generation > 0 || self.phase != Phase::Out(None);
        if self.config.is_broker_assigned() {
            if is_member {
                self.send_leaving_beat(wire);
            }
        } else if self.config.instance.is_none() {
            self.send_leave(wire);
        }
    }

    /// What the group was told of us is void: others may have everything.
    fn forget_membership(&mut self) {
        if self.config.is_broker_assigned() {
            self.generation = 0;
            self.tells_all = true;
            self.target = None;
            self.confirmed.clear();
            self.phase = Phase::Out(None);
        } else {
            self.generation = -1;
            self.member = None;
        }
        self.heartbeat.call = None;
    }

    fn check_polls(&mut self, wire: &mut Wire<'_>) {
        let is_member = !matches!(self.phase, Phase::Out(_));
        let leaves = self.leaving != Leaving::No;
        if self.is_stuck
            || leaves
            || !is_member
            || wire.now < self.polled + self.config.rebalance_timeout
        {
            return;
        }
        self.is_stuck = true;
        self.trouble("application maximum poll interval exceeded".to_owned(), wire);
        self.say_goodbye(wire);
        self.forget_membership();
        self.lose_everything(wire);
    }
}

impl Client for MemberClient {
    fn answered(&mut self, call: CallId, answer: Result<Answer, CallError>, wire: &mut Wire<'_>) {
        if self.ended != Ended::No {
            if self.ended == Ended::Broken {
                self.commit_answered(call, answer, wire);
            }
            return;
        }
        let answer = match answer {
            Ok(Answer::Refused(code)) => Err(Failure::Code(code)),
            Ok(Answer::Group(answer)) => Ok(answer),
            Ok(_) => return,
            Err(error) => Err(Failure::Call(error)),
        };
        if self.phase == Phase::Joining(call) {
            if self.config.is_broker_assigned() {
                self.beaten(answer, wire);
            } else {
                self.joined(answer, wire);
            }
        } else if self.phase == Phase::Syncing(call) {
            self.synced(answer, wire);
        } else if self.heartbeat.call == Some(call) {
            self.heartbeat.call = None;
            if self.config.is_broker_assigned() {
                self.beaten(answer, wire);
            } else {
                self.heard(&answer, wire);
            }
        } else {
            let answer = answer.map(Answer::Group).or_else(|failure| match failure {
                Failure::Code(code) => Ok(Answer::Refused(code)),
                Failure::Call(error) => Err(error),
            });
            self.commit_answered(call, answer, wire);
        }
    }

    fn turn(&mut self, wire: &mut Wire<'_>) {
        if self.ended == Ended::Closed {
            return;
        }
        if self.polled == Time::ZERO {
            self.polled = wire.now;
        }
        self.send_commits(wire);
        self.rebalance.announce(wire);
        if self.ended == Ended::Broken {
            return;
        }
        self.check_polls(wire);
        if self.config.is_broker_assigned() {
            self.turn_broker_assigned(wire);
        } else {
            self.turn_classic(wire);
        }
    }

    fn wake(&self) -> Option<Time> {
        if self.ended == Ended::Closed {
            return None;
        }
        let own = [self.rebalance.wake(), self.commits.wake()].into_iter().flatten();
        if self.ended == Ended::Broken {
            return own.min();
        }
        let group = match self.phase {
            Phase::Out(at) => at,
            Phase::Joining(_) | Phase::Syncing(_) => None,
            Phase::In => self.wake_in(),
        };
        let is_member = !matches!(self.phase, Phase::Out(_)) && self.leaving == Leaving::No;
        let is_watched = is_member && !self.is_stuck;
        let polls = is_watched.then(|| self.polled + self.config.rebalance_timeout);
        own.chain(group).chain(polls).min()
    }
}

/// Why a request to the coordinator brought nothing.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Code(Code),
    Call(CallError),
}

impl MemberClient {
    fn wake_in(&self) -> Option<Time> {
        if self.leaving != Leaving::No {
            return None;
        }
        let beat = self.heartbeat.call.is_none().then_some(self.heartbeat.due);
        let classic = !self.config.is_broker_assigned() && self.rebalance.is_none();
        let session = classic.then(|| self.heartbeat.heard + self.config.session_timeout);
        let metadata = classic.then_some(self.metadata_due);
        [beat, session, metadata].into_iter().flatten().min()
    }
}
