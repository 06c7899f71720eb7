//! Whose records run alone? In a worker, one partition's at a time.
//!
//! After a death, records that may have caused it run one at a time, each named in a commit. If two
//! partitions did so at once, the next death would be put down to both records. And one that is to be
//! given up at the next death runs alone in its worker, so that it must be its own doing.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pelton_engine::{PartitionId, Time};
use tokio::sync::Notify;

/// Nobody waits longer for a turn: records may take hours. Then a partition's records run as usual,
/// and a death is put down to none of them.
const PATIENCE: Duration = Duration::from_secs(60);

/// One worker's turn to run records alone.
#[derive(Debug, Default)]
pub(crate) struct Alone {
    line: Mutex<Line>,
    /// Nobody starts a record but this partition: its number and one, or 0.
    barred_by: AtomicU64,
    /// Until this moment, in nanoseconds.
    barred_until: AtomicU64,
}

impl Alone {
    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct Line {
    holder: Option<PartitionId>,
    waiting: VecDeque<PartitionId>,
    /// All partitions of the worker.
    members: BTreeMap<PartitionId, Member>,
}

#[derive(Debug)]
struct Member {
    task: Arc<Notify>,
    /// It has nothing in hand, and starts nothing.
    rests: bool,
}

impl Line {
    fn wake(&self, partition: Option<PartitionId>) {
        if let Some(member) = partition.and_then(|partition| self.members.get(&partition)) {
            member.task.notify_one();
        }
    }

    fn wake_all(&self) {
        self.members.values().for_each(|member| member.task.notify_one());
    }

    /// Do all rest but this one?
    fn all_rest_but(&self, partition: PartitionId) -> bool {
        self.members.iter().all(|(number, member)| member.rests || *number == partition)
    }
}

/// One partition's way to the turn. Dropped, it lets the next one in.
#[derive(Debug)]
pub(crate) struct Turnstile {
    alone: Arc<Alone>,
    partition: PartitionId,
    waits_since: Option<Time>,
    holds: bool,
}

/// What a partition gets that asks for the turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Ours,
    /// Its task is woken when it is.
    Wait,
    /// It has waited for too long.
    GiveUp,
}

impl Turnstile {
    /// The partition's way; its `task` is woken when its turn has come.
    pub(crate) fn of(alone: &Arc<Alone>, partition: PartitionId, task: Arc<Notify>) -> Self {
        let turnstile =
            Self { alone: Arc::clone(alone), partition, waits_since: None, holds: false };
        turnstile.alone.line().members.insert(partition, Member { task, rests: false });
        turnstile
    }

    fn number(&self) -> u64 {
        u64::from(self.partition.0) + 1
    }

    /// Takes the turn, or stands in line for it. With `bars` it is not ours before the worker's other
    /// partitions have nothing in hand, and they start nothing until it is asked for without, or left.
    pub(crate) fn ask(&mut self, bars: bool, now: Time) -> Asked {
        let alone = Arc::clone(&self.alone);
        let mut line = alone.line();
        let holder = *line.holder.get_or_insert(self.partition);
        let is_ours = holder == self.partition;
        if is_ours {
            self.holds = true;
            self.bar(bars.then_some(now), &mut line);
        } else if !line.waiting.contains(&self.partition) {
            line.waiting.push_back(self.partition);
        }
        let waits = !is_ours || bars && !line.all_rest_but(self.partition);
        if !waits {
            if bars {
                // From now on, whatever it waited for: each record has its own time.
                self.alone.barred_until.store((now + PATIENCE).0, Ordering::Release);
            }
            self.waits_since = None;
            return Asked::Ours;
        }
        drop(line);
        let since = *self.waits_since.get_or_insert(now);
        if now < since + PATIENCE { Asked::Wait } else { Asked::GiveUp }
    }

    fn bar(&self, since: Option<Time>, line: &mut Line) {
        let wanted = since.map_or(0, |_| self.number());
        let until = Time(self.alone.barred_until.load(Ordering::Acquire));
        // Others may have started something since then.
        let is_over = since.is_some_and(|now| now >= until);
        if self.alone.barred_by.load(Ordering::Acquire) != wanted || is_over {
            let until = since.unwrap_or(Time::ZERO) + PATIENCE;
            self.alone.barred_until.store(until.0, Ordering::Release);
            self.alone.barred_by.store(wanted, Ordering::Release);
            line.members.values_mut().for_each(|member| member.rests = false);
            line.wake_all();
        }
    }

    /// Is it this partition's turn?
    pub(crate) fn is_ours(&self) -> bool {
        self.holds
    }

    /// The others may start again.
    pub(crate) fn unbar(&self) {
        if self.holds {
            self.bar(None, &mut self.alone.line());
        }
    }

    /// Must the partition start nothing, for another one's sake? Not for ever: that one's record may take
    /// hours, or wait for its dead letter.
    pub(crate) fn is_barred(&self, now: Time) -> bool {
        self.barred_until().is_some_and(|until| now < until)
    }

    /// When it may start again, if it must not for another one's sake.
    pub(crate) fn barred_until(&self) -> Option<Time> {
        let by = self.alone.barred_by.load(Ordering::Acquire);
        let until = self.alone.barred_until.load(Ordering::Acquire);
        (by != 0 && by != self.number()).then_some(Time(until))
    }

    /// The partition has nothing in hand: who bars it may want to know.
    pub(crate) fn rest(&self) {
        if self.barred_until().is_none() {
            return;
        }
        let mut line = self.alone.line();
        if let Some(member) = line.members.get_mut(&self.partition) {
            member.rests = true;
        }
        if line.holder.is_some_and(|holder| line.all_rest_but(holder)) {
            line.wake(line.holder);
        }
    }

    /// The partition needs the turn no longer.
    pub(crate) fn leave(&mut self) {
        let waited = self.waits_since.take().is_some();
        if !std::mem::take(&mut self.holds) && !waited {
            return;
        }
        let mut line = self.alone.line();
        line.waiting.retain(|waiting| *waiting != self.partition);
        if line.holder == Some(self.partition) {
            self.bar(None, &mut line);
            line.holder = line.waiting.pop_front();
            line.wake(line.holder);
        }
    }

    /// When it will have waited for too long.
    pub(crate) fn gives_up_at(&self) -> Option<Time> {
        self.waits_since.map(|since| since + PATIENCE)
    }
}

impl Drop for Turnstile {
    fn drop(&mut self) {
        self.leave();
        let mut line = self.alone.line();
        line.members.remove(&self.partition);
        line.wake(line.holder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn turnstiles<const N: usize>() -> ([Turnstile; N], [Arc<Notify>; N]) {
        let alone = Arc::default();
        let tasks: [Arc<Notify>; N] = std::array::from_fn(|_| Arc::new(Notify::new()));
        let number = |n: usize| PartitionId(u32::try_from(n).unwrap_or(0));
        let all = std::array::from_fn(|n| Turnstile::of(&alone, number(n), Arc::clone(&tasks[n])));
        (all, tasks)
    }

    fn woken(task: &Notify) -> bool {
        task.notified().now_or_never().is_some()
    }

    #[test]
    fn one_partition_has_the_turn_and_the_others_get_it_in_line() {
        let ([mut a, mut b, mut c], tasks) = turnstiles();
        let now = Time::ZERO;
        assert_eq!((a.ask(false, now), a.ask(false, now)), (Asked::Ours, Asked::Ours));
        assert_eq!((b.ask(false, now), c.ask(false, now)), (Asked::Wait, Asked::Wait));
        a.leave();
        assert!(woken(&tasks[1]) && !woken(&tasks[2]));
        assert_eq!((b.ask(false, now), a.ask(false, now)), (Asked::Ours, Asked::Wait));
        drop(b);
        assert!(woken(&tasks[2]) && c.ask(false, now) == Asked::Ours);
        a.leave();
        c.leave();
        assert!(!woken(&tasks[0]), "it does not wait any more");
    }

    #[test]
    fn who_bars_the_others_waits_until_they_rest() {
        let ([mut a, b, c], tasks) = turnstiles();
        let now = Time::ZERO;
        assert!(a.ask(false, now) == Asked::Ours && !b.is_barred(now));
        assert_eq!(a.ask(true, now), Asked::Wait);
        assert!(b.is_barred(now) && !a.is_barred(now) && woken(&tasks[1]) && woken(&tasks[2]));
        b.rest();
        assert_eq!(a.ask(true, now), Asked::Wait);
        woken(&tasks[0]);
        drop(c);
        assert!(woken(&tasks[0]) && a.ask(true, now) == Asked::Ours);
        let later = now + PATIENCE;
        assert!(b.is_barred(now) && !b.is_barred(later), "not for ever");
        assert_eq!(a.ask(true, later), Asked::Wait, "it may have started something since");
        assert!(b.is_barred(later));
        b.rest();
        let granted = later + PATIENCE / 2;
        assert_eq!(a.ask(true, granted), Asked::Ours);
        assert!(b.is_barred(later + PATIENCE), "a record has its own time");
        let now = granted;
        a.ask(false, now);
        assert!(!b.is_barred(now) && woken(&tasks[1]));
        assert_eq!(a.ask(true, now), Asked::Wait, "it may have started something meanwhile");
        a.leave();
        assert!(!b.is_barred(now));
    }

    #[test]
    fn nobody_waits_for_ever() {
        let ([mut a, mut b], _) = turnstiles();
        a.ask(false, Time::ZERO);
        b.ask(false, Time::ZERO);
        let late = b.gives_up_at().expect("it waits");
        assert_eq!((b.ask(false, late), a.ask(false, late)), (Asked::GiveUp, Asked::Ours));
    }
}
