//! Records that are handled many at once: when a batch is full, what of it is done, what is not.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use pelton::{
    Batch, BatchHandler, Batches, HandlerError, Ordering, RetryPolicy, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// The offsets of each batch.
type Seen = Arc<Mutex<Vec<Vec<i64>>>>;

/// Does with each record as it says.
struct Bulk(Seen);

impl BatchHandler for Bulk {
    #[expect(clippy::panic, reason = "as the record says")]
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        let offsets = batch.records().iter().map(|record| record.offset()).collect();
        self.0.lock().expect("no panic holds it").push(offsets);
        let mut failed = Vec::new();
        for (number, record, ctx) in batch.each() {
            match record.json::<&str>() {
                Ok("fails once") if ctx.attempt() == 1 => {
                    failed.push((number, HandlerError::retryable("as told")));
                }
                Ok("panics") => panic!("as told"),
                Ok("hangs") => std::future::pending().await,
                Ok("fails all") => return Err(HandlerError::retryable("as told")),
                Ok("makes all invalid") => return Err(HandlerError::invalid("as told")),
                Ok("sleeps") => tokio::time::sleep(5 * SECOND).await,
                Ok(_) => {}
                Err(error) => failed.push((number, error)),
            }
        }
        for (number, error) in failed {
            batch.fail(number, error);
        }
        Ok(())
    }
}

fn bulk(ordering: Ordering, batches: Batches) -> (WorkerBuilder, Seen) {
    let seen = Seen::default();
    let witness = Arc::clone(&seen);
    let mut app = Worker::builder("bulk");
    app.input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND).at_most(3))
        .dead_letters("dead")
        .batch_handler(batches, move |_slot| Bulk(Arc::clone(&witness)));
    (app, seen)
}

fn seen(seen: &Seen) -> Vec<Vec<i64>> {
    seen.lock().expect("no panic holds it").clone()
}

#[test]
fn a_batch_is_full_by_records_or_bytes_and_lingers_no_longer_than_it_may() {
    let of_three = Batches::of(3).linger(SECOND);
    let (app, batches) = bulk(Ordering::Partition, of_three);
    let mut driver = TestDriver::with_partitions(app, 1);
    for _ in 0..4 {
        driver.send("in", "a", "\"ok\"");
    }
    driver.advance(SECOND / 2);
    assert_eq!(seen(&batches), [vec![0, 1, 2]], "the fourth waits for others");
    assert_eq!(driver.committed("in", 0), Some(0));
    driver.advance(2 * SECOND);
    assert_eq!(seen(&batches)[1..], [vec![3]]);
    assert_eq!(driver.committed("in", 0), Some(4));

    let (app, batches) = bulk(Ordering::Partition, Batches::of(100).bytes(1).linger(SECOND));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "\"ok\"");
    driver.send("in", "a", "\"ok\"");
    assert_eq!(seen(&batches), [vec![0], vec![1]]);
}

#[test]
fn inv_2_what_follows_a_failure_of_its_unit_is_handled_again_and_no_success_before_it() {
    let (app, batches) = bulk(Ordering::Partition, Batches::of(4).linger(60 * SECOND));
    let mut driver = TestDriver::with_partitions(app, 1);
    for what in ["\"ok\"", "\"fails once\"", "\"ok\"", "\"ok\""] {
        driver.send("in", "a", what);
    }
    assert_eq!(seen(&batches), [vec![0, 1, 2, 3]]);
    driver.advance(2 * SECOND);
    assert_eq!(seen(&batches)[1..], [vec![1]], "alone, so that it spoils no other");
    assert_eq!(driver.committed("in", 0), Some(2));
    driver.advance(60 * SECOND);
    assert_eq!(seen(&batches)[2..], [vec![2, 3]]);
    assert_eq!(driver.committed("in", 0), Some(4));
}

#[test]
fn without_an_order_successes_are_not_handled_again() {
    for ordering in [Ordering::unordered(1), Ordering::key(1)] {
        let (app, batches) = bulk(ordering, Batches::of(4).linger(SECOND));
        let mut driver = TestDriver::with_partitions(app, 1);
        for (key, what) in [("a", "\"ok\""), ("b", "\"fails once\""), ("c", "\"ok\""), ("d", "no")]
        {
            driver.send("in", key, what);
        }
        driver.advance(5 * SECOND);
        assert_eq!(seen(&batches), [vec![0, 1, 2, 3], vec![1]], "{ordering:?}");
        assert_eq!(driver.committed("in", 0), Some(4));
        assert_eq!(driver.emitted("dead").len(), 1, "what is invalid is buried at once");
    }
}

#[test]
fn inv_14_a_record_that_panics_is_found_out_and_buried() {
    let (app, batches) = bulk(Ordering::unordered(1), Batches::of(3).linger(SECOND));
    let mut driver = TestDriver::with_partitions(app, 1);
    for what in ["\"ok\"", "\"panics\"", "\"ok\""] {
        driver.send("in", "a", what);
    }
    driver.advance(10 * SECOND);
    let mut alone: Vec<_> = seen(&batches)[1..].to_vec();
    alone.sort();
    assert_eq!(alone, [vec![0], vec![1], vec![1], vec![1], vec![2]], "three attempts of its own");
    assert_eq!((driver.committed("in", 0), driver.emitted("dead").len()), (Some(3), 1));
}

/// Each of its neighbours was charged with an attempt, and before the culprit came first it had spoiled
/// as many batches as there were records before it: with attempts that hang for 6 s, 6 s each. (Seed 135
/// of the simulator.)
#[test]
fn a_batch_that_fails_as_a_whole_counts_against_none_and_its_culprit_is_soon_found() {
    for ordering in [Ordering::Partition, Ordering::key(1), Ordering::unordered(1)] {
        for what in ["panics", "hangs", "fails all", "makes all invalid"] {
            let (seen_batches, mut app) = (Seen::default(), Worker::builder("bulk"));
            let witness = Arc::clone(&seen_batches);
            app.input("in")
                .ordering(ordering)
                .retry(RetryPolicy::fixed(SECOND).at_most(1))
                .attempt_timeout(6 * SECOND)
                .dead_letters("dead")
                .batch_handler(Batches::of(20).linger(SECOND), move |_| Bulk(Arc::clone(&witness)));
            let mut driver = TestDriver::with_partitions(app, 1);
            for number in 0..40 {
                let what = if number == 10 { what } else { "ok" };
                driver.send("in", &format!("key {number}"), &format!("\"{what}\""));
            }
            driver.advance(20 * SECOND);
            let batches = seen(&seen_batches);
            let alone = batches.iter().filter(|batch| batch.len() == 1).count();
            let spoiled = batches.iter().filter(|batch| batch.contains(&10)).count();
            assert_eq!((alone, spoiled), (20, 2), "{ordering:?}, {what}: {batches:?}");
            assert_eq!(driver.emitted("dead").len(), 1, "{ordering:?}, {what}: of one that {what}");
            assert_eq!(driver.committed("in", 0), Some(40), "{ordering:?}, {what}");
        }
    }
}

#[test]
fn batches_keep_the_pace_of_their_records() {
    let (app, batches) = bulk(Ordering::Partition, Batches::of(4).linger(SECOND / 100));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.handle(0).expect("a worker").limit_rate("in", NonZeroU32::new(2));
    driver.advance(SECOND);
    for _ in 0..100 {
        driver.send("in", "a", "\"ok\"");
    }
    driver.advance(20 * SECOND);
    let records: usize = seen(&batches).iter().map(Vec::len).sum();
    assert!((40..=45).contains(&records), "{records} in twenty seconds, at two a second");
}

#[test]
fn inv_5_what_lingers_is_dropped_by_a_drain_and_what_runs_is_finished() {
    for ordering in [Ordering::Partition, Ordering::key(1)] {
        let (app, batches) = bulk(ordering, Batches::of(2).linger(600 * SECOND));
        let mut driver = TestDriver::with_partitions(app, 1);
        for what in ["\"sleeps\"", "\"ok\"", "\"ok\""] {
            driver.send("in", "a", what);
        }
        driver.advance(SECOND);
        driver.revoke("in", 0);
        driver.advance(6 * SECOND);
        assert!(driver.owned().is_empty());
        assert_eq!((seen(&batches), driver.committed("in", 0)), (vec![vec![0, 1]], Some(2)));
    }
}
