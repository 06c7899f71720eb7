//! Is a real host's auth.log counted right while workers come and go? Every user's total and
//! every user's order, against counts made by another program.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use libtest_mimic::Failed;
use load_generator::{Format, SendOptions, Sent, open, send_all};
use pelton_testkit::ledger::{Entry, Ledger};
use pelton_tests::{
    Cluster, KafkaCluster, Rig, RigPlan, StoredRecord, Trial, orders, trials, wait_for,
};
use serde::Deserialize;

use crate::{embedded, embedded_plan, insist, insist_on_exact, say};

/// Logins a second: the changes fall into the middle of the log.
const RATE: f64 = 250.0;

/// The worker that leaves does so after so many logins, when all have handled some; the one that
/// comes after so many.
const LEAVES_AFTER: u64 = 250;
const COMES_AFTER: u64 = 500;

/// The last logins wait until the newcomer owns partitions, however slow the machine is. There are
/// some for each partition: two of the six have none before 413 and 718, two none after 540 and 550.
/// (A worker that had the first two left before it had handled anything, and the test failed.)
const HELD_BACK: u64 = 530;

pub(crate) fn trials() -> Vec<Trial> {
    let name =
        |place: &str| format!("a_real_auth_log_is_counted_in_order_as_workers_change::{place}");
    let on_embedded = || {
        let cluster = embedded()?;
        count(&cluster, embedded_plan())
    };
    let on_kafka = || count(KafkaCluster::shared(1)?, RigPlan::default());
    if data().is_none() {
        return ["embedded", "kafka"].map(|place| ignored(&name(place))).into();
    }
    vec![Trial::new(name("embedded"), on_embedded), trials::on_kafka(&name("kafka"), on_kafka)]
}

fn ignored(name: &str) -> Trial {
    let reason = "PELTON_TEST_DATA is unset: no real logs here";
    Trial::ignored(name, reason)
}

fn data() -> Option<PathBuf> {
    std::env::var_os("PELTON_TEST_DATA").map(PathBuf::from)
}

fn count<C: Cluster + Sync>(cluster: &C, plan: RigPlan) -> Result<(), Failed> {
    let data = data().ok_or("PELTON_TEST_DATA")?;
    let rig = Rig::new(cluster, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(3)?;
    wait_until_each_owns(&rig, &fleet)?;
    let (sent, settled) = (AtomicU64::new(0), AtomicBool::new(false));
    let (replayed, newcomer) = std::thread::scope(|scope| -> Result<_, Failed> {
        let generator = scope.spawn(|| replay(&rig, &data, &sent, &settled));
        let changed = (|| -> Result<String, Failed> {
            wait_for_count(&sent, LEAVES_AFTER)?;
            wait_until_each_works(&rig, fleet.workers().len())?;
            fleet.terminate_any()?;
            wait_for_count(&sent, COMES_AFTER)?;
            fleet.start(1)?;
            wait_until_each_owns(&rig, &fleet)?;
            Ok(fleet.workers().last().map(|worker| worker.name().to_owned()).unwrap_or_default())
        })();
        let at_the_last_change = sent.load(Ordering::Relaxed);
        settled.store(true, Ordering::Relaxed);
        let replayed = generator.join().map_err(|_| "the load generator panicked")??;
        let newcomer = changed?;
        insist(at_the_last_change < replayed.logins, || "all was sent before the changes".into())?;
        Ok((replayed, newcomer))
    })?;
    let outcome = rig.finish(fleet)?;
    say(&format!("{} logins in {:.1?}\n{outcome}", replayed.logins, replayed.elapsed));
    insist_on_exact(&outcome)?;
    let (ledger, input) = (rig.ledger()?, cluster.read_topic(&rig.names().input)?);
    let names = workers_at_work(&ledger);
    insist(names.len() == 4 && names.contains(newcomer.as_str()), || {
        format!("at work: {names:?}")
    })?;
    hold_against_truth(&rig, &data, &ledger, &input)
}

/// Sends the log through the load generator.
fn replay<C: Cluster>(
    rig: &Rig<'_, C>,
    data: &Path,
    sent: &AtomicU64,
    settled: &AtomicBool,
) -> Result<Sent, String> {
    let text = |error: &dyn std::error::Error| error.to_string();
    let log = open(&data.join("elastic-auth.log.gz"), Format::Sshd { year: 2017 });
    let mut options = SendOptions::new(rig.cluster().bootstrap_servers(), &rig.names().input);
    options.rate_per_second = Some(RATE);
    send_all(log.map_err(|error| text(&error))?, &options, |progress| {
        sent.store(progress.sent, Ordering::Relaxed);
        while progress.sent == HELD_BACK && !settled.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(10)); // until the changes are over
        }
        ControlFlow::Continue(())
    })
    .map_err(|error| text(&error))
}

fn wait_for_count(sent: &AtomicU64, count: u64) -> Result<(), Failed> {
    let reached = || (sent.load(Ordering::Relaxed) >= count).then_some(());
    Ok(wait_for(&format!("{count} logins sent"), Duration::from_secs(60), reached)?)
}

/// Waits until the partitions are shared among all workers.
fn wait_until_each_owns<C: Cluster>(
    rig: &Rig<'_, C>,
    fleet: &pelton_tests::Fleet,
) -> Result<(), Failed> {
    let all = rig.plan().partitions;
    let shared = || {
        let owned: Vec<_> = fleet.workers().iter().map(|w| w.running().unwrap_or(0)).collect();
        let total: usize = owned.iter().sum();
        (i32::try_from(total) == Ok(all) && !owned.contains(&0)).then_some(())
    };
    Ok(wait_for("a share for each worker", Duration::from_secs(60), shared)?)
}

/// Waits until so many workers have handled something.
fn wait_until_each_works<C: Cluster>(rig: &Rig<'_, C>, workers: usize) -> Result<(), Failed> {
    let works = || {
        let ledger = rig.ledger().ok()?;
        (workers_at_work(&ledger).len() == workers).then_some(())
    };
    Ok(wait_for("work for each worker", Duration::from_secs(60), works)?)
}

/// The workers that have handled something.
fn workers_at_work(ledger: &Ledger) -> BTreeSet<&str> {
    let starts = ledger.lines().iter().filter(|line| matches!(line.entry, Entry::Start { .. }));
    starts.map(|line| &*ledger.processes()[line.process].name).collect()
}

/// What another program has counted.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    success: u64,
    order_digest: String,
}

fn hold_against_truth<C: Cluster>(
    rig: &Rig<'_, C>,
    data: &Path,
    ledger: &Ledger,
    input: &[StoredRecord],
) -> Result<(), Failed> {
    let truth = truth(data)?;
    insist(truth.len() == 31, || format!("{} users in the truth", truth.len()))?;
    let orders = orders(ledger, input);
    let output = totals_of(&rig.cluster().read_topic(&rig.names().output)?)?;
    let changelog = stored_totals(&rig.cluster().read_topic(&rig.names().changelog())?)?;
    for (name, totals) in [("output", output), ("changelog", changelog)] {
        let counted = truth.iter().map(|(user, row)| (user.clone(), row.success));
        let counted: BTreeMap<_, _> = counted.filter(|(_, success)| *success > 0).collect();
        insist(totals == counted, || format!("{name}: {totals:?}\ntruth: {counted:?}"))?;
    }
    let handled: BTreeMap<_, _> =
        orders.iter().map(|(user, order)| (user.clone(), order.to_string())).collect();
    let expected: BTreeMap<_, _> =
        truth.into_iter().map(|(user, row)| (user, row.order_digest)).collect();
    insist(handled == expected, || format!("handled: {handled:?}\ntruth: {expected:?}"))
}

fn truth(data: &Path) -> Result<BTreeMap<String, Row>, Failed> {
    let table = std::fs::read_to_string(data.join("truth-elastic-auth/by_user.tsv"))?;
    let mut lines = table.lines();
    let head: Vec<_> = lines.next().unwrap_or_default().split('\t').collect();
    let place = |name: &str| head.iter().position(|column| *column == name).ok_or("no such column");
    let (user, success, digest) = (place("user")?, place("success")?, place("order_digest")?);
    let rows = lines.map(|line| {
        let column: Vec<_> = line.split('\t').collect();
        let row =
            Row { success: column[success].parse()?, order_digest: column[digest].to_owned() };
        Ok((column[user].to_owned(), row))
    });
    rows.collect::<Result<_, std::num::ParseIntError>>().map_err(Failed::from)
}

#[derive(Deserialize)]
struct Total {
    user: String,
    total: u64,
}

/// The last total of each user.
fn totals_of(output: &[StoredRecord]) -> Result<BTreeMap<String, u64>, Failed> {
    let read = |record: &StoredRecord| {
        let total: Total = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        Ok((total.user, total.total))
    };
    output.iter().map(read).collect()
}

fn stored_totals(changelog: &[StoredRecord]) -> Result<BTreeMap<String, u64>, Failed> {
    let read = |record: &StoredRecord| {
        let total = serde_json::from_slice(record.value.as_deref().unwrap_or_default())?;
        Ok((String::from_utf8(record.key.clone().unwrap_or_default())?, total))
    };
    changelog.iter().map(read).collect()
}
