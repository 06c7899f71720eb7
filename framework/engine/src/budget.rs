//! How much may be held, and by whom? One budget for records and effects of all partitions.
//!
//! What a partition holds are its records and the effects of records that Kafka does not have yet.
//! Two *sizes* are reckoned with, as the largest of late: of a run, and of one record's effects. A
//! partition may hold its *room*: its share of the budget, or one run and its effects where that
//! is more. It fetches if one run more, with its effects, would fit its room, and is stopped when
//! it would not; it starts again when half of the room is free (a stop discards what librdkafka
//! has prefetched, so it must not flicker).
//!
//! If all shares are as large as a run and its effects, nobody ever waits for anybody. If they are
//! not, there is not enough for all at once: then as many fetch as the budget has place for, and
//! the others take turns ([`Engine`](crate::Engine) keeps the order).
//!
//! Upholds INV-4: what is held stays below the budget, but for what a larger run or larger effects
//! than ever before bring at their first time.

use std::time::Duration;

use crate::time::Time;

/// Records and bytes together: what is buffered, or how much may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(crate) fn remove(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.records == 0
    }
}

/// The largest of late: what was larger longer than two windows ago is forgotten.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Largest {
    now: u64,
    before: u64,
    since: Time,
}

impl Largest {
    const WINDOW: Duration = Duration::from_secs(60);

    pub(crate) fn saw(&mut self, bytes: u64, now: Time) {
        self.now = self.now.max(bytes);
        self.forget(now);
    }

    pub(crate) fn forget(&mut self, now: Time) {
        if now.since(self.since) >= Self::WINDOW {
            *self = Self { now: 0, before: self.now, since: now };
        }
    }

    pub(crate) fn bytes(self) -> u64 {
        self.now.max(self.before)
    }
}

/// Until so many records were done, the effects of a record are taken to be twice as large as a
/// run: to be surprised by all partitions at once would be the end of the budget.
const LEARNED: u64 = 1_000;

/// How large runs and effects are.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    run: Largest,
    effects: Largest,
    /// Records done since the beginning.
    done: u64,
}

impl Sizes {
    pub(crate) fn saw_run(&mut self, bytes: u64, now: Time) {
        self.run.saw(bytes, now);
        self.effects.forget(now);
    }

    pub(crate) fn saw_effects(&mut self, largest: u64, now: Time) {
        self.effects.saw(largest, now);
        self.run.forget(now);
    }

    pub(crate) fn done(&mut self, records: u64) {
        self.done = self.done.saturating_add(records);
    }

    /// One run.
    pub(crate) fn run(self) -> u64 {
        self.run.bytes()
    }

    /// One record's effects.
    pub(crate) fn effects(self, has_effects: bool) -> u64 {
        let learns = has_effects && self.done < LEARNED;
        let guess = if learns { self.run().saturating_mul(2) } else { 0 };
        self.effects.bytes().max(guess)
    }
}

/// What each partition may hold at this moment. It has room for one run and its effects at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    /// What all partitions together may hold.
    pub(crate) budget: u64,
    /// What one partition may hold.
    pub(crate) bytes: u64,
    /// How many records one partition may buffer.
    pub(crate) records: u64,
    /// One run.
    pub(crate) run: u64,
    /// One record's effects.
    pub(crate) effects: u64,
}

impl Room {
    /// `budget` divided among `partitions`.
    pub(crate) fn new(budget: Volume, partitions: usize, run: u64, effects: u64) -> Self {
        let parts = u64::try_from(partitions.max(1)).unwrap_or(u64::MAX);
        let least = run.saturating_add(effects);
        Self {
            budget: budget.bytes,
            bytes: (budget.bytes / parts).max(least.saturating_add(least / 8)).max(1),
            records: (budget.records / parts).max(1),
            run,
            effects,
        }
    }

    /// Is there no room for one run more?
    pub(crate) fn is_full(self, buffered: Volume, effects: u64) -> bool {
        let held = buffered.bytes.saturating_add(effects);
        let with_one_more = held.saturating_add(self.run).saturating_add(self.effects);
        buffered.records >= self.records || with_one_more > self.bytes || held >= self.bytes
    }

    /// Is there room for one run more, and half of all room free?
    pub(crate) fn is_free(self, buffered: Volume, effects: u64) -> bool {
        let held = buffered.bytes.saturating_add(effects);
        !self.is_full(buffered, effects)
            && buffered.records <= self.records / 2
            && held <= self.bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: u64) -> Volume {
        Volume { records: 1, bytes }
    }

    #[test]
    fn a_partition_stops_before_it_is_full_and_starts_again_at_half() {
        let room = Room::new(Volume { records: 1_000, bytes: 10_000 }, 10, 100, 50);
        assert_eq!((room.bytes, room.records), (1_000, 100));
        assert!(!room.is_full(bytes(850), 0));
        assert!(room.is_full(bytes(851), 0));
        assert!(room.is_full(bytes(100), 800), "effects count like records");
        assert!(room.is_full(Volume { records: 100, bytes: 1 }, 0));
        assert!(room.is_free(bytes(500), 0));
        assert!(!room.is_free(bytes(501), 0));
        assert!(!room.is_free(Volume { records: 51, bytes: 1 }, 0));
    }

    #[test]
    fn a_tiny_budget_still_lets_every_partition_have_one_run_and_its_effects() {
        let room = Room::new(Volume { records: 3, bytes: 3 }, 64, 1_000, 500);
        assert!(room.is_free(Volume::default(), 0));
        assert!(room.is_full(bytes(1_000), 0));
        assert!(1_000 + 500 <= room.bytes);
    }

    #[test]
    fn what_arrives_is_held_until_it_is_freed_and_never_less_than_nothing() {
        let mut held = Volume::default();
        assert!(held.is_empty());
        held.add(Volume { records: 3, bytes: 300 });
        held.add(Volume { records: 1, bytes: 0 });
        assert_eq!((held, held.is_empty()), (Volume { records: 4, bytes: 300 }, false));
        held.remove(Volume { records: 3, bytes: 100 });
        assert_eq!(held, Volume { records: 1, bytes: 200 });
        held.remove(Volume { records: 9, bytes: 900 });
        assert!(held.is_empty() && held.bytes == 0, "{held:?}");
    }

    /// A budget as large as its setting can say, and sizes that nothing has: no sum goes round.
    #[test]
    fn sums_end_at_the_largest_number() {
        const MOST: u64 = u64::MAX;
        let mut sizes = Sizes::default();
        sizes.saw_run(MOST, Time::ZERO);
        assert_eq!(sizes.effects(true), MOST);
        let room = Room::new(Volume { records: MOST, bytes: MOST }, 1, MOST, MOST);
        assert_eq!((room.bytes, room.records), (MOST, MOST));
        assert!(room.is_full(bytes(MOST), MOST));
        assert!(room.is_free(Volume::default(), 0), "somebody must go on");
        let plenty = Room::new(Volume { records: MOST, bytes: MOST }, 1, 100, 50);
        assert!(plenty.is_free(bytes(MOST / 2), 0));
        assert!(plenty.is_full(bytes(MOST), 0) && plenty.is_full(bytes(MOST - 1), MOST));
    }

    #[test]
    fn what_was_large_long_ago_is_forgotten() {
        let at = |seconds| Time::ZERO + Duration::from_secs(seconds);
        let mut largest = Largest::default();
        largest.saw(1_000, at(1));
        largest.saw(10, at(61));
        assert_eq!(largest.bytes(), 1_000);
        largest.saw(10, at(100));
        largest.saw(10, at(122));
        assert_eq!(largest.bytes(), 10);
    }

    #[test]
    fn effects_are_expected_to_be_large_until_they_are_known() {
        let mut sizes = Sizes::default();
        sizes.saw_run(1_000, Time::ZERO);
        assert_eq!((sizes.effects(true), sizes.effects(false)), (2_000, 0));
        sizes.saw_effects(30, Time::ZERO);
        sizes.done(LEARNED);
        assert_eq!(sizes.effects(true), 30);
    }
}
