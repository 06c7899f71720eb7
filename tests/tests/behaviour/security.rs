//! Do workers get in where Kafka wants TLS, a login and rights, and what do they say when not?

use std::time::Duration;

use libtest_mimic::{Failed, Trial};
use pelton_tests::{LoadPlan, Login, Rig, RigPlan, Right, SecureKafka, trials};

use crate::insist_on_exact;

/// The one node of this module's tests; it ends with the process.
fn secure() -> Result<&'static SecureKafka, Failed> {
    use std::sync::{Mutex, PoisonError};
    static SHARED: Mutex<Option<&'static SecureKafka>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(secure) = *shared {
        return Ok(secure);
    }
    let secure: &'static SecureKafka = Box::leak(Box::new(SecureKafka::start()?));
    *shared = Some(secure);
    Ok(secure)
}

const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    for login in [Login::Scram, Login::Plain, Login::Certificate] {
        let name = format!("security::workers_count_and_hand_over::{login:?}");
        trials.push(trials::on_our_own_nodes(&name, move || counts(login)));
    }
    trials
}

/// With the least rights: it counts, a second worker joins and leaves, nothing is lost or repeated.
fn counts(login: Login) -> Result<(), Failed> {
    let secure = secure()?;
    let rig = Rig::new(secure.kafka(), secure.plan(RigPlan::default(), login)?)?;
    secure.grant(&Right::of_a_counter(rig.names()))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(500))?;
    rig.wait_until_begun(PATIENCE)?;
    fleet.start(1)?;
    rig.wait_until_caught_up(PATIENCE)?;
    fleet.terminate_any()?;
    rig.wait_until_caught_up(PATIENCE)?;
    load.stop()?;
    insist_on_exact(&rig.finish(fleet)?)
}
