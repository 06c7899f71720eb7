//! Records that kill their process: what the workers after it make of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::time::Duration;

use pelton::{
    Batch, BatchHandler, Batches, Context, DeadLetters, Handler, HandlerError, Ordering, Record,
    Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Ends its process at a record that says so.
struct Fragile(Arc<AtomicBool>);

impl Fragile {
    async fn one(&self, record: &Record<'_>) {
        if record.value() == Some(b"kills") {
            self.0.store(true, Atomic::Relaxed);
            std::future::pending::<()>().await;
        }
    }
}

impl Handler for Fragile {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.one(record).await;
        Ok(())
    }
}

impl BatchHandler for Fragile {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        for (_, record, _) in batch.each() {
            self.one(&record).await;
        }
        Ok(())
    }
}

/// The same, with flushes; panics at a record that says so, in each process anew.
struct Nervous(Fragile);

impl Handler for Nervous {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let panics = record.value() == Some(b"panics") && ctx.assignment_epoch() % 2 == 1;
        assert!(!panics, "as the record says");
        self.0.one(record).await;
        Ok(())
    }
}

fn nervous(dies: &Arc<AtomicBool>) -> WorkerBuilder {
    let dies = Arc::clone(dies);
    let mut app = Worker::builder("nervous");
    let input = app.input("in").dead_letters("dead").flush_every(20, SECOND / 2);
    input.handler(move |_slot| Nervous(Fragile(Arc::clone(&dies))));
    app
}

/// A panic takes handled records with it, and the partition begins again. What its last commit had named
/// as in hand was not any more, and died three times with another partition's record (simulator, seed
/// 10464).
#[test]
fn inv_18_what_a_panic_has_ended_dies_of_no_other_record() {
    let mut fleet = Fleet::new(nervous, 2);
    let mut of_partition = [0, 0];
    for number in 0..60 {
        let key = format!("k{number}");
        let partition = fleet.driver.send("in", &key, "is well").0;
        let sent = &mut of_partition[usize::try_from(partition).expect("two of them")];
        *sent += 1;
        if *sent == 10 {
            fleet.driver.send("in", &key, if partition == 0 { "panics" } else { "kills" });
        }
    }
    fleet.go_on(60 * SECOND);
    let dead: Vec<_> = fleet.dead().into_iter().map(|(partition, ..)| partition).collect();
    assert_eq!((dead, fleet.deaths), (vec!["1".to_owned()], 3));
}

/// Workers that are killed where a record says so, and followed by another.
struct Fleet {
    driver: TestDriver,
    dies: Arc<AtomicBool>,
    make: fn(&Arc<AtomicBool>) -> WorkerBuilder,
    worker: usize,
    deaths: u32,
    partitions: i32,
}

impl Fleet {
    fn new(make: fn(&Arc<AtomicBool>) -> WorkerBuilder, partitions: i32) -> Self {
        let dies = Arc::<AtomicBool>::default();
        let driver = TestDriver::with_partitions(make(&dies), partitions);
        Self { driver, dies, make, worker: 0, deaths: 0, partitions }
    }

    fn go_on(&mut self, for_long: Duration) {
        let mut left = for_long.as_millis() / 10;
        while left > 0 {
            self.driver.advance(Duration::from_millis(10));
            left -= 1;
            if self.dies.swap(false, Atomic::Relaxed) {
                self.deaths += 1;
                self.driver.kill(self.worker);
                self.worker = self.driver.join((self.make)(&self.dies));
                for partition in 0..self.partitions {
                    self.driver.assign_to(self.worker, "in", partition);
                }
            }
        }
    }

    /// Partition, offset and error code of each dead letter.
    fn dead(&self) -> Vec<(String, String, String)> {
        let letters = self.driver.emitted("dead");
        let told = letters.iter().map(|letter| {
            let header = |name: &str| {
                let found = letter.headers.iter().find(|(header, _)| header == name);
                let value = found.and_then(|(_, value)| value.clone()).unwrap_or_default();
                String::from_utf8(value).expect("text")
            };
            let (partition, offset) = ("pelton-source-partition", "pelton-source-offset");
            (header(partition), header(offset), header("pelton-error-code"))
        });
        let mut told: Vec<_> = told.collect();
        told.sort();
        told
    }
}

fn ordered(dies: &Arc<AtomicBool>, ordering: Ordering, letters: DeadLetters) -> WorkerBuilder {
    let dies = Arc::clone(dies);
    let mut app = Worker::builder("fragile");
    let input = app.input("in").ordering(ordering).dead_letters(letters);
    input.handler(move |_slot| Fragile(Arc::clone(&dies)));
    app
}

fn by_partition(dies: &Arc<AtomicBool>) -> WorkerBuilder {
    ordered(dies, Ordering::Partition, "dead".into())
}

fn by_key(dies: &Arc<AtomicBool>) -> WorkerBuilder {
    ordered(dies, Ordering::key(8), "dead".into())
}

fn unordered(dies: &Arc<AtomicBool>) -> WorkerBuilder {
    ordered(dies, Ordering::unordered(8), "dead".into())
}

fn in_batches(dies: &Arc<AtomicBool>) -> WorkerBuilder {
    let dies = Arc::clone(dies);
    let mut app = Worker::builder("fragile");
    let input = app.input("in").ordering(Ordering::key(8)).dead_letters("dead");
    let batches = Batches::of(10).linger(Duration::from_millis(20));
    input.batch_handler(batches, move |_slot| Fragile(Arc::clone(&dies)));
    app
}

#[test]
fn inv_18_a_record_that_kills_becomes_a_dead_letter_and_all_others_are_done() {
    for make in [by_partition, by_key, unordered, in_batches] {
        let mut fleet = Fleet::new(make, 1);
        for number in 0..200 {
            let value = if number == 70 { "kills" } else { "is well" };
            fleet.driver.send("in", &format!("k{}", number % 17), value);
        }
        fleet.go_on(20 * SECOND);
        assert_eq!(fleet.deaths, 3);
        let dead = ("0".to_owned(), "70".to_owned(), "crashed".to_owned());
        assert_eq!(fleet.dead(), [dead]);
        assert_eq!(fleet.driver.committed("in", 0), Some(200));
        fleet.driver.send("in", "k", "is well");
        fleet.go_on(2 * SECOND);
        assert_eq!(fleet.driver.committed("in", 0), Some(201), "and all is as before");
    }
}

#[test]
fn inv_18_several_in_several_partitions_are_told_apart() {
    let mut fleet = Fleet::new(by_key, 3);
    let mut killers = Vec::new();
    for number in 0..600 {
        let kills = [100, 101, 300, 410].contains(&number);
        let value = if kills { "kills" } else { "is well" };
        let (partition, offset) = fleet.driver.send("in", &format!("k{}", number % 50), value);
        if kills {
            killers.push((partition.to_string(), offset.to_string(), "crashed".to_owned()));
        }
    }
    fleet.go_on(60 * SECOND);
    killers.sort();
    assert_eq!(fleet.dead(), killers);
    assert!(fleet.deaths <= 3 * 4, "{} deaths", fleet.deaths);
    for partition in 0..3 {
        let end = fleet.driver.status(fleet.worker).expect("it lives").partitions();
        let end =
            end.iter().find(|status| status.partition == partition).and_then(|s| s.end_offset);
        assert_eq!(fleet.driver.committed("in", partition), end);
    }
}

/// A drain that cuts off a slow record, again and again, is nobody's death.
#[test]
fn a_record_that_is_cut_off_by_hand_overs_has_killed_nobody() {
    let mut fleet = Fleet::new(by_partition, 1);
    fleet.driver.send("in", "a", "is well");
    fleet.driver.send("in", "a", "kills"); // it hangs, as long as nobody looks
    for _ in 0..6 {
        fleet.driver.advance(SECOND);
        fleet.dies.store(false, Atomic::Relaxed);
        fleet.driver.revoke("in", 0);
        fleet.driver.advance(40 * SECOND);
        fleet.worker = fleet.driver.join(by_partition(&fleet.dies));
        fleet.driver.assign_to(fleet.worker, "in", 0);
    }
    fleet.driver.advance(SECOND);
    assert_eq!(fleet.dead(), []);
    assert!(fleet.dies.load(Atomic::Relaxed), "it runs again");
}

#[test]
fn who_does_not_look_for_them_commits_as_before() {
    fn careless(dies: &Arc<AtomicBool>) -> WorkerBuilder {
        ordered(dies, Ordering::Partition, DeadLetters::to("dead").max_deaths(0))
    }
    let mut fleet = Fleet::new(careless, 1);
    fleet.driver.send("in", "a", "is well");
    fleet.driver.send("in", "a", "kills");
    fleet.go_on(10 * SECOND);
    assert!(fleet.deaths > 100 && fleet.dead().is_empty());
}
