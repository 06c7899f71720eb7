//! Does a ledger survive the death of its process? One is killed while it writes.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use pelton::TopicPartition;
use pelton::telemetry::{Observation, Observer, RecordOutcome};
use pelton_testkit::ledger::{Entry, FaultKind, FaultLog, Ledger, LedgerWriter};

const FOLDER: &str = "PELTON_TESTKIT_LEDGER_FOLDER";

#[test]
fn what_was_observed_before_a_kill_is_in_the_ledger() {
    if let Some(folder) = std::env::var_os(FOLDER) {
        return write_until_killed(&folder);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let faults = FaultLog::create(folder.path()).expect("a fault log");
    let mut child = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "what_was_observed_before_a_kill_is_in_the_ledger", "--nocapture"])
        .env(FOLDER, folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("a process");
    let pid = child.id();
    let mut told = BufReader::new(child.stdout.take().expect("its output")).lines();
    let told = told.by_ref().map_while(Result::ok).filter_map(|line| line.parse::<i64>().ok());
    // It tells each offset after it has observed it.
    let mut told = told.inspect(|offset| {
        if *offset == 2_000 {
            faults.fault(FaultKind::Kill, "victim", pid).expect("a fault");
            child.kill().expect("it is alive");
        }
    });
    let last = told.by_ref().last().expect("it told something");
    drop(told);
    child.wait().expect("it is dead");

    let ledger = Ledger::read(folder.path()).expect("a ledger");
    let victim = ledger.processes().iter().position(|p| p.name.as_ref() == "victim");
    let ends = ledger.lines().iter().filter(|line| Some(line.process) == victim);
    let ends: Vec<_> = ends
        .filter_map(|line| match line.entry {
            Entry::End { offset, .. } => Some(offset),
            _ => None,
        })
        .collect();
    assert!(
        last >= 2_000 && ends.contains(&last),
        "told {last}, the ledger ends at {:?}",
        ends.last()
    );
    assert!(ends.iter().zip(0..).all(|(end, offset)| *end == offset), "no hole");
    // The clock is the machine's: the kill stands near the end of what the victim wrote.
    let kill = ledger.lines().iter().position(|line| matches!(line.entry, Entry::Fault(_)));
    let before = &ledger.lines()[..kill.expect("the kill")];
    assert!(before.len() >= 4_000, "{} lines before the kill", before.len());
}

/// What this test's program does in the process that is killed.
fn write_until_killed(folder: &std::ffi::OsStr) {
    let ledger = LedgerWriter::create(folder, "victim").expect("a ledger");
    let partition = TopicPartition::new("user_logins", 0);
    let mut out = std::io::stdout().lock();
    for offset in 0..10_000_000 {
        let (epoch, attempt, outcome) = (1, 1, RecordOutcome::Done);
        ledger.observe(&Observation::Start { partition: &partition, epoch, offset, attempt });
        ledger.observe(&Observation::End {
            partition: &partition,
            epoch,
            offset,
            attempt,
            outcome,
        });
        writeln!(out, "{offset}").expect("someone listens");
    }
}
