//! Workers that die of their records, again and again, over random schedules and commits.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p pelton-engine --lib inv_18` is the long form.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::caution::{Hand, SIZES, Sizes, Window};
use crate::envelope::Envelope;

const LIMIT: u32 = 3;

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    Start,
    /// The running record with this number ends; it may fail.
    End(usize, bool),
    /// A seal, where the one before is answered: one that says what is next, or as by the clock.
    Seal(bool),
    /// Kafka has the commit, and the worker hears of it.
    Answer,
    /// The worker dies where it has poison in hand.
    Die,
    /// Another partition's record kills the worker while nothing of this one is in hand.
    Fall,
    /// The partition is handed over.
    HandOver,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::Start),
        6 => (0usize..8, prop::bool::weighted(0.2)).prop_map(|(at, fails)| Step::End(at, fails)),
        4 => prop::bool::weighted(0.7).prop_map(Step::Seal),
        4 => Just(Step::Answer),
        3 => Just(Step::Die),
        1 => Just(Step::Fall),
        1 => Just(Step::HandOver),
    ];
    prop::collection::vec(step, 0..400)
}

fn ordering() -> impl Strategy<Value = Ordering> {
    prop_oneof![
        Just(Ordering::Partition),
        (1u32..6).prop_map(Ordering::key),
        (1u32..6).prop_map(Ordering::unordered),
    ]
}

/// Kafka, its worker, and what the test remembers of all workers.
struct World {
    ordering: Ordering,
    sizes: Sizes,
    bug: Option<Bug>,
    records: i64,
    poison: BTreeSet<i64>,
    /// The commit, as text.
    stored: (i64, String),
    schedule: Schedule,
    in_flight: Option<Standing>,
    /// By index.
    running: BTreeMap<u64, i64>,
    done: BTreeSet<i64>,
    buried: BTreeSet<i64>,
    kills: BTreeMap<i64, u32>,
    now: Time,
}

impl World {
    fn new(ordering: Ordering, sizes: Sizes, records: i64, poison: BTreeSet<i64>) -> Self {
        let schedule = Schedule::new(ordering, Offset(0), RetryPolicy::default(), 1);
        let mut world = Self {
            ordering,
            sizes,
            bug: None,
            records,
            poison,
            stored: (0, String::new()),
            schedule,
            in_flight: None,
            running: BTreeMap::new(),
            done: BTreeSet::new(),
            buried: BTreeSet::new(),
            kills: BTreeMap::new(),
            now: Time::ZERO,
        };
        world.begin();
        world
    }

    /// Another worker takes the partition over.
    fn begin(&mut self) {
        let (offset, text) = &self.stored;
        let envelope = Envelope::decode(text).ok().flatten().unwrap_or_default();
        let before = Standing {
            done: envelope.done_set.unwrap_or_else(|| DoneSet::above(Offset(*offset))),
            marks: envelope.marks,
            window: envelope.window,
            ..Standing::at(Offset(*offset))
        };
        let mut schedule =
            Schedule::resuming(self.ordering, before.clone(), RetryPolicy::default(), 1);
        schedule.caution = Some(Caution::resuming(LIMIT, &before, self.sizes));
        schedule.plant(self.bug, None);
        let units = |offset: i64| Item { offset: Offset(offset), unit: offset.unsigned_abs() % 3 };
        schedule.push((*offset..self.records).map(units)).expect("ascending offsets");
        (self.schedule, self.in_flight) = (schedule, None);
        self.running.clear();
    }

    fn stored_window(&self) -> Option<Window> {
        Envelope::decode(&self.stored.1).ok().flatten()?.window
    }

    fn step(&mut self, step: Step) -> Result<(), TestCaseError> {
        self.now = self.now + Duration::from_secs(7);
        match step {
            Step::Start => self.start()?,
            Step::End(at, fails) => {
                let nth = self.running.keys().copied().nth(at);
                // Poison never ends: it kills first.
                let Some(index) = nth.filter(|index| !self.poison.contains(&self.running[index]))
                else {
                    return Ok(());
                };
                let offset = self.running.remove(&index).expect("it runs");
                let finish = if fails { Finish::Retry } else { Finish::Done };
                self.done.extend(Some(offset).filter(|_| !fails));
                self.schedule.finished(index, finish, self.now);
            }
            Step::Seal(announces) if self.in_flight.is_none() => {
                if announces {
                    self.schedule.announce(self.now);
                }
                self.in_flight = Some(self.schedule.seal(self.now));
            }
            Step::Seal(_) => {}
            Step::Answer => {
                if let Some(standing) = self.in_flight.take() {
                    self.store(&standing);
                    self.schedule.committed(&standing);
                }
            }
            Step::Die => {
                let killer = self.running.values().find(|offset| self.poison.contains(offset));
                if let Some(killer) = killer.copied() {
                    *self.kills.entry(killer).or_default() += 1;
                    // The commit under way may have reached Kafka, unheard.
                    if killer % 2 == 0
                        && let Some(standing) = self.in_flight.take()
                    {
                        self.store(&standing);
                    }
                    self.begin();
                }
            }
            // While a record is tried, the others have nothing in hand that could kill.
            Step::Fall if self.running.is_empty() && !self.schedule.is_trial(self.now) => {
                self.begin();
            }
            Step::Fall => {}
            Step::HandOver if self.running.is_empty() => {
                self.schedule.stop_starting(self.now);
                let standing = self.schedule.seal(self.now);
                self.store(&standing);
                self.begin();
            }
            Step::HandOver => {}
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), TestCaseError> {
        let Next::Start { index, offset, .. } = self.schedule.next(self.now) else { return Ok(()) };
        if self.schedule.is_condemned(offset) {
            prop_assert!(self.poison.contains(&offset.0), "{offset} killed nobody");
            self.schedule.finished(index, Finish::Done, self.now);
            self.buried.insert(offset.0);
            return Ok(());
        }
        let window = self.stored_window();
        prop_assert!(window.is_some_and(|window| window.allows(offset)), "{offset}: {window:?}");
        self.running.insert(index, offset.0);
        let alone = matches!(window, Some(Window { hand: Hand::One(_), .. }));
        prop_assert!(!alone || self.running.len() == 1, "{:?}", self.running);
        Ok(())
    }

    fn store(&mut self, standing: &Standing) {
        let text = Envelope {
            marks: standing.marks.clone(),
            window: standing.window,
            done_set: Some(standing.done.clone()).filter(|done| !done.is_empty()),
            ..Envelope::default()
        };
        self.stored = (standing.offset().0, text.encode());
    }

    /// Goes on without accidents until all is done.
    fn finish(&mut self) -> Result<(), TestCaseError> {
        for round in 0..20_000 {
            if self.stored.0 >= self.records {
                return Ok(());
            }
            let poison_runs = self.running.values().any(|offset| self.poison.contains(offset));
            for step in [Step::Start, Step::End(round % 5, false), Step::Seal(true), Step::Answer] {
                self.step(step)?;
            }
            if poison_runs {
                self.step(Step::Die)?;
            }
        }
        prop_assert!(false, "stuck at {:?}: {:?}", self.stored, self.schedule);
        Ok(())
    }
}

/// One record kills whoever has it in hand, for long enough.
#[cfg(feature = "planted-bugs")]
#[test]
fn inv_18_each_planted_bug_breaks_it() {
    let held = |bug: Option<Bug>| {
        let mut world = World::new(Ordering::Partition, SIZES, 10, BTreeSet::from([3]));
        world.bug = bug;
        world.begin();
        for _ in 0..200 {
            for step in
                [Step::Start, Step::End(0, false), Step::Seal(true), Step::Answer, Step::Die]
            {
                world.step(step)?;
            }
        }
        prop_assert!(world.kills.values().all(|kills| *kills <= LIMIT));
        Ok(())
    };
    assert!(held(None).is_ok());
    for bug in [Bug::StartUnannounced, Bug::DeathsWithoutEnd] {
        assert!(held(Some(bug)).is_err(), "{} breaks nothing", bug.name());
    }
}

proptest! {
    /// However workers die, commits are late and partitions are handed over: each poison record kills
    /// at most as many as the limit and is given up then, every other record is done, and no record
    /// runs that the stored commit does not allow.
    #[test]
    fn inv_18_poison_kills_at_most_so_many_and_every_other_record_is_done(
        ordering in ordering(),
        records in 1i64..60,
        poison in prop::collection::btree_set(0i64..60, 0..4),
        narrow in prop_oneof![Just(256i64), 2i64..10],
        steps in steps(),
    ) {
        let poison: BTreeSet<_> = poison.into_iter().filter(|offset| *offset < records).collect();
        let mut world = World::new(ordering, Sizes { narrow, ahead: narrow / 2 }, records, poison.clone());
        for step in steps {
            world.step(step)?;
        }
        world.finish()?;
        prop_assert_eq!(&world.buried, &poison);
        let done: BTreeSet<_> = (0..records).filter(|offset| !poison.contains(offset)).collect();
        prop_assert_eq!(&world.done, &done);
        // A wide window that can't be narrowed, because all of it waits for retries, may cost another.
        let most = LIMIT + u32::from(narrow < 256);
        prop_assert!(world.kills.values().all(|kills| *kills <= most), "{:?}", world.kills);
    }
}
