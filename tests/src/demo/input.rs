//! What is replayed, what must come of it, and does the embedded cluster have room for it?

use std::path::Path;

use load_generator::{Format, JsonLines, Login, SAMPLE, SourceError, Status, Tally, open};
use pelton_testkit::{EmbeddedCluster, partition_for_key};

use crate::demo::arguments::Kind;
use crate::demo::error::DemoError;

/// The logins of a run and what is true of them.
#[derive(Debug)]
pub(super) struct Input {
    /// All logins, in the order in which they are sent.
    pub(super) logins: Vec<Login>,
    /// What each user's total must be; counted from the input alone.
    pub(super) truth: Tally,
    /// What a reader sees first: name of the source.
    pub(super) name: String,
    /// The partition of each login.
    partition_of: Vec<usize>,
    partitions: usize,
}

impl Input {
    /// Reads the file, or the sample.
    pub(super) fn read(
        file: Option<&Path>,
        kind: Option<Kind>,
        partitions: i32,
    ) -> Result<Self, DemoError> {
        let (logins, name) = match file {
            None => (all(JsonLines::new(SAMPLE))?, "the sample".to_owned()),
            Some(path) => (all(open(path, format(kind))?)?, path.display().to_string()),
        };
        Self::new(logins, name, partitions)
    }

    fn new(logins: Vec<Login>, name: String, partitions: i32) -> Result<Self, DemoError> {
        if logins.is_empty() {
            return Err(DemoError::Empty);
        }
        let mut truth = Tally::default();
        (0..).zip(&logins).for_each(|(seq, login)| truth.add(seq, login));
        let partition = |login: &Login| partition_for_key(login.user.as_bytes(), partitions);
        let partition_of =
            logins.iter().map(|login| usize::try_from(partition(login)).unwrap_or(0)).collect();
        let partitions = usize::try_from(partitions).unwrap_or(1);
        Ok(Self { logins, truth, name, partition_of, partitions })
    }

    pub(super) fn len(&self) -> usize {
        self.logins.len()
    }

    pub(super) fn partitions(&self) -> usize {
        self.partitions
    }

    /// Logins per partition among the first `sent`. A partition's offsets are these numbers: the
    /// topic is the demo's own, and holds nothing else.
    pub(super) fn ends(&self, sent: usize) -> Vec<i64> {
        let mut ends = vec![0; self.partitions];
        for partition in self.partition_of.iter().take(sent) {
            ends[*partition] += 1;
        }
        ends
    }

    /// The logins of one partition between two offsets.
    pub(super) fn between(
        &self,
        partition: usize,
        from: i64,
        to: i64,
    ) -> impl Iterator<Item = &Login> {
        let here =
            self.partition_of.iter().zip(&self.logins).filter(move |(of, _)| **of == partition);
        (0_i64..)
            .zip(here)
            .filter(move |(at, _)| (from..to).contains(at))
            .map(|(_, (_, login))| login)
    }

    /// Refuses what the embedded cluster could drop before it is read. Reckons with the worst:
    /// each record in a batch of its own, uncompressed, and `repeats` times.
    pub(super) fn check_room(&self, repeats: u64) -> Result<(), DemoError> {
        let mut input = vec![Room::default(); self.partitions];
        let mut output = input.clone();
        let mut changelog = input.clone();
        for (login, partition) in self.logins.iter().zip(&self.partition_of) {
            let user = length(&login.user);
            input[*partition].add(1, user + length(&login.to_json()) + SEQ);
            if login.status == Status::Success {
                let quoted = length(&login.to_json()).saturating_sub(length(&login.ip));
                output[*partition].add(repeats, user + quoted + TOTAL);
                changelog[*partition].add(repeats, user + CHANGELOG);
            }
        }
        for (topic, rooms) in [("input", input), ("output", output), ("changelog", changelog)] {
            for (partition, room) in rooms.into_iter().enumerate() {
                let Room { bytes, records } = room;
                if bytes > EmbeddedCluster::MAX_PARTITION_BYTES
                    || records > EmbeddedCluster::MAX_PARTITION_RECORD_SETS
                {
                    return Err(DemoError::TooLarge { topic, partition, bytes, records });
                }
            }
        }
        Ok(())
    }
}

/// A record batch's header is 61 bytes; a record's own framing at most 30.
const FRAMING: u64 = 61 + 30;
/// The header `seq` and its number.
const SEQ: u64 = 3 + 20;
/// `{"user":"","total":18446744073709551615}`.
const TOTAL: u64 = 40;
/// A number as text, and the header with the store's version.
const CHANGELOG: u64 = 20 + 30;

#[derive(Clone, Copy, Debug, Default)]
struct Room {
    bytes: u64,
    records: u64,
}

impl Room {
    fn add(&mut self, times: u64, bytes: u64) {
        self.bytes = self.bytes.saturating_add((bytes + FRAMING).saturating_mul(times));
        self.records = self.records.saturating_add(times);
    }
}

fn length(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX)
}

fn all(
    logins: impl Iterator<Item = Result<Login, SourceError>>,
) -> Result<Vec<Login>, SourceError> {
    logins.collect()
}

fn format(kind: Option<Kind>) -> Format {
    match kind {
        // The year only shows in the records; no total depends on it.
        Some(Kind::Sshd) => Format::Sshd { year: 2026 },
        Some(Kind::Json) | None => Format::Json,
    }
}

#[cfg(test)]
mod tests {
    use load_generator::Generated;

    use super::*;

    fn input(count: usize) -> Input {
        Input::new(Generated::new(1, 10).take(count).collect(), "made up".to_owned(), 3).unwrap()
    }

    #[test]
    fn offsets_count_the_logins_of_a_partition() {
        let input = input(100);
        let ends = input.ends(100);
        assert_eq!(ends.iter().sum::<i64>(), 100);
        for (partition, end) in ends.iter().enumerate() {
            assert_eq!(i64::try_from(input.between(partition, 0, *end).count()), Ok(*end));
            let last: Vec<_> = input.between(partition, end - 1, *end + 5).collect();
            assert_eq!(last.len(), 1);
            let chosen = partition_for_key(last[0].user.as_bytes(), 3);
            assert_eq!(usize::try_from(chosen), Ok(partition));
        }
        assert_eq!(input.ends(0), [0, 0, 0]);
    }

    #[test]
    fn an_input_that_a_partition_could_not_hold_is_refused() {
        input(5_000).check_room(1).unwrap();
        let error = input(80_000).check_room(1).unwrap_err().to_string();
        assert!(error.contains("of the input could come to"), "{error}");
        let error = input(20_000).check_room(50).unwrap_err().to_string();
        assert!(error.contains("of the output could come to"), "{error}");
    }

    #[test]
    fn an_input_without_logins_is_refused() {
        let none = Input::new(Vec::new(), String::new(), 3);
        assert!(matches!(none, Err(DemoError::Empty)));
    }
}
