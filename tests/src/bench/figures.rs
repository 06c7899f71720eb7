//! How are figures shown? Least, median and greatest over the rounds, and the target beside them.

use std::fmt;
use std::io::Write;

/// One figure, round by round.
#[derive(Debug)]
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) unit: Unit,
    pub(super) target: Option<Target>,
    pub(super) rounds: Vec<f64>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Unit {
    /// A second.
    Rate,
    Nanoseconds,
    Milliseconds,
    /// How many of something.
    Count,
    Ratio,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Target {
    AtLeast(f64),
    AtMost(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Rate if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
            Self::Rate if value >= 1e4 => format!("{:.0} k/s", value / 1e3),
            Self::Rate => format!("{value:.0} /s"),
            Self::Nanoseconds => format!("{value:.0} ns"),
            Self::Milliseconds => format!("{value:.2} ms"),
            Self::Count => format!("{value:.0}"),
            Self::Ratio => format!("{value:.2}"),
        }
    }
}

impl Figure {
    pub(super) fn new(name: &'static str, unit: Unit, rounds: Vec<f64>) -> Self {
        Self { name, unit, target: None, rounds }
    }

    pub(super) fn target(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// Least, median, greatest.
    fn spread(&self) -> [f64; 3] {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or(f64::NAN);
        [at(0), at(sorted.len() / 2), at(sorted.len().saturating_sub(1))]
    }

    fn is_missed(&self) -> bool {
        let [_, median, _] = self.spread();
        self.target.is_some_and(|target| !target.is_met(median))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [least, median, greatest] = self.spread().map(|value| self.unit.show(value));
        write!(f, "  {:<12} {least:>11} {median:>11} {greatest:>11}", self.name)?;
        let (word, value) = match self.target {
            None => return Ok(()),
            Some(Target::AtLeast(value)) => ("≥", value),
            Some(Target::AtMost(value)) => ("≤", value),
        };
        let verdict = if self.is_missed() { "MISSED" } else { "met" };
        write!(f, "   {word} {:<10} {verdict}", self.unit.show(value))
    }
}

/// What was measured so far, shown as it comes.
#[derive(Debug, Default)]
pub(super) struct Report {
    missed: Vec<String>,
    targets: usize,
    section: &'static str,
}

impl Report {
    pub(super) fn section(&mut self, name: &'static str, what: &str) {
        self.section = name;
        say(&format!("\n{name}: {what}"));
        say(&format!("  {:<12} {:>11} {:>11} {:>11}   target", "", "min", "median", "max"));
    }

    pub(super) fn case(&mut self, name: &str, figures: &[Figure]) {
        say(&format!(" {name}"));
        for figure in figures {
            say(&figure.to_string());
            self.targets += usize::from(figure.target.is_some());
            if figure.is_missed() {
                self.missed.push(format!("{}, {name}: {}", self.section, figure.name));
            }
        }
    }

    pub(super) fn end(&self) {
        say(&format!("\n{} of {} targets missed", self.missed.len(), self.targets));
        self.missed.iter().for_each(|missed| say(&format!("  {missed}")));
    }
}

fn say(text: &str) {
    // Nobody may be there to read it.
    let _closed = writeln!(std::io::stdout(), "{text}").is_err();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_judged_by_its_median() {
        let figure = |rounds: &[f64]| {
            Figure::new("worker", Unit::Nanoseconds, rounds.to_vec()).target(Target::AtMost(250.0))
        };
        assert!(!figure(&[900.0, 200.0, 250.0]).is_missed());
        assert!(figure(&[200.0, 251.0, 900.0]).is_missed());
        assert!(figure(&[]).is_missed(), "what was not measured meets nothing");
        assert_eq!(
            figure(&[3.0, 1.0, 2.0]).to_string(),
            "  worker              1 ns        2 ns        3 ns   ≤ 250 ns     met"
        );
    }
}
