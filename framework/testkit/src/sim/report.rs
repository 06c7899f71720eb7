//! What did a run show?

use std::fmt;
use std::time::Duration;

use super::plan::Plan;
use crate::ledger::{Invariant, Ledger, Verdict};

/// What one seed's run showed.
///
/// ```
/// use pelton_testkit::sim::Simulator;
///
/// let outcome = Simulator::counter().run(7);
/// assert!(outcome.is_clean() && outcome.cry().is_none(), "{outcome}");
/// assert!(outcome.figures.records >= 500);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Outcome {
    /// What was run.
    pub plan: Plan,
    /// What the ledger says.
    pub verdict: Verdict,
    /// What else is wrong: wrong totals, workers that ended or did not end, work that is not done.
    pub problems: Vec<String>,
    /// How much it was.
    pub figures: Figures,
    pub(crate) ledger: Ledger,
    pub(crate) trace: Option<String>,
}

/// How much a run was.
///
/// ```
/// use pelton_testkit::sim::Figures;
/// assert_eq!(Figures::default().records, 0);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Figures {
    /// Records of the load.
    pub records: u64,
    /// Workers at a time.
    pub workers: usize,
    /// Faults that were carried out: a worker that is down can't be killed.
    pub faults: u32,
    /// How long it lasted, in virtual time.
    pub virtual_time: Duration,
}

impl Outcome {
    /// Were all promises kept?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.verdict.is_clean() && self.verdict.lost == 0 && self.problems.is_empty()
    }

    /// What cried first: an invariant's number, or what else is wrong.
    #[must_use]
    pub fn cry(&self) -> Option<String> {
        let broken =
            Invariant::ALL.into_iter().find(|invariant| self.verdict.count(*invariant) > 0);
        broken.map(|invariant| invariant.code().to_owned()).or_else(|| {
            self.problems.first().map(|problem| problem.split(':').next().unwrap_or("").to_owned())
        })
    }

    /// Everything that happened, a line each: the same for the same seed, byte for byte. Without
    /// a [trace](super::Simulator::trace) only what workers did.
    #[must_use]
    pub fn trace(&self) -> String {
        let mut text = self.trace.clone().unwrap_or_default();
        for place in 0..self.ledger.lines().len() {
            text.push_str(&self.ledger.show(place));
            text.push('\n');
        }
        text
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.plan)?;
        if let Some(first) = self.ledger.lines().first().filter(|_| !self.is_clean()) {
            let begin = Duration::from_nanos(first.at).as_secs_f64();
            writeln!(f, "(seconds of what workers did count from {begin:.3} s)")?;
        }
        write!(f, "{}", self.verdict)?;
        for problem in &self.problems {
            write!(f, "\n{problem}")?;
        }
        Ok(())
    }
}
