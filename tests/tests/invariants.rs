//! What holds inside a whole worker, whatever its handlers do: `docs/invariants.md`, held against
//! the real runtime in virtual time.

#[path = "invariants/out_of_range.rs"]
mod out_of_range;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::{Context, Handler, HandlerError, Output, Record, Store, Worker, WorkerBuilder};
use pelton_testkit::TestDriver;

const SECOND: Duration = Duration::from_secs(1);

/// What a handler does with a record, told by the record itself.
struct Scripted {
    store: Store<str, u64>,
    out: Output,
    seen: Seen,
    /// Which instance this is, from 1.
    instance: u32,
}

/// What handlers have seen: the instance, the record's value, the store's content before it.
type Seen = Arc<Mutex<Vec<(u32, String, u64)>>>;

impl Handler for Scripted {
    #[expect(clippy::panic, reason = "as the record says")]
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let what: &str = record.json()?;
        let before = ctx.get(self.store, "n")?.unwrap_or(0);
        self.seen.lock().expect("no panic holds it").push((self.instance, what.to_owned(), before));
        ctx.put(self.store, "n", &(before + 1))?;
        ctx.emit(self.out, "n", &(before + 1))?;
        match (what, ctx.attempt()) {
            ("fails", 1 | 2) => Err(HandlerError::retryable("as told")),
            ("panics", 1) => panic!("as told"),
            ("waits", _) => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

fn scripted() -> (WorkerBuilder, Seen) {
    let seen = Seen::default();
    let mut app = Worker::builder("scripted");
    let store = app.store("counts");
    let out = app.output("out");
    let (witness, instances) = (Arc::clone(&seen), AtomicU32::new(0));
    app.input("in").handler(move |_slot| Scripted {
        store,
        out,
        seen: Arc::clone(&witness),
        instance: instances.fetch_add(1, Ordering::Relaxed) + 1,
    });
    (app, seen)
}

fn seen(seen: &Seen) -> Vec<(u32, String, u64)> {
    seen.lock().expect("no panic holds it").clone()
}

#[test]
fn inv_2_and_3_a_failing_record_is_tried_until_it_is_done_and_nothing_passes_it() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"fails\"");
    driver.send("in", "k", "\"after\"");
    assert_eq!(seen(&witness).len(), 1, "the second record waits for the first");
    driver.advance(10 * SECOND);
    let order: Vec<_> = seen(&witness).into_iter().map(|(_, what, _)| what).collect();
    assert_eq!(order, ["fails", "fails", "fails", "after"]);
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn inv_5_a_partition_is_released_only_after_what_has_started_is_done_and_committed() {
    let (app, _) = scripted();
    let mut driver = TestDriver::with_settings(app, 2, |settings| {
        settings.drain_timeout = Some(5 * SECOND);
    });
    let (busy, _) = driver.send("in", "k", "\"waits\"");
    driver.revoke("in", busy);
    assert_eq!(driver.owned().len(), 2, "the handler still runs");
    driver.advance(4 * SECOND);
    assert_eq!(driver.owned().len(), 2, "and its deadline is not reached");
    driver.advance(2 * SECOND);
    assert_eq!(driver.owned().len(), 1, "past it the record is cut off");
    assert_eq!(driver.committed("in", busy), Some(0), "not done, so not committed");
}

#[test]
fn inv_5_nothing_of_a_lost_partition_is_committed() {
    let (app, _) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"done\"");
    driver.lose("in", 0);
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(0), "only the start was committed");
}

#[test]
fn inv_10_a_record_sees_the_store_as_its_last_owner_left_it() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    for _ in 0..3 {
        driver.send("in", "k", "\"done\"");
    }
    driver.revoke("in", 0);
    // Waiting already when the partition comes back: it would be handled at once if it could be.
    driver.send("in", "k", "\"next\"");
    driver.assign("in", 0);
    driver.advance(SECOND);
    assert_eq!(seen(&witness).last(), Some(&(2, "next".to_owned(), 3)));
}

#[test]
fn inv_11_a_failed_attempt_leaves_nothing_in_stores_and_outputs() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"fails\"");
    driver.advance(10 * SECOND);
    assert_eq!(driver.store::<u64>("counts")["n"], 1);
    assert_eq!(driver.emitted("out").len(), 1);
    assert!(seen(&witness).iter().all(|(_, _, before)| *before == 0), "each attempt starts anew");
}

#[test]
fn inv_14_after_a_panic_another_instance_tries_the_record_again() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"panics\"");
    driver.send("in", "k", "\"after\"");
    driver.advance(5 * SECOND);
    let instances: Vec<_> = seen(&witness).into_iter().map(|(n, what, _)| (n, what)).collect();
    let expected = [(1, "panics"), (2, "panics"), (2, "after")];
    assert_eq!(instances, expected.map(|(n, what)| (n, what.to_owned())));
    assert_eq!(driver.store::<u64>("counts")["n"], 2);
}

/// The factory is user code like the handler: its panic is caught, too.
#[test]
fn inv_14_a_factory_that_panics_is_asked_again() {
    struct Fine;
    impl Handler for Fine {
        async fn handle(
            &mut self,
            _record: &Record<'_>,
            _ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            Ok(())
        }
    }
    let mut app = Worker::builder("factory");
    let calls = AtomicU32::new(0);
    app.input("in").handler(move |_slot| {
        assert!(calls.fetch_add(1, Ordering::Relaxed) > 0, "the first one panics");
        Fine
    });
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "{}");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
}
