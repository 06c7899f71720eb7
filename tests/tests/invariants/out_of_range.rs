//! What becomes of a position that is not in its log, under each policy? The whole worker in
//! virtual time: what was read is finished, the gap is exact, the new start is committed at once.

use pelton::config::OnOutOfRange;
use pelton::telemetry::RecordOutcome;
use pelton::{Context, Handler, HandlerError, Record, Worker, WorkerBuilder, WorkerError};
use pelton_testkit::TestDriver;
use pelton_testkit::ledger::{Check, Entry, MemoryLedger};

use super::SECOND;

/// Takes a second for each record, so that records wait in the partition's buffer.
struct Slow;

impl Handler for Slow {
    async fn handle(&mut self, _: &Record<'_>, _: &mut Context<'_>) -> Result<(), HandlerError> {
        tokio::time::sleep(SECOND).await;
        Ok(())
    }
}

struct Run {
    driver: TestDriver,
    ledger: MemoryLedger,
}

impl Run {
    /// A slow worker that is about to handle the first of ten records and has read few more.
    fn begin(policy: OnOutOfRange) -> Self {
        let ledger = MemoryLedger::new();
        let driver = TestDriver::with_settings(slow(&ledger), 1, |settings| {
            settings.on_out_of_range = policy;
            settings.max_poll_records = 2;
            settings.memory_budget_records = 4;
        });
        let mut run = Self { driver, ledger };
        run.send(10);
        run
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            self.driver.send("in", "k", "v");
        }
    }

    /// The offsets that were done, in this order.
    fn done(&self) -> Vec<i64> {
        let ledger = self.ledger.ledger();
        let done = ledger.lines().iter().filter_map(|line| match line.entry {
            Entry::End { offset, outcome: RecordOutcome::Done, .. } => Some(offset),
            _ => None,
        });
        done.collect()
    }

    /// From where to where it has jumped.
    fn jumps(&self) -> Vec<(i64, i64)> {
        let ledger = self.ledger.ledger();
        let jumps = ledger.lines().iter().filter_map(|line| match line.entry {
            Entry::Jumped { from, to, .. } => Some((from, to)),
            _ => None,
        });
        jumps.collect()
    }

    /// Ends it; what it did is held against what the log holds. Returns how many records it has
    /// jumped over that are still there.
    fn end(&mut self) -> u64 {
        assert!(self.driver.shut_down().is_ok());
        let verdict = Check::new().hold(&self.ledger.ledger(), &self.driver.truth());
        assert!(verdict.is_clean(), "{verdict}");
        verdict.jumped
    }
}

fn slow(ledger: &MemoryLedger) -> WorkerBuilder {
    let mut app = Worker::builder("slow");
    app.input("in").handler(|_slot| Slow);
    app.observer(ledger.worker("w"));
    app
}

fn offsets(ranges: &[std::ops::Range<i64>]) -> Vec<i64> {
    ranges.iter().cloned().flatten().collect()
}

/// Retention is faster than the group, while it works: what it has read by then is nowhere else.
#[test]
fn records_deleted_under_a_slow_worker_are_skipped_and_no_other() {
    for (policy, to) in [(OnOutOfRange::Earliest, 8), (OnOutOfRange::Latest, 10)] {
        let mut run = Run::begin(policy);
        run.driver.delete_records("in", 0, 8);
        assert_eq!(run.jumps(), [], "what was read comes first");
        run.driver.advance(20 * SECOND);
        let [(from, landed)] = run.jumps()[..] else { panic!("{:?}", run.jumps()) };
        assert!((1..8).contains(&from) && landed == to, "{from} to {landed}");
        assert_eq!(run.done(), offsets(&[0..from, to..10]));
        assert_eq!(run.driver.committed("in", 0), Some(10));
        run.send(1);
        run.driver.advance(5 * SECOND);
        assert_eq!(run.done().last(), Some(&10), "it goes on");
        assert_eq!(run.end(), u64::from(policy == OnOutOfRange::Latest) * 2);
    }
}

#[test]
fn records_deleted_under_a_slow_worker_end_it_when_the_rest_is_committed() {
    let mut run = Run::begin(OnOutOfRange::Fail);
    run.driver.delete_records("in", 0, 8);
    assert!(run.driver.failure().is_none(), "what was read comes first");
    run.driver.advance(20 * SECOND);
    let done = run.done();
    let read = i64::try_from(done.len()).expect("few");
    assert_eq!(done, (0..read).collect::<Vec<_>>());
    assert_eq!(run.driver.committed("in", 0), Some(read));
    let Some(WorkerError::OutOfRange { offset, low: 8, high: 10, reason, .. }) =
        run.driver.failure()
    else {
        panic!("{:?}", run.driver.failure());
    };
    assert_eq!(*offset, read);
    let says = format!("{} records were deleted before they were read", 8 - read);
    assert_eq!(*reason, says);
}

/// The commit is not in the log when the partition is assigned.
#[test]
fn the_new_start_is_committed_before_anything_is_handled() {
    for (policy, to) in [(OnOutOfRange::Earliest, 8), (OnOutOfRange::Latest, 10)] {
        let mut run = Run::begin(policy);
        run.driver.revoke("in", 0);
        run.driver.advance(SECOND);
        assert_eq!(run.driver.committed("in", 0), Some(1), "one record, and it has let go");
        run.driver.delete_records("in", 0, 8);
        run.driver.assign("in", 0);
        run.driver.settle();
        assert_eq!(run.jumps(), [(1, to)]);
        assert_eq!(run.driver.committed("in", 0), Some(to), "so that nobody decides again");
        // Its next owner need not decide, whatever the log holds by then.
        run.driver.lose("in", 0);
        run.driver.assign("in", 0);
        run.driver.advance(5 * SECOND);
        assert_eq!(run.jumps().len(), 1);
        assert_eq!(run.done(), offsets(&[0..1, to..10]));
        let _ = run.end();
    }
}

/// An unclean election: the log ends before what was read. A commit goes backwards (INV-6: in an
/// assignment of its own), and what is read again is a repeat with a cause.
#[test]
fn inv_6_a_truncated_log_is_read_again_or_from_its_end() {
    for (policy, to) in [(OnOutOfRange::Earliest, 0), (OnOutOfRange::Latest, 4)] {
        let mut run = Run::begin(policy);
        run.driver.advance(15 * SECOND);
        assert_eq!(run.driver.committed("in", 0), Some(10));
        run.driver.truncate("in", 0, 4);
        run.driver.advance(SECOND);
        assert_eq!(run.jumps(), [(10, to)]);
        run.driver.advance(10 * SECOND);
        run.send(1);
        run.driver.advance(5 * SECOND);
        assert_eq!(run.driver.committed("in", 0), Some(5));
        assert_eq!(run.done(), offsets(&[0..10, to..5]));
        let _ = run.end();
    }
}

#[test]
fn a_truncated_log_ends_the_worker_that_may_not_go_on() {
    let mut run = Run::begin(OnOutOfRange::Fail);
    run.driver.advance(15 * SECOND);
    run.driver.truncate("in", 0, 4);
    run.driver.advance(5 * SECOND);
    let failure = run.driver.failure().map(ToString::to_string).unwrap_or_default();
    assert!(
        failure.contains(
            "offset 10 of in-0 is out of range: the log holds 0 to 4; it ends 6 offsets before that"
        ),
        "{failure}"
    );
    assert_eq!(run.driver.committed("in", 0), Some(10));
}
