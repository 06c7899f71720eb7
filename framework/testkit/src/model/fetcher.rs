//! What does a client that fetches do by itself? librdkafka's fetcher without a group: one request
//! per leader under way, a queue filled ahead, and its measured misbehaviour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use pelton::ports::{FetchEvent, PortError};
use pelton::{Run, TopicPartition};
use pelton_engine::Time;

use super::wire::{
    Answer, CallError, CallId, Client, ClientId, Code, FetchPosition, Fetched, LogRecord, Node,
    Request, Wire,
};

/// After an error a partition is let alone for so long (`retry.backoff.ms`).
const BACKOFF: Duration = Duration::from_millis(100);
/// So many of a partition's last records may come a second time.
const REPEATED: usize = 16;

/// How a fetcher behaves.
#[derive(Clone, Debug)]
pub(crate) struct FetchConfig {
    pub(crate) read_committed: bool,
    /// It says when it has reached the end of a log (`enable.partition.eof`).
    pub(crate) tell_ends: bool,
    /// So many records of a partition wait at most to be polled (`queued.min.messages`).
    pub(crate) queue_records: usize,
    /// So many records of a partition come at most in one answer.
    pub(crate) answer_records: usize,
    /// `fetch.wait.max.ms`.
    pub(crate) max_wait: Duration,
    /// Beyond `max_wait` (`socket.timeout.ms`).
    pub(crate) request_timeout: Duration,
    /// Once in so many polls of a partition some of its records come again; never for 0.
    pub(crate) repeats: u64,
    /// Once in so many answers a partition stalls, for `stall`; never for 0.
    pub(crate) stalls: u64,
    pub(crate) stall: Duration,
    /// It says nothing of a topic that is not there, as librdkafka does (measured on 4.3.1).
    pub(crate) is_silent_about_unknown: bool,
}

impl Default for FetchConfig {
    fn default() -> Self {
        Self {
            read_committed: true,
            tell_ends: false,
            queue_records: 1000,
            answer_records: 500,
            max_wait: Duration::from_millis(500),
            request_timeout: Duration::from_secs(60),
            repeats: 0,
            stalls: 0,
            stall: Duration::from_secs(2),
            is_silent_about_unknown: false,
        }
    }
}

/// librdkafka's consumer as Pelton's fetcher uses it: explicit offsets, no group.
#[derive(Debug)]
pub(crate) struct FetchClient {
    id: ClientId,
    config: FetchConfig,
    state: State,
    running: BTreeMap<TopicPartition, Running>,
    under_way: BTreeMap<Node, UnderWay>,
    /// What has come and was not polled, oldest first.
    ready: VecDeque<Ready>,
    ends: BTreeMap<TopicPartition, i64>,
    /// Counts the starts.
    starts: u64,
    wake: Option<Time>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Whole,
    /// It will say that it is broken.
    Breaking(String),
    /// It has said so.
    Broken,
    /// It brings nothing, and does not say why.
    Silent,
    Closed,
}

/// A started partition.
#[derive(Debug)]
struct Running {
    /// Which start this is: answers to an earlier one are dropped.
    start: u64,
    /// The offset to ask for.
    position: i64,
    /// Records of it in the queue.
    queued: usize,
    /// Nothing is asked before.
    quiet_until: Time,
    /// Its position is not in the log: it brings nothing until it is started again.
    is_dead: bool,
    /// The end it has told of last.
    told_end: Option<i64>,
    /// The last records it handed out.
    last: VecDeque<(i64, Arc<LogRecord>)>,
}

#[derive(Debug)]
struct UnderWay {
    call: CallId,
    /// Which partitions from where, and which start of them.
    asked: Vec<(TopicPartition, i64, u64)>,
}

#[derive(Debug)]
struct Ready {
    partition: TopicPartition,
    what: What,
}

#[derive(Debug)]
enum What {
    Records(VecDeque<(i64, Arc<LogRecord>)>),
    OutOfRange(i64),
    End(i64),
    Trouble(Code),
}

impl FetchClient {
    pub(crate) const fn new(id: ClientId, config: FetchConfig) -> Self {
        Self {
            id,
            config,
            state: State::Whole,
            running: BTreeMap::new(),
            under_way: BTreeMap::new(),
            ready: VecDeque::new(),
            ends: BTreeMap::new(),
            starts: 0,
            wake: None,
        }
    }

    pub(crate) const fn id(&self) -> ClientId {
        self.id
    }

    /// Starts a partition at an offset. One that runs is stopped first, as `KafkaFetch` does.
    ///
    /// # Errors
    ///
    /// If it is closed.
    pub(crate) fn start(
        &mut self,
        partition: &TopicPartition,
        offset: i64,
        wire: &mut Wire<'_>,
    ) -> Result<(), PortError> {
        if self.state == State::Closed {
            return Err(PortError::lasting("the fetcher is closed"));
        }
        self.forget(partition);
        self.starts += 1;
        let running = Running {
            start: self.starts,
            position: offset,
            queued: 0,
            quiet_until: Time::ZERO,
            is_dead: false,
            told_end: None,
            last: VecDeque::new(),
        };
        self.running.insert(partition.clone(), running);
        self.pump(wire);
        Ok(())
    }

    /// Stops a partition: nothing of it comes out any more.
    ///
    /// # Errors
    ///
    /// None as yet: the port may refuse.
    pub(crate) fn stop(
        &mut self,
        partition: &TopicPartition,
        wire: &mut Wire<'_>,
    ) -> Result<(), PortError> {
        self.forget(partition);
        self.pump(wire);
        Ok(())
    }

    /// Hands out what has come, at most `max_records` records.
    pub(crate) fn poll(
        &mut self,
        max_records: usize,
        out: &mut Vec<FetchEvent>,
        wire: &mut Wire<'_>,
    ) {
        if let State::Breaking(reason) = &mut self.state {
            out.push(FetchEvent::Broken(std::mem::take(reason)));
            self.end(State::Broken);
        }
        let mut left = max_records;
        while left > 0
            && let Some(Ready { partition, what }) = self.ready.pop_front()
        {
            match what {
                What::Records(records) => self.hand_out(partition, records, &mut left, out, wire),
                What::OutOfRange(offset) => out.push(FetchEvent::OutOfRange { partition, offset }),
                What::End(offset) => out.push(FetchEvent::End { partition, offset }),
                What::Trouble(code) => {
                    out.push(FetchEvent::Trouble { partition, reason: format!("{code:?}") });
                }
            }
        }
        self.pump(wire);
    }

    /// The end of the log as of the last answer.
    pub(crate) fn end_offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.ends.get(partition).copied()
    }

    pub(crate) fn close(&mut self, _wire: &mut Wire<'_>) {
        self.end(State::Closed);
    }

    /// It has a fatal error: it says so once, and brings nothing any more.
    pub(crate) fn break_with(&mut self, reason: &str) {
        if matches!(self.state, State::Whole | State::Silent) {
            self.state = State::Breaking(reason.to_owned());
        }
    }

    /// Every fetch breaks off, says so, and brings nothing until it is started again.
    pub(crate) fn break_off(&mut self) {
        for (partition, running) in &mut self.running {
            running.is_dead = true;
            let what = What::Trouble(Code::RequestTimedOut);
            self.ready.push_back(Ready { partition: partition.clone(), what });
        }
    }

    /// It brings nothing any more, and does not say why.
    pub(crate) fn silence(&mut self) {
        if self.state == State::Whole {
            self.end(State::Silent);
        }
    }

    fn end(&mut self, state: State) {
        self.state = state;
        self.running.clear();
        self.ready.clear();
        self.under_way.clear();
        self.wake = None;
    }

    fn forget(&mut self, partition: &TopicPartition) {
        if self.running.remove(partition).is_some() {
            self.ready.retain(|ready| ready.partition != *partition);
        }
    }

    /// The first `left` of these records; the rest goes back to the front of the queue.
    fn hand_out(
        &mut self,
        partition: TopicPartition,
        mut records: VecDeque<(i64, Arc<LogRecord>)>,
        left: &mut usize,
        out: &mut Vec<FetchEvent>,
        wire: &mut Wire<'_>,
    ) {
        let Some(running) = self.running.get_mut(&partition) else {
            return;
        };
        if !running.last.is_empty() && wire.random.one_in(self.config.repeats) {
            let some = wire.random.between(1, running.last.len() as u64);
            let skipped = running.last.len() - usize::try_from(some).unwrap_or(0);
            let mut run = Run::new(partition.clone());
            for (offset, record) in running.last.iter().skip(skipped).take(*left) {
                push(&mut run, *offset, record);
            }
            *left -= run.len();
            out.push(FetchEvent::Run(run));
        }
        let mut run = Run::new(partition.clone());
        while *left > 0
            && let Some((offset, record)) = records.pop_front()
        {
            push(&mut run, offset, &record);
            (*left, running.queued) = (*left - 1, running.queued - 1);
            if self.config.repeats > 0 {
                running.last.push_back((offset, record));
                if running.last.len() > REPEATED {
                    running.last.pop_front();
                }
            }
        }
        if !run.is_empty() {
            out.push(FetchEvent::Run(run));
        }
        if !records.is_empty() {
            self.ready.push_front(Ready { partition, what: What::Records(records) });
        }
    }

    /// What an answer says of one partition.
    fn take(
        &mut self,
        asked: &(TopicPartition, i64, u64),
        result: Result<Fetched, Code>,
        wire: &mut Wire<'_>,
    ) {
        let (partition, offset, start) = asked;
        let running = self.running.get_mut(partition).filter(|running| running.start == *start);
        let Some(running) = running else {
            return; // stopped meanwhile
        };
        let what = match result {
            Ok(fetched) => {
                self.ends.insert(partition.clone(), fetched.end);
                running.position = fetched.next.max(running.position);
                if wire.random.one_in(self.config.stalls) {
                    running.quiet_until = wire.now + self.config.stall;
                }
                if fetched.records.is_empty() {
                    let is_end = fetched.end == *offset && running.told_end != Some(*offset);
                    if !(is_end && self.config.tell_ends) {
                        return;
                    }
                    running.told_end = Some(*offset);
                    What::End(*offset)
                } else {
                    running.queued += fetched.records.len();
                    What::Records(fetched.records.into())
                }
            }
            Err(Code::OffsetOutOfRange) => {
                running.is_dead = true;
                What::OutOfRange(*offset)
            }
            Err(code) => {
                running.quiet_until = wire.now + BACKOFF;
                let is_told = match code {
                    Code::UnknownTopicOrPartition => !self.config.is_silent_about_unknown,
                    Code::TopicAuthorizationFailed => true,
                    _ => false, // it passes, and the next look into the directory helps
                };
                if !is_told {
                    return;
                }
                What::Trouble(code)
            }
        };
        self.ready.push_back(Ready { partition: partition.clone(), what });
        wire.wake();
    }

    /// Asks every leader that has no request of ours for what there is room for.
    fn pump(&mut self, wire: &mut Wire<'_>) {
        self.wake = None;
        if !matches!(self.state, State::Whole) {
            return;
        }
        let mut by_leader: BTreeMap<Node, Vec<(FetchPosition, u64)>> = BTreeMap::new();
        for (partition, running) in &mut self.running {
            let room = self.config.queue_records.saturating_sub(running.queued);
            if running.is_dead || room == 0 {
                continue;
            }
            let leader = wire.directory.leader(partition);
            if leader.is_none() {
                running.quiet_until = running.quiet_until.max(wire.now + BACKOFF);
            }
            if running.quiet_until > wire.now {
                self.wake =
                    Some(self.wake.map_or(running.quiet_until, |w| w.min(running.quiet_until)));
                continue;
            }
            if let Some(leader) = leader
                && !self.under_way.contains_key(&leader)
            {
                let position = FetchPosition {
                    partition: partition.clone(),
                    offset: running.position,
                    max_records: room.min(self.config.answer_records),
                };
                by_leader.entry(leader).or_default().push((position, running.start));
            }
        }
        for (leader, wanted) in by_leader {
            let asked =
                |(at, start): &(FetchPosition, u64)| (at.partition.clone(), at.offset, *start);
            let asked = wanted.iter().map(asked).collect();
            let partitions = wanted.into_iter().map(|(position, _)| position).collect();
            let FetchConfig { read_committed, max_wait, request_timeout, .. } = self.config;
            let request = Request::Fetch { partitions, read_committed, max_wait };
            let call = wire.ask(leader, request, max_wait + request_timeout);
            self.under_way.insert(leader, UnderWay { call, asked });
        }
    }
}

impl Client for FetchClient {
    fn answered(&mut self, call: CallId, answer: Result<Answer, CallError>, wire: &mut Wire<'_>) {
        let mut under_way = self.under_way.iter();
        let Some(node) = under_way.find(|(_, under_way)| under_way.call == call).map(|(n, _)| *n)
        else {
            return; // of a client that has ended
        };
        let asked = self.under_way.remove(&node).map_or_else(Vec::new, |under_way| under_way.asked);
        match answer {
            Ok(Answer::Fetched(results)) => {
                for (partition, result) in results {
                    if let Some(asked) = asked.iter().find(|asked| asked.0 == partition) {
                        self.take(asked, result, wire);
                    }
                }
            }
            Ok(_) | Err(_) => {
                for asked in &asked {
                    self.take(asked, Err(Code::NotLeaderOrFollower), wire);
                }
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

fn push(run: &mut Run, offset: i64, record: &LogRecord) {
    let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
    run.push(offset, record.timestamp_ms, record.key.as_deref(), record.value.as_deref(), headers);
}
