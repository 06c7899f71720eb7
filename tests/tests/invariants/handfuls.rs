//! Slots that have several records in hand: what waits or fails among them, and those behind it.

use std::sync::{Arc, Mutex};

use pelton::{
    Context, Handler, HandlerError, Ordering, Record, Worker, WorkerBuilder, WorkerHandle,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Offsets, in the order in which they were done.
type Done = Arc<Mutex<Vec<i64>>>;

/// Takes no time, but where a record says that it waits or fails at first.
struct Quick(Done);

impl Handler for Quick {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        match record.value() {
            Some(b"waits") => tokio::time::sleep(5 * SECOND).await,
            Some(b"fails") if ctx.attempt() == 1 => return Err(HandlerError::retryable("no")),
            _ => {}
        }
        self.0.lock().expect("no panic holds it").push(record.offset());
        Ok(())
    }
}

fn quick(ordering: Ordering) -> (WorkerBuilder, Done) {
    let done = Done::default();
    let witness = Arc::clone(&done);
    let mut app = Worker::builder("quick");
    app.input("in").ordering(ordering).handler(move |_slot| Quick(Arc::clone(&witness)));
    (app, done)
}

/// Slots reach far, and records come all at once: so many before the hard one and behind it. Returns
/// the hard one's offset.
fn burst(driver: &mut TestDriver, hard: &str) -> i64 {
    for number in 0..40 {
        driver.send("in", &format!("k{number}"), "");
    }
    ask(driver, |worker| worker.pause("in"));
    for number in 0..10 {
        driver.send("in", &format!("k{number}"), "");
    }
    let (_, offset) = driver.send("in", "hard", hard);
    for number in 0..20 {
        driver.send("in", &format!("k{number}"), "");
    }
    driver.send("in", "hard", "");
    ask(driver, |worker| worker.resume("in"));
    offset
}

fn ask(driver: &mut TestDriver, wish: impl FnOnce(&WorkerHandle)) {
    wish(driver.handle(0).expect("a worker"));
    driver.advance(SECOND / 500); // sooner than slots that are overdue are relieved
}

#[test]
fn a_record_that_waits_or_fails_delays_only_its_key() {
    for (hard, ordering) in [
        ("waits", Ordering::key(8)),
        ("fails", Ordering::key(8)),
        ("waits", Ordering::unordered(8)),
        ("fails", Ordering::unordered(8)),
    ] {
        let (app, done) = quick(ordering);
        let mut driver = TestDriver::with_partitions(app, 1);
        let offset = burst(&mut driver, hard);
        let is_done = |offset: i64| done.lock().expect("no panic holds it").contains(&offset);
        let all_but = |open: &[i64]| (0..=offset + 21).filter(|at| !open.contains(at)).all(is_done);
        let behind = matches!(ordering, Ordering::Key { .. }).then_some(offset + 21);
        assert!(!is_done(offset) && behind.is_none_or(|at| !is_done(at)), "{hard} {ordering:?}");
        let open: Vec<i64> = [Some(offset), behind].into_iter().flatten().collect();
        assert!(all_but(&open), "{hard} {ordering:?}: {:?}", done.lock());
        driver.advance(10 * SECOND);
        assert!(all_but(&[]));
        assert_eq!(driver.committed("in", 0), Some(offset + 22));
    }
}

#[test]
fn inv_2_behind_a_record_that_waits_or_fails_a_partition_keeps_its_order() {
    for hard in ["waits", "fails"] {
        let (app, done) = quick(Ordering::Partition);
        let mut driver = TestDriver::with_partitions(app, 1);
        let offset = burst(&mut driver, hard);
        assert_eq!(*done.lock().expect("no panic holds it"), (0..offset).collect::<Vec<_>>());
        driver.advance(10 * SECOND);
        assert_eq!(*done.lock().expect("no panic holds it"), (0..offset + 22).collect::<Vec<_>>());
    }
}

/// Emits much, and waits where a record says so.
struct Emits(Quick, pelton::Output);

impl Handler for Emits {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        ctx.emit(self.1, record.key_str()?, &"x".repeat(900_000))?;
        self.0.handle(record, ctx).await
    }
}

/// A hand that memory had capped was taken, once it was full, for one that leaves room for no second
/// record: its slot said nobody that a record waited, and those behind it waited, too.
#[test]
fn a_record_that_waits_delays_no_other_where_memory_is_short() {
    let done = Done::default();
    let (witness, mut app) = (Arc::clone(&done), Worker::builder("emits"));
    let out = app.output("out");
    app.input("in")
        .ordering(Ordering::key(8))
        .handler(move |_slot| Emits(Quick(Arc::clone(&witness)), out));
    let mut driver = TestDriver::with_settings(app, 1, |settings| {
        settings.memory_budget = "64MiB".parse().expect("a size");
    });
    let offset = burst(&mut driver, "waits");
    let is_done = |offset: i64| done.lock().expect("no panic holds it").contains(&offset);
    let open: Vec<_> = (0..offset + 21).filter(|at| !is_done(*at)).collect();
    assert_eq!(open, [offset]);
}

/// What has not begun is the next owner's, what has ended is committed.
#[test]
fn inv_5_a_partition_that_is_given_up_has_begun_nothing_more() {
    for ordering in [Ordering::Partition, Ordering::key(1)] {
        let (app, done) = quick(ordering);
        let mut driver = TestDriver::with_partitions(app, 1);
        let offset = burst(&mut driver, "waits");
        let done = || done.lock().expect("no panic holds it").clone();
        let before = done();
        driver.revoke("in", 0);
        driver.advance(10 * SECOND);
        assert_eq!(done(), [before, vec![offset]].concat(), "{ordering:?}");
        let records = i64::try_from(done().len()).ok();
        assert_eq!(driver.committed("in", 0), records);
        assert!(driver.owned().is_empty());
    }
}
