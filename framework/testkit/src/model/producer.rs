//! What does a client that writes do by itself? librdkafka's idempotent producer: batches in order,
//! retries in order, deadlines, and reports.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{OutRecord, PortError, Reports, SendError};
use pelton_engine::Time;

use super::lane::{Batch, Lane, Message};
use super::wire::{
    Answer, CallError, CallId, Client, ClientId, Code, LogRecord, Node, ProducerBatch,
    ProducerIdentity, Request, Wire,
};
use crate::memory::WALL_CLOCK_BEGIN_MS;
use crate::murmur2::partition_for_key;

/// A larger record is refused at once (`message.max.bytes`, librdkafka's default).
const LARGEST: usize = 1_000_000;

/// How a producer behaves. The defaults are Pelton's, or else librdkafka's.
#[derive(Clone, Debug)]
pub(crate) struct ProducerConfig {
    pub(crate) idempotent: bool,
    /// Its identity and the partitions it may write come from its transactions.
    pub(crate) transactional: bool,
    /// `linger.ms`.
    pub(crate) linger: Duration,
    /// A record that is not stored by then has failed (`message.timeout.ms`).
    pub(crate) delivery_timeout: Duration,
    /// `request.timeout.ms`.
    pub(crate) request_timeout: Duration,
    /// `retry.backoff.ms`.
    pub(crate) backoff: Duration,
    /// So often a batch is tried again.
    pub(crate) retries: u32,
    /// So many batches of a partition are under way at most.
    pub(crate) in_flight: usize,
    /// So many undelivered records it takes.
    pub(crate) queue_records: usize,
    pub(crate) batch_records: usize,
    /// A topic that is not known for so long does not exist (`topic.metadata.propagation.max.ms`).
    pub(crate) topic_propagation: Duration,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            idempotent: true,
            transactional: false,
            linger: Duration::from_millis(5),
            delivery_timeout: Duration::from_millis(7_500),
            request_timeout: Duration::from_secs(30),
            backoff: Duration::from_millis(100),
            retries: u32::MAX,
            in_flight: 5,
            queue_records: 10_000,
            batch_records: 100,
            topic_propagation: Duration::from_secs(30),
        }
    }
}

/// A report that waits to be delivered: to whom, of which ticket, and what became of it.
pub(crate) type Report = (Arc<dyn Reports>, u64, Result<(), PortError>);

/// librdkafka's producer, and the one that takes its place when it is broken.
pub(crate) struct ProducerClient {
    id: ClientId,
    config: ProducerConfig,
    /// Counts the clients: broken ones are replaced.
    number: u64,
    state: State,
    identity: Identity,
    /// What is under way is waited for; then the identity is changed.
    is_draining: bool,
    lanes: BTreeMap<TopicPartition, Lane>,
    /// Records of topics that are not known yet, with the partition that was asked for.
    homeless: VecDeque<(Arc<str>, Option<i32>, Message)>,
    under_way: BTreeMap<CallId, Vec<(TopicPartition, Batch)>>,
    undelivered: usize,
    /// Partitions of the open transaction.
    registered: BTreeSet<TopicPartition>,
    /// Records that failed in the open transaction.
    failures: usize,
    reports: Vec<Report>,
    wake: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// It lost its place, or a test breaks it.
    Broken(String),
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Identity {
    /// To be asked for, not before then.
    Wanted(Time),
    Asked(CallId),
    Known(ProducerIdentity),
}

impl ProducerClient {
    pub(crate) const fn new(id: ClientId, config: ProducerConfig) -> Self {
        Self {
            id,
            config,
            number: 1,
            state: State::Whole,
            identity: Identity::Wanted(Time::ZERO),
            is_draining: false,
            lanes: BTreeMap::new(),
            homeless: VecDeque::new(),
            under_way: BTreeMap::new(),
            undelivered: 0,
            registered: BTreeSet::new(),
            failures: 0,
            reports: Vec::new(),
            wake: Some(Time::ZERO),
        }
    }

    pub(crate) const fn id(&self) -> ClientId {
        self.id
    }

    /// Queues a record; `reports` hears of it once, unless this fails.
    pub(crate) fn send(
        &mut self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
        wire: &mut Wire<'_>,
    ) -> Result<(), SendError> {
        let refused = |reason: &str| SendError::Refused(PortError::lasting(reason));
        match &self.state {
            State::Whole => {}
            State::Closed => return Err(refused("the producer is closed")),
            State::Broken(reason) => {
                return Err(SendError::Broken { client: self.number, reason: reason.clone() });
            }
        }
        if record.bytes() > LARGEST {
            return Err(SendError::Refused(PortError::passing("the record is too large")));
        }
        if self.undelivered >= self.config.queue_records {
            return Err(SendError::Full);
        }
        let wall_ms = i64::try_from(wire.now.since(Time::ZERO).as_millis()).unwrap_or(i64::MAX);
        let stored = LogRecord {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: record.headers.clone(),
            timestamp_ms: record
                .timestamp_ms
                .or_else(|| Some(WALL_CLOCK_BEGIN_MS.saturating_add(wall_ms))),
        };
        let message = Message {
            record: Arc::new(stored),
            ticket,
            reports: Arc::clone(reports),
            sent: wire.now,
            deadline: wire.now + self.config.delivery_timeout,
        };
        let count = wire.directory.partitions(&record.topic);
        if let (Some(partition), Some(count)) = (record.partition, count)
            && !(0..count).contains(&partition)
        {
            let unknown = PortError::passing("sending: unknown partition");
            return Err(SendError::Refused(unknown));
        }
        self.undelivered += 1;
        if count.is_some() {
            self.find_homes(wire); // what waits for the same topic was sent before
        }
        match count {
            Some(count) => self.place(&record.topic, record.partition, count, message, wire),
            None => {
                self.homeless.push_back((Arc::clone(&record.topic), record.partition, message));
                self.wake_at(wire.now + self.config.backoff);
            }
        }
        Ok(())
    }

    /// Puts a new client in the place of the broken one with this number. What that had not
    /// delivered has failed, though it may still arrive.
    ///
    /// # Errors
    ///
    /// None as yet: the port may fail.
    pub(crate) fn renew(&mut self, client: u64, wire: &mut Wire<'_>) -> Result<(), PortError> {
        if self.number == client && self.state != State::Closed {
            self.purge("the client was replaced");
            self.number += 1;
            self.state = State::Whole;
            self.identity = Identity::Wanted(Time::ZERO);
            self.pump(wire);
        }
        Ok(())
    }

    /// It has a fatal error: it refuses everything until it is renewed.
    pub(crate) fn break_with(&mut self, reason: &str) {
        if self.state == State::Whole {
            self.state = State::Broken(reason.to_owned());
        }
    }

    /// Ends it; what is undelivered is dropped, though what is under way may still arrive.
    pub(crate) fn close(&mut self, _graceful: bool, _wire: &mut Wire<'_>) {
        self.purge("the client was closed");
        self.state = State::Closed;
        self.wake = None;
    }

    /// The reports that wait to be delivered, without any lock held.
    pub(crate) fn take_reports(&mut self) -> Vec<Report> {
        std::mem::take(&mut self.reports)
    }

    /// Transactional: it has this identity from now on, and begins its numbers anew.
    pub(super) fn take_identity(&mut self, producer: ProducerIdentity) {
        self.identity = Identity::Known(producer);
        self.is_draining = false;
        self.lanes.values_mut().for_each(Lane::begin_anew);
    }

    /// Where there is something to write that is not part of the transaction yet.
    pub(super) fn unregistered(&self) -> Vec<TopicPartition> {
        let waits = self.lanes.iter().filter(|(_, lane)| !lane.is_empty());
        let waits = waits.map(|(partition, _)| partition);
        waits.filter(|partition| !self.registered.contains(partition)).cloned().collect()
    }

    /// These partitions are part of the transaction.
    pub(super) fn register(&mut self, partitions: Vec<TopicPartition>, wire: &mut Wire<'_>) {
        self.registered.extend(partitions);
        self.pump(wire);
    }

    /// The transaction is over.
    pub(super) fn unregister_all(&mut self) {
        self.registered.clear();
        self.failures = 0;
    }

    pub(super) const fn undelivered(&self) -> usize {
        self.undelivered
    }

    /// How many records of the transaction have failed.
    pub(super) const fn failures(&self) -> usize {
        self.failures
    }

    /// Why it can't go on.
    pub(super) fn broken(&self) -> Option<&str> {
        match &self.state {
            State::Broken(reason) => Some(reason),
            State::Whole | State::Closed => None,
        }
    }

    /// Fails what is not under way. Are sequence numbers missing now?
    pub(super) fn drop_queued(&mut self, reason: &str) -> bool {
        let mut dropped = Vec::new();
        let mut is_missing = self.is_draining;
        for lane in self.lanes.values_mut() {
            is_missing |= !lane.again.is_empty();
            dropped.extend(lane.again.drain(..).flat_map(|batch| batch.messages));
            dropped.extend(lane.waiting.drain(..));
        }
        dropped.extend(self.homeless.drain(..).map(|(_, _, message)| message));
        self.fail(dropped, reason);
        is_missing
    }

    /// Reports everything as failed, and forgets it.
    fn purge(&mut self, reason: &str) {
        let flying = std::mem::take(&mut self.under_way).into_values().flatten();
        let flying = flying.flat_map(|(_, batch)| batch.messages);
        let mut all: Vec<Message> = flying.collect();
        for lane in std::mem::take(&mut self.lanes).into_values() {
            all.extend(lane.again.into_iter().flat_map(|batch| batch.messages));
            all.extend(lane.waiting);
        }
        all.extend(self.homeless.drain(..).map(|(_, _, message)| message));
        all.sort_by_key(|message| message.sent);
        self.fail(all, reason);
        self.is_draining = false;
    }

    fn fail(&mut self, messages: impl IntoIterator<Item = Message>, reason: &str) {
        for message in messages {
            self.undelivered -= 1;
            self.failures += 1;
            let failed = Err(PortError::passing(format!("delivering: {reason}")));
            self.reports.push((message.reports, message.ticket, failed));
        }
    }

    /// Puts a record into its partition's lane: Java's murmur2 for a key, chance without one.
    fn place(
        &mut self,
        topic: &Arc<str>,
        partition: Option<i32>,
        count: i32,
        message: Message,
        wire: &mut Wire<'_>,
    ) {
        let key = message.record.key.as_ref().filter(|key| !key.is_empty());
        let partition = match (partition, key) {
            (Some(partition), _) => partition,
            (None, Some(key)) => partition_for_key(key, count),
            (None, None) => {
                let chosen = wire.random.below(u64::from(count.unsigned_abs()));
                i32::try_from(chosen).unwrap_or(0)
            }
        };
        let partition = TopicPartition::new(Arc::clone(topic), partition);
        let lane = self.lanes.entry(partition).or_default();
        let sent = message.sent;
        lane.waiting.push_back(message);
        if lane.waiting.len() == self.config.batch_records {
            self.pump(wire);
        } else {
            self.wake_at(sent + self.config.linger);
        }
    }

    fn wake_at(&mut self, at: Time) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Does everything that can be done now, and finds out when more can.
    fn pump(&mut self, wire: &mut Wire<'_>) {
        self.wake = None;
        if self.state == State::Closed {
            return;
        }
        self.find_homes(wire);
        self.expire(wire);
        if self.state == State::Whole {
            self.settle_identity(wire);
            let identity = match self.identity {
                Identity::Known(producer) => Some(Some(producer)),
                _ => (!self.config.idempotent).then_some(None),
            };
            if let Some(producer) = identity.filter(|_| !self.is_draining) {
                self.send_batches(producer, wire);
            }
        }
        self.plan(wire.now);
    }

    fn find_homes(&mut self, wire: &mut Wire<'_>) {
        for (topic, partition, message) in std::mem::take(&mut self.homeless) {
            match wire.directory.partitions(&topic) {
                Some(count) if partition.is_none_or(|partition| partition < count) => {
                    self.place(&topic, partition, count, message, wire);
                }
                Some(_) => self.fail([message], "unknown partition"),
                None if message.sent + self.config.topic_propagation <= wire.now => {
                    self.fail([message], "unknown topic");
                }
                None if message.deadline <= wire.now => self.fail([message], "timed out"),
                None => self.homeless.push_back((topic, partition, message)),
            }
        }
    }

    /// Fails what is too old and not under way. If it was under way before, its sequence numbers
    /// are taken: a new identity begins anew.
    fn expire(&mut self, wire: &Wire<'_>) {
        let mut dead = Vec::new();
        for lane in self.lanes.values_mut() {
            let (old, was_sent) = lane.take_expired(wire.now);
            self.is_draining |= was_sent && self.config.idempotent;
            dead.extend(old);
        }
        self.fail(dead, "timed out");
    }

    /// Asks for an identity if it needs one.
    fn settle_identity(&mut self, wire: &mut Wire<'_>) {
        if !self.config.idempotent || self.config.transactional {
            return;
        }
        if self.is_draining && self.under_way.is_empty() {
            self.is_draining = false;
            self.identity = Identity::Wanted(wire.now);
            self.lanes.values_mut().for_each(Lane::begin_anew);
        }
        if matches!(self.identity, Identity::Wanted(from) if from <= wire.now)
            && wire.directory.nodes > 0
        {
            let node = wire.random.below(wire.directory.nodes as u64);
            let request = Request::InitProducer {
                transactional_id: None,
                timeout: Duration::ZERO,
                known: None,
            };
            let node = usize::try_from(node).unwrap_or(0);
            self.identity = Identity::Asked(wire.ask(node, request, self.config.request_timeout));
        }
    }

    /// One request per leader, with what can go of each lane.
    fn send_batches(&mut self, producer: Option<ProducerIdentity>, wire: &mut Wire<'_>) {
        let mut by_leader: BTreeMap<Node, Vec<(TopicPartition, Batch)>> = BTreeMap::new();
        for (partition, lane) in &mut self.lanes {
            if lane.is_draining && lane.flying.is_empty() {
                lane.is_draining = false;
            }
            let is_outside = self.config.transactional && !self.registered.contains(partition);
            if lane.quiet_until > wire.now || lane.is_draining || lane.is_empty() || is_outside {
                continue;
            }
            let Some(leader) = wire.directory.leader(partition) else {
                lane.quiet_until = wire.now + self.config.backoff;
                continue;
            };
            // What went to the leader before comes back first: it could be overtaken.
            if lane.leader != Some(leader) && !lane.flying.is_empty() {
                lane.is_draining = true;
                continue;
            }
            lane.leader = Some(leader);
            while lane.has_room(&self.config)
                && let Some(batch) = lane.next_batch(wire.now, &self.config)
            {
                lane.flying.insert(batch.number);
                by_leader.entry(leader).or_default().push((partition.clone(), batch));
            }
        }
        for (leader, batches) in by_leader {
            let written = batches.iter().map(|(partition, batch)| ProducerBatch {
                partition: partition.clone(),
                producer: producer.map(|producer| (producer, batch.sequence)),
                transactional: self.config.transactional,
                records: batch.messages.iter().map(|m| Arc::clone(&m.record)).collect(),
            });
            let request = Request::Produce { batches: written.collect() };
            let deadlines = batches.iter().filter_map(|(_, batch)| batch.messages.first());
            let until = deadlines.map(|message| message.deadline).min();
            let left = until.map_or(Duration::ZERO, |until| until.since(wire.now));
            let call = wire.ask(leader, request, left.min(self.config.request_timeout));
            self.under_way.insert(call, batches);
        }
    }

    /// What became of a batch.
    fn settle(
        &mut self,
        partition: &TopicPartition,
        mut batch: Batch,
        result: Result<(), Code>,
        now: Time,
    ) {
        let Some(lane) = self.lanes.get_mut(partition) else {
            return;
        };
        lane.flying.remove(&batch.number);
        let is_fatal = match result {
            Ok(()) | Err(Code::DuplicateSequenceNumber) => {
                self.undelivered -= batch.messages.len();
                let stored = batch.messages.into_iter();
                self.reports.extend(stored.map(|m| (m.reports, m.ticket, Ok(()))));
                return;
            }
            Err(Code::OutOfOrderSequenceNumber) => {
                lane.is_draining = true;
                lane.oldest().is_none_or(|oldest| oldest > batch.number)
            }
            // Its identity is not known any more, or an older one than the log has.
            Err(Code::UnknownProducerId | Code::InvalidProducerEpoch | Code::ProducerFenced) => {
                self.is_draining = true;
                self.config.transactional
            }
            Err(
                code @ (Code::MessageTooLarge
                | Code::TopicAuthorizationFailed
                | Code::InvalidTxnState),
            ) => {
                self.is_draining |= self.config.idempotent;
                return self.fail(batch.messages, &format!("{code:?}"));
            }
            Err(_) => false,
        };
        if is_fatal {
            let reason = format!("{partition}: {result:?}: it lost its place");
            self.break_with(&reason);
        } else if batch.attempts >= self.config.retries {
            self.is_draining |= self.config.idempotent;
            return self.fail(batch.messages, "tried too often");
        }
        batch.attempts += 1;
        if let Some(lane) = self.lanes.get_mut(partition) {
            lane.quiet_until = now + self.config.backoff;
            let at = lane.again.partition_point(|other| other.number < batch.number);
            lane.again.insert(at, batch);
        }
    }

    /// When the next thing is to be done.
    fn plan(&mut self, now: Time) {
        let is_ready = matches!(self.identity, Identity::Known(_)) || !self.config.idempotent;
        let can_send = self.state == State::Whole && is_ready && !self.is_draining;
        let mut times = Vec::new();
        if let Identity::Wanted(from) = self.identity
            && self.config.idempotent
            && !self.config.transactional
            && self.state == State::Whole
        {
            times.push(from);
        }
        if !self.homeless.is_empty() {
            times.push(now + self.config.backoff);
        }
        for (partition, lane) in &self.lanes {
            let is_outside = self.config.transactional && !self.registered.contains(partition);
            let oldest = lane.again.front().and_then(|batch| batch.messages.first());
            let Some(oldest) = oldest.or_else(|| lane.waiting.front()) else {
                continue;
            };
            times.push(oldest.deadline);
            if can_send && !is_outside && !lane.is_draining && lane.has_room(&self.config) {
                let lingers =
                    if lane.again.is_empty() { oldest.sent + self.config.linger } else { now };
                times.push(lingers.max(lane.quiet_until));
            }
        }
        self.wake = times.into_iter().min();
    }
}

impl Client for ProducerClient {
    fn answered(&mut self, call: CallId, answer: Result<Answer, CallError>, wire: &mut Wire<'_>) {
        if matches!(self.identity, Identity::Asked(asked) if asked == call) {
            self.identity = match answer {
                Ok(Answer::Producer(Ok(producer))) => Identity::Known(producer),
                _ => Identity::Wanted(wire.now + self.config.backoff),
            };
        } else if let Some(batches) = self.under_way.remove(&call) {
            let mut results = match answer {
                Ok(Answer::Produced(results)) => results,
                _ => Vec::new(),
            };
            // In order, since what comes first is sent first again.
            for (partition, batch) in batches {
                let of_it = results.iter().position(|(of, _)| *of == partition);
                let result = of_it.map(|at| results.remove(at).1);
                let result = result.unwrap_or(Err(Code::RequestTimedOut)).map(drop);
                self.settle(&partition, batch, result, wire.now);
            }
        }
        self.pump(wire);
    }

    fn turn(&mut self, wire: &mut Wire<'_>) {
        self.pump(wire);
    }

    fn wake(&self) -> Option<Time> {
        self.wake
    }
}
