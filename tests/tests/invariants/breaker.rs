//! What handlers call is broken: the input pauses, tries now and then, and goes on; nothing is given up.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Memory};
use std::sync::{Arc, Mutex};

use pelton::{
    Batch, BatchHandler, Batches, Breaker, Completion, Context, Handler, HandlerError,
    InputBuilder, Ordering, Record, RetryPolicy, RetryTopics, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;
use tokio::time::Instant;

use super::SECOND;

/// What handlers call: it is broken or well, and remembers who called while it was broken, and what it
/// has done, as keys and values.
#[derive(Clone, Default)]
struct Downstream {
    is_broken: Arc<AtomicBool>,
    /// For so many calls it is well though it is broken.
    well_for: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    done: Arc<Mutex<Vec<(String, String)>>>,
    /// When it has done something, and when handlers have ended.
    times: Arc<Mutex<Vec<Instant>>>,
}

impl Downstream {
    fn broken() -> Self {
        let downstream = Self::default();
        downstream.breaks(true);
        downstream
    }

    fn breaks(&self, is_broken: bool) {
        self.is_broken.store(is_broken, Memory::Relaxed);
    }

    fn refused(&self) -> usize {
        self.refused.load(Memory::Relaxed)
    }

    fn done(&self) -> Vec<(String, String)> {
        self.done.lock().expect("no panic holds it").clone()
    }

    fn is_well_for_once(&self) -> bool {
        let less = |calls: usize| calls.checked_sub(1);
        self.well_for.fetch_update(Memory::Relaxed, Memory::Relaxed, less).is_ok()
    }

    fn marks_the_time(&self) {
        self.times.lock().expect("no panic holds it").push(Instant::now());
    }

    #[expect(clippy::panic, reason = "as the record says")]
    fn call(&self, record: &Record<'_>) -> Result<(), HandlerError> {
        let value: &str = record.json()?;
        if value == "panics" {
            panic!("as told");
        }
        let is_broken = || self.is_broken.load(Memory::Relaxed) && !self.is_well_for_once();
        if value == "fails" || is_broken() {
            self.refused.fetch_add(1, Memory::Relaxed);
            return Err(HandlerError::retryable("the downstream is broken"));
        }
        self.marks_the_time();
        let done = (record.key_str()?.to_owned(), value.to_owned());
        self.done.lock().expect("no panic holds it").push(done);
        Ok(())
    }
}

struct Calls(Downstream);

impl Handler for Calls {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.0.call(record)
    }

    async fn close(&mut self) {
        self.0.marks_the_time();
    }
}

/// Attempts at a record are a second apart, and three at most.
fn input(app: &mut WorkerBuilder, ordering: Ordering) -> InputBuilder<'_> {
    app.input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND).at_most(3))
        .dead_letters("dead")
        .breaker(
            Breaker::default()
                .sliding_window(8)
                .minimum_attempts(4)
                .wait_in_open(4 * SECOND, 16 * SECOND),
        )
}

fn calls(ordering: Ordering, downstream: &Downstream) -> WorkerBuilder {
    let (mut app, downstream) = (Worker::builder("calls"), downstream.clone());
    input(&mut app, ordering).handler(move |_slot| Calls(downstream.clone()));
    app
}

fn send(driver: &mut TestDriver, records: usize) {
    for n in 0..records {
        driver.send("in", &format!("k{}", n % 10), &format!("\"{n}\""));
    }
}

fn committed(driver: &TestDriver, partitions: i32) -> i64 {
    (0..partitions).filter_map(|partition| driver.committed("in", partition)).sum()
}

fn is_open(driver: &TestDriver) -> bool {
    let partitions = driver.status(0).expect("it lives").partitions();
    partitions.iter().all(|partition| partition.breaker_open)
}

/// Each key's values in the order in which they were sent, each once.
fn is_in_order(done: &[(String, String)], records: usize) -> bool {
    let numbers = |key: &str| -> Vec<usize> {
        let own = done.iter().filter(|(of, _)| of == key);
        own.map(|(_, value)| value.parse().expect("a number")).collect()
    };
    (0..10).all(|key| numbers(&format!("k{key}")) == (key..records).step_by(10).collect::<Vec<_>>())
}

#[test]
fn inv_20_an_outage_costs_few_attempts_and_no_dead_letter_and_keeps_the_order() {
    for ordering in [Ordering::Partition, Ordering::key(8)] {
        let downstream = Downstream::default();
        let mut driver = TestDriver::with_partitions(calls(ordering, &downstream), 4);
        send(&mut driver, 100);
        driver.advance(SECOND);
        downstream.breaks(true);
        for n in 100..200 {
            driver.send("in", &format!("k{}", n % 10), &format!("\"{n}\""));
        }
        driver.advance(15 * SECOND);
        assert!(is_open(&driver), "{ordering:?}");
        driver.advance(15 * SECOND);
        let attempts = downstream.refused();
        assert!((4..=16).contains(&attempts), "{attempts} in 30 s, {ordering:?}");
        downstream.breaks(false);
        driver.advance(17 * SECOND);
        assert!(!is_open(&driver));
        assert!(is_in_order(&downstream.done(), 200), "{ordering:?}: {:?}", downstream.done());
        assert_eq!((committed(&driver, 4), driver.emitted("dead").len()), (200, 0));
    }
}

/// Without the breaker, the same outage buries what is in hand.
#[test]
fn inv_20_nothing_is_given_up_until_the_breaker_has_closed() {
    let downstream = Downstream::broken();
    let mut driver = TestDriver::with_partitions(calls(Ordering::Partition, &downstream), 1);
    driver.send("in", "a", "\"0\"");
    driver.send("in", "a", "\"fails\"");
    driver.advance(2 * SECOND + SECOND / 2);
    assert_eq!(driver.emitted("dead").len(), 1, "three attempts are not enough to open it");
    driver.advance(300 * SECOND);
    assert!(is_open(&driver));
    let attempts = driver.attempts("in", 0, 1);
    assert!((10..=45).contains(&attempts), "{attempts} of three");
    assert_eq!(driver.emitted("dead").len(), 1);
    assert!(driver.failure().is_none());
}

#[test]
fn inv_20_a_record_that_fails_by_itself_does_not_keep_the_others_from_probing() {
    let downstream = Downstream::broken();
    let mut driver = TestDriver::with_partitions(calls(Ordering::Partition, &downstream), 4);
    driver.send("in", "a", "\"fails\"");
    send(&mut driver, 100);
    driver.advance(30 * SECOND);
    assert!(is_open(&driver));
    downstream.breaks(false);
    driver.advance(60 * SECOND);
    assert!(!is_open(&driver));
    assert_eq!((committed(&driver, 4), driver.emitted("dead").len()), (101, 1));
}

/// It is well for one call: whoever probes succeeds, and all others fail again.
#[test]
fn inv_20_a_record_has_all_of_its_attempts_after_an_outage() {
    let downstream = Downstream::broken();
    let mut driver = TestDriver::with_partitions(calls(Ordering::Partition, &downstream), 4);
    send(&mut driver, 100);
    driver.advance(300 * SECOND);
    downstream.well_for.store(1, Memory::Relaxed);
    driver.advance(17 * SECOND);
    assert_eq!(downstream.done().len(), 1);
    driver.advance(17 * SECOND);
    assert!(is_open(&driver));
    assert_eq!(driver.emitted("dead").len(), 0);
    downstream.breaks(false);
    driver.advance(30 * SECOND);
    assert!(is_in_order(&downstream.done(), 100));
    assert_eq!((committed(&driver, 4), driver.emitted("dead").len()), (100, 0));
}

/// Its attempts at the retry topic are the input's: the fourth opens the breaker.
#[test]
fn inv_20_nothing_is_given_up_in_a_retry_topic_either() {
    let downstream = Downstream::broken();
    let (mut app, own) = (Worker::builder("calls"), downstream.clone());
    input(&mut app, Ordering::key(4))
        .retry_topics(RetryTopics::after([5 * SECOND]))
        .handler(move |_slot| Calls(own.clone()));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "\"0\"");
    driver.advance(4 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1), "it waits in the retry topic");
    driver.advance(100 * SECOND);
    assert!(is_open(&driver));
    downstream.breaks(false);
    driver.advance(20 * SECOND);
    assert_eq!((downstream.done().len(), driver.emitted("dead").len()), (1, 0));
}

#[test]
fn panics_and_invalid_records_open_nothing() {
    let downstream = Downstream::default();
    let mut driver = TestDriver::with_partitions(calls(Ordering::key(4), &downstream), 1);
    for n in 0..10 {
        let value = if n % 2 == 0 { "\"panics\"" } else { "no JSON" };
        driver.send("in", &format!("k{n}"), value);
    }
    driver.advance(SECOND);
    assert!(!is_open(&driver));
    driver.advance(2 * SECOND);
    assert_eq!((committed(&driver, 1), driver.emitted("dead").len()), (10, 10));
}

#[test]
fn inv_5_a_partition_whose_breaker_is_open_is_released_at_once() {
    for ordering in [Ordering::Partition, Ordering::key(4)] {
        for lost in [false, true] {
            let downstream = Downstream::broken();
            let mut driver = TestDriver::with_partitions(calls(ordering, &downstream), 2);
            send(&mut driver, 100);
            driver.advance(10 * SECOND);
            assert!(is_open(&driver));
            let (first, attempts) = (driver.owned().len(), downstream.refused());
            if lost {
                driver.lose("in", 0);
            } else {
                driver.revoke("in", 0);
            }
            assert_eq!((first, driver.owned().len()), (2, 1), "{ordering:?}, {lost}");
            assert_eq!(downstream.refused(), attempts);
            downstream.breaks(false);
            driver.assign("in", 0);
            driver.advance(20 * SECOND);
            assert!(is_in_order(&downstream.done(), 100), "{ordering:?}, {lost}");
            assert_eq!((committed(&driver, 2), driver.emitted("dead").len()), (100, 0));
        }
    }
}

#[test]
fn inv_5_a_worker_whose_breaker_is_open_ends_at_once() {
    let broken = Downstream::broken();
    let clock = Downstream { times: Arc::clone(&broken.times), ..Downstream::default() };
    let mut app = calls(Ordering::key(4), &broken);
    app.input("clock").handler(move |_slot| Calls(clock.clone()));
    let mut driver = TestDriver::with_partitions(app, 2);
    send(&mut driver, 20);
    driver.advance(10 * SECOND);
    let attempts = broken.refused();
    driver.send("clock", "a", "\"now\"");
    driver.shut_down().expect("a good end");
    assert_eq!(broken.refused(), attempts);
    let times = broken.times.lock().expect("no panic holds it").clone();
    let (first, last) = (times.iter().min().expect("now"), times.iter().max().expect("the end"));
    assert!(times.len() > 2 && *last - *first < 2 * SECOND, "{times:?}");
}

struct Bulk(Downstream, Arc<Mutex<Vec<usize>>>);

impl BatchHandler for Bulk {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        self.1.lock().expect("no panic holds it").push(batch.records().len());
        if self.0.is_broken.load(Memory::Relaxed) {
            self.0.refused.fetch_add(1, Memory::Relaxed);
            return Err(HandlerError::retryable("the downstream is broken"));
        }
        batch.records().iter().try_for_each(|record| self.0.call(record))
    }
}

/// And the length of each batch.
fn bulk(
    ordering: Ordering,
    retry: RetryPolicy,
    downstream: &Downstream,
) -> (WorkerBuilder, Arc<Mutex<Vec<usize>>>) {
    let batches = Arc::<Mutex<Vec<usize>>>::default();
    let mut app = Worker::builder("bulk");
    let (own, seen) = (downstream.clone(), Arc::clone(&batches));
    input(&mut app, ordering)
        .retry(retry)
        .batch_handler(Batches::of(20), move |_slot| Bulk(own.clone(), Arc::clone(&seen)));
    (app, batches)
}

/// Those that have failed wait for long: it is with others that the breaker is probed.
#[test]
fn inv_20_a_batch_probes_with_one_record() {
    let downstream = Downstream::broken();
    let (app, batches) =
        bulk(Ordering::unordered(2), RetryPolicy::fixed(600 * SECOND), &downstream);
    let mut driver = TestDriver::with_partitions(app, 1);
    send(&mut driver, 100);
    driver.advance(30 * SECOND);
    let seen = batches.lock().expect("no panic holds it").clone();
    assert_eq!(seen[..3], [20, 1, 1], "{seen:?}");
    downstream.breaks(false);
    driver.advance(17 * SECOND);
    let after = batches.lock().expect("no panic holds it")[seen.len()..].to_vec();
    assert!(after[0] == 1 && after[1..].contains(&20), "{after:?}");
}

#[test]
fn inv_20_an_outage_costs_few_calls_with_batches_too() {
    for ordering in [Ordering::Partition, Ordering::key(2)] {
        let downstream = Downstream::broken();
        let (app, _) = bulk(ordering, RetryPolicy::fixed(SECOND).at_most(3), &downstream);
        let mut driver = TestDriver::with_partitions(app, 4);
        send(&mut driver, 100);
        driver.advance(30 * SECOND);
        assert!(is_open(&driver), "{ordering:?}");
        let calls = downstream.refused();
        assert!((2..=16).contains(&calls), "{calls} calls in 30 s, {ordering:?}");
        downstream.breaks(false);
        driver.advance(17 * SECOND);
        assert!(is_in_order(&downstream.done(), 100), "{ordering:?}: {:?}", downstream.done());
        assert_eq!((committed(&driver, 4), driver.emitted("dead").len()), (100, 0));
    }
}

/// Leaves every record to whoever takes its completion.
struct Defers(Arc<Mutex<Vec<Completion>>>);

impl Handler for Defers {
    async fn handle(&mut self, _: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.0.lock().expect("no panic holds it").push(ctx.defer(60 * SECOND)?);
        Ok(())
    }
}

#[test]
fn inv_20_a_deferred_record_counts_when_it_is_completed() {
    let pending = Arc::<Mutex<Vec<Completion>>>::default();
    let (mut app, witness) = (Worker::builder("defers"), Arc::clone(&pending));
    input(&mut app, Ordering::key(8)).handler(move |_slot| Defers(Arc::clone(&witness)));
    let mut driver = TestDriver::with_partitions(app, 1);
    send(&mut driver, 10);
    let take = || std::mem::take(&mut *pending.lock().expect("no panic holds it"));
    let first = take();
    assert_eq!(first.len(), 8);
    first.into_iter().for_each(|completion| completion.fail(std::io::Error::other("no")));
    driver.advance(SECOND);
    assert!(is_open(&driver) && take().is_empty());
    driver.advance(10 * SECOND);
    let mut probes = take();
    assert_eq!(probes.len(), 1, "however long it takes");
    assert!(is_open(&driver));
    probes.pop().expect("one").done();
    driver.advance(2 * SECOND);
    assert!(!is_open(&driver));
    while committed(&driver, 1) < 10 {
        let all = take();
        assert!(!all.is_empty());
        all.into_iter().for_each(Completion::done);
        driver.advance(2 * SECOND);
    }
}

#[test]
fn inv_20_when_a_probe_has_ended_all_partitions_go_on() {
    let pending = Arc::<Mutex<Vec<Completion>>>::default();
    let (mut app, witness) = (Worker::builder("defers"), Arc::clone(&pending));
    input(&mut app, Ordering::Partition)
        .breaker(Breaker::default().minimum_attempts(3))
        .handler(move |_slot| Defers(Arc::clone(&witness)));
    let mut driver = TestDriver::with_partitions(app, 4);
    send(&mut driver, 100);
    let take = || std::mem::take(&mut *pending.lock().expect("no panic holds it"));
    let first = take();
    let partitions = first.len();
    assert!(partitions >= 3);
    first.into_iter().for_each(|completion| completion.fail(std::io::Error::other("no")));
    driver.advance(10 * SECOND);
    let mut probes = take();
    assert_eq!(probes.len(), 1);
    probes.pop().expect("one").done();
    driver.advance(SECOND / 1_000);
    assert_eq!(take().len(), partitions);
}

/// Buffers what it is given, and counts its flushes and ticks; the record `fails` fails.
struct Collects(Downstream, Arc<[AtomicUsize; 2]>);

impl Handler for Collects {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.0.call(record)
    }

    async fn flush(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.1[0].fetch_add(1, Memory::Relaxed);
        Ok(())
    }

    async fn tick(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.1[1].fetch_add(1, Memory::Relaxed);
        Ok(())
    }
}

#[test]
fn flushes_and_ticks_go_on_while_the_breaker_is_open() {
    let (downstream, calls) = (Downstream::default(), Arc::<[AtomicUsize; 2]>::default());
    let (mut app, counts) = (Worker::builder("collects"), Arc::clone(&calls));
    input(&mut app, Ordering::Partition)
        .retry(RetryPolicy::fixed(SECOND / 10))
        .flush_every(100, 5 * SECOND)
        .tick_every(SECOND)
        .handler(move |_slot| Collects(downstream.clone(), Arc::clone(&counts)));
    let mut driver = TestDriver::with_settings(app, 2, |settings| {
        settings.commit_interval = 600 * SECOND;
    });
    for key in ["a", "b", "c", "d", "e", "f"] {
        driver.send("in", key, "\"0\"");
    }
    driver.send("in", "a", "\"fails\"");
    driver.advance(SECOND);
    assert!(is_open(&driver));
    let counts = || [0, 1].map(|at| calls[at].load(Memory::Relaxed));
    assert_eq!(counts()[0], 1, "before the record is tried again that has failed");
    driver.advance(9 * SECOND);
    let [flushes, ticks] = counts();
    assert!(is_open(&driver) && flushes == 2 && ticks >= 18, "{flushes}, {ticks}");
}

/// On real Kafka a record had failed twice when the breaker opened. Its partition went to another worker,
/// whose breaker had seen nothing yet: there it failed once, and was given up.
#[test]
fn what_failed_before_it_opened_counts_at_no_next_owner() {
    let downstream = Downstream::broken();
    let mut driver = TestDriver::with_partitions(calls(Ordering::key(8), &downstream), 1);
    driver.send("in", "first", "\"0\"");
    driver.advance(SECOND + SECOND / 2); // two attempts
    assert!(!is_open(&driver));
    send(&mut driver, 2);
    driver.advance(SECOND / 2);
    assert!(is_open(&driver));
    let next = driver.join(calls(Ordering::key(8), &downstream));
    driver.revoke("in", 0);
    driver.advance(SECOND);
    driver.assign_to(next, "in", 0);
    driver.advance(10 * SECOND);
    downstream.breaks(false);
    driver.advance(60 * SECOND);
    assert_eq!((driver.emitted("dead").len(), downstream.done().len()), (0, 3));
}

/// The other input goes on, and what an operator says of this one holds.
#[test]
fn a_breaker_is_of_one_input() {
    let (broken, well) = (Downstream::broken(), Downstream::default());
    let mut app = calls(Ordering::Partition, &broken);
    let own = well.clone();
    app.input("other").handler(move |_slot| Calls(own.clone()));
    let mut driver = TestDriver::with_partitions(app, 1);
    for _ in 0..5 {
        driver.send("in", "a", "\"0\"");
    }
    driver.advance(10 * SECOND);
    let attempts = broken.refused();
    for _ in 0..5 {
        driver.send("other", "a", "\"0\"");
    }
    assert_eq!(well.done().len(), 5);
    let partitions = driver.status(0).expect("it lives").partitions();
    let open = partitions.iter().filter(|partition| partition.breaker_open);
    assert_eq!(open.map(|partition| &*partition.topic).collect::<Vec<_>>(), ["in"]);
    driver.advance(10 * SECOND);
    assert!(broken.refused() <= attempts + 3);
    assert_eq!(driver.committed("other", 0), Some(5));
}
