//! What have all the processes of a run done, in order? All lines of a folder, sorted by time.

use std::cmp::Reverse;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::line::{Entry, EntryParser, Fault, FaultKind, Line};
use super::writer::{HEADER, SUFFIX};

/// All lines of a run, of all processes, in the order they were written.
///
/// ```
/// use pelton_testkit::ledger::Ledger;
///
/// let ledger = Ledger::from_text(
///     "10 a assigned logins-0 1
///      20 a started logins-0 1 0
///      30 a start logins-0 1 0 1",
/// )?;
/// assert_eq!(ledger.lines().len(), 3);
/// assert_eq!(ledger.show(2), "0.000000 s a: start logins-0 1 0 1");
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    processes: Vec<Process>,
    lines: Vec<Line>,
}

/// A process that wrote into a ledger.
///
/// ```
/// let ledger = pelton_testkit::ledger::Ledger::from_text("10 a stopping").unwrap();
/// assert_eq!(ledger.processes()[0].name.as_ref(), "a");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The worker's name.
    pub name: Arc<str>,
    /// Its process id.
    pub pid: u32,
    /// When it began to write, on the ledger's clock.
    pub begun: u64,
    /// The wall clock at that moment, in milliseconds since 1970.
    pub wall_ms: i64,
}

/// Why a ledger can't be read.
///
/// ```
/// use pelton_testkit::ledger::Ledger;
/// let error = Ledger::from_text("10 a start logins-0 1 x 1").unwrap_err();
/// assert_eq!(error.to_string(), "history line 1: the offset \"x\" is no number that fits");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// A file can't be read.
    #[error("{}: {source}", path.display())]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A line is no line of a ledger. (The last line of a killed process may be torn; that is
    /// no error.)
    #[error("{} line {line}: {reason}", path.display())]
    Line {
        /// In which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

impl Ledger {
    /// Reads every `*.ledger` file of a folder. A last line without an end is left out: its
    /// process was killed while it wrote.
    ///
    /// # Errors
    ///
    /// If a file can't be read, or has a line that is none.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self, LedgerError> {
        let folder = folder.as_ref();
        let file_error = |path: &Path| {
            let path = path.to_owned();
            move |source| LedgerError::File { path, source }
        };
        let mut paths = Vec::new();
        for file in fs::read_dir(folder).map_err(file_error(folder))? {
            let path = file.map_err(file_error(folder))?.path();
            if path.extension().is_some_and(|suffix| suffix == SUFFIX) {
                paths.push(path);
            }
        }
        paths.sort();
        let mut ledger = Self::default();
        let mut parser = EntryParser::default();
        for path in paths {
            let text = fs::read(&path).map_err(file_error(&path))?;
            ledger.take_file(&mut parser, &path, &text)?;
        }
        ledger.sort();
        Ok(ledger)
    }

    /// Reads a history written by hand: one `<nanoseconds> <worker> <entry>` a line, in any
    /// order; `#` begins a comment. A worker's process id is its place, from 1, unless it is
    /// written behind its name: `<worker>/<pid>`.
    ///
    /// # Errors
    ///
    /// If a line is none.
    pub fn from_text(text: &str) -> Result<Self, LedgerError> {
        let path = Path::new("history");
        let mut parser = EntryParser::default();
        let mut ledger = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (at, rest) = timed(line).map_err(|reason| bad(path, number, reason))?;
            let rest = rest.trim_start();
            let (name, entry) = rest.split_once(' ').unwrap_or((rest, ""));
            let entry = parser.parse(entry).map_err(|reason| bad(path, number, reason))?;
            let process = ledger.process(name, at);
            ledger.lines.push(Line { at, process, entry });
        }
        ledger.sort();
        Ok(ledger)
    }

    pub(crate) fn from_parts(processes: Vec<Process>, lines: Vec<Line>) -> Self {
        let mut ledger = Self { processes, lines };
        ledger.sort();
        ledger
    }

    /// All lines, in order of time.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Everyone who wrote.
    #[must_use]
    pub fn processes(&self) -> &[Process] {
        &self.processes
    }

    /// Line number `index`, as a reader wants to see it: seconds since the first line, who,
    /// what. Empty if there is no such line.
    #[must_use]
    pub fn show(&self, index: usize) -> String {
        let Some(line) = self.lines.get(index) else {
            return String::new();
        };
        let begin = self.lines.first().map_or(0, |first| first.at);
        let micros = line.at.saturating_sub(begin) / 1_000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        let name = self.name(line.process);
        format!("{seconds}.{micros:06} s {name}: {}", line.entry)
    }

    /// A process as a reader wants to see it: its name, and its id where the name was used
    /// again.
    #[must_use]
    pub fn name(&self, process: usize) -> String {
        let Some(Process { name, pid, .. }) = self.processes.get(process) else {
            return format!("process {process}");
        };
        let namesakes = self.processes.iter().filter(|other| other.name == *name).count();
        if namesakes > 1 { format!("{name}/{pid}") } else { name.to_string() }
    }

    /// The moment on the ledger's clock at which the wall clock showed `wall_ms`, as far as the
    /// processes' clocks tell; 0 if it was before the ledger's clock began.
    #[must_use]
    pub fn moment_of(&self, wall_ms: i64) -> Option<u64> {
        let process = self.processes.iter().min_by_key(|process| process.begun)?;
        let since_ns = i128::from(wall_ms - process.wall_ms) * 1_000_000;
        Some(u64::try_from(i128::from(process.begun) + since_ns).unwrap_or(0))
    }

    /// The process that a fault speaks of: of those with that name and id, the last one that
    /// had begun at that time.
    pub(crate) fn target(&self, at: u64, name: &str, pid: u32) -> Option<usize> {
        let named = |process: &Process| &*process.name == name && process.pid == pid;
        (0..self.processes.len()).filter(|index| named(&self.processes[*index])).min_by_key(
            |index| {
                let begun = self.processes[*index].begun;
                (begun > at, Reverse(begun))
            },
        )
    }

    /// Faults done to processes: where in the ledger, to whom, what.
    pub(crate) fn process_faults(&self) -> impl Iterator<Item = (usize, usize, FaultKind)> + '_ {
        self.lines.iter().enumerate().filter_map(|(index, line)| match &line.entry {
            Entry::Fault(Fault::Process { kind, name, pid }) => {
                Some((index, self.target(line.at, name, *pid)?, *kind))
            }
            _ => None,
        })
    }

    fn take_file(
        &mut self,
        parser: &mut EntryParser,
        path: &Path,
        text: &[u8],
    ) -> Result<(), LedgerError> {
        let end = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let text = std::str::from_utf8(&text[..end])
            .map_err(|error| bad(path, 1, format!("not UTF-8: {error}")))?;
        let mut lines = (1..).zip(text.lines());
        let Some((_, header)) = lines.next() else {
            return Ok(()); // killed before it had written anything
        };
        let process = self.processes.len();
        let header = header_of(header).ok_or_else(|| {
            bad(path, 1, format!("this is no ledger that this version reads ({HEADER})"))
        })?;
        self.processes.push(header);
        for (number, line) in lines {
            let parsed = timed(line).and_then(|(at, entry)| Ok((at, parser.parse(entry)?)));
            let (at, entry) = parsed.map_err(|reason| bad(path, number, reason))?;
            self.lines.push(Line { at, process, entry });
        }
        Ok(())
    }

    fn process(&mut self, written: &str, at: u64) -> usize {
        let (name, pid) = match written.split_once('/') {
            Some((name, pid)) => (name, pid.parse().ok()),
            None => (written, None),
        };
        let same = |process: &Process| {
            &*process.name == name && pid.is_none_or(|pid: u32| process.pid == pid)
        };
        if let Some(known) = self.processes.iter().position(same) {
            return known;
        }
        let place = u32::try_from(self.processes.len() + 1).unwrap_or(u32::MAX);
        let pid = pid.unwrap_or(place);
        // The wall clock of a hand-written history begins with its clock.
        let wall_ms = at / 1_000_000;
        let begun = wall_ms * 1_000_000;
        let wall_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX);
        self.processes.push(Process { name: name.into(), pid, begun, wall_ms });
        self.processes.len() - 1
    }

    /// By time; lines of one process keep their order where the clock stood still.
    fn sort(&mut self) {
        self.lines.sort_by_key(|line| line.at);
    }
}

fn header_of(line: &str) -> Option<Process> {
    let mut words = line.strip_prefix(HEADER)?.split_ascii_whitespace();
    Some(Process {
        name: words.next()?.into(),
        pid: words.next()?.parse().ok()?,
        begun: words.next()?.parse().ok()?,
        wall_ms: words.next()?.parse().ok()?,
    })
}

fn timed(line: &str) -> Result<(u64, &str), String> {
    let (at, rest) = line.split_once(' ').ok_or_else(|| format!("{line:?} is no line"))?;
    let at = at.parse().map_err(|_| format!("{at:?} is no moment"))?;
    Ok((at, rest))
}

fn bad(path: &Path, line: usize, reason: String) -> LedgerError {
    LedgerError::Line { path: path.to_owned(), line, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("a file");
        }
        folder
    }

    #[test]
    fn lines_of_several_processes_stand_in_order_of_time() {
        let folder = folder(&[
            ("a-1.ledger", "pelton-ledger 1 a 1 5 1000\n10 stopping\n30 stopped\n"),
            ("b-2.ledger", "pelton-ledger 1 b 2 6 1000\n20 stopping\n"),
            ("notes.txt", "not ours"),
        ]);
        let ledger = Ledger::read(folder.path()).expect("a ledger");
        let order: Vec<_> = ledger.lines().iter().map(|line| (line.at, line.process)).collect();
        assert_eq!(order, [(10, 0), (20, 1), (30, 0)]);
        assert_eq!(ledger.moment_of(1_001), Some(1_000_005));
    }

    #[test]
    fn a_torn_last_line_is_left_out_and_any_other_garbage_is_named() {
        let torn = folder(&[("a-1.ledger", "pelton-ledger 1 a 1 5 0\n10 stopping\n20 stop")]);
        assert_eq!(Ledger::read(torn.path()).expect("a ledger").lines().len(), 1);
        let empty = folder(&[("a-1.ledger", "pelton-led")]);
        assert!(Ledger::read(empty.path()).expect("a ledger").processes().is_empty());

        let garbage = folder(&[(
            "a-1.ledger",
            "pelton-ledger 1 a 1 5 0\n10 stopping\n20 stop\n30 stopped\n",
        )]);
        let error = Ledger::read(garbage.path()).expect_err("garbage").to_string();
        assert!(error.contains("a-1.ledger line 3: "), "{error}");
        let foreign = folder(&[("a-1.ledger", "pelton-ledger 2 a 1 5 0\n")]);
        let error = Ledger::read(foreign.path()).expect_err("another version").to_string();
        assert!(error.contains("line 1: this is no ledger"), "{error}");
    }

    #[test]
    fn a_fault_finds_the_process_that_was_alive() {
        let folder = folder(&[
            ("a-1.ledger", "pelton-ledger 1 a 1 5 0\n10 stopping\n"),
            ("a-1-2.ledger", "pelton-ledger 1 a 1 50 0\n60 stopping\n"),
            (
                "faults-9.ledger",
                "pelton-ledger 1 faults 9 1 0\n20 fault kill a 1\n70 fault stop a 1\n",
            ),
        ]);
        let ledger = Ledger::read(folder.path()).expect("a ledger");
        let found: Vec<_> = ledger
            .process_faults()
            .map(|(_, process, kind)| (ledger.processes()[process].begun, kind))
            .collect();
        assert_eq!(found, [(5, FaultKind::Kill), (50, FaultKind::Stop)]);
    }
}
