//! Records that can't be handled become dead letters, byte for byte, and hold up nothing for good; while
//! their topic can't be written their partition waits.

use libtest_mimic::Failed;
use pelton::{Bug, Ordering};
use pelton_tests::suites::crashing::{self, Size};
use pelton_tests::suites::poisoned;
use pelton_tests::suites::unavailable::{self, Cause};
use pelton_tests::{KafkaCluster, Protocol, RigPlan, SecureKafka, Trial, trials};

use crate::say;

/// The short forms of the suites of dead letters.
pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for (name, ordering) in [("partition", Ordering::Partition), ("key", Ordering::key(64))] {
        let name = format!("poisoned_records_become_dead_letters_and_the_rest_is_done::{name}");
        trials.push(trials::on_kafka(&name, move || poisoned(ordering)));
    }
    for (name, ordering) in [("partition", Ordering::Partition), ("key", Ordering::key(64))] {
        let name = format!("records_that_kill_become_dead_letters_and_the_rest_is_done::{name}");
        trials.push(trials::on_kafka(&name, move || crashing(ordering)));
    }
    for (bug, test) in [
        (Bug::DeadLetterForgotten, forgotten as fn() -> Result<(), Failed>),
        (Bug::DeathsWithoutEnd, without_end),
    ] {
        let name = format!("a_planted_bug_is_caught_on_real_kafka::{}", bug.name());
        trials.push(trials::on_kafka(&name, test));
    }
    for cause in Cause::ALL {
        let name = format!("a_partition_waits_for_its_dead_letters_and_goes_on::{cause:?}");
        trials.push(match cause {
            Cause::Down => {
                trials::in_turn(&name, 3, |kafka| kept(&unavailable::down(kafka)?)).heavy()
            }
            _ => trials::on_our_own_nodes(&name, move || unavailable(cause)),
        });
    }
    trials
}

fn poisoned(ordering: Ordering) -> Result<(), Failed> {
    let plan = poisoned::plan(Protocol::CooperativeSticky, ordering).gentle();
    let shown = poisoned::run(KafkaCluster::shared(1)?, plan, 20_000)?;
    say(&format!("poisoned records:\n{shown}"));
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}

/// Who forgets to send dead letters is found out.
fn forgotten() -> Result<(), Failed> {
    let plan = poisoned::plan(Protocol::CooperativeSticky, Ordering::Partition).gentle();
    let plan = RigPlan { plant: Some(Bug::DeadLetterForgotten), ..plan };
    let shown = poisoned::run(KafkaCluster::shared(1)?, plan, 5_000)?;
    say(&format!("forgotten dead letters:\n{shown}"));
    let is_caught = !shown.letters.missing.is_empty();
    if is_caught { Ok(()) } else { Err(format!("not caught:\n{shown}").into()) }
}

fn crashing(ordering: Ordering) -> Result<(), Failed> {
    let plan = crashing::plan(ordering).gentle();
    let shown = crashing::run(KafkaCluster::shared(1)?, plan, Size::SHORT)?;
    say(&format!("records that kill:\n{shown}"));
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}

/// Who starts a record again however many have died of it is found out.
fn without_end() -> Result<(), Failed> {
    let plan = crashing::plan(Ordering::Partition).gentle();
    let plan = RigPlan { plant: Some(Bug::DeathsWithoutEnd), ..plan };
    let shown = crashing::run(KafkaCluster::shared(1)?, plan, Size::ONE)?;
    say(&format!("deaths without end:\n{shown}"));
    let is_caught = shown.deaths.most() > crashing::MAX_DEATHS;
    if is_caught { Ok(()) } else { Err(format!("not caught:\n{shown}").into()) }
}

fn unavailable(cause: Cause) -> Result<(), Failed> {
    let shown = match cause {
        Cause::Denied => unavailable::denied(&SecureKafka::start()?)?,
        Cause::TooSmall => unavailable::too_small(KafkaCluster::shared(1)?)?,
        _ => unavailable::missing(KafkaCluster::shared(1)?)?,
    };
    kept(&shown)
}

fn kept(shown: &unavailable::Shown) -> Result<(), Failed> {
    say(&shown.to_string());
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}
