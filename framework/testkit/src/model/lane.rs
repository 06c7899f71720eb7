//! What is on its way to one partition, and what goes next? A producer's queue for it: new records,
//! batches that are tried again, numbers.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use pelton::ports::Reports;
use pelton_engine::Time;

use super::log::after;
use super::producer::ProducerConfig;
use super::wire::{LogRecord, Node};

/// What is on its way to one partition.
#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) waiting: VecDeque<Message>,
    /// Batches to be sent again, by number. They go before everything that waits.
    pub(super) again: VecDeque<Batch>,
    /// The numbers of the batches under way.
    pub(super) flying: BTreeSet<u64>,
    /// Whom they went to.
    pub(super) leader: Option<Node>,
    pub(super) next_sequence: i32,
    pub(super) next_number: u64,
    pub(super) quiet_until: Time,
    /// A batch was ahead of one that failed, or the leader moved: everything under way comes back
    /// first.
    pub(super) is_draining: bool,
}

#[derive(Debug)]
pub(super) struct Batch {
    pub(super) number: u64,
    pub(super) sequence: i32,
    pub(super) messages: Vec<Message>,
    pub(super) attempts: u32,
}

pub(super) struct Message {
    pub(super) record: Arc<LogRecord>,
    pub(super) ticket: u64,
    pub(super) reports: Arc<dyn Reports>,
    pub(super) sent: Time,
    pub(super) deadline: Time,
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

impl Lane {
    pub(super) fn is_empty(&self) -> bool {
        self.again.is_empty() && self.waiting.is_empty()
    }

    /// The number of the oldest batch that was sent and is not settled.
    pub(super) fn oldest(&self) -> Option<u64> {
        let again = self.again.front().map(|batch| batch.number);
        self.flying.first().copied().into_iter().chain(again).min()
    }

    /// May another batch be under way? A log knows only so many of the last batches again, so none
    /// goes that far ahead of one that may have to be sent again.
    pub(super) fn has_room(&self, config: &ProducerConfig) -> bool {
        let next = self.again.front().map_or(self.next_number, |batch| batch.number);
        let window = config.in_flight as u64;
        self.flying.len() < config.in_flight
            && self.oldest().is_none_or(|oldest| next < oldest.saturating_add(window))
    }

    /// What goes next, if something can go: what was sent before, and then what has lingered.
    pub(super) fn next_batch(&mut self, now: Time, config: &ProducerConfig) -> Option<Batch> {
        if let Some(batch) = self.again.pop_front() {
            return Some(batch);
        }
        let oldest = self.waiting.front()?;
        if oldest.sent + config.linger > now && self.waiting.len() < config.batch_records {
            return None;
        }
        let count = self.waiting.len().min(config.batch_records);
        let messages: Vec<Message> = self.waiting.drain(..count).collect();
        let (number, sequence) = (self.next_number, self.next_sequence);
        self.next_number += 1;
        self.next_sequence = after(sequence, i32::try_from(count).unwrap_or(i32::MAX));
        Some(Batch { number, sequence, messages, attempts: 0 })
    }

    /// What is too old and not under way; and whether its sequence numbers are taken, since it was
    /// under way before.
    pub(super) fn take_expired(&mut self, now: Time) -> (Vec<Message>, bool) {
        let mut dead = Vec::new();
        while let Some(batch) = self.again.front_mut() {
            let old = batch.messages.partition_point(|message| message.deadline <= now);
            dead.extend(batch.messages.drain(..old));
            if !batch.messages.is_empty() {
                break;
            }
            self.again.pop_front();
        }
        let was_sent = !dead.is_empty();
        if self.again.is_empty() {
            let old = self.waiting.partition_point(|message| message.deadline <= now);
            dead.extend(self.waiting.drain(..old));
        }
        (dead, was_sent)
    }

    /// Numbers begin anew, under another identity; what was sent before is taken apart.
    pub(super) fn begin_anew(&mut self) {
        for batch in self.again.drain(..).rev() {
            for message in batch.messages.into_iter().rev() {
                self.waiting.push_front(message);
            }
        }
        (self.next_sequence, self.is_draining) = (0, false);
    }
}
