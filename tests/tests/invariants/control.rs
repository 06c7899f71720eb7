//! What an operator wants of a running worker, topic by topic and partition by partition.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};

use pelton::{
    Context, Handler, HandlerError, Ordering, Record, TopicPartition, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

type Handled = Arc<Mutex<Vec<(i32, i64)>>>;

/// Remembers which records it has handled; those with the value `2` take two seconds.
struct Remembers(Handled);

impl Handler for Remembers {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let seconds: u32 = record.json()?;
        tokio::time::sleep(SECOND * seconds).await;
        self.0.lock().expect("no panic holds it").push((record.partition(), record.offset()));
        Ok(())
    }
}

fn remembers(ordering: Ordering) -> (WorkerBuilder, Handled) {
    let handled = Handled::default();
    let witness = Arc::clone(&handled);
    let mut app = Worker::builder("remembers");
    app.input("in").ordering(ordering).handler(move |_slot| Remembers(Arc::clone(&witness)));
    (app, handled)
}

fn offsets(handled: &Handled) -> Vec<i64> {
    handled.lock().expect("no panic holds it").iter().map(|(_, offset)| *offset).collect()
}

fn ask(driver: &mut TestDriver, wish: impl FnOnce(&pelton::WorkerHandle)) {
    wish(driver.handle(0).expect("a worker"));
    driver.advance(SECOND / 10);
}

#[test]
fn inv_15_a_partition_rests_until_it_is_resumed_and_its_neighbours_do_not() {
    let (app, handled) = remembers(Ordering::Partition);
    let mut driver = TestDriver::with_partitions(app, 2);
    let (rests, _) = driver.send("in", "a", "0");
    let of = TopicPartition::new("in", rests);
    ask(&mut driver, |worker| worker.pause(of.clone()));
    for number in 0..8 {
        driver.send("in", &format!("k{number}"), "0");
    }
    driver.advance(5 * SECOND);
    let count = |of: i32| {
        handled.lock().expect("no panic holds it").iter().filter(|(p, _)| *p == of).count()
    };
    assert_eq!(count(rests), 1);
    assert!(count(1 - rests) > 1);
    driver.revoke("in", rests); // a pause holds over rebalances
    driver.assign("in", rests);
    driver.advance(5 * SECOND);
    assert_eq!(count(rests), 1);
    ask(&mut driver, |worker| worker.resume(of));
    driver.advance(SECOND);
    assert_eq!(count(0) + count(1), 9);
}

#[test]
fn a_topic_or_a_partition_has_a_pace_of_its_own() {
    for scope in [pelton::Scope::from("in"), TopicPartition::new("in", 0).into()] {
        let (app, handled) = remembers(Ordering::key(10));
        let mut driver = TestDriver::with_partitions(app, 1);
        ask(&mut driver, |worker| worker.limit_rate(scope.clone(), NonZeroU32::new(2)));
        for number in 0..40 {
            driver.send("in", &format!("k{number}"), "0");
        }
        driver.advance(10 * SECOND);
        let slow = offsets(&handled).len();
        assert!((19..=23).contains(&slow), "{slow} in ten seconds");
        ask(&mut driver, |worker| worker.limit_rate(scope, None));
        driver.advance(SECOND);
        assert_eq!(offsets(&handled).len(), 40);
    }
}

#[test]
fn a_seek_goes_on_elsewhere_after_what_was_done_is_committed() {
    for ordering in [Ordering::Partition, Ordering::key(4)] {
        let (app, handled) = remembers(ordering);
        let mut driver = TestDriver::with_partitions(app, 1);
        for value in ["0", "0", "2", "0", "0", "0"] {
            driver.send("in", "a", value);
        }
        let partition = TopicPartition::new("in", 0);
        ask(&mut driver, |worker| worker.seek(partition.clone(), 4));
        assert_eq!(offsets(&handled), [0, 1], "record 2 is finished first");
        driver.advance(5 * SECOND);
        assert_eq!(offsets(&handled), [0, 1, 2, 4, 5]);
        assert_eq!(driver.committed("in", 0), Some(6));
        ask(&mut driver, |worker| worker.seek(partition, 1));
        driver.advance(5 * SECOND);
        assert_eq!(offsets(&handled)[5..], [1, 2, 3, 4, 5], "and back");
        assert_eq!(driver.committed("in", 0), Some(6));
    }
}

#[test]
fn a_seek_that_a_revocation_overtakes_is_not_made() {
    let (app, handled) = remembers(Ordering::Partition);
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "2");
    driver.send("in", "a", "0");
    ask(&mut driver, |worker| worker.seek(TopicPartition::new("in", 0), 0));
    driver.revoke("in", 0);
    driver.advance(5 * SECOND);
    assert_eq!((offsets(&handled), driver.committed("in", 0)), (vec![0], Some(1)));
    assert!(driver.owned().is_empty());
}
