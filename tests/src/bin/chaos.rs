//! `cargo chaos SUITE`: the long forms of the whole-system suites, on real Apache Kafka.
//!
//! Rounds are appended to a results file as they end, so a run can be cut and resumed; only
//! rounds of the commit at hand count, and only those that could be carried out.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;
use pelton_tests::suites::results::{self, Line};
use pelton_tests::suites::{self, Round, Suite};
use pelton_tests::{KafkaCluster, Stopwatch, worker};

/// A suite is given up after so many rounds in a row that could not be carried out.
const ATTEMPTS: u32 = 3;

/// Runs the long form of a suite, or says what the suites have shown so far.
#[derive(Debug, Parser)]
#[command(
    after_help = "Without a suite, the sums of all results at this commit are printed. A run that \
    was cut goes on where it stopped. Times mean something only if nothing else runs on the machine."
)]
struct CommandLine {
    /// The suites to run; `all` runs every one. `--list` names them.
    suites: Vec<String>,
    /// Names the suites and says what each insists on.
    #[arg(long)]
    list: bool,
    /// Rounds in all, instead of the suite's own number.
    #[arg(long)]
    rounds: Option<u32>,
    /// One round more, with this seed: what a round's random choices are made from. Without it
    /// each round has a random one; all are printed, and kept with the results.
    #[arg(long, conflicts_with = "rounds")]
    seed: Option<u64>,
    /// Prints the results as a table in Markdown.
    #[arg(long)]
    table: bool,
    /// Prints the results of another commit than the one at hand.
    #[arg(long, conflicts_with = "suites")]
    commit: Option<String>,
    /// Where results are kept.
    #[arg(long, default_value = "target/chaos/results.jsonl")]
    results: PathBuf,
}

fn main() -> ExitCode {
    worker::run_if_asked();
    let line = CommandLine::parse();
    match run(&line) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::from(2)
        }
    }
}

fn run(line: &CommandLine) -> Result<bool, Box<dyn std::error::Error>> {
    if line.list {
        for suite in suites::ALL {
            say(&format!("{:26} {} rounds: {}", suite.name, suite.rounds, suite.about));
        }
        return Ok(true);
    }
    let all = line.suites.iter().any(|name| name == "all");
    for name in line.suites.iter().filter(|name| *name != "all") {
        if !suites::ALL.iter().any(|suite| suite.name == *name) {
            return Err(format!("there is no suite {name:?}; `--list` names them").into());
        }
    }
    let commit = line.commit.clone().unwrap_or_else(commit);
    for suite in suites::ALL.iter().filter(|s| all || line.suites.iter().any(|n| n == s.name)) {
        run_suite(suite, line, &commit)?;
    }
    let shown = results::read(&line.results, &commit)?;
    if line.table {
        say(&results::table(&shown, &commit));
    } else {
        say(&format!("\nresults at {commit}:\n{}", results::summary(&shown)));
    }
    let mut judged = shown.iter().filter(|line| line.was_carried_out);
    Ok(judged.all(|line| line.passed))
}

fn run_suite(
    suite: &Suite,
    line: &CommandLine,
    commit: &str,
) -> Result<(), Box<dyn std::error::Error>> {
    let done = results::read(&line.results, commit)?;
    let done = done.iter().filter(|line| line.suite == suite.name && line.was_carried_out);
    let mut done = u32::try_from(done.count()).unwrap_or(u32::MAX);
    let rounds = match line.seed {
        Some(_) => done.saturating_add(1),
        None => line.rounds.unwrap_or(suite.rounds),
    };
    if done >= rounds {
        say(&format!("{}: all {rounds} rounds are done at {commit}", suite.name));
        return Ok(());
    }
    let kafka = start(suite)?;
    let mut void = 0;
    while done < rounds {
        let round = done + 1;
        let seed = line.seed.unwrap_or_else(KafkaCluster::random);
        say(&format!("{}: round {round} of {rounds}, seed {seed} …", suite.name));
        let watch = Stopwatch::start();
        let shown = (suite.round)(&kafka, seed);
        let was_carried_out = shown.is_ok();
        let Round { passed, counts, samples_ms, text } = shown.unwrap_or_else(|error| Round {
            text: format!("the round could not be carried out: {error}"),
            ..Round::default()
        });
        let seconds = watch.elapsed().as_secs();
        say(&format!("{text}\n{seconds} s"));
        let (suite, commit) = (suite.name.to_owned(), commit.to_owned());
        let (seed, void_before) = (Some(seed), void);
        let shown = Line {
            suite,
            commit,
            round,
            passed,
            was_carried_out,
            seed,
            seconds,
            counts,
            samples_ms,
            text,
        };
        results::append(&line.results, &shown)?;
        (done, void) = if was_carried_out { (round, 0) } else { (done, void_before + 1) };
        if void == ATTEMPTS || (void > 0 && line.seed.is_some()) {
            return Err(format!(
                "{}: {void} rounds in a row could not be carried out",
                shown.suite
            )
            .into());
        }
    }
    Ok(())
}

fn start(suite: &Suite) -> Result<KafkaCluster, pelton_tests::ClusterError> {
    match suite.proxies {
        0 => KafkaCluster::start(suite.nodes),
        proxies => KafkaCluster::start_behind_proxies(suite.nodes, proxies),
    }
}

/// The commit at hand; results of a changed tree stand apart.
fn commit() -> String {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let head = git(&["rev-parse", "--short", "HEAD"]).unwrap_or_else(|| "no commit".to_owned());
    let changed = git(&["status", "--porcelain", "--untracked-files=no"]);
    if changed.is_some_and(|changed| !changed.is_empty()) { format!("{head}+") } else { head }
}

#[expect(clippy::print_stdout, reason = "a command line program")]
fn say(text: &str) {
    println!("{text}");
}
