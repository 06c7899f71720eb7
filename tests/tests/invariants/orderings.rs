//! Several records of a partition at once: what is kept in order, what is shared, what is committed.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};

use pelton::admin::Status;
use pelton::{Context, Handler, HandlerError, Ordering, Record, Store, Worker, WorkerBuilder};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Who is in hand, and who was done, in order.
#[derive(Debug, Default)]
struct Journal {
    running: BTreeSet<String>,
    most: usize,
    done: Vec<String>,
}

type Shared = Arc<Mutex<Journal>>;

/// A record's value says for how many seconds it is handled.
struct Sleeps(Shared);

impl Handler for Sleeps {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let seconds: u32 = record.json()?;
        let key = record.key_str()?.to_owned();
        {
            let mut journal = self.0.lock().expect("no panic holds it");
            assert!(journal.running.insert(key.clone()), "two records of {key} at once");
            journal.most = journal.most.max(journal.running.len());
        }
        tokio::time::sleep(SECOND * seconds).await;
        let mut journal = self.0.lock().expect("no panic holds it");
        journal.running.remove(&key);
        journal.done.push(format!("{key}{seconds}"));
        Ok(())
    }
}

fn sleeps(ordering: Ordering) -> (WorkerBuilder, Shared) {
    let journal = Shared::default();
    let witness = Arc::clone(&journal);
    let mut app = Worker::builder("sleeps");
    app.input("in").ordering(ordering).handler(move |_slot| Sleeps(Arc::clone(&witness)));
    (app, journal)
}

fn done(journal: &Shared) -> Vec<String> {
    journal.lock().expect("no panic holds it").done.clone()
}

#[test]
fn inv_2_a_slow_key_delays_only_itself() {
    let (app, journal) = sleeps(Ordering::key(3));
    let mut driver = TestDriver::with_partitions(app, 1);
    for (key, seconds) in [("a", "9"), ("a", "1"), ("b", "1"), ("c", "1"), ("b", "2")] {
        driver.send("in", key, seconds);
    }
    driver.advance(5 * SECOND);
    assert_eq!(done(&journal), ["b1", "c1", "b2"], "a's second waits for its first");
    assert_eq!(driver.committed("in", 0), Some(0), "its first is not done");
    driver.advance(6 * SECOND);
    assert_eq!(done(&journal)[3..], ["a9", "a1"]);
    assert_eq!(driver.committed("in", 0), Some(5));
    assert_eq!(journal.lock().expect("no panic holds it").most, 3);
}

/// What is done behind a record that hangs counted as if it waited: 12,500 records later, with eight
/// partitions, all keys of the partition stood still.
#[test]
fn a_key_that_hangs_stops_its_partition_only_when_far_more_is_done_behind_it() {
    const BUDGET: i64 = 1_000;
    let (app, _journal) = sleeps(Ordering::key(8));
    let budget = BUDGET.unsigned_abs();
    let mut driver =
        TestDriver::with_settings(app, 1, |settings| settings.memory_budget_records = budget);
    driver.send("in", "hangs", "3600");
    let mut last = 0;
    let mut burst = |driver: &mut TestDriver, records: i64| {
        for number in 0..records {
            last = driver.send("in", &format!("key-{}", number % 50), "0").1;
            if number % 100 == 99 {
                driver.advance(SECOND);
            }
        }
        driver.advance(10 * SECOND);
        driver.attempts("in", 0, last)
    };
    assert_eq!(burst(&mut driver, 3 * BUDGET), 1, "others go on");
    let memory = driver.status(0).and_then(Status::memory).expect("a worker");
    assert!(memory.records_bytes < 100_000, "only places are kept: {memory:?}");
    assert_eq!(driver.committed("in", 0), Some(0));
    assert_eq!(burst(&mut driver, 3 * BUDGET), 0, "but not without end");
    driver.advance(SECOND * 3_600);
    assert_eq!(driver.committed("in", 0), Some(6 * BUDGET + 1));
}

/// Where the waiting records are those of the key itself, there are soon too many of them.
#[test]
fn a_key_that_hangs_and_makes_most_of_its_partition_stops_it_at_the_budget() {
    let (app, _journal) = sleeps(Ordering::key(8));
    let mut driver =
        TestDriver::with_settings(app, 1, |settings| settings.memory_budget_records = 1_000);
    driver.send("in", "hangs", "3600");
    let mut last = 0;
    for number in 0..3_000 {
        let key = if number % 4 == 0 { "other" } else { "hangs" };
        last = driver.send("in", key, "0").1;
        if number % 100 == 99 {
            driver.advance(SECOND);
        }
    }
    driver.advance(10 * SECOND);
    let tried = (0..=last).filter(|offset| driver.attempts("in", 0, *offset) > 0).count();
    assert!((200..400).contains(&tried), "{tried} were tried");
}

#[test]
fn inv_16_the_partitions_of_an_input_share_its_places() {
    let (app, journal) = sleeps(Ordering::key(4));
    let mut driver = TestDriver::with_partitions(app, 2);
    let mut partitions = [0, 0];
    for number in 0..40 {
        let (partition, _) = driver.send("in", &format!("k{number}-"), "1");
        partitions[usize::try_from(partition).expect("two of them")] += 1;
    }
    assert!(partitions.iter().all(|records| *records >= 10), "{partitions:?}");
    driver.advance(5 * SECOND);
    let journal = journal.lock().expect("no panic holds it");
    assert_eq!(journal.most, 4);
    assert!(journal.done.len() >= 16, "all four places are in use: {}", journal.done.len());
}

#[test]
fn what_is_committed_out_of_order_is_not_handled_again_by_the_next_owner() {
    let (app, journal) = sleeps(Ordering::key(3));
    let mut driver = TestDriver::with_settings(app, 1, |settings| {
        settings.drain_timeout = Some(2 * SECOND);
    });
    for (key, seconds) in [("a", "60"), ("b", "1"), ("c", "1"), ("a", "2")] {
        driver.send("in", key, seconds);
    }
    driver.advance(3 * SECOND);
    assert_eq!(done(&journal), ["b1", "c1"]);
    driver.revoke("in", 0);
    driver.advance(4 * SECOND); // the drain cuts a's first off
    assert!(driver.owned().is_empty());
    assert_eq!(driver.committed("in", 0), Some(0));
    journal.lock().expect("no panic holds it").running.clear();
    driver.assign("in", 0);
    driver.advance(70 * SECOND);
    assert_eq!(done(&journal), ["b1", "c1", "a60", "a2"], "b and c are in the done-set");
    assert_eq!(driver.committed("in", 0), Some(4));
}

/// Counts its instances.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, Atomic::Relaxed);
        Self(Arc::clone(living))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Atomic::Relaxed);
    }
}

impl Handler for Counted {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        tokio::time::sleep(SECOND).await;
        Ok(())
    }
}

/// 10,000 records in hand over eight partitions came to 80,000 slots.
#[test]
fn slots_of_a_burst_end_when_they_have_nothing_to_do() {
    let living = Arc::<AtomicUsize>::default();
    let witness = Arc::clone(&living);
    let mut app = Worker::builder("counted");
    app.input("in").ordering(Ordering::unordered(300)).handler(move |_slot| Counted::new(&witness));
    let mut driver = TestDriver::with_partitions(app, 1);
    for _burst in 0..3 {
        for number in 0..400 {
            driver.send("in", &format!("k{number}"), "1");
        }
        assert_eq!(living.load(Atomic::Relaxed), 300);
        driver.advance(5 * SECOND);
        assert!(living.load(Atomic::Relaxed) <= 40, "{living:?} are kept");
    }
    assert_eq!(driver.committed("in", 0), Some(1_200));
    driver.revoke("in", 0);
    driver.advance(SECOND);
    assert_eq!((driver.owned().len(), living.load(Atomic::Relaxed)), (0, 0));
}

/// The simulator (seed 42) saw 33 resting slots wake each other for ever: each found, not counting
/// itself, that as many rested as may, lay down, and called the next one as there was one too many.
#[test]
fn one_slot_too_many_ends_and_wakes_no_other() {
    for at_once in 33..36 {
        let living = Arc::<AtomicUsize>::default();
        let witness = Arc::clone(&living);
        let mut app = Worker::builder("counted");
        let input = app.input("in").ordering(Ordering::unordered(at_once));
        input.handler(move |_slot| Counted::new(&witness));
        let mut driver = TestDriver::with_partitions(app, 1);
        for number in 0..at_once {
            driver.send("in", &format!("k{number}"), "1");
        }
        driver.advance(5 * SECOND);
        driver.send("in", "one more", "1");
        driver.advance(5 * SECOND);
        assert_eq!(driver.committed("in", 0), Some(i64::from(at_once) + 1));
        assert!(living.load(Atomic::Relaxed) < at_once as usize, "{living:?} are kept");
    }
}

#[test]
fn unordered_records_pass_each_other_even_of_one_key() {
    let (app, journal) = sleeps(Ordering::unordered(2));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "9");
    driver.send("in", "b", "1");
    driver.advance(2 * SECOND);
    driver.send("in", "b", "2");
    driver.advance(10 * SECOND);
    assert_eq!(done(&journal), ["b1", "b2", "a9"]);
}

#[test]
fn a_record_is_kept_in_order_by_what_key_by_says() {
    let journal = Shared::default();
    let witness = Arc::clone(&journal);
    let mut app = Worker::builder("sleeps");
    app.input("in")
        .ordering(Ordering::key(4))
        .key_by(|record| record.key().map(|key| key[..1].into()))
        .handler(move |_slot| Sleeps(Arc::clone(&witness)));
    let mut driver = TestDriver::with_partitions(app, 1);
    for (key, seconds) in [("a1", "3"), ("a2", "1"), ("b1", "1")] {
        driver.send("in", key, seconds);
    }
    driver.advance(10 * SECOND);
    assert_eq!(done(&journal), ["b11", "a13", "a21"]);
}

/// Counts under its own key, and adds to a key that all share, in a store of its own.
struct Count {
    totals: Store<str, u64>,
    sums: Store<str, u64>,
    wrong_key: bool,
}

impl Handler for Count {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let key = if self.wrong_key { "another" } else { record.key_str()? };
        ctx.update(self.totals, key, |total| total.unwrap_or(0) + 1)?;
        tokio::time::sleep(SECOND).await;
        ctx.add(self.sums, "all", 1)
    }
}

fn counts(wrong_key: bool) -> WorkerBuilder {
    let mut app = Worker::builder("counts");
    let (totals, sums) = (app.store("totals"), app.store("sums"));
    let input = app.input("in").ordering(Ordering::key(8));
    input.handler(move |_slot| Count { totals, sums, wrong_key });
    app
}

#[test]
fn inv_17_keyed_state_and_changes_that_commute_come_out_right() {
    let mut driver = TestDriver::with_partitions(counts(false), 1);
    for number in 0..12 {
        driver.send("in", ["a", "b", "c"][number % 3], "0");
    }
    driver.advance(30 * SECOND);
    let (totals, sums) = (driver.store::<u64>("totals"), driver.store::<u64>("sums"));
    assert_eq!(["a", "b", "c"].map(|key| totals.get(key).copied()), [Some(4); 3]);
    assert_eq!(sums.get("all"), Some(&12));
}

#[test]
fn inv_17_another_records_key_is_refused_by_name() {
    let mut driver = TestDriver::with_partitions(counts(true), 1);
    driver.send("in", "a", "0");
    driver.advance(SECOND);
    let failure = driver.failure().expect("it ends").to_string();
    assert!(failure.contains("PLT-0402") && failure.contains("totals"), "{failure}");
    assert!(failure.contains("another") && failure.contains("Ordering::Key"), "{failure}");
}

#[test]
fn what_does_not_go_together_is_refused_with_the_way_out() {
    let refusal = |declare: &dyn Fn(&mut WorkerBuilder)| {
        let mut app = Worker::builder("app");
        let mut settings = pelton::config::Settings::default();
        settings.bootstrap_servers = "localhost:9092".to_owned();
        settings.auto_offset_reset = Some(pelton::config::AutoOffsetReset::Earliest);
        app.settings(settings);
        declare(&mut app);
        app.build().expect_err("refused").to_string()
    };
    let flush = refusal(&|app| {
        app.input("in")
            .ordering(Ordering::key(2))
            .flush_every(10, SECOND)
            .handler(|_| Sleeps(Shared::default()));
    });
    assert!(flush.contains("flush_every") && flush.contains("Ordering::Partition"), "{flush}");
    let key_by = refusal(&|app| {
        app.input("in").key_by(|_| None).handler(|_| Sleeps(Shared::default()));
    });
    assert!(key_by.contains("Ordering::Key"), "{key_by}");
    let dead = refusal(&|app| {
        app.input("in")
            .on_invalid(pelton::OnInvalid::DeadLetter)
            .handler(|_| Sleeps(Shared::default()));
    });
    assert!(dead.contains("dead_letters"), "{dead}");
}
