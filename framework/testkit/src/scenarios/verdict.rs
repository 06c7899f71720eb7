//! How did the scenarios go? Each answer is held against what is expected, and against what is
//! known to differ.

use std::fmt;

use super::Scenario;
use super::differences::{DIFFERENCES, Difference, Differs};
use super::place::{Failure, Kind, Place, Played};
use super::stage::Stage;

/// What came of some scenarios in one place.
#[derive(Debug)]
pub struct Verdict {
    place: Kind,
    played: usize,
    known: Vec<&'static Difference>,
    problems: Vec<String>,
}

impl Verdict {
    pub(super) const fn new(place: Kind) -> Self {
        Self { place, played: 0, known: Vec::new(), problems: Vec::new() }
    }

    /// Was everything as expected, or as listed?
    #[must_use]
    pub const fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// A scenario has been played.
    pub(super) fn take(&mut self, scenario: &Scenario, ended: &Ended) {
        self.played += 1;
        let place = self.place;
        let known = DIFFERENCES
            .iter()
            .find(|difference| difference.scenario == scenario.name && difference.place == place);
        let problem = match known {
            None => judge(scenario.facts, ended),
            Some(difference) => {
                self.known.push(difference);
                judge_known(scenario, difference, ended)
            }
        };
        if let Some(problem) = problem {
            self.problems.push(format!("{}, on {place}: {problem}", scenario.name));
        }
    }
}

/// How a scenario ended, and what was noted.
pub(super) struct Ended {
    facts: Vec<String>,
    end: Played,
}

fn judge(expected: &[&str], ended: &Ended) -> Option<String> {
    match &ended.end {
        Err(failure) => Some(format!("{failure}\n  after {:?}", ended.facts)),
        Ok(()) if ended.facts == expected => None,
        Ok(()) => Some(format!("expected {expected:#?}\n  answered {:#?}", ended.facts)),
    }
}

fn judge_known(scenario: &Scenario, difference: &Difference, ended: &Ended) -> Option<String> {
    match (&difference.differs, &ended.end) {
        (Differs::CantBePlayed, Err(Failure::CantBePlayed(_))) => None,
        (Differs::CantBePlayed, _) => {
            Some("it is listed as one that can't be played, and can be".to_owned())
        }
        (Differs::Answers(_), Ok(())) if ended.facts == scenario.facts => {
            Some("the listed difference is no more".to_owned())
        }
        (Differs::Answers(facts), _) => judge(facts, ended),
        (Differs::AnswersOneOf(all), end) => {
            let is_listed = end.is_ok() && all.iter().any(|facts| ended.facts == *facts);
            if is_listed { None } else { judge(scenario.facts, ended) }
        }
    }
}

/// Plays one scenario.
pub(super) async fn play_one(place: &dyn Place, scenario: &Scenario) -> Ended {
    let stage = Stage::new(place);
    let end = (scenario.run)(&stage).await;
    Ended { facts: stage.facts(), end }
}

/// Plays scenarios in a place, so many at once. Wants to be called within a tokio runtime with
/// time.
pub async fn play(place: &dyn Place, scenarios: &[Scenario], at_once: usize) -> Verdict {
    use futures::StreamExt;
    let mut verdict = Verdict::new(place.kind());
    let games =
        scenarios.iter().map(|scenario| async move { (scenario, play_one(place, scenario).await) });
    let mut games = futures::stream::iter(games).buffer_unordered(at_once);
    while let Some((scenario, ended)) = games.next().await {
        verdict.take(scenario, &ended);
    }
    verdict
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (played, place, known) = (self.played, self.place, self.known.len());
        write!(f, "{played} scenarios on {place}: {known} differ as listed")?;
        writeln!(f, ", {} otherwise", self.problems.len())?;
        for problem in &self.problems {
            writeln!(f, "- {problem}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTED: Difference = Difference {
        scenario: "a",
        place: Kind::Model,
        differs: Differs::Answers(&["other"]),
        why: "for this test",
    };

    fn ended(facts: &[&str]) -> Ended {
        Ended { facts: facts.iter().map(|fact| (*fact).to_owned()).collect(), end: Ok(()) }
    }

    fn scenario() -> Scenario {
        use futures::FutureExt;
        Scenario { name: "a", facts: &["kafka's"], run: |_| async { Ok(()) }.boxed_local() }
    }

    #[test]
    fn an_answer_is_as_expected_or_as_listed_and_nothing_else() {
        assert_eq!(judge(&["kafka's"], &ended(&["kafka's"])), None);
        assert!(judge(&["kafka's"], &ended(&["other"])).is_some());
        assert_eq!(judge_known(&scenario(), &LISTED, &ended(&["other"])), None);
        assert!(judge_known(&scenario(), &LISTED, &ended(&["a third"])).is_some());
    }

    #[test]
    fn a_listed_difference_that_is_no_more_fails() {
        let problem = judge_known(&scenario(), &LISTED, &ended(&["kafka's"]));
        assert!(problem.is_some_and(|problem| problem.contains("no more")));
        let cant = Difference { differs: Differs::CantBePlayed, ..LISTED };
        assert!(judge_known(&scenario(), &cant, &ended(&["kafka's"])).is_some());
        let end = Err(Failure::CantBePlayed("for this test".to_owned()));
        assert_eq!(judge_known(&scenario(), &cant, &Ended { facts: Vec::new(), end }), None);
    }

    #[test]
    fn what_can_t_be_played_and_is_not_listed_fails() {
        let end = Err(Failure::CantBePlayed("for this test".to_owned()));
        assert!(judge(&["kafka's"], &Ended { facts: Vec::new(), end }).is_some());
    }
}
