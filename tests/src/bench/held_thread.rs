//! What comes of user code that holds its thread? On the real clock: in virtual time nobody does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering as Memory};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pelton::config::{AutoOffsetReset, Settings};
use pelton::host::Machine;
use pelton::{
    Batch, BatchHandler, Batches, Context, Handler, HandlerError, Ordering, Output, Record, Worker,
    WorkerBuilder,
};

use super::endless::{Endless, TOPIC};
use super::subject::{Stepping, runtime, worker};
use crate::wait_for;

/// Slots have got used to records that take no time by then.
const HOLDS: i64 = 20_000;

const HELD: Duration = Duration::from_millis(500);

/// Each of these tests has both cores for itself, as far as the others go.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug, Default)]
struct Seen {
    done: BTreeSet<i64>,
    /// Those of the next hundred that were not done when the thread was free again.
    late: Option<Vec<i64>>,
}

struct Holds(Arc<Mutex<Seen>>);

impl Handler for Holds {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let offset = record.offset();
        if offset == HOLDS {
            std::thread::sleep(HELD);
        }
        let mut seen = self.0.lock().expect("no panic holds it");
        if offset == HOLDS {
            let late = (HOLDS - 100..HOLDS + 100).filter(|at| *at != HOLDS);
            seen.late = Some(late.filter(|at| !seen.done.contains(at)).collect());
        }
        seen.done.insert(offset);
        Ok(())
    }
}

/// A slot kept what it had in hand for as long: the records behind a careless one stood still, though
/// another core was free.
#[test]
fn what_is_behind_a_record_that_holds_its_thread_goes_to_others() {
    let _alone = alone();
    let (host, seen) = (Arc::new(Machine::new()), Arc::<Mutex<Seen>>::default());
    let (runtime, witness) = (runtime().expect("threads"), Arc::clone(&seen));
    let make = move || Holds(Arc::clone(&witness));
    let worker = worker(Ordering::unordered(8), make).expect("a worker");
    let world = Endless::new(1, 100);
    let stepping = Stepping::start(worker, &world, &host, runtime.handle().clone());
    let stepping = stepping.expect("a thread");
    let late = wait_for("a record that holds its thread", Duration::from_secs(30), || {
        seen.lock().expect("no panic holds it").late.clone()
    });
    stepping.end().expect("it ends in good order");
    let late = late.expect("it comes");
    assert!(late.is_empty(), "{late:?} waited for it");
}

fn app() -> WorkerBuilder {
    let mut settings = Settings::default();
    "nowhere:9092".clone_into(&mut settings.bootstrap_servers);
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.admin.enabled = false;
    settings.drain_timeout = Some(Duration::from_secs(1));
    settings.shutdown_timeout = Duration::from_secs(5); // cancelled after 3 s, released after 4 s
    let mut app = Worker::builder("bench");
    app.settings(settings);
    app
}

/// Holds its thread once, when it is told to, and counts.
struct HoldsOnce {
    holds: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    /// So many were done meanwhile.
    meanwhile: Arc<AtomicI64>,
}

impl Handler for HoldsOnce {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if self.holds.swap(false, Memory::SeqCst) {
            let before = self.done.load(Memory::SeqCst);
            std::thread::sleep(HELD);
            let meanwhile = self.done.load(Memory::SeqCst) - before;
            self.meanwhile.store(meanwhile.cast_signed(), Memory::SeqCst);
        }
        self.done.fetch_add(1, Memory::SeqCst);
        Ok(())
    }
}

/// A slot that had rested rang its partition's task, which then stood behind it on its thread, where no
/// other thread takes it from: nobody took the records back, and the whole partition stood still.
#[test]
fn what_is_behind_the_first_record_after_a_rest_goes_to_others() {
    let _alone = alone();
    let (holds, done) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
    let meanwhile = Arc::new(AtomicI64::new(-1));
    let (host, runtime) = (Arc::new(Machine::new()), runtime().expect("threads"));
    let mut app = app();
    let own = (Arc::clone(&holds), Arc::clone(&done), Arc::clone(&meanwhile));
    app.input(TOPIC).ordering(Ordering::unordered(8)).handler(move |_| HoldsOnce {
        holds: Arc::clone(&own.0),
        done: Arc::clone(&own.1),
        meanwhile: Arc::clone(&own.2),
    });
    let (worker, handle) = app.build().expect("a worker");
    let world = Endless::new(1, 100);
    let stepping = Stepping::start(worker, &world, &host, runtime.handle().clone());
    let stepping = stepping.expect("a thread");
    let used_to_it = wait_for("slots that are used to it", Duration::from_secs(30), || {
        (done.load(Memory::SeqCst) > 20_000).then_some(())
    });
    used_to_it.expect("they are");
    // It is a matter of which slot is woken first, and by whom.
    for _ in 0..4 {
        handle.pause(TOPIC);
        let mut before = u64::MAX;
        let rest = wait_for("slots that rest", Duration::from_secs(30), || {
            let now = done.load(Memory::SeqCst);
            (std::mem::replace(&mut before, now) == now).then_some(())
        });
        rest.expect("they do");
        holds.store(true, Memory::SeqCst);
        handle.resume(TOPIC);
        let held = wait_for("a record that holds its thread", Duration::from_secs(30), || {
            Some(meanwhile.swap(-1, Memory::SeqCst)).filter(|meanwhile| *meanwhile >= 0)
        });
        assert!(held.expect("it comes") > 1_000, "the others went on");
    }
    stepping.end().expect("it ends in good order");
}

/// Emits each record's offset, and flushes by a client that is synchronous.
struct Collects(Output, Arc<AtomicBool>);

impl Handler for Collects {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        std::thread::sleep(Duration::from_micros(100));
        ctx.emit(self.0, "k", &record.offset())
    }

    async fn flush(&mut self, _: &mut Context<'_>) -> Result<(), HandlerError> {
        if self.1.load(Memory::SeqCst) {
            tokio::time::sleep(Duration::from_millis(20)).await; // a connection from the pool
            std::thread::sleep(Duration::from_millis(3_500));
        }
        Ok(())
    }
}

/// The drain had forgotten what waited for the flush. Then the flush returned, and all of it was done,
/// was committed, and its outputs were never sent.
#[test]
fn inv_1_a_flush_that_returns_behind_the_deadline_makes_nothing_done() {
    let _alone = alone();
    let (host, slow) = (Arc::new(Machine::new()), Arc::<AtomicBool>::default());
    let runtime = runtime().expect("threads");
    let mut app = app();
    let (out, own) = (app.output("out"), Arc::clone(&slow));
    app.input(TOPIC)
        .flush_every(1_000, Duration::from_secs(60))
        .handler(move |_| Collects(out, Arc::clone(&own)));
    let worker = app.build().expect("a worker").0;
    let world = Endless::new(1, 100);
    let stepping = Stepping::start(worker, &world, &host, runtime.handle().clone());
    let stepping = stepping.expect("a thread");
    let written = world.written();
    let begun = wait_for("commits", Duration::from_secs(30), || {
        (written.committed.load(Memory::Relaxed) > 2_000).then_some(())
    });
    begun.expect("they come");
    slow.store(true, Memory::SeqCst);
    let ended = stepping.end();
    let committed = written.committed.load(Memory::Relaxed);
    let sent = written.sent.lock().expect("no panic holds it");
    let number = |value: &Vec<u8>| std::str::from_utf8(value).ok()?.parse::<i64>().ok();
    let sent: BTreeSet<_> = sent.iter().filter_map(number).collect();
    let lost: Vec<_> = (0..committed).filter(|offset| !sent.contains(offset)).collect();
    assert!(lost.is_empty(), "{ended:?}: {} of {committed} have no output", lost.len());
}

/// Counts batches, and those without a record.
struct Counts(Arc<[AtomicU64; 2]>);

impl BatchHandler for Counts {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        self.0[usize::from(batch.records().is_empty())].fetch_add(1, Memory::Relaxed);
        Ok(())
    }
}

/// A pause had taken the records back by the time the batch began.
#[test]
fn no_batch_is_empty() {
    let _alone = alone();
    let (host, counts) = (Arc::new(Machine::new()), Arc::<[AtomicU64; 2]>::default());
    let runtime = runtime().expect("threads");
    let (mut app, own) = (app(), Arc::clone(&counts));
    app.input(TOPIC)
        .ordering(Ordering::unordered(8))
        .batch_handler(Batches::of(10).linger(Duration::ZERO), move |_| Counts(Arc::clone(&own)));
    let (worker, handle) = app.build().expect("a worker");
    let world = Endless::new(1, 100);
    let stepping = Stepping::start(worker, &world, &host, runtime.handle().clone());
    let stepping = stepping.expect("a thread");
    for _ in 0..2_000 {
        handle.pause(TOPIC);
        std::thread::sleep(Duration::from_micros(60));
        handle.resume(TOPIC);
        std::thread::sleep(Duration::from_micros(120));
    }
    stepping.end().expect("it ends in good order");
    let [full, empty] = [0, 1].map(|at| counts[at].load(Memory::Relaxed));
    assert!(full > 0 && empty == 0, "{empty} of {full}");
}
