//! Which slots does the partition have, and what is each of them at?

use std::sync::Arc;
use std::time::Duration;

use pelton_engine::Time;
use tokio::sync::Notify;

use crate::runtime::handful::Handful;

/// So many slots rest beside as many as were busy at once a while ago; more of them end, so that a burst
/// is not paid for ever after.
const RESTING: usize = 32;

/// How long a while is, at least; at most it is twice as long.
const WHILE: Duration = Duration::from_secs(1);

/// A partition's slots, by number.
#[derive(Debug, Default)]
pub(super) struct Slots {
    all: Vec<Slot>,
    /// Those that rest; the one that worked last is woken first.
    resting: Vec<usize>,
    /// Made or woken, and not at the desk yet.
    coming: usize,
    busy: usize,
    /// Not at the desk for the first time yet, though others are: in their first hooks, or before their
    /// next try.
    joining: usize,
    /// The most that were busy at once with records: since then, and in the while before.
    peak: (Time, usize, usize),
    /// Numbers of slots that have ended: the next ones get them.
    gone: Vec<usize>,
}

#[derive(Debug)]
struct Slot {
    wake: Arc<Notify>,
    at: At,
    /// It has had its `revoked` hook.
    revoked: bool,
    hand: Arc<Handful>,
}

/// What a slot is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Made or woken: it comes to the desk.
    Coming,
    Resting,
    /// With the records that it has in hand.
    Records,
    /// In user code, with a flush, a tick or a hook.
    Call,
    /// In user code, with its first hook, while others are at work.
    Joining,
    /// That has failed, and is to be tried again: it is in nobody's way.
    Waiting,
    /// It has ended.
    Gone,
}

impl Slots {
    /// Another one; its number, what wakes it, and what it has in hand.
    pub(super) fn add(&mut self) -> (usize, Arc<Notify>, Arc<Handful>) {
        let (wake, hand) = (Arc::new(Notify::new()), Arc::<Handful>::default());
        let own = (Arc::clone(&wake), Arc::clone(&hand));
        let slot = Slot { wake, at: At::Coming, revoked: false, hand };
        self.coming += 1;
        let number = match self.gone.pop() {
            Some(number) => {
                self.all[number] = slot;
                number
            }
            None => {
                self.all.push(slot);
                self.all.len() - 1
            }
        };
        (number, own.0, own.1)
    }

    /// What the slot is at from now on; returns what it was at.
    pub(super) fn set(&mut self, slot: usize, at: At) -> At {
        let Some(found) = self.all.get_mut(slot) else { return At::Gone };
        let before = std::mem::replace(&mut found.at, at);
        match before {
            At::Coming => self.coming -= 1,
            At::Resting => self.resting.retain(|resting| *resting != slot),
            At::Records | At::Call => self.busy -= 1,
            At::Joining => (self.busy, self.joining) = (self.busy - 1, self.joining - 1),
            At::Waiting => self.joining -= 1,
            At::Gone => self.gone.retain(|gone| *gone != slot),
        }
        match at {
            At::Coming => self.coming += 1,
            At::Resting => self.resting.push(slot),
            At::Records => {
                self.busy += 1;
                self.peak.1 = self.peak.1.max(self.busy);
            }
            At::Call => self.busy += 1,
            At::Joining => (self.busy, self.joining) = (self.busy + 1, self.joining + 1),
            At::Waiting => self.joining += 1,
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

    /// Those that wait for their next try, too.
    pub(super) fn wake_all(&mut self) {
        while self.wake_one() {}
        let waiting = self.all.iter().filter(|slot| slot.at == At::Waiting);
        waiting.for_each(|slot| slot.wake.notify_one());
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

    /// What the slot has in hand.
    pub(super) fn hand(&self, slot: usize) -> Option<&Arc<Handful>> {
        self.all.get(slot).map(|slot| &slot.hand)
    }

    /// Has a slot begun this attempt, and has not said yet what became of it?
    pub(super) fn has_begun(&self, index: u64, attempt: u32) -> bool {
        let with_records = self.all.iter().filter(|slot| slot.at == At::Records);
        with_records.map(|slot| slot.hand.lock()).any(|held| held.has_begun(index, attempt))
    }

    /// What those have in hand that have records.
    pub(super) fn full_hands(&self) -> Vec<Arc<Handful>> {
        let full = self.all.iter().filter(|slot| slot.at == At::Records);
        full.map(|slot| Arc::clone(&slot.hand)).collect()
    }

    /// In user code.
    pub(super) fn in_user_code(&self) -> impl Iterator<Item = usize> + '_ {
        let busy =
            |slot: &(usize, &Slot)| matches!(slot.1.at, At::Records | At::Call | At::Joining);
        self.all.iter().enumerate().filter(busy).map(|(number, _)| number)
    }

    /// Would too many rest, with so many more than do now?
    pub(super) fn are_too_many(&mut self, more: usize, now: Time) -> bool {
        let (since, most, _) = self.peak;
        if now >= since + WHILE {
            let before = if now >= since + 2 * WHILE { self.busy } else { most };
            self.peak = (now, self.busy, before);
        }
        let (_, most, before) = self.peak;
        self.resting.len() + self.busy + more > RESTING + most.max(before)
    }

    /// When it is to be seen whether too many rest, if more do than may in any case.
    pub(super) fn look_again_at(&self) -> Option<Time> {
        (self.resting.len() > RESTING).then_some(self.peak.0 + WHILE)
    }

    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    pub(super) fn coming(&self) -> usize {
        self.coming
    }

    /// How many there will be at the desk, some time.
    pub(super) fn joining(&self) -> usize {
        self.joining
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

    /// With 10,000 records at once over eight partitions slots ended and were made all the time.
    #[test]
    fn slots_that_were_busy_a_while_ago_are_kept() {
        let (mut slots, second) = (Slots::default(), |n| Time::ZERO + n * WHILE);
        for slot in 0..100 {
            slots.add();
            slots.set(slot, At::Records);
        }
        assert!(!slots.are_too_many(0, second(0)) && slots.look_again_at().is_none());
        (0..100).for_each(|slot| _ = slots.set(slot, At::Resting));
        assert!(!slots.are_too_many(0, second(1)), "they were all busy just now");
        assert_eq!(slots.look_again_at(), Some(second(2)));
        assert!(slots.are_too_many(0, second(2)));
        (0..68).for_each(|slot| _ = slots.set(slot, At::Gone));
        assert!(!slots.are_too_many(0, second(9)) && slots.look_again_at().is_none());
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
    fn one_that_joins_is_busy_in_its_hook_and_in_nobodys_way_between_two() {
        let mut slots = Slots::default();
        slots.add();
        slots.set(0, At::Joining);
        assert_eq!((slots.coming(), slots.busy(), slots.joining()), (0, 1, 1));
        assert_eq!(slots.in_user_code().count(), 1);
        slots.set(0, At::Waiting);
        assert_eq!((slots.coming(), slots.busy(), slots.joining()), (0, 0, 1));
        assert!(!slots.wake_one(), "it can do nothing yet");
        slots.set(0, At::Gone);
        assert_eq!((slots.busy(), slots.joining(), slots.living()), (0, 0, 0));
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
