//! Does a worker stay alive, and does it say so where it does not? Long handlers, handlers that
//! hold a thread, a poll loop that hangs, Kafka clients that break, another process with its name.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton::ports::ClientKind;
use pelton::{Fault, TopicPartition};
use pelton_testkit::ledger::{Cause, Entry, Ledger};
use pelton_tests::{
    Cluster, Fleet, KafkaCluster, LoadPlan, Protocol, Rig, RigPlan, Stopwatch, Trial, trials,
    wait_for,
};

use crate::refusal::Refusal;
use crate::{embedded, embedded_plan, insist, insist_on_exact, login, say};

/// Much longer than `max_poll_interval_ms` and the session of these runs.
const LONG: Duration = Duration::from_secs(10);

/// What a worker notices, it has noticed by then.
const SOON: Duration = Duration::from_secs(30);

/// Whatever was begun is through.
const THROUGH: Duration = Duration::from_secs(90);

const BOTH: [Protocol; 2] = [Protocol::CooperativeSticky, Protocol::Kip848];

pub(crate) fn trials() -> Vec<Trial> {
    let mut trials = vec![
        Trial::new("a_handler_that_holds_its_thread_is_named::embedded", holds_its_thread),
        Trial::new("a_poll_loop_that_hangs_ends_the_worker::embedded", hangs),
        Trial::new("a_frozen_process_is_not_taken_for_a_hanging_one::embedded", frozen),
    ];
    for protocol in BOTH {
        let on_kafka = |name: &str, test: fn(Protocol) -> Result<(), Failed>| {
            trials::on_kafka(&format!("{name}::{protocol}"), move || test(protocol))
        };
        trials.extend([
            on_kafka("a_handler_of_10_s_is_not_evicted", is_not_evicted),
            on_kafka("a_revoke_during_a_handler_of_10_s_cancels_it", is_cancelled),
            on_kafka("one_of_two_processes_with_one_instance_id_ends", fenced),
        ]);
    }
    // A static member's place must be free before another client of the same process takes it.
    let goes_on_after =
        [("cooperative-sticky", RigPlan::default(), 2), ("static-kip-848", static_kip_848(), 1)];
    for (name, plan, workers) in goes_on_after {
        let name = format!("a_worker_goes_on_after_its_clients_broke::{name}");
        trials.push(trials::on_kafka(&name, move || goes_on(plan.clone(), workers)));
    }
    trials
}

/// `max_poll_interval_ms` and session of 6 s, so a drain may take 2 s; alice takes her time.
fn short_interval(protocol: Protocol) -> RigPlan {
    RigPlan { protocol, partitions: 2, slow_one_in: 0, stateless: true, ..RigPlan::default() }
        .with("MAX_POLL_INTERVAL_MS", "6000")
        .holding("alice", LONG, false)
}

/// A long record and two short ones behind it, in each of two partitions.
fn long_records<C: Cluster>(rig: &Rig<'_, C>) -> Result<(), Failed> {
    let users = ["alice", "bob", "carol"];
    let records = [0, 1].map(|partition| users.map(|user| login(user, partition)));
    Ok(rig.cluster().produce(&rig.names().input, records.as_flattened())?)
}

fn is_not_evicted(protocol: Protocol) -> Result<(), Failed> {
    let rig = Rig::new(KafkaCluster::shared(1)?, short_interval(protocol))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    long_records(&rig)?;
    let watch = Stopwatch::start();
    rig.wait_until_handled(THROUGH)?;
    say(&format!("handled after {:.1?}", watch.elapsed()));
    insist(watch.elapsed() >= LONG, || "no record took its time".to_owned())?;
    let metrics = fleet.workers()[0].ask("/metrics")?;
    for (event, count) in [("lost", 0.0), ("revoked", 0.0), ("assigned", 1.0)] {
        let seen = metrics.metric("pelton_rebalances_total", &[("event", event)]);
        insist(seen == Some(count), || format!("{event}: {seen:?}"))?;
    }
    let outcome = rig.finish(fleet)?;
    insist_on_exact(&outcome)?;
    insist(outcome.ledger.attempts == 6 && outcome.ledger.assignments == 2, || outcome.to_string())
}

/// The second worker's join takes one of two partitions from the first, whose handlers are both
/// in the middle of a long record.
fn is_cancelled(protocol: Protocol) -> Result<(), Failed> {
    let rig = Rig::new(KafkaCluster::shared(1)?, short_interval(protocol))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let running = || fleet.workers()[0].running().is_ok_and(|running| running == 2);
    wait_for("both partitions at the first worker", SOON, || running().then_some(()))?;
    long_records(&rig)?;
    let steps = fleet.workers()[0].steps();
    let busy = || steps.in_flight().is_ok_and(|records| records.len() == 2);
    wait_for("both long records under way", SOON, || busy().then_some(()))?;
    fleet.start(1)?;
    rig.wait_until_handled(THROUGH)?;
    let outcome = rig.finish(fleet)?;
    say(&outcome.to_string());
    insist(outcome.repeats_only_by(&[Cause::CancelledDrain]), || outcome.to_string())?;
    let within = |drain: &Duration| *drain < Duration::from_secs(3);
    insist(outcome.drains.iter().all(within), || format!("{:?}", outcome.drains))?;
    // One of the long records was cut off, and ran again at the other worker; nothing else.
    let ledger = rig.ledger()?;
    let attempts: Vec<usize> =
        [0, 1].map(|partition| attempts_at(&rig, &ledger, partition)).to_vec();
    insist(attempts.iter().sum::<usize>() == 3, || format!("{attempts:?}"))?;
    insist(outcome.ledger.attempts == 7, || outcome.to_string())
}

/// How often the long record of a partition was begun.
fn attempts_at<C: Cluster>(rig: &Rig<'_, C>, ledger: &Ledger, partition: i32) -> usize {
    let at = TopicPartition::new(rig.names().input.as_str(), partition);
    let begun = |entry: &Entry| matches!(entry, Entry::Start { partition, offset: 0, .. } if *partition == at);
    ledger.lines().iter().filter(|line| begun(&line.entry)).count()
}

fn static_kip_848() -> RigPlan {
    RigPlan { protocol: Protocol::Kip848, ..RigPlan::default() }.with("GROUP_INSTANCE_ID", "solo")
}

/// Each client of a worker breaks once under load; the process goes on.
fn goes_on(plan: RigPlan, workers: usize) -> Result<(), Failed> {
    let rig = Rig::new(KafkaCluster::shared(1)?, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(workers)?;
    let load = rig.load(LoadPlan::at_rate(500))?;
    rig.wait_until_begun(SOON)?;
    for client in ClientKind::ALL {
        let watch = Stopwatch::start();
        fleet.inject(0, Fault::Break(client))?;
        wait_for(&format!("another {client}"), SOON, || rebuilt(&fleet, client))?;
        let rebuilt_after = watch.elapsed();
        let owned = || fleet.workers()[0].running().is_ok_and(|running| running > 0);
        wait_for("partitions at the worker", SOON, || owned().then_some(()))?;
        rig.wait_until_caught_up(THROUGH)?;
        say(&format!(
            "{client}: another after {rebuilt_after:.1?}, caught up after {:.1?}",
            watch.elapsed()
        ));
    }
    fleet.check_alive()?;
    let sent = load.stop()?;
    let outcome = rig.finish(fleet)?;
    say(&outcome.to_string());
    let processes = u64::try_from(workers)?;
    insist(outcome.ledger.processes == processes, || outcome.to_string())?;
    insist(outcome.ledger.done >= sent, || outcome.to_string())?;
    insist(outcome.repeats_only_by(&[Cause::Lost]), || outcome.to_string())
}

fn rebuilt(fleet: &Fleet, client: ClientKind) -> Option<()> {
    let metrics = fleet.workers()[0].ask("/metrics").ok()?;
    let labels = [("client", client.as_str())];
    let count = metrics.metric("pelton_client_rebuilds_total", &labels);
    count.filter(|count| *count == 1.0).map(drop)
}

/// Classic groups take the newer process for the right one, KIP-848 the older.
fn fenced(protocol: Protocol) -> Result<(), Failed> {
    let plan = RigPlan { protocol, ..RigPlan::default() }.with("GROUP_INSTANCE_ID", "twin");
    let rig = Rig::new(KafkaCluster::shared(1)?, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let owned = || fleet.workers()[0].running().is_ok_and(|running| running == 6);
    wait_for("every partition at the first", SOON, || owned().then_some(()))?;
    fleet.launch(&[])?;
    let loser = usize::from(protocol == Protocol::Kip848);
    let ended = fleet.wait_for_end(loser, SOON)?;
    say(&format!("{} ended after {:.1?}", ended.name, ended.after));
    let says = &["group_instance_id", "give every process its own"];
    Refusal { code: "PLT-0501", exit: 6, says }.hold(&ended)?;
    // The other one has the group to itself.
    let load = rig.load(LoadPlan::at_rate(300))?;
    wait_for("records", SOON, || (load.sent() >= 600).then_some(()))?;
    load.stop()?;
    insist_on_exact(&rig.finish(fleet)?)
}

/// Four handlers call something that blocks, on a machine with fewer threads: whoever looks must
/// not be a task.
fn holds_its_thread() -> Result<(), Failed> {
    let cluster = embedded()?;
    let plan = RigPlan { partitions: 4, slow_one_in: 0, stateless: true, ..embedded_plan() };
    let rig = Rig::new(&cluster, plan.holding("alice", Duration::from_secs(4), true))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let records = [0, 1, 2, 3].map(|partition| login("alice", partition));
    cluster.produce(&rig.names().input, &records)?;
    let named = |count| {
        let log = fleet.workers()[0].log();
        let lines = log.lines().filter(|line| line.contains("the handler has not yielded"));
        let lines: Vec<String> = lines.map(str::to_owned).collect();
        (lines.len() >= count).then_some(lines)
    };
    let lines = wait_for("a handler that is named", SOON, || named(1))?;
    let all = ["WARN", rig.names().input.as_str(), "offset=0", "blocked_ms=", "spawn_blocking"];
    insist(all.iter().all(|part| lines[0].contains(part)), || lines[0].clone())?;
    rig.wait_until_handled(THROUGH)?;
    let calm = || {
        let metrics = fleet.workers()[0].ask("/metrics").ok()?;
        let barked = metrics.metric("pelton_watchdog_total", &[("what", "blocking_handler")]);
        let now = metrics.metric("pelton_blocking_handlers", &[]);
        (barked >= Some(4.0) && now == Some(0.0)).then_some(())
    };
    wait_for("four handlers counted, and none any more", SOON, calm)?;
    let lines = named(4).unwrap_or_default();
    // After 1 s and after 2 s, not each time somebody looks.
    insist((4..=12).contains(&lines.len()), || lines.join("\n"))?;
    insist_on_exact(&rig.finish(fleet)?)
}

fn hangs() -> Result<(), Failed> {
    let cluster = embedded()?;
    let rig = Rig::new(&cluster, embedded_plan().with("MAX_POLL_INTERVAL_MS", "8000"))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let live = |fleet: &Fleet| fleet.workers()[0].ask("/livez").map(|answer| answer.status);
    insist(live(&fleet)? == 200, || "not alive".to_owned())?;
    let watch = Stopwatch::start();
    fleet.inject(0, Fault::Hang)?;
    wait_for("a worker that is not alive", SOON, || {
        fleet.workers()[0].ask("/livez").ok().filter(|answer| answer.status == 503)
    })?;
    say(&format!("said to hang after {:.1?}", watch.elapsed()));
    let log = fleet.workers()[0].log();
    insist(log.contains("the poll loop hangs") && log.contains("doing="), || log.clone())?;
    let ended = fleet.wait_for_end(0, SOON)?;
    say(&format!("ended after {:.1?}", watch.elapsed()));
    Refusal { code: "PLT-0504", exit: 12, says: &["poll loop", "restart"] }.hold(&ended)
}

/// Frozen for longer than either limit: whoever looks was frozen, too.
fn frozen() -> Result<(), Failed> {
    let cluster = embedded()?;
    let rig = Rig::new(&cluster, embedded_plan().with("MAX_POLL_INTERVAL_MS", "6000"))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    fleet.freeze(0)?;
    std::thread::sleep(Duration::from_secs(9)); // what is shown is that this time does not count
    fleet.thaw(0)?;
    wait_for("a thawed worker", SOON, || {
        fleet.workers()[0].log().contains("stood still").then_some(())
    })?;
    cluster.produce(&rig.names().input, &[login("alice", 0)])?;
    rig.wait_until_handled(THROUGH)?;
    let log = fleet.workers()[0].log();
    insist(!log.contains("hangs") && !log.contains("has not yielded"), || log.clone())?;
    fleet.terminate_all()?;
    Ok(())
}
