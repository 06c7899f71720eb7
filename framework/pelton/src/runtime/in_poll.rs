//! Does user code hold its thread? Each poll of it is marked, so that another thread can see how
//! long it takes.
//!
//! A poll that takes long is a call that blocks inside async code: it takes a thread away from
//! every other partition of the process, and can't be cancelled. The mark costs two stores and no
//! look at a clock; whoever wants to know the time looks twice.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};

/// The marks of one partition's user code. Written by its task, read by others.
#[derive(Debug)]
pub(crate) struct InPoll {
    /// Counts entries and exits: odd while user code is being polled.
    polls: AtomicU64,
    /// The record at hand, or -1 in a hook.
    offset: AtomicI64,
    /// For how long it has held its thread, as the lookout has found; 0 while it does not.
    blocking_ms: AtomicU64,
    waiting: WaitingCalls,
}

/// So many calls of a worker's user code wait for something: a timer of their own, an answer.
/// Calls that end when they are first polled cost nothing here.
#[derive(Clone, Debug, Default)]
pub(crate) struct WaitingCalls(Arc<AtomicUsize>);

impl WaitingCalls {
    pub(crate) fn are_there(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn hold(&self) -> HeldCall {
        self.0.fetch_add(1, Ordering::Relaxed);
        HeldCall(self.clone())
    }

    fn one_more(&self) -> WaitingCall<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        WaitingCall(self)
    }
}

/// A call that waits in nobody's hands, until it is dropped.
#[derive(Debug)]
pub(crate) struct HeldCall(WaitingCalls);

impl Drop for HeldCall {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A call that waits, until it is dropped.
struct WaitingCall<'a>(&'a WaitingCalls);

impl Drop for WaitingCall<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl InPoll {
    pub(crate) const fn new(waiting: WaitingCalls) -> Self {
        Self {
            polls: AtomicU64::new(0),
            offset: AtomicI64::new(-1),
            blocking_ms: AtomicU64::new(0),
            waiting,
        }
    }

    /// Runs a call of user code to its end. Its polls may not panic.
    pub(crate) async fn run<T>(&self, code: impl Future<Output = T>) -> T {
        let mut code = pin!(code);
        let mut waits = None;
        poll_fn(|context| {
            let polled = self.during(|| code.as_mut().poll(context));
            if polled.is_pending() {
                waits.get_or_insert_with(|| self.waiting.one_more());
            }
            polled
        })
        .await
    }

    fn during<T>(&self, poll: impl FnOnce() -> T) -> T {
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
    use futures::FutureExt;

    #[test]
    fn user_code_is_under_way_only_while_it_is_polled() {
        let marks = InPoll::new(WaitingCalls::default());
        assert_eq!(marks.under_way(), None);
        let first = marks.during(|| marks.under_way());
        assert_eq!(marks.under_way(), None, "it waits: its thread is free");
        let second = marks.during(|| marks.under_way());
        assert!(first.is_some() && second.is_some() && first != second, "two polls");
    }

    #[test]
    fn a_call_waits_from_its_first_pending_poll_until_it_ends_or_is_cut_off() {
        let calls = WaitingCalls::default();
        let marks = InPoll::new(calls.clone());
        assert_eq!(marks.run(async { calls.are_there() }).now_or_never(), Some(false));
        for is_cut_off in [false, true] {
            let (wake, woken) = futures::channel::oneshot::channel::<()>();
            let mut call = Box::pin(marks.run(woken));
            assert!(!calls.are_there() && call.as_mut().now_or_never().is_none());
            assert!(calls.are_there());
            if !is_cut_off {
                wake.send(()).expect("it waits");
                call.as_mut().now_or_never().expect("it ends").expect("woken");
            }
            drop(call);
            assert!(!calls.are_there());
        }
    }
}
