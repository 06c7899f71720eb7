//! How do commits get to the coordinator and back, and committed offsets?

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{CommitEntry, Committed, MemberEvent, PortError};
use pelton_engine::{CommitStatus, Time};

use super::{BACKOFF, Leaving, MemberClient, Phase};
use crate::model::wire::{
    Answer, CallError, CallId, Code, GroupAnswer, GroupRequest, MemberId, StoredOffset, Wire,
};

/// A read waits so long for a transaction to end, or for a coordinator.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

type Tell = Box<dyn FnOnce(Result<Vec<Committed>, PortError>) + Send>;

#[derive(Debug, Default)]
pub(super) struct Commits {
    requests: Vec<CommitRequest>,
    /// The commit whose answer is waited for; what a former one brings is dropped.
    answering: Option<Answering>,
    answers: VecDeque<CommitAnswer>,
    reads: Vec<Read>,
}

#[derive(Debug)]
struct CommitAnswer {
    event: MemberEvent,
    /// Not told before.
    from: Time,
    /// The worker was woken.
    announced: bool,
}

#[derive(Debug)]
struct Answering {
    id: u64,
    requests: usize,
    statuses: Vec<(TopicPartition, CommitStatus)>,
}

/// A topic's part of a commit. It is repeated until it is answered or out of time.
#[derive(Debug)]
struct CommitRequest {
    id: u64,
    offsets: Vec<(TopicPartition, StoredOffset)>,
    /// As it was when this was sent first: repeating does not change it.
    identity: Option<(Option<MemberId>, i32)>,
    until: Time,
    place: Place,
    /// Sent, and no answer came: it may be stored.
    may_be_stored: bool,
}

struct Read {
    partitions: Vec<TopicPartition>,
    tell: Option<Tell>,
    until: Time,
    place: Place,
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Read {{ {:?}, until {:?}, {:?} }}", self.partitions, self.until, self.place)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// To be sent then.
    Due(Time),
    Sent(CallId),
}

impl Commits {
    pub(super) fn begin(&mut self, id: u64, entries: &[CommitEntry], until: Time) {
        let mut by_topic: BTreeMap<Arc<str>, Vec<(TopicPartition, StoredOffset)>> = BTreeMap::new();
        for entry in entries {
            let stored = StoredOffset { offset: entry.offset, metadata: entry.metadata.clone() };
            let topic = by_topic.entry(entry.partition.topic_name()).or_default();
            topic.push((entry.partition.clone(), stored));
        }
        self.answering = Some(Answering { id, requests: by_topic.len(), statuses: Vec::new() });
        self.requests.extend(by_topic.into_values().map(|offsets| CommitRequest {
            id,
            offsets,
            identity: None,
            until,
            place: Place::Due(Time::ZERO),
            may_be_stored: false,
        }));
    }

    pub(super) fn begin_read(&mut self, partitions: Vec<TopicPartition>, tell: Tell, now: Time) {
        let place = Place::Due(Time::ZERO);
        self.reads.push(Read { partitions, tell: Some(tell), until: now + READ_TIMEOUT, place });
    }

    /// An answer whose time has come.
    pub(super) fn answered(&mut self, now: Time) -> Option<MemberEvent> {
        let at = self.answers.iter().position(|answer| answer.from <= now)?;
        self.answers.remove(at).map(|answer| answer.event)
    }

    pub(super) fn wake(&self) -> Option<Time> {
        let requests = self.requests.iter().map(|request| (request.place, request.until));
        let reads = self.reads.iter().map(|read| (read.place, read.until));
        let due = requests.chain(reads).map(|(place, until)| match place {
            Place::Due(at) => at.min(until),
            Place::Sent(_) => until,
        });
        let late = self.answers.iter().filter(|answer| !answer.announced);
        due.chain(late.map(|answer| answer.from)).min()
    }

    pub(super) fn close(&mut self) {
        for read in self.reads.drain(..) {
            read.end(Err(PortError::passing("the member is closed")));
        }
        self.requests.clear();
        self.answers.clear();
        self.answering = None;
    }
}

impl Read {
    fn end(self, result: Result<Vec<Committed>, PortError>) {
        if let Some(tell) = self.tell {
            tell(result);
        }
    }
}

impl MemberClient {
    /// Sends what is due, gives up what is out of time.
    pub(super) fn send_commits(&mut self, wire: &mut Wire<'_>) {
        self.give_up(wire);
        let ready = |place: Place| matches!(place, Place::Due(at) if at <= wire.now);
        let anything = self.commits.requests.iter().any(|request| ready(request.place))
            || self.commits.reads.iter().any(|read| ready(read.place));
        if anything {
            self.send_due(wire);
        }
        for answer in &mut self.commits.answers {
            if !answer.announced && answer.from <= wire.now {
                answer.announced = true;
                wire.wake();
            }
        }
    }

    fn send_due(&mut self, wire: &mut Wire<'_>) {
        let to = self.coordinator(wire);
        let again = Place::Due(wire.now + BACKOFF);
        let mut commits = std::mem::take(&mut self.commits);
        for request in &mut commits.requests {
            if !matches!(request.place, Place::Due(at) if at <= wire.now) {
                continue;
            }
            request.place = match to {
                None => again,
                Some(to) => {
                    let (member, generation) = request
                        .identity
                        .get_or_insert_with(|| (self.member.clone(), self.generation))
                        .clone();
                    let instance = self.config.instance.clone();
                    let offsets = request.offsets.clone();
                    let timeout = request.until.since(wire.now);
                    let asked = GroupRequest::Commit { member, instance, generation, offsets };
                    Place::Sent(self.ask(to, asked, timeout, wire))
                }
            };
        }
        for read in &mut commits.reads {
            if !matches!(read.place, Place::Due(at) if at <= wire.now) {
                continue;
            }
            read.place = match to {
                None => again,
                Some(to) => {
                    let partitions = read.partitions.clone();
                    let asked = GroupRequest::Committed { partitions, stable: self.config.stable };
                    Place::Sent(self.ask(to, asked, read.until.since(wire.now), wire))
                }
            };
        }
        self.commits = commits;
    }

    fn give_up(&mut self, wire: &mut Wire<'_>) {
        let now = wire.now;
        let late = |until: Time| until <= now;
        if self.commits.requests.iter().any(|request| late(request.until)) {
            let (over, rest) = std::mem::take(&mut self.commits.requests)
                .into_iter()
                .partition(|request| late(request.until));
            self.commits.requests = rest;
            let over: Vec<CommitRequest> = over;
            for request in over {
                let unknown = request.may_be_stored || matches!(request.place, Place::Sent(_));
                let status = if unknown { CommitStatus::Unknown } else { CommitStatus::Retry };
                let statuses = request.offsets.into_iter().map(|(p, _)| (p, status)).collect();
                self.told(request.id, statuses, wire);
            }
        }
        while let Some(at) = self.commits.reads.iter().position(|read| late(read.until)) {
            let read = self.commits.reads.remove(at);
            read.end(Err(PortError::passing("reading committed offsets: timed out")));
        }
    }

    pub(super) fn commit_answered(
        &mut self,
        call: CallId,
        answer: Result<Answer, CallError>,
        wire: &mut Wire<'_>,
    ) {
        let sent = Place::Sent(call);
        if let Some(at) = self.commits.requests.iter().position(|request| request.place == sent) {
            self.hear_commit(at, answer, wire);
        } else if let Some(at) = self.commits.reads.iter().position(|read| read.place == sent) {
            self.hear_read(at, answer, wire);
        }
    }

    fn hear_commit(&mut self, at: usize, answer: Result<Answer, CallError>, wire: &mut Wire<'_>) {
        let results = match answer {
            Ok(Answer::Group(GroupAnswer::Committed(results))) => Ok(results),
            Ok(Answer::Refused(code)) => Err(code),
            Ok(_) => return,
            Err(_) => {
                self.commits.requests[at].may_be_stored = true;
                Err(Code::NotCoordinator)
            }
        };
        let results = match results {
            Ok(results) if !results.iter().all(|(_, r)| r.is_err_and(is_passing)) => results,
            _ => {
                self.asks_again = wire.now + BACKOFF;
                self.commits.requests[at].place = Place::Due(wire.now + BACKOFF);
                return;
            }
        };
        let request = self.commits.requests.remove(at);
        let worst = results.iter().find_map(|(_, result)| result.err());
        let statuses =
            results.into_iter().map(|(p, result)| (p, commit_status(result.err()))).collect();
        self.told(request.id, statuses, wire);
        if let Some(code) = worst {
            self.learn_from_commit(code, wire);
        }
    }

    /// What a refused commit says about the membership.
    fn learn_from_commit(&mut self, code: Code, wire: &mut Wire<'_>) {
        if self.leaving != Leaving::No {
            return;
        }
        let joins = matches!(self.phase, Phase::Joining(_) | Phase::Syncing(_));
        let is_steady = !joins && self.rebalance.is_none();
        match code {
            Code::FencedInstanceId => {
                self.handle_general(code, wire);
            }
            Code::UnknownMemberId | Code::StaleMemberEpoch if self.config.is_broker_assigned() => {
                self.heartbeat.due = wire.now;
            }
            Code::UnknownMemberId | Code::IllegalGeneration
                if is_steady && !self.config.is_broker_assigned() =>
            {
                self.cast_out(code, wire);
            }
            // Found out when the event under way is acknowledged.
            Code::UnknownMemberId if !self.config.is_broker_assigned() => self.member = None,
            _ => {}
        }
    }

    /// A part of a commit has its answer; with the last part the worker hears it.
    fn told(
        &mut self,
        id: u64,
        statuses: Vec<(TopicPartition, CommitStatus)>,
        wire: &mut Wire<'_>,
    ) {
        let Some(answering) = self.commits.answering.as_mut().filter(|a| a.id == id) else {
            return;
        };
        answering.requests = answering.requests.saturating_sub(1);
        answering.statuses.extend(statuses);
        if answering.requests > 0 {
            return;
        }
        let Some(Answering { id, mut statuses, .. }) = self.commits.answering.take() else {
            return;
        };
        let faults = &self.config.faults;
        let mut from = wire.now;
        if wire.random.one_in(faults.late_answer) {
            from = from + wire.random.duration(Duration::ZERO, faults.answer_delay);
        }
        if wire.random.one_in(faults.lost_answer) {
            from = from + self.config.session_timeout;
            for (_, status) in &mut statuses {
                *status = CommitStatus::Unknown;
            }
        }
        let event = MemberEvent::CommitAnswered { id, statuses };
        let announced = from <= wire.now;
        self.commits.answers.push_back(CommitAnswer { event, from, announced });
        if announced {
            wire.wake();
        }
    }

    fn hear_read(&mut self, at: usize, answer: Result<Answer, CallError>, wire: &Wire<'_>) {
        let results = match answer {
            Ok(Answer::Group(GroupAnswer::Offsets(results)))
                if results.iter().all(|(_, result)| result.is_ok()) =>
            {
                results
            }
            Ok(Answer::Group(GroupAnswer::Offsets(_))) => {
                // A transaction is open.
                self.commits.reads[at].place = Place::Due(wire.now + BACKOFF);
                return;
            }
            _ => {
                self.asks_again = wire.now + BACKOFF;
                self.commits.reads[at].place = Place::Due(wire.now + BACKOFF);
                return;
            }
        };
        let read = self.commits.reads.remove(at);
        let committed = results.into_iter().map(|(partition, result)| {
            let stored = result.ok().flatten();
            let (offset, metadata) =
                stored.map_or((None, String::new()), |s| (Some(s.offset), s.metadata));
            Committed { partition, offset, metadata }
        });
        read.end(Ok(committed.collect()));
    }
}

/// Repeated by the client itself.
fn is_passing(code: Code) -> bool {
    matches!(
        code,
        Code::NotCoordinator | Code::CoordinatorNotAvailable | Code::CoordinatorLoadInProgress
    )
}

/// As `kafka/errors.rs` maps Kafka's codes.
fn commit_status(code: Option<Code>) -> CommitStatus {
    match code {
        None => CommitStatus::Accepted,
        Some(Code::UnknownMemberId | Code::FencedMemberEpoch | Code::FencedInstanceId) => {
            CommitStatus::MemberLost
        }
        Some(Code::UnknownTopicOrPartition) => CommitStatus::TopicGone,
        Some(Code::RequestTimedOut) => CommitStatus::Unknown,
        Some(_) => CommitStatus::Retry,
    }
}
