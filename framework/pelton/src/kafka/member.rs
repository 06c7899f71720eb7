//! The client that is the group's member: joins, hears rebalances, commits, never fetches.
//!
//! The rebalance callback only records the event; the poll loop acknowledges it when the engine
//! says so. Exactly once, with exactly the event's list: anything else leaves librdkafka waiting
//! for ever (FACTS).

use std::collections::{BTreeMap, VecDeque};
use std::mem::ManuallyDrop;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use async_trait::async_trait;
use pelton_engine::CommitStatus;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};

use crate::kafka::credentials::Attached;
use crate::kafka::errors::{Fatal, cause, commit_status, fatal, port_error, refusal};
use crate::kafka::ffi::{CommitQueue, create_partition_object, generation, set_credentials};
use crate::kafka::hearing::log;
use crate::kafka::settings::ClientSettings;
use crate::kafka::tokens::introduce;
use crate::ports::{
    CommitEntry, Committed, CommittedOffsets, Done, Member, MemberEvent, PortError, Waker,
};
use crate::refusal::{Operation, Refusal};
use crate::refusals::Refusals;
use crate::topic_partition::TopicPartition;

/// A blocking read of committed offsets waits so long at most; with a transaction open on the
/// partition Kafka answers only when it ends.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(5);

/// Closing may take so long before the client is left alone.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// A broken client that leaves its group is served so often, so long each time.
const LEAVING_POLLS: u32 = 20;
const LEAVING_POLL: Duration = Duration::from_millis(50);

/// A broken client asks so often at most whether its coordinator is there, before it is left
/// alone: without heartbeats its session ends by itself.
const QUESTIONS: u32 = 6;

pub(crate) struct KafkaMember {
    /// First, so that it goes before the client.
    _credentials: Attached,
    commits: CommitQueue<MemberContext>,
    /// The commit that is being answered, topic by topic.
    answering: Option<Answering>,
    consumer: Arc<BaseConsumer<MemberContext>>,
    subscription: Vec<String>,
    incremental: bool,
    is_static: bool,
    again: bool,
    leaves_when_broken: bool,
    waiting: Option<Rebalance>,
    left: bool,
}

/// A commit goes out as one request per topic: librdkafka writes the error of one partition over
/// the success of all others in its request, so a topic that is gone would hide that the others
/// were stored.
struct Answering {
    id: u64,
    requests: usize,
    statuses: Vec<(TopicPartition, CommitStatus)>,
}

struct Rebalance {
    kind: RebalanceKind,
    list: TopicPartitionList,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum RebalanceKind {
    Assign,
    Revoke,
    Lost,
}

/// What the callbacks leave for the poll loop.
pub(crate) struct MemberContext {
    rebalances: Mutex<VecDeque<Rebalance>>,
    errors: Mutex<VecDeque<(KafkaError, String)>>,
    /// While closing nobody would acknowledge later: a deferred one would hang for ever.
    inline: AtomicBool,
    incremental: bool,
    group: String,
    refusals: Arc<Refusals>,
}

impl MemberContext {
    /// What an error says the coordinator or a broker refuses.
    fn refusal(&self, error: &KafkaError, reason: &str) -> Option<Refusal> {
        match error.rdkafka_error_code()? {
            RDKafkaErrorCode::GroupAuthorizationFailed => Some(Refusal::group(&self.group)),
            code => refusal(code, reason),
        }
    }

    /// What became of a partition's commit.
    fn hear_commit(&self, topic: &str, partition: i32, code: RDKafkaErrorCode) {
        match code {
            RDKafkaErrorCode::NoError if self.refusals.are_none() => {}
            RDKafkaErrorCode::NoError => self.refusals.over(&Refusal::group(&self.group)),
            RDKafkaErrorCode::GroupAuthorizationFailed => {
                self.refusals.tell(Refusal::group(&self.group), &code.to_string());
            }
            RDKafkaErrorCode::TopicAuthorizationFailed => {
                self.refusals.tell(Refusal::topic(Operation::Read, topic), &code.to_string());
            }
            code => tracing::warn!(topic, partition, %code, "a commit was not accepted"),
        }
    }
}

impl ClientContext for MemberContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(refusal) = self.refusal(&error, reason) {
            self.refusals.tell(refusal, cause(reason));
        }
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        errors.push_back((error, reason.to_owned()));
    }
}

impl ConsumerContext for MemberContext {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        error: RDKafkaRespErr,
        list: &mut TopicPartitionList,
    ) {
        let assign = error == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        if self.inline.load(Ordering::Acquire) {
            let answer = match (assign, self.incremental) {
                (true, true) => consumer.incremental_assign(&TopicPartitionList::new()),
                (true, false) => consumer.assign(&TopicPartitionList::new()),
                (false, true) => consumer.incremental_unassign(list),
                (false, false) => consumer.unassign(),
            };
            if let Err(error) = answer {
                tracing::debug!(%error, "acknowledging while closing");
            }
            return;
        }
        let kind = match (assign, consumer.assignment_lost()) {
            (true, _) => RebalanceKind::Assign,
            (false, true) => RebalanceKind::Lost,
            (false, false) => RebalanceKind::Revoke,
        };
        let mut rebalances = self.rebalances.lock().unwrap_or_else(PoisonError::into_inner);
        rebalances.push_back(Rebalance { kind, list: list.clone() });
    }
}

/// How the member takes part in its group.
pub(crate) struct Membership {
    pub(crate) subscription: Vec<String>,
    /// Cooperative or KIP-848: partitions come and go one by one.
    pub(crate) incremental: bool,
    /// It has a group instance id: a restart keeps its partitions, so closing must not leave.
    pub(crate) is_static: bool,
    /// KIP-848: a static member that leaves keeps its place for the next of its name. In a
    /// classic group the next one takes the place of one that never left.
    pub(crate) broker_assigns: bool,
    /// It takes the place of one that broke: the group may not have let go of that one yet.
    pub(crate) again: bool,
}

impl KafkaMember {
    pub(crate) fn join(
        settings: &ClientSettings,
        membership: Membership,
        waker: Waker,
    ) -> Result<Self, PortError> {
        let context = MemberContext {
            rebalances: Mutex::default(),
            errors: Mutex::default(),
            inline: AtomicBool::new(false),
            incremental: membership.incremental,
            group: settings.group_id.clone(),
            refusals: Arc::clone(&settings.refusals),
        };
        let mut consumer: BaseConsumer<MemberContext> = settings
            .member()
            .create_with_context(context)
            .map_err(|error| port_error("the member's client", &error))?;
        let wake = Arc::clone(&waker);
        consumer.set_nonempty_callback(move || wake());
        let consumer = Arc::new(consumer);
        if let Some(tokens) = &settings.tokens {
            introduce(tokens, &consumer);
        }
        let told = Arc::clone(&consumer);
        let credentials = settings
            .credentials
            .attach(move |user, password| set_credentials(told.client(), user, password));
        let member = Self {
            _credentials: credentials,
            commits: CommitQueue::new(Arc::clone(&consumer), waker),
            answering: None,
            consumer,
            subscription: membership.subscription,
            incremental: membership.incremental,
            is_static: membership.is_static,
            again: membership.again,
            leaves_when_broken: membership.broker_assigns || !membership.is_static,
            waiting: None,
            left: false,
        };
        member.subscribe().map_err(|error| port_error("subscribing", &error))?;
        Ok(member)
    }

    fn subscribe(&self) -> Result<(), KafkaError> {
        let topics: Vec<&str> = self.subscription.iter().map(String::as_str).collect();
        self.consumer.subscribe(&topics)
    }

    fn next_rebalance(&mut self) -> Option<MemberEvent> {
        if self.waiting.is_some() {
            return None;
        }
        let context = self.consumer.context();
        let rebalance =
            context.rebalances.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
        let partitions = names(&rebalance.list);
        let event = match rebalance.kind {
            RebalanceKind::Assign => MemberEvent::Assigned(partitions),
            RebalanceKind::Revoke => MemberEvent::Revoked(partitions),
            RebalanceKind::Lost => MemberEvent::Lost(partitions),
        };
        self.waiting = Some(rebalance);
        Some(event)
    }

    fn next_answer(&mut self) -> Option<MemberEvent> {
        while let Some(answer) = self.commits.answer() {
            let Some(answering) = self.answering.as_mut().filter(|a| a.id == answer.id) else {
                continue;
            };
            answering.requests = answering.requests.saturating_sub(1);
            for (topic, partition, own) in answer.partitions {
                let code = if own == RDKafkaErrorCode::NoError { answer.error } else { own };
                let status = commit_status(code);
                self.consumer.context().hear_commit(&topic, partition, code);
                answering.statuses.push((TopicPartition::new(topic, partition), status));
            }
            if answering.requests == 0 {
                let Answering { id, statuses, .. } = self.answering.take()?;
                return Some(MemberEvent::CommitAnswered { id, statuses });
            }
        }
        None
    }

    fn next_error(&self) -> Option<MemberEvent> {
        let context = self.consumer.context();
        loop {
            let (error, reason) =
                context.errors.lock().unwrap_or_else(PoisonError::into_inner).pop_front()?;
            // What is refused has been written down; only a KIP-848 member does not survive it.
            let is_said = context.refusal(&error, &reason).is_some_and(|r| r.is_lasting());
            if !is_said || self.consumer.client().fatal_error().is_some() {
                return Some(self.describe(&error, &reason));
            }
        }
    }

    fn describe(&self, error: &KafkaError, reason: &str) -> MemberEvent {
        let code = error.rdkafka_error_code();
        let raised = self.consumer.client().fatal_error();
        let text = raised.as_ref().map_or_else(
            || format!("{error} {reason}").trim().to_owned(),
            |(_, text)| text.clone(),
        );
        let own_shadow =
            |code| self.again && code == RDKafkaErrorCode::UnreleasedInstanceId && raised.is_some();
        let decisive = raised.as_ref().map(|(code, _)| *code).or(code);
        if decisive == Some(RDKafkaErrorCode::GroupAuthorizationFailed) {
            let context = self.consumer.context();
            context.refusals.tell(Refusal::group(&context.group), cause(&text));
        }
        match decisive {
            Some(code) if own_shadow(code) => MemberEvent::Broken(text),
            Some(code) if fatal(code) == Fatal::Fenced => MemberEvent::InstanceFenced(text),
            Some(code) if raised.is_some() && fatal(code) == Fatal::End => MemberEvent::Fatal(text),
            _ if raised.is_some() => MemberEvent::Broken(text),
            _ => MemberEvent::Trouble(text),
        }
    }

    /// Closing a client with a fatal error does not leave the group, and its partitions would
    /// wait for the end of its session: unsubscribing does, without asking anybody back.
    fn leave_broken(&self) {
        self.consumer.context().inline.store(true, Ordering::Release);
        self.consumer.unsubscribe();
        let mut polls = 0;
        while polls < LEAVING_POLLS && self.consumer.assignment().is_ok_and(|a| a.count() > 0) {
            let _events = self.consumer.poll(LEAVING_POLL).is_some();
            polls += 1;
        }
        let _last_word = self.consumer.poll(LEAVING_POLL).is_some();
    }

    /// Is the group's coordinator there? Asked for the committed offsets of anything we read.
    fn coordinator_answers(&self) -> bool {
        let mut list = self.consumer.assignment().unwrap_or_default();
        if list.count() == 0 {
            let topic = self.subscription.iter().find(|topic| !topic.starts_with('^'));
            let Some(topic) = topic else { return true };
            list.add_partition(topic, 0);
        }
        let answer = self.consumer.committed_offsets(list, COMMITTED_TIMEOUT);
        if let Err(error) = &answer {
            tracing::warn!(%error, "the group's coordinator does not answer the broken client");
        }
        answer.is_ok()
    }

    /// Pauses before assigning, so that the member never fetches; the offset is a placeholder.
    fn assign(&self, list: &TopicPartitionList) -> Result<(), KafkaError> {
        let mut start = TopicPartitionList::with_capacity(list.count());
        for element in list.elements() {
            create_partition_object(&self.consumer, element.topic(), element.partition());
            start.add_partition_offset(element.topic(), element.partition(), Offset::Offset(0))?;
        }
        if start.count() > 0
            && let Err(error) = self.consumer.pause(&start)
        {
            // It must be assigned all the same: librdkafka waits for that. What it may fetch
            // now is dropped (`poll`).
            tracing::error!(%error, "the member's partitions could not be paused");
        }
        if self.incremental {
            self.consumer.incremental_assign(&start)
        } else {
            self.consumer.assign(&start)
        }
    }
}

impl Member for KafkaMember {
    fn poll(&mut self) -> Option<MemberEvent> {
        if let Some(event) = self.next_answer() {
            return Some(event);
        }
        // The wake-up comes only once per fill: look until nothing is there. A poll that served
        // a callback and one that found nothing look the same.
        for _ in 0..4 {
            match self.consumer.poll(Duration::ZERO) {
                // Its context has heard it, with the reason.
                Some(Err(_)) => {}
                Some(Ok(_record)) => {
                    return Some(MemberEvent::Trouble("a record came to the member".to_owned()));
                }
                None => {}
            }
            if let Some(event) = self.next_error() {
                return Some(event);
            }
            if let Some(event) = self.next_rebalance() {
                return Some(event);
            }
        }
        None
    }

    fn acknowledge(&mut self) -> Result<(), PortError> {
        let Some(rebalance) = self.waiting.take() else {
            return Ok(());
        };
        let answered = match rebalance.kind {
            RebalanceKind::Assign => self.assign(&rebalance.list),
            RebalanceKind::Revoke | RebalanceKind::Lost if self.incremental => {
                self.consumer.incremental_unassign(&rebalance.list)
            }
            RebalanceKind::Revoke | RebalanceKind::Lost => self.consumer.unassign(),
        };
        answered.map_err(|error| port_error("acknowledging", &error))
    }

    fn commit(&mut self, id: u64, entries: &[CommitEntry]) -> Result<(), PortError> {
        let mut requests: BTreeMap<&str, TopicPartitionList> = BTreeMap::new();
        for entry in entries {
            let (topic, partition) = (entry.partition.topic(), entry.partition.partition());
            let list = requests.entry(topic).or_default();
            let mut element = list.add_partition(topic, partition);
            element
                .set_offset(Offset::Offset(entry.offset))
                .map_err(|error| port_error("the offset to commit", &error))?;
            element.set_metadata(&entry.metadata);
        }
        self.answering = None;
        let mut sent = 0;
        for list in requests.values() {
            match self.commits.commit(list, id) {
                Ok(()) => sent += 1,
                // The partitions of this one are answered as unknown: they are sent again.
                Err(error) if sent > 0 => tracing::warn!(%error, "a part of a commit was not sent"),
                Err(error) => return Err(error),
            }
        }
        self.answering = Some(Answering { id, requests: sent, statuses: Vec::new() });
        Ok(())
    }

    fn committed(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(KafkaCommitted(Arc::downgrade(&self.consumer)))
    }

    fn has_joined(&self) -> bool {
        generation(&self.consumer) > 0
    }

    fn leave(&mut self) {
        if !self.is_static {
            self.consumer.unsubscribe();
        }
        self.left = true;
    }

    fn rejoin(&mut self) {
        self.consumer.unsubscribe();
        if let Err(error) = self.subscribe() {
            tracing::error!(%error, "joining anew");
        }
    }

    fn has_left(&self) -> bool {
        let waiting = self.waiting.is_some()
            || !self
                .consumer
                .context()
                .rebalances
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .is_empty();
        let assigned = || self.consumer.assignment().map_or(0, |list| list.count());
        self.left && !waiting && (self.is_static || assigned() == 0)
    }

    fn close(self: Box<Self>, graceful: bool) {
        if !graceful {
            // The coordinator may be away: librdkafka 2.12.1 can crash in LeaveGroup then.
            let _left_alone = ManuallyDrop::new(self);
            return;
        }
        // Dropping the client closes it; that can take for ever, so it gets a thread of its own.
        let (closed, waiting) = mpsc::channel();
        let close = move || {
            drop(self);
            let _nobody_waits = closed.send(()).is_err();
        };
        let closing = std::thread::Builder::new().name("pelton-close".to_owned()).spawn(close);
        if closing.is_err() || waiting.recv_timeout(CLOSE_TIMEOUT).is_err() {
            tracing::warn!("the member's client did not close in time and is left alone");
        }
    }

    fn retire(self: Box<Self>, done: Done) {
        let retire = move || {
            // As at every end: LeaveGroup without its coordinator can crash librdkafka 2.12.1.
            let answers = (0..QUESTIONS).any(|_| self.coordinator_answers());
            if answers && self.leaves_when_broken {
                self.leave_broken();
            }
            done();
            if answers {
                drop(self); // takes 10 s in a classic group
            } else {
                let _left_alone = ManuallyDrop::new(self);
            }
        };
        let spawned = std::thread::Builder::new().name("pelton-retire".to_owned()).spawn(retire);
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread to end the broken client on");
        }
    }

    #[cfg(feature = "planted-bugs")]
    fn break_for_test(&self) {
        crate::kafka::ffi::raise_fatal(self.consumer.client());
    }
}

impl Drop for KafkaMember {
    /// The client's own end serves callbacks on this thread: they are answered at once, and so is
    /// an event that still waits. Otherwise it would wait for ever (FACTS).
    fn drop(&mut self) {
        self.consumer.context().inline.store(true, Ordering::Release);
        while self.waiting.is_some() || self.next_rebalance().is_some() {
            if let Err(error) = self.acknowledge() {
                tracing::debug!(%error, "acknowledging while closing");
            }
        }
    }
}

/// Reads committed offsets on a blocking thread. It does not keep the client alive: closing it is
/// the member's affair alone.
struct KafkaCommitted(Weak<BaseConsumer<MemberContext>>);

#[async_trait]
impl CommittedOffsets for KafkaCommitted {
    async fn read(&self, partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
        let consumer = Weak::clone(&self.0);
        let read = move || {
            let consumer =
                consumer.upgrade().ok_or_else(|| PortError::passing("the member is closed"))?;
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for partition in &partitions {
                list.add_partition(partition.topic(), partition.partition());
            }
            let answer = consumer
                .committed_offsets(list, COMMITTED_TIMEOUT)
                .map_err(|error| port_error("reading committed offsets", &error))?;
            answer.elements().iter().map(committed).collect()
        };
        tokio::task::spawn_blocking(read).await.map_err(PortError::passing)?
    }
}

fn committed(
    element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>,
) -> Result<Committed, PortError> {
    element.error().map_err(|error| port_error("reading committed offsets", &error))?;
    Ok(Committed {
        partition: TopicPartition::new(element.topic(), element.partition()),
        offset: match element.offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        },
        metadata: element.metadata().to_owned(),
    })
}

fn names(list: &TopicPartitionList) -> Vec<TopicPartition> {
    list.elements().iter().map(|e| TopicPartition::new(e.topic(), e.partition())).collect()
}
