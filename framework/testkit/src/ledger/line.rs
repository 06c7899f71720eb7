//! What does one line of a ledger say? A step of a worker or a fault of the test, as text.
//!
//! A line is `<nanoseconds> <entry>`; words are separated by one space, and neither topics nor
//! names contain any. The text form is what files hold, what explanations show, and what
//! hand-written histories in tests are made of.

use std::collections::HashSet;
use std::fmt;
use std::str::SplitAsciiWhitespace;
use std::sync::Arc;

use pelton::TopicPartition;
use pelton::telemetry::{CommitOutcome, Observation, RecordOutcome};
use pelton_engine::DoneSet;

/// One line of a ledger: when, who, what.
///
/// ```
/// use pelton_testkit::ledger::{Entry, Ledger};
///
/// let ledger = Ledger::from_text("1000 a start logins-0 1 7 1")?;
/// let line = &ledger.lines()[0];
/// assert_eq!(line.at, 1000);
/// assert!(matches!(line.entry, Entry::Start { offset: 7, attempt: 1, .. }));
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Nanoseconds of the machine's monotonic clock: comparable between its processes.
    pub at: u64,
    /// Who wrote it: a place in [`Ledger::processes`](crate::ledger::Ledger::processes).
    pub process: usize,
    /// What it says.
    pub entry: Entry,
}

/// What a line says: a worker's step, as its [`Observation`]s; the last is a fault that the test
/// has caused.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton_testkit::ledger::Entry;
///
/// let entry = Entry::Lost { partition: TopicPartition::new("logins", 3), epoch: 2 };
/// assert_eq!(entry.to_string(), "lost logins-3 2");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are those of Observation")]
pub enum Entry {
    /// `assigned <partition> <epoch>`
    Assigned { partition: TopicPartition, epoch: u64 },
    /// `started <partition> <epoch> <position>`
    Started { partition: TopicPartition, epoch: u64, position: i64 },
    /// `jumped <partition> <epoch> <from> <to>`
    Jumped { partition: TopicPartition, epoch: u64, from: i64, to: i64 },
    /// `revoked <partition> <epoch>`
    Revoked { partition: TopicPartition, epoch: u64 },
    /// `released <partition> <epoch>`
    Released { partition: TopicPartition, epoch: u64 },
    /// `cut-off <partition> <epoch>`
    CutOff { partition: TopicPartition, epoch: u64 },
    /// `lost <partition> <epoch>`
    Lost { partition: TopicPartition, epoch: u64 },
    /// `reset <partition> <epoch>`
    Reset { partition: TopicPartition, epoch: u64 },
    /// `start <partition> <epoch> <offset> <attempt>`
    Start { partition: TopicPartition, epoch: u64, offset: i64, attempt: u32 },
    /// `end <partition> <epoch> <offset> <attempt> <outcome>`
    End { partition: TopicPartition, epoch: u64, offset: i64, attempt: u32, outcome: RecordOutcome },
    /// `flushed <partition> <epoch>`
    Flushed { partition: TopicPartition, epoch: u64 },
    /// `undelivered <partition> <epoch>`
    Undelivered { partition: TopicPartition, epoch: u64 },
    /// `try <partition> <epoch> <offset> <id> [<done>]`: without the last word, nothing is done
    /// above the offset.
    CommitTried { partition: TopicPartition, epoch: u64, offset: i64, id: u64, done: Box<str> },
    /// `known <partition> <epoch> <offset> <id> <outcome>`
    CommitKnown {
        partition: TopicPartition,
        epoch: u64,
        offset: i64,
        id: u64,
        outcome: CommitOutcome,
    },
    /// `stopping`
    Stopping,
    /// `stopped`
    Stopped,
    /// `fault <kind> …`
    Fault(Fault),
}

/// What the test has done to the system, so that repeats can be explained.
///
/// Write it *before* you do it: everything it causes is then later in the ledger.
///
/// ```
/// use pelton_testkit::ledger::{Fault, FaultKind};
///
/// let kill = Fault::Process { kind: FaultKind::Kill, name: "worker-1".into(), pid: 4711 };
/// assert_eq!(kill.to_string(), "fault kill worker-1 4711");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Something is done to one worker process: `fault <kind> <name> <pid>`.
    Process {
        /// What.
        kind: FaultKind,
        /// The worker's name in the ledger.
        name: Arc<str>,
        /// Its process id.
        pid: u32,
    },
    /// A broker is killed or cut off: `fault broker-kill <name>`.
    BrokerKill {
        /// Which broker.
        broker: Arc<str>,
    },
    /// The network between workers and brokers begins to fail: `fault network <what>`.
    Network {
        /// How it fails, in one word.
        what: Arc<str>,
    },
    /// Whatever was wrong with the network is over: `fault network-healed`.
    NetworkHealed,
    /// An operator sets the group's committed offset: `fault offset-reset <partition> <offset>`.
    OffsetReset {
        /// Of which partition.
        partition: TopicPartition,
        /// To which offset.
        offset: i64,
    },
}

/// What is done to a worker process.
///
/// ```
/// use pelton_testkit::ledger::FaultKind;
/// assert_eq!(FaultKind::Stop.to_string(), "stop");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FaultKind {
    /// It is killed (SIGKILL).
    Kill,
    /// It is frozen (SIGSTOP).
    Stop,
    /// It goes on (SIGCONT).
    Continue,
    /// It is asked to end gracefully (SIGTERM): that explains no repeat.
    Terminate,
}

impl Entry {
    /// The entry that an observation becomes; `None` for one that this version does not know.
    #[must_use]
    pub fn of(observation: &Observation<'_>) -> Option<Self> {
        Some(match *observation {
            Observation::Assigned { partition, epoch } => {
                Self::Assigned { partition: partition.clone(), epoch }
            }
            Observation::Started { partition, epoch, position } => {
                Self::Started { partition: partition.clone(), epoch, position }
            }
            Observation::Jumped { partition, epoch, from, to } => {
                Self::Jumped { partition: partition.clone(), epoch, from, to }
            }
            Observation::Revoked { partition, epoch } => {
                Self::Revoked { partition: partition.clone(), epoch }
            }
            Observation::Released { partition, epoch } => {
                Self::Released { partition: partition.clone(), epoch }
            }
            Observation::CutOff { partition, epoch } => {
                Self::CutOff { partition: partition.clone(), epoch }
            }
            Observation::Lost { partition, epoch } => {
                Self::Lost { partition: partition.clone(), epoch }
            }
            Observation::Reset { partition, epoch } => {
                Self::Reset { partition: partition.clone(), epoch }
            }
            Observation::Start { partition, epoch, offset, attempt } => {
                Self::Start { partition: partition.clone(), epoch, offset, attempt }
            }
            Observation::End { partition, epoch, offset, attempt, outcome } => {
                Self::End { partition: partition.clone(), epoch, offset, attempt, outcome }
            }
            Observation::Flushed { partition, epoch } => {
                Self::Flushed { partition: partition.clone(), epoch }
            }
            Observation::Undelivered { partition, epoch } => {
                Self::Undelivered { partition: partition.clone(), epoch }
            }
            Observation::CommitTried { id, partition, epoch, offset, done } => {
                let (partition, done) = (partition.clone(), done.into());
                Self::CommitTried { partition, epoch, offset, id, done }
            }
            Observation::CommitKnown { id, partition, epoch, offset, outcome } => {
                Self::CommitKnown { partition: partition.clone(), epoch, offset, id, outcome }
            }
            Observation::Stopping => Self::Stopping,
            Observation::Stopped => Self::Stopped,
            _ => return None,
        })
    }

    /// The partition and assignment epoch it speaks of, if it speaks of one.
    #[must_use]
    pub fn assignment(&self) -> Option<(&TopicPartition, u64)> {
        match self {
            Self::Assigned { partition, epoch }
            | Self::Started { partition, epoch, .. }
            | Self::Jumped { partition, epoch, .. }
            | Self::Revoked { partition, epoch }
            | Self::Released { partition, epoch }
            | Self::CutOff { partition, epoch }
            | Self::Lost { partition, epoch }
            | Self::Reset { partition, epoch }
            | Self::Start { partition, epoch, .. }
            | Self::End { partition, epoch, .. }
            | Self::Flushed { partition, epoch }
            | Self::Undelivered { partition, epoch }
            | Self::CommitTried { partition, epoch, .. }
            | Self::CommitKnown { partition, epoch, .. } => Some((partition, *epoch)),
            Self::Stopping | Self::Stopped | Self::Fault(_) => None,
        }
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned { partition, epoch } => write!(f, "assigned {partition} {epoch}"),
            Self::Started { partition, epoch, position } => {
                write!(f, "started {partition} {epoch} {position}")
            }
            Self::Jumped { partition, epoch, from, to } => {
                write!(f, "jumped {partition} {epoch} {from} {to}")
            }
            Self::Revoked { partition, epoch } => write!(f, "revoked {partition} {epoch}"),
            Self::Released { partition, epoch } => write!(f, "released {partition} {epoch}"),
            Self::CutOff { partition, epoch } => write!(f, "cut-off {partition} {epoch}"),
            Self::Flushed { partition, epoch } => write!(f, "flushed {partition} {epoch}"),
            Self::Undelivered { partition, epoch } => write!(f, "undelivered {partition} {epoch}"),
            Self::Lost { partition, epoch } => write!(f, "lost {partition} {epoch}"),
            Self::Reset { partition, epoch } => write!(f, "reset {partition} {epoch}"),
            Self::Start { partition, epoch, offset, attempt } => {
                write!(f, "start {partition} {epoch} {offset} {attempt}")
            }
            Self::End { partition, epoch, offset, attempt, outcome } => {
                let outcome = record_word(*outcome);
                write!(f, "end {partition} {epoch} {offset} {attempt} {outcome}")
            }
            Self::CommitTried { partition, epoch, offset, id, done } => {
                write!(f, "try {partition} {epoch} {offset} {id}")?;
                if done.is_empty() { Ok(()) } else { write!(f, " {done}") }
            }
            Self::CommitKnown { partition, epoch, offset, id, outcome } => {
                let outcome = commit_word(*outcome);
                write!(f, "known {partition} {epoch} {offset} {id} {outcome}")
            }
            Self::Stopping => f.write_str("stopping"),
            Self::Stopped => f.write_str("stopped"),
            Self::Fault(fault) => fault.fmt(f),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { kind, name, pid } => write!(f, "fault {kind} {name} {pid}"),
            Self::BrokerKill { broker } => write!(f, "fault broker-kill {broker}"),
            Self::Network { what } => write!(f, "fault network {what}"),
            Self::NetworkHealed => f.write_str("fault network-healed"),
            Self::OffsetReset { partition, offset } => {
                write!(f, "fault offset-reset {partition} {offset}")
            }
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Continue => "continue",
            Self::Terminate => "terminate",
        })
    }
}

fn record_word(outcome: RecordOutcome) -> &'static str {
    match outcome {
        RecordOutcome::Done => "done",
        RecordOutcome::Handled => "handled",
        RecordOutcome::Skipped => "skipped",
        RecordOutcome::DeadLetter => "dead-letter",
        RecordOutcome::RetryTopic => "retry-topic",
        RecordOutcome::Retry => "retry",
        RecordOutcome::TimedOut => "timed_out",
        RecordOutcome::Panicked => "panicked",
        RecordOutcome::Cancelled => "cancelled",
        RecordOutcome::Fatal => "fatal",
        _ => "unheard-of", // the reader refuses it: better no verdict than a wrong one
    }
}

fn commit_word(outcome: CommitOutcome) -> &'static str {
    match outcome {
        CommitOutcome::Accepted => "accepted",
        CommitOutcome::Refused => "refused",
        CommitOutcome::MemberLost => "member-lost",
        CommitOutcome::Unknown => "unknown",
        _ => "unheard-of",
    }
}

/// Reads entries; topic names are shared between them.
#[derive(Default)]
pub(crate) struct EntryParser {
    topics: HashSet<Arc<str>>,
}

impl EntryParser {
    /// Reads the words of one entry; the error says what is wrong with them.
    pub(crate) fn parse(&mut self, text: &str) -> Result<Entry, String> {
        let mut words = text.split_ascii_whitespace();
        let kind = words.next().ok_or("the line has no entry")?;
        let entry = match kind {
            "stopping" => Entry::Stopping,
            "stopped" => Entry::Stopped,
            "fault" => Entry::Fault(self.fault(&mut words)?),
            _ => self.step(kind, &mut words)?,
        };
        match words.next() {
            Some(word) => Err(format!("{word:?} is one word too many")),
            None => Ok(entry),
        }
    }

    fn step(&mut self, kind: &str, words: &mut SplitAsciiWhitespace<'_>) -> Result<Entry, String> {
        let partition = self.partition(words)?;
        let epoch = number(words, "epoch")?;
        Ok(match kind {
            "assigned" => Entry::Assigned { partition, epoch },
            "started" => Entry::Started { partition, epoch, position: number(words, "position")? },
            "jumped" => Entry::Jumped {
                partition,
                epoch,
                from: number(words, "position")?,
                to: number(words, "offset")?,
            },
            "revoked" => Entry::Revoked { partition, epoch },
            "released" => Entry::Released { partition, epoch },
            "cut-off" => Entry::CutOff { partition, epoch },
            "flushed" => Entry::Flushed { partition, epoch },
            "undelivered" => Entry::Undelivered { partition, epoch },
            "lost" => Entry::Lost { partition, epoch },
            "reset" => Entry::Reset { partition, epoch },
            "start" => Entry::Start {
                partition,
                epoch,
                offset: number(words, "offset")?,
                attempt: number(words, "attempt")?,
            },
            "end" => Entry::End {
                partition,
                epoch,
                offset: number(words, "offset")?,
                attempt: number(words, "attempt")?,
                outcome: record_outcome(word(words, "outcome")?)?,
            },
            "try" => Entry::CommitTried {
                partition,
                epoch,
                offset: number(words, "offset")?,
                id: number(words, "id")?,
                done: words.next().map(done_set).transpose()?.unwrap_or_default(),
            },
            "known" => Entry::CommitKnown {
                partition,
                epoch,
                offset: number(words, "offset")?,
                id: number(words, "id")?,
                outcome: commit_outcome(word(words, "outcome")?)?,
            },
            _ => return Err(format!("there is no entry {kind:?}")),
        })
    }

    fn fault(&mut self, words: &mut SplitAsciiWhitespace<'_>) -> Result<Fault, String> {
        let kind = match word(words, "kind of fault")? {
            "kill" => FaultKind::Kill,
            "stop" => FaultKind::Stop,
            "continue" => FaultKind::Continue,
            "terminate" => FaultKind::Terminate,
            "broker-kill" => {
                return Ok(Fault::BrokerKill { broker: word(words, "broker")?.into() });
            }
            "network" => return Ok(Fault::Network { what: word(words, "trouble")?.into() }),
            "network-healed" => return Ok(Fault::NetworkHealed),
            "offset-reset" => {
                let partition = self.partition(words)?;
                return Ok(Fault::OffsetReset { partition, offset: number(words, "offset")? });
            }
            other => return Err(format!("there is no fault {other:?}")),
        };
        let name = word(words, "worker")?.into();
        Ok(Fault::Process { kind, name, pid: number(words, "pid")? })
    }

    fn partition(
        &mut self,
        words: &mut SplitAsciiWhitespace<'_>,
    ) -> Result<TopicPartition, String> {
        let text = word(words, "partition")?;
        let parts = text.rsplit_once('-').and_then(|(t, p)| Some((t, p.parse::<i32>().ok()?)));
        let Some((topic, partition)) = parts.filter(|(topic, _)| !topic.is_empty()) else {
            return Err(format!("{text:?} is no topic-partition"));
        };
        if let Some(shared) = self.topics.get(topic) {
            return Ok(TopicPartition::new(Arc::clone(shared), partition));
        }
        let shared: Arc<str> = topic.into();
        self.topics.insert(Arc::clone(&shared));
        Ok(TopicPartition::new(shared, partition))
    }
}

fn word<'a>(words: &mut SplitAsciiWhitespace<'a>, what: &str) -> Result<&'a str, String> {
    words.next().ok_or_else(|| format!("the {what} is missing"))
}

fn number<N: std::str::FromStr>(
    words: &mut SplitAsciiWhitespace<'_>,
    what: &str,
) -> Result<N, String> {
    let text = word(words, what)?;
    text.parse().map_err(|_| format!("the {what} {text:?} is no number that fits"))
}

fn done_set(word: &str) -> Result<Box<str>, String> {
    match DoneSet::decode(word) {
        Ok(_) => Ok(word.into()),
        Err(_) => Err(format!("{word:?} is no done-set")),
    }
}

fn record_outcome(word: &str) -> Result<RecordOutcome, String> {
    Ok(match word {
        "done" => RecordOutcome::Done,
        "handled" => RecordOutcome::Handled,
        "skipped" => RecordOutcome::Skipped,
        "dead-letter" => RecordOutcome::DeadLetter,
        "retry-topic" => RecordOutcome::RetryTopic,
        "retry" => RecordOutcome::Retry,
        "timed_out" => RecordOutcome::TimedOut,
        "panicked" => RecordOutcome::Panicked,
        "cancelled" => RecordOutcome::Cancelled,
        "fatal" => RecordOutcome::Fatal,
        _ => return Err(format!("a record does not end {word:?}")),
    })
}

fn commit_outcome(word: &str) -> Result<CommitOutcome, String> {
    Ok(match word {
        "accepted" => CommitOutcome::Accepted,
        "refused" => CommitOutcome::Refused,
        "member-lost" => CommitOutcome::MemberLost,
        "unknown" => CommitOutcome::Unknown,
        _ => return Err(format!("a commit is not {word:?}")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_reads_back_as_it_was_written() {
        for text in [
            "assigned a-b-0 1",
            "started t-12 1 17",
            "jumped t-0 1 17 30",
            "revoked t-0 1",
            "released t-0 1",
            "cut-off t-0 1",
            "flushed t-0 1",
            "undelivered t-0 1",
            "lost t-0 1",
            "reset t-0 1",
            "start t-0 1 17 1",
            "end t-0 1 17 2 done",
            "end t-0 1 17 2 handled",
            "end t-0 1 17 2 skipped",
            "end t-0 1 17 2 retry",
            "end t-0 1 17 2 panicked",
            "end t-0 1 17 2 cancelled",
            "end t-0 1 17 2 fatal",
            "try t-0 1 18 18446744073709551615",
            "try t-0 1 18 5 18-22rCD",
            "try t-0 1 18 5 18-22bU",
            "known t-0 1 18 5 accepted",
            "known t-0 1 18 5 refused",
            "known t-0 1 18 5 member-lost",
            "known t-0 1 18 5 unknown",
            "stopping",
            "stopped",
            "fault kill w 1",
            "fault stop w 1",
            "fault continue w 1",
            "fault terminate w 1",
            "fault broker-kill 2",
            "fault network blackhole",
            "fault network-healed",
            "fault offset-reset t-0 100",
        ] {
            let entry = EntryParser::default().parse(text);
            assert_eq!(entry.map(|entry| entry.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_entry_is_named() {
        for (text, part) in [
            ("", "no entry"),
            ("begin t-0 1", "no entry \"begin\""),
            ("start t-0 1 x 1", "offset \"x\""),
            ("start t-0 1 7", "attempt is missing"),
            ("lost t 1", "no topic-partition"),
            ("lost t-0 1 2", "too many"),
            ("end t-0 1 17 2 unheard-of", "does not end"),
            ("try t-0 1 18 5 18-22rCC", "\"18-22rCC\" is no done-set"),
            ("try t-0 1 18 5 accepted", "\"accepted\" is no done-set"),
            ("try t-0 1 18 5 18-22rCD 1", "too many"),
        ] {
            let error = EntryParser::default().parse(text).expect_err(text);
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
