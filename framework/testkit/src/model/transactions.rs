//! Who may write in a transaction, and how does one end? The coordinator's memory of
//! transactional ids.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use pelton::TopicPartition;
use pelton_engine::Time;

use super::wire::{Code, ProducerIdentity, TransactionRequest};

/// All transactional ids, and the ids that producers get. It moves with the coordinator's office.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    ids: BTreeMap<Arc<str>, Transaction>,
    producers: i64,
}

/// What a transaction touches, and where its end must be told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Log(TopicPartition),
    /// The offsets committed in it.
    Group(Arc<str>),
}

/// A decided transaction: markers are to be written at its targets, and then
/// [`Transactions::ended`] is to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ending {
    pub(crate) transactional_id: Arc<str>,
    /// Of the markers. A fenced producer's markers carry the epoch that fences it.
    pub(crate) producer: ProducerIdentity,
    pub(crate) commit: bool,
    pub(crate) targets: Vec<Target>,
}

#[derive(Clone, Debug)]
struct Transaction {
    producer: ProducerIdentity,
    /// The identity before its owner asked for another: it may ask again.
    before: Option<ProducerIdentity>,
    timeout: Duration,
    state: State,
}

///
/// ```text
///  Empty ──▶ Open ──▶ Ending ──▶ Ended ──▶ Open …
/// ```
#[derive(Clone, Debug)]
enum State {
    /// Initialised; nothing written.
    Empty,
    Open {
        targets: BTreeSet<Target>,
        until: Time,
    },
    /// Decided; not every marker is written.
    Ending {
        commit: bool,
    },
    Ended {
        commit: bool,
    },
}

impl Transactions {
    /// Gives a producer its id and epoch, and fences the one that had this transactional id: its
    /// open transaction is aborted first, and meanwhile the answer is to try again.
    pub(crate) fn init(
        &mut self,
        transactional_id: Option<&Arc<str>>,
        timeout: Duration,
        known: Option<ProducerIdentity>,
        endings: &mut Vec<Ending>,
    ) -> Result<ProducerIdentity, Code> {
        let Some(name) = transactional_id else {
            return Ok(self.new_producer());
        };
        let Some(transaction) = self.ids.get_mut(name) else {
            let producer = self.new_producer();
            let state = State::Empty;
            let transaction = Transaction { producer, before: None, timeout, state };
            self.ids.insert(Arc::clone(name), transaction);
            return Ok(producer);
        };
        if known.is_some_and(|known| known != transaction.producer) {
            let is_again = known == transaction.before && matches!(transaction.state, State::Empty);
            return if is_again { Ok(transaction.producer) } else { Err(Code::ProducerFenced) };
        }
        match transaction.state {
            State::Ending { .. } => Err(Code::ConcurrentTransactions),
            State::Open { .. } => {
                transaction.producer.epoch = transaction.producer.epoch.saturating_add(1);
                endings.extend(transaction.decide(name, false));
                Err(Code::ConcurrentTransactions)
            }
            State::Empty | State::Ended { .. } => {
                let last = transaction.producer;
                // The last epochs are for fencing; then it goes on under another id.
                let producer = if last.epoch >= i16::MAX - 1 {
                    self.new_producer()
                } else {
                    ProducerIdentity { id: last.id, epoch: last.epoch + 1 }
                };
                let state = State::Empty;
                let transaction = Transaction { producer, before: known, timeout, state };
                self.ids.insert(Arc::clone(name), transaction);
                Ok(producer)
            }
        }
    }

    /// Carries out what a producer asks.
    pub(crate) fn request(
        &mut self,
        now: Time,
        transactional_id: &Arc<str>,
        producer: ProducerIdentity,
        request: TransactionRequest,
        endings: &mut Vec<Ending>,
    ) -> Result<(), Code> {
        let transaction = self.ids.get_mut(transactional_id).ok_or(Code::UnknownProducerId)?;
        if producer.id != transaction.producer.id {
            return Err(Code::UnknownProducerId);
        }
        if producer.epoch != transaction.producer.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        match request {
            TransactionRequest::AddPartitions(partitions) => {
                transaction.add(now, partitions.into_iter().map(Target::Log))
            }
            TransactionRequest::AddOffsets { group } => {
                transaction.add(now, [Target::Group(group)])
            }
            TransactionRequest::End { commit } => match transaction.state {
                State::Open { .. } => {
                    endings.extend(transaction.decide(transactional_id, commit));
                    Ok(())
                }
                // Asked again, since the first answer was lost.
                State::Ended { commit: was } if was == commit => Ok(()),
                State::Ending { commit: was } if was == commit => Err(Code::ConcurrentTransactions),
                State::Ended { .. } | State::Ending { .. } | State::Empty => {
                    Err(Code::InvalidTxnState)
                }
            },
        }
    }

    /// May this producer write there now? Leaders ask before they append a transactional batch
    /// (KIP-890, part 1).
    pub(crate) fn verify(
        &self,
        producer: ProducerIdentity,
        partition: &TopicPartition,
    ) -> Result<(), Code> {
        self.verify_target(producer, &Target::Log(partition.clone()))
    }

    /// May this producer commit offsets of that group now?
    pub(crate) fn verify_group(
        &self,
        producer: ProducerIdentity,
        group: &Arc<str>,
    ) -> Result<(), Code> {
        self.verify_target(producer, &Target::Group(Arc::clone(group)))
    }

    fn verify_target(&self, producer: ProducerIdentity, target: &Target) -> Result<(), Code> {
        let mut transactions = self.ids.values();
        let transaction = transactions
            .find(|transaction| transaction.producer.id == producer.id)
            .ok_or(Code::UnknownProducerId)?;
        if transaction.producer.epoch != producer.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        match &transaction.state {
            State::Open { targets, .. } if targets.contains(target) => Ok(()),
            _ => Err(Code::InvalidTxnState),
        }
    }

    /// All markers of a transaction are written.
    pub(crate) fn ended(&mut self, transactional_id: &str) {
        if let Some(transaction) = self.ids.get_mut(transactional_id)
            && let State::Ending { commit } = transaction.state
        {
            transaction.state = State::Ended { commit };
        }
    }

    /// When the next transaction has been open for too long.
    pub(crate) fn wake(&self) -> Option<Time> {
        let until = |transaction: &Transaction| match transaction.state {
            State::Open { until, .. } => Some(until),
            State::Empty | State::Ending { .. } | State::Ended { .. } => None,
        };
        self.ids.values().filter_map(until).min()
    }

    /// Aborts what has been open for too long, and fences its producer.
    pub(crate) fn turn(&mut self, now: Time) -> Vec<Ending> {
        let mut endings = Vec::new();
        for (name, transaction) in &mut self.ids {
            if matches!(transaction.state, State::Open { until, .. } if until <= now) {
                transaction.producer.epoch = transaction.producer.epoch.saturating_add(1);
                endings.extend(transaction.decide(name, false));
            }
        }
        endings
    }

    /// Transactional ids with an open transaction, or one whose markers are not written.
    pub(crate) fn unfinished(&self) -> impl Iterator<Item = &Arc<str>> {
        let is_unfinished =
            |state: &State| matches!(state, State::Open { .. } | State::Ending { .. });
        self.ids.iter().filter(move |(_, of)| is_unfinished(&of.state)).map(|(name, _)| name)
    }

    const fn new_producer(&mut self) -> ProducerIdentity {
        self.producers += 1;
        ProducerIdentity { id: self.producers, epoch: 0 }
    }
}

impl Transaction {
    fn add(&mut self, now: Time, new: impl IntoIterator<Item = Target>) -> Result<(), Code> {
        match &mut self.state {
            State::Open { targets, .. } => targets.extend(new),
            State::Ending { .. } => return Err(Code::ConcurrentTransactions),
            State::Empty | State::Ended { .. } => {
                let targets = new.into_iter().collect();
                self.state = State::Open { targets, until: now + self.timeout };
            }
        }
        Ok(())
    }

    /// From open to ending. `None` if it was not open.
    fn decide(&mut self, name: &Arc<str>, commit: bool) -> Option<Ending> {
        let State::Open { targets, .. } = &mut self.state else {
            return None;
        };
        let ending = Ending {
            transactional_id: Arc::clone(name),
            producer: self.producer,
            commit,
            targets: std::mem::take(targets).into_iter().collect(),
        };
        self.state = State::Ending { commit };
        Some(ending)
    }
}

#[cfg(test)]
mod tests;
