//! When do slots tick, and what comes of one that can't be made?

use std::sync::atomic::{AtomicUsize, Ordering as Memory};
use std::sync::{Arc, Mutex};

use pelton::{
    Context, DeadLetters, Handler, HandlerError, Ordering, Record, RetryPolicy, TopicPartition,
    Worker,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// A tick that panicked, or followed a record that had, was the last one until a record came.
#[expect(clippy::panic, reason = "as told")]
fn ticks(how: &'static str) -> usize {
    struct Ticks(Arc<AtomicUsize>, &'static str);
    impl Handler for Ticks {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if self.1 == "record" {
                panic!("as told");
            }
            Ok(())
        }
        async fn tick(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
            if self.0.fetch_add(1, Memory::Relaxed) == 2 && self.1 == "tick" {
                panic!("as told");
            }
            Ok(())
        }
    }
    let count = Arc::<AtomicUsize>::default();
    let own = Arc::clone(&count);
    let mut app = Worker::builder("w");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(1))
        .dead_letters(DeadLetters::to("dead").max_deaths(0))
        .tick_every(SECOND)
        .handler(move |_| Ticks(Arc::clone(&own), how));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.advance(10 * SECOND);
    if how == "tick" {
        return count.load(Memory::Relaxed);
    }
    driver.send("in", "k", "");
    driver.advance(SECOND);
    let before = count.load(Memory::Relaxed);
    driver.advance(100 * SECOND);
    count.load(Memory::Relaxed) - before
}

#[test]
fn ticks_go_on_after_a_panic() {
    assert!(ticks("") >= 99);
    assert!(ticks("tick") >= 9, "{} ticks in 10 s where the third one panics", ticks("tick"));
}

#[test]
fn ticks_go_on_when_a_record_that_panicked_is_a_dead_letter() {
    assert!(ticks("record") >= 99, "{} ticks in 100 s", ticks("record"));
}

/// A tick waited until nothing was in hand: where several records run at once, for ever.
#[test]
fn ticks_come_beside_records_that_run_all_the_time() {
    struct Busy(Arc<AtomicUsize>);
    impl Handler for Busy {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            tokio::time::sleep(SECOND).await;
            Ok(())
        }
        async fn tick(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
            self.0.fetch_add(1, Memory::Relaxed);
            Ok(())
        }
    }
    let ticks = Arc::<AtomicUsize>::default();
    let own = Arc::clone(&ticks);
    let mut app = Worker::builder("w");
    app.input("in")
        .ordering(Ordering::unordered(3))
        .tick_every(2 * SECOND)
        .handler(move |_| Busy(Arc::clone(&own)));
    let mut driver = TestDriver::with_partitions(app, 1);
    for number in 0..100 {
        driver.send("in", &format!("k{number}"), "");
        driver.advance(SECOND / 3); // they do not end together
    }
    let ticks = ticks.load(Memory::Relaxed);
    assert!((14..=17).contains(&ticks), "{ticks} ticks in 33 s");
}

/// Slots whose factory waits are not counted as coming.
#[test]
fn one_record_more_makes_one_slot_more() {
    struct Slow;
    impl Handler for Slow {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"long") {
                tokio::time::sleep(600 * SECOND).await;
            }
            Ok(())
        }
    }
    let made = Arc::<AtomicUsize>::default();
    let own = Arc::clone(&made);
    let mut app = Worker::builder("w");
    app.input("in").ordering(Ordering::key(200)).try_handler(move |_| {
        own.fetch_add(1, Memory::Relaxed);
        async move {
            tokio::time::sleep(10 * SECOND).await; // connects
            Ok::<_, HandlerError>(Slow)
        }
    });
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.advance(20 * SECOND);
    driver.send("in", "a", "long");
    driver.advance(SECOND);
    driver.send("in", "b", "long"); // needs a second slot
    for _ in 0..50 {
        driver.advance(SECOND / 10);
        driver.send("in", "a", ""); // waits behind the first one
    }
    driver.advance(20 * SECOND);
    assert!(
        made.load(Memory::Relaxed) <= 3,
        "{} handlers for two records",
        made.load(Memory::Relaxed)
    );
}

#[test]
fn a_drain_does_not_wait_for_a_slot_that_can_not_be_made() {
    struct Quick;
    impl Handler for Quick {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"long") {
                tokio::time::sleep(5 * SECOND).await;
            }
            Ok(())
        }
    }
    let mut app = Worker::builder("w");
    app.input("in").ordering(Ordering::key(4)).try_handler(move |slot| async move {
        if slot.index > 0 {
            return Err(HandlerError::retryable("too many connections"));
        }
        Ok(Quick)
    });
    let mut driver = TestDriver::with_partitions(app, 1);
    for n in 0..6 {
        driver.send("in", &format!("k{n}"), "long");
    }
    driver.advance(60 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(6));
    driver.revoke("in", 0);
    driver.advance(2 * SECOND);
    assert!(driver.owned().is_empty(), "nothing is in hand");
}

/// A seek is not made for a spare slot that can't be made.
#[test]
fn a_seek_is_made_though_a_spare_slot_can_not() {
    struct Quick(Arc<Mutex<Vec<i64>>>);
    impl Handler for Quick {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"long") {
                tokio::time::sleep(5 * SECOND).await;
            }
            self.0.lock().unwrap().push(r.offset());
            Ok(())
        }
    }
    let seen = Arc::<Mutex<Vec<i64>>>::default();
    let own = Arc::clone(&seen);
    let mut app = Worker::builder("w");
    app.input("in").ordering(Ordering::key(4)).try_handler(move |slot| {
        let own = Arc::clone(&own);
        async move {
            if slot.index > 0 {
                return Err(HandlerError::retryable("too many connections"));
            }
            Ok(Quick(own))
        }
    });
    let mut driver = TestDriver::with_partitions(app, 1);
    for n in 0..6 {
        driver.send("in", &format!("k{n}"), "long");
    }
    driver.advance(60 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(6));
    seen.lock().unwrap().clear();
    driver.handle(0).expect("it is there").seek(TopicPartition::new("in", 0), 2);
    driver.advance(120 * SECOND);
    let seen = seen.lock().unwrap().clone();
    assert_eq!(seen, [2, 3, 4, 5]);
}

/// Ticks do not wait for a spare slot that can't be made.
#[test]
fn ticks_come_though_a_spare_slot_can_not_be_made() {
    struct Quick(Arc<AtomicUsize>);
    impl Handler for Quick {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"long") {
                tokio::time::sleep(SECOND).await;
            }
            Ok(())
        }
        async fn tick(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
            self.0.fetch_add(1, Memory::Relaxed);
            Ok(())
        }
    }
    let ticks = Arc::<AtomicUsize>::default();
    let own = Arc::clone(&ticks);
    let mut app = Worker::builder("w");
    app.input("in").ordering(Ordering::key(4)).tick_every(SECOND).try_handler(move |slot| {
        let own = Arc::clone(&own);
        async move {
            if slot.index > 0 {
                return Err(HandlerError::retryable("too many connections"));
            }
            Ok(Quick(own))
        }
    });
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.advance(5 * SECOND);
    for n in 0..3 {
        driver.send("in", &format!("k{n}"), "long");
    }
    driver.advance(20 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(3));
    let before = ticks.load(Memory::Relaxed);
    driver.advance(100 * SECOND);
    assert!(
        ticks.load(Memory::Relaxed) - before > 90,
        "{} ticks",
        ticks.load(Memory::Relaxed) - before
    );
}
