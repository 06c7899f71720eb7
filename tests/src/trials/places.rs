//! Who runs next? The machine has places, and each test takes some; tests that share what they
//! disturb follow each other. The first in line whose turn it is goes, so that nobody who waits for
//! much, or for another, keeps a place empty that somebody behind could take.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// What a test needs to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    /// So many places; who wants more than there are gets all.
    pub(super) places: usize,
    /// It runs beside none that names the same.
    pub(super) shares: Option<usize>,
}

/// The places of a machine, and who is still to come, by their numbers: the lowest is the first in
/// line.
#[derive(Debug)]
pub(super) struct Places {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug)]
struct Line {
    free: usize,
    waiting: BTreeMap<usize, Wish>,
    /// What those who run disturb.
    disturbed: BTreeSet<usize>,
}

/// Places that are taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    places: &'a Places,
    wish: Wish,
}

impl Places {
    /// Everybody in `waiting` will come.
    pub(super) fn new(all: usize, mut waiting: BTreeMap<usize, Wish>) -> Self {
        for wish in waiting.values_mut() {
            wish.places = wish.places.min(all);
        }
        let line = Line { free: all, waiting, disturbed: BTreeSet::new() };
        Self { line: Mutex::new(line), changed: Condvar::new() }
    }

    /// Waits until `number` is the first in line that can begin. Who was not expected waits for
    /// nobody.
    pub(super) fn take(&self, number: usize) -> Taken<'_> {
        let line = self.line();
        let is_waiting =
            |line: &mut Line| line.waiting.contains_key(&number) && line.next() != Some(number);
        let mut line =
            self.changed.wait_while(line, is_waiting).unwrap_or_else(PoisonError::into_inner);
        let nothing = Wish { places: 0, shares: None };
        let wish = line.waiting.remove(&number).unwrap_or(nothing);
        line.free -= wish.places;
        line.disturbed.extend(wish.shares);
        drop(line);
        self.changed.notify_all(); // another may be the first now
        Taken { places: self, wish }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Line {
    fn next(&self) -> Option<usize> {
        let can = |wish: &Wish| {
            let is_disturbed = wish.shares.is_some_and(|shared| self.disturbed.contains(&shared));
            wish.places <= self.free && !is_disturbed
        };
        self.waiting.iter().find(|(_, wish)| can(wish)).map(|(number, _)| *number)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut line = self.places.line();
        line.free += self.wish.places;
        if let Some(shared) = self.wish.shares {
            line.disturbed.remove(&shared);
        }
        drop(line);
        self.places.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn line(all: usize, wishes: &[(usize, Option<usize>)]) -> Places {
        let wishes = wishes.iter().map(|&(places, shares)| Wish { places, shares });
        Places::new(all, wishes.enumerate().collect())
    }

    #[test]
    fn no_more_places_are_taken_than_there_are_and_all_are_given_back() {
        let wishes: Vec<_> = [1, 2, 3, usize::MAX].repeat(50).iter().map(|n| (*n, None)).collect();
        let (places, taken) = (line(3, &wishes), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for (number, (count, _)) in wishes.iter().enumerate() {
                let (places, taken, count) = (&places, &taken, (*count).min(3));
                scope.spawn(move || {
                    let _mine = places.take(number);
                    let before = taken.fetch_add(count, Ordering::SeqCst);
                    assert!(before + count <= 3, "{before} of 3 were taken");
                    std::thread::yield_now();
                    taken.fetch_sub(count, Ordering::SeqCst);
                });
            }
        });
        assert_eq!(places.line().free, 3);
    }

    #[test]
    fn the_first_that_can_begin_does_and_no_place_stays_empty_for_one_that_cannot() {
        let places = line(3, &[(2, Some(7)), (2, None), (1, Some(7)), (1, None), (3, None)]);
        let next = || places.line().next();
        assert_eq!(next(), Some(0));
        let first = places.take(0);
        assert_eq!(next(), Some(3), "the second wants more than is free, the third shares");
        let fourth = places.take(3);
        assert_eq!(next(), None);
        drop(fourth);
        assert_eq!(next(), None, "the third shares, and the last wants all");
        drop(first);
        assert_eq!(next(), Some(1));
        drop((places.take(1), places.take(2)));
        assert_eq!(next(), Some(4));
        drop(places.take(17)); // nobody expected it, and nobody waits for it
        drop(places.take(4));
        assert_eq!(next(), None);
    }
}
