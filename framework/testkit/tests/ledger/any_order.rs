//! Is any correct run clean under `Ordering::Key` and `Ordering::Unordered`? A model worker with
//! several slots, that goes on where a done-set says, under any sequence of hand-overs, kills,
//! losses, freezes, retries and unanswered commits.

use std::collections::{BTreeMap, BTreeSet};

use pelton_engine::{DoneSet, Offset};

use super::orderings::{by_key, unordered};
use super::*;

#[derive(Debug, Default)]
struct Group {
    offset: i64,
    named: BTreeSet<i64>,
}

/// A worker that owns the partition.
#[derive(Debug)]
struct Owner<'a> {
    name: String,
    offsets: &'a [i64],
    is_unordered: bool,
    at_once: usize,
    done: BTreeSet<i64>,
    /// Offset and attempt.
    running: Vec<(i64, u32)>,
    failed: BTreeMap<i64, u32>,
    commits: u32,
    text: String,
}

fn key(offset: i64) -> Option<&'static [u8]> {
    [Some(&b"x"[..]), Some(b"y"), Some(b"z"), None][usize::try_from(offset % 4).unwrap_or(0)]
}

impl<'a> Owner<'a> {
    fn of(
        name: String,
        group: &Group,
        offsets: &'a [i64],
        is_unordered: bool,
        at_once: u32,
    ) -> Self {
        let text = format!("{name} assigned t-0 1\n{name} started t-0 1 {}\n", group.offset);
        let below = offsets.iter().copied().filter(|offset| *offset < group.offset);
        Self {
            name,
            offsets,
            is_unordered,
            at_once: at_once as usize,
            done: below.chain(group.named.iter().copied()).collect(),
            running: Vec::new(),
            failed: BTreeMap::new(),
            commits: 0,
            text,
        }
    }

    fn say(&mut self, step: &str) {
        self.text.push_str(&format!("{} {step}\n", self.name));
    }

    /// Starts the first record that may be started, counted from `skip`.
    fn start(&mut self, skip: usize) {
        let mut units = BTreeSet::new();
        let is_running = |offset: i64| self.running.iter().any(|(running, _)| *running == offset);
        let open = self.offsets.iter().copied().filter(|offset| !self.done.contains(offset));
        let free = open.filter(|offset| {
            let is_first = units.insert(key(*offset)) || self.is_unordered;
            is_first && !is_running(*offset)
        });
        let free: Vec<_> = free.collect();
        if self.running.len() < self.at_once && !free.is_empty() {
            let offset = free[skip % free.len()];
            let attempt = self.failed.get(&offset).map_or(1, |failed| failed + 1);
            self.running.push((offset, attempt));
            self.say(&format!("start t-0 1 {offset} {attempt}"));
        }
    }

    fn end(&mut self, which: usize, outcome: &str) {
        if self.running.is_empty() {
            return;
        }
        let (offset, attempt) = self.running.swap_remove(which % self.running.len());
        match outcome {
            "done" => drop(self.done.insert(offset)),
            _ => drop(self.failed.insert(offset, attempt)),
        }
        self.say(&format!("end t-0 1 {offset} {attempt} {outcome}"));
    }

    /// Commits what is done; without an answer the group may or may not have heard it.
    fn commit(&mut self, group: &mut Group, known: bool, stored: bool) {
        let end = self.offsets.last().map_or(0, |last| last + 1);
        let offset = self.offsets.iter().copied().find(|offset| !self.done.contains(offset));
        let offset = offset.unwrap_or(end);
        let mut set = DoneSet::above(Offset(offset));
        let named: BTreeSet<_> = self.done.range(offset..).copied().collect();
        named.iter().for_each(|offset| set.push(Offset(*offset), Offset(*offset)));
        self.commits += 1;
        let id = self.commits;
        self.say(&format!("try t-0 1 {offset} {id} {}", set.encode(4_000)));
        if known {
            self.say(&format!("known t-0 1 {offset} {id} accepted"));
        }
        if stored {
            *group = Group { offset, named };
        }
    }

    fn step(&mut self, group: &mut Group, dice: u8) {
        let which = usize::from(dice / 16);
        match dice % 16 {
            0..6 => self.start(which),
            6..11 => self.end(which, "done"),
            11..13 => self.end(which, "retry"),
            _ => self.commit(group, true, true),
        }
    }

    fn drain(&mut self, group: &mut Group) {
        self.say("revoked t-0 1");
        while !self.running.is_empty() {
            self.end(0, "done");
        }
        self.commit(group, true, true);
        self.say("released t-0 1");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_correct_run_is_clean_in_any_order(
        gaps in proptest::collection::vec(1i64..4, 1..30),
        is_unordered in any::<bool>(),
        at_once in 1u32..5,
        owners in proptest::collection::vec(
            (prop_oneof![Just(End::Graceful), Just(End::Killed), Just(End::Lost), Just(End::Frozen)],
             any::<(bool, bool)>(), proptest::collection::vec(any::<u8>(), 0..60)),
            0..6,
        ),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
        let end = offsets.last().map_or(0, |last| last + 1);
        let mut truth = Truth::new();
        for offset in &offsets {
            truth.record(&partition(), *offset, key(*offset), None);
        }
        truth.at_rest(&partition(), Some(end), end);
        let (mut text, mut late, mut group) = (String::new(), String::new(), Group::default());
        for (number, (ending, (answers, stores), steps)) in owners.into_iter().enumerate() {
            let name = format!("w{number}/{number}");
            let mut owner = Owner::of(name, &group, &offsets, is_unordered, at_once);
            steps.into_iter().for_each(|dice| owner.step(&mut group, dice));
            match ending {
                End::Graceful => owner.drain(&mut group),
                End::Killed => {
                    if !answers { owner.commit(&mut group, false, stores); }
                    owner.text.push_str(&format!("f fault kill w{number} {number}\n"));
                }
                End::Lost => {
                    owner.say("lost t-0 1");
                    while !owner.running.is_empty() { owner.end(0, "cancelled"); }
                }
                End::Frozen => {
                    owner.text.push_str(&format!("f fault stop w{number} {number}\n"));
                    late.push_str(&format!("w{number}/{number} lost t-0 1\n"));
                }
            }
            text.push_str(&owner.text);
        }
        let mut last = Owner::of("last/99".into(), &group, &offsets, is_unordered, at_once);
        while last.done.len() < offsets.len() {
            last.start(0);
            last.end(0, "done");
        }
        last.drain(&mut group);
        text.push_str(&last.text);
        text.push_str(&late);
        let check = if is_unordered { unordered(at_once) } else { by_key(at_once) };
        let verdict = check.hold(&history(&text), &truth);
        prop_assert!(verdict.is_clean(), "{verdict}\n{text}");
        prop_assert_eq!(verdict.done, offsets.len() as u64);
    }
}
