//! `cargo chaos SUITE`: the long forms of the whole-system suites, on real Apache Kafka.
//!
//! Rounds are appended to a results file as they end, so a run can be cut and resumed; only
//! rounds of the commit at hand count.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::Parser;
use pelton_tests::suites::{self, Round, Suite};
use pelton_tests::{KafkaCluster, worker};
use serde::{Deserialize, Serialize};

/// Runs the long form of a suite, or says what the suites have shown so far.
#[derive(Debug, Parser)]
#[command(
    after_help = "Without a suite, the table of all results at this commit is printed. A run that \
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
    /// Where results are kept.
    #[arg(long, default_value = "target/chaos/results.jsonl")]
    results: PathBuf,
}

/// A line of the results file.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    suite: String,
    commit: String,
    round: u32,
    passed: bool,
    counts: BTreeMap<String, u64>,
    samples_ms: BTreeMap<String, Vec<f64>>,
    text: String,
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
    let commit = commit();
    let all = line.suites.iter().any(|name| name == "all");
    for name in line.suites.iter().filter(|name| *name != "all") {
        if !suites::ALL.iter().any(|suite| suite.name == *name) {
            return Err(format!("there is no suite {name:?}; `--list` names them").into());
        }
    }
    for suite in suites::ALL.iter().filter(|s| all || line.suites.iter().any(|n| n == s.name)) {
        let rounds = line.rounds.unwrap_or(suite.rounds);
        run_suite(suite, rounds, &commit, &line.results)?;
    }
    let results = read(&line.results, &commit)?;
    table(&results, &commit);
    Ok(results.iter().all(|line| line.passed))
}

fn run_suite(
    suite: &Suite,
    rounds: u32,
    commit: &str,
    results: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let done = read(results, commit)?.iter().filter(|line| line.suite == suite.name).count();
    let done = u32::try_from(done).unwrap_or(u32::MAX);
    if done >= rounds {
        say(&format!("{}: all {rounds} rounds are done at {commit}", suite.name));
        return Ok(());
    }
    let kafka = KafkaCluster::start(suite.nodes.max(1))?;
    for round in done + 1..=rounds {
        say(&format!("{}: round {round} of {rounds} …", suite.name));
        let shown = (suite.round)(&kafka).unwrap_or_else(|error| Round {
            text: format!("the round could not be carried out: {error}"),
            ..Round::default()
        });
        say(&shown.text);
        let Round { passed, counts, samples_ms, text } = shown;
        let (suite, commit) = (suite.name.to_owned(), commit.to_owned());
        append(results, &Line { suite, commit, round, passed, counts, samples_ms, text })?;
    }
    Ok(())
}

fn append(path: &Path, line: &Line) -> Result<(), Box<dyn std::error::Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    file.write_all(format!("{}\n", serde_json::to_string(line)?).as_bytes())?;
    Ok(())
}

/// The rounds of this commit. A line that was cut off while it was written is none.
fn read(path: &Path, commit: &str) -> Result<Vec<Line>, Box<dyn std::error::Error>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.filter(|line| line.commit == commit).collect())
}

/// One block per suite: rounds, sums, and quantiles over all samples.
fn table(results: &[Line], commit: &str) {
    say(&format!("\nresults at {commit}:"));
    for suite in suites::ALL {
        let rounds: Vec<_> = results.iter().filter(|line| line.suite == suite.name).collect();
        if rounds.is_empty() {
            continue;
        }
        let passed = rounds.iter().filter(|line| line.passed).count();
        say(&format!("{}: {passed} of {} rounds passed", suite.name, rounds.len()));
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut samples: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for round in rounds {
            for (name, count) in &round.counts {
                *counts.entry(name).or_default() += count;
            }
            for (name, more) in &round.samples_ms {
                samples.entry(name).or_default().extend(more);
            }
        }
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        say(&format!("    {}", counts.join(", ")));
        for (name, mut samples) in samples {
            samples.sort_by(f64::total_cmp);
            if let Some(text) = quantiles(&samples) {
                say(&format!("    {name}: {text}"));
            }
        }
    }
}

fn quantiles(sorted: &[f64]) -> Option<String> {
    let last = sorted.len().checked_sub(1)?;
    let at = |percent: usize| sorted[(last * percent).div_ceil(100)];
    Some(format!(
        "n={} p50={:.0} p90={:.0} p99={:.0} max={:.0} ms",
        sorted.len(),
        at(50),
        at(90),
        at(99),
        at(100)
    ))
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
