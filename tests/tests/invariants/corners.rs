//! Corners: what one thing does to another, where two of them meet. Each was a bug once.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Memory};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::{
    Batch, BatchHandler, Batches, Breaker, Context, DeadLetters, Handler, HandlerError, Ordering,
    Output, Record, RetryPolicy, RetryTopics, TopicPartition, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// Is open, or sells nothing; and what it has sold.
#[derive(Clone, Default)]
struct Shop(Arc<AtomicBool>, Arc<Mutex<Vec<String>>>);

impl Handler for Shop {
    async fn handle(&mut self, r: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if self.0.load(Memory::Relaxed) {
            return Err(HandlerError::retryable("shut"));
        }
        self.1
            .lock()
            .expect("no panic")
            .push(String::from_utf8_lossy(r.value().expect("it is there")).into_owned());
        Ok(())
    }
}

fn shop(shop: &Shop, ordering: Ordering, delays: &[u32]) -> WorkerBuilder {
    let own = shop.clone();
    let mut app = Worker::builder("shop");
    let mut input = app
        .input("in")
        .ordering(ordering)
        .retry(RetryPolicy::fixed(SECOND).at_most(2))
        .dead_letters(DeadLetters::to("dead").max_deaths(0));
    if !delays.is_empty() {
        input = input.retry_topics(RetryTopics::after(delays.iter().map(|d| *d * SECOND)));
    }
    input.handler(move |_| own.clone());
    app
}

#[derive(Clone, Default)]
struct Down {
    broken: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<(i64, u32)>>>,
}

impl Handler for Down {
    async fn handle(&mut self, r: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.seen.lock().expect("no panic").push((r.offset(), ctx.attempt()));
        if self.broken.load(Memory::Relaxed) {
            return Err(HandlerError::retryable("broken"));
        }
        Ok(())
    }
}

/// Records that lay behind a failing one in the same hand were given up after one attempt.
#[test]
fn what_was_only_in_a_hand_has_not_been_tried() {
    let down = Down::default();
    let own = down.clone();
    let mut app = Worker::builder("corners");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).for_at_most(20 * SECOND))
        .dead_letters("dead")
        .handler(move |_| own.clone());
    let mut driver = TestDriver::with_partitions(app, 1);
    for n in 0..200 {
        driver.send("in", &format!("k{n}"), "");
    }
    driver.handle(0).expect("it is there").pause("in");
    driver.advance(SECOND);
    for n in 0..5 {
        driver.send("in", &format!("k{n}"), "");
    }
    down.broken.store(true, Memory::Relaxed);
    driver.handle(0).expect("it is there").resume("in");
    driver.advance(24 * SECOND);
    // The first one may be given up after 20 s; the second has been tried for 4 s by now.
    assert_eq!(driver.emitted("dead").len(), 1);
}

struct Fragile(Arc<AtomicBool>);

impl Handler for Fragile {
    async fn handle(&mut self, r: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        match r.value() {
            Some(b"kills") => {
                self.0.store(true, Memory::Relaxed);
                std::future::pending::<()>().await;
            }
            Some(b"long") => tokio::time::sleep(30 * SECOND).await,
            _ => {}
        }
        Ok(())
    }
}

fn two_inputs(dies: &Arc<AtomicBool>) -> WorkerBuilder {
    let mut app = Worker::builder("corners");
    let (a, b) = (Arc::clone(dies), Arc::clone(dies));
    app.input("a")
        .dead_letters(DeadLetters::to("dead").max_deaths(2))
        .handler(move |_| Fragile(Arc::clone(&a)));
    app.input("b").handler(move |_| Fragile(Arc::clone(&b)));
    app
}

/// One that was paused while it waited to run a suspect alone barred the whole worker.
#[test]
fn a_paused_partition_bars_nobody() {
    let dies = Arc::<AtomicBool>::default();
    let mut driver = TestDriver::with_partitions(two_inputs(&dies), 1);
    driver.send("a", "k", "kills");
    driver.advance(SECOND);
    assert!(dies.swap(false, Memory::Relaxed));
    driver.kill(0);
    let worker = driver.join(two_inputs(&dies));
    driver.assign_to(worker, "b", 0);
    driver.send("b", "k", "long");
    driver.advance(SECOND);
    driver.assign_to(worker, "a", 0);
    driver.advance(SECOND); // a waits until b has nothing in hand
    assert!(!dies.load(Memory::Relaxed));
    driver.handle(worker).expect("it is there").pause("a"); // the operator: "a" kills my workers
    driver.advance(40 * SECOND);
    assert_eq!(driver.committed("b", 0), Some(1));
    for _ in 0..5 {
        driver.send("b", "k", "");
    }
    driver.advance(3600 * SECOND);
    assert_eq!(driver.committed("b", 0), Some(6));
}

struct Collects(Arc<AtomicUsize>, &'static str);

impl Handler for Collects {
    #[expect(clippy::panic, reason = "as the record says")]
    async fn handle(&mut self, r: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if r.value() == Some(b"poison") {
            self.0.fetch_add(1, Memory::Relaxed);
            match self.1 {
                "panics" => panic!("as told"),
                "hangs" => std::future::pending().await,
                _ => return Err(HandlerError::retryable("no")),
            }
        }
        Ok(())
    }
    async fn flush(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
}

fn poison_under_flush(how: &'static str) -> (usize, usize, Option<i64>) {
    let attempts = Arc::<AtomicUsize>::default();
    let own = Arc::clone(&attempts);
    let mut app = Worker::builder("corners");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(3))
        .attempt_timeout(SECOND)
        .dead_letters("dead")
        .flush_every(100, SECOND)
        .handler(move |_| Collects(Arc::clone(&own), how));
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "k", "");
    driver.send("in", "k", "poison");
    driver.send("in", "k", "");
    driver.advance(600 * SECOND);
    (attempts.load(Memory::Relaxed), driver.emitted("dead").len(), driver.committed("in", 0))
}

/// With its instance went its dead letter, and what was handled before it: again and again.
#[test]
fn what_panics_or_hangs_under_flush_every_becomes_a_dead_letter() {
    let all: Vec<_> = ["fails", "panics", "hangs"].map(|how| (how, poison_under_flush(how))).into();
    for (how, (attempts, dead, committed)) in all {
        assert_eq!((dead, committed), (1, Some(3)), "{how}: {attempts} attempts");
    }
}

fn attempts_of(breaker_was_open: bool) -> Vec<u32> {
    #[derive(Clone, Default)]
    struct H(Arc<AtomicBool>, Arc<Mutex<Vec<u32>>>);
    impl Handler for H {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"bad") {
                self.1.lock().expect("no panic").push(ctx.attempt());
                return Err(HandlerError::retryable("bad"));
            }
            if self.0.load(Memory::Relaxed) {
                return Err(HandlerError::retryable("broken"));
            }
            Ok(())
        }
    }
    let h = H::default();
    let own = h.clone();
    let mut app = Worker::builder("corners");
    let breaker =
        Breaker::default().sliding_window(10).minimum_attempts(10).failure_rate_threshold(100);
    app.input("in")
        .ordering(Ordering::key(8))
        .retry(RetryPolicy::fixed(4 * SECOND).at_most(5))
        .breaker(breaker)
        .dead_letters(DeadLetters::to("dead").max_deaths(0))
        .handler(move |_| own.clone());
    let mut driver = TestDriver::with_partitions(app, 1);
    if breaker_was_open {
        h.0.store(true, Memory::Relaxed);
        for n in 0..12 {
            driver.send("in", &format!("k{n}"), "");
        }
        driver.advance(SECOND);
        assert!(driver.status(0).expect("it is there").partitions().iter().any(|p| p.breaker_open));
        h.0.store(false, Memory::Relaxed);
        driver.advance(200 * SECOND);
        assert!(
            !driver.status(0).expect("it is there").partitions().iter().any(|p| p.breaker_open)
        );
    }
    driver.send("in", "bad", "bad");
    for _ in 0..4 {
        for n in 0..10 {
            driver.send("in", &format!("k{n}"), "");
        }
        driver.advance(2500 * SECOND / 1000);
    }
    // three attempts have failed and are committed; the partition is handed over, to the same worker
    for _ in 0..6 {
        driver.revoke("in", 0);
        driver.advance(SECOND);
        driver.assign("in", 0);
        driver.advance(SECOND / 2);
        for n in 0..10 {
            driver.send("in", &format!("k{n}"), "");
        }
        driver.advance(5 * SECOND);
    }
    h.1.lock().expect("no panic").clone()
}

#[test]
fn an_outage_that_is_over_forgives_nothing_that_failed_since() {
    let (without, with) = (attempts_of(false), attempts_of(true));
    assert_eq!(without, with);
}

/// The new assignment knew of none that was held.
#[test]
fn inv_19_a_seek_lets_no_key_go() {
    let state = Shop::default();
    let app = shop(&state, Ordering::key(8), &[30]);
    let mut driver = TestDriver::with_partitions(app, 1);
    state.0.store(true, Memory::Relaxed);
    driver.send("in", "a", "0");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
    state.0.store(false, Memory::Relaxed);
    driver.send("in", "a", "1");
    driver.advance(2 * SECOND);
    assert_eq!(state.1.lock().expect("no panic").clone(), Vec::<String>::new(), "held");
    // an operator skips offset 2, say
    driver.handle(0).expect("it is there").seek(TopicPartition::new("in", 0), 2);
    driver.advance(2 * SECOND);
    driver.send("in", "a", "2");
    driver.advance(100 * SECOND);
    let seen = state.1.lock().expect("no panic").clone();
    assert_eq!(seen, ["0", "1", "2"]);
}

/// The desk tried again and again, and never let go of its lock.
#[test]
fn what_is_given_up_and_withheld_without_a_wait_leaves_the_desk_to_others() {
    let (tell, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let dies = Arc::<AtomicBool>::default();
        let make = |dies: &Arc<AtomicBool>| {
            let mut app = Worker::builder("corners");
            let own = Arc::clone(dies);
            app.input("in")
                .retry(RetryPolicy::fixed(Duration::ZERO))
                .dead_letters(DeadLetters::to("dead").max_deaths(1).at_most_of_a_thousand(0))
                .handler(move |_| Fragile(Arc::clone(&own)));
            app
        };
        let mut driver = TestDriver::with_partitions(make(&dies), 1);
        driver.send("in", "k", "kills");
        let mut worker = 0;
        let mut deaths = 0;
        for _ in 0..400 {
            driver.advance(Duration::from_millis(10));
            if dies.swap(false, Memory::Relaxed) {
                deaths += 1;
                driver.kill(worker);
                worker = driver.join(make(&dies));
                driver.assign_to(worker, "in", 0);
            }
        }
        let _nobody_waits = tell.send(deaths).is_err();
    });
    let deaths = ended.recv_timeout(Duration::from_secs(40));
    assert!(deaths.is_ok(), "the worker hangs");
}

/// Each had a hand full of them.
#[test]
fn inv_4_of_effects_larger_than_ever_each_partition_has_one() {
    struct Emits(Output, Arc<AtomicBool>);
    impl Handler for Emits {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if self.1.load(Memory::Relaxed) {
                ctx.emit(self.0, "k", &"x".repeat(900_000))?;
            }
            Ok(())
        }
    }
    let emits = Arc::<AtomicBool>::default();
    let own = Arc::clone(&emits);
    let mut app = Worker::builder("corners");
    let out = app.output("out");
    app.input("in").handler(move |_| Emits(out, Arc::clone(&own)));
    let mut driver = TestDriver::with_settings(app, 8, |s| {
        s.memory_budget = pelton::config::ByteCount::from_mib(32);
    });
    for n in 0..2_000 {
        driver.send("in", &format!("k{n}"), "");
    }
    driver.advance(SECOND);
    driver.handle(0).expect("it is there").pause("in");
    driver.advance(SECOND);
    for n in 0..600 {
        driver.send("in", &format!("k{n}"), "");
    }
    emits.store(true, Memory::Relaxed);
    driver.fail_deliveries_to(Some("out")); // outage
    driver.handle(0).expect("it is there").resume("in");
    driver.advance(SECOND);
    let memory = driver.status(0).expect("it is there").memory().expect("it is there");
    assert!(
        memory.used_bytes() < memory.budget_bytes + 2 * 8 * 900_000,
        "one of each partition is too many"
    );
}

/// Marks of failures pushed those of deaths out of the commit, and a record killed without end.
#[test]
fn inv_18_deaths_come_before_failures_where_a_commit_has_no_room_for_all() {
    use pelton_engine::{DoneSet, Envelope, Finish, Item, Next, Offset, Schedule, Standing, Time};
    fn through_kafka(standing: &Standing) -> Standing {
        let text = Envelope {
            partitions: 1,
            marks: standing.marks.clone(),
            window: standing.window,
            done_set: Some(standing.done.clone()),
            ..Envelope::default()
        }
        .encode();
        let read = Envelope::decode(&text).expect("it is there").expect("it is there");
        let done = read.done_set.unwrap_or_else(|| DoneSet::above(standing.offset()));
        Standing { done, marks: read.marks, window: read.window, holds: read.holds }
    }
    let deaths_with = |failing: i64| {
        let killer = Offset(failing);
        let mut stored = Standing::at(Offset(0));
        for deaths in 0..30 {
            let retry = RetryPolicy::fixed(3600 * SECOND).at_most(1_000);
            let mut schedule = Schedule::resuming(Ordering::key(100), stored.clone(), retry, 1);
            schedule.expect_deaths(3, &stored);
            schedule
                .push((0..=failing).map(|at| Item {
                    offset: Offset(at),
                    unit: u64::try_from(at).expect("it is there"),
                }))
                .expect("it is there");
            let now = Time::ZERO;
            'life: loop {
                if schedule.wants_commit(now) {
                    schedule.announce(now);
                    let standing = schedule.seal(now);
                    stored = through_kafka(&standing);
                    schedule.committed(&standing);
                }
                match schedule.next(now) {
                    Next::Start { offset, .. } if schedule.is_condemned(offset) => {
                        return Some(deaths);
                    }
                    Next::Start { offset, .. } if offset == killer => break 'life,
                    Next::Start { index, .. } => schedule.finished(index, Finish::Retry, now),
                    _ => assert!(schedule.wants_commit(now), "it stands still"),
                }
            }
        }
        None
    };
    assert_eq!((deaths_with(30), deaths_with(40)), (Some(3), Some(3)));
}

/// A suspect that becomes a dead letter, whose topic is out of order: the whole worker is barred.
#[test]
fn a_dead_letter_that_waits_bars_nobody_for_long() {
    struct Fragile2(Arc<AtomicBool>, bool);
    impl Handler for Fragile2 {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"kills") {
                if self.1 {
                    return Err(HandlerError::invalid("a new release calls it invalid"));
                }
                self.0.store(true, Memory::Relaxed);
                std::future::pending::<()>().await;
            }
            Ok(())
        }
    }
    fn app(dies: &Arc<AtomicBool>, is_new: bool) -> WorkerBuilder {
        let mut app = Worker::builder("corners");
        let (a, b) = (Arc::clone(dies), Arc::clone(dies));
        app.input("a")
            .dead_letters(DeadLetters::to("dead").max_deaths(2))
            .handler(move |_| Fragile2(Arc::clone(&a), is_new));
        app.input("b").handler(move |_| Fragile2(Arc::clone(&b), is_new));
        app
    }
    let dies = Arc::<AtomicBool>::default();
    let mut driver = TestDriver::with_partitions(app(&dies, false), 1);
    driver.send("a", "k", "kills");
    driver.advance(SECOND);
    assert!(dies.swap(false, Memory::Relaxed));
    driver.kill(0);
    driver.fail_deliveries_to(Some("dead"));
    let worker = driver.join(app(&dies, true));
    driver.assign_to(worker, "b", 0);
    driver.assign_to(worker, "a", 0);
    driver.advance(5 * SECOND);
    for _ in 0..5 {
        driver.send("b", "k", "");
    }
    driver.advance(120 * SECOND);
    assert_eq!(driver.committed("b", 0), Some(5));
    assert_eq!(driver.committed("a", 0), Some(0), "its own partition waits");
    driver.fail_deliveries_to(None);
    driver.advance(60 * SECOND);
    assert_eq!((driver.committed("a", 0), driver.emitted("dead").len()), (Some(1), 1));
}

/// Two ends from outside made a suspect of it, and the whole worker stood still.
#[test]
fn a_suspect_that_takes_an_hour_bars_nobody_for_long() {
    struct Long;
    impl Handler for Long {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.value() == Some(b"hour") {
                tokio::time::sleep(3600 * SECOND).await;
            }
            Ok(())
        }
    }
    fn app() -> WorkerBuilder {
        let mut app = Worker::builder("corners");
        app.input("a").dead_letters(DeadLetters::to("dead")).handler(|_| Long);
        app.input("b").handler(|_| Long);
        app
    }
    let mut driver = TestDriver::with_partitions(app(), 1);
    driver.send("a", "k", "hour");
    driver.advance(60 * SECOND);
    let mut worker = 0;
    for _ in 0..2 {
        driver.kill(worker); // from outside: the machine is restarted, twice
        worker = driver.join(app());
        driver.assign_to(worker, "a", 0);
        driver.assign_to(worker, "b", 0);
        driver.advance(60 * SECOND);
    }
    for _ in 0..5 {
        driver.send("b", "k", "");
    }
    driver.advance(1800 * SECOND);
    assert_eq!(driver.committed("b", 0), Some(5));
}

/// Its delay was dropped where another one of its unit came before it.
#[test]
fn a_record_comes_out_of_a_retry_topic_at_its_time_and_not_at_that_of_the_one_before() {
    use tokio::time::Instant;
    #[derive(Clone, Default)]
    struct Fails(Arc<Mutex<Vec<(String, String, Instant)>>>);
    impl Handler for Fails {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            let value = String::from_utf8_lossy(r.value().expect("it is there")).into_owned();
            self.0.lock().expect("no panic").push((r.topic().to_owned(), value, Instant::now()));
            if r.topic() == "in" { Err(HandlerError::retryable("no")) } else { Ok(()) }
        }
    }
    let fails = Fails::default();
    let own = fails.clone();
    let mut app = Worker::builder("corners");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(1))
        .retry_topics(RetryTopics::after([60 * SECOND]).hold_key(false))
        .dead_letters("dead")
        .handler(move |_| own.clone());
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "a", "0");
    driver.advance(50 * SECOND);
    driver.send("in", "b", "1");
    driver.advance(200 * SECOND);
    let seen = fails.0.lock().expect("no panic").clone();
    let at = |topic: &str, value: &str| {
        seen.iter()
            .find(|(t, v, _)| t.starts_with(topic) && v == value)
            .map(|(_, _, at)| *at)
            .expect("it is there")
    };
    assert!(at("corners", "1").duration_since(at("in", "1")) >= 60 * SECOND);
}

/// Its partition began a moment later, where the retry topic ended by then.
#[test]
fn latest_skips_nothing_in_a_retry_topic() {
    let state = Shop::default();
    let mut driver =
        TestDriver::with_settings(shop(&state, Ordering::key(8), &[]), 1, |settings| {
            settings.auto_offset_reset = Some(pelton::config::AutoOffsetReset::Latest);
        });
    driver.send("in", "a", "0");
    driver.advance(2 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
    driver.revoke("in", 0);
    driver.advance(SECOND);
    // A new release has retry topics.
    let next = driver.join(shop(&state, Ordering::key(8), &[10]));
    driver.assign_to(next, "in", 0);
    state.0.store(true, Memory::Relaxed);
    driver.send("in", "a", "1");
    driver.advance(5 * SECOND); // it went away, and its offset is committed
    assert_eq!(driver.committed("in", 0), Some(2));
    state.0.store(false, Memory::Relaxed);
    driver.assign_to(next, "shop-in-retry-1", 0); // the group gets to it
    driver.advance(600 * SECOND);
    let done = state.1.lock().expect("no panic").clone();
    println!(
        "{done:?}; dead {}; retry topic {}, committed {:?}",
        driver.emitted("dead").len(),
        driver.emitted("shop-in-retry-1").len(),
        driver.committed("shop-in-retry-1", 0)
    );
    assert_eq!(done, ["0", "1"]);
}

fn without_retry_topics(ordering: Ordering, then: &[u32]) -> String {
    let state = Shop::default();
    let mut driver = TestDriver::with_partitions(shop(&state, ordering, &[10, 20]), 1);
    state.0.store(true, Memory::Relaxed);
    driver.send("in", "a", "0");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
    if !then.is_empty() {
        driver.advance(12 * SECOND); // on to the second one
    }
    driver.revoke("in", 0);
    driver.revoke("shop-in-retry-1", 0);
    driver.revoke("shop-in-retry-2", 0);
    driver.advance(2 * SECOND);
    state.0.store(false, Memory::Relaxed);
    let next = driver.join(shop(&state, ordering, then));
    driver.assign_to(next, "in", 0);
    if !then.is_empty() {
        driver.assign_to(next, "shop-in-retry-1", 0);
    }
    for n in 1..4 {
        driver.send("in", "a", &n.to_string());
    }
    driver.advance(3600 * SECOND);
    assert_eq!(state.1.lock().expect("no panic").len(), 0, "nothing overtakes what lies there");
    driver.failure().map(ToString::to_string).unwrap_or_default()
}

/// The partition stood still for ever, and said nothing.
#[test]
fn inv_19_retry_topics_that_are_still_needed_are_asked_for() {
    let all = [
        without_retry_topics(Ordering::Partition, &[]),
        without_retry_topics(Ordering::key(8), &[]),
        without_retry_topics(Ordering::key(8), &[10]),
    ];
    assert!(all.iter().all(|said| said.contains("put its retry topics back")), "{all:?}");
}

/// What was cut off at the drain's deadline was skipped.
#[test]
fn a_seek_that_cannot_be_finished_is_not_made() {
    struct Slow(Arc<Mutex<Vec<i64>>>);
    impl Handler for Slow {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            if r.offset() == 0 {
                tokio::time::sleep(15 * SECOND).await;
            }
            self.0.lock().expect("no panic").push(r.offset());
            Ok(())
        }
    }
    let done = Arc::<Mutex<Vec<i64>>>::default();
    let own = Arc::clone(&done);
    let mut app = Worker::builder("corners");
    app.input("in").handler(move |_| Slow(Arc::clone(&own)));
    let mut driver = TestDriver::with_partitions(app, 1);
    for _ in 0..6 {
        driver.send("in", "k", "");
    }
    driver.advance(SECOND);
    driver.handle(0).expect("it is there").seek(TopicPartition::new("in", 0), 3);
    driver.advance(120 * SECOND);
    let done = done.lock().expect("no panic").clone();
    assert!(done.contains(&0), "it had started, and is skipped");
}

/// Its records became dead letters, though none of them was tried.
#[test]
fn a_factory_that_fails_is_no_records_fault() {
    let broken = Arc::<AtomicBool>::default();
    let own = Arc::clone(&broken);
    let calls = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&calls);
    struct First(Arc<AtomicUsize>);
    impl Handler for First {
        async fn handle(
            &mut self,
            r: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            self.0.fetch_add(1, Memory::Relaxed);
            if r.value() == Some(b"panics") {
                panic!("as told");
            }
            Ok(())
        }
    }
    let mut app = Worker::builder("corners");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(2))
        .dead_letters(DeadLetters::to("dead").max_deaths(0))
        .try_handler(move |_| {
            let (own, counted) = (Arc::clone(&own), Arc::clone(&counted));
            async move {
                if own.load(Memory::Relaxed) {
                    return Err(HandlerError::retryable("the database is away"));
                }
                Ok(First(counted))
            }
        });
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "k", "");
    driver.advance(SECOND);
    broken.store(true, Memory::Relaxed); // no instance can be made any more
    driver.send("in", "k", "panics");
    for _ in 0..5 {
        driver.send("in", "k", "is well");
    }
    driver.advance(30 * SECOND);
    assert_eq!((calls.load(Memory::Relaxed), driver.emitted("dead").len()), (2, 0));
    broken.store(false, Memory::Relaxed);
    driver.advance(60 * SECOND);
    assert_eq!((driver.committed("in", 0), driver.emitted("dead").len()), (Some(7), 1));
}

/// It was started without, though it was known how large they are.
#[test]
fn inv_4_a_batch_has_room_for_its_effects() {
    struct Emits(Output);
    impl BatchHandler for Emits {
        async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
            let out = self.0;
            for (_, _, ctx) in batch.each() {
                ctx.emit(out, "k", &"x".repeat(400_000))?;
            }
            Ok(())
        }
    }
    let mut app = Worker::builder("corners");
    let out = app.output("out");
    app.input("in").batch_handler(Batches::of(500), move |_| Emits(out));
    let mut driver = TestDriver::with_settings(app, 1, |s| {
        s.memory_budget = pelton::config::ByteCount::from_mib(32);
    });
    let mut peaks = Vec::new();
    for _ in 0..4 {
        for _ in 0..2 {
            driver.send("in", "k", ""); // small batches first: it learns how large effects are
            driver.advance(SECOND);
        }
        driver.handle(0).expect("it is there").pause("in");
        driver.advance(SECOND / 10);
        for _ in 0..500 {
            driver.send("in", "k", "");
        }
        driver.fail_deliveries_to(Some("out"));
        driver.handle(0).expect("it is there").resume("in");
        driver.advance(SECOND);
        let memory = driver.status(0).expect("it is there").memory().expect("it is there");
        peaks.push((memory.used_bytes() / 1_048_576, memory.budget_bytes / 1_048_576));
        driver.fail_deliveries_to(None);
        driver.advance(30 * SECOND);
    }
    assert!(peaks[1].0 <= peaks[1].1 + 2);
}

/// Each failure of the factory forgave what the record had failed before: it was never given up.
#[test]
fn a_factory_that_fails_now_and_then_forgives_no_record() {
    struct Panics;
    impl Handler for Panics {
        async fn handle(
            &mut self,
            _: &Record<'_>,
            _: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            panic!("as told");
        }
    }
    let mut app = Worker::builder("corners");
    let calls = AtomicUsize::new(0);
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(3))
        .dead_letters(DeadLetters::to("dead").max_deaths(0))
        .try_handler(move |_| {
            let fails = calls.fetch_add(1, Memory::Relaxed) % 2 == 1;
            async move {
                let error = || HandlerError::retryable("the database is away");
                if fails { Err(error()) } else { Ok(Panics) }
            }
        });
    let mut driver = TestDriver::with_partitions(app, 1);
    driver.send("in", "k", "");
    driver.advance(60 * SECOND);
    assert_eq!((driver.committed("in", 0), driver.emitted("dead").len()), (Some(1), 1));
}

/// A jump over records that were deleted forgot which keys were held, as a seek had.
#[test]
fn inv_19_a_jump_lets_no_key_go() {
    let state = Shop::default();
    let app = shop(&state, Ordering::key(8), &[60]);
    let mut driver = TestDriver::with_settings(app, 1, |settings| {
        settings.on_out_of_range = pelton::config::OnOutOfRange::Earliest;
    });
    state.0.store(true, Memory::Relaxed);
    driver.send("in", "a", "0");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1));
    state.0.store(false, Memory::Relaxed);
    driver.revoke("in", 0);
    driver.advance(2 * SECOND);
    for value in ["1", "2"] {
        driver.send("in", "a", value);
    }
    driver.delete_records("in", 0, 2);
    driver.assign("in", 0);
    driver.advance(10 * SECOND);
    assert_eq!(state.1.lock().expect("no panic").len(), 0, "held");
    driver.advance(100 * SECOND);
    assert_eq!(*state.1.lock().expect("no panic"), ["0", "2"]);
}
