//! Do workers behave as their users expect? Real processes on real Apache Kafka, and on the
//! embedded cluster where it can show the same.
//!
//! Each module is one question: a real log counted through a change of workers, spare workers,
//! growing topics, where a group begins, Kafka's own tools, records that are gone, what is
//! refused, hostile surroundings, garbage, the endpoint, what keeps a worker alive, last words.

mod canaries;
mod endpoint;
mod farewells;
mod gone;
mod growth;
mod liveness;
mod operators;
mod overtaken;
mod payloads;
mod real_log;
mod refusal;
mod refusals;
mod reload;
mod security;
mod spares;
mod starts;
mod surroundings;

use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::Failed;
use pelton_testkit::EmbeddedCluster;
use pelton_tests::{NewRecord, Outcome, Protocol, RigPlan, trials, worker};

/// Tests at once: nine tenths of their time they wait.
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    worker::run_if_asked();
    // Long ones first.
    let trials = [
        canaries::trials(),
        security::trials(),
        reload::trials(),
        refusals::trials(),
        surroundings::trials(),
        real_log::trials(),
        spares::trials(),
        growth::trials(),
        starts::trials(),
        operators::trials(),
        gone::trials(),
        overtaken::trials(),
        payloads::trials(),
        endpoint::trials(),
        liveness::trials(),
        farewells::trials(),
    ];
    trials::run(trials.into_iter().flatten().collect(), AT_ONCE)
}

/// The embedded cluster as whole-system tests use it: KIP-848 groups that rebalance at once.
fn embedded() -> Result<EmbeddedCluster, Failed> {
    let cluster = EmbeddedCluster::start(1)?;
    cluster.group_heartbeat(Duration::from_millis(200));
    cluster.group_session_timeout(Duration::from_secs(6));
    Ok(cluster)
}

/// What workers on [`embedded`] are given.
fn embedded_plan() -> RigPlan {
    let plan = RigPlan { protocol: Protocol::Kip848, ..RigPlan::default() };
    plan.with("KAFKA__FETCH_WAIT_MAX_MS", "10")
}

/// A successful login of `user`, as a record of a partition that is this user's alone.
fn login(user: &str, partition: i32) -> NewRecord {
    let value = format!(
        r#"{{"user":"{user}","status":"success","ip":"192.0.2.1","at":"2026-01-01T00:00:00Z"}}"#
    );
    NewRecord::new(user, value).to_partition(partition)
}

/// Nothing lost, nothing repeated, every total right.
fn insist_on_exact(outcome: &Outcome) -> Result<(), Failed> {
    insist(outcome.is_exact(), || outcome.to_string())
}

/// A check that says what it saw.
fn insist(holds: bool, seen: impl FnOnce() -> String) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(seen().into()) }
}

#[expect(clippy::print_stdout, reason = "the figures of a run are worth reading when it passes")]
fn say(text: &str) {
    println!("{text}");
}
