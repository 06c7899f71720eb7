//! Bugs that were there once, each with its story, held against the real runtime in virtual time.
//! Those of the engine are found again by its random histories (`engine_tests.rs`).

use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::{Context, Handler, HandlerError, Output, Record, SlotId, Store, Worker};
use pelton_testkit::TestDriver;

const SECOND: Duration = Duration::from_secs(1);

/// A handler that buffers records until its flush and counts ticks into the same key.
struct Buffering {
    store: Store<str, u64>,
    out: Output,
    flushes: Arc<Mutex<u32>>,
}

impl Handler for Buffering {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let what: &str = record.json()?;
        ctx.emit(self.out, "n", what)?;
        ctx.update(self.store, "n", |n: Option<u64>| n.unwrap_or(0) + 1)?;
        Ok(())
    }

    async fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        *self.flushes.lock().expect("no panic holds it") += 1;
        Ok(())
    }

    async fn tick(&mut self, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        ctx.emit(self.out, "n", "tick")?;
        ctx.update(self.store, "n", |n: Option<u64>| n.unwrap_or(0) + 100)?;
        Ok(())
    }
}

fn emitted(driver: &TestDriver) -> Vec<String> {
    driver.emitted("out").iter().map(pelton_testkit::Emitted::json).collect()
}

/// A tick between a handled record and its flush wrote to the layer below the record's: the flush
/// put the older value over the tick's, and the tick's output overtook the record's.
#[test]
fn a_tick_keeps_its_place_behind_the_records_handled_before_it() {
    let mut app = Worker::builder("buffering");
    let (store, out) = (app.store("counts"), app.output("out"));
    app.input("in")
        .flush_every(100, 5 * SECOND)
        .tick_every(2 * SECOND)
        .handler(move |_slot| Buffering { store, out, flushes: Arc::default() });
    let mut driver =
        TestDriver::with_settings(app, 1, |settings| settings.commit_interval = 30 * SECOND);
    driver.send("in", "k", "\"first\"");
    driver.advance(3 * SECOND); // a tick
    driver.send("in", "k", "\"second\"");
    driver.advance(3 * SECOND); // another, and the flush
    assert_eq!(emitted(&driver)[..4], ["first", "tick", "second", "tick"]);
    let total = driver.store::<u64>("counts")["n"];
    assert!(total > 200 && total % 100 == 2, "two records and every tick count: {total}");
}

/// Records under `flush_every` told nobody that there was something to commit, so a commit's
/// interval passed without a flush and only the flush's own interval brought one.
#[test]
fn a_commits_interval_brings_a_flush() {
    let flushes = Arc::new(Mutex::new(0));
    let count = Arc::clone(&flushes);
    let mut app = Worker::builder("buffering");
    let (store, out) = (app.store("counts"), app.output("out"));
    app.input("in").flush_every(1_000, 3_600 * SECOND).handler(move |_slot| Buffering {
        store,
        out,
        flushes: Arc::clone(&count),
    });
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"only\"");
    driver.advance(3 * SECOND);
    assert_eq!(*flushes.lock().expect("no panic holds it"), 1);
    assert_eq!(driver.committed("in", 0), Some(1));
}

/// Waits as long as its record says.
struct Waiting;

impl Handler for Waiting {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        tokio::time::sleep(Duration::from_secs(record.json()?)).await;
        Ok(())
    }
}

/// The poll loop heard of progress only when a record ended: a record done just before one that
/// took minutes was committed minutes later.
#[test]
fn a_slow_record_does_not_hold_back_the_commit_of_those_before_it() {
    let mut app = Worker::builder("waiting");
    app.input("in").handler(|_slot| Waiting);
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "0");
    driver.send("in", "k", "0");
    driver.send("in", "k", "600");
    driver.advance(3 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(2));
}

/// A tick that came due while a handler waited was due again at once, without end: a core was
/// burnt, and in virtual time nothing went on at all.
#[test]
fn a_tick_that_is_due_during_a_slow_record_comes_after_it() {
    let mut app = Worker::builder("waiting");
    app.input("in").tick_every(SECOND).handler(|_slot| Waiting);
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "5");
    driver.advance(10 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
}

/// The error of a factory was taken for the record's: an *invalid* one made `on_invalid = skip`
/// skip, and commit, a record that nobody had seen.
#[test]
fn a_factorys_invalid_error_skips_no_record() {
    let mut app = Worker::builder("broken");
    app.input("in").on_invalid(pelton::OnInvalid::Skip).try_handler(|_slot: SlotId| async {
        Err::<Waiting, _>(HandlerError::invalid("the factory's configuration is no JSON"))
    });
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "0");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), None);
    let failure = driver.failure().map(ToString::to_string).unwrap_or_default();
    assert!(failure.contains("no JSON"), "{failure}");
}

/// A drain sealed only if an offset had moved: what a tick had written since was never sealed,
/// and lost with the hand-over.
#[test]
fn what_a_tick_wrote_is_durable_before_the_partition_is_given_up() {
    let mut app = Worker::builder("buffering");
    let (store, out) = (app.store("counts"), app.output("out"));
    app.input("in").tick_every(2 * SECOND).handler(move |_slot| Buffering {
        store,
        out,
        flushes: Arc::default(),
    });
    let mut driver =
        TestDriver::with_settings(app, 1, |settings| settings.commit_interval = 600 * SECOND);
    driver.advance(3 * SECOND);
    driver.revoke("in", 0);
    driver.assign("in", 0);
    assert_eq!(emitted(&driver), ["tick"]);
    driver.advance(2 * SECOND);
    assert!(driver.shut_down().is_ok());
    let changelog = driver.emitted("buffering-in-counts-changelog");
    assert_eq!(changelog.last().map(|record| record.json::<u64>()), Some(200));
}

/// Handles anything, and can't be flushed.
struct Unflushable;

impl Handler for Unflushable {
    async fn handle(
        &mut self,
        _record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        Err(HandlerError::fatal("the database is gone for good"))
    }
}

/// A fatal flush left what was handled in place, so the drain that followed asked for a flush
/// again, at once and without end; the worker neither ended nor heard anything more.
#[test]
fn a_fatal_flush_ends_the_worker_and_commits_nothing_of_what_was_handled() {
    let mut app = Worker::builder("unflushable");
    app.input("in").flush_every(10, SECOND).handler(|_slot| Unflushable);
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "0");
    driver.advance(30 * SECOND);
    let failure = driver.failure().map(ToString::to_string).unwrap_or_default();
    assert!(failure.contains("gone for good"), "{failure}");
    assert_eq!(driver.committed("in", 0), Some(0), "only the start was committed");
}

/// Buffers records until its flush; panics at one of them, always.
struct PanicsAtOne(Arc<Mutex<u32>>);

impl Handler for PanicsAtOne {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        if record.value() == Some(b"\"bad\"") {
            let tries = {
                let mut tries = self.0.lock().expect("no panic holds it");
                *tries += 1;
                *tries
            };
            if tries < 1_000 {
                std::panic::resume_unwind(Box::new("as always"));
            }
        }
        Ok(())
    }
}

/// A panic takes with it what its instance had handled and not flushed, so the partition starts
/// again behind what is done: it did so at once, and counted attempts anew. A record at which the
/// handler always panics was tried again and again without a wait, as fast as the machine could.
#[test]
fn a_record_that_always_panics_under_flush_every_is_tried_again_with_a_wait() {
    let tries = Arc::new(Mutex::new(0));
    let count = Arc::clone(&tries);
    let mut app = Worker::builder("buffering");
    app.input("in")
        .flush_every(100, 3_600 * SECOND)
        .handler(move |_slot| PanicsAtOne(Arc::clone(&count)));
    let mut driver = TestDriver::with_settings(app, 1, |settings| {
        settings.commit_interval = 3_600 * SECOND; // or it would bring a flush
    });
    driver.send("in", "k", "\"good\"");
    driver.send("in", "k", "\"bad\"");
    driver.advance(20 * SECOND);
    let tries = *tries.lock().expect("no panic holds it");
    assert!((4..=12).contains(&tries), "{tries} tries in 20 s, with waits that double");
}

/// The end of a partition came down the channel of its task, and then the channel itself ended: a task
/// that had taken the one from its sleep took the other for a loss, and handlers that had been revoked
/// in good order heard that their work was taken away, too.
#[test]
fn what_was_revoked_in_good_order_is_not_lost_as_well() {
    struct Hooks(Arc<Mutex<Vec<&'static str>>>);

    impl Handler for Hooks {
        async fn handle(
            &mut self,
            _record: &Record<'_>,
            _ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            Ok(())
        }

        async fn revoked(&mut self, _ctx: &mut Context<'_>) {
            self.0.lock().expect("no panic holds it").push("revoked");
        }

        async fn lost(&mut self, _ctx: &mut Context<'_>) {
            self.0.lock().expect("no panic holds it").push("lost");
        }
    }

    let heard = Arc::new(Mutex::new(Vec::new()));
    let witness = Arc::clone(&heard);
    let mut app = Worker::builder("hooks");
    app.input("in").handler(move |_slot| Hooks(Arc::clone(&witness)));
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"ok\"");
    driver.advance(2 * SECOND);
    driver.revoke("in", 0);
    driver.advance(SECOND);
    assert_eq!(*heard.lock().expect("no panic holds it"), ["revoked"]);
    driver.assign("in", 0);
    driver.lose("in", 0);
    driver.advance(SECOND);
    assert_eq!(*heard.lock().expect("no panic holds it"), ["revoked", "lost"]);
}
