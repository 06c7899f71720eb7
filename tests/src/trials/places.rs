//! How many tests does the machine bear at once? It has places, and each test takes some.

use std::sync::{Condvar, Mutex, PoisonError};

/// The places of a machine.
#[derive(Debug)]
pub(super) struct Places {
    all: usize,
    free: Mutex<usize>,
    freed: Condvar,
}

/// Places that are taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Taken<'a> {
    places: &'a Places,
    count: usize,
}

impl Places {
    pub(super) fn new(all: usize) -> Self {
        Self { all, free: Mutex::new(all), freed: Condvar::new() }
    }

    /// Waits until so many are free, and takes them; who wants more than there are gets all.
    pub(super) fn take(&self, count: usize) -> Taken<'_> {
        let count = count.min(self.all);
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.freed.wait_while(free, |free| *free < count);
        *waited.unwrap_or_else(PoisonError::into_inner) -= count;
        Taken { places: self, count }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.places.free.lock().unwrap_or_else(PoisonError::into_inner) += self.count;
        self.places.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn no_more_places_are_taken_than_there_are_and_all_are_given_back() {
        let (places, taken) = (Places::new(3), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for count in [1, 2, 3, usize::MAX].repeat(50) {
                let (places, taken) = (&places, &taken);
                scope.spawn(move || {
                    let _mine = places.take(count);
                    let before = taken.fetch_add(count.min(3), Ordering::SeqCst);
                    assert!(before + count.min(3) <= 3, "{before} of 3 were taken");
                    std::thread::yield_now();
                    taken.fetch_sub(count.min(3), Ordering::SeqCst);
                });
            }
        });
        assert_eq!(*places.free.lock().expect("no test has panicked"), 3);
    }
}
