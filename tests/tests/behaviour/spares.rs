//! What is a worker without partitions good for? It is ready, and takes over.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_testkit::ledger::Cause;
use pelton_tests::{
    Cluster, Fleet, KafkaCluster, LoadPlan, Protocol, Rig, RigPlan, Trial, trials, wait_for,
};

use crate::{embedded, embedded_plan, insist, insist_on_exact, say};

/// A change of owners takes at most so long: a session, a rebalance, a restore.
const CHANGE: Duration = Duration::from_secs(30);

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("a_spare_worker_is_ready_and_takes_over::embedded", || {
            let cluster = embedded()?;
            spare(&cluster, embedded_plan())
        }),
        Trial::new("two_groups_on_one_topic_each_see_every_record::embedded", || {
            let cluster = embedded()?;
            two_groups(&cluster, embedded_plan)
        }),
        trials::on_kafka("two_groups_on_one_topic_each_see_every_record::kafka", || {
            two_groups(KafkaCluster::shared(1)?, RigPlan::default)
        }),
    ];
    for protocol in [Protocol::CooperativeSticky, Protocol::Kip848] {
        let name = format!("a_spare_worker_is_ready_and_takes_over::{protocol}");
        trials.push(trials::on_kafka(&name, move || {
            spare(KafkaCluster::shared(1)?, RigPlan { protocol, ..RigPlan::default() })
        }));
    }
    trials
}

/// Two partitions, three workers: one leaves and then one is killed, and each time the one that
/// had nothing to do takes over.
fn spare<C: Cluster>(cluster: &C, plan: RigPlan) -> Result<(), Failed> {
    let rig = Rig::new(cluster, RigPlan { partitions: 2, ..plan })?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    let load = rig.load(LoadPlan::at_rate(300))?;

    let idle = wait_for_shares(&fleet, &[0, 1, 1])?;
    let ready = fleet.workers()[idle].ask("/readyz")?;
    insist(ready.status == 200, || format!("the spare is not ready: {ready:?}"))?;
    let name = fleet.workers()[idle].name().to_owned();
    let (_, status) = fleet.terminate(usize::from(idle == 0))?;
    insist(status.success(), || format!("the worker that left: {status}"))?;
    wait_for_shares(&fleet, &[1, 1])?;
    insist(owns(&fleet, &name), || format!("{name} still owns nothing"))?;

    fleet.start(1)?;
    let idle = wait_for_shares(&fleet, &[0, 1, 1])?;
    let name = fleet.workers()[idle].name().to_owned();
    fleet.kill(usize::from(idle == 0))?;
    wait_for_shares(&fleet, &[1, 1])?;
    insist(owns(&fleet, &name), || format!("{name} still owns nothing"))?;

    load.stop()?;
    let outcome = rig.finish(fleet)?;
    say(&outcome.to_string());
    insist(outcome.is_clean(), || outcome.to_string())?;
    let killed = |cause: &Option<Cause>| *cause == Some(Cause::Kill);
    insist(outcome.ledger.repeats_by_cause().keys().all(killed), || outcome.to_string())
}

/// Waits until the workers run so many partitions each, in any order; the place of one that runs
/// the fewest.
fn wait_for_shares(fleet: &Fleet, wanted: &[usize]) -> Result<usize, Failed> {
    let idle = wait_for(&format!("partitions shared as {wanted:?}"), CHANGE, || {
        let shares: Vec<_> =
            fleet.workers().iter().map(|worker| worker.running().ok()).collect::<Option<_>>()?;
        let mut sorted = shares.clone();
        sorted.sort_unstable();
        (sorted == wanted).then(|| shares.iter().position(|share| *share == wanted[0]))?
    })?;
    Ok(idle)
}

fn owns(fleet: &Fleet, name: &str) -> bool {
    let worker = fleet.workers().iter().find(|worker| worker.name() == name);
    worker.is_some_and(|worker| worker.running().is_ok_and(|running| running > 0))
}

fn two_groups<C: Cluster>(cluster: &C, plan: impl Fn() -> RigPlan) -> Result<(), Failed> {
    let first = Rig::new(cluster, plan())?;
    let second = first.beside(plan())?;
    let (mut ours, mut theirs) = (first.fleet(), second.fleet());
    ours.launch(&[])?;
    theirs.launch(&[])?;
    ours.start(1)?;
    theirs.workers()[0].wait_until_joined()?;
    let load = first.load(LoadPlan::at_rate(1_000))?;
    wait_for("half of the records", CHANGE, || (load.sent() >= 1_000).then_some(()))?;
    // What one group does is nothing to the other.
    ours.terminate_any()?;
    wait_for("all of the records", CHANGE, || (load.sent() >= 2_000).then_some(()))?;
    let sent = load.stop()?;
    for (rig, fleet) in [(&first, ours), (&second, theirs)] {
        let outcome = rig.finish(fleet)?;
        insist_on_exact(&outcome)?;
        insist(outcome.ledger.done == sent, || format!("{sent} were sent\n{outcome}"))?;
        // A change that reached the other group would show as more assignments than partitions.
        let is_quiet = rig.names().group == second.names().group;
        insist(!is_quiet || outcome.ledger.assignments == 6, || outcome.to_string())?;
    }
    Ok(())
}
