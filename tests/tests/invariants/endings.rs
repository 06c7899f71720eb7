//! Whatever a partition is at when it is asked back, taken away or shut down: it goes in time, nothing
//! of it is committed that is not done, and the next owner does the rest, each record once.

use std::sync::atomic::{AtomicBool, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::{
    Batch, BatchHandler, Batches, Breaker, Completion, Context, Handler, HandlerError, Record,
    RetryPolicy, RetryTopics, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

use super::SECOND;

/// How it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Revoked,
    Lost,
    ShutDown,
}

const ENDINGS: [Ending; 3] = [Ending::Revoked, Ending::Lost, Ending::ShutDown];

/// A drain may take so long.
const DRAIN: Duration = Duration::from_secs(5);

/// What is done, and what handlers are up to.
#[derive(Clone, Default)]
struct Scene {
    /// In trouble: what fails fails, what is slow is slow, what is deferred stays so.
    trouble: Arc<AtomicBool>,
    done: Arc<Mutex<Vec<String>>>,
    deferred: Arc<Mutex<Vec<Completion>>>,
}

impl Scene {
    async fn one(&self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        let in_trouble = self.trouble.load(Atomic::Relaxed);
        match value.as_str() {
            "fails" if in_trouble => return Err(HandlerError::retryable("trouble")),
            "is long" if in_trouble => tokio::time::sleep(3_600 * SECOND).await,
            "defers" if in_trouble => {
                let completion = ctx.defer(3_600 * SECOND)?;
                self.deferred.lock().expect("no panic").push(completion);
                return Ok(());
            }
            _ => {}
        }
        self.done.lock().expect("no panic").push(value);
        Ok(())
    }
}

impl Handler for Scene {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.one(record, ctx).await
    }

    /// Part of the restore.
    async fn assigned(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if self.trouble.load(Atomic::Relaxed) {
            tokio::time::sleep(3_600 * SECOND).await;
        }
        Ok(())
    }
}

impl BatchHandler for Scene {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        for (_, record, ctx) in batch.each() {
            self.one(&record, ctx).await?;
        }
        Ok(())
    }
}

/// What a partition may be at.
struct State {
    name: &'static str,
    make: fn(&Scene) -> WorkerBuilder,
    /// The record that it is at; one that is well has gone before.
    value: &'static str,
    begin: fn(&mut TestDriver, &Scene),
    /// Something is in hand, and a drain waits for it.
    in_hand: bool,
}

fn plain(scene: &Scene) -> WorkerBuilder {
    let scene = scene.clone();
    let mut app = Worker::builder("scene");
    app.input("in").handler(move |_slot| scene.clone());
    app
}

fn in_batches(scene: &Scene) -> WorkerBuilder {
    let scene = scene.clone();
    let mut app = Worker::builder("scene");
    let batches = Batches::of(100).linger(3 * SECOND);
    app.input("in").batch_handler(batches, move |_slot| scene.clone());
    app
}

fn with_a_breaker(scene: &Scene) -> WorkerBuilder {
    let scene = scene.clone();
    let mut app = Worker::builder("scene");
    let breaker = Breaker::default().sliding_window(1).wait_in_open(30 * SECOND, 60 * SECOND);
    app.input("in").breaker(breaker).handler(move |_slot| scene.clone());
    app
}

fn with_a_retry_topic(scene: &Scene) -> WorkerBuilder {
    let scene = scene.clone();
    let mut app = Worker::builder("scene");
    app.input("in")
        .retry(RetryPolicy::fixed(SECOND).at_most(1))
        .retry_topics(RetryTopics::after([30 * SECOND]))
        .handler(move |_slot| scene.clone());
    app
}

fn wait(driver: &mut TestDriver, _: &Scene) {
    driver.advance(SECOND / 2);
}

const STATES: [State; 8] = [
    State { name: "retry wait", make: plain, value: "fails", begin: wait, in_hand: false },
    State {
        name: "pause",
        make: plain,
        value: "rests",
        begin: |driver, _| driver.advance(SECOND),
        in_hand: false,
    },
    State {
        name: "breaker open",
        make: with_a_breaker,
        value: "fails",
        begin: |driver, _| {
            driver.advance(5 * SECOND);
            assert!(driver.status(0).expect("it lives").partitions()[0].breaker_open);
        },
        in_hand: false,
    },
    State { name: "batch linger", make: in_batches, value: "lingers", begin: wait, in_hand: false },
    State { name: "deferred", make: plain, value: "defers", begin: wait, in_hand: true },
    State { name: "long task", make: plain, value: "is long", begin: wait, in_hand: true },
    State {
        name: "restore",
        make: plain,
        value: "fails",
        begin: |driver, _| {
            driver.lose("in", 0);
            driver.assign("in", 0);
            driver.advance(SECOND);
        },
        in_hand: false,
    },
    State {
        name: "retry topic",
        make: with_a_retry_topic,
        value: "fails",
        begin: |driver, _| driver.advance(3 * SECOND),
        in_hand: false,
    },
];

fn play(state: &State, ending: Ending) {
    let what = format!("{} × {ending:?}", state.name);
    let scene = Scene::default();
    let make = || (state.make)(&scene);
    let mut driver =
        TestDriver::with_settings(make(), 1, |settings| settings.drain_timeout = Some(DRAIN));
    driver.send("in", "a", "is well");
    driver.advance(5 * SECOND);
    assert_eq!(driver.committed("in", 0), Some(1), "{what}");
    let pauses = state.name == "pause";
    if pauses {
        driver.handle(0).expect("it lives").pause("in");
        driver.advance(SECOND);
    }
    scene.trouble.store(true, Atomic::Relaxed);
    driver.send("in", "a", state.value);
    (state.begin)(&mut driver, &scene);
    let topics = driver.owned().into_iter().map(|partition| partition.topic().to_owned());
    let topics: Vec<_> = topics.collect();
    let there = driver.committed("in", 0);
    match ending {
        Ending::Revoked => topics.iter().for_each(|topic| driver.revoke(topic, 0)),
        Ending::Lost => topics.iter().for_each(|topic| driver.lose(topic, 0)),
        Ending::ShutDown => assert!(driver.shut_down().is_ok(), "{what}"),
    }
    if ending == Ending::Revoked {
        assert_eq!(!driver.owned().is_empty(), state.in_hand, "{what}: at once");
        driver.advance(DRAIN + SECOND);
    }
    assert!(driver.owned().is_empty(), "{what}: {:?}", driver.owned());
    assert_eq!(driver.committed("in", 0), there, "{what}: what is in hand is not done");
    scene.trouble.store(false, Atomic::Relaxed);
    let next = driver.join(make());
    topics.iter().for_each(|topic| driver.assign_to(next, topic, 0));
    driver.advance(60 * SECOND);
    driver.send("in", "a", "is well after it");
    driver.advance(60 * SECOND);
    let done = scene.done.lock().expect("no panic").clone();
    assert_eq!(done, ["is well", state.value, "is well after it"], "{what}");
    assert_eq!(driver.committed("in", 0), Some(3), "{what}");
}

#[test]
fn whatever_a_partition_is_at_it_ends_in_time_and_the_next_owner_does_the_rest() {
    for state in &STATES {
        for ending in ENDINGS {
            play(state, ending);
        }
    }
}
