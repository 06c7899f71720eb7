//! What is in hand, and what is said of it? Batches that are paused, records that are deferred, named in a
//! commit, or tried while their partition goes.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Memory};
use std::sync::{Arc, Mutex};

use pelton::{
    Batch, BatchHandler, Batches, Breaker, Completion, Context, DeadLetters, Handler, HandlerError,
    Ordering, Output, Record, RetryPolicy, RetryTopics, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// A pause, or another pace, while a batch runs: its records count as so many batches.
fn batches_go_on(then: &str) -> usize {
    struct Slow(Arc<AtomicUsize>);
    impl BatchHandler for Slow {
        async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
            if batch.records().iter().any(|r| r.value() == Some(b"slow")) {
                tokio::time::sleep(3600 * SECOND).await;
            }
            self.0.fetch_add(batch.records().len(), Memory::Relaxed);
            Ok(())
        }
    }
    let done = Arc::<AtomicUsize>::default();
    let own = Arc::clone(&done);
    let mut app = Worker::builder("w");
    app.input("in")
        .ordering(Ordering::key(4))
        .batch_handler(Batches::of(10).linger(SECOND / 10), move |_| Slow(Arc::clone(&own)));
    let mut driver = TestDriver::with_partitions(app, 1);
    for n in 0..5 {
        driver.send("in", &format!("slow{n}"), "slow");
    }
    driver.advance(SECOND);
    let handle = driver.handle(0).expect("it is there");
    match then {
        "pause" => {
            handle.pause("in");
            driver.advance(SECOND);
            driver.handle(0).expect("it is there").resume("in");
        }
        "rate" => handle.limit_rate("in", NonZeroU32::new(1_000)),
        _ => {}
    }
    driver.advance(SECOND);
    for n in 0..20 {
        driver.send("in", &format!("k{n}"), "");
    }
    driver.advance(60 * SECOND);
    done.load(Memory::Relaxed)
}

#[test]
fn a_pause_or_another_pace_under_a_batch_that_takes_long_stops_no_other_key() {
    assert_eq!(["", "pause", "rate"].map(batches_go_on), [20, 20, 20]);
}

/// A pause in a batch: the places of others.
#[test]
fn places_go_back_when_one_of_two_batches_ends() {
    struct Slow(Arc<AtomicUsize>);
    impl BatchHandler for Slow {
        async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
            for r in batch.records().to_vec() {
                match r.value().unwrap_or_default() {
                    b"hour" => tokio::time::sleep(3600 * SECOND).await,
                    b"short" => {
                        tokio::time::sleep(10 * SECOND).await;
                        break;
                    }
                    _ => {}
                }
            }
            self.0.fetch_add(batch.records().len(), Memory::Relaxed);
            Ok(())
        }
    }
    let run = |pause: bool| {
        let done = Arc::<AtomicUsize>::default();
        let own = Arc::clone(&done);
        let mut app = Worker::builder("w");
        app.input("in")
            .ordering(Ordering::key(2))
            .batch_handler(Batches::of(5).linger(SECOND / 10), move |_| Slow(Arc::clone(&own)));
        let mut driver = TestDriver::with_partitions(app, 2);
        // keys of partition 0 and of partition 1
        let mut keys: [Vec<String>; 2] = Default::default();
        for n in 0..60 {
            let (p, _) = driver.send("in", &format!("k{n}"), "");
            keys[usize::from(p == 1)].push(format!("k{n}"));
        }
        driver.advance(5 * SECOND);
        for key in keys[0].iter().take(5) {
            driver.send("in", key, "hour");
        }
        driver.advance(SECOND);
        for key in keys[0].iter().skip(5).take(5) {
            driver.send("in", key, "short");
        }
        driver.advance(SECOND);
        if pause {
            driver.handle(0).unwrap().limit_rate("in", NonZeroU32::new(1_000));
            driver.advance(SECOND);
        }
        let before = done.load(Memory::Relaxed);
        for key in keys[1].iter().take(5) {
            driver.send("in", key, "");
        }
        driver.advance(60 * SECOND);
        done.load(Memory::Relaxed) - before
    };
    assert_eq!(run(false), 10);
    assert_eq!(run(true), 10);
}

/// Effects of deferred records are in no account.
#[test]
fn inv_4_effects_of_deferred_records_count_before_any_was_done() {
    struct Defers(Output, Arc<Mutex<Vec<Completion>>>);
    impl Handler for Defers {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            ctx.emit(self.0, "k", &"x".repeat(900_000))?;
            let completion = ctx.defer(3600 * SECOND)?;
            self.1.lock().expect("no panic").push(completion);
            Ok(())
        }
    }
    let pending = Arc::<Mutex<Vec<Completion>>>::default();
    let own = Arc::clone(&pending);
    let mut app = Worker::builder("w");
    let out = app.output("out");
    app.input("in").ordering(Ordering::key(1_000)).handler(move |_| Defers(out, Arc::clone(&own)));
    let mut driver = TestDriver::with_settings(app, 1, |s| {
        s.memory_budget = pelton::config::ByteCount::from_mib(32);
    });
    for n in 0..200 {
        driver.send("in", &format!("k{n}"), "");
        driver.advance(SECOND / 10); // one after the other
    }
    driver.fail_deliveries_to(Some("out"));
    let all: Vec<_> = pending.lock().expect("no panic").drain(..).collect();
    let held = all.len() * 900_000;
    all.into_iter().for_each(Completion::done);
    driver.advance(SECOND);
    let memory = driver.status(0).expect("it is there").memory().expect("it is there");
    println!("held {held} used {} budget {}", memory.used_bytes(), memory.budget_bytes);
    assert!(memory.used_bytes() < memory.budget_bytes + 4_000_000);
}

/// "slow" takes 2 s, or 120 s, and fails with a retryable error: it kills nobody.
struct Innocent(Arc<AtomicUsize>);
impl Handler for Innocent {
    async fn handle(&mut self, r: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if r.value() == Some(b"slow") {
            let long = r.key() == Some(b"long");
            tokio::time::sleep(if long { 120 * SECOND } else { 2 * SECOND }).await;
            self.0.fetch_add(1, Memory::Relaxed);
            return Err(HandlerError::retryable("the shop is shut"));
        }
        if r.value() == Some(b"kills") {
            std::future::pending::<()>().await; // the process ends here
        }
        Ok(())
    }
}

fn innocent(ended: &Arc<AtomicUsize>, breaker: bool) -> WorkerBuilder {
    let mut app = Worker::builder("w");
    let (a, b) = (Arc::clone(ended), Arc::clone(ended));
    let mut input = app
        .input("a")
        .retry(RetryPolicy::fixed(3600 * SECOND))
        .dead_letters(DeadLetters::to("dead").max_deaths(2));
    if breaker {
        let waits = Breaker::default().wait_in_open(3600 * SECOND, 3600 * SECOND);
        input = input.breaker(waits.sliding_window(1));
    }
    input.handler(move |_| Innocent(Arc::clone(&a)));
    app.input("b").handler(move |_| Innocent(Arc::clone(&b)));
    app
}

fn dead_letters(how: &str) -> usize {
    let ended = Arc::<AtomicUsize>::default();
    let app = || innocent(&ended, how == "breaker");
    let mut driver = TestDriver::with_partitions(app(), 1);
    driver.send("a", if how == "long" { "long" } else { "k" }, "slow");
    driver.advance(SECOND);
    driver.kill(0); // from outside
    let worker = driver.join(app());
    driver.assign_to(worker, "b", 0);
    driver.assign_to(worker, "a", 0);
    driver.advance(SECOND); // it is alone in hand, as its commit says
    if how == "paused" {
        driver.handle(worker).expect("it is there").pause("a");
    }
    if how == "long" {
        driver.advance(90 * SECOND); // b is barred for 60 s
        driver.send("b", "k", "kills");
        driver.advance(30 * SECOND);
    } else {
        driver.advance(122 * SECOND);
        driver.send("b", "k", "kills");
    }
    assert_eq!(ended.load(Memory::Relaxed), 1, "it has failed, and waits for an hour");
    driver.advance(10 * SECOND);
    driver.kill(worker); // b's deed
    let worker = driver.join(app());
    driver.assign_to(worker, "a", 0);
    driver.advance(60 * SECOND);
    driver.emitted("dead").len()
}

#[test]
fn inv_18_no_death_is_put_down_to_a_record_that_is_not_in_hand() {
    let all = ["", "paused", "breaker", "long"].map(|how| (how, dead_letters(how)));
    assert_eq!(all, [("", 0), ("paused", 0), ("breaker", 0), ("long", 0)]);
}

/// Handlers under `flush_every`, and a hand-over while the second attempt is under way.
#[test]
fn attempts_are_counted_over_hand_overs() {
    struct Fails(Arc<Mutex<Vec<u32>>>);
    impl Handler for Fails {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            self.0.lock().expect("no panic").push(ctx.attempt());
            tokio::time::sleep(3 * SECOND).await;
            Err(HandlerError::retryable("no"))
        }
    }
    let seen = Arc::<Mutex<Vec<u32>>>::default();
    let own = Arc::clone(&seen);
    let mut app = Worker::builder("w");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(4))
        .dead_letters(DeadLetters::to("dead").max_deaths(0))
        .handler(move |_| Fails(Arc::clone(&own)));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "0");
    driver.advance(4 * SECOND + SECOND / 2); // one has failed, the second one is under way
    for _ in 0..12 {
        driver.revoke("in", 0);
        driver.advance(5 * SECOND); // it fails, in good order, and that is committed
        driver.assign("in", 0);
        driver.advance(SECOND); // the next one is under way
    }
    driver.advance(60 * SECOND);
    let seen = seen.lock().expect("no panic").clone();
    assert_eq!((seen.as_slice(), driver.emitted("dead").len()), (&[1, 2, 3, 4][..], 1));
}

#[derive(Clone, Default)]
struct Shop(Arc<AtomicBool>, Arc<Mutex<Vec<(String, String)>>>);
impl Handler for Shop {
    async fn handle(&mut self, r: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if self.0.load(Memory::Relaxed) {
            return Err(HandlerError::retryable("shut"));
        }
        let value = String::from_utf8_lossy(r.value().unwrap_or_default()).into_owned();
        self.1.lock().expect("no panic").push((r.topic().to_owned(), value));
        Ok(())
    }
}

#[test]
fn inv_19_a_question_that_is_never_answered_holds_no_key_for_ever() {
    let shop = Shop::default();
    let own = shop.clone();
    let mut app = Worker::builder("w");
    app.input("in")
        .ordering(Ordering::key(4))
        .retry(RetryPolicy::fixed(SECOND).at_most(1))
        .retry_topics(RetryTopics::after([5 * SECOND]))
        .dead_letters(DeadLetters::to("dead").max_deaths(0))
        .handler(move |_| own.clone());
    let mut driver = TestDriver::with_partitions(app, 1);
    shop.0.store(true, Memory::Relaxed);
    driver.send("in", "a", "0");
    driver.leave_committed_unanswered(1);
    driver.advance(3 * SECOND);
    shop.0.store(false, Memory::Relaxed);
    driver.advance(600 * SECOND);
    driver.send("in", "a", "1");
    driver.advance(10 * SECOND);
    let seen = shop.1.lock().expect("no panic").clone();
    assert_eq!(seen.last(), Some(&("in".to_owned(), "1".to_owned())), "{seen:?}");
}
