//! Do whole workers keep their promises? Real processes on real Apache Kafka, judged by the
//! ledger: the short forms of the suites.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_testkit::ledger::Quantiles;
use pelton_tests::{KafkaCluster, Protocol, suites, trials, worker};

#[path = "system/dead_letters.rs"]
mod dead_letters;
#[path = "system/faults.rs"]
mod faults;
#[path = "system/hanging.rs"]
mod hanging;
#[path = "system/keys.rs"]
mod keys;
#[path = "system/memory.rs"]
mod memory;
#[path = "system/network.rs"]
mod network;
#[path = "system/outage.rs"]
mod outage;
#[path = "system/restless.rs"]
mod restless;

/// Membership changes per protocol.
const CHANGES: u32 = 5;

/// On a machine that also builds and tests other things, a kept partition's gap stays below it.
const KEPT_GAP: Duration = Duration::from_millis(300);

/// Places for tests: two cores bear four runs of three workers, most of them under a gentle load.
const AT_ONCE: usize = 4;

fn main() -> std::process::ExitCode {
    worker::run_if_asked();
    // Long ones first.
    let mut trials = memory::trials();
    trials.extend(restless::trials());
    trials.extend(faults::trials());
    trials.extend(network::trials());
    trials.extend(keys::trials());
    trials.extend(dead_letters::trials());
    trials.extend(outage::trials());
    trials.extend(hanging::trials());
    for protocol in Protocol::ALL {
        let name = format!("joins_and_leaves_lose_and_repeat_nothing::{protocol}");
        let trial = trials::on_kafka(&name, move || joins_and_leaves(protocol));
        // Where gaps are measured nobody else is to make them.
        trials.push(if protocol.is_incremental() { trial.alone() } else { trial });
    }
    trials.push(trials::on_kafka("several_topics_and_patterns_reach_their_own_handlers", || {
        Ok(suites::patterns::run(KafkaCluster::shared(1)?)?)
    }));
    trials::run(trials, AT_ONCE)
}

fn joins_and_leaves(protocol: Protocol) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let outcome = suites::membership::run(kafka, protocol, CHANGES, Duration::from_millis(500))?;
    say(&format!("{protocol}:\n{outcome}"));
    if !outcome.is_exact() {
        return Err(format!("{protocol}:\n{outcome}").into());
    }
    match Quantiles::of(outcome.kept_gaps.events) {
        Some(kept) if protocol.is_incremental() && kept.p90 > KEPT_GAP => {
            Err(format!("{protocol}: kept partitions stood still: {kept}").into())
        }
        _ => Ok(()),
    }
}

#[expect(clippy::print_stdout, reason = "the figures of a run are worth reading when it passes")]
fn say(text: &str) {
    println!("{text}");
}
