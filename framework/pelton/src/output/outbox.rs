//! Which effects of done records are durable? One partition's outbox, in order.
//!
//! Entries stand in the order their records were done. Outputs are sent in that order as soon as
//! possible; a *seal* closes what is there and says, once everything before it is delivered, how
//! far the partition may commit. When a delivery fails, nothing new is sent until every report
//! is in and ownership is proved; then everything from the first failed entry on is sent again,
//! in order: repeats are allowed, a last value that is too old is not. First that record alone, then
//! two, four, …: while it fails nothing behind it is repeated, and what Kafka refuses together (more than
//! the topic's `max.message.bytes` in one batch) comes through in smaller parts.
//!
//! Upholds INV-12: an offset is committed only after the effects of every record below it are
//! durable. Pure: sending and clocks are the caller's.
//!
//! ```text
//!          delivery failed            every report is in           proof
//! Flowing ────────────────► Settling ────────────────────► Blocked ─────► Flowing
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use pelton_engine::{Bug, Standing};

use crate::ports::OutRecord;

#[derive(Debug)]
pub(crate) struct Outbox {
    /// Records in order; the front has the ticket `first_ticket`.
    records: VecDeque<Pending>,
    first_ticket: u64,
    /// The ticket of the next record to send.
    next_ticket: u64,
    /// Closed and not yet durable, oldest first.
    seals: VecDeque<Seal>,
    sealed: u64,
    flow: Flow,
    /// The first record that has failed and was not delivered since.
    failed: Option<u64>,
    unreported: usize,
    /// No more are under way at once: one after a failure, one more with each that is delivered.
    window: usize,
    bytes: usize,
    /// Bytes that are under way: the client has a copy of them.
    copied: usize,
    bug: Option<Bug>,
}

#[derive(Debug)]
struct Pending {
    record: OutRecord,
    delivered: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    /// Counts the partition's seals, from 1.
    pub(crate) number: u64,
    /// How the partition stood then.
    pub(crate) standing: Standing,
    /// Every ticket below this one belongs to it.
    before: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Flowing,
    /// Waits for the reports of what was sent; `from` is the first failed ticket.
    Settling {
        from: u64,
    },
    /// Waits for proof of ownership.
    Blocked {
        from: u64,
    },
}

impl Outbox {
    pub(crate) fn new() -> Self {
        Self {
            records: VecDeque::new(),
            first_ticket: 0,
            next_ticket: 0,
            seals: VecDeque::new(),
            sealed: 0,
            flow: Flow::Flowing,
            failed: None,
            unreported: 0,
            window: usize::MAX,
            bytes: 0,
            copied: 0,
            bug: None,
        }
    }

    /// Plants a known bug (tests only; without the feature `planted-bugs` it does nothing).
    pub(crate) fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Adds what a done record emitted.
    pub(crate) fn push(&mut self, records: impl IntoIterator<Item = OutRecord>) {
        for record in records {
            self.bytes += kept_bytes(&record);
            self.records.push_back(Pending { record, delivered: false });
        }
    }

    /// Closes what is there: once it is durable, `standing` may be committed.
    /// Returns the seal's number.
    pub(crate) fn seal(&mut self, standing: Standing) -> u64 {
        self.sealed += 1;
        self.seals.push_back(Seal { number: self.sealed, standing, before: self.end_ticket() });
        self.sealed
    }

    /// The next record to send and its ticket; [`sent`](Self::sent) moves on.
    pub(crate) fn next_to_send(&self) -> Option<(u64, &OutRecord)> {
        if self.flow != Flow::Flowing || self.unreported >= self.window {
            return None;
        }
        let at = usize::try_from(self.next_ticket - self.first_ticket).ok()?;
        self.records.get(at).map(|pending| (self.next_ticket, &pending.record))
    }

    /// The record of [`next_to_send`](Self::next_to_send) was queued.
    pub(crate) fn sent(&mut self) {
        if let Some((_, record)) = self.next_to_send() {
            self.copied += kept_bytes(record);
        }
        self.next_ticket += 1;
        self.unreported += 1;
        if Bug::ResendOnlyFailed.is(self.bug) {
            let at = usize::try_from(self.next_ticket - self.first_ticket).unwrap_or(usize::MAX);
            let delivered = self.records.iter().skip(at).take_while(|pending| pending.delivered);
            self.next_ticket += u64::try_from(delivered.count()).unwrap_or(0);
        }
    }

    /// The record of [`next_to_send`](Self::next_to_send) was refused at once.
    pub(crate) fn refused(&mut self) {
        self.flow = Flow::Settling { from: self.next_ticket };
        self.failed = Some(self.failed.map_or(self.next_ticket, |it| it.min(self.next_ticket)));
        self.window = 1;
        self.settle();
    }

    /// Where the record with this ticket goes, while it is not known to be delivered.
    pub(crate) fn topic(&self, ticket: u64) -> Option<&Arc<str>> {
        let at = usize::try_from(ticket.checked_sub(self.first_ticket)?).ok()?;
        self.records.get(at).map(|pending| &pending.record.topic)
    }

    /// A report has come in. Returns whether the outbox has just become blocked.
    pub(crate) fn reported(&mut self, ticket: u64, delivered: bool) -> bool {
        self.unreported = self.unreported.saturating_sub(1);
        let at = ticket.checked_sub(self.first_ticket).and_then(|at| usize::try_from(at).ok());
        let Some(pending) = at.and_then(|at| self.records.get_mut(at)) else {
            return false;
        };
        self.copied = self.copied.saturating_sub(kept_bytes(&pending.record));
        pending.delivered = delivered;
        if delivered && self.failed == Some(ticket) {
            self.failed = match self.flow {
                Flow::Flowing => None,
                Flow::Settling { from } | Flow::Blocked { from } => Some(from),
            };
        }
        self.window = match self.window.saturating_add(1) {
            _ if !delivered => 1,
            _ if self.flow != Flow::Flowing => self.window, // sent before the failure was known
            wider if wider > WIDE => usize::MAX,
            wider => wider,
        };
        if !delivered {
            self.failed = Some(self.failed.map_or(ticket, |failed| failed.min(ticket)));
            let from = match self.flow {
                Flow::Flowing => ticket,
                Flow::Settling { from } | Flow::Blocked { from } => from.min(ticket),
            };
            self.flow = Flow::Settling { from };
        }
        self.settle()
    }

    fn settle(&mut self) -> bool {
        let Flow::Settling { from } = self.flow else {
            return false;
        };
        if self.unreported > 0 {
            return false;
        }
        self.flow = Flow::Blocked { from };
        true
    }

    /// Nothing has failed that was not sent again.
    pub(crate) fn is_flowing(&self) -> bool {
        self.flow == Flow::Flowing
    }

    /// Something has failed and is not delivered yet, also while it is sent again.
    pub(crate) fn is_held_back(&self) -> bool {
        self.failed.is_some()
    }

    /// Waits for proof of ownership.
    pub(crate) fn is_blocked(&self) -> bool {
        matches!(self.flow, Flow::Blocked { .. })
    }

    /// Ownership is proved: everything from the first failed record on is sent again.
    pub(crate) fn unblock(&mut self) {
        let Flow::Blocked { from } = self.flow else {
            return;
        };
        self.flow = Flow::Flowing;
        self.next_ticket = from;
        let at = usize::try_from(from - self.first_ticket).unwrap_or(usize::MAX);
        for pending in self.records.iter_mut().skip(at) {
            pending.delivered &= Bug::ResendOnlyFailed.is(self.bug);
        }
    }

    /// The newest seal before which everything is delivered, once.
    pub(crate) fn take_durable(&mut self) -> Option<Seal> {
        if self.flow == Flow::Flowing {
            while self.records.front().is_some_and(|pending| pending.delivered)
                && self.first_ticket < self.next_ticket
            {
                if let Some(pending) = self.records.pop_front() {
                    self.bytes = self.bytes.saturating_sub(kept_bytes(&pending.record));
                }
                self.first_ticket += 1;
            }
        }
        let mut durable = None;
        while self.seals.front().is_some_and(|seal| seal.before <= self.first_ticket) {
            durable = self.seals.pop_front();
        }
        durable
    }

    /// How many seals there were.
    pub(crate) fn seals(&self) -> u64 {
        self.sealed
    }

    /// Nothing is waiting to be sent, reported or sealed.
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.seals.is_empty()
    }

    /// Records that are not delivered.
    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    /// Their bytes, with the copies that the client has of those under way.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes + self.copied
    }

    fn end_ticket(&self) -> u64 {
        self.first_ticket + u64::try_from(self.records.len()).unwrap_or(u64::MAX)
    }
}

/// When so many were delivered since a failure, nothing is wrong any more.
const WIDE: usize = 1_000;

/// What a record takes beside its bytes, about: here, and in the client's queue.
const ENTRY: usize = 256;

/// What a record takes while it is kept.
pub(crate) fn kept_bytes(record: &OutRecord) -> usize {
    record.bytes() + ENTRY
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_engine::Offset;

    fn record(n: u8) -> OutRecord {
        OutRecord {
            topic: Arc::from("t"),
            partition: None,
            key: Some(vec![1]),
            value: Some(vec![n]),
            headers: Vec::new(),
            timestamp_ms: None,
        }
    }

    fn send_all(outbox: &mut Outbox) -> Vec<(u64, u8)> {
        let mut sent = Vec::new();
        while let Some((ticket, record)) = outbox.next_to_send() {
            sent.push((ticket, record.value.as_ref().map_or(0, |v| v[0])));
            outbox.sent();
        }
        sent
    }

    #[test]
    fn inv_12_a_seal_is_durable_only_when_everything_before_it_is_delivered() {
        let mut outbox = Outbox::new();
        outbox.push([record(1), record(2)]);
        outbox.seal(Standing::at(Offset(5)));
        send_all(&mut outbox);
        outbox.reported(1, true);
        assert_eq!(outbox.take_durable(), None);
        outbox.reported(0, true);
        assert_eq!(outbox.take_durable().map(|seal| seal.standing.offset()), Some(Offset(5)));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_seal_without_effects_is_durable_at_once() {
        let mut outbox = Outbox::new();
        outbox.seal(Standing::at(Offset(5)));
        assert_eq!(outbox.take_durable().map(|seal| seal.standing.offset()), Some(Offset(5)));
    }

    #[test]
    fn inv_12_after_a_failure_everything_from_it_on_is_sent_again_in_order() {
        // A time-out of record 2 while 3 is delivered: without the resend of 3 the older 2
        // would stand last.
        let mut outbox = Outbox::new();
        outbox.push([record(1), record(2), record(3)]);
        send_all(&mut outbox);
        outbox.reported(0, true);
        assert!(!outbox.reported(1, false), "record 3 is still under way");
        outbox.push([record(4)]);
        assert_eq!(outbox.next_to_send(), None, "nothing new while it settles");
        assert!(outbox.reported(2, true));
        assert_eq!(outbox.take_durable(), None);
        outbox.unblock();
        assert_eq!(send_all(&mut outbox), [(1, 2)], "alone at first");
        outbox.reported(1, true);
        assert_eq!(send_all(&mut outbox), [(2, 3), (3, 4)]);
        for ticket in 2..4 {
            outbox.reported(ticket, true);
        }
        outbox.seal(Standing::at(Offset(9)));
        assert_eq!(outbox.take_durable().map(|seal| seal.standing.offset()), Some(Offset(9)));
    }

    #[test]
    fn inv_4_what_is_under_way_counts_twice_until_its_report() {
        let mut outbox = Outbox::new();
        let one = kept_bytes(&record(1));
        outbox.push([record(1), record(2)]);
        assert_eq!(outbox.bytes(), 2 * one);
        send_all(&mut outbox);
        assert_eq!(outbox.bytes(), 4 * one);
        outbox.reported(0, false);
        outbox.reported(1, true);
        assert_eq!(outbox.bytes(), 2 * one, "kept until the resend");
        outbox.unblock();
        for ticket in 0..2 {
            send_all(&mut outbox);
            outbox.reported(ticket, true);
        }
        outbox.take_durable();
        assert_eq!(outbox.bytes(), 0);
    }

    #[test]
    fn a_failed_record_holds_back_until_it_is_delivered_itself() {
        let mut outbox = Outbox::new();
        outbox.push([record(1), record(2), record(3)]);
        send_all(&mut outbox);
        outbox.reported(0, true);
        outbox.reported(1, false);
        outbox.reported(2, true);
        for _ in 0..2 {
            assert!(outbox.is_held_back(), "what is delivered behind it changes nothing");
            outbox.unblock();
            assert!(outbox.is_held_back(), "sent again is not delivered");
            assert_eq!(send_all(&mut outbox), [(1, 2)], "nothing behind it is repeated");
            outbox.reported(1, false);
        }
        outbox.unblock();
        send_all(&mut outbox);
        outbox.reported(1, true);
        assert!(!outbox.is_held_back());
        send_all(&mut outbox);
        outbox.reported(2, true);
        outbox.push([record(4)]);
        outbox.refused();
        assert!(outbox.is_held_back());
    }

    /// A batch that is larger than its topic takes is refused as a whole, for ever.
    #[test]
    fn what_is_refused_together_is_sent_in_smaller_parts() {
        let mut outbox = Outbox::new();
        outbox.push((0..100).map(record));
        outbox.seal(Standing::at(Offset(100)));
        for _ in 0..500 {
            outbox.unblock();
            let sent = send_all(&mut outbox);
            let fits = sent.len() <= 3;
            for (ticket, _) in sent {
                outbox.reported(ticket, fits);
            }
            if outbox.take_durable().is_some() {
                return;
            }
        }
        panic!("{} records are left", outbox.len());
    }

    #[test]
    fn a_refused_record_blocks_until_there_is_proof() {
        let mut outbox = Outbox::new();
        outbox.push([record(1)]);
        outbox.refused();
        assert!(outbox.is_blocked());
        outbox.unblock();
        assert_eq!(send_all(&mut outbox), [(0, 1)]);
    }
}
