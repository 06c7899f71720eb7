//! What holds inside a whole worker, whatever its handlers do: `docs/invariants.md`, held against
//! the real runtime in virtual time.

#[path = "invariants/batches.rs"]
mod batches;
#[path = "invariants/breaker.rs"]
mod breaker;
#[path = "invariants/control.rs"]
mod control;
#[path = "invariants/corners.rs"]
mod corners;
#[path = "invariants/crashes.rs"]
mod crashes;
#[path = "invariants/deferrals.rs"]
mod deferrals;
#[path = "invariants/endings.rs"]
mod endings;
#[path = "invariants/failures.rs"]
mod failures;
#[path = "invariants/handfuls.rs"]
mod handfuls;
#[path = "invariants/in_hand.rs"]
mod in_hand;
#[path = "invariants/input_rules.rs"]
mod input_rules;
#[path = "invariants/layers.rs"]
mod layers;
#[path = "invariants/orderings.rs"]
mod orderings;
#[path = "invariants/out_of_range.rs"]
mod out_of_range;
#[path = "invariants/retry_topics.rs"]
mod retry_topics;
#[path = "invariants/slots.rs"]
mod slots;
#[path = "invariants/stores.rs"]
mod stores;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::config::{AutoOffsetReset, Settings};
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
            ("sleeps", _) => {
                tokio::time::sleep(2 * SECOND).await;
                Ok(())
            }
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

/// Takes every record and does nothing.
struct Ignore;

impl Handler for Ignore {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
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

/// Told to begin at a time, a worker begins there, and commits it before any record does.
#[test]
fn inv_9_a_fresh_group_begins_at_the_time_it_was_told_and_commits_that_at_once() {
    let begin_ms = 1_767_225_600_000; // what virtual time calls the beginning
    let reads_another = || {
        let mut app = Worker::builder("another");
        app.input("other").handler(|_slot| Ignore);
        app
    };
    for (reset_ms, position, handled) in [
        (begin_ms - 1_000, 0, &["first", "second", "third"][..]),
        (begin_ms + 10_000, 1, &["second", "third"]),
        (begin_ms + 10_001, 2, &["third"]),
        (begin_ms + 86_400_000, 3, &[]),
    ] {
        let at_time = AutoOffsetReset::AtTime(reset_ms);
        let start = |settings: &mut Settings| settings.auto_offset_reset = Some(at_time);
        // The records are there before anybody reads them.
        let mut driver = TestDriver::with_settings(reads_another(), 1, start);
        let (app, witness) = scripted();
        let late = driver.join(app);
        for value in ["first", "second", "third"] {
            driver.send("in", "k", &format!("\"{value}\""));
            driver.advance(10 * SECOND);
        }
        driver.assign_to(late, "in", 0);
        let order: Vec<_> = seen(&witness).into_iter().map(|(_, what, _)| what).collect();
        assert_eq!(order, handled, "from {at_time:?}");
        let committed = driver.committed("in", 0);
        assert!(committed >= Some(position), "no time has passed, and {committed:?} is committed");
    }
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

/// What was handled, in the order it began.
fn order(witness: &Seen) -> Vec<String> {
    seen(witness).into_iter().map(|(_, what, _)| what).collect()
}

fn pause(driver: &mut TestDriver, topics: &[&str]) {
    let topics = topics.iter().map(|&topic| topic.to_owned()).collect();
    driver.reload(|settings| settings.paused_topics = topics).expect("the input is declared");
}

/// Whether each partition of the first worker says it is paused; the worker is ready all the same.
fn paused(driver: &TestDriver) -> Vec<bool> {
    let status = driver.status(0).expect("it lives");
    assert!(status.health().ready, "{:?}", status.health());
    status.partitions().iter().map(|partition| partition.paused).collect()
}

#[test]
fn inv_15_a_paused_topic_rests_and_then_goes_on_where_it_stood() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"first\"");
    pause(&mut driver, &["in"]);
    assert_eq!(paused(&driver), [true]);
    for what in ["second", "third"] {
        driver.send("in", "k", &format!("\"{what}\""));
    }
    // Longer than any watchdog's patience: silence is what was asked for.
    driver.advance(90 * SECOND);
    assert_eq!(order(&witness), ["first"]);
    assert_eq!(driver.committed("in", 0), Some(1), "what was done is committed");
    assert_eq!(driver.owned().len(), 1, "and the partition is still ours");
    let status = driver.status(0).expect("it lives").partitions().remove(0);
    assert_eq!(status.lag, Some(2), "how far it falls behind is seen");
    pause(&mut driver, &[]);
    driver.advance(SECOND);
    assert_eq!(paused(&driver), [false]);
    assert_eq!(order(&witness), ["first", "second", "third"]);
    assert_eq!(driver.committed("in", 0), Some(3));
}

#[test]
fn inv_15_under_a_pause_what_runs_finishes_and_what_waits_stays() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    for what in ["sleeps", "waiting", "too"] {
        driver.send("in", "k", &format!("\"{what}\""));
    }
    pause(&mut driver, &["in"]);
    driver.advance(5 * SECOND);
    assert_eq!(order(&witness), ["sleeps"], "nothing new starts");
    assert_eq!(driver.committed("in", 0), Some(1), "what ran is done and committed");
    let buffered = driver.status(0).expect("it lives").partitions().remove(0);
    assert_eq!(buffered.position, Some(3), "what waits has been read already, and is kept");
    pause(&mut driver, &[]);
    assert_eq!(order(&witness), ["sleeps", "waiting", "too"]);
}

#[test]
fn inv_15_a_record_that_waits_for_a_retry_waits_on_under_a_pause() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"fails\"");
    pause(&mut driver, &["in"]);
    driver.advance(60 * SECOND);
    assert_eq!(order(&witness), ["fails"]);
    pause(&mut driver, &[]);
    driver.advance(20 * SECOND);
    assert_eq!(order(&witness), ["fails", "fails", "fails"]);
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn inv_15_a_paused_partition_is_handed_over_at_once_and_stays_paused_elsewhere() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "\"fails\"");
    driver.send("in", "k", "\"after\"");
    pause(&mut driver, &["in"]);
    driver.revoke("in", 0);
    assert_eq!(driver.owned().len(), 0, "nothing runs, so nothing is waited for");
    assert_eq!(driver.committed("in", 0), Some(0));
    // Another worker has the same settings.
    let (app, successor) = scripted();
    let other = driver.join(app);
    driver.assign_to(other, "in", 0);
    driver.advance(60 * SECOND);
    assert_eq!(seen(&successor), []);
    pause(&mut driver, &[]);
    driver.advance(20 * SECOND);
    assert_eq!(order(&successor), ["fails", "fails", "fails", "after"]);
    assert_eq!(order(&witness), ["fails"]);
    assert_eq!(driver.committed("in", 0), Some(2));
}

#[test]
fn a_pause_of_a_topic_that_is_not_read_is_refused_with_the_way_out() {
    let (app, _) = scripted();
    let mut driver = TestDriver::new(app);
    let refused = driver.reload(|settings| settings.paused_topics = vec!["on".to_owned()]);
    assert_eq!(
        refused.unwrap_err().to_string(),
        "PLT-0105: `paused_topics` from the program's code can't be used: this worker reads no \
         topic \"on\"; did you mean \"in\"? its inputs are in"
    );
    driver.advance(SECOND);
    assert_eq!(paused(&driver), [false]);
}

/// One pace for the whole worker, whatever number of partitions share it.
#[test]
fn no_more_records_start_in_a_second_than_the_settings_allow() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::with_settings(app, 4, |settings| {
        settings.max_records_per_second = Some(50);
    });
    for n in 0..250 {
        driver.send("in", &format!("user-{n}"), "\"done\"");
    }
    let started = || seen(&witness).len();
    assert_eq!(started(), 1, "the others wait for their moments");
    for second in 1..=3 {
        driver.advance(SECOND);
        // A tenth of a second may be made up for.
        assert!((second * 50 - 5..=second * 50 + 6).contains(&started()), "{}", started());
    }
    driver.advance(2 * SECOND + SECOND / 10);
    assert_eq!(started(), 250);
    driver.advance(SECOND);
    assert_eq!((0..4).filter_map(|p| driver.committed("in", p)).sum::<i64>(), 250);
}

#[test]
fn a_new_pace_counts_at_once() {
    let (app, witness) = scripted();
    let mut driver = TestDriver::with_settings(app, 4, |settings| {
        settings.max_records_per_second = Some(1);
    });
    for n in 0..100 {
        driver.send("in", &format!("user-{n}"), "\"done\"");
    }
    driver.advance(10 * SECOND);
    let slowly = seen(&witness).len();
    assert!((10..=12).contains(&slowly), "{slowly}");
    driver.reload(|settings| settings.max_records_per_second = Some(20)).expect("a rate");
    driver.advance(SECOND);
    let faster = seen(&witness).len() - slowly;
    assert!((19..=24).contains(&faster), "{faster}");
    driver.reload(|settings| settings.max_records_per_second = None).expect("no rate");
    assert_eq!(seen(&witness).len(), 100, "without a limit nothing waits");
}

/// What `/readyz` says: a rolling update waits for it.
#[test]
fn a_worker_is_ready_while_nothing_of_its_own_waits_to_be_restored() {
    struct Slow;
    impl Handler for Slow {
        async fn handle(
            &mut self,
            _record: &Record<'_>,
            _ctx: &mut Context<'_>,
        ) -> Result<(), HandlerError> {
            Ok(())
        }
        /// Part of the restore: nothing runs before it has ended.
        async fn assigned(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
            tokio::time::sleep(5 * SECOND).await;
            Ok(())
        }
    }
    let mut app = Worker::builder("slow");
    app.input("in").handler(|_slot| Slow);
    let mut driver = TestDriver::new(app);
    let health = driver.health(0);
    assert!(health.live && health.started && !health.ready, "{health:?}");
    assert_eq!(health.reasons, ["1 partitions are restoring"]);
    driver.advance(4 * SECOND);
    assert!(!driver.health(0).ready);
    driver.advance(2 * SECOND);
    assert!(driver.health(0).ready, "{:?}", driver.health(0));
    driver.revoke("in", 0);
    assert!(driver.health(0).ready, "a spare is ready: {:?}", driver.health(0));
    driver.assign("in", 0);
    assert!(!driver.health(0).ready, "it restores again");
}
