//! What has a slot in hand? Records that it handles one after the other, and what has become of those
//! that it has handled.
//!
//! The desk fills it; the slot takes one record after another; and whenever the desk looks, it learns
//! what has ended and takes back what has not begun. So records that take no time share the cost of a
//! step at the desk, and one that does takes up no other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pelton_engine::{Time, Turn};

use crate::record::Run;
use crate::runtime::slot::Called;

/// An attempt, the run that holds its record, and the record's place there. No run: it is the one of the
/// record before it.
pub(crate) type InHand = (Turn, Option<Arc<Run>>, usize);

/// A slot's records; the desk and the slot share it.
#[derive(Debug, Default)]
pub(crate) struct Handful(Mutex<Held>);

/// What is in hand, while somebody looks.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// When it was filled, until the desk has looked.
    pub(crate) since: Option<Time>,
    /// The same, where its slot has called nobody.
    pub(crate) alone_since: Option<Time>,
    /// So many it was filled with, until the desk has looked.
    records: usize,
    /// The most bytes that effects of one record ever came to here, when it was filled.
    pub(crate) usual_effects: u64,
    /// Not begun.
    waiting: VecDeque<InHand>,
    /// In user code.
    begun: Option<Turn>,
    /// In user code with it, in a batch.
    with_it: Vec<Turn>,
    /// In the order in which they have ended.
    ended: Vec<Ended>,
}

/// An attempt that has ended while others of the same hands were to come.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) turn: Turn,
    /// How; nothing if its record is done, and that is all: so it is with most that take no time.
    pub(crate) called: Option<Box<Called>>,
}

/// What the desk finds.
#[derive(Debug)]
pub(crate) struct Found {
    /// When it was filled, and with how many, if nobody has looked since.
    pub(crate) since: Option<Time>,
    pub(crate) records: usize,
    pub(crate) ended: Vec<Ended>,
    /// Not begun, last to first, and not in the slot's hands any more.
    pub(crate) back: Vec<Turn>,
}

impl Handful {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// One more record, for the slot to handle behind the others.
    pub(crate) fn add(&mut self, record: InHand) {
        self.records += 1;
        self.waiting.push_back(record);
    }

    /// So many have not begun.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// The first of those that have not begun.
    pub(crate) fn first(&self) -> Option<Turn> {
        self.waiting.front().map(|(turn, ..)| *turn)
    }

    /// The next one is in user code from now on.
    pub(crate) fn begin(&mut self) -> Option<InHand> {
        let next = self.waiting.pop_front()?;
        self.begun = Some(next.0);
        Some(next)
    }

    /// All of them are.
    pub(crate) fn begin_all(&mut self) -> Vec<InHand> {
        let mut all = Vec::with_capacity(self.waiting());
        all.extend(self.begin());
        all.extend(self.waiting.drain(..));
        self.with_it.extend(all.iter().skip(1).map(|(turn, ..)| *turn));
        all
    }

    /// What is in user code.
    pub(crate) fn begun(&self) -> Option<Turn> {
        self.begun
    }

    /// What is in user code, which is the desk's from now on: it has ended, or was cut off; and what was
    /// with it in its batch.
    pub(crate) fn end(&mut self) -> (Option<Turn>, Vec<Turn>) {
        (self.begun.take(), std::mem::take(&mut self.with_it))
    }

    /// What is in user code has ended so, and another one may begin before the desk hears of it;
    /// returns its attempt.
    pub(crate) fn put_aside(&mut self, called: Called) -> Option<Turn> {
        let turn = self.begun.take()?;
        let called = match called {
            Called::Done(effects) if effects.is_empty() => None,
            called => Some(Box::new(called)),
        };
        self.ended.push(Ended { turn, called });
        Some(turn)
    }

    /// Has it begun this attempt, and has the desk not heard what became of it?
    pub(crate) fn has_begun(&self, index: u64, attempt: u32) -> bool {
        let ended = self.ended.iter().map(|ended| &ended.turn);
        self.begun.iter().chain(ended).any(|turn| turn.index == index && turn.attempt == attempt)
    }

    /// The desk looks.
    pub(crate) fn look(&mut self) -> Found {
        self.alone_since = None;
        let back = self.waiting.drain(..).rev();
        Found {
            since: self.since.take(),
            // A batch that has begun is one record until it has ended.
            records: if self.with_it.is_empty() { std::mem::take(&mut self.records) } else { 0 },
            back: back.map(|(turn, ..)| turn).collect(),
            ended: std::mem::take(&mut self.ended),
        }
    }

    /// Its only record is none for a slot.
    pub(crate) fn take_back(&mut self) {
        (self.since, self.records) = (None, 0);
        self.waiting.clear();
    }

    /// Room for what ends next, so that it is not made anew each time.
    pub(crate) fn reuse(&mut self, ended: Vec<Ended>) {
        if self.ended.capacity() == 0 {
            self.ended = ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TopicPartition;
    use crate::effects::Effects;
    use pelton_engine::Offset;

    #[test]
    fn what_has_not_begun_goes_back_and_what_has_ended_is_told_once() {
        let handful = Handful::default();
        let run = Arc::new(Run::new(TopicPartition::new("t", 0)));
        let turn = |index| Turn { index, offset: Offset(7), attempt: 1 };
        let mut held = handful.lock();
        (0..4).for_each(|index| held.add((turn(index), Some(Arc::clone(&run)), 0)));
        held.begin();
        held.put_aside(Called::Done(Effects::default()));
        held.begin();
        assert!(held.has_begun(0, 1) && held.has_begun(1, 1));
        assert!(!held.has_begun(1, 2) && !held.has_begun(2, 1));

        let found = held.look();
        assert_eq!((found.records, found.ended.len()), (4, 1));
        assert_eq!(found.back, [turn(3), turn(2)], "the first one goes to the front at last");
        assert!(held.begin().is_none(), "it is in nobody's hands");
        assert_eq!(held.look().records, 0, "it counts for itself since");
        assert_eq!((held.end().0, held.end().0), (Some(turn(1)), None));
    }

    #[test]
    fn a_batch_begins_at_once() {
        let handful = Handful::default();
        let run = Arc::new(Run::new(TopicPartition::new("t", 0)));
        let turn = |index| Turn { index, offset: Offset(7), attempt: 1 };
        for _ in 0..2 {
            let mut held = handful.lock();
            (0..3).for_each(|index| held.add((turn(index), Some(Arc::clone(&run)), 0)));
            let begun: Vec<_> = held.begin_all().iter().map(|(turn, ..)| turn.index).collect();
            assert_eq!(begun, [0, 1, 2]);
            assert!(held.look().back.is_empty());
            assert_eq!(held.end(), (Some(turn(0)), vec![turn(1), turn(2)]));
        }
    }
}
