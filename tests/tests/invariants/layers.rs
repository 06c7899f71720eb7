//! Code around handlers: every record passes it, in its order, and what it does is the record's.

use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, Mutex};

use pelton::telemetry::{Observation, Observer, RecordOutcome, install_recorder};
use pelton::{
    Batch, BatchHandler, Batches, Context, Dedup, Filter, Handler, HandlerError, Layer, Ordering,
    Output, Record, RetryPolicy, Timing, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// What was called, in order.
#[derive(Clone, Default)]
struct Calls(Arc<Mutex<Vec<String>>>);

impl Calls {
    fn add(&self, call: impl Into<String>) {
        self.0.lock().expect("no panic holds it").push(call.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.0.lock().expect("no panic holds it"))
    }
}

/// A layer that tells when it is passed, each way.
#[derive(Clone)]
struct Tells(&'static str, Calls);

impl Layer for Tells {
    async fn handle<H: Handler>(
        &mut self,
        inner: &mut H,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.1.add(format!("{} in", self.0));
        let result = inner.handle(record, ctx).await;
        self.1.add(format!("{} out", self.0));
        result
    }
}

/// Tells of each call, and emits the record's value.
struct All(Calls, Output);

impl Handler for All {
    #[expect(clippy::panic, reason = "as the record says")]
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let what = record.json::<&str>()?;
        self.0.add(what);
        ctx.emit(self.1, "k", what)?;
        match what {
            "fails once" if ctx.attempt() == 1 => Err(HandlerError::retryable("as told")),
            "hangs" => std::future::pending().await,
            "panics" => panic!("as told"),
            "slow" => {
                tokio::time::sleep(2 * SECOND).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    async fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.add("flush");
        Ok(())
    }

    async fn tick(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.add("tick");
        Ok(())
    }

    async fn assigned(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.add("assigned");
        Ok(())
    }

    async fn revoked(&mut self, _ctx: &mut Context<'_>) {
        self.0.add("revoked");
    }

    async fn lost(&mut self, _ctx: &mut Context<'_>) {
        self.0.add("lost");
    }

    async fn close(&mut self) {
        self.0.add("close");
    }
}

#[test]
fn layers_are_passed_from_the_first_to_the_last_and_hooks_reach_the_handler() {
    let calls = Calls::default();
    let (mut app, witness) = (Worker::builder("layers"), calls.clone());
    let out = app.output("out");
    app.input("in")
        .layer(Tells("a", calls.clone()))
        .layer(Tells("b", calls.clone()))
        .flush_every(1, SECOND)
        .tick_every(10 * SECOND)
        .handler(move |_slot| All(witness.clone(), out));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "k", "\"ok\"");
    driver.advance(SECOND);
    assert_eq!(calls.take(), ["assigned", "a in", "b in", "ok", "b out", "a out", "flush"]);
    driver.advance(10 * SECOND);
    driver.revoke("in", 0);
    assert_eq!(calls.take(), ["tick", "revoked", "close"]);
    driver.assign("in", 0);
    driver.lose("in", 0);
    assert_eq!(calls.take(), ["assigned", "lost", "close"]);
}

/// Emits every record of a batch, and fails those that say so.
struct Bulk(Calls, Output);

impl BatchHandler for Bulk {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        self.0.add(format!("{} records", batch.records().len()));
        let mut failed = Vec::new();
        for (number, record, ctx) in batch.each() {
            ctx.emit(self.1, "k", record.json::<&str>()?)?;
            if ctx.attempt() == 1 && record.json::<&str>()? == "fails once" {
                failed.push(number);
            }
        }
        for number in failed {
            batch.fail(number, HandlerError::retryable("as told"));
        }
        if batch.records().len() == 4 {
            return Err(HandlerError::retryable("four are too many"));
        }
        Ok(())
    }
}

/// How each attempt ended, in order.
#[derive(Debug, Default)]
struct Outcomes(Mutex<Vec<(i64, RecordOutcome)>>);

impl Observer for Outcomes {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::End { offset, outcome, .. } = observation {
            self.0.lock().expect("no panic holds it").push((*offset, *outcome));
        }
    }
}

fn emitted(driver: &TestDriver) -> Vec<String> {
    driver.emitted("out").iter().map(|record| record.json()).collect()
}

fn is_wanted(record: &Record<'_>) -> bool {
    record.json::<&str>().is_ok_and(|what| !what.starts_with("no"))
}

#[test]
fn what_a_filter_does_not_want_is_done_without_the_handler() {
    for ordering in [Ordering::Partition, Ordering::key(4), Ordering::unordered(4)] {
        let mut app = Worker::builder("filters");
        let out = app.output("out");
        app.input("in")
            .ordering(ordering)
            .layer(Filter::new(is_wanted))
            .handler(move |_slot| All(Calls::default(), out));
        let outcomes = Arc::<Outcomes>::default();
        app.observer(Arc::clone(&outcomes) as _);
        let mut driver = TestDriver::with_partitions(app, 1);
        for what in ["\"no\"", "\"yes\"", "no JSON", "\"nothing\""] {
            driver.send("in", "k", what);
        }
        driver.advance(2 * SECOND);
        assert_eq!(emitted(&driver), ["yes"], "{ordering:?}");
        assert_eq!(driver.committed("in", 0), Some(4));
        let outcomes = outcomes.0.lock().expect("no panic holds it").clone();
        let (skipped, done) = (RecordOutcome::Skipped, RecordOutcome::Done);
        assert_eq!(outcomes, [(0, skipped), (1, done), (2, skipped), (3, skipped)]);
    }
}

#[test]
fn of_a_batch_the_handler_gets_what_the_filters_want_and_each_keeps_its_result() {
    let calls = Calls::default();
    let (mut app, witness) = (Worker::builder("filters"), calls.clone());
    let out = app.output("out");
    app.input("in")
        .ordering(Ordering::unordered(1))
        .retry(RetryPolicy::fixed(SECOND))
        .layer(Timing::named("batches"))
        .layer(Filter::new(is_wanted))
        .layer(Filter::new(|record| record.json::<&str>().is_ok_and(|what| what != "other")))
        .batch_handler(Batches::of(6), move |_slot| Bulk(witness.clone(), out));
    let mut driver = TestDriver::with_partitions(app, 1);
    let records = ["no", "a", "other", "fails once", "b", "nothing"];
    for what in records {
        driver.send("in", what, &format!("\"{what}\""));
    }
    assert_eq!(calls.take(), ["3 records"]);
    driver.advance(SECOND / 2);
    assert_eq!(emitted(&driver), ["a", "b"]);
    driver.advance(3 * SECOND);
    assert_eq!(emitted(&driver), ["a", "b", "fails once"]);
    assert_eq!(driver.committed("in", 0), Some(6));
    let attempts = |n| (0..n).map(|at| driver.attempts("in", 0, at)).collect::<Vec<_>>();
    assert_eq!(attempts(6), [1, 1, 1, 2, 1, 1]);
    // The call fails as a whole: what was skipped is done all the same.
    calls.take();
    for what in ["a", "no", "b", "c", "d", "nothing"] {
        driver.send("in", what, &format!("\"{what}\""));
    }
    assert_eq!(calls.take(), ["4 records"]);
    driver.advance(20 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(12));
    let attempts: Vec<_> = (6..12).map(|at| driver.attempts("in", 0, at) > 1).collect();
    assert_eq!(attempts, [true, false, true, true, true, false]);
}

#[test]
fn a_layer_that_knows_no_batches_ends_the_worker_of_a_batch_handler() {
    let mut app = Worker::builder("layers");
    let out = app.output("out");
    app.input("in")
        .layer(Tells("a", Calls::default()))
        .batch_handler(Batches::of(1), move |_slot| Bulk(Calls::default(), out));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "k", "\"ok\"");
    let failure = driver.failure().expect("it ends").to_string();
    assert!(failure.contains("Layer::handle_batch"), "{failure}");
}

/// Log lines, as they are written.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("no panic holds it").write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn what_is_within_a_timing_is_measured_by_how_it_ended() {
    let recorder = install_recorder().expect("none is there");
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone());
    let _here = tracing::subscriber::set_default(subscriber.finish());
    let mut app = Worker::builder("timed");
    let out = app.output("out");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(2))
        .attempt_timeout(3 * SECOND)
        .dead_letters("dead")
        .layer(Timing::named("all").warn_above(SECOND))
        .layer(Filter::new(is_wanted))
        .layer(Timing::named("wanted"))
        .handler(move |_slot| All(Calls::default(), out));
    let mut driver = TestDriver::with_partitions(app, 1);
    for what in ["ok", "fails once", "slow", "no", "hangs", "panics"] {
        driver.send("in", "k", &format!("\"{what}\""));
    }
    driver.advance(30 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(6));
    let text = recorder.render();
    let value = |what: &str, layer: &str, outcome: &str| {
        let labels =
            format!("group=\"timed\",topic=\"in\",layer=\"{layer}\",outcome=\"{outcome}\"");
        let line = format!("pelton_layer_seconds_{what}{{{labels}}} ");
        let found = text.lines().find_map(|text| text.strip_prefix(&line));
        found.unwrap_or_else(|| panic!("no {line} in\n{text}")).to_owned()
    };
    for layer in ["all", "wanted"] {
        let counts = ["done", "retry", "cancelled", "panicked", "invalid", "fatal"]
            .map(|outcome| value("count", layer, outcome));
        assert_eq!(counts, ["3", "1", "2", "2", "0", "0"], "{layer}");
        assert_eq!(value("sum", layer, "done"), "2");
        assert_eq!(value("sum", layer, "cancelled"), "6");
    }
    assert_eq!(["all", "wanted"].map(|layer| value("count", layer, "skipped")), ["1", "0"]);
    let lines =
        String::from_utf8(lines.0.lock().expect("no panic holds it").clone()).expect("text");
    let slow: Vec<_> = lines.lines().filter(|line| line.contains("a slow record")).collect();
    assert_eq!(slow.len(), 3, "{lines}");
    let fields = "partition=in-0 offset=2 attempt=1 layer=\"all\" outcome=\"done\" seconds=2.0";
    assert!(slow[0].ends_with(fields), "{}", slow[0]);
}

/// A record's id is what stands behind its `#`; it has none without.
fn id<'r>(record: &Record<'r>) -> Option<Cow<'r, [u8]>> {
    record.value()?.split(|byte| *byte == b'#').nth(1).map(Into::into)
}

fn dedup(ordering: Ordering, window: u64) -> WorkerBuilder {
    let mut app = Worker::builder("once");
    let out = app.output("out");
    let seen = app.store("seen");
    app.input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND).at_most(2))
        .dead_letters("dead")
        .layer(Dedup::new(seen, window, id))
        .handler(move |_slot| Told(out));
    app
}

/// Emits the record, and does as it says before its `#`.
struct Told(Output);

impl Handler for Told {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let what: &str = record.json()?;
        ctx.emit(self.0, "k", what)?;
        match what.split('#').next() {
            Some("fails once") if ctx.attempt() == 1 => Err(HandlerError::retryable("as told")),
            Some("fails") => Err(HandlerError::retryable("as told")),
            Some("slow") => {
                tokio::time::sleep(2 * SECOND).await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn send(driver: &mut TestDriver, key: &str, what: &str) {
    driver.send("in", key, &format!("\"{what}\""));
}

const ORDERS: [Ordering; 2] = [Ordering::Partition, Ordering::key(4)];

#[test]
fn inv_17_of_records_with_one_id_the_first_is_handled() {
    for ordering in ORDERS {
        let mut driver = TestDriver::with_partitions(dedup(ordering, 100), 1);
        for (key, what) in
            [("a", "x#1"), ("b", "x#2"), ("a", "y#1"), ("b", "none"), ("b", "none"), ("b", "y#2")]
        {
            send(&mut driver, key, what);
        }
        driver.advance(2 * SECOND);
        assert_eq!(emitted(&driver), ["x#1", "x#2", "none", "none"], "{ordering:?}");
        assert_eq!(driver.committed("in", 0), Some(6));
    }
}

/// The repetition waits behind the first, whose attempts it may not pass, and knows what became of it.
#[test]
fn inv_11_an_id_is_remembered_only_if_its_record_is_done() {
    for ordering in ORDERS {
        let mut driver = TestDriver::with_partitions(dedup(ordering, 100), 1);
        for what in ["fails once#1", "y#1", "fails#2", "y#2", "z#2", "slow#3", "y#3"] {
            send(&mut driver, "a", what);
        }
        driver.advance(20 * SECOND);
        assert_eq!(emitted(&driver), ["fails once#1", "y#2", "slow#3"], "{ordering:?}");
        assert_eq!(driver.emitted("dead").len(), 1);
        assert_eq!(driver.committed("in", 0), Some(7));
    }
}

#[test]
fn ids_are_remembered_over_a_restart_and_a_hand_over() {
    for ordering in ORDERS {
        let mut driver = TestDriver::with_partitions(dedup(ordering, 100), 1);
        send(&mut driver, "a", "x#1");
        driver.advance(2 * SECOND);
        driver.revoke("in", 0);
        driver.assign("in", 0);
        send(&mut driver, "a", "y#1");
        send(&mut driver, "a", "x#2");
        driver.advance(2 * SECOND);
        driver.kill(0);
        let second = driver.join(dedup(ordering, 100));
        driver.assign_to(second, "in", 0);
        for what in ["z#1", "y#2", "x#3"] {
            send(&mut driver, "a", what);
        }
        driver.advance(2 * SECOND);
        assert_eq!(emitted(&driver), ["x#1", "x#2", "x#3"], "{ordering:?}");
    }
}

/// After a crash the store may know more than the commit says. A record that is handled again must
/// not take itself for its own repetition: its output may not have got through.
#[test]
fn a_record_that_is_handled_again_is_no_repetition_of_itself() {
    for ordering in ORDERS {
        let mut driver = TestDriver::with_partitions(dedup(ordering, 100), 1);
        for what in ["x#1", "y#1", "x#2"] {
            send(&mut driver, "a", what);
        }
        driver.advance(2 * SECOND);
        driver.revoke("in", 0);
        driver.set_committed("in", 0, 0, "");
        driver.assign("in", 0);
        driver.advance(2 * SECOND);
        assert_eq!(emitted(&driver), ["x#1", "x#2", "x#1", "x#2"], "{ordering:?}");
    }
}

#[test]
fn an_id_is_forgotten_behind_the_window_and_never_within_it() {
    for ordering in ORDERS {
        let mut driver = TestDriver::with_partitions(dedup(ordering, 10), 1);
        send(&mut driver, "a", "x#0");
        for n in 1..9 {
            send(&mut driver, "a", &format!("x#{n}"));
        }
        send(&mut driver, "a", "y#0"); // offset 9: within
        send(&mut driver, "a", "z#0"); // offset 10: behind it, and the first again
        send(&mut driver, "a", "again#0");
        driver.advance(2 * SECOND);
        let seen = emitted(&driver);
        assert_eq!(seen.len(), 10, "{ordering:?} {seen:?}");
        assert_eq!(seen[9], "z#0");
    }
}

/// Slots that hold records of other keys change the same buckets meanwhile: none of their ids is lost.
/// A drain and another owner come in between.
#[test]
fn inv_17_ids_of_slots_that_run_at_once_share_their_buckets() {
    let mut driver = TestDriver::with_partitions(dedup(Ordering::key(16), 16), 1);
    let sent = |round: usize| (0..4).map(move |n| (n, format!("slow#{}", round * 4 + n)));
    for round in 0..8 {
        // Each id comes three times, from four keys at once.
        for (key, what) in sent(round).chain(sent(round)) {
            send(&mut driver, &format!("key-{key}"), &what);
        }
        driver.advance(SECOND);
        if round == 4 {
            driver.revoke("in", 0);
            driver.advance(5 * SECOND);
            driver.assign("in", 0);
        }
        for (key, what) in sent(round) {
            send(&mut driver, &format!("key-{key}"), &what);
        }
    }
    driver.advance(60 * SECOND);
    let mut seen = emitted(&driver);
    seen.sort();
    let mut expected: Vec<_> = (0..8).flat_map(sent).map(|(_, what)| what).collect();
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(driver.committed("in", 0), Some(96));
}

/// What is remembered stays near the window, however many records come.
#[test]
fn so_many_ids_are_remembered_as_the_window_is_wide() {
    let mut driver = TestDriver::with_partitions(dedup(Ordering::key(4), 64), 1);
    for n in 0..2_000 {
        send(&mut driver, &format!("key-{}", n % 7), &format!("x#{n}"));
    }
    driver.advance(2 * SECOND);
    assert_eq!(emitted(&driver).len(), 2_000);
    let topic = "once-in-seen-changelog";
    let buckets: std::collections::BTreeMap<_, Vec<(i64, String)>> =
        driver.emitted(topic).iter().map(|record| (record.key.clone(), record.json())).collect();
    assert_eq!(buckets.len(), 8, "a power of two, an eighth of the window");
    let ids: usize = buckets.values().map(Vec::len).sum();
    assert!((60..=128).contains(&ids), "{ids}");
}

#[test]
fn ids_need_an_order_and_a_bearable_length() {
    let mut driver = TestDriver::with_partitions(dedup(Ordering::unordered(4), 10), 1);
    send(&mut driver, "a", "x#1");
    let failure = driver.failure().expect("it ends").to_string();
    assert!(failure.contains("Ordering::Unordered"), "{failure}");

    let mut driver = TestDriver::with_partitions(dedup(Ordering::Partition, 10), 1);
    send(&mut driver, "a", &format!("x#{}", "1".repeat(501)));
    driver.advance(2 * SECOND);
    assert_eq!(driver.emitted("dead").len(), 1, "invalid");
}
