//! Does `cargo demo` keep its word? The program itself, on its embedded cluster, in short.
//!
//! This binary is the demo's worker too: started with a worker's settings in its environment, it
//! is a login counter. So no other binary has to be built or found.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use login_counter::{LoginCounterSettings, app};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pelton::config::{Flags, load};
use pelton::{Bug, Exit};
use pelton_tests::{Trial, trials, wait_for};

type Test = fn() -> Result<(), Failed>;

/// Demos at once: two cores bear twelve workers that wait.
const AT_ONCE: usize = 3;

fn main() -> ExitCode {
    if std::env::var_os("PELTON__LOGIN_COUNTER__INPUT_TOPIC").is_some() {
        work();
    }
    let tests: [(&str, Test); 7] = [
        ("a_stopped_worker_costs_nothing", a_stopped_worker_costs_nothing),
        ("a_killed_worker_loses_nothing", a_killed_worker_loses_nothing),
        ("an_sshd_log_can_be_replayed", an_sshd_log_can_be_replayed),
        ("workers_that_lose_are_found_out", workers_that_lose_are_found_out),
        ("workers_that_repeat_are_found_out", workers_that_repeat_are_found_out),
        ("an_input_without_room_is_refused", an_input_without_room_is_refused),
        ("an_interrupted_demo_leaves_no_process", an_interrupted_demo_leaves_no_process),
    ];
    let trials = tests.map(|(name, test)| Trial::new(name, test));
    trials::run(trials.into(), AT_ONCE)
}

/// Names the bug that the workers have, if any.
const BUG: &str = "DEMO_TEST_BUG";

/// The main of `login-counter`.
#[tokio::main]
async fn work() -> ! {
    let exit = match load::<LoginCounterSettings>("login-counter", &Flags::default()) {
        Ok(loaded) => {
            let mut worker = app(&loaded.app);
            worker.settings(loaded.settings);
            worker.plant(std::env::var(BUG).ok().and_then(|name| Bug::from_name(&name)));
            worker.run().await
        }
        Err(error) => Exit::from(Err(error.into())),
    };
    exit.explain();
    signal_hook::low_level::exit(i32::from(exit.code()))
}

fn demo(arguments: &[&str]) -> Result<Command, Failed> {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.arg("--login-counter")
        .arg(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Ok(demo)
}

/// The demo's output, and that it ended as it says.
fn shown(output: &Output, good: bool) -> Result<String, Failed> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    if output.status.success() == good { Ok(text) } else { Err(text.into()) }
}

fn expect(text: &str, parts: &[&str]) -> Result<(), Failed> {
    match parts.iter().find(|part| !text.contains(**part)) {
        None => Ok(()),
        Some(part) => Err(format!("{part:?} is missing in:\n{text}").into()),
    }
}

fn a_stopped_worker_costs_nothing() -> Result<(), Failed> {
    let text = shown(&demo(&["--rate", "250"])?.output()?, true)?;
    expect(
        &text,
        &[
            "worker-1: 0 1 2 3 4 5\n",
            "worker-2 and worker-3 join",
            "worker-1 is asked to stop (SIGTERM)",
            "worker-1 has finished its records, committed and left",
            "records lost        0\n",
            "records duplicated  0\n",
            "✓ every user's total is true: 2,000 logins, 1,551 of them successful, 48 users",
        ],
    )
}

fn a_killed_worker_loses_nothing() -> Result<(), Failed> {
    let text = shown(&demo(&["--rate", "250", "--kill", "--workers", "2"])?.output()?, true)?;
    expect(
        &text,
        &[
            "worker-1 is killed (SIGKILL)",
            "records lost        0\n",
            "✓ every user's total is true",
        ],
    )
}

fn an_sshd_log_can_be_replayed() -> Result<(), Failed> {
    let log =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../workers/load-generator/sample/auth.log");
    let log = log.to_string_lossy();
    let arguments = ["--input", &log, "--format", "sshd", "--rate", "200", "--partitions", "2"];
    let text = shown(&demo(&arguments)?.output()?, true)?;
    expect(&text, &["✓ every user's total is true: 600 logins"])
}

/// Workers with a planted bug: the demo must not believe them.
fn with_bug(bug: Bug) -> Result<String, Failed> {
    // What a failed demo leaves behind goes with this folder.
    let folder = tempfile::tempdir()?;
    let mut demo = demo(&["--rate", "200", "--workers", "2"])?;
    let output = demo.env(BUG, bug.name()).env("TMPDIR", folder.path()).output()?;
    let text = shown(&output, false)?;
    expect(&text, &["✗ not every total is true", "the workers' logs are in "])?;
    Ok(text)
}

fn workers_that_lose_are_found_out() -> Result<(), Failed> {
    // On a starved machine a session ends, and what repeats then repeats honestly: that nothing
    // is called a repeat that is a loss is held by the verdict's own tests.
    let text = with_bug(Bug::SkipRecords)?;
    if text.contains("records lost        0\n") { Err(text.into()) } else { Ok(()) }
}

fn workers_that_repeat_are_found_out() -> Result<(), Failed> {
    let text = with_bug(Bug::NoCommitOnRevoke)?;
    expect(&text, &["records lost        0\n"])?;
    if text.contains("records duplicated  0\n") { Err(text.into()) } else { Ok(()) }
}

fn an_input_without_room_is_refused() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("large.jsonl");
    let logins = load_generator::Generated::new(1, 3).take(60_000);
    std::fs::write(&file, logins.map(|login| login.to_json() + "\n").collect::<String>())?;
    let file = file.to_string_lossy();
    let output = demo(&["--input", &file, "--format", "json", "--partitions", "1"])?.output()?;
    expect(&shown(&output, false)?, &["too large for the embedded cluster", "--kafka HOST:PORT"])
}

fn an_interrupted_demo_leaves_no_process() -> Result<(), Failed> {
    let demo = demo(&[])?.spawn()?;
    let id = i32::try_from(demo.id())?;
    let limit = Duration::from_secs(20);
    let worker = wait_for("the demo starts a worker", limit, || children(id).first().copied())?;
    kill(Pid::from_raw(id), Signal::SIGINT)?;
    let text = shown(&demo.wait_with_output()?, false)?;
    expect(&text, &["ended early, as asked"])?;
    match kill(Pid::from_raw(worker), None) {
        Err(nix::errno::Errno::ESRCH) => Ok(()),
        other => Err(format!("the worker {worker} lives: {other:?}").into()),
    }
}

/// The processes that `parent` started.
fn children(parent: i32) -> Vec<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
    let files = tasks.map(|task| task.path().join("children"));
    let lists = files.filter_map(|file: PathBuf| std::fs::read_to_string(file).ok());
    lists
        .flat_map(|list| {
            list.split_whitespace().filter_map(|id| id.parse().ok()).collect::<Vec<_>>()
        })
        .collect()
}
