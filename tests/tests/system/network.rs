//! The network between workers and brokers is dead in one direction, resets connections, is long or
//! narrow, and heals: nothing is lost.

use std::sync::{Mutex, PoisonError};

use libtest_mimic::Failed;
use pelton_tests::suites::network;
use pelton_tests::suites::spell::Spell;
use pelton_tests::{KafkaCluster, Protocol, Trial, trials};

use crate::say;

/// The short forms of the network suites.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |name: &str, spells: fn() -> Vec<Spell>| {
        // Beside others a session is lost for want of a core, and nobody can tell it from a fault.
        trials::on_our_own_nodes(name, move || healed(&spells())).alone()
    };
    vec![
        trial("who_is_cut_off_loses_nothing_and_ends_no_worker", network::dead_ways),
        trial("a_bad_network_loses_nothing_and_ends_no_worker", network::bad_ways),
    ]
}

fn healed(spells: &[Spell]) -> Result<(), Failed> {
    let plan = network::plan(Protocol::CooperativeSticky);
    let shown = network::run(kafka()?, plan, spells)?;
    say(&shown.to_string());
    if shown.is_kept() { Ok(()) } else { Err(shown.to_string().into()) }
}

/// One cluster behind proxies for all of them.
fn kafka() -> Result<&'static KafkaCluster, Failed> {
    static SHARED: Mutex<Option<&'static KafkaCluster>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kafka) = *shared {
        return Ok(kafka);
    }
    let kafka: &'static KafkaCluster =
        Box::leak(Box::new(KafkaCluster::start_behind_proxies(1, network::PROXIES)?));
    Ok(shared.insert(kafka))
}
