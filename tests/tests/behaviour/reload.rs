//! What may be changed about a worker while it runs? SIGHUP makes it read its settings again: it
//! pauses, slows down, logs more or less, and stays in its group with all that it owns.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use libtest_mimic::Failed;
use nix::sys::signal::Signal;
use pelton_tests::{
    Cluster, Fleet, KafkaCluster, LoadPlan, Login, Rig, RigPlan, Right, SecureKafka, Stopwatch,
    Trial, WorkerProcess, trials, wait_for,
};

use crate::{embedded, embedded_plan, insist, insist_on_exact, say};

const PATIENCE: Duration = Duration::from_secs(40);

/// Longer than the session of a member: who falls silent is put out of the group by then.
const BEYOND_THE_SESSION: Duration = Duration::from_secs(8);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("a_topic_is_paused_and_resumed_without_a_rebalance", pauses),
        Trial::new("pauses_amid_rebalances_lose_and_repeat_nothing::embedded", || {
            storm(&embedded()?, embedded_plan())
        }),
        trials::on_kafka("pauses_amid_rebalances_lose_and_repeat_nothing::kafka", || {
            storm(KafkaCluster::shared(1)?, RigPlan::default())
        }),
        Trial::new("a_worker_is_slowed_down_while_it_runs", slows_down),
        Trial::new("the_log_filter_changes_while_a_worker_runs", filters),
        Trial::new("settings_that_can_not_be_used_change_nothing", refuses),
        Trial::new("settings_are_read_again_before_a_worker_has_joined", before_joining),
        Trial::new("sighup_during_a_shutdown_is_no_second_signal_to_end", while_ending),
        trials::on_our_own_nodes("a_rotated_password_is_used_without_a_restart", rotates).heavy(),
    ]
}

/// The settings file of a run; it is replaced as editors and Kubernetes do it.
struct SettingsFile {
    folder: tempfile::TempDir,
}

impl SettingsFile {
    fn new(text: &str) -> Result<Self, Failed> {
        let file = Self { folder: tempfile::tempdir()? };
        file.write(text)?;
        Ok(file)
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("pelton.toml")
    }

    fn write(&self, text: &str) -> Result<(), Failed> {
        let new = self.folder.path().join("new.toml");
        fs::write(&new, text)?;
        Ok(fs::rename(new, self.path())?)
    }

    fn plan(&self) -> RigPlan {
        self.of(RigPlan { slow_one_in: 0, ..embedded_plan() })
    }

    fn of(&self, plan: RigPlan) -> RigPlan {
        RigPlan { file: Some(self.path()), ..plan }
    }
}

/// Until a process has said what it does with signals, the system ends it at SIGHUP.
fn wait_until_listening(worker: &WorkerProcess) -> Result<(), Failed> {
    Ok(wait_for("a worker that listens", PATIENCE, || {
        worker.log().contains("admin endpoint").then_some(())
    })?)
}

/// Sends SIGHUP and waits until the log says `what` once more than before.
fn hang_up(worker: &WorkerProcess, what: &str) -> Result<(), Failed> {
    let said = || worker.log().matches(what).count();
    let before = said();
    worker.signal(Signal::SIGHUP)?;
    let heard = wait_for(what, PATIENCE, || (said() > before).then_some(()));
    heard.map_err(|error| format!("{error}\n{}", worker.log()).into())
}

/// The sum of a metric's samples over all workers.
fn sum(fleet: &Fleet, name: &str) -> Result<f64, Failed> {
    let mut all = 0.0;
    for worker in fleet.workers() {
        let metrics = worker.ask("/metrics")?;
        let samples = metrics.body.lines().filter_map(|line| {
            let (series, value) = line.rsplit_once(' ')?;
            series.strip_prefix(name)?.starts_with('{').then(|| value.parse::<f64>().ok())?
        });
        all += samples.sum::<f64>();
    }
    Ok(all)
}

/// Records that handlers have seen, every attempt counted.
fn handled(fleet: &Fleet) -> Result<f64, Failed> {
    sum(fleet, "pelton_records_total")
}

fn wait_for_shares(fleet: &Fleet, each: usize) -> Result<(), Failed> {
    let shared = wait_for("shared partitions", PATIENCE, || {
        let share = |worker: &WorkerProcess| worker.running().is_ok_and(|running| running == each);
        fleet.workers().iter().all(share).then_some(())
    });
    Ok(shared?)
}

/// Waits until the workers handle nothing any more; how much they have handled.
fn wait_for_rest(fleet: &Fleet) -> Result<f64, Failed> {
    let mut before = -1.0;
    let rest = wait_for("rest", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(300)); // of what is at rest, two looks are alike
        let now = handled(fleet).ok()?;
        let same = (std::mem::replace(&mut before, now) - now).abs() < 0.5;
        same.then_some(now)
    });
    Ok(rest?)
}

/// Two workers under load: paused for longer than a session lasts, they keep what they own.
fn pauses() -> Result<(), Failed> {
    let cluster = embedded()?;
    let file = SettingsFile::new("")?;
    let rig = Rig::new(&cluster, file.plan())?;
    let mut fleet = rig.fleet();
    fleet.start(2)?;
    let load = rig.load(LoadPlan::at_rate(300))?;
    rig.wait_until_begun(PATIENCE)?;
    wait_for_shares(&fleet, 3)?;
    let rebalances = sum(&fleet, "pelton_rebalances_total")?;

    file.write(&format!("paused_topics = [\"{}\"]", rig.names().input))?;
    for worker in fleet.workers() {
        hang_up(worker, "paused_topics [] → [")?;
    }
    wait_for("everything paused", PATIENCE, || {
        sum(&fleet, "pelton_paused").is_ok_and(|paused| paused > 5.5).then_some(())
    })?;
    let (before, sent, watch) = (wait_for_rest(&fleet)?, load.sent(), Stopwatch::start());
    wait_for("more than a session", 3 * BEYOND_THE_SESSION, || {
        (watch.elapsed() > BEYOND_THE_SESSION).then_some(())
    })?;
    let after = handled(&fleet)?;
    insist((after - before).abs() < 0.5, || format!("{before}, then {after} handled in a pause"))?;
    insist(load.sent() > sent + 500, || format!("only {} were sent", load.sent() - sent))?;
    for worker in fleet.workers() {
        let partitions = worker.partitions()?;
        let paused = partitions.iter().all(|partition| partition.paused);
        insist(paused && partitions.len() == 3, || format!("{partitions:?}"))?;
        insist(worker.ask("/readyz")?.status == 200, || worker.log())?;
    }

    file.write("")?;
    for worker in fleet.workers() {
        hang_up(worker, "] → []")?;
    }
    rig.wait_until_caught_up(PATIENCE)?;
    load.stop()?;
    rig.wait_until_handled(PATIENCE)?;
    let now = sum(&fleet, "pelton_rebalances_total")?;
    insist((now - rebalances).abs() < 0.5, || format!("{rebalances} rebalances, then {now}"))?;
    insist_on_exact(&rig.finish(fleet)?)
}

/// Workers come and go while the topic is paused and resumed, in the middle of records, of drains
/// and of restores.
fn storm<C: Cluster>(cluster: &C, plan: RigPlan) -> Result<(), Failed> {
    let file = SettingsFile::new("")?;
    let plan = RigPlan { slow_one_in: 20, drain: Duration::from_millis(300), ..plan };
    let rig = Rig::new(cluster, file.of(plan))?;
    let mut fleet = rig.fleet();
    fleet.start(2)?;
    let load = rig.load(LoadPlan::at_rate(400))?;
    rig.wait_until_begun(PATIENCE)?;
    let pause =
        format!("paused_topics = [\"{}\"]\nmax_records_per_second = 700", rig.names().input);
    let tell = |fleet: &Fleet, text: &str| -> Result<(), Failed> {
        file.write(text)?;
        Ok(fleet.workers().iter().try_for_each(|worker| worker.signal(Signal::SIGHUP))?)
    };
    for round in 0..6 {
        tell(&fleet, &pause)?;
        wait_until_listening(fleet.launch(&[])?)?; // finds itself paused
        tell(&fleet, if round % 2 == 0 { "" } else { "max_records_per_second = 900" })?;
        let newest = fleet.workers().last().ok_or("nobody")?;
        newest.wait_until_joined()?;
        tell(&fleet, &pause)?;
        fleet.terminate_any()?;
        tell(&fleet, "")?;
        rig.wait_until_caught_up(PATIENCE)?;
    }
    load.stop()?;
    let outcome = rig.finish(fleet)?;
    say(&outcome.to_string());
    insist_on_exact(&outcome)
}

/// Fifty signals in a row, and then one worker handles no more than it may.
fn slows_down() -> Result<(), Failed> {
    let cluster = embedded()?;
    let file = SettingsFile::new("")?;
    let rig = Rig::new(&cluster, file.plan())?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(400))?;
    rig.wait_until_begun(PATIENCE)?;
    for rate in 1..=50 {
        file.write(&format!("max_records_per_second = {rate}"))?;
        fleet.workers()[0].signal(Signal::SIGHUP)?;
    }
    wait_for("the last of the rates", PATIENCE, || {
        fleet.workers()[0].log().contains("→ 50").then_some(())
    })?;
    let (before, watch) = (handled(&fleet)?, Stopwatch::start());
    let mut seconds = 0.0;
    let records = wait_for("200 records", PATIENCE, || {
        let records = handled(&fleet).ok()? - before;
        seconds = watch.elapsed().as_secs_f64();
        (records >= 200.0).then_some(records)
    })?;
    // Of a busy machine only the upper bound is sure.
    let most = seconds.mul_add(50.0, 10.0);
    insist(records <= most, || format!("{records} records in {seconds:.1} s"))?;
    insist(load.sent() > 500, || format!("only {} were sent", load.sent()))?;

    file.write("")?;
    hang_up(&fleet.workers()[0], "max_records_per_second 50 → (not set)")?;
    load.stop()?;
    insist_on_exact(&rig.finish(fleet)?)
}

/// One line says what changed; what is below the level is not seen any more.
fn filters() -> Result<(), Failed> {
    let cluster = embedded()?;
    let file = SettingsFile::new("")?;
    let rig = Rig::new(&cluster, file.plan())?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let worker = &fleet.workers()[0];
    hang_up(worker, "nothing changed")?;

    // What comes of it can be seen, but no line says so: it would be one of level info.
    file.write("log.filter = \"error\"")?;
    hang_up(worker, r#"changed=log.filter "info" → "error""#)?;
    let pause = format!("paused_topics = [\"{}\"]", rig.names().input);
    file.write(&format!("{pause}\nlog.filter = \"error\""))?;
    worker.signal(Signal::SIGHUP)?;
    wait_for("the pause", PATIENCE, || {
        let partitions = worker.partitions().ok()?;
        partitions.iter().all(|partition| partition.paused).then_some(())
    })?;
    insist(!worker.log().contains("paused_topics"), || worker.log())?;

    // Seen again under the filter that lets it through, and that filter shows more than before.
    file.write(&format!("{pause}\nlog.filter = \"pelton=debug\""))?;
    hang_up(worker, r#"changed=log.filter "error" → "pelton=debug""#)?;
    file.write("")?;
    hang_up(worker, "DEBUG pelton::reload")?;
    wait_for("the line that says so", PATIENCE, || {
        worker.log().contains("paused_topics [").then_some(())
    })?;
    rig.load(LoadPlan::at_rate(300))?.stop()?;
    insist_on_exact(&rig.finish(fleet)?)
}

fn refuses() -> Result<(), Failed> {
    let cluster = embedded()?;
    let file = SettingsFile::new("")?;
    let rig = Rig::new(&cluster, file.plan())?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(300))?;
    rig.wait_until_begun(PATIENCE)?;
    let worker = &fleet.workers()[0];
    for (text, code) in [
        ("paused_topics = [", "PLT-0103"),
        ("paused_topic = []", "PLT-0104"),
        ("max_poll_records = 0", "PLT-0105: `max_poll_records`"),
        ("paused_topics = [\"another\"]", "PLT-0105: `paused_topics`"),
        ("log.filter = \"inof\"", "PLT-0105: `log.filter`"),
    ] {
        file.write(&format!("max_records_per_second = 1\n{text}"))?;
        hang_up(worker, code)?;
    }
    fs::remove_file(file.path())?;
    hang_up(worker, "PLT-0101")?;
    file.write("max_poll_records = 77\n[login_counter]\non_invalid = \"skip\"")?;
    hang_up(worker, "login_counter.on_invalid \"stop\" → \"skip\", max_poll_records 500 → 77")?;
    insist(worker.log().contains("need a restart"), || worker.log())?;
    // Nothing of all this has slowed it down.
    rig.wait_until_caught_up(PATIENCE)?;
    insist(!worker.log().contains("taken over"), || worker.log())?;
    load.stop()?;
    insist_on_exact(&rig.finish(fleet)?)
}

/// Kafka is not there yet; the signal does not end the worker, and what it says holds from the
/// first record on.
fn before_joining() -> Result<(), Failed> {
    let cluster = embedded()?;
    let file = SettingsFile::new("")?;
    let rig = Rig::new(&cluster, file.plan())?;
    let mut fleet = rig.fleet();
    fleet.launch(&[("BOOTSTRAP_SERVERS", "127.0.0.1:1")])?;
    let worker = &fleet.workers()[0];
    wait_until_listening(worker)?;
    file.write(&format!("paused_topics = [\"{}\"]", rig.names().input))?;
    hang_up(worker, "paused_topics [] → [")?;
    insist(!worker.has_joined(), || worker.log())?;
    fleet.terminate(0)?;

    // As early as the other one, but this one joins: it must find the change that was left.
    file.write("")?;
    fleet.launch(&[])?;
    let worker = &fleet.workers()[0];
    wait_until_listening(worker)?;
    file.write(&format!("paused_topics = [\"{}\"]", rig.names().input))?;
    hang_up(worker, "paused_topics [] → [")?;
    rig.load(LoadPlan::at_rate(300))?.stop()?;
    worker.wait_until_joined()?;
    wait_for("paused partitions", PATIENCE, || {
        let partitions = worker.partitions().ok()?;
        let paused = partitions.iter().all(|partition| partition.paused);
        (partitions.len() == 6 && paused).then_some(())
    })?;
    let records = wait_for_rest(&fleet)?;
    insist(records < 500.0, || format!("{records} records before the pause"))?;
    file.write("")?;
    hang_up(&fleet.workers()[0], "] → []")?;
    insist_on_exact(&rig.finish(fleet)?)
}

/// The second SIGTERM ends a worker at once; SIGHUP must not be taken for one.
fn while_ending() -> Result<(), Failed> {
    let cluster = embedded()?;
    let file = SettingsFile::new("")?;
    let rig = Rig::new(&cluster, RigPlan { drain: Duration::from_secs(2), ..file.plan() })?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let worker = &fleet.workers()[0];
    worker.signal(Signal::SIGTERM)?;
    wait_for("the shutdown", PATIENCE, || {
        worker.log().contains("ending gracefully").then_some(())
    })?;
    for _ in 0..3 {
        worker.signal(Signal::SIGHUP)?;
    }
    let ended = fleet.wait_for_end(0, PATIENCE)?;
    insist(ended.status.success(), || format!("{}\n{}", ended.status, ended.log))?;
    insist(ended.log.contains("left in good order"), || ended.log.clone())
}

/// A new password is written into its file, and nobody is told: every client uses it for its next
/// connection, those that live and those made later. That the broker is restarted shows it: the
/// old password lets nobody in any more.
fn rotates() -> Result<(), Failed> {
    const PASSWORD: &str = "canary-new-0b61d4";
    let secure = SecureKafka::start()?;
    let file = secure.folder().join("password");
    fs::write(&file, SecureKafka::PASSWORD)?;
    let mut plan = secure.plan(RigPlan::default(), Login::Scram)?;
    plan.settings.retain(|(name, _)| name != "KAFKA__SASL_PASSWORD");
    let plan = plan
        .with("KAFKA__SASL_PASSWORD__FILE", &file.display().to_string())
        // The node's restart may take longer than the rig's session on a busy machine.
        .with("SESSION_TIMEOUT_MS", "30000");
    let rig = Rig::new(secure.kafka(), plan)?;
    secure.grant(&Right::of_a_counter(rig.names()))?;
    let mut fleet = rig.fleet();
    fleet.start(1)?;
    let load = rig.load(LoadPlan::at_rate(300))?;
    rig.wait_until_begun(PATIENCE)?;
    load.stop()?;
    rig.wait_until_handled(PATIENCE)?;

    secure.set_scram_password(PASSWORD)?;
    fs::write(&file, PASSWORD)?;
    let worker = &fleet.workers()[0];
    wait_for("the new password", PATIENCE, || {
        worker.log().contains("kafka.sasl.password (hidden) → (hidden)").then_some(())
    })?;
    secure.kafka().stop(1)?;
    secure.kafka().start_node(1)?;
    secure.kafka().wait_until_ready()?;

    // A second worker takes partitions over and gives them back: what it and the first one restore
    // from is read by new clients.
    let load = rig.load(LoadPlan::at_rate(300))?;
    rig.wait_until_caught_up(PATIENCE)?;
    fleet.start(1)?;
    rig.wait_until_caught_up(PATIENCE)?;
    fleet.terminate(1)?;
    rig.wait_until_caught_up(PATIENCE)?;
    load.stop()?;
    rig.wait_until_handled(PATIENCE)?;
    let log = fleet.workers()[0].log();
    insist(!log.contains("canary"), || "a password is in the log".to_owned())?;
    insist(!log.to_lowercase().contains("authentication fail"), || log.clone())?;
    insist_on_exact(&rig.finish(fleet)?)
}
