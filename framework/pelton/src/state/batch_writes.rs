//! What do the records of a batch see of each other? What those before them have written, as if it were
//! done.
//!
//! It may turn out that it is not done, and a change that is made only when its record is done can't be
//! seen yet. Who has looked at such a thing is *spoilt*: it is handled again, behind the others.
//!
//! Upholds INV-11 and INV-17 in a batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A store, by its place, and a key of it.
type Entry = (usize, Vec<u8>);

/// What the records of one batch have written so far; they are named by their numbers in it.
#[derive(Debug, Default)]
pub(crate) struct BatchWrites(Mutex<Written>);

#[derive(Debug, Default)]
struct Written {
    latest: BTreeMap<Entry, Latest>,
    /// Who has seen what whom has written: the reader first.
    seen: BTreeSet<(usize, usize)>,
    /// Who could not see what there will be.
    blind: BTreeSet<usize>,
}

#[derive(Debug, Default)]
struct Latest {
    /// By whom, and what; nothing within is a removal.
    write: Option<(usize, Option<Vec<u8>>)>,
    /// Who has changed it since, when they are done.
    merged_by: Vec<usize>,
}

impl BatchWrites {
    fn lock(&self) -> MutexGuard<'_, Written> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self, writer: usize, store: usize, key: &[u8], value: Option<&Vec<u8>>) {
        let mut written = self.lock();
        let latest = written.latest.entry((store, key.to_vec())).or_default();
        // They are done in their order, in whatever order they write.
        if latest.write.as_ref().is_none_or(|(before, _)| *before <= writer) {
            latest.write = Some((writer, value.cloned()));
            latest.merged_by.retain(|merger| *merger > writer);
        }
    }

    pub(crate) fn merge(&self, writer: usize, store: usize, key: &[u8]) {
        let mut written = self.lock();
        written.latest.entry((store, key.to_vec())).or_default().merged_by.push(writer);
    }

    /// What `reader`, which has not written it itself, sees there; `None` if nobody of the batch has
    /// written it.
    pub(crate) fn read(&self, reader: usize, store: usize, key: &[u8]) -> Option<Option<Vec<u8>>> {
        let mut written = self.lock();
        let Written { latest, seen, blind } = &mut *written;
        let latest = latest.get(&(store, key.to_vec()))?;
        if latest.merged_by.iter().any(|writer| *writer != reader) {
            blind.insert(reader);
        }
        let (writer, value) = latest.write.as_ref()?;
        seen.insert((reader, *writer));
        Some(value.clone())
    }

    /// Who has to be handled again, where these are not done.
    pub(crate) fn spoilt(&self, is_done: &[bool]) -> BTreeSet<usize> {
        let written = self.lock();
        let mut spoilt = written.blind.clone();
        for (reader, writer) in &written.seen {
            let counts = is_done.get(*writer) == Some(&true) && !spoilt.contains(writer);
            // What one behind it has written is done later, if at all.
            if !counts || writer > reader {
                spoilt.insert(*reader);
            }
        }
        spoilt
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spoilt(writes: &BatchWrites, is_done: &[bool]) -> Vec<usize> {
        writes.spoilt(is_done).into_iter().collect()
    }

    #[test]
    fn inv_11_who_has_seen_what_is_not_done_is_spoilt_and_who_has_seen_that_one_too() {
        let writes = BatchWrites::default();
        let value = Some(b"1".to_vec());
        writes.write(0, 0, b"a", value.as_ref());
        assert_eq!(writes.read(1, 0, b"a"), Some(value));
        writes.write(1, 0, b"b", None);
        assert_eq!(writes.read(2, 0, b"b"), Some(None));
        assert_eq!(writes.read(3, 0, b"c"), None);
        assert_eq!(spoilt(&writes, &[true; 4]), [0; 0]);
        assert_eq!(spoilt(&writes, &[false, true, true, true]), [1, 2]);
        assert_eq!(spoilt(&writes, &[true, false, true, true]), [2]);
    }

    /// A handler that went backwards left the older write for those behind both.
    #[test]
    fn inv_17_of_two_writes_that_of_the_later_record_is_seen_whichever_came_last() {
        let writes = BatchWrites::default();
        let value = Some(b"1".to_vec());
        writes.merge(2, 0, b"a");
        writes.write(1, 0, b"a", value.as_ref());
        writes.write(0, 0, b"a", None);
        assert_eq!(writes.read(3, 0, b"a"), Some(value));
        assert_eq!(spoilt(&writes, &[true; 4]), [3], "the change is made behind what it has seen");
    }

    #[test]
    fn inv_17_who_reads_what_is_changed_when_others_are_done_is_spoilt() {
        let writes = BatchWrites::default();
        writes.write(0, 0, b"a", None);
        writes.merge(1, 0, b"a");
        assert_eq!(writes.read(1, 0, b"a"), Some(None), "it does not see its own change");
        assert_eq!(spoilt(&writes, &[true; 3]), [0; 0]);
        assert_eq!(writes.read(2, 0, b"a"), Some(None));
        assert_eq!(spoilt(&writes, &[true; 3]), [2]);
        writes.write(2, 0, b"b", None);
        writes.read(1, 0, b"b");
        assert_eq!(spoilt(&writes, &[true; 3]), [1, 2], "it has seen what comes behind it");
    }
}
