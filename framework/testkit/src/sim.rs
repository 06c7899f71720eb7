//! Do whole workers keep their promises, whatever happens, in whatever order? Thousands of runs
//! in virtual time, each from a seed, each with faults, each judged by the ledger.
//!
//! The real runtime runs (poll loop, partition tasks, slots, committer, stores), with real
//! handlers, on a model of Kafka: brokers, coordinators, clients and the network between them.
//! A run is single-threaded and knows no time but its own, so a seed gives the same run, byte for
//! byte. What differs between two machines: nothing; between two versions of the code: what they
//! do differently.
//!
//! ```
//! use pelton_testkit::sim::Simulator;
//!
//! let simulator = Simulator::counter();
//! let outcome = simulator.run(1);
//! assert!(outcome.is_clean(), "{outcome}");
//! assert_eq!(outcome.trace(), simulator.run(1).trace());
//! ```
//!
//! `cargo sim` runs many seeds and shrinks what fails.

mod counter;
mod fault;
mod fleet;
mod inflict;
mod judge;
mod plan;
mod report;
mod run;
mod setup;
mod story;
mod subject;

use std::sync::Arc;

use pelton::{Bug, WorkerBuilder};

pub use crate::model::RequestKind;
pub use fault::{Fault, TimedFault};
pub use fleet::die;
pub use plan::Plan;
pub use report::{Figures, Outcome};
pub use subject::{Draw, Written};

use self::subject::Subject;

/// Runs seeds.
///
/// ```
/// use pelton_testkit::sim::{Plan, Simulator};
///
/// let calm = Plan::of(3).calm(); // the same load, without faults
/// let outcome = Simulator::counter().run_plan(&calm);
/// assert!(outcome.is_clean(), "{outcome}");
/// assert!(outcome.verdict.repeats.is_empty());
/// ```
#[derive(Clone, Debug)]
pub struct Simulator {
    subject: Subject,
    bug: Option<Bug>,
    trace: bool,
}

impl Simulator {
    /// With the test kit's own worker: it counts, with a store, a changelog and an output.
    #[must_use]
    pub fn counter() -> Self {
        Self { subject: counter::subject(), bug: None, trace: false }
    }

    /// With workers of your own: each process is made by `app`, as your `main` makes it. Say what
    /// they are [fed](Self::input), and what must be [true](Self::check) in the end.
    ///
    /// Deterministic are handlers that know no time and no chance but tokio's clock and their
    /// records: `tokio::time::sleep`, no `Instant::now()`, no threads, `select!` with `biased;`.
    ///
    /// ```
    /// use pelton::{Context, Handler, HandlerError, Output, Record, Worker, WorkerBuilder};
    /// use pelton_testkit::sim::Simulator;
    ///
    /// struct Shout { out: Output }
    /// impl Handler for Shout {
    ///     async fn handle(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
    ///         let word: String = record.json()?;
    ///         ctx.emit(self.out, record.key_str()?, &word.to_uppercase())
    ///     }
    /// }
    /// fn app() -> WorkerBuilder {
    ///     let mut app = Worker::builder("shout");
    ///     let out = app.output("loud");
    ///     app.input("words").handler(move |_slot| Shout { out });
    ///     app
    /// }
    ///
    /// let simulator = Simulator::new(app)
    ///     .input("words", |draw| (format!("k{}", draw.below(9)), "\"hello\"".to_owned()))
    ///     .check(|written| match (written.records("words").len(), written.records("loud").len()) {
    ///         (words, loud) if loud < words => Err(format!("{loud} of {words} words are loud")),
    ///         _ => Ok(()),
    ///     });
    /// for seed in 1..4 {
    ///     let outcome = simulator.run(seed);
    ///     assert!(outcome.is_clean(), "{outcome}");
    /// }
    /// ```
    #[must_use]
    pub fn new(app: impl Fn() -> WorkerBuilder + Send + Sync + 'static) -> Self {
        let app = Arc::new(move |_: &Plan| app());
        let subject = Subject { app, inputs: Vec::new(), judges: Vec::new() };
        Self { subject, bug: None, trace: false }
    }

    /// Records for an input: key and value of each, drawn from the seed.
    #[must_use]
    pub fn input(
        mut self,
        topic: &str,
        record: impl Fn(&mut Draw) -> (String, String) + Send + Sync + 'static,
    ) -> Self {
        let make = move |_: &Plan, draw: &mut Draw| {
            let (key, value) = record(draw);
            (Some(key.into_bytes()), Some(value.into_bytes()))
        };
        self.subject.inputs.push((topic.to_owned(), Arc::new(make)));
        self
    }

    /// What must be true when everything is done, besides what the ledger holds; the error says
    /// what is not.
    #[must_use]
    pub fn check(
        mut self,
        check: impl Fn(&Written<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        self.subject.judges.push(Arc::new(check));
        self
    }

    /// With a bug planted into every worker (feature `planted-bugs`).
    #[must_use]
    pub fn plant(mut self, bug: Option<Bug>) -> Self {
        self.bug = bug;
        self
    }

    /// Outcomes have a whole [trace](Outcome::trace): every request and answer.
    #[must_use]
    pub fn trace(mut self) -> Self {
        self.trace = true;
        self
    }

    /// Runs what `seed` stands for.
    #[must_use = "an outcome that nobody reads proves nothing"]
    pub fn run(&self, seed: u64) -> Outcome {
        self.run_plan(&Plan::of(seed))
    }

    /// Runs a plan.
    #[must_use = "an outcome that nobody reads proves nothing"]
    pub fn run_plan(&self, plan: &Plan) -> Outcome {
        run::run(&self.subject, plan, self.bug, run::Wanted { trace: self.trace })
    }

    /// The smallest part of a failing plan's faults that still fails: each one left out that can
    /// be. A plan that does not fail comes back whole.
    #[must_use]
    pub fn shrink(&self, plan: &Plan) -> Plan {
        let mut smallest = plan.clone();
        let mut at = 0;
        while at < smallest.faults.len() {
            let mut smaller = smallest.clone();
            smaller.faults.remove(at);
            if self.run_plan(&smaller).is_clean() {
                at += 1;
            } else {
                smallest = smaller;
            }
        }
        smallest
    }
}
