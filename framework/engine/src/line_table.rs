//! Where does the line of a unit begin and end? A hash table, and the only one of this crate: it is
//! never iterated, so its order decides nothing.
//!
//! A unit is the hash of a key already, spread over all 64 bits: it is not hashed again. Against a
//! `BTreeMap` it saves two thirds of a record's cost in the schedule (`cargo bench-worker scheduler`).

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// The indices of a unit's first and last record.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

/// The lines of units that have records.
#[derive(Debug, Default)]
pub(crate) struct LineTable(HashMap<u64, Line, BuildHasherDefault<AsItIs>>);

impl LineTable {
    pub(crate) fn get_mut(&mut self, unit: u64) -> Option<&mut Line> {
        self.0.get_mut(&unit)
    }

    pub(crate) fn insert(&mut self, unit: u64, line: Line) {
        self.0.insert(unit, line);
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
