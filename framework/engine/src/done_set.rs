//! Which offsets are done above the committable one, and how does a commit's metadata say so?
//!
//! Text of digits of six bits: `<base>-<highest>` and then either `b` and a bit for each offset from
//! the base on, or `r` and how many are open, done, open, done, …, in digits of five bits and a sign
//! that another follows. Whichever names more in the room there is.
//!
//! Upholds INV-1: what it names is done. What does not fit is left out, and only handled again.

use std::fmt;
use std::ops::Range;

use crate::envelope::METADATA_LIMIT_BYTES;
use crate::ids::Offset;

/// Offsets done above the committable one.
///
/// Its ranges may cover offsets without a record (compaction, transaction markers): nothing comes
/// there any more.
///
/// ```
/// use pelton_engine::{DoneSet, Offset};
///
/// let mut done = DoneSet::above(Offset(100));
/// done.push(Offset(101), Offset(103));
/// done.push(Offset(107), Offset(107));
/// let text = done.encode(4_000);
/// assert_eq!(text, "100-107bOC");
/// assert_eq!(DoneSet::decode(&text), Ok(done));
/// # Ok::<(), pelton_engine::DoneSetDamaged>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoneSet {
    base: Offset,
    /// In order, neither empty nor touching each other, none below the base.
    ranges: Vec<Range<i64>>,
}

/// A text is no done-set.
///
/// ```
/// use pelton_engine::{DoneSet, DoneSetDamaged};
/// assert_eq!(DoneSet::decode("100-99b"), Err(DoneSetDamaged));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoneSetDamaged;

impl fmt::Display for DoneSetDamaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the done-set is damaged")
    }
}

impl std::error::Error for DoneSetDamaged {}

impl DoneSet {
    /// An empty one, for a commit at `base`.
    #[must_use]
    pub fn above(base: Offset) -> Self {
        Self { base, ranges: Vec::new() }
    }

    /// Everything from `first` to `last` is done, too. Ignored if it does not lie above all that is
    /// in it already.
    pub fn push(&mut self, first: Offset, last: Offset) {
        let next = self.ranges.last().map_or(self.base.0, |range| range.end);
        let Some(end) = last.0.checked_add(1) else { return };
        if first.0 < next || last < first {
            return;
        }
        match self.ranges.last_mut().filter(|range| range.end == first.0) {
            Some(range) => range.end = end,
            None => self.ranges.push(first.0..end),
        }
    }

    /// Takes in what another one names above all that is in this one already.
    pub fn push_all(&mut self, other: &Self) {
        for range in &other.ranges {
            let next = self.ranges.last().map_or(self.base.0, |last| last.end);
            self.push(Offset(range.start.max(next)), Offset(range.end - 1));
        }
    }

    /// The committed offset that it belongs to.
    #[must_use]
    pub fn base(&self) -> Offset {
        self.base
    }

    /// The last offset that is done.
    #[must_use]
    pub fn highest(&self) -> Option<Offset> {
        self.ranges.last().map(|range| Offset(range.end - 1))
    }

    /// Is nothing done above the committable offset?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Is the record at `offset` done?
    #[must_use]
    pub fn contains(&self, offset: Offset) -> bool {
        let behind = self.ranges.partition_point(|range| range.end <= offset.0);
        self.ranges.get(behind).is_some_and(|range| range.contains(&offset.0))
    }

    /// How many offsets from the committed one up to `until` are not done.
    pub(crate) fn undone_below(&self, until: Offset) -> i64 {
        let done = |range: &Range<i64>| (range.end.min(until.0) - range.start).max(0);
        (until.0 - self.base.0).max(0) - self.ranges.iter().map(done).sum::<i64>()
    }

    /// The offset that so many below it are not done.
    pub(crate) fn with_undone_below(&self, count: i64) -> Offset {
        let (mut until, mut left) = (self.base.0, count);
        for range in &self.ranges {
            let open = range.start - until;
            if open >= left {
                break;
            }
            (until, left) = (range.end, left - open);
        }
        Offset(until.saturating_add(left))
    }

    /// Does it speak of this commit, and of this log? `end` is the log's end offset. Otherwise
    /// somebody has moved the commit, or the topic is another.
    #[must_use]
    pub fn fits(&self, committed: Offset, end: Offset) -> bool {
        self.base == committed && self.highest().is_none_or(|highest| highest < end)
    }

    /// Does it say more than another one of the same assignment, which only ever says more?
    ///
    /// ```
    /// use pelton_engine::{DoneSet, Offset};
    ///
    /// let (start, mut more) = (DoneSet::above(Offset(100)), DoneSet::above(Offset(100)));
    /// more.push(Offset(102), Offset(102));
    /// assert!(more.is_ahead_of(&start) && DoneSet::above(Offset(103)).is_ahead_of(&more));
    /// assert!(!more.is_ahead_of(&more));
    /// ```
    #[must_use]
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        let names =
            |set: &Self| set.ranges.iter().map(|range| range.end - range.start).sum::<i64>();
        (self.base, names(self)) > (other.base, names(other))
    }

    /// As text, at most `room_bytes` long: its lowest offsets, as many as there is room for. Empty
    /// if there is room for none.
    #[must_use]
    pub fn encode(&self, room_bytes: usize) -> String {
        let Some(highest) = self.highest() else { return String::new() };
        let head = format!("{}-{highest}", self.base).len() + 1;
        let room = room_bytes.min(METADATA_LIMIT_BYTES).saturating_sub(head);
        let (bits, runs) = (self.bits(room), self.runs(room));
        let is_better = (bits.names, runs.digits.len()) > (runs.names, bits.digits.len());
        let (form, said) = if is_better { (BITS, bits) } else { (RUNS, runs) };
        let Some(highest) = said.highest else { return String::new() };
        let digits: String = said.digits.iter().map(|digit| char::from(letter(*digit))).collect();
        format!("{}-{highest}{form}{digits}", self.base)
    }

    /// Reads what [`encode`](Self::encode) wrote.
    ///
    /// # Errors
    ///
    /// If it can't have been written by it.
    pub fn decode(text: &str) -> Result<Self, DoneSetDamaged> {
        Self::read(text).ok_or(DoneSetDamaged)
    }

    fn read(text: &str) -> Option<Self> {
        let form = text.find([BITS, RUNS])?;
        let (base, highest) = text[..form].split_once('-')?;
        let offset = |text: &str| text.parse::<u64>().ok().and_then(|n| i64::try_from(n).ok());
        let (base, highest) = (offset(base)?, offset(highest)?);
        let digits: Option<Vec<u8>> = text[form + 1..].bytes().map(value).collect();
        let set = Self::above(Offset(base));
        let set = if text[form..].starts_with(BITS) {
            set.with_bits(&digits?)?
        } else {
            set.with_runs(&digits?)?
        };
        (set.highest() == Some(Offset(highest))).then_some(set)
    }

    /// A bit for each offset from the base on, the first one the lowest of its digit.
    fn bits(&self, room: usize) -> Said {
        let limit = i64::try_from(room * DIGIT).unwrap_or(i64::MAX);
        let mut said = Said::default();
        for range in &self.ranges {
            let (first, end) = (range.start - self.base.0, (range.end - self.base.0).min(limit));
            for at in first..end {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                said.digits.resize(at / DIGIT + 1, 0);
                said.digits[at / DIGIT] |= 1 << (at % DIGIT);
            }
            if first < end {
                said.names += end - first;
                said.highest = Some(Offset(self.base.0 + end - 1));
            }
        }
        said
    }

    fn with_bits(mut self, digits: &[u8]) -> Option<Self> {
        for (place, digit) in digits.iter().enumerate() {
            for bit in (0..DIGIT).filter(|bit| digit >> bit & 1 == 1) {
                let at = i64::try_from(place * DIGIT + bit).ok()?;
                let offset = Offset(self.base.0.checked_add(at)?);
                self.push(offset, offset);
            }
        }
        Some(self)
    }

    /// How many are open, done, open, done, …
    fn runs(&self, room: usize) -> Said {
        let (mut said, mut at) = (Said::default(), self.base.0);
        for range in &self.ranges {
            let before = said.digits.len();
            push_number(&mut said.digits, range.start - at);
            push_number(&mut said.digits, range.end - range.start);
            if said.digits.len() > room {
                said.digits.truncate(before);
                break;
            }
            said.names += range.end - range.start;
            said.highest = Some(Offset(range.end - 1));
            at = range.end;
        }
        said
    }

    fn with_runs(mut self, digits: &[u8]) -> Option<Self> {
        let (mut digits, mut at) = (digits.iter(), self.base.0);
        while !digits.as_slice().is_empty() {
            let first = at.checked_add(take_number(&mut digits)?)?;
            at = first.checked_add(take_number(&mut digits)?)?;
            self.push(Offset(first), Offset(at.checked_sub(1)?));
        }
        Some(self)
    }
}

const BITS: char = 'b';
const RUNS: char = 'r';

/// Bits of a digit.
const DIGIT: usize = 6;

/// Bits of a digit that are the number's; the highest says that another digit follows.
const PART: u32 = 5;

/// Digits, and what they say.
#[derive(Debug, Default)]
struct Said {
    digits: Vec<u8>,
    /// So many offsets.
    names: i64,
    highest: Option<Offset>,
}

fn push_number(digits: &mut Vec<u8>, number: i64) {
    let mut rest = number.unsigned_abs();
    loop {
        let part = u8::try_from(rest & 31).unwrap_or(0);
        rest >>= PART;
        if rest == 0 {
            digits.push(part);
            return;
        }
        digits.push(part | 1 << PART);
    }
}

fn take_number(digits: &mut std::slice::Iter<'_, u8>) -> Option<i64> {
    let (mut number, mut shift) = (0_u64, 0);
    loop {
        let digit = *digits.next()?;
        let part = u64::from(digit & 31);
        // Bits that would be lost are not there.
        number |= part.checked_shl(shift).filter(|shifted| shifted >> shift == part)?;
        if digit >> PART == 0 {
            return i64::try_from(number).ok();
        }
        shift += PART;
    }
}

/// The letters of base64, in its order.
const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn letter(digit: u8) -> u8 {
    LETTERS[usize::from(digit & 63)]
}

fn value(letter: u8) -> Option<u8> {
    let at = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Open and done ranges in turn, from the base on.
    fn done_set() -> impl Strategy<Value = DoneSet> {
        let length = prop_oneof![4 => 1i64..6, 1 => 1i64..3_000, 1 => Just(1 << 40)];
        let lengths = prop::collection::vec((length.clone(), length), 0..1_500);
        (0i64..1 << 50, lengths).prop_map(|(base, lengths)| {
            let (mut set, mut at) = (DoneSet::above(Offset(base)), base);
            for (open, done) in lengths {
                set.push(Offset(at + open), Offset(at + open + done - 1));
                at += open + done;
            }
            set
        })
    }

    /// Other versions read it: it is as it always was.
    #[test]
    fn what_is_not_done_is_counted_from_the_base_on() {
        let mut done = DoneSet::above(Offset(10));
        done.push(Offset(12), Offset(19));
        done.push(Offset(25), Offset(25));
        let undone = [9, 10, 12, 15, 20, 22, 30].map(|until| done.undone_below(Offset(until)));
        assert_eq!(undone, [0, 0, 2, 2, 2, 4, 11]);
        let until = [0, 1, 2, 3, 7, 8].map(|count| done.with_undone_below(count).0);
        assert_eq!(until, [10, 11, 12, 21, 25, 27]);
    }

    #[test]
    fn inv_8_the_text_is_the_same_in_every_version() {
        let mut done = DoneSet::above(Offset(100));
        done.push(Offset(101), Offset(103));
        done.push(Offset(170), Offset(170));
        assert_eq!(done.encode(4_000), "100-170rBDiCB");
        let mut bits = DoneSet::above(Offset(7));
        (0..10).for_each(|n| bits.push(Offset(8 + 2 * n), Offset(8 + 2 * n)));
        assert_eq!(bits.encode(4_000), "7-26bqqqC");
    }

    #[test]
    fn what_is_done_is_told_and_nothing_else() {
        let mut done = DoneSet::above(Offset(5));
        assert!(done.is_empty());
        done.push(Offset(7), Offset(8));
        done.push(Offset(9), Offset(9)); // touches
        done.push(Offset(8), Offset(20)); // is not above
        done.push(Offset(30), Offset(29)); // is empty
        done.push(Offset(i64::MAX), Offset(i64::MAX)); // has no next
        assert_eq!((5..12).filter(|n| done.contains(Offset(*n))).collect::<Vec<_>>(), [7, 8, 9]);
        assert_eq!(done.highest(), Some(Offset(9)));
    }

    #[test]
    fn it_speaks_of_one_commit_and_of_a_log_that_is_long_enough() {
        let mut done = DoneSet::above(Offset(5));
        assert!(done.fits(Offset(5), Offset(5)));
        done.push(Offset(7), Offset(8));
        assert!(done.fits(Offset(5), Offset(9)));
        assert!(!done.fits(Offset(5), Offset(8)), "another log");
        assert!(!done.fits(Offset(4), Offset(9)), "somebody has moved the commit");
    }

    #[test]
    fn what_can_not_have_been_written_is_refused() {
        for text in
            ["", "b", "5-7", "-5-7bE", "5-7xE", "5-8bE", "5-7b", "5-7r", "5-7rC", "5-7bÄ", "5-7rCA"]
        {
            assert_eq!(DoneSet::decode(text), Err(DoneSetDamaged), "{text}");
        }
        assert!(DoneSet::decode("5-7bE").is_ok() && DoneSet::decode("5-7rCB").is_ok());
        let beyond = format!("{}-{}bE", i64::MAX, i64::MAX);
        assert_eq!(DoneSet::decode(&beyond), Err(DoneSetDamaged));
        assert_eq!(DoneSet::decode("1-1r//////////////////P"), Err(DoneSetDamaged));
    }

    proptest! {
        /// INV-1: cut to the room there is, it names nothing that is not done.
        #[test]
        fn inv_1_what_is_read_back_is_done_and_fits_the_room(set in done_set(), room in 0usize..4_100) {
            let text = set.encode(room);
            prop_assert!(text.len() <= room);
            if text.is_empty() { return Ok(()); }
            let read = DoneSet::decode(&text).expect("it was written");
            prop_assert_eq!(read.base, set.base);
            for range in &read.ranges {
                let within = set.ranges.iter().any(|all| all.start <= range.start && range.end <= all.end);
                prop_assert!(within, "{range:?} is not done");
            }
            let whole = set.encode(METADATA_LIMIT_BYTES);
            if whole.len() < METADATA_LIMIT_BYTES / 2 {
                prop_assert_eq!(DoneSet::decode(&whole), Ok(set), "there is room for all of it");
            }
        }
    }
}
