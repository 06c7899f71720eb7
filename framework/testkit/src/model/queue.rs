//! In which order do things happen? By their time, and at the same time in the order they were
//! put in.

use std::collections::BTreeMap;

use pelton_engine::Time;

/// Something that waits in a [`Queue`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(Time, u64);

impl Entry {
    /// When it is due.
    pub(crate) fn at(self) -> Time {
        self.0
    }
}

/// What is to happen, and when.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// Boxed: what happens is large, and the map moves what it holds.
    waiting: BTreeMap<(Time, u64), Box<T>>,
    order: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), order: 0 }
    }
}

impl<T> Queue<T> {
    pub(crate) fn push(&mut self, at: Time, what: T) -> Entry {
        self.order += 1;
        self.waiting.insert((at, self.order), Box::new(what));
        Entry(at, self.order)
    }

    /// It is not to happen any more. One that has happened is no matter.
    pub(crate) fn cancel(&mut self, entry: Entry) {
        self.waiting.remove(&(entry.0, entry.1));
    }

    /// When the next is due.
    pub(crate) fn next(&self) -> Option<Time> {
        self.waiting.keys().next().map(|(at, _)| *at)
    }

    /// When the last is due.
    pub(crate) fn last(&self) -> Option<Time> {
        self.waiting.keys().next_back().map(|(at, _)| *at)
    }

    /// The next, if it is due by `until`.
    pub(crate) fn pop(&mut self, until: Time) -> Option<(Time, T)> {
        let next = self.waiting.first_entry().filter(|entry| entry.key().0 <= until)?;
        let at = next.key().0;
        Some((at, *next.remove()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn what_is_due_comes_by_time_and_then_in_the_order_it_was_put_in() {
        let at = |ms| Time::ZERO + Duration::from_millis(ms);
        let mut queue = Queue::default();
        for (ms, what) in [(7, 'c'), (5, 'a'), (5, 'b'), (9, 'd')] {
            queue.push(at(ms), what);
        }
        let cancelled = queue.push(at(6), 'x');
        assert_eq!(cancelled.at(), at(6));
        queue.cancel(cancelled);
        assert_eq!((queue.next(), queue.last()), (Some(at(5)), Some(at(9))));
        let due: Vec<_> = std::iter::from_fn(|| queue.pop(at(8))).map(|(_, what)| what).collect();
        assert_eq!(due, ['a', 'b', 'c']);
    }
}
