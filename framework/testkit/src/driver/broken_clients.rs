//! What if a worker's Kafka clients break, one after the other, at any moment? Nothing is lost,
//! nothing runs twice at once, order holds; judged by the ledger and by the outputs.

use std::time::Duration;

use pelton::ports::ClientKind;
use pelton::{Context, Handler, HandlerError, Output, Record, Store, Worker, WorkerBuilder};

use super::TestDriver;
use crate::ledger::{Check, Ledger, MemoryLedger, TotalsCheck};

const SECOND: Duration = Duration::from_secs(1);

/// Counts records per key; the value says how many seconds the record takes.
struct Count {
    totals: Store<str, u64>,
    out: Output,
}

impl Handler for Count {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let seconds: u64 = record.json()?;
        tokio::time::sleep(SECOND * u32::try_from(seconds)?).await;
        let key = record.key_str()?.to_owned();
        let total = ctx.update(self.totals, &key, |n| n.unwrap_or(0) + 1)?;
        ctx.emit(self.out, &key, &total)
    }
}

fn app(ledger: &MemoryLedger, name: &str) -> WorkerBuilder {
    let mut app = Worker::builder("count");
    let totals = app.store("totals");
    let out = app.output("out");
    app.input("in").handler(move |_slot| Count { totals, out });
    app.observer(ledger.worker(name));
    app
}

struct Run {
    driver: TestDriver,
    ledger: MemoryLedger,
    sent: u64,
}

impl Run {
    fn new(partitions: i32) -> Self {
        let ledger = MemoryLedger::new();
        let driver = TestDriver::with_partitions(app(&ledger, "a"), partitions);
        Self { driver, ledger, sent: 0 }
    }

    fn send(&mut self, seconds: u64) {
        let key = format!("user-{}", self.sent % 7);
        self.sent += 1;
        self.driver.send("in", &key, &seconds.to_string());
    }

    /// Everything is handled and committed, and all that was said and written fits together.
    fn hold(mut self) -> Ledger {
        for _ in 0..600 {
            self.driver.advance(SECOND);
            let committed: i64 = (0..4).filter_map(|p| self.driver.committed("in", p)).sum();
            if committed.unsigned_abs() >= self.sent {
                break;
            }
        }
        let failure = self.driver.shut_down().err().map(ToString::to_string);
        assert_eq!(failure, None);
        let truth = self.driver.truth();
        let ledger = self.ledger.ledger();
        let verdict = Check::new().stuck_after(SECOND * 90).hold(&ledger, &truth);
        assert!(verdict.is_clean(), "{verdict}");
        assert_eq!(verdict.lost, 0, "{verdict}");
        let totals = TotalsCheck::new(truth.records_by_key()).allowing(verdict.repeats_by_key());
        for topic in ["out", "count-in-totals-changelog"] {
            let written = self.driver.emitted(topic).into_iter();
            let totals = totals.hold(written.map(|e| (e.key_str().to_owned(), e.json())));
            assert!(totals.is_clean(), "{topic}: {totals}");
        }
        ledger
    }
}

#[test]
fn a_worker_goes_on_after_any_of_its_clients_broke_under_load() {
    for client in ClientKind::ALL {
        let mut run = Run::new(3);
        for _ in 0..20 {
            run.send(0);
        }
        run.send(3);
        run.driver.advance(SECOND / 2);
        run.driver.break_client(0, client);
        for _ in 0..20 {
            run.send(0);
        }
        run.driver.advance(10 * SECOND);
        assert_eq!(run.driver.rebuilt_members(0), usize::from(client == ClientKind::Member));
        run.send(0);
        run.hold();
    }
}

/// The group gives the partition to another while the old handler is at its last await: what it
/// still does counts for nothing, and nothing of it is committed or sent.
#[test]
fn what_a_worker_without_its_member_still_does_counts_for_nothing() {
    let mut run = Run::new(1);
    run.send(0);
    run.driver.advance(2 * SECOND);
    run.send(5);
    run.driver.break_client(0, ClientKind::Member);
    let other = run.driver.join(app(&run.ledger, "b"));
    run.driver.assign_to(other, "in", 0);
    run.driver.advance(20 * SECOND);
    assert_eq!(run.driver.emitted("out").len(), 2, "each record once");
    run.hold();
}

/// What is said of a broken producer by every partition makes one new one.
#[test]
fn a_broken_producer_is_replaced_and_everything_undelivered_is_sent_again_in_order() {
    let mut run = Run::new(3);
    run.driver.break_client(0, ClientKind::Producer);
    for _ in 0..30 {
        run.send(0);
    }
    run.driver.advance(SECOND / 2);
    assert_eq!(run.driver.emitted("out"), []);
    run.driver.advance(10 * SECOND);
    assert_eq!(run.driver.emitted("out").len(), 30, "nothing was under way, so nothing repeats");
    run.hold();
}

#[test]
fn a_fetcher_goes_on_exactly_where_the_broken_one_stopped() {
    let mut run = Run::new(2);
    for _ in 0..10 {
        run.send(0);
    }
    run.driver.break_client(0, ClientKind::Fetcher);
    for _ in 0..10 {
        run.send(0);
    }
    assert_eq!(run.driver.emitted("out").len(), 10, "nothing comes of the broken one");
    run.driver.advance(2 * SECOND);
    assert_eq!(run.driver.emitted("out").len(), 20, "nothing is missing, nothing comes twice");
    run.hold();
}

#[test]
fn clients_that_break_again_and_again_without_a_record_done_end_the_worker() {
    for client in ClientKind::ALL {
        let mut run = Run::new(1);
        run.driver.advance(5 * SECOND);
        for _ in 0..6 {
            assert!(run.driver.failure().is_none());
            run.driver.break_client(0, client);
            if client == ClientKind::Producer {
                run.driver.fail_deliveries(usize::MAX);
                run.send(0); // an idle producer is not missed
            }
            run.driver.advance(30 * SECOND);
        }
        run.driver.advance(60 * SECOND);
        let failure = run.driver.failure().map(ToString::to_string).unwrap_or_default();
        assert!(failure.starts_with("PLT-0502"), "{client}: {failure}");
        assert!(failure.contains("5 times within 10 minutes"), "{client}: {failure}");
    }
}

#[test]
fn clients_that_break_often_are_rebuilt_as_often_while_records_are_done() {
    let mut run = Run::new(1);
    for _ in 0..30 {
        run.driver.break_client(0, ClientKind::Member);
        run.driver.advance(5 * SECOND);
        run.send(0);
        run.driver.advance(5 * SECOND);
    }
    assert_eq!(run.driver.rebuilt_members(0), 30);
    run.hold();
}

#[test]
fn a_worker_is_ended_in_order_while_its_member_is_missing() {
    let mut run = Run::new(2);
    run.send(0);
    run.driver.advance(3 * SECOND);
    run.driver.break_client(0, ClientKind::Member);
    assert!(run.driver.shut_down().is_ok());
}

/// Breakages, losses, hand-overs and records in any order.
#[test]
fn nothing_is_lost_whatever_breaks_whenever() {
    for seed in 1..20u64 {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut below = move |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut run = Run::new(4);
        let other = run.driver.join(app(&run.ledger, "b"));
        let mut breakages = 0; // one more than five without a record done would end the worker
        for _ in 0..60 {
            let partition = i32::try_from(below(4)).unwrap();
            let worker = usize::try_from(below(2)).unwrap();
            match below(12) {
                what @ 0..=2 if breakages < 5 => {
                    breakages += 1;
                    let client = ClientKind::ALL[usize::try_from(what).unwrap()];
                    run.driver.break_client(worker, client);
                }
                3 => {
                    run.driver.lose("in", partition);
                    run.driver.advance(SECOND * 2);
                    give(&mut run.driver, worker, partition);
                }
                4 => {
                    run.driver.revoke("in", partition);
                    run.driver.advance(SECOND * 30);
                    give(&mut run.driver, other, partition);
                }
                5 => run.driver.fail_deliveries(usize::try_from(below(5)).unwrap()),
                6 => run.send(below(6)),
                7 => run.driver.advance(SECOND * u32::try_from(below(20)).unwrap()),
                _ => (0..below(6)).for_each(|_| run.send(0)),
            }
            run.driver.advance(SECOND / 4);
        }
        run.driver.fail_deliveries(0);
        run.driver.advance(SECOND * 90);
        for partition in 0..4 {
            give(&mut run.driver, 0, partition);
        }
        run.hold();
    }
}

/// The group gives a partition that nobody has.
fn give(driver: &mut TestDriver, worker: usize, partition: i32) {
    let owned = driver.owned();
    if !owned.iter().any(|owned| owned.partition() == partition) {
        driver.assign_to(worker, "in", partition);
    }
}
