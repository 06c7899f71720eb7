//! cargo run -p pelton-examples --example test_a_handler
//!
//! How do I test a handler without Kafka? With `TestDriver`: the real runtime in memory, and time
//! that passes only when the test says so.
//!
//! You will see each test's name, after less than a second in which minutes have passed. In your
//! crate they are `#[test]` functions; here `main` calls them, and `cargo test` does, too.

#![expect(clippy::print_stdout, reason = "an example talks to its reader")]

use std::time::Duration;

use pelton::{
    Context, Handler, HandlerError, OnInvalid, Output, Record, Store, Worker, WorkerBuilder,
};
use pelton_testkit::TestDriver;

/// Sums amounts per customer. Its shop is closed on the first attempt at everything above 100.
struct Sum {
    sums: Store<str, u64>,
    out: Output,
}

impl Handler for Sum {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let (customer, amount): (&str, u64) = record.json()?;
        let sum = ctx.update(self.sums, customer, |sum| sum.unwrap_or(0) + amount)?;
        ctx.emit(self.out, customer, &sum)?;
        if amount > 100 && ctx.attempt() == 1 {
            return Err(HandlerError::retryable("the shop is closed"));
        }
        Ok(())
    }
}

fn app() -> WorkerBuilder {
    let mut app = Worker::builder("sums");
    let sums = app.store("sums");
    let out = app.output("sums");
    app.input("orders").on_invalid(OnInvalid::Skip).handler(move |_slot| Sum { sums, out });
    app
}

#[cfg_attr(test, test)]
fn what_a_handler_emits_and_stores_can_be_looked_at() {
    let mut driver = TestDriver::new(app());
    driver.send("orders", "ann", r#"["ann", 5]"#);
    driver.send("orders", "ann", r#"["ann", 7]"#);
    let sums: Vec<u64> = driver.emitted("sums").iter().map(|emitted| emitted.json()).collect();
    assert_eq!(sums, [5, 12]);
    assert_eq!(driver.store::<u64>("sums")["ann"], 12);
}

#[cfg_attr(test, test)]
fn a_failed_attempt_leaves_nothing_behind_and_is_tried_again() {
    let mut driver = TestDriver::new(app());
    driver.send("orders", "ann", r#"["ann", 101]"#);
    assert!(driver.emitted("sums").is_empty(), "the first attempt failed");
    driver.advance(Duration::from_secs(2)); // the wait before the second one
    assert_eq!(driver.emitted("sums")[0].json::<u64>(), 101);
}

#[cfg_attr(test, test)]
fn an_invalid_record_is_skipped_and_counts_as_done() {
    let mut driver = TestDriver::new(app());
    driver.send("orders", "ann", "no JSON");
    driver.advance(Duration::from_secs(1)); // a commit interval
    assert_eq!(driver.committed("orders", 0), Some(1));
    assert!(driver.failure().is_none());
}

#[cfg_attr(test, test)]
fn a_hand_over_keeps_the_sums() {
    let mut driver = TestDriver::with_partitions(app(), 3);
    let (partition, _) = driver.send("orders", "ann", r#"["ann", 5]"#);
    driver.revoke("orders", partition);
    driver.assign("orders", partition);
    driver.send("orders", "ann", r#"["ann", 7]"#);
    assert_eq!(driver.store::<u64>("sums")["ann"], 12);
}

fn main() {
    let tests: [(&str, fn()); 4] = [
        ("what is emitted and stored", what_a_handler_emits_and_stores_can_be_looked_at),
        ("a failed attempt", a_failed_attempt_leaves_nothing_behind_and_is_tried_again),
        ("an invalid record", an_invalid_record_is_skipped_and_counts_as_done),
        ("a hand-over", a_hand_over_keeps_the_sums),
    ];
    for (name, test) in tests {
        test();
        println!("{name}: as expected");
    }
}
