//! What do a partition's task, its slots and the poll loop share, besides messages?
//!
//! Words that must not wait in a queue: whether the partition is still ours, and what user code is at.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_engine::Bug;

use crate::runtime::in_poll::{HeldCall, InPoll, WaitingCalls};
use crate::runtime::start::Stage;

/// One assignment's.
#[derive(Debug)]
pub(crate) struct Lease {
    /// False once the partition is no longer ours, however late the command arrives.
    pub(crate) alive: AtomicBool,
    /// Timestamp of the oldest record that is not done, or -1.
    pub(crate) oldest: AtomicI64,
    /// How far its start has come.
    stage: AtomicU8,
    /// Whether user code holds its thread, by slot.
    user_code: Mutex<Vec<Arc<InPoll>>>,
    waiting: WaitingCalls,
}

impl Lease {
    pub(crate) fn new(waiting: WaitingCalls) -> Self {
        Self {
            alive: AtomicBool::new(true),
            oldest: AtomicI64::new(-1),
            stage: AtomicU8::new(0),
            user_code: Mutex::default(),
            waiting,
        }
    }

    /// Is the partition no longer ours? A loss counts from the moment the poll loop knows of it, not
    /// from when the task hears it.
    pub(crate) fn is_over(&self, bug: Option<Bug>) -> bool {
        !self.alive.load(Ordering::Acquire) && !Bug::IgnoreLost.is(bug)
    }

    /// Marks for the user code of a slot, and whether they are new: one that has the number of
    /// another that has ended has its marks, too.
    pub(crate) fn marks_of(&self, slot: usize) -> (Arc<InPoll>, bool) {
        let mut all = self.marks();
        if let Some(marks) = all.get(slot) {
            return (Arc::clone(marks), false);
        }
        let marks = Arc::new(InPoll::new(self.waiting.clone()));
        all.push(Arc::clone(&marks));
        (marks, true)
    }

    /// A call that waits while no slot does.
    pub(crate) fn hold_call(&self) -> HeldCall {
        self.waiting.hold()
    }

    /// For how long user code has held its thread, in the slot where it is longest.
    pub(crate) fn blocking_ms(&self) -> u64 {
        self.marks().iter().map(|marks| marks.blocking_ms()).max().unwrap_or(0)
    }

    /// The record that was begun last, or -1.
    pub(crate) fn last_begun(&self) -> i64 {
        self.marks().iter().map(|marks| marks.offset()).max().unwrap_or(-1)
    }

    fn marks(&self) -> MutexGuard<'_, Vec<Arc<InPoll>>> {
        self.user_code.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Relaxed);
    }

    /// How far the partition's start has come, in words.
    pub(crate) fn stage(&self) -> &'static str {
        Stage::name(self.stage.load(Ordering::Relaxed))
    }
}
