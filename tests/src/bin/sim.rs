//! `cargo sim`: whole workers in virtual time, thousands of seeds, every one with faults.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use clap::Parser;
use pelton::{Alarm, Bug};
use pelton_testkit::sim::{Figures, Outcome, Plan, Simulator};
use pelton_tests::Deadline;

/// Runs whole workers on a model of Kafka in virtual time, with faults, and judges them.
///
/// Each seed stands for a topology, a load and a schedule of faults. The same seed gives the same
/// run, byte for byte.
#[derive(Debug, Parser)]
#[command(after_help = "Examples:\n  \
    cargo sim --seeds 10000            all promises, over ten thousand runs\n  \
    cargo sim --seed 4711              one run, and what it showed\n  \
    cargo sim --seed 4711 --trace      every request, answer and step of it\n  \
    cargo sim --planted-bugs           is every known bug caught?\n  \
    cargo sim --seeds 1000 --twice     is the same seed the same run?")]
struct CommandLine {
    /// So many seeds.
    #[arg(long, default_value_t = 1_000, conflicts_with = "seed")]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    from: u64,
    /// One seed; says what it stands for and what it showed.
    #[arg(long)]
    seed: Option<u64>,
    /// With `--seed`: leaves out every fault that its failure does not need.
    #[arg(long, requires = "seed")]
    shrink: bool,
    /// With `--seed`: prints everything that happened.
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Runs each seed twice and compares the traces, byte for byte.
    #[arg(long)]
    twice: bool,
    /// Plants every known bug, one after the other, and counts the seeds until it is caught.
    #[arg(long, conflicts_with = "seed")]
    planted_bugs: bool,
    /// Plants this bug.
    #[arg(long, value_parser = bug)]
    bug: Option<Bug>,
    /// Seeds that run at the same time.
    #[arg(long, default_value_t = jobs())]
    jobs: usize,
    /// Goes on after the first failing seed, up to so many.
    #[arg(long, default_value_t = 1)]
    failures: usize,
}

fn bug(name: &str) -> Result<Bug, String> {
    Bug::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Bug::ALL.iter().map(|bug| bug.name()).collect();
        format!("there is no such bug; known are: {}", names.join(", "))
    })
}

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

fn main() -> ExitCode {
    // A handler that panics as its record says is no news.
    std::panic::set_hook(Box::new(|_| {}));
    let line = CommandLine::parse();
    let clean = match (line.seed, line.planted_bugs) {
        (Some(seed), _) => one(&line, seed),
        (None, true) => planted(&line),
        (None, false) => many(&line),
    };
    if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Replays a seed.
fn one(line: &CommandLine, seed: u64) -> bool {
    let mut simulator = Simulator::counter().plant(line.bug);
    if line.trace {
        simulator = simulator.trace();
    }
    let mut plan = Plan::of(seed);
    if line.shrink {
        plan = simulator.shrink(&plan);
    }
    let outcome = watched(seed, line.bug, || simulator.run_plan(&plan));
    if line.trace {
        say(&outcome.trace());
    }
    say(&outcome.to_string());
    outcome.is_clean()
}

/// What a seed showed, as far as the summary needs it.
struct Seen {
    seed: u64,
    figures: Figures,
    clean: bool,
    same: bool,
}

/// Runs `seeds` over `jobs` threads; `hear` gets each as it ends, and says whether to go on.
fn each(
    seeds: std::ops::Range<u64>,
    jobs: usize,
    run: impl Fn(u64) -> Seen + Sync,
    mut hear: impl FnMut(Seen) -> bool,
) {
    let (next, stop) = (AtomicU64::new(seeds.start), AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (tell, next, stop, run) = (tell.clone(), &next, &stop, &run);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || tell.send(run(seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(tell);
        for seen in told {
            if !hear(seen) {
                stop.store(true, Ordering::Relaxed);
            }
        }
    });
}

/// A seed takes some hundredths of a second.
const LONG: Duration = Duration::from_secs(30);

/// Runs a seed, and names it when it takes long: code that never waits holds virtual time still,
/// and then the run says nothing by itself.
fn watched(seed: u64, bug: Option<Bug>, run: impl FnOnce() -> Outcome) -> Outcome {
    let (ended, end) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            if end.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
                say_on_the_side(&format!(
                    "\nnot ended after {LONG:?}: cargo sim --seed {seed}{}; does a task never wait?\n",
                    argument(bug)
                ));
            }
        });
        let outcome = run();
        drop(ended);
        outcome
    })
}

/// A planted bug as the command line names it.
fn argument(bug: Option<Bug>) -> String {
    bug.map_or_else(String::new, |bug| format!(" --bug {}", bug.name()))
}

fn many(line: &CommandLine) -> bool {
    const ERA: Duration = Duration::from_secs(86_400);
    let mut simulator = Simulator::counter().plant(line.bug);
    if line.twice {
        simulator = simulator.trace();
    }
    let run = |seed| {
        let run = || watched(seed, line.bug, || simulator.run(seed));
        let outcome = run();
        let same = !line.twice || outcome.trace() == run().trace();
        Seen { seed, figures: outcome.figures, clean: outcome.is_clean(), same }
    };
    let begun = Deadline::after(ERA);
    let passed = || ERA.saturating_sub(begun.left()).as_secs_f64().max(0.001);
    let (mut all, mut failing, mut unequal) = (Vec::new(), Vec::new(), Vec::new());
    each(line.from..line.from + line.seeds, line.jobs, run, |seen| {
        if !seen.clean {
            failing.push(seen.seed);
        }
        if !seen.same {
            unequal.push(seen.seed);
        }
        all.push(seen.figures);
        let done = all.len();
        if std::io::stderr().is_terminal() || done.is_multiple_of(500) {
            progress(done, line.seeds, passed(), failing.len());
        }
        failing.len() + unequal.len() < line.failures
    });
    if std::io::stderr().is_terminal() {
        say_on_the_side("\n");
    }
    let time = passed();
    say(&format!(
        "{} seeds in {time:.1} s, {:.0} a second, {} at a time",
        all.len(),
        all.len() as f64 / time,
        line.jobs
    ));
    distribution(&all);
    for seed in &unequal {
        say(&format!("seed {seed}: two runs differ"));
    }
    failing.sort_unstable();
    for seed in failing.iter().take(line.failures) {
        explain(line, *seed);
    }
    let clean = failing.is_empty() && unequal.is_empty();
    if clean {
        say(if line.twice { "0 violations, each seed twice the same" } else { "0 violations" });
    }
    clean
}

/// The median and the ends of what seeds were.
fn distribution(all: &[Figures]) {
    let row = |name: &str, of: &dyn Fn(&Figures) -> f64| {
        let mut values: Vec<_> = all.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let at = |share: f64| {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
            let index = (share * values.len().saturating_sub(1) as f64).round() as usize;
            values.get(index).copied().unwrap_or(0.0)
        };
        say(&format!(
            "  {name:16} min {:>6.0}   p10 {:>6.0}   median {:>6.0}   p90 {:>6.0}   max {:>6.0}",
            at(0.0),
            at(0.1),
            at(0.5),
            at(0.9),
            at(1.0)
        ));
    };
    row("records", &|figures| figures.records as f64);
    row("workers", &|figures| figures.workers as f64);
    row("faults", &|figures| f64::from(figures.faults));
    row("virtual seconds", &|figures| figures.virtual_time.as_secs_f64());
}

/// A failing seed: what it is without all that it does not need, and what went wrong.
fn explain(line: &CommandLine, seed: u64) {
    let simulator = Simulator::counter().plant(line.bug);
    let plan = Plan::of(seed);
    let smallest = simulator.shrink(&plan);
    let (all, enough) = (plan.faults.len(), smallest.faults.len());
    say(&format!("\nseed {seed} fails; of its {all} faults {enough} are enough:"));
    say(&simulator.run_plan(&smallest).to_string());
    let bug = argument(line.bug);
    say(&format!("\nevery step of it: cargo sim --seed {seed}{bug} --shrink --trace"));
}

/// What became of a planted bug.
struct Caught {
    bug: Bug,
    /// So many seeds it took, and who cried.
    by: Option<(u64, String)>,
    /// The same seed cries without the bug: that proves nothing.
    clean_cries: bool,
}

/// Plants every bug that whole workers can show, and prints the table.
fn planted(line: &CommandLine) -> bool {
    let (inside, whole): (Vec<Bug>, Vec<Bug>) =
        Bug::ALL.iter().partition(|bug| *bug.cries() == [Alarm::Engine]);
    let bugs = line.bug.map_or(whole, |bug| vec![bug]);
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..line.jobs.max(1) {
            scope.spawn(|| {
                while let Some(bug) = bugs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let caught = catch(*bug, line.from..line.from + line.seeds);
                    let mut rows = rows.lock().unwrap_or_else(PoisonError::into_inner);
                    rows.push(caught);
                    say_on_the_side(&format!(
                        "\r{} of {} bugs {:34}",
                        rows.len(),
                        bugs.len(),
                        bug.name()
                    ));
                }
            });
        }
    });
    say_on_the_side("\n");
    let mut rows = rows.into_inner().unwrap_or_else(PoisonError::into_inner);
    rows.sort_by_key(|row| row.bug);
    table(&rows);
    let caught = rows.iter().filter(|row| row.is_caught()).count();
    say(&format!("{caught} of {} bugs caught within {} seeds each", rows.len(), line.seeds));
    if line.bug.is_none() {
        let names: Vec<_> = inside.iter().map(|bug| bug.name()).collect();
        say(&format!("only the engine's own tests can show: {}", names.join(", ")));
    }
    caught == rows.len()
}

/// Bug, the invariant that it breaks, the seeds that it took, and who cried.
fn table(rows: &[Caught]) {
    say(&format!("{:34} {:>6} {:>6}  cried", "bug", "breaks", "seeds"));
    for row in rows {
        let (seeds, cry) = match &row.by {
            Some((seeds, cry)) => (seeds.to_string(), cry.as_str()),
            None => ("-".to_owned(), "NOT CAUGHT: nobody"),
        };
        let also = if row.clean_cries { ", and without the bug too: proves nothing" } else { "" };
        let breaks = format!("INV-{}", row.bug.breaks());
        say(&format!("{:34} {breaks:>6} {seeds:>6}  {cry}{also}", row.bug.name()));
    }
}

impl Caught {
    fn is_caught(&self) -> bool {
        self.by.is_some() && !self.clean_cries
    }
}

fn catch(bug: Bug, seeds: std::ops::Range<u64>) -> Caught {
    let simulator = Simulator::counter().plant(Some(bug));
    let first = seeds.start;
    for seed in seeds {
        if let Some(cry) = watched(seed, Some(bug), || simulator.run(seed)).cry() {
            let clean = watched(seed, None, || Simulator::counter().run(seed));
            let clean_cries = !clean.is_clean();
            return Caught { bug, by: Some((seed - first + 1, cry)), clean_cries };
        }
    }
    Caught { bug, by: None, clean_cries: false }
}

fn progress(done: usize, of: u64, time: f64, failing: usize) {
    let rate = done as f64 / time;
    say_on_the_side(&format!("\r{done} of {of} seeds, {rate:.0} a second, {failing} failing "));
}

fn say(text: &str) {
    // Nobody may be there to read it.
    let _closed = writeln!(std::io::stdout(), "{text}").is_err();
}

fn say_on_the_side(text: &str) {
    let mut side = std::io::stderr();
    let _closed = side.write_all(text.as_bytes()).and_then(|()| side.flush()).is_err();
}
