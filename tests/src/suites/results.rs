//! What have the rounds of `cargo chaos` shown so far? A line of JSON for each, and the sums.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

/// A round, as the results file has it.
///
/// ```
/// use pelton_tests::suites::results::Line;
///
/// let line: Line = serde_json::from_str(
///     r#"{"suite":"kill","commit":"abc","round":1,"passed":true,"counts":{"kills":5},"samples_ms":{},"text":""}"#,
/// )?;
/// assert!(line.was_carried_out && line.seed.is_none());
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Of which suite.
    pub suite: String,
    /// On which commit.
    pub commit: String,
    /// Its number, from 1.
    pub round: u32,
    /// Did it hold what the suite promises?
    pub passed: bool,
    /// If not: could it be carried out at all?
    #[serde(default = "yes")]
    pub was_carried_out: bool,
    /// What its random choices were made from.
    #[serde(default)]
    pub seed: Option<u64>,
    /// How long it took.
    #[serde(default)]
    pub seconds: u64,
    /// Events and records.
    pub counts: BTreeMap<String, u64>,
    /// Durations.
    pub samples_ms: BTreeMap<String, Vec<f64>>,
    /// Everything it said.
    pub text: String,
}

fn yes() -> bool {
    true
}

/// Counts that every suite has; the rest says what was done.
const JUDGED: [&str; 6] =
    ["records", "lost", "repeated", "unexplained repeats", "violations", "wrong last values"];

/// Adds a line to a results file, which is made if it is missing.
///
/// # Errors
///
/// If it can't be written.
pub fn append(path: &Path, line: &Line) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = OpenOptions::new().create(true).read(true).append(true).open(path)?;
    let text = serde_json::to_string(line)?;
    // A line that was cut off while it was written must not swallow this one.
    let torn = fs::read(path)?.last().is_some_and(|last| *last != b'\n');
    file.write_all(format!("{}{text}\n", if torn { "\n" } else { "" }).as_bytes())
}

/// The rounds of a commit. A line that was cut off while it was written is none.
///
/// # Errors
///
/// If the file is there and can't be read.
pub fn read(path: &Path, commit: &str) -> io::Result<Vec<Line>> {
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        read => read?,
    };
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok());
    Ok(lines.filter(|line| line.commit == commit).collect())
}

/// All rounds of a suite together.
struct Sums<'a> {
    suite: &'a str,
    passed: usize,
    rounds: usize,
    /// Could not be carried out.
    void: usize,
    counts: BTreeMap<&'a str, u64>,
    samples: BTreeMap<&'a str, Vec<f64>>,
}

fn sums(lines: &[Line]) -> Vec<Sums<'_>> {
    let mut suites: Vec<&str> = Vec::new();
    for line in lines {
        if !suites.contains(&line.suite.as_str()) {
            suites.push(&line.suite);
        }
    }
    let of = |suite| {
        let own = lines.iter().filter(|line| line.suite == suite);
        let (rounds, void): (Vec<_>, Vec<_>) = own.partition(|line| line.was_carried_out);
        let mut sums = Sums {
            suite,
            passed: rounds.iter().filter(|line| line.passed).count(),
            rounds: rounds.len(),
            void: void.len(),
            counts: BTreeMap::new(),
            samples: BTreeMap::new(),
        };
        for line in rounds {
            for (name, count) in &line.counts {
                *sums.counts.entry(name).or_default() += count;
            }
            for (name, more) in &line.samples_ms {
                sums.samples.entry(name).or_default().extend(more);
            }
        }
        sums.samples.values_mut().for_each(|samples| samples.sort_by(f64::total_cmp));
        sums
    };
    suites.into_iter().map(of).collect()
}

/// One block per suite: rounds, sums, and quantiles over all samples.
#[must_use]
pub fn summary(lines: &[Line]) -> String {
    let mut text = String::new();
    for Sums { suite, passed, rounds, void, counts, samples } in sums(lines) {
        let _infallible = write!(text, "{suite}: {passed} of {rounds} rounds passed");
        if void > 0 {
            let _infallible = write!(text, ", {void} more could not be carried out");
        }
        let counts: Vec<_> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _infallible = writeln!(text, "\n    {}", counts.join(", "));
        for (name, samples) in samples {
            if let Some([p50, p90, p99, max]) = quantiles(&samples) {
                let n = samples.len();
                let _infallible = writeln!(
                    text,
                    "    {name}: n={n} p50={p50:.0} p90={p90:.0} p99={p99:.0} max={max:.0} ms"
                );
            }
        }
    }
    text
}

/// The same as a table in Markdown, as `docs/reliability.md` has it.
#[must_use]
pub fn table(lines: &[Line], commit: &str) -> String {
    let mut text =
        "| suite | commit | rounds passed | what was done | records | lost | repeated | \
        unexplained | violations | wrong last values | p50 / p90 / max ms |\n\
        |---|---|---|---|---|---|---|---|---|---|---|\n"
            .to_owned();
    for Sums { suite, passed, rounds, void, counts, samples } in sums(lines) {
        let done = counts.iter().filter(|(name, _)| !JUDGED.contains(name));
        let done: Vec<_> =
            done.map(|(name, count)| format!("{} {name}", grouped(*count))).collect();
        let judged = JUDGED.map(|name| grouped(counts.get(name).copied().unwrap_or(0))).join(" | ");
        let times = samples.iter().filter_map(|(name, samples)| {
            let [p50, p90, _, max] = quantiles(samples)?;
            Some(format!("{name}: {p50:.0} / {p90:.0} / {max:.0}"))
        });
        let times = times.collect::<Vec<_>>().join("; ");
        let void = if void > 0 { format!(" ({void} not carried out)") } else { String::new() };
        let done = done.join(", ");
        let _infallible = writeln!(
            text,
            "| `{suite}` | {commit} | {passed} of {rounds}{void} | {done} | {judged} | {times} |"
        );
    }
    text
}

/// With a comma before every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// The median, nine of ten, ninety-nine of a hundred, and the last.
fn quantiles(sorted: &[f64]) -> Option<[f64; 4]> {
    let last = sorted.len().checked_sub(1)?;
    Some([50, 90, 99, 100].map(|percent: usize| sorted[(last * percent).div_ceil(100)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(round: u32, passed: bool, records: u64) -> Line {
        let counts = [("records", records), ("kills", 5)];
        Line {
            suite: "kill".to_owned(),
            commit: "abc".to_owned(),
            round,
            passed,
            was_carried_out: records > 0,
            seed: Some(7),
            seconds: 12,
            counts: counts.map(|(name, count)| (name.to_owned(), count)).into(),
            samples_ms: [("gap".to_owned(), vec![3.0, 1.0])].into(),
            text: String::new(),
        }
    }

    #[test]
    fn rounds_of_a_commit_are_read_back_and_a_torn_line_spoils_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chaos/results.jsonl");
        assert!(read(&path, "abc").unwrap().is_empty());
        append(&path, &line(1, true, 10)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}{}", &text[..30])).unwrap();
        append(&path, &line(2, true, 20)).unwrap();
        append(&path, &Line { commit: "def".to_owned(), ..line(1, true, 30) }).unwrap();
        let rounds: Vec<_> = read(&path, "abc").unwrap().iter().map(|line| line.round).collect();
        assert_eq!(rounds, [1, 2]);
    }

    #[test]
    fn sums_leave_out_what_could_not_be_carried_out() {
        let lines = [line(1, true, 1_200), line(2, false, 34), line(3, false, 0)];
        assert_eq!(
            summary(&lines),
            "kill: 1 of 2 rounds passed, 1 more could not be carried out
    kills 10, records 1234
    gap: n=4 p50=3 p90=3 p99=3 max=3 ms\n"
        );
        let table = table(&lines, "abc");
        let row = "| `kill` | abc | 1 of 2 (1 not carried out) | 10 kills | 1,234 | 0 | 0 | 0 | 0 \
            | 0 | gap: 3 / 3 / 3 |";
        assert_eq!(table.lines().nth(2), Some(row));
    }
}
