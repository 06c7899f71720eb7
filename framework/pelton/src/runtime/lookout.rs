//! Does the poll loop turn, and does user code let go of its threads? A thread of the system looks.
//!
//! Not a task: handlers that block every thread of tokio, or a poll loop that hangs in a call of
//! the client's, would keep a task from looking. The lookout compares what it sees with what it
//! saw before; time during which itself was not looking (a frozen process, a machine without CPU
//! to spare) does not count: that is the send gate's case.
//!
//! The poll loop hanging for [`LOOP_LIMIT`] (or half of `max_poll_interval_ms`, if less) is said
//! and shown; for all of `max_poll_interval_ms`, it ends the worker: the group has given its
//! partitions away by then.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak, mpsc};
use std::time::Duration;

use pelton_engine::Time;

use crate::error::WorkerError;
use crate::ports::Host;
use crate::runtime::in_poll::InPoll;
use crate::runtime::status::StatusBoard;
use crate::telemetry::WorkerMetrics;
use crate::topic_partition::TopicPartition;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(250);

/// A longer time between two looks counts as so much: nobody was awake.
const LONGEST_LOOK: Duration = Duration::from_millis(500);

/// User code that does not let go of its thread for so long is named.
const HANDLER_LIMIT: Duration = Duration::from_secs(1);

/// A poll loop that does not turn for so long is said to hang.
const LOOP_LIMIT: Duration = Duration::from_secs(10);

/// What the poll loop is doing: it says so before it does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Doing {
    Resting,
    AskingTheMember,
    HearingTasks,
    TakingRecords,
    Deciding,
    Acknowledging,
    StartingAFetch,
    StoppingAFetch,
    Committing,
    StartingATask,
    ReplacingAClient,
    Showing,
}

impl Doing {
    const ALL: [(Self, &'static str); 12] = [
        (Self::Resting, "resting until there is something to do"),
        (Self::AskingTheMember, "asking the group's client for events"),
        (Self::HearingTasks, "hearing what the partitions' tasks report"),
        (Self::TakingRecords, "taking records from the fetcher"),
        (Self::Deciding, "deciding what comes next"),
        (Self::Acknowledging, "acknowledging a rebalance"),
        (Self::StartingAFetch, "starting a fetch"),
        (Self::StoppingAFetch, "stopping a fetch"),
        (Self::Committing, "sending a commit"),
        (Self::StartingATask, "starting a partition's task"),
        (Self::ReplacingAClient, "replacing a client"),
        (Self::Showing, "showing the worker's status"),
    ];

    fn name(number: u8) -> &'static str {
        let found = Self::ALL.iter().find(|(doing, _)| *doing as u8 == number);
        found.map_or("unknown", |(_, name)| name)
    }
}

/// What the poll loop and the lookout share.
#[derive(Debug, Default)]
pub(crate) struct Lookout {
    /// Counts the poll loop's turns.
    turns: AtomicU64,
    doing: AtomicU8,
    /// Slots that the lookout does not know yet.
    fresh: Mutex<Vec<(TopicPartition, Weak<InPoll>)>>,
}

impl Lookout {
    /// The poll loop begins another turn.
    pub(crate) fn turn(&self) {
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn doing(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::Relaxed);
    }

    /// A slot of the partition starts.
    pub(crate) fn watch(&self, partition: TopicPartition, marks: &Arc<InPoll>) {
        let mut fresh = self.fresh.lock().unwrap_or_else(PoisonError::into_inner);
        fresh.push((partition, Arc::downgrade(marks)));
    }
}

/// What the lookout's thread tells, and when it ends.
pub(crate) struct Duty {
    pub(crate) lookout: Arc<Lookout>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) status: Arc<StatusBoard>,
    pub(crate) metrics: WorkerMetrics,
    pub(crate) max_poll_interval: Duration,
    /// Closed when the worker has ended.
    pub(crate) over: mpsc::Receiver<()>,
    /// Called with the reason when the worker can't be left running.
    pub(crate) give_up: Box<dyn FnOnce(Hang) + Send>,
}

/// A poll loop that has hung for too long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hang {
    silence: Duration,
    doing: &'static str,
}

impl Hang {
    pub(crate) fn error(self) -> WorkerError {
        WorkerError::Hangs { silence: self.silence, doing: self.doing.to_owned() }
    }
}

/// Starts the lookout's thread.
///
/// # Errors
///
/// If the system has no thread to spare.
pub(crate) fn start(duty: Duty) -> std::io::Result<()> {
    let look = std::thread::Builder::new().name("pelton-lookout".to_owned());
    look.spawn(move || duty.stand()).map(drop)
}

impl Duty {
    fn stand(self) {
        let Self { lookout, host, status, metrics, max_poll_interval, over, give_up } = self;
        let mut give_up = Some(give_up);
        let mut awake = Awake::since(host.now());
        let mut watch = LoopWatch::new(max_poll_interval);
        let mut slots: Vec<Slot> = Vec::new();
        while over.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
            let now = awake.look(host.now());
            let turns = lookout.turns.load(Ordering::Relaxed);
            let doing = Doing::name(lookout.doing.load(Ordering::Relaxed));
            match watch.look(now, turns) {
                LoopWord::None => {}
                LoopWord::Hangs(still) => {
                    let seconds = still.as_secs();
                    tracing::error!(seconds, doing, "the poll loop hangs");
                    metrics.barked("stuck_poll_loop");
                    status.hangs(Some(format!("the poll loop hangs while {doing}")));
                }
                LoopWord::TurnsAgain(still) => {
                    let seconds = still.as_secs();
                    tracing::warn!(seconds, "the poll loop turns again");
                    status.hangs(None);
                }
                LoopWord::GiveUp(still) => {
                    if let Some(give_up) = give_up.take() {
                        give_up(Hang { silence: still, doing });
                    }
                }
            }
            let mut fresh = lookout.fresh.lock().unwrap_or_else(PoisonError::into_inner);
            slots.extend(fresh.drain(..).map(|(partition, marks)| Slot::new(partition, marks)));
            drop(fresh);
            slots.retain_mut(|slot| slot.look(now, &metrics));
            let blocking = slots.iter().filter(|slot| slot.blocking.is_some()).count();
            metrics.blocking(blocking);
        }
    }
}

/// Time as far as somebody was awake to see it.
struct Awake {
    looked: Time,
    now: Duration,
}

impl Awake {
    fn since(now: Time) -> Self {
        Self { looked: now, now: Duration::ZERO }
    }

    fn look(&mut self, now: Time) -> Duration {
        self.now += now.since(self.looked).min(LONGEST_LOOK);
        self.looked = now;
        self.now
    }
}

/// How long a mark has been the same, and when that is worth a word: at a limit, and after each
/// further doubling.
#[derive(Debug)]
struct Still {
    mark: Option<u64>,
    since: Duration,
    next_word: Duration,
    limit: Duration,
}

impl Still {
    fn new(limit: Duration) -> Self {
        Self { mark: None, since: Duration::ZERO, next_word: limit, limit }
    }

    /// How long the mark is the same, and whether it is time for a word.
    fn look(&mut self, now: Duration, mark: Option<u64>) -> (Duration, bool) {
        if mark.is_none() || self.mark != mark {
            (self.mark, self.since, self.next_word) = (mark, now, self.limit);
        }
        let still = now - self.since;
        let word = still >= self.next_word;
        if word {
            self.next_word = still * 2;
        }
        (still, word)
    }
}

/// What is to be said of the poll loop.
#[derive(Debug, PartialEq, Eq)]
enum LoopWord {
    None,
    Hangs(Duration),
    TurnsAgain(Duration),
    GiveUp(Duration),
}

#[derive(Debug)]
struct LoopWatch {
    still: Still,
    /// It was said to hang, so long at last.
    hung: Option<Duration>,
    give_up_after: Duration,
    given_up: bool,
}

impl LoopWatch {
    fn new(max_poll_interval: Duration) -> Self {
        let limit = LOOP_LIMIT.min(max_poll_interval / 2);
        let give_up_after = max_poll_interval;
        Self { still: Still::new(limit), hung: None, give_up_after, given_up: false }
    }

    fn look(&mut self, now: Duration, turns: u64) -> LoopWord {
        let (still, word) = self.still.look(now, Some(turns));
        if still.is_zero()
            && let Some(hung) = self.hung.take()
        {
            return LoopWord::TurnsAgain(hung);
        }
        if self.hung.is_some() {
            self.hung = Some(still);
        }
        if still >= self.give_up_after && !self.given_up {
            self.given_up = true;
            return LoopWord::GiveUp(still);
        }
        if word {
            self.hung = Some(still);
            return LoopWord::Hangs(still);
        }
        LoopWord::None
    }
}

/// One slot's user code.
struct Slot {
    partition: TopicPartition,
    marks: Weak<InPoll>,
    still: Still,
    /// It holds its thread, for so long.
    blocking: Option<Duration>,
}

impl Slot {
    fn new(partition: TopicPartition, marks: Weak<InPoll>) -> Self {
        Self { partition, marks, still: Still::new(HANDLER_LIMIT), blocking: None }
    }

    /// Says what there is to say; false once the slot is gone.
    fn look(&mut self, now: Duration, metrics: &WorkerMetrics) -> bool {
        let Some(user_code) = self.marks.upgrade() else {
            return false;
        };
        let (still, word) = self.still.look(now, user_code.under_way());
        let (partition, offset) = (&self.partition, user_code.offset());
        if word {
            if self.blocking.is_none() {
                metrics.barked("blocking_handler");
            }
            let blocked_ms = millis(still);
            tracing::warn!(
                %partition, offset, blocked_ms,
                "the handler has not yielded: it holds a thread that other partitions need; give calls that block to tokio::task::spawn_blocking"
            );
            self.blocking = Some(still);
        } else if still < HANDLER_LIMIT
            && let Some(blocked) = self.blocking.take()
        {
            let blocked_ms = millis(blocked);
            tracing::info!(%partition, blocked_ms, "the handler yields again");
        } else if self.blocking.is_some() {
            self.blocking = Some(still);
        }
        user_code.found_blocking(self.blocking.map_or(0, millis));
        true
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Looks four times a second, from one second to another; what was said, and when.
    fn words(watch: &mut LoopWatch, from: u32, to: u32, turns: u64) -> Vec<(u32, LoopWord)> {
        let looks = (from * 4..to * 4).map(|quarter| (quarter / 4, SECOND * quarter / 4));
        let said = looks.map(|(second, now)| (second, watch.look(now, turns)));
        said.filter(|(_, word)| *word != LoopWord::None).collect()
    }

    #[test]
    fn a_poll_loop_that_hangs_is_named_less_and_less_often_and_given_up_at_its_interval() {
        let mut watch = LoopWatch::new(300 * SECOND);
        let said = words(&mut watch, 0, 320, 7);
        let hangs: Vec<u32> = said
            .iter()
            .filter(|(_, word)| matches!(word, LoopWord::Hangs(_)))
            .map(|(second, _)| *second)
            .collect();
        assert_eq!(hangs, [10, 20, 40, 80, 160]);
        let given_up: Vec<_> =
            said.iter().filter(|(_, word)| matches!(word, LoopWord::GiveUp(_))).collect();
        assert_eq!(given_up, [&(300, LoopWord::GiveUp(300 * SECOND))], "once");
    }

    #[test]
    fn a_poll_loop_with_a_short_interval_is_named_at_half_of_it() {
        let mut watch = LoopWatch::new(6 * SECOND);
        let said = words(&mut watch, 0, 8, 7);
        assert_eq!(said[0], (3, LoopWord::Hangs(3 * SECOND)));
        assert_eq!(said[1].0, 6);
        assert_eq!(words(&mut watch, 8, 9, 8).len(), 1, "it turns again");
        assert_eq!(words(&mut watch, 9, 11, 9), []);
    }

    #[test]
    fn a_poll_loop_that_turns_is_left_alone() {
        let mut watch = LoopWatch::new(6 * SECOND);
        for second in 0..100 {
            assert_eq!(words(&mut watch, second, second + 1, second.into()), []);
        }
    }

    /// A process that was frozen wakes with everything where it was: nobody hung.
    #[test]
    fn time_in_which_nobody_was_awake_does_not_count() {
        let mut awake = Awake::since(Time::ZERO);
        let mut watch = LoopWatch::new(6 * SECOND);
        let first = awake.look(Time::ZERO + LOOK);
        assert_eq!(watch.look(first, 7), LoopWord::None);
        let thawed = awake.look(Time::ZERO + 3_600 * SECOND);
        assert_eq!(watch.look(thawed, 7), LoopWord::None);
        let mut still_asleep = Still::new(HANDLER_LIMIT);
        let _ = still_asleep.look(first, Some(1));
        assert_eq!(still_asleep.look(thawed, Some(1)), (LONGEST_LOOK, false));
    }

    #[test]
    fn only_the_same_poll_counts_as_blocking() {
        let mut still = Still::new(SECOND);
        for (millis, mark, word) in [
            (0, Some(1), false),
            (900, Some(1), false),
            (1_100, Some(3), false), // another poll: it has yielded in between
            (2_000, Some(3), false),
            (2_100, Some(3), true),
            (3_000, Some(3), false),
            (3_100, Some(3), true), // after twice the time
            (3_200, None, false),
            (9_000, Some(5), false),
        ] {
            let (_, said) = still.look(Duration::from_millis(millis), mark);
            assert_eq!(said, word, "at {millis} ms");
        }
    }

    #[test]
    fn everything_the_loop_does_has_a_name() {
        for (at, (doing, name)) in Doing::ALL.iter().enumerate() {
            assert_eq!(usize::from(*doing as u8), at, "{name}");
        }
        assert_eq!(Doing::name(200), "unknown");
    }
}
