//! What is a worker doing at this moment? Its own ledger, read while it writes.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::ClusterError;

/// The steps that one worker process writes down.
#[derive(Clone, Debug)]
pub struct Steps {
    file: PathBuf,
}

/// An attempt at a record that has begun and not ended.
///
/// ```
/// use pelton_tests::InFlight;
///
/// let attempt = InFlight { partition: "logins-0".into(), epoch: 3, offset: 17, attempt: 1 };
/// assert_eq!(attempt.to_string(), "logins-0 offset 17, attempt 1 (epoch 3)");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// Of which topic-partition.
    pub partition: String,
    /// In which assignment.
    pub epoch: u64,
    /// The record's offset.
    pub offset: i64,
    /// From 1.
    pub attempt: u32,
}

/// A record in flight has begun within the last so many bytes: about 3,000 records.
const RECENT: u64 = 512 * 1024;

impl Steps {
    pub(crate) fn of(folder: &Path, name: &str, pid: u32) -> Self {
        Self { file: folder.join(format!("{name}-{pid}.ledger")) }
    }

    /// Where its ledger ends now: what it does later stands behind.
    ///
    /// # Errors
    ///
    /// If it has none.
    pub fn end(&self) -> Result<u64, ClusterError> {
        let length = std::fs::metadata(&self.file).map(|file| file.len());
        length.map_err(ClusterError::io(self.file.display().to_string()))
    }

    /// The records that its handlers are in the middle of.
    ///
    /// # Errors
    ///
    /// If its ledger can't be read.
    pub fn in_flight(&self) -> Result<Vec<InFlight>, ClusterError> {
        let recent = self.since(self.end()?.saturating_sub(RECENT))?;
        Ok(in_flight(&recent))
    }

    /// Has it written an entry of that kind (`lost`, `assigned`, …) behind `from`?
    ///
    /// # Errors
    ///
    /// If its ledger can't be read.
    pub fn have(&self, kind: &str, from: u64) -> Result<bool, ClusterError> {
        let text = self.since(from)?;
        Ok(text.lines().any(|line| line.split(' ').nth(1) == Some(kind)))
    }

    fn since(&self, from: u64) -> Result<String, ClusterError> {
        let io = || ClusterError::io(self.file.display().to_string());
        let mut file = File::open(&self.file).map_err(io())?;
        file.seek(SeekFrom::Start(from)).map_err(io())?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(io())?;
        Ok(text)
    }
}

/// Lines that are cut off, at the beginning or the end, are none.
fn in_flight(ledger: &str) -> Vec<InFlight> {
    let mut open = Vec::new();
    for line in ledger.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, kind, partition, epoch, offset, attempt, ..] = words[..] else {
            continue;
        };
        let (Ok(epoch), Ok(offset), Ok(attempt)) = (epoch.parse(), offset.parse(), attempt.parse())
        else {
            continue;
        };
        let this = InFlight { partition: partition.to_owned(), epoch, offset, attempt };
        match kind {
            "start" => open.push(this),
            "end" => open.retain(|begun| *begun != this),
            _ => {}
        }
    }
    open
}

impl std::fmt::Display for InFlight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { partition, epoch, offset, attempt } = self;
        write!(f, "{partition} offset {offset}, attempt {attempt} (epoch {epoch})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_in_flight_from_its_start_to_its_end() {
        let ledger = "ut off-0 1 4 1\n\
            10 start t-0 1 5 1\n\
            20 try t-0 1 4 7\n\
            30 start t-1 2 8 1\n\
            40 end t-0 1 5 1 done\n\
            50 start t-0 1 6 2\n\
            60 end t-1 2 8 1 do";
        let open: Vec<_> = in_flight(ledger).iter().map(ToString::to_string).collect();
        assert_eq!(
            open,
            ["t-1 offset 8, attempt 1 (epoch 2)", "t-0 offset 6, attempt 2 (epoch 1)"]
        );
    }
}
