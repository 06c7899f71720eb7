//! cargo run -p pelton-examples --example simulate_faults
//!
//! Does my worker survive kills, freezes, lost answers and rebalances? With the `Simulator`: the
//! real runtime and your handler on a model of Kafka, in virtual time, with faults drawn from a
//! seed. The ledger judges every run, and so does a check of yours.
//!
//! You will see what a hundred seeds were and that nothing was lost; then a worker with a mistake
//! in it, and the run that finds it. It takes a few seconds in which hours pass.

#![cfg_attr(not(test), expect(clippy::print_stdout, reason = "an example talks to its reader"))]
#![cfg_attr(test, allow(clippy::print_stdout, reason = "as the example does"))]

use std::collections::BTreeMap;

use pelton::{Context, Handler, HandlerError, Output, Record, Store, Worker, WorkerBuilder};
use pelton_testkit::sim::{Simulator, Written};

/// Keeps the balance of each account.
struct Balance {
    balances: Store<str, i64>,
    out: Output,
    /// The mistake: what is remembered here is gone after a hand-over.
    remembered: Option<BTreeMap<String, i64>>,
}

impl Handler for Balance {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let (account, amount): (&str, i64) = record.json()?;
        let balance = match &mut self.remembered {
            Some(remembered) => {
                let balance = remembered.entry(account.to_owned()).or_default();
                *balance += amount;
                *balance
            }
            None => ctx.update(self.balances, account, |old| old.unwrap_or(0) + amount)?,
        };
        ctx.emit(self.out, account, &balance)
    }
}

fn app(with_the_mistake: bool) -> WorkerBuilder {
    let mut app = Worker::builder("balance");
    let balances = app.store("balances");
    let out = app.output("balances");
    app.input("payments").handler(move |_slot| {
        let remembered = with_the_mistake.then(BTreeMap::new);
        Balance { balances, out, remembered }
    });
    app
}

/// At least once: the last balance is the sum, or more if a payment was handled again.
fn last_balances(written: &Written<'_>) -> Result<(), String> {
    let mut sums = BTreeMap::new();
    for payment in written.records("payments") {
        let (account, amount): (String, i64) = payment.json();
        *sums.entry(account).or_insert(0) += amount;
    }
    let outputs = written.records("balances").into_iter();
    let last: BTreeMap<_, i64> =
        outputs.map(|out| (out.key_str().to_owned(), out.json())).collect();
    for (account, sum) in sums {
        let balance = last.get(&account).copied().unwrap_or(0);
        if balance < sum {
            return Err(format!("{account} has paid {sum}, and its last balance is {balance}"));
        }
    }
    Ok(())
}

fn simulator(with_the_mistake: bool) -> Simulator {
    Simulator::new(move || app(with_the_mistake))
        .input("payments", |draw| {
            let account = format!("account-{}", draw.below(9));
            let payment = format!(r#"["{account}", {}]"#, draw.between(1, 99));
            (account, payment)
        })
        .check(last_balances)
}

#[cfg_attr(test, test)]
fn nothing_is_lost_whatever_happens() {
    let simulator = simulator(false);
    let (mut records, mut faults) = (0, 0);
    for seed in 1..=SEEDS {
        let outcome = simulator.run(seed);
        assert!(outcome.is_clean(), "{outcome}");
        records += outcome.figures.records;
        faults += outcome.figures.faults;
    }
    println!(
        "{SEEDS} seeds, {records} records, {faults} faults: nothing lost, nothing out of order"
    );
}

#[cfg_attr(test, test)]
fn a_mistake_is_found() {
    let simulator = simulator(true);
    let found = (1..=SEEDS).map(|seed| simulator.run(seed)).find(|outcome| !outcome.is_clean());
    let found = found.expect("a balance that is kept in the handler does not survive a hand-over");
    println!("with the mistake, seed {} shows:", found.plan.seed);
    found.problems.iter().for_each(|problem| println!("  {problem}"));
}

/// `cargo test` runs fewer: its build is not optimised.
const SEEDS: u64 = if cfg!(test) { 10 } else { 100 };

fn main() {
    nothing_is_lost_whatever_happens();
    a_mistake_is_found();
}
