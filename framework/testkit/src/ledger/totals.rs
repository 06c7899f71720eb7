//! Are the last values of a counting worker right? Its output and its changelog against a count
//! of the input.
//!
//! The ledger sees offsets, not effects: a commit that did not wait for its outputs looks clean
//! there and shows here, as a total that is too old.

use std::collections::BTreeMap;
use std::fmt;

/// Holds the last value per key against an independent count of the input.
///
/// At-least-once: true count ≤ total ≤ true count + explained repeats.
///
/// ```
/// use pelton_testkit::ledger::TotalsCheck;
///
/// let check = TotalsCheck::new([("alice", 3), ("bob", 1)]).allowing([("bob", 1)]);
/// let good = check.hold([("alice", 1), ("alice", 2), ("bob", 2), ("alice", 3)]);
/// assert!(good.is_clean());
/// let old = check.hold([("alice", 3), ("alice", 2), ("bob", 1)]);
/// assert_eq!(old.to_string(), "2 keys: 1 too low, 0 too high\nalice: the last total is 2, its true count is 3");
/// ```
#[derive(Clone, Debug, Default)]
pub struct TotalsCheck {
    truth: BTreeMap<Vec<u8>, u64>,
    repeats: BTreeMap<Vec<u8>, u64>,
    each_once: bool,
    never_back: bool,
}

/// What [`TotalsCheck`] says.
///
/// ```
/// use pelton_testkit::ledger::TotalsCheck;
/// let verdict = TotalsCheck::new([("alice", 1)]).hold([("eve", 1)]);
/// assert_eq!((verdict.too_low.len(), verdict.too_high.len()), (1, 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TotalsVerdict {
    /// Keys in the truth.
    pub keys: usize,
    /// Keys whose last total is below their true count, or missing: lost or overwritten by an
    /// older one.
    pub too_low: Vec<WrongTotal>,
    /// Keys whose last total is above their true count by more than their repeats.
    pub too_high: Vec<WrongTotal>,
    /// Keys with more records than their true count and their repeats allow, where that is asked
    /// for ([`TotalsCheck::each_once`]): how many there are.
    pub too_many: Vec<(Vec<u8>, u64)>,
    /// Keys whose total falls from one record to the next, where that is asked for
    /// ([`TotalsCheck::never_back`]): from, and to.
    pub back: Vec<(Vec<u8>, (u64, u64))>,
}

/// A key whose last total is wrong.
///
/// ```
/// use pelton_testkit::ledger::WrongTotal;
/// let wrong = WrongTotal { key: b"alice".to_vec(), total: Some(5), truth: 3, repeats: 1 };
/// assert_eq!(wrong.to_string(), "alice: the last total is 5, its true count is 3 and 1 repeats are explained");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongTotal {
    /// The key.
    pub key: Vec<u8>,
    /// Its last total, if it has one.
    pub total: Option<u64>,
    /// Its true count.
    pub truth: u64,
    /// Its explained repeats.
    pub repeats: u64,
}

impl TotalsCheck {
    /// With the true count of each key.
    pub fn new<K: Into<Vec<u8>>>(truth: impl IntoIterator<Item = (K, u64)>) -> Self {
        let truth = truth.into_iter().map(|(key, count)| (key.into(), count)).collect();
        Self { truth, ..Self::default() }
    }

    /// The topic gets one record for each that is handled, and nothing had to be sent again (no
    /// delivery failed): a key has no more records than its true count and its repeats.
    ///
    /// ```
    /// use pelton_testkit::ledger::TotalsCheck;
    /// let verdict = TotalsCheck::new([("alice", 2)]).each_once().hold([("alice", 1), ("alice", 1), ("alice", 2)]);
    /// assert_eq!(verdict.too_many, [(b"alice".to_vec(), 3)]);
    /// ```
    #[must_use]
    pub fn each_once(mut self) -> Self {
        self.each_once = true;
        self
    }

    /// Nothing was repeated, and nothing had to be sent again: a key's totals never fall.
    ///
    /// ```
    /// use pelton_testkit::ledger::TotalsCheck;
    /// let verdict = TotalsCheck::new([("alice", 2)]).never_back().hold([("alice", 2), ("alice", 1), ("alice", 2)]);
    /// assert_eq!(verdict.back, [(b"alice".to_vec(), (2, 1))]);
    /// ```
    #[must_use]
    pub fn never_back(mut self) -> Self {
        self.never_back = true;
        self
    }

    /// So many times each key's records may have been counted again:
    /// [`Verdict::repeats_by_key`](crate::ledger::Verdict::repeats_by_key).
    #[must_use]
    pub fn allowing<K: Into<Vec<u8>>>(
        mut self,
        repeats: impl IntoIterator<Item = (K, u64)>,
    ) -> Self {
        self.repeats.extend(repeats.into_iter().map(|(key, count)| (key.into(), count)));
        self
    }

    /// Holds a topic against it: its records as (key, total), in the order of its log. All
    /// records of a key must stand in one partition.
    #[must_use = "a verdict that nobody reads proves nothing"]
    pub fn hold<K: Into<Vec<u8>>>(
        &self,
        records: impl IntoIterator<Item = (K, u64)>,
    ) -> TotalsVerdict {
        let mut verdict = TotalsVerdict { keys: self.truth.len(), ..TotalsVerdict::default() };
        let (mut last, mut written) = (BTreeMap::new(), BTreeMap::<Vec<u8>, u64>::new());
        for (key, total) in records {
            let key = key.into();
            *written.entry(key.clone()).or_insert(0) += 1;
            let before = last.insert(key.clone(), total);
            if let Some(before) = before.filter(|before| self.never_back && *before > total) {
                verdict.back.push((key, (before, total)));
            }
        }
        let strangers = last.keys().filter(|key| !self.truth.contains_key(*key));
        for key in self.truth.keys().chain(strangers) {
            let truth = self.truth.get(key).copied().unwrap_or(0);
            let repeats = self.repeats.get(key).copied().unwrap_or(0);
            let total = last.get(key).copied();
            let wrong = || WrongTotal { key: key.clone(), total, truth, repeats };
            if total.unwrap_or(0) < truth {
                verdict.too_low.push(wrong());
            } else if total.is_some_and(|total| total > truth + repeats) {
                verdict.too_high.push(wrong());
            }
            let written = written.get(key).copied().unwrap_or(0);
            if self.each_once && written > truth + repeats {
                verdict.too_many.push((key.clone(), written));
            }
        }
        verdict
    }
}

impl TotalsVerdict {
    /// Is every last total right?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        let Self { keys: _, too_low, too_high, too_many, back } = self;
        too_low.is_empty() && too_high.is_empty() && too_many.is_empty() && back.is_empty()
    }

    /// The first key with something wrong.
    pub(crate) fn first_key(&self) -> Option<&[u8]> {
        let wrong = self.too_low.iter().chain(&self.too_high).map(|wrong| wrong.key.as_slice());
        let many = self.too_many.iter().map(|(key, _)| key.as_slice());
        wrong.chain(many).chain(self.back.iter().map(|(key, _)| key.as_slice())).next()
    }
}

impl fmt::Display for TotalsVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { keys, too_low, too_high, too_many, back } = self;
        write!(f, "{keys} keys: {} too low, {} too high", too_low.len(), too_high.len())?;
        too_low.iter().chain(too_high).take(10).try_for_each(|wrong| write!(f, "\n{wrong}"))?;
        for (key, written) in too_many.iter().take(10) {
            let key = String::from_utf8_lossy(key);
            write!(f, "\n{key}: it was written {written} times, more often than it was handled")?;
        }
        for (key, (from, to)) in back.iter().take(10) {
            let key = String::from_utf8_lossy(key);
            write!(f, "\n{key}: its total fell from {from} to {to}")?;
        }
        Ok(())
    }
}

impl fmt::Display for WrongTotal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = String::from_utf8_lossy(&self.key);
        let total = self.total.map_or_else(|| "missing".to_owned(), |total| total.to_string());
        write!(f, "{key}: the last total is {total}, its true count is {}", self.truth)?;
        if self.repeats > 0 {
            write!(f, " and {} repeats are explained", self.repeats)?;
        }
        Ok(())
    }
}
