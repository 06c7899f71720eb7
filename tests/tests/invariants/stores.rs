//! What is lost, or counted though it is not done, where records use a store together or beside each other?

use std::sync::{Arc, Mutex};

use pelton::{
    Batch, BatchHandler, Batches, Completion, Context, DeadLetters, Handler, HandlerError,
    OnInvalid, Ordering, Record, RetryPolicy, Store, Worker,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// It read its key, and waited; another record added to that key, and what it had read and replaced was
/// written over it. A store is for one of the two.
#[test]
fn inv_17_a_store_whose_records_replace_what_their_keys_hold_takes_no_merges_of_others() {
    struct Pays {
        own: Store<str, u64>,
        shared: Store<str, u64>,
    }
    impl Handler for Pays {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            match r.key_str()? {
                "a" => {
                    ctx.update(self.own, "a", |n: Option<u64>| n.unwrap_or(0) + 100)?;
                    tokio::time::sleep(5 * SECOND).await; // asks somebody
                }
                _ => ctx.add(self.shared, "a", 1)?,
            }
            Ok(())
        }
    }
    let run = |is_one: bool| {
        let mut app = Worker::builder("w");
        let own = app.store("own");
        let shared = if is_one { own } else { app.store("shared") };
        app.input("in").ordering(Ordering::key(4)).handler(move |_| Pays { own, shared });
        let mut driver = TestDriver::with_partitions(app, 1);
        driver.send("in", "a", "");
        driver.advance(SECOND);
        driver.send("in", "b", "");
        driver.advance(10 * SECOND);
        (driver.committed("in", 0), driver.failure().map(ToString::to_string))
    };
    assert_eq!(run(false), (Some(2), None));
    let (committed, error) = run(true);
    assert_ne!(committed, Some(2));
    let error = error.expect("the worker ends");
    assert!(error.contains("the store own is used in two ways"), "{error}");
}

/// A tick between the read and the write of a deferred record.
#[test]
fn inv_17_a_tick_and_a_deferred_record_lose_no_update() {
    struct Counts(Store<str, u64>, Arc<Mutex<Vec<Completion>>>);
    impl Handler for Counts {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            ctx.update(self.0, "n", |n: Option<u64>| n.unwrap_or(0) + 100)?;
            let completion = ctx.defer(60 * SECOND)?;
            self.1.lock().expect("no panic").push(completion);
            Ok(())
        }
        async fn tick(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
            ctx.update(self.0, "n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
            Ok(())
        }
    }
    let pending = Arc::<Mutex<Vec<Completion>>>::default();
    let own = Arc::clone(&pending);
    let mut app = Worker::builder("w");
    let store = app.store("n");
    app.input("in")
        .uses(store)
        .tick_every(10 * SECOND)
        .handler(move |_| Counts(store, Arc::clone(&own)));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.advance(5 * SECOND);
    driver.send("in", "k", "");
    driver.advance(10 * SECOND); // a tick meanwhile
    pending.lock().expect("no panic").pop().expect("it waits").done();
    driver.advance(2 * SECOND);
    assert_eq!(driver.store::<u64>("n").get("n"), Some(&101));
}

/// The second record of a batch sees what the first has written, and not what it has added.
#[test]
fn inv_17_what_a_record_of_a_batch_adds_is_not_lost_to_one_behind_it() {
    struct Adds(Store<str, u64>);
    impl BatchHandler for Adds {
        async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
            for (_, r, ctx) in batch.each() {
                if r.value() == Some(b"add") {
                    ctx.add(self.0, "n", 1)?;
                } else {
                    ctx.update(self.0, "n", |n: Option<u64>| n.unwrap_or(0) + 100)?;
                }
            }
            Ok(())
        }
    }
    let total = |records: usize| {
        let mut app = Worker::builder("w");
        let store = app.store("n");
        app.input("in").uses(store).batch_handler(Batches::of(records), move |_| Adds(store));
        let mut driver = TestDriver::with_partitions(app, 1);
        driver.handle(0).expect("it is there").pause("in");
        driver.advance(SECOND);
        for value in ["add", "update"] {
            driver.send("in", "k", value);
        }
        driver.handle(0).expect("it is there").resume("in");
        driver.advance(5 * SECOND);
        assert_eq!(driver.committed("in", 0), Some(2));
        driver.store::<u64>("n").get("n").copied()
    };
    assert_eq!(total(1), Some(101), "one by one");
    assert_eq!(total(2), Some(101), "both in one batch");
}

/// What a record that was given up, or skipped, had written was counted by those behind it in its batch.
fn counted(how: &'static str) -> Option<u64> {
    struct Counts(Store<str, u64>, &'static str);
    impl BatchHandler for Counts {
        async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
            let mut bad = Vec::new();
            for (number, r, ctx) in batch.each() {
                ctx.update(self.0, "n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
                if r.value() == Some(b"bad") {
                    bad.push(number);
                    if self.1 == "ctx.skip" {
                        ctx.skip();
                    }
                }
            }
            for number in bad {
                match self.1 {
                    "fails" => batch.fail(number, HandlerError::retryable("no")),
                    "ctx.skip" => {}
                    _ => batch.fail(number, HandlerError::invalid("bad")),
                }
            }
            Ok(())
        }
    }
    let mut app = Worker::builder("w");
    let store = app.store("n");
    let mut input = app.input("in").uses(store);
    match how {
        "dead" => input = input.dead_letters(DeadLetters::to("dead").max_deaths(0)),
        "fails" => {
            input = input
                .dead_letters(DeadLetters::to("dead").max_deaths(0))
                .retry(RetryPolicy::fixed(SECOND).at_most(1))
        }
        _ => input = input.on_invalid(OnInvalid::Skip),
    }
    input.batch_handler(Batches::of(10), move |_| Counts(store, how));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.handle(0).expect("it is there").pause("in");
    driver.advance(SECOND);
    for value in ["bad", "good", "good"] {
        driver.send("in", "k", value);
    }
    driver.handle(0).expect("it is there").resume("in");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(3));
    driver.store::<u64>("n").get("n").copied()
}

#[test]
fn inv_11_a_record_of_a_batch_that_is_not_done_leaves_nothing_behind() {
    let all = ["dead", "skip", "fails", "ctx.skip"].map(counted);
    assert_eq!(all, [Some(2); 4]);
}

/// Where one has seen what is written behind it, the batch would come again for ever.
#[test]
fn a_batch_that_is_handled_backwards_comes_to_its_end() {
    struct Backwards(Store<str, u64>);
    impl BatchHandler for Backwards {
        async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
            let mut all: Vec<_> = batch.each().collect();
            for (_, _, ctx) in all.iter_mut().rev() {
                ctx.update(self.0, "n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
            }
            Ok(())
        }
    }
    let mut app = Worker::builder("w");
    let store = app.store("n");
    app.input("in").uses(store).batch_handler(Batches::of(10), move |_| Backwards(store));
    let mut driver = TestDriver::with_partitions(app, 1);
    for _ in 0..7 {
        driver.send("in", "k", "");
    }
    driver.advance(10 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(7));
    assert_eq!(driver.store::<u64>("n").get("n"), Some(&7));
}
