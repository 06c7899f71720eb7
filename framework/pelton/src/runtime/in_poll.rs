//! Does user code hold its thread? Each poll of it is marked, so that another thread can see how
//! long it takes.
//!
//! A poll that takes long is a call that blocks inside async code: it takes a thread away from
//! every other partition of the process, and can't be cancelled. The mark costs two stores and no
//! look at a clock; whoever wants to know the time looks twice.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

/// The marks of one partition's user code. Written by its task, read by others.
#[derive(Debug)]
pub(crate) struct InPoll {
    /// Counts entries and exits: odd while user code is being polled.
    polls: AtomicU64,
    /// The record at hand, or -1 in a hook.
    offset: AtomicI64,
    /// For how long it has held its thread, as the lookout has found; 0 while it does not.
    blocking_ms: AtomicU64,
}

impl InPoll {
    pub(crate) const fn new() -> Self {
        Self {
            polls: AtomicU64::new(0),
            offset: AtomicI64::new(-1),
            blocking_ms: AtomicU64::new(0),
        }
    }

    /// Polls user code once, by a call that may not panic.
    pub(crate) fn during<T>(&self, poll: impl FnOnce() -> T) -> T {
        self.step();
        let polled = poll();
        self.step();
        polled
    }

    /// One writer: no read-modify-write is needed.
    fn step(&self) {
        let polls = self.polls.load(Ordering::Relaxed);
        self.polls.store(polls.wrapping_add(1), Ordering::Relaxed);
    }

    /// The record that is handled from now on; -1 for a hook.
    pub(crate) fn at(&self, offset: i64) {
        self.offset.store(offset, Ordering::Relaxed);
    }

    /// Which poll is under way, if one is: the same number twice is the same poll.
    pub(crate) fn under_way(&self) -> Option<u64> {
        Some(self.polls.load(Ordering::Relaxed)).filter(|polls| polls % 2 == 1)
    }

    pub(crate) fn offset(&self) -> i64 {
        self.offset.load(Ordering::Relaxed)
    }

    pub(crate) fn found_blocking(&self, millis: u64) {
        self.blocking_ms.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn blocking_ms(&self) -> u64 {
        self.blocking_ms.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_code_is_under_way_only_while_it_is_polled() {
        let marks = InPoll::new();
        assert_eq!(marks.under_way(), None);
        let first = marks.during(|| marks.under_way());
        assert_eq!(marks.under_way(), None, "it waits: its thread is free");
        let second = marks.during(|| marks.under_way());
        assert!(first.is_some() && second.is_some() && first != second, "two polls");
    }
}
