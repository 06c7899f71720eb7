//! What does a live worker show at its endpoint? Health, and lag in records and in seconds.

use std::net::TcpListener;
use std::time::Duration;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pelton_tests::{
    Answer, Cluster, KafkaCluster, NewRecord, Rig, RigPlan, Trial, WorkerProcess, trials, wait_for,
    worker,
};

use crate::{embedded, embedded_plan, insist, insist_on_exact, login};

const PARTITIONS: i32 = 3;

const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trials::on_kafka("a_live_worker_shows_health_and_lag_of_each_partition", shows),
        Trial::new("a_worker_is_asked_how_it_is_by_its_own_program", asked),
        Trial::new("a_worker_that_shuts_down_is_live_and_not_ready", shutting_down),
    ]
}

/// What a supervisor sees of it: nothing to restart, and nobody to wait for.
fn shutting_down() -> Result<(), Failed> {
    let cluster = embedded()?;
    // The longest of six drains: not one of them is over at once.
    let plan = RigPlan { partitions: 6, drain: Duration::from_secs(3), ..embedded_plan() };
    let rig = Rig::new(&cluster, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let worker = &fleet.workers()[0];
    wait_for("all partitions running", PATIENCE, || worker.running().ok().filter(|n| *n == 6))?;
    insist(worker.ask("/readyz")?.status == 200, || "it runs and is not ready".to_owned())?;
    kill(Pid::from_raw(i32::try_from(worker.pid())?), Signal::SIGTERM)?;
    let seen = wait_for("a worker that shuts down", PATIENCE, || {
        let (ready, live) = (worker.ask("/readyz").ok()?, worker.ask("/livez").ok()?);
        (ready.status != 200).then_some((ready, live))
    })?;
    let (ready, live) = seen;
    let says_why = ready.status == 503 && ready.body.contains("shutting down");
    insist(says_why && live.status == 200, || format!("{ready:?}, {live:?}"))?;
    let ended = fleet.wait_for_end(0, PATIENCE)?;
    let in_order = ended.status.success() && ended.termination_log.is_empty();
    insist(in_order, || format!("{ended:?}"))
}

/// As a container's health check asks: no shell, no curl, the worker's settings.
fn asked() -> Result<(), Failed> {
    let cluster = embedded()?;
    let rig = Rig::new(&cluster, embedded_plan())?;
    let mut fleet = rig.fleet();
    let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
    let ask = |question: &[&str]| -> Result<(Option<i32>, String), Failed> {
        let mut command = worker::command()?;
        let answer = command.args(question).env("PELTON__ADMIN__LISTEN", &listen).output()?;
        let said = [answer.stdout, answer.stderr].concat();
        Ok((answer.status.code(), String::from_utf8_lossy(&said).into_owned()))
    };
    let nobody = ask(&["--health"])?;
    let says_so = nobody.1.contains(&format!("no answer from http://{listen}/livez"));
    insist(nobody.0 == Some(1) && says_so, || format!("{nobody:?}"))?;
    fleet.launch(&[("ADMIN__LISTEN", &listen)])?;
    let ready = wait_for("a worker that is ready", PATIENCE, || {
        ask(&["--health", "readyz"]).ok().filter(|answer| answer.0 == Some(0))
    })?;
    insist(ready.1.contains(r#""ok":true"#), || format!("{ready:?}"))?;
    insist(ask(&["--health"])?.0 == Some(0), || "it is ready and not live".to_owned())?;
    // Settings that can't be read are no health either: 1, as container engines want it.
    let wrong = ask(&["--health", "--set", "admin.listen=nowhere"])?;
    insist(wrong.0 == Some(1) && wrong.1.contains("PLT-0105"), || format!("{wrong:?}"))?;
    fleet.terminate_any()?;
    insist(ask(&["--health"])?.0 == Some(1), || "it has ended and is live".to_owned())
}

fn shows() -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    let plan = RigPlan {
        partitions: PARTITIONS,
        slow_one_in: 1,
        slow: Duration::from_millis(10),
        ..RigPlan::default()
    };
    let rig = Rig::new(kafka, plan)?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let input = rig.names().input.clone();
    let worker = &fleet.workers()[0];
    wait_for("all partitions running", PATIENCE, || {
        worker.running().ok().filter(|running| i32::try_from(*running) == Ok(PARTITIONS))
    })?;
    for path in ["/livez", "/readyz", "/startupz"] {
        let answer = worker.ask(path)?;
        let says_so = answer.body.contains(r#""ok":true"#);
        insist(answer.status == 200 && says_so, || format!("{path}: {answer:?}"))?;
    }

    // Old records, three partitions, unevenly: what is behind is seen where it is.
    let old = milliseconds_ago(60_000)?;
    let counts = [500, 200, 0];
    for (partition, count) in (0..).zip(counts) {
        let record =
            NewRecord { timestamp: Some(old), ..login(&format!("user-{partition}"), partition) };
        kafka.produce(&input, &vec![record; count])?;
    }
    let lag = |metrics: &Answer, partition: i32| of(metrics, "pelton_lag_records", partition);
    let seconds = |metrics: &Answer, partition: i32| of(metrics, "pelton_lag_seconds", partition);
    let behind = wait_for("lag in the first two partitions", PATIENCE, || {
        let metrics = worker.ask("/metrics").ok()?;
        let records = lag(&metrics, 0)? > 0.0 && lag(&metrics, 1)? > 0.0;
        (records && seconds(&metrics, 0)? > 0.0 && seconds(&metrics, 1)? > 0.0).then_some(metrics)
    })?;
    for partition in [0, 1] {
        // The oldest unfinished record is a minute old.
        let age = seconds(&behind, partition).unwrap_or(0.0);
        insist((60.0..200.0).contains(&age), || format!("partition {partition}: {age} s"))?;
        // The parts fit together.
        let [end, committed, lag] =
            ["pelton_end_offset", "pelton_committed_offset", "pelton_lag_records"]
                .map(|name| of(&behind, name, partition).unwrap_or(-1.0));
        let fits = (end - committed - lag).abs() < 0.5 && committed >= 0.0;
        insist(fits, || format!("partition {partition}: {end} - {committed} is not {lag}"))?;
    }
    insist(lag(&behind, 2) == Some(0.0) && seconds(&behind, 2) == Some(0.0), || {
        format!("the idle partition is behind:\n{}", behind.body)
    })?;
    insist(lag(&behind, 0) <= Some(500.0), || behind.body.clone())?;

    rig.wait_until_handled(PATIENCE)?;
    wait_for("no lag", PATIENCE, || no_lag(worker))?;
    let metrics = worker.ask("/metrics")?;
    for (partition, count) in (0..).zip(counts) {
        let labels = [("partition", &*partition.to_string()), ("outcome", "done")];
        let done = metrics.metric("pelton_records_total", &labels);
        let count = f64::from(u32::try_from(count)?);
        insist(done == Some(count), || format!("partition {partition}: {done:?} done"))?;
        let committed = of(&metrics, "pelton_committed_offset", partition);
        insist(committed == Some(count), || format!("{committed:?}, not {count}"))?;
    }
    insist_on_exact(&rig.finish(fleet)?)
}

fn no_lag(worker: &WorkerProcess) -> Option<()> {
    let metrics = worker.ask("/metrics").ok()?;
    let names = ["pelton_lag_records", "pelton_lag_seconds", "pelton_buffered_records"];
    let mut all = names.iter().flat_map(|name| (0..PARTITIONS).map(|p| of(&metrics, name, p)));
    all.all(|value| value == Some(0.0)).then_some(())
}

/// The sample of one of the input's partitions; the group has no other input.
fn of(metrics: &Answer, name: &str, partition: i32) -> Option<f64> {
    metrics.metric(name, &[("partition", &partition.to_string())])
}

/// Records carry the wall clock.
#[expect(clippy::disallowed_methods, reason = "a record's timestamp is wall-clock time")]
fn milliseconds_ago(milliseconds: i64) -> Result<i64, Failed> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_millis())? - milliseconds)
}
