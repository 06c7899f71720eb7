//! Where does the line of a unit end? A hash table, and the only one of this crate: it is
//! never iterated, so its order decides nothing.
//!
//! A unit is the hash of a key already, spread over all 64 bits: it is not hashed again. Against a
//! `BTreeMap` it saves two thirds of a record's cost in the schedule (`cargo bench-worker scheduler`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The index of the last record of each unit that has records.
#[derive(Debug, Default)]
pub(crate) struct LineTable(HashMap<u64, u64, BuildHasherDefault<AsItIs>>);

impl LineTable {
    /// The one that was there.
    pub(crate) fn insert(&mut self, unit: u64, last: u64) -> Option<u64> {
        self.0.insert(unit, last)
    }

    pub(crate) fn remove(&mut self, unit: u64) {
        self.0.remove(&unit);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// A hash that is one already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}
