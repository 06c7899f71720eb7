//! What is hardly ever there: how do those who pass with every record learn that it is not, without
//! its lock?
//!
//! A flag says whether something is there. It changes under the lock only, together with what it
//! speaks of: whoever has put something in is never overtaken by somebody who found nothing.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// A value that may be nothing: whoever finds nothing is spared the lock.
#[derive(Debug, Default)]
pub(crate) struct SparedLock<T> {
    is_there: AtomicBool,
    value: Mutex<T>,
}

/// What may be nothing, and is when it is made by default.
pub(crate) trait MaybeNothing: Default {
    fn is_nothing(&self) -> bool;
}

impl<T> MaybeNothing for Option<T> {
    fn is_nothing(&self) -> bool {
        self.is_none()
    }
}

impl<K, V> MaybeNothing for std::collections::BTreeMap<K, V> {
    fn is_nothing(&self) -> bool {
        self.is_empty()
    }
}

impl<T: MaybeNothing> SparedLock<T> {
    /// Is there nothing? One load, and no wait.
    pub(crate) fn is_nothing(&self) -> bool {
        !self.is_there.load(Ordering::Acquire)
    }

    /// Looks at the value, and may change it, under the lock.
    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut T) -> R) -> R {
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = look(&mut value);
        self.is_there.store(!value.is_nothing(), Ordering::Release);
        seen
    }

    /// The same if there is something; `None` if there is not, without the lock.
    pub(crate) fn if_there<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        if self.is_nothing() { None } else { Some(self.with(look)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_is_spared_while_there_is_nothing() {
        let lock = SparedLock::<Option<u8>>::default();
        assert!(lock.is_nothing());
        assert_eq!(lock.if_there(|_| ()), None);
        lock.with(|value| *value = Some(3));
        assert_eq!(lock.if_there(|value| value.take()), Some(Some(3)));
        assert!(lock.is_nothing());
    }

    /// Some put in what others take out: whoever holds the lock finds the flag as the last one left
    /// the value.
    #[test]
    fn the_flag_changes_under_the_lock_with_the_value() {
        let times = if cfg!(miri) { 30 } else { 30_000 };
        let begin = std::sync::Barrier::new(2);
        let lock = SparedLock::<Option<u32>>::default();
        let set = |to: fn(u32) -> Option<u32>| {
            begin.wait();
            for time in 0..times {
                lock.with(|value| {
                    assert_eq!(lock.is_nothing(), value.is_none());
                    *value = to(time);
                });
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(|| set(Some));
            threads.spawn(|| set(|_| None));
        });
    }

    #[test]
    fn whoever_hears_that_something_was_put_in_finds_it() {
        let lock = SparedLock::<Option<u8>>::default();
        let put = std::sync::Barrier::new(2);
        std::thread::scope(|threads| {
            threads.spawn(|| {
                lock.with(|value| *value = Some(3));
                put.wait();
            });
            put.wait();
            assert_eq!(lock.if_there(|value| *value), Some(Some(3)));
        });
    }
}
