//! Do the model, the embedded cluster and Kafka answer alike? Scenarios that are written once and
//! played in every [`Place`], as a worker would: through its ports.
//!
//! Each scenario notes [facts](Stage::fact), without times, and says which ones Kafka brings.
//! Where a place answers otherwise, or can't be asked, [`DIFFERENCES`] says so, by name and with
//! its reason; a difference that is not listed fails, and so does one that is no more.
//!
//! For Pelton's own tests: public because they stand in another crate.

mod commits;
mod differences;
mod groups;
mod membership;
mod on_model;
mod party;
mod place;
mod reader;
mod records;
mod stage;
mod topics;
mod transactions;
mod verdict;
mod writer;

use futures::future::LocalBoxFuture;

pub use differences::{DIFFERENCES, Difference, Differs};
pub use on_model::play_on_model;
pub use place::{
    Failure, Kind, Place, Played, Process, Protocol, Role, SESSION, Stranger, Transaction,
};
pub use stage::Stage;
pub use verdict::{Verdict, play};

/// Something that is done in every place.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// A sentence.
    pub name: &'static str,
    /// What Kafka answers, fact by fact.
    pub facts: &'static [&'static str],
    /// What is done.
    pub run: Run,
}

/// What is done in a scenario.
pub type Run = for<'a> fn(&'a Stage<'a>) -> LocalBoxFuture<'a, Played>;

/// All scenarios.
#[must_use]
pub fn all() -> Vec<Scenario> {
    let files = [
        records::SCENARIOS,
        topics::SCENARIOS,
        commits::SCENARIOS,
        groups::SCENARIOS,
        membership::SCENARIOS,
        transactions::SCENARIOS,
    ];
    files.concat()
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn the_model_answers_as_kafka_does_but_for_what_is_listed() {
        let verdict = play_on_model(&all());
        assert!(verdict.is_clean(), "{verdict}");
    }

    /// The embedded cluster lets a rebalance wait for a member for nearly a session. That silence was
    /// taken for rest, and what the rebalance gave was told as news of a death that came after it: on
    /// a busy machine the suite failed now and then.
    #[test]
    fn a_rebalance_that_waits_for_a_member_is_no_rest() {
        let scenario = Scenario {
            name: "a_rebalance_that_waits",
            facts: &["a has 2"],
            run: |stage| {
                async {
                    let topic = stage.topic(4).await?;
                    let mut party = stage.party(Protocol::Range, &[&topic]);
                    party.join("a")?;
                    party.join("z")?;
                    party.settle(&[("a", 2), ("z", 2)]).await?;
                    party.hold("z");
                    party.join("y")?;
                    party.settle(&[("a", 2)]).await?;
                    stage.fact(format!("a has {}", party.count("a")));
                    Ok(())
                }
                .boxed_local()
            },
        };
        let verdict = play_on_model(&[scenario]);
        assert!(verdict.is_clean(), "{verdict}");
    }

    #[test]
    fn every_listed_difference_names_a_scenario_and_every_scenario_has_a_name_of_its_own() {
        let mut names: Vec<_> = all().iter().map(|scenario| scenario.name).collect();
        for difference in DIFFERENCES {
            assert!(names.contains(&difference.scenario), "{}", difference.scenario);
        }
        names.sort_unstable();
        assert!(names.is_sorted_by(|one, next| one < next), "{names:?}");
    }
}
