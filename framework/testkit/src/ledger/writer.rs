//! How does a step get into the ledger so that not even a kill can take it back?
//!
//! Each process appends to a file of its own, one `write` call per line, before the observer
//! returns: what the kernel has, a killed process can't lose. Times are the machine's monotonic
//! clock, so lines of different processes stand in their true order.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::time::{ClockId, clock_gettime};
use pelton::TopicPartition;
use pelton::telemetry::{Observation, Observer};

use super::line::{Entry, Fault, FaultKind};

/// The suffix of a ledger's files.
pub(crate) const SUFFIX: &str = "ledger";

/// The first word of a file, and the version of what follows.
pub(crate) const HEADER: &str = "pelton-ledger 1";

/// Writes one worker's steps into a folder.
///
/// The file is `<name>-<pid>.ledger`: a process that is started anew gets another one. Costs a
/// system call per step (about 2 µs); a step is in the file when `observe` returns.
///
/// ```
/// use pelton_testkit::ledger::{Ledger, LedgerWriter};
/// use pelton::telemetry::{Observation, Observer};
///
/// let folder = tempfile::tempdir()?;
/// let writer = LedgerWriter::create(folder.path(), "worker-1")?;
/// writer.observe(&Observation::Stopping); // in a worker: app.observer(Arc::new(writer))
/// let ledger = Ledger::read(folder.path())?;
/// assert_eq!(ledger.processes()[0].name.as_ref(), "worker-1");
/// assert_eq!(ledger.lines().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LedgerWriter {
    file: File,
    path: PathBuf,
    /// Lines that could not be written and are not yet confessed.
    missed: AtomicU64,
}

impl LedgerWriter {
    /// A new file in `folder`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// If the file can't be made, or `name` is empty or has other characters than letters,
    /// digits, `.`, `_` and `-`.
    pub fn create(folder: impl AsRef<Path>, name: &str) -> io::Result<Self> {
        let folder = folder.as_ref();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || !name.chars().all(legal) {
            let reason = format!(
                "{name:?} can't be a worker's name in a ledger: use letters, digits, '.', '_', '-'"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        std::fs::create_dir_all(folder)?;
        let pid = std::process::id();
        let (mut file, path) = new_file(folder, name, pid)?;
        let (at, wall_ms) = (monotonic(), wall_clock_ms());
        file.write_all(format!("{HEADER} {name} {pid} {at} {wall_ms}\n").as_bytes())?;
        Ok(Self { file, path, missed: AtomicU64::new(0) })
    }

    /// Where it writes.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut line = String::with_capacity(96);
        self.confess()?;
        if writeln!(line, "{} {entry}", monotonic()).is_err() {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        (&self.file).write_all(line.as_bytes())
    }

    /// Says how many lines are missing. Whoever takes the number says it, and nobody else.
    fn confess(&self) -> io::Result<()> {
        if self.missed.load(Ordering::Relaxed) == 0 {
            return Ok(());
        }
        let missed = self.missed.swap(0, Ordering::Relaxed);
        if missed == 0 {
            return Ok(());
        }
        // Not an entry: a ledger with a hole must not be taken for a whole one.
        let confession = format!("\n{missed} lines are missing here\n");
        (&self.file).write_all(confession.as_bytes()).inspect_err(|_| {
            self.missed.fetch_add(missed, Ordering::Relaxed);
        })
    }
}

impl Observer for LedgerWriter {
    fn observe(&self, observation: &Observation<'_>) {
        let Some(entry) = Entry::of(observation) else {
            return;
        };
        if let Err(error) = self.write(&entry)
            && self.missed.fetch_add(1, Ordering::Relaxed) == 0
        {
            tracing::error!(file = %self.path.display(), %error, "the ledger could not be written; it will have a hole");
        }
    }
}

/// Writes what a test does to the system, beside the ledgers of its workers.
///
/// Write the fault first, then cause it.
///
/// ```
/// use pelton_testkit::ledger::{FaultKind, FaultLog, Ledger};
///
/// let folder = tempfile::tempdir()?;
/// let faults = FaultLog::create(folder.path())?;
/// faults.fault(FaultKind::Kill, "worker-1", 4711)?;
/// // … and now kill it
/// assert_eq!(Ledger::read(folder.path())?.lines().len(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct FaultLog(LedgerWriter);

impl FaultLog {
    /// A new file in `folder`, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// If the file can't be made.
    pub fn create(folder: impl AsRef<Path>) -> io::Result<Self> {
        LedgerWriter::create(folder, "faults").map(Self)
    }

    /// Something is about to be done to the process `pid` of the worker called `name`.
    ///
    /// # Errors
    ///
    /// If the line can't be written.
    pub fn fault(&self, kind: FaultKind, name: &str, pid: u32) -> io::Result<()> {
        self.write(Fault::Process { kind, name: name.into(), pid })
    }

    /// A broker is about to be killed or cut off.
    ///
    /// # Errors
    ///
    /// If the line can't be written.
    pub fn broker_kill(&self, broker: &str) -> io::Result<()> {
        self.write(Fault::BrokerKill { broker: broker.into() })
    }

    /// The network between workers and brokers is about to fail; `what` says how, in one word.
    ///
    /// # Errors
    ///
    /// If the line can't be written.
    pub fn network(&self, what: &str) -> io::Result<()> {
        self.write(Fault::Network { what: what.into() })
    }

    /// Whatever was wrong with the network is over. Write it *after* it is.
    ///
    /// # Errors
    ///
    /// If the line can't be written.
    pub fn network_healed(&self) -> io::Result<()> {
        self.write(Fault::NetworkHealed)
    }

    /// The group's committed offset is about to be set by hand.
    ///
    /// # Errors
    ///
    /// If the line can't be written.
    pub fn offset_reset(&self, partition: &TopicPartition, offset: i64) -> io::Result<()> {
        self.write(Fault::OffsetReset { partition: partition.clone(), offset })
    }

    fn write(&self, fault: Fault) -> io::Result<()> {
        self.0.write(&Entry::Fault(fault))
    }
}

fn new_file(folder: &Path, name: &str, pid: u32) -> io::Result<(File, PathBuf)> {
    let mut number = 1;
    loop {
        let file = match number {
            1 => format!("{name}-{pid}.{SUFFIX}"),
            _ => format!("{name}-{pid}-{number}.{SUFFIX}"),
        };
        let path = folder.join(file);
        match OpenOptions::new().append(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            // Another worker of that name in this process, or a process id that came round.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error),
        }
    }
}

/// Nanoseconds of the clock that all processes of the machine share.
fn monotonic() -> u64 {
    nanoseconds(ClockId::CLOCK_MONOTONIC)
}

/// Milliseconds since 1970: ties records' timestamps to the ledger's clock.
fn wall_clock_ms() -> u64 {
    nanoseconds(ClockId::CLOCK_REALTIME) / 1_000_000
}

fn nanoseconds(clock: ClockId) -> u64 {
    // Neither clock fails on any system Pelton runs on.
    clock_gettime(clock)
        .map(|time| std::time::Duration::from(time).as_nanos())
        .ok()
        .and_then(|nanos| u64::try_from(nanos).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_break_lines_or_paths_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["", "two words", "../up", "a\nb"] {
            let refused = LedgerWriter::create(folder.path(), name).expect_err(name);
            assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn twice_the_same_name_gives_two_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let first = LedgerWriter::create(folder.path(), "w").expect("a file");
        let second = LedgerWriter::create(folder.path(), "w").expect("another");
        assert_ne!(first.path(), second.path());
    }

    /// What is observed is in the file as it was said, and a reader finds it again.
    #[test]
    fn a_commit_s_done_set_is_written_and_read_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let writer = LedgerWriter::create(folder.path(), "w").expect("a file");
        let partition = TopicPartition::new("t", 0);
        for (id, done) in [(1, ""), (2, "1-3rCB")] {
            let (partition, epoch, offset) = (&partition, 1, 1);
            writer.observe(&Observation::CommitTried { id, partition, epoch, offset, done });
        }
        let ledger = crate::ledger::Ledger::read(folder.path()).expect("a ledger");
        let texts: Vec<_> = ledger.lines().iter().map(|line| line.entry.to_string()).collect();
        assert_eq!(texts, ["try t-0 1 1 1", "try t-0 1 1 2 1-3rCB"]);
        // Better no verdict than one on what nobody can read.
        let (partition, done) = (&partition, "1-3rCC");
        writer.observe(&Observation::CommitTried { id: 3, partition, epoch: 1, offset: 1, done });
        let error = crate::ledger::Ledger::read(folder.path()).expect_err("damaged").to_string();
        assert!(error.contains("line 4: \"1-3rCC\" is no done-set"), "{error}");
    }

    fn missing(path: &Path) -> Vec<u64> {
        let text = std::fs::read_to_string(path).expect("a ledger");
        let number = |line: &str| line.strip_suffix(" lines are missing here")?.parse().ok();
        text.lines().filter_map(number).collect()
    }

    /// Several partitions write to one ledger.
    #[test]
    fn each_missing_line_is_confessed_once_whoever_writes_first() {
        let folder = tempfile::tempdir().expect("a folder");
        let partition = TopicPartition::new("t", 0);
        for round in 0..50 {
            let faults = FaultLog::create(folder.path()).expect("a file");
            faults.0.missed.store(5, Ordering::Relaxed);
            std::thread::scope(|threads| {
                for _ in 0..4 {
                    threads.spawn(|| faults.offset_reset(&partition, 3).expect("it is written"));
                }
            });
            assert_eq!(missing(faults.0.path()), [5], "in round {round}");
            assert_eq!(faults.0.missed.load(Ordering::Relaxed), 0);
        }
    }

    #[test]
    fn what_could_not_be_confessed_is_confessed_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let writer = LedgerWriter::create(folder.path(), "w").expect("a file");
        let path = writer.path().to_owned();
        let read_only = File::open(&path).expect("it is there");
        let full = LedgerWriter { file: read_only, path: path.clone(), missed: AtomicU64::new(2) };
        let fault = Entry::Fault(Fault::NetworkHealed);
        assert!(full.write(&fault).is_err());
        let LedgerWriter { missed, .. } = full;
        let healed = LedgerWriter { missed, ..writer };
        healed.write(&fault).expect("it is written");
        assert_eq!(missing(&path), [2]);
    }
}
