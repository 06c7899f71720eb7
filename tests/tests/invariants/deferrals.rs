//! Records that something else completes, and records that take an hour.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::{
    Completion, Context, Handler, HandlerError, Ordering, Output, Record, RetryPolicy, Worker,
    WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

type Pending = Arc<Mutex<VecDeque<Completion>>>;

/// Emits, and leaves every record to whoever takes its completion.
struct Defers {
    out: Output,
    pending: Pending,
}

impl Handler for Defers {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        ctx.emit(self.out, record.key_str()?, &ctx.attempt())?;
        let completion = ctx.defer(10 * SECOND)?;
        self.pending.lock().expect("no panic holds it").push_back(completion);
        Ok(())
    }
}

fn defers(ordering: Ordering) -> (WorkerBuilder, Pending) {
    let pending = Pending::default();
    let witness = Arc::clone(&pending);
    let mut app = Worker::builder("defers");
    let out = app.output("out");
    app.input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND))
        .handler(move |_slot| Defers { out, pending: Arc::clone(&witness) });
    (app, pending)
}

fn take(pending: &Pending) -> Completion {
    pending.lock().expect("no panic holds it").pop_front().expect("a record waits")
}

fn waiting(pending: &Pending) -> usize {
    pending.lock().expect("no panic holds it").len()
}

#[test]
fn inv_1_and_11_a_deferred_record_is_done_with_its_effects_when_it_is_completed() {
    let (app, pending) = defers(Ordering::Partition);
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "0");
    driver.send("in", "b", "0");
    driver.advance(3 * SECOND);
    assert_eq!(waiting(&pending), 1, "the second waits for the first");
    assert_eq!((driver.committed("in", 0), driver.emitted("out").len()), (Some(0), 0));
    take(&pending).done();
    driver.advance(3 * SECOND);
    assert_eq!((driver.committed("in", 0), driver.emitted("out").len()), (Some(1), 1));
    take(&pending).done();
    driver.advance(3 * SECOND);
    assert_eq!((driver.committed("in", 0), driver.emitted("out").len()), (Some(2), 2));
}

#[test]
fn a_completion_that_fails_is_dropped_or_does_not_come_is_a_failed_attempt() {
    let (app, pending) = defers(Ordering::Partition);
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "0");
    take(&pending).fail(std::io::Error::other("no"));
    driver.advance(2 * SECOND);
    drop(take(&pending));
    driver.advance(2 * SECOND);
    let late = take(&pending);
    driver.advance(12 * SECOND); // its time is over, and it is tried again
    assert_eq!(driver.attempts("in", 0, 0), 4);
    late.done();
    driver.advance(2 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(0), "a completion of an attempt that is over");
    take(&pending).done();
    driver.advance(2 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
    assert_eq!(driver.emitted("out").iter().map(|e| e.json::<u32>()).collect::<Vec<_>>(), [4]);
}

#[test]
fn deferred_records_keep_their_places_and_other_keys_go_on() {
    let (app, pending) = defers(Ordering::key(2));
    let mut driver = TestDriver::with_partitions(app, 1);
    for key in ["a", "a", "b", "c"] {
        driver.send("in", key, "0");
    }
    driver.advance(SECOND);
    assert_eq!(waiting(&pending), 2, "a and b");
    let a = take(&pending);
    take(&pending).done();
    driver.advance(2 * SECOND);
    assert_eq!(waiting(&pending), 1, "c has taken b's place");
    assert_eq!(driver.committed("in", 0), Some(0));
    a.done();
    driver.advance(2 * SECOND);
    take(&pending).done();
    take(&pending).done();
    driver.advance(2 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(4));
}

#[test]
fn inv_5_a_drain_waits_for_a_deferred_record_until_its_deadline() {
    for in_time in [true, false] {
        let (app, pending) = defers(Ordering::key(2));
        let mut driver = TestDriver::with_settings(app, 1, |settings| {
            settings.drain_timeout = Some(4 * SECOND);
        });
        driver.send("in", "a", "0");
        driver.revoke("in", 0);
        driver.advance(2 * SECOND);
        assert_eq!(driver.owned().len(), 1);
        let completion = take(&pending);
        let kept = if in_time {
            completion.done();
            None
        } else {
            Some(completion)
        };
        driver.advance(3 * SECOND);
        assert!(driver.owned().is_empty());
        assert_eq!(driver.committed("in", 0), Some(i64::from(in_time)));
        drop(kept);
    }
}

/// Takes an hour, and says how it ended.
struct Long(Arc<Mutex<Vec<&'static str>>>);

impl Handler for Long {
    async fn handle(&mut self, _: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        let (said, cancellation) = (Arc::clone(&self.0), ctx.cancellation());
        let watch = tokio::spawn(async move {
            cancellation.cancelled().await;
            said.lock().expect("no panic holds it").push("cancelled");
        });
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        watch.abort();
        self.0.lock().expect("no panic holds it").push("done");
        Ok(())
    }
}

fn long() -> (WorkerBuilder, Arc<Mutex<Vec<&'static str>>>) {
    let said = Arc::<Mutex<Vec<&'static str>>>::default();
    let witness = Arc::clone(&said);
    let mut app = Worker::builder("long");
    app.input("in").handler(move |_slot| Long(Arc::clone(&witness)));
    (app, said)
}

#[test]
fn a_record_that_takes_an_hour_keeps_its_partition_and_its_order() {
    let (app, said) = long();
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "0");
    driver.send("in", "a", "0");
    driver.advance(Duration::from_secs(3_599));
    assert!(said.lock().expect("no panic holds it").is_empty());
    driver.advance(2 * SECOND);
    assert_eq!(*said.lock().expect("no panic holds it"), ["done"]);
    assert_eq!((driver.committed("in", 0), driver.attempts("in", 0, 1)), (Some(1), 1));
    driver.advance(Duration::from_secs(3_600));
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn inv_5_a_long_record_learns_that_its_partition_is_given_up_or_lost() {
    for lost in [false, true] {
        let (app, said) = long();
        let mut driver = TestDriver::with_settings(app, 1, |settings| {
            settings.drain_timeout = Some(5 * SECOND);
        });
        driver.send("in", "a", "0");
        driver.advance(600 * SECOND);
        if lost {
            driver.lose("in", 0);
        } else {
            driver.revoke("in", 0);
        }
        driver.advance(10 * SECOND);
        assert_eq!(*said.lock().expect("no panic holds it"), ["cancelled"]);
        assert_eq!(driver.committed("in", 0), Some(0));
    }
}
