//! Is any correct run clean? Model workers and a model group, interleaved at random.
//!
//! The workers do everything right: they commit what is done, drain, stop when they hear of a
//! loss. The group does everything it may: it moves partitions, expires frozen and slow members,
//! answers commits late or never. Some workers are killed or frozen. Nothing of that may break
//! an invariant.

use std::fmt::Write as _;

use pelton::TopicPartition;
use pelton_testkit::ledger::{Cause, Check, Ledger, Truth, Verdict};
use proptest::prelude::*;

/// A worker that owns the partition, or believes so.
#[derive(Debug, Default)]
struct Owned {
    /// Counts from 1 in each process.
    epoch: u64,
    started: bool,
    /// The record it is at, and which attempt.
    next: usize,
    attempt: u32,
    running: bool,
    /// May be committed: every record below it is done by this assignment.
    ready: i64,
    /// The highest offset it knows to be committed.
    known: i64,
    in_flight: Option<InFlight>,
    draining: bool,
    /// The group has given the partition away; the worker has not heard of it.
    lost: bool,
}

#[derive(Debug)]
struct InFlight {
    id: u64,
    offset: i64,
    /// What the group has made of it, once it has.
    accepted: Option<bool>,
}

#[derive(Debug, Default)]
struct Worker {
    pid: usize,
    frozen: bool,
    epochs: u64,
    commits: u64,
    owned: Option<Owned>,
}

#[derive(Debug)]
struct Model {
    offsets: Vec<i64>,
    workers: Vec<Worker>,
    /// Whose commits the group accepts.
    owner: Option<usize>,
    /// Who gets the partition when it is free.
    heir: usize,
    committed: i64,
    text: String,
    lines: u64,
    processes: usize,
}

const WORKERS: usize = 3;

impl Model {
    fn new(offsets: Vec<i64>) -> Self {
        let mut model = Self {
            offsets,
            workers: Vec::new(),
            owner: None,
            heir: 0,
            committed: 0,
            text: String::new(),
            lines: 0,
            processes: 0,
        };
        for number in 0..WORKERS {
            model.workers.push(Worker::default());
            model.spawn(number);
        }
        model
    }

    fn write(&mut self, line: &str) {
        writeln!(self.text, "{} {line}", self.lines).expect("memory");
        self.lines += 1;
    }

    fn say(&mut self, worker: usize, step: &str) {
        let line = format!("w/{} {step}", self.workers[worker].pid);
        self.write(&line);
    }

    /// A worker of this number starts, in a new process.
    fn spawn(&mut self, number: usize) {
        self.processes += 1;
        self.workers[number] = Worker { pid: self.processes, ..Worker::default() };
    }

    fn fault(&mut self, kind: &str, worker: usize) {
        let line = format!("faults fault {kind} w {}", self.workers[worker].pid);
        self.write(&line);
    }

    /// One thing happens.
    fn step(&mut self, dice: u8) {
        let (what, who) = (dice / 8, usize::from(dice) % WORKERS);
        match what {
            0 => self.kill(who),
            1 => self.freeze(who),
            2 | 3 => self.thaw(who),
            4 | 5 => self.move_to(who, false),
            6 => self.move_to(who, true),
            7 | 8 => self.group_answers(who),
            _ => self.work(who, dice),
        }
        self.assign_if_free();
    }

    /// Not a worker that has yet to hear of its loss: nobody could tell it from a second owner.
    fn kill(&mut self, who: usize) {
        if self.workers[who].owned.as_ref().is_some_and(|owned| owned.lost) {
            return;
        }
        self.fault("kill", who);
        if self.owner == Some(who) {
            self.owner = None;
        }
        self.spawn(who);
    }

    fn freeze(&mut self, who: usize) {
        if !self.workers[who].frozen {
            self.fault("stop", who);
            self.workers[who].frozen = true;
        }
    }

    fn thaw(&mut self, who: usize) {
        if self.workers[who].frozen {
            self.fault("continue", who);
            self.workers[who].frozen = false;
        }
    }

    /// The group moves the partition: it asks, or it takes where nobody answers.
    fn move_to(&mut self, heir: usize, take: bool) {
        self.heir = heir;
        let Some(owner) = self.owner.filter(|owner| *owner != heir) else {
            return;
        };
        let frozen = self.workers[owner].frozen;
        let Some(owned) = &mut self.workers[owner].owned else {
            return;
        };
        if frozen || (take && !owned.draining) {
            owned.lost = true;
            self.owner = None;
        } else if !owned.draining {
            owned.draining = true;
            let step = format!("revoked t-0 {}", owned.epoch);
            self.say(owner, &step);
        }
    }

    fn assign_if_free(&mut self) {
        let heir = &mut self.workers[self.heir];
        // A worker that has yet to hear of its loss gets nothing before it has.
        if self.owner.is_some() || heir.frozen || heir.owned.is_some() {
            return;
        }
        heir.epochs += 1;
        let epoch = heir.epochs;
        heir.owned = Some(Owned { epoch, ..Owned::default() });
        self.owner = Some(self.heir);
        self.say(self.heir, &format!("assigned t-0 {epoch}"));
    }

    /// The group handles the commit that a worker has sent.
    fn group_answers(&mut self, who: usize) {
        let is_owner = self.owner == Some(who);
        let flight = self.workers[who].owned.as_mut().and_then(|owned| owned.in_flight.as_mut());
        if let Some(flight) = flight.filter(|flight| flight.accepted.is_none()) {
            flight.accepted = Some(is_owner);
            if is_owner {
                self.committed = flight.offset;
            }
        }
    }

    /// A worker does what is next.
    fn work(&mut self, who: usize, dice: u8) {
        let committed = self.committed;
        let offsets = &self.offsets;
        let worker = &mut self.workers[who];
        if worker.frozen {
            return;
        }
        let commits = &mut worker.commits;
        let Some(owned) = &mut worker.owned else {
            return;
        };
        let epoch = owned.epoch;
        if owned.lost && dice & 1 == 0 {
            let cut_off = owned.running.then(|| (offsets[owned.next], owned.attempt));
            worker.owned = None;
            self.say(who, &format!("lost t-0 {epoch}"));
            if let Some((offset, attempt)) = cut_off {
                self.say(who, &format!("end t-0 {epoch} {offset} {attempt} cancelled"));
            }
            return;
        }
        if !owned.started {
            owned.started = true;
            owned.next = offsets.partition_point(|offset| *offset < committed);
            (owned.ready, owned.known, owned.attempt) = (committed, committed, 1);
            return self.say(who, &format!("started t-0 {epoch} {committed}"));
        }
        if let Some(flight) = owned.in_flight.take_if(|flight| flight.accepted.is_some()) {
            let accepted = flight.accepted == Some(true);
            if accepted {
                owned.known = flight.offset;
            }
            let outcome = if accepted { "accepted" } else { "refused" };
            let (id, offset) = (flight.id, flight.offset);
            return self.say(who, &format!("known t-0 {epoch} {offset} {id} {outcome}"));
        }
        if owned.running {
            let (offset, attempt) = (offsets[owned.next], owned.attempt);
            owned.running = false;
            let outcome = if dice & 6 == 0 { "retry" } else { "done" };
            if outcome == "retry" {
                owned.attempt += 1;
            } else {
                (owned.next, owned.attempt, owned.ready) = (owned.next + 1, 1, offset + 1);
            }
            return self.say(who, &format!("end t-0 {epoch} {offset} {attempt} {outcome}"));
        }
        let behind = owned.ready > owned.known && owned.in_flight.is_none();
        if behind && (owned.draining || dice & 2 == 0 || owned.next == offsets.len()) {
            *commits += 1;
            let (id, offset) = (*commits, owned.ready);
            owned.in_flight = Some(InFlight { id, offset, accepted: None });
            return self.say(who, &format!("try t-0 {epoch} {offset} {id}"));
        }
        if owned.draining {
            if owned.ready == owned.known {
                worker.owned = None;
                if self.owner == Some(who) {
                    self.owner = None;
                }
                self.say(who, &format!("released t-0 {epoch}"));
            }
            return;
        }
        if let Some(offset) = offsets.get(owned.next) {
            owned.running = true;
            let step = format!("start t-0 {epoch} {offset} {}", owned.attempt);
            self.say(who, &step);
        }
    }

    /// Everything thaws, everyone hears what there is to hear, everything gets done.
    #[expect(clippy::panic, reason = "a test's assertion")]
    fn come_to_rest(&mut self) {
        for who in 0..WORKERS {
            self.thaw(who);
        }
        let end = self.offsets.last().map_or(0, |last| last + 1);
        for dice in (0..=255u8).cycle().take(100_000) {
            let settled = self.workers.iter().all(|worker| {
                worker.owned.as_ref().is_none_or(|owned| !owned.lost && owned.known >= end)
            });
            if settled && self.committed == end {
                return;
            }
            let who = usize::from(dice) % WORKERS;
            self.group_answers(who);
            self.work(who, dice / 3);
            self.assign_if_free();
        }
        panic!("the model does not come to rest: {self:?}");
    }

    fn judge(&self) -> Verdict {
        let partition = TopicPartition::new("t", 0);
        let mut truth = Truth::new();
        for offset in &self.offsets {
            truth.record(&partition, *offset, None, None);
        }
        let end = self.offsets.last().map_or(0, |last| last + 1);
        truth.at_rest(&partition, Some(self.committed), end);
        Check::new().hold(&Ledger::from_text(&self.text).expect("a history"), &truth)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_correct_run_is_clean_however_it_is_disturbed(
        gaps in proptest::collection::vec(1i64..4, 1..40),
        script in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let offsets: Vec<i64> = gaps.iter().scan(-1, |at, gap| { *at += gap; Some(*at) }).collect();
        let records = offsets.len() as u64;
        let mut model = Model::new(offsets);
        for dice in script {
            model.step(dice);
        }
        model.come_to_rest();
        let verdict = model.judge();
        prop_assert!(verdict.is_clean(), "{verdict}\n{}", model.text);
        prop_assert_eq!(verdict.done, records);
    }
}

/// A model that never repeats anything would prove nothing.
#[test]
fn the_model_has_repeats_zombies_and_retries_of_every_kind() {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut causes = std::collections::BTreeMap::new();
    let (mut zombies, mut retries) = (0, 0);
    for _ in 0..300 {
        let mut model = Model::new((0..30).collect());
        for _ in 0..300 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            model.step(random.to_be_bytes()[0]);
        }
        model.come_to_rest();
        let verdict = model.judge();
        assert!(verdict.is_clean(), "{verdict}");
        zombies += verdict.zombie_windows.len();
        retries += verdict.retries;
        for (cause, count) in verdict.repeats_by_cause() {
            *causes.entry(cause).or_insert(0) += count;
        }
    }
    println!("{zombies} zombie windows, {retries} retries, repeats {causes:?}");
    assert!(zombies > 100 && retries > 100);
    for cause in [Cause::Kill, Cause::Stop, Cause::Lost] {
        assert!(causes.get(&Some(cause)).is_some_and(|count| *count > 100), "{cause}: {causes:?}");
    }
}
