//! What happens, in which order?
//!
//! One worker takes all partitions · the replay begins · after a quarter of it the other workers
//! come · after five eighths the first one goes · when all is counted the rest go, and the totals
//! are judged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use indicatif::HumanCount;
use load_generator::Status;

use crate::demo::arguments::Arguments;
use crate::demo::build;
use crate::demo::error::DemoError;
use crate::demo::input::Input;
use crate::demo::screen::{Paint, Screen};
use crate::demo::stage::Stage;
use crate::demo::venue::Venue;
use crate::demo::verdict::{Verdict, read_totals};
use crate::demo::worker::Life;

/// How long the replay takes if no rate is given.
const REPLAY_SECONDS: f64 = 20.0;
/// How long a worker may take to end.
const SHUTDOWN: Duration = Duration::from_secs(30);

/// Shows the demo; says whether every total was true.
pub(super) fn tell(arguments: &Arguments) -> Result<bool, DemoError> {
    let input = Input::read(arguments.input.as_deref(), arguments.format, arguments.partitions)?;
    if arguments.kafka.is_none() {
        input.check_room(if arguments.kill { 2 } else { 1 })?;
    }
    let interrupted = stop_on_signals()?;
    let screen = Screen::new();
    let program = match &arguments.login_counter {
        Some(program) => program.clone(),
        None => build::login_counter()?,
    };
    let logs =
        tempfile::Builder::new().prefix("pelton-demo-").tempdir().map_err(DemoError::Logs)?;
    let venue = Venue::open(arguments.kafka.as_deref(), arguments.partitions)?;
    let rate = arguments.rate.unwrap_or_else(|| watchable_rate(input.len()));
    screen.say(&headline(&input, &venue, rate, screen.paint()));
    let mut stage = Stage::new(Arc::new(input), venue, program, logs.path(), screen, interrupted);
    let result = play(&mut stage, arguments, rate);
    stage.clear_screen();
    let truth = result.and_then(|allowed| judge(&stage, &allowed));
    finish(stage, logs, truth)
}

/// Ends the workers, then clears away what a good run leaves, and names what a bad one leaves.
fn finish(
    mut stage: Stage,
    logs: tempfile::TempDir,
    truth: Result<bool, DemoError>,
) -> Result<bool, DemoError> {
    stage.end();
    match &truth {
        Ok(true) | Err(DemoError::Interrupted) => stage.venue.clear_away()?,
        Ok(false) | Err(_) => {
            stage.say(&format!("\n  the workers' logs are in {}", logs.keep().display()));
            if !stage.venue.is_embedded() {
                let (group, topic) = (&stage.venue.group, &stage.venue.input);
                stage.say(&format!(
                    "  group {group} and its topics, as {topic}, are left as they are"
                ));
            }
        }
    }
    truth
}

/// Plays all scenes; answers how many repeats a kill explains, by user.
fn play(
    stage: &mut Stage,
    arguments: &Arguments,
    rate: f64,
) -> Result<BTreeMap<String, u64>, DemoError> {
    let total = stage.input().len();
    let patience = stage.venue.patience();

    stage.start_worker()?;
    stage.tell("worker-1 starts, alone");
    stage.until("worker-1 runs every partition", patience, Stage::is_shared)?;

    stage.start_sending(rate);
    let replay = Duration::try_from_secs_f64(total as f64 / rate).unwrap_or(Duration::MAX);
    let replay = replay.saturating_add(patience);
    stage.until("a quarter is sent", replay, |stage| stage.delivered() >= total / 4)?;
    for _ in 1..arguments.workers {
        stage.start_worker()?;
    }
    stage.tell(&match arguments.workers {
        2 => "worker-2 joins".to_owned(),
        3 => "worker-2 and worker-3 join".to_owned(),
        last => format!("worker-2 to worker-{last} join"),
    });
    stage.until("every worker runs partitions", patience, Stage::is_shared)?;

    stage.until("five eighths are sent", replay, |stage| stage.delivered() >= total / 8 * 5)?;
    let allowed = if arguments.kill { kill_first(stage)? } else { stop_first(stage)? };

    stage.until("every login is counted", replay, |stage| {
        stage.delivered() == total && stage.all_counted()
    })?;
    stage.tell("every login is counted; the rest leave");
    for worker in stage.workers.iter_mut().filter(|worker| worker.life == Life::Alive) {
        worker.stop()?;
    }
    stage.until("every worker has ended", SHUTDOWN, all_gone)?;
    Ok(allowed)
}

fn all_gone(stage: &Stage) -> bool {
    stage.workers.iter().all(|worker| worker.life == Life::Ended)
}

/// The first worker is asked to go, and goes.
fn stop_first(stage: &mut Stage) -> Result<BTreeMap<String, u64>, DemoError> {
    stage.tell("worker-1 is asked to stop (SIGTERM)");
    stage.workers[0].stop()?;
    stage.until("worker-1 has ended", SHUTDOWN, |stage| stage.workers[0].life == Life::Ended)?;
    stage.until("the others run its partitions", stage.venue.patience(), Stage::is_shared)?;
    Ok(BTreeMap::new())
}

/// The first worker is killed. What it may have counted without a commit is what others count
/// again: the logins between what is committed and what had been sent, in its partitions.
fn kill_first(stage: &mut Stage) -> Result<BTreeMap<String, u64>, DemoError> {
    let owned: Vec<_> = stage.workers[0].partitions.iter().map(|p| p.partition).collect();
    stage.workers[0].kill()?;
    let (ends, committed) = (stage.input().ends(stage.sent()), stage.venue.committed()?);
    let mut allowed = BTreeMap::new();
    for partition in owned.into_iter().filter_map(|partition| usize::try_from(partition).ok()) {
        let (from, to) = (committed[partition], ends[partition]);
        for login in stage.input().between(partition, from, to) {
            if login.status == Status::Success {
                *allowed.entry(login.user.clone()).or_insert(0) += 1;
            }
        }
    }
    stage.tell(&format!(
        "worker-1 is killed (SIGKILL): {} successful logins uncommitted, its session lasts {} s",
        allowed.values().sum::<u64>(),
        stage.venue.session_timeout().as_secs()
    ));
    let limit = stage.venue.patience() + stage.venue.session_timeout();
    stage.until("the others run its partitions", limit, Stage::is_shared)?;
    Ok(allowed)
}

/// Compares and shows.
fn judge(stage: &Stage, allowed: &BTreeMap<String, u64>) -> Result<bool, DemoError> {
    const TOP: usize = 10;
    let paint = stage.paint();
    let input = stage.input();
    let verdict = Verdict::compare(&input.truth, &read_totals(&stage.venue)?, allowed);
    let committed = stage.venue.committed()? == input.ends(input.len());
    let wrong = verdict.users.iter().filter(|user| !user.is_true());
    let name =
        verdict.users.iter().map(|user| user.user.chars().count()).max().unwrap_or(0).clamp(8, 32);

    stage.say(
        &paint.dim(&format!("\n  {:name$}  {:>8}  {:>8}", "top users", "in input", "counted")),
    );
    let rows = verdict.users.iter().take(TOP).chain(
        wrong.clone().filter(|user| !verdict.users[..TOP.min(verdict.users.len())].contains(user)),
    );
    for user in rows {
        let (count, total) =
            (HumanCount(user.count).to_string(), HumanCount(user.total).to_string());
        let mark = match (user.is_true(), user.total == user.count) {
            (true, true) => paint.good("✓"),
            (true, false) => paint.good("✓ with repeats that the kill explains"),
            (false, _) => paint.bad("✗"),
        };
        let shown = if user.user.is_empty() { "(empty)" } else { &user.user };
        stage.say(&format!("  {shown:name$}  {count:>8}  {total:>8}  {mark}"));
    }
    let others = verdict.users.len().saturating_sub(TOP);
    if others > 0 && wrong.clone().next().is_none() {
        stage.say(&paint.dim(&format!("  and {others} more, all compared")));
    }
    let figure = |figure: u64, good: bool| {
        let text = HumanCount(figure).to_string();
        if good { paint.good(&text) } else { paint.bad(&text) }
    };
    stage.say(&format!("\n  records lost        {}", figure(verdict.lost, verdict.lost == 0)));
    let repeated = figure(verdict.duplicated, verdict.explained);
    let at_most = allowed.values().sum::<u64>();
    let why = if allowed.is_empty() {
        String::new()
    } else {
        format!(" (the kill explains up to {at_most})")
    };
    stage.say(&format!("  records duplicated  {repeated}{why}"));
    if !committed {
        stage.say(&paint.bad("  the group has not committed every login"));
    }
    let good = verdict.is_true() && committed;
    let closing = format!(
        "{} logins, {} of them successful, {} users, {:.0} s",
        HumanCount(input.truth.logins()),
        HumanCount(input.truth.successes()),
        input.truth.users().len(),
        stage.elapsed().as_secs_f64()
    );
    stage.say(&match good {
        true => format!("\n  {} {closing}\n", paint.good("✓ every user's total is true:")),
        false => format!("\n  {} {closing}\n", paint.bad("✗ not every total is true:")),
    });
    Ok(good)
}

fn headline(input: &Input, venue: &Venue, rate: f64, paint: Paint) -> String {
    let place = if venue.is_embedded() { "an embedded cluster" } else { "Kafka" };
    format!(
        "\n  {}\n  {} logins of {} users from {}, {rate:.0} a second\n  {place} at {}, {} partitions\n  group {} (KIP-848)\n ",
        paint.bold("Pelton: workers count successful logins per user"),
        HumanCount(input.truth.logins()),
        input.truth.users().len(),
        input.name,
        venue.bootstrap_servers,
        venue.partitions,
        venue.group
    )
}

fn watchable_rate(logins: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 logins")]
    let rate = logins as f64 / REPLAY_SECONDS;
    rate.max(1.0)
}

/// Set by SIGINT, SIGTERM or SIGHUP; a second one ends the process.
fn stop_on_signals() -> Result<Arc<AtomicBool>, DemoError> {
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))
            .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&stop)))
            .map_err(DemoError::Signals)?;
    }
    Ok(stop)
}
