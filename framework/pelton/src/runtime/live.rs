//! What of a worker may change while it runs, and who tells it?

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use pelton_engine::{Pace, Time};

use crate::ports::ClientKind;
use crate::runtime::wish::{Scope, Wish};
use crate::spared_lock::SparedLock;
use crate::topic_partition::TopicPartition;

/// The part of the settings that a running worker takes over at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Live {
    /// Input topics that are not worked on.
    pub(crate) paused_topics: BTreeSet<String>,
    /// Records whose handling may start in a second, retries included; `None` sets no limit.
    pub(crate) max_records_per_second: Option<NonZeroU32>,
    /// The same for single topics.
    pub(crate) topic_paces: BTreeMap<String, NonZeroU32>,
}

/// How a worker on its own thread is told something: left here, and the thread is woken.
#[derive(Debug, Default)]
pub(crate) struct Control {
    end_wanted: AtomicBool,
    live: Mutex<Option<Live>>,
    wishes: Mutex<Vec<Wish>>,
    /// The process is there for this worker alone, and may be ended with it.
    owns_process: AtomicBool,
    faults: Mutex<Vec<Fault>>,
    thread: OnceLock<Thread>,
}

/// What a test does to a running worker.
///
/// ```
/// use pelton::{Fault, Worker, ports::ClientKind};
///
/// let faults = Worker::builder("login-counter").fault_handle();
/// faults.inject(Fault::Break(ClientKind::Producer)); // once it runs, in builds for tests
/// ```
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// One of its clients has a fatal error.
    Break(ClientKind),
    /// The poll loop hangs for ever.
    Hang,
}

/// The way of a [`Fault`] to its worker; it has one only where the feature `planted-bugs` is.
///
/// ```
/// use pelton::{FaultHandle, Worker};
///
/// let _faults: FaultHandle = Worker::builder("login-counter").fault_handle();
/// ```
#[doc(hidden)]
#[derive(Clone, Debug)]
pub struct FaultHandle(Arc<Control>);

impl FaultHandle {
    pub(crate) fn new(control: Arc<Control>) -> Self {
        Self(control)
    }

    /// Does this to the running worker.
    pub fn inject(&self, fault: Fault) {
        lock(&self.0.faults).push(fault);
        self.0.wake();
    }
}

impl Control {
    /// The calling thread is the one to wake from now on. What was left before is found by it.
    pub(crate) fn adopt(&self, thread: Thread) {
        let _first = self.thread.set(thread);
    }

    pub(crate) fn end(&self) {
        self.end_wanted.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_end_wanted(&self) -> bool {
        self.end_wanted.load(Ordering::Acquire)
    }

    /// What is left later takes the place of what was not taken yet.
    pub(crate) fn change(&self, live: Live) {
        *lock(&self.live) = Some(live);
        self.wake();
    }

    pub(crate) fn take_change(&self) -> Option<Live> {
        lock(&self.live).take()
    }

    /// In the order in which they were made.
    pub(crate) fn wish(&self, wish: Wish) {
        lock(&self.wishes).push(wish);
        self.wake();
    }

    pub(crate) fn take_wishes(&self) -> Vec<Wish> {
        std::mem::take(&mut lock(&self.wishes))
    }

    pub(crate) fn own_process(&self) {
        self.owns_process.store(true, Ordering::Release);
    }

    pub(crate) fn owns_process(&self) -> bool {
        self.owns_process.load(Ordering::Acquire)
    }

    pub(crate) fn take_fault(&self) -> Option<Fault> {
        if cfg!(feature = "planted-bugs") { lock(&self.faults).pop() } else { None }
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

/// One pace for all partitions of a worker, and one of each topic or partition that has its own.
#[derive(Debug, Default)]
pub(crate) struct Pacer {
    /// Most workers have no limit, and pay for none.
    pace: SparedLock<Option<Pace>>,
    /// Of topics that have a limit of their own by the settings.
    topics: SparedLock<BTreeMap<Scope, Pace>>,
    /// Of topics and partitions for which somebody wished one.
    wished: SparedLock<BTreeMap<Scope, Pace>>,
}

impl Pacer {
    pub(crate) fn new(live: &Live, now: Time) -> Self {
        let pacer = Self::default();
        pacer.change(live.max_records_per_second, now);
        pacer.change_topics(&live.topic_paces, now);
        pacer
    }

    /// Is there any limit?
    pub(crate) fn is_limited(&self) -> bool {
        let scoped = [&self.topics, &self.wished];
        !self.pace.is_nothing() || scoped.iter().any(|scoped| !scoped.is_nothing())
    }

    /// When the partition's next record may start; the moment is the caller's.
    pub(crate) fn take(&self, partition: &TopicPartition, now: Time) -> Time {
        let taken = self.pace.if_there(|pace| Some(pace.as_mut()?.take(now)));
        let scoped = [&self.topics, &self.wished].map(|scoped| {
            scoped.if_there(|scoped| {
                let limits = scoped.iter_mut().filter(|(scope, _)| scope.contains(partition));
                limits.map(|(_, pace)| pace.take(now)).max()
            })
        });
        scoped.into_iter().chain([taken]).flatten().flatten().fold(now, Time::max)
    }

    /// Another limit of a topic or a partition from now on.
    pub(crate) fn limit(&self, scope: Scope, per_second: Option<NonZeroU32>, now: Time) {
        self.wished.with(|scoped| match per_second {
            Some(rate) => drop(scoped.insert(scope, Pace::new(rate, now))),
            None => drop(scoped.remove(&scope)),
        });
    }

    /// Another limit from now on. Who holds a moment of the old one gives it up.
    pub(crate) fn change(&self, per_second: Option<NonZeroU32>, now: Time) {
        self.pace.with(|pace| *pace = per_second.map(|rate| Pace::new(rate, now)));
    }

    /// Other limits of topics from now on.
    pub(crate) fn change_topics(&self, per_second: &BTreeMap<String, NonZeroU32>, now: Time) {
        let paces = per_second.iter();
        let paces = paces.map(|(topic, rate)| (topic.as_str().into(), Pace::new(*rate, now)));
        self.topics.with(|topics| *topics = paces.collect());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
