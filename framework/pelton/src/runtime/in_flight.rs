//! How many records of an input are in hand at once, over all its partitions?
//!
//! The rules are the engine's [`Shares`]; here they are shared by tasks, and who stands in line is
//! woken when there is a place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_engine::{Bug, PartitionId, Shares};
use tokio::sync::Notify;

/// One input's places, for all of its partitions in this worker.
#[derive(Debug)]
pub(crate) struct InFlight(Mutex<Places>);

#[derive(Debug)]
struct Places {
    shares: Shares,
    /// The task of each partition that takes part.
    tasks: BTreeMap<PartitionId, Arc<Notify>>,
}

impl Places {
    fn wake(&self, partitions: &[PartitionId]) {
        for task in partitions.iter().filter_map(|partition| self.tasks.get(partition)) {
            task.notify_one();
        }
    }
}

impl InFlight {
    /// So many records at once.
    pub(crate) fn new(limit: usize) -> Self {
        Self(Mutex::new(Places { shares: Shares::new(limit), tasks: BTreeMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Places> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One partition's part of its input's places. What it holds goes back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    places: Arc<InFlight>,
    partition: PartitionId,
    held: usize,
    /// It stands in line.
    waits: bool,
    /// It has asked for a place since it last settled, and was refused.
    refused: bool,
    bug: Option<Bug>,
}

impl Share {
    /// The partition takes part; its `task` is woken when it may have another place.
    pub(crate) fn of(
        places: &Arc<InFlight>,
        partition: PartitionId,
        task: Arc<Notify>,
        bug: Option<Bug>,
    ) -> Self {
        let places = Arc::clone(places);
        let mut all = places.lock();
        if all.tasks.insert(partition, task).is_none() {
            all.shares.joined();
        }
        drop(all);
        Self { places, partition, held: 0, waits: false, refused: false, bug }
    }

    /// May one record more start while `running` do? The place of one that has ended is still
    /// held, and may be kept.
    pub(crate) fn take(&mut self, running: usize) -> bool {
        let spare = self.held > running;
        let mut all = self.places.lock();
        if spare && all.shares.may_keep(self.held) {
            return true;
        }
        if spare {
            let next = all.shares.give_back(self.held - running);
            self.held = running;
            all.wake(&next);
        }
        let took = all.shares.take(self.partition, self.held);
        self.held += usize::from(took);
        (self.waits, self.refused) = (!took, !took);
        took
    }

    /// Nothing starts now: places beyond what runs go to others, and unless it was refused one
    /// just now it leaves the line.
    pub(crate) fn settle(&mut self, running: usize) {
        let spare = self.held.saturating_sub(running);
        let withdraws = self.waits && !std::mem::take(&mut self.refused);
        if spare == 0 && !withdraws || Bug::PlacesLeak.is(self.bug) {
            return;
        }
        let mut all = self.places.lock();
        let next = all.shares.give_back(spare);
        all.wake(&next);
        self.held -= spare;
        if withdraws {
            self.waits = false;
            let next = all.shares.withdraw(self.partition);
            all.wake(&next);
        }
    }

    /// How many more could start at once, as far as others are concerned.
    pub(crate) fn free(&self, running: usize) -> usize {
        self.held.saturating_sub(running) + self.places.lock().shares.free()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut all = self.places.lock();
        let _woken_below = all.shares.give_back(self.held);
        all.tasks.remove(&self.partition);
        let next = all.shares.left(self.partition);
        all.wake(&next);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn woken(task: &Notify) -> bool {
        task.notified().now_or_never().is_some()
    }

    #[test]
    fn a_place_is_kept_until_somebody_else_stands_in_line() {
        let places = Arc::new(InFlight::new(2));
        let tasks = [Arc::new(Notify::new()), Arc::new(Notify::new())];
        let [mut a, mut b] = [0, 1]
            .map(|n| Share::of(&places, PartitionId(n), Arc::clone(&tasks[n as usize]), None));
        assert!(a.take(0) && a.take(1));
        assert!(a.take(1), "one of its two has ended, and nobody waits");
        assert!(!b.take(0));
        assert!(!a.take(1) && woken(&tasks[1]), "its own share is one");
        assert!(b.take(0) && !b.take(1));
        drop(a);
        assert!(woken(&tasks[1]) && b.take(1), "who leaves gives back what it has");
    }

    #[test]
    fn who_has_nothing_to_start_any_more_leaves_the_line() {
        let places = Arc::new(InFlight::new(1));
        let tasks = [0, 1, 2].map(|_| Arc::new(Notify::new()));
        let [mut a, mut b, mut c] = [0, 1, 2]
            .map(|n| Share::of(&places, PartitionId(n), Arc::clone(&tasks[n as usize]), None));
        assert!(a.take(0) && !b.take(0) && !c.take(0));
        a.settle(0);
        assert!(woken(&tasks[1]) && !woken(&tasks[2]));
        b.settle(0);
        assert!(!woken(&tasks[2]), "it was refused just now");
        b.settle(0);
        assert!(woken(&tasks[2]) && c.take(0));
    }
}
