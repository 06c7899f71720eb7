//! Which slots does the partition have, and what is each of them at?

use std::sync::Arc;

use tokio::sync::Notify;

use super::Turn;

/// A partition's slots, by number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    /// Those that rest; the one that worked last is woken first.
    resting: Vec<usize>,
    /// Made or woken, and not at the desk yet.
    coming: usize,
    busy: usize,
    /// Numbers of slots that have ended: the next ones get them.
    gone: Vec<usize>,
}

#[derive(Debug)]
struct Slot {
    wake: Arc<Notify>,
    at: At,
    /// It has had its `revoked` hook.
    revoked: bool,
    /// Its batch.
    batch: Vec<Turn>,
}

/// What a slot is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Made or woken: it comes to the desk.
    Coming,
    Resting,
    /// In user code, with a record.
    Record(Turn),
    /// In user code, with a batch.
    Batch,
    /// In user code, with a flush, a tick or a hook.
    Call,
    /// It has ended.
    Gone,
}

impl Slots {
    /// Another one; its number, and what wakes it.
    pub(super) fn add(&mut self) -> (usize, Arc<Notify>) {
        let wake = Arc::new(Notify::new());
        let batch = Vec::new();
        let slot = Slot { wake: Arc::clone(&wake), at: At::Coming, revoked: false, batch };
        self.coming += 1;
        match self.gone.pop() {
            Some(number) => {
                self.all[number] = slot;
                (number, wake)
            }
            None => {
                self.all.push(slot);
                (self.all.len() - 1, wake)
            }
        }
    }

    /// What the slot is at from now on; returns what it was at.
    pub(super) fn set(&mut self, slot: usize, at: At) -> At {
        let Some(found) = self.all.get_mut(slot) else { return At::Gone };
        let before = std::mem::replace(&mut found.at, at);
        match before {
            At::Coming => self.coming -= 1,
            At::Resting => self.resting.retain(|resting| *resting != slot),
            At::Record(_) | At::Batch | At::Call => self.busy -= 1,
            At::Gone => self.gone.retain(|gone| *gone != slot),
        }
        match at {
            At::Coming => self.coming += 1,
            At::Resting => self.resting.push(slot),
            At::Record(_) | At::Batch | At::Call => self.busy += 1,
            At::Gone => self.gone.push(slot),
        }
        before
    }

    /// Wakes one that rests, if one does.
    pub(super) fn wake_one(&mut self) -> bool {
        let Some(slot) = self.resting.pop() else { return false };
        let slot = &mut self.all[slot];
        slot.at = At::Coming;
        self.coming += 1;
        slot.wake.notify_one();
        true
    }

    pub(super) fn wake_all(&mut self) {
        while self.wake_one() {}
    }

    /// Is this the time for the slot's `revoked` hook? True once.
    pub(super) fn take_revoked(&mut self, slot: usize) -> bool {
        let slot = self.all.get_mut(slot);
        slot.is_some_and(|slot| !std::mem::replace(&mut slot.revoked, true))
    }

    /// Have all that are there had their `revoked` hook, and returned from it?
    pub(super) fn are_revoked(&self) -> bool {
        self.busy == 0 && self.all.iter().all(|slot| slot.revoked || slot.at == At::Gone)
    }

    /// What the slot's batch has.
    pub(super) fn set_batch(&mut self, slot: usize, turns: Vec<Turn>) {
        if let Some(slot) = self.all.get_mut(slot) {
            slot.batch = turns;
        }
    }

    pub(super) fn take_batch(&mut self, slot: usize) -> Vec<Turn> {
        self.all.get_mut(slot).map(|slot| std::mem::take(&mut slot.batch)).unwrap_or_default()
    }

    /// Has a slot this attempt in hand?
    pub(super) fn has_in_hand(&self, index: u64, attempt: u32) -> bool {
        self.all.iter().any(|slot| {
            matches!(slot.at, At::Record(turn) if turn.index == index && turn.attempt == attempt)
        })
    }

    /// In user code.
    pub(super) fn in_user_code(&self) -> impl Iterator<Item = usize> + '_ {
        let busy =
            |slot: &(usize, &Slot)| matches!(slot.1.at, At::Record(_) | At::Batch | At::Call);
        self.all.iter().enumerate().filter(busy).map(|(number, _)| number)
    }

    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    pub(super) fn resting(&self) -> usize {
        self.resting.len()
    }

    pub(super) fn coming(&self) -> usize {
        self.coming
    }

    /// How many there are.
    pub(super) fn living(&self) -> usize {
        self.all.len() - self.gone.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_is_counted_where_it_is() {
        let mut slots = Slots::default();
        for _ in 0..3 {
            slots.add();
        }
        assert_eq!((slots.coming(), slots.busy(), slots.living()), (3, 0, 3));
        slots.set(0, At::Resting);
        slots.set(1, At::Call);
        assert_eq!((slots.coming(), slots.busy()), (1, 1));
        assert_eq!(slots.in_user_code().collect::<Vec<_>>(), [1]);
        assert_eq!(slots.set(1, At::Gone), At::Call);
        assert!(slots.wake_one() && !slots.wake_one(), "only one rests");
        assert_eq!((slots.coming(), slots.busy(), slots.living()), (2, 0, 2));
    }

    #[test]
    fn a_new_slot_gets_the_number_of_one_that_has_ended() {
        let mut slots = Slots::default();
        (0..3).for_each(|_| drop(slots.add()));
        assert!(slots.take_revoked(1));
        slots.set(1, At::Gone);
        assert_eq!(slots.add().0, 1);
        assert_eq!(slots.add().0, 3);
        assert!(slots.take_revoked(1), "it is another one");
        assert_eq!((slots.coming(), slots.living()), (4, 4));
    }

    #[test]
    fn the_one_that_worked_last_is_woken_first() {
        let mut slots = Slots::default();
        (0..3).for_each(|_| drop(slots.add()));
        for slot in [2, 0, 1] {
            slots.set(slot, At::Resting);
        }
        slots.wake_one();
        assert_eq!(slots.set(1, At::Resting), At::Coming);
    }

    #[test]
    fn each_slot_has_its_last_hook_once_and_who_is_gone_needs_none() {
        let mut slots = Slots::default();
        (0..2).for_each(|_| drop(slots.add()));
        assert!(slots.take_revoked(0) && !slots.take_revoked(0));
        slots.set(0, At::Call);
        slots.set(1, At::Gone);
        assert!(!slots.are_revoked(), "it is still in it");
        slots.set(0, At::Resting);
        assert!(slots.are_revoked());
    }
}
