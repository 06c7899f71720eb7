//! What does a transactional producer do by itself? librdkafka's: its calls, and what can become
//! of each of them.

use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton::ports::{OutRecord, PortError, Reports, SendError};
use pelton_engine::Time;

use super::producer::{ProducerClient, ProducerConfig, Report};
use super::wire::{
    Answer, CallError, CallId, Client, ClientId, Code, GroupAnswer, GroupRequest, MemberId,
    ProducerIdentity, Request, StoredOffset, TransactionRequest, Wire,
};

/// How a transactional producer behaves.
#[derive(Clone, Debug)]
pub(crate) struct TransactionalConfig {
    pub(crate) transactional_id: Arc<str>,
    /// The coordinator aborts what is open for longer (`transaction.timeout.ms`).
    pub(crate) transaction_timeout: Duration,
    /// A call that takes longer ends without an outcome.
    pub(crate) call_timeout: Duration,
    pub(crate) producer: ProducerConfig,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// It is not known whether it was carried out: only the same call may be made again.
    Unknown(String),
    /// The transaction can only be aborted.
    Abortable(String),
    /// The producer is of no use any more: another one has its id, or it lost its place.
    Fatal(String),
}

/// Hears what became of a call, once.
pub(crate) type Callback = Box<dyn FnOnce(Outcome) + Send>;

/// A consumer's offsets, to be committed with a transaction.
#[derive(Clone, Debug)]
pub(crate) struct TransactionOffsets {
    pub(crate) group: Arc<str>,
    pub(crate) member: Option<MemberId>,
    pub(crate) instance: Option<Arc<str>>,
    /// The generation, or member epoch.
    pub(crate) generation: i32,
    pub(crate) offsets: Vec<(TopicPartition, StoredOffset)>,
}

/// A producer with a transactional id. One call at a time; sending goes on beside it.
pub(crate) struct TransactionalClient {
    config: TransactionalConfig,
    writes: ProducerClient,
    identity: Option<ProducerIdentity>,
    state: State,
    /// Does the coordinator know of something in this transaction, or may it?
    has_content: bool,
    /// Sequence numbers are missing: the next transaction needs another epoch.
    needs_epoch: bool,
    adding: Adding,
    call: Option<Call>,
    outcomes: Vec<(Callback, Outcome)>,
}

/// ```text
///  New ──init──▶ Ready ──begin──▶ Open ──commit, abort──▶ Ready …
///                                  └──▶ Failed ──abort──▶ Ready
///                    any ──▶ Broken
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    New,
    Ready,
    Open,
    /// It can only be aborted.
    Failed(String),
    /// An end was tried, and its outcome is not known: it can only be tried again.
    Unsure {
        commit: bool,
    },
    Broken(String),
}

/// Partitions that are made part of the transaction.
#[derive(Debug)]
enum Adding {
    Nothing { until: Time },
    Asked(CallId, Vec<TopicPartition>),
}

struct Call {
    what: What,
    done: Callback,
    deadline: Time,
    asked: Option<CallId>,
    retry_at: Time,
}

enum What {
    Init,
    /// The group is made part of the transaction first.
    Offsets {
        offsets: TransactionOffsets,
        is_added: bool,
    },
    End {
        commit: bool,
        step: Step,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// What was sent before comes back.
    Flush,
    Tell,
    /// Sequence numbers are missing after an abort: the next epoch begins them anew.
    Renumber,
}

impl TransactionalClient {
    pub(crate) fn new(id: ClientId, config: TransactionalConfig) -> Self {
        let mut producer = config.producer.clone();
        (producer.transactional, producer.idempotent) = (true, true);
        Self {
            config,
            writes: ProducerClient::new(id, producer),
            identity: None,
            state: State::New,
            has_content: false,
            needs_epoch: false,
            adding: Adding::Nothing { until: Time::ZERO },
            call: None,
            outcomes: Vec::new(),
        }
    }

    /// Takes the transactional id: fences whoever had it.
    pub(crate) fn init(&mut self, done: Callback, wire: &mut Wire<'_>) -> Result<(), PortError> {
        self.may(self.state == State::New)?;
        self.begin_call(What::Init, done, wire);
        Ok(())
    }

    /// Begins a transaction. Nobody is asked.
    pub(crate) fn begin(&mut self) -> Result<(), PortError> {
        self.may(self.state == State::Ready)?;
        self.state = State::Open;
        Ok(())
    }

    /// Queues a record as part of the transaction; as [`ProducerClient::send`].
    pub(crate) fn send(
        &mut self,
        record: &OutRecord,
        ticket: u64,
        reports: &Arc<dyn Reports>,
        wire: &mut Wire<'_>,
    ) -> Result<(), SendError> {
        self.may(self.state == State::Open).map_err(SendError::Refused)?;
        self.writes.send(record, ticket, reports, wire)?;
        self.pump(wire);
        Ok(())
    }

    /// Commits a consumer's offsets with the transaction.
    pub(crate) fn send_offsets(
        &mut self,
        offsets: TransactionOffsets,
        done: Callback,
        wire: &mut Wire<'_>,
    ) -> Result<(), PortError> {
        self.may(self.state == State::Open)?;
        self.begin_call(What::Offsets { offsets, is_added: false }, done, wire);
        Ok(())
    }

    /// Waits for all reports, and commits.
    pub(crate) fn commit(&mut self, done: Callback, wire: &mut Wire<'_>) -> Result<(), PortError> {
        if let State::Failed(reason) = &self.state {
            let outcome = Outcome::Abortable(reason.clone());
            self.outcomes.push((done, outcome));
            return Ok(());
        }
        self.end(true, done, wire)
    }

    /// Drops what is queued, waits for what is under way, and aborts.
    pub(crate) fn abort(&mut self, done: Callback, wire: &mut Wire<'_>) -> Result<(), PortError> {
        self.end(false, done, wire)
    }

    fn end(&mut self, commit: bool, done: Callback, wire: &mut Wire<'_>) -> Result<(), PortError> {
        let is_again = matches!(self.state, State::Unsure { commit: before } if before == commit);
        self.may(is_again || matches!(self.state, State::Open | State::Failed(_)))?;
        self.begin_call(What::End { commit, step: Step::Flush }, done, wire);
        Ok(())
    }

    pub(crate) fn take_reports(&mut self) -> Vec<Report> {
        self.writes.take_reports()
    }

    /// The outcomes that wait to be delivered, without any lock held.
    pub(crate) fn take_outcomes(&mut self) -> Vec<(Callback, Outcome)> {
        std::mem::take(&mut self.outcomes)
    }

    /// Ends it. An open transaction stays open until it times out or its id is taken again.
    pub(crate) fn close(&mut self, graceful: bool, wire: &mut Wire<'_>) {
        self.writes.close(graceful, wire);
        self.break_with("the client was closed");
    }

    fn may(&self, is_right: bool) -> Result<(), PortError> {
        match &self.state {
            State::Broken(reason) => Err(PortError::lasting(reason)),
            _ if self.call.is_some() => Err(PortError::lasting("another call is under way")),
            state if !is_right => Err(PortError::lasting(format!("not now: {state:?}"))),
            _ => Ok(()),
        }
    }

    fn begin_call(&mut self, what: What, done: Callback, wire: &mut Wire<'_>) {
        let deadline = wire.now + self.config.call_timeout;
        self.call = Some(Call { what, done, deadline, asked: None, retry_at: wire.now });
        self.pump(wire);
    }

    fn break_with(&mut self, reason: &str) {
        if !matches!(self.state, State::Broken(_)) {
            self.state = State::Broken(reason.to_owned());
            self.writes.break_with(reason);
            self.finish(Outcome::Fatal(reason.to_owned()));
        }
    }

    /// The call under way has ended.
    fn finish(&mut self, outcome: Outcome) {
        if let Some(call) = self.call.take() {
            self.outcomes.push((call.done, outcome));
        }
    }

    fn fail(&mut self, reason: String) {
        self.state = State::Failed(reason.clone());
        self.finish(Outcome::Abortable(reason));
    }

    fn pump(&mut self, wire: &mut Wire<'_>) {
        if let Some(reason) = self.writes.broken().map(str::to_owned) {
            self.break_with(&reason);
        }
        self.add_partitions(wire);
        if self.call.as_ref().is_some_and(|call| call.deadline <= wire.now) {
            self.run_out();
        }
        while let Some(call) = &self.call
            && call.asked.is_none()
            && call.retry_at <= wire.now
        {
            if !self.step(wire) {
                break;
            }
        }
    }

    /// No outcome came in time.
    fn run_out(&mut self) {
        let reason = "the call timed out".to_owned();
        match self.call.as_ref().map(|call| &call.what) {
            Some(What::End { commit, step: Step::Tell | Step::Renumber }) => {
                self.state = State::Unsure { commit: *commit };
                self.finish(Outcome::Unknown(reason));
            }
            Some(What::End { commit: true, step: Step::Flush } | What::Offsets { .. }) => {
                self.fail(reason);
            }
            Some(What::Init | What::End { .. }) => self.finish(Outcome::Unknown(reason)),
            None => {}
        }
    }

    /// Makes partitions part of the transaction before anything is written there.
    fn add_partitions(&mut self, wire: &mut Wire<'_>) {
        let is_due = matches!(self.adding, Adding::Nothing { until } if until <= wire.now);
        if self.state != State::Open || !is_due {
            return;
        }
        let new = self.writes.unregistered();
        if new.is_empty() {
            return;
        }
        self.adding = match self.ask(TransactionRequest::AddPartitions(new.clone()), wire) {
            Some(call) => Adding::Asked(call, new),
            None => Adding::Nothing { until: wire.now + self.config.producer.backoff },
        };
        self.has_content = true;
    }

    /// One step of the call under way. Has it come further, without an answer to wait for?
    fn step(&mut self, wire: &mut Wire<'_>) -> bool {
        let Some(mut call) = self.call.take() else {
            return false;
        };
        let is_abort = matches!(call.what, What::End { commit: false, .. });
        if let What::End { step: step @ Step::Flush, .. } = &mut call.what {
            if is_abort && self.writes.drop_queued("the transaction is aborted") {
                self.needs_epoch = true;
            }
            let is_adding = matches!(self.adding, Adding::Asked(..));
            let is_flushed = self.writes.undelivered() == 0 && !is_adding;
            if is_flushed {
                *step = Step::Tell;
            }
            self.call = Some(call);
            if is_flushed && !is_abort && self.writes.failures() > 0 {
                self.fail("records failed".to_owned());
            }
            return is_flushed; // if not, an answer takes it further
        }
        if matches!(call.what, What::End { step: Step::Tell, .. }) && !self.has_content {
            self.call = Some(call);
            self.take_told(is_abort, wire.now);
            return true;
        }
        call.asked = self.ask_for(&call.what, wire);
        if call.asked.is_none() {
            call.retry_at = wire.now + self.config.producer.backoff;
        }
        self.call = Some(call);
        false
    }

    /// Sends the request of a call's step; `None` while nobody is known who could answer.
    fn ask_for(&mut self, what: &What, wire: &mut Wire<'_>) -> Option<CallId> {
        let timeout = self.config.producer.request_timeout;
        match what {
            What::Init | What::End { step: Step::Renumber | Step::Flush, .. } => {
                let name = Arc::clone(&self.config.transactional_id);
                let node = wire.directory.coordinator(&name)?;
                let request = Request::InitProducer {
                    transactional_id: Some(name),
                    timeout: self.config.transaction_timeout,
                    known: self.identity,
                };
                Some(wire.ask(node, request, timeout))
            }
            What::Offsets { offsets, is_added: false } => {
                self.has_content = true;
                self.ask(TransactionRequest::AddOffsets { group: Arc::clone(&offsets.group) }, wire)
            }
            What::Offsets { offsets, is_added: true } => {
                let node = wire.directory.coordinator(&offsets.group)?;
                let request = GroupRequest::TransactionalCommit {
                    producer: self.identity?,
                    member: offsets.member.clone(),
                    instance: offsets.instance.clone(),
                    generation: offsets.generation,
                    offsets: offsets.offsets.clone(),
                };
                let request = Request::Group { group: Arc::clone(&offsets.group), request };
                Some(wire.ask(node, request, timeout))
            }
            What::End { commit, step: Step::Tell } => {
                self.ask(TransactionRequest::End { commit: *commit }, wire)
            }
        }
    }

    fn ask(&self, request: TransactionRequest, wire: &mut Wire<'_>) -> Option<CallId> {
        let transactional_id = Arc::clone(&self.config.transactional_id);
        let node = wire.directory.coordinator(&transactional_id)?;
        let producer = self.identity?;
        let request = Request::Transaction { transactional_id, producer, request };
        Some(wire.ask(node, request, self.config.producer.request_timeout))
    }

    /// The coordinator has taken the end of the transaction.
    fn take_told(&mut self, is_abort: bool, now: Time) {
        self.has_content = false;
        self.writes.unregister_all();
        if is_abort && self.needs_epoch {
            if let Some(call) = &mut self.call {
                call.what = What::End { commit: false, step: Step::Renumber };
                call.retry_at = now;
            }
            return;
        }
        self.state = State::Ready;
        self.finish(Outcome::Done);
    }

    /// The answer to the call under way.
    fn take_answer(&mut self, verdict: Verdict, wire: &Wire<'_>) {
        let Some(call) = &mut self.call else {
            return;
        };
        (call.asked, call.retry_at) = (None, wire.now);
        match verdict {
            Verdict::Done => match &mut call.what {
                What::Offsets { is_added: is_added @ false, .. } => *is_added = true,
                What::Offsets { .. } => self.finish(Outcome::Done),
                What::End { commit, .. } => {
                    let is_abort = !*commit;
                    self.take_told(is_abort, wire.now);
                }
                What::Init => {}
            },
            Verdict::Identity(producer) => {
                self.identity = Some(producer);
                self.writes.take_identity(producer);
                self.needs_epoch = false;
                self.state = State::Ready;
                self.finish(Outcome::Done);
            }
            Verdict::Again => call.retry_at = wire.now + self.config.producer.backoff,
            Verdict::Abortable(code) => match call.what {
                What::Init => self.finish(Outcome::Fatal(format!("{code:?}"))),
                What::Offsets { .. } | What::End { .. } => self.fail(format!("{code:?}")),
            },
            Verdict::Fatal(code) => self.break_with(&format!("{code:?}")),
        }
    }

    /// The answer to partitions that were to be made part of the transaction.
    fn take_added(&mut self, verdict: Verdict, wire: &mut Wire<'_>) {
        let until = wire.now;
        let before = std::mem::replace(&mut self.adding, Adding::Nothing { until });
        match (verdict, before) {
            (Verdict::Done, Adding::Asked(_, partitions)) => {
                self.writes.register(partitions, wire);
            }
            (Verdict::Abortable(code), _) => self.state = State::Failed(format!("{code:?}")),
            (Verdict::Fatal(code), _) => self.break_with(&format!("{code:?}")),
            _ => self.adding = Adding::Nothing { until: until + self.config.producer.backoff },
        }
    }
}

/// What an answer means.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    Done,
    Identity(ProducerIdentity),
    Again,
    Abortable(Code),
    Fatal(Code),
}

impl Verdict {
    fn of(answer: Result<Answer, CallError>) -> Self {
        let code = match answer {
            Ok(Answer::Producer(Ok(producer))) => return Self::Identity(producer),
            Ok(Answer::Transaction(Ok(()))) => return Self::Done,
            Ok(Answer::Group(GroupAnswer::Committed(results))) => {
                match results.into_iter().find_map(|(_, result)| result.err()) {
                    None => return Self::Done,
                    Some(code) => code,
                }
            }
            Ok(
                Answer::Producer(Err(code))
                | Answer::Transaction(Err(code))
                | Answer::Refused(code),
            ) => code,
            Ok(_) | Err(_) => return Self::Again,
        };
        match code {
            Code::ConcurrentTransactions
            | Code::CoordinatorNotAvailable
            | Code::CoordinatorLoadInProgress
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::UnknownTopicOrPartition
            | Code::RequestTimedOut => Self::Again,
            Code::ProducerFenced | Code::InvalidProducerEpoch | Code::InvalidTxnState => {
                Self::Fatal(code)
            }
            code => Self::Abortable(code),
        }
    }
}

impl Client for TransactionalClient {
    fn answered(&mut self, call: CallId, answer: Result<Answer, CallError>, wire: &mut Wire<'_>) {
        if matches!(self.adding, Adding::Asked(asked, _) if asked == call) {
            self.take_added(Verdict::of(answer), wire);
        } else if self.call.as_ref().is_some_and(|of| of.asked == Some(call)) {
            self.take_answer(Verdict::of(answer), wire);
        } else {
            self.writes.answered(call, answer, wire);
        }
        self.pump(wire);
    }

    fn turn(&mut self, wire: &mut Wire<'_>) {
        self.writes.turn(wire);
        self.pump(wire);
    }

    fn wake(&self) -> Option<Time> {
        let call = self.call.as_ref().map(|call| match (call.asked, &call.what) {
            (Some(_), _) | (None, What::End { step: Step::Flush, .. }) => call.deadline,
            (None, _) => call.deadline.min(call.retry_at),
        });
        let adding = match self.adding {
            Adding::Nothing { until } if !self.writes.unregistered().is_empty() => Some(until),
            Adding::Nothing { .. } | Adding::Asked(..) => None,
        };
        let adding = adding.filter(|_| self.state == State::Open);
        self.writes.wake().into_iter().chain(call).chain(adding).min()
    }
}
