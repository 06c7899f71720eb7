//! May one record more go to the dead letters, or is something wrong that is not the record's fault?
//!
//! A bad deployment fails every record. Without a limit it would drain a topic into dead letters
//! within minutes, and every one of them would have to be brought back by hand.

use std::collections::VecDeque;

/// How many records of a partition may become dead letters before the next ones wait instead.
///
/// ```
/// use pelton_engine::DeadLetterLimit;
///
/// let limit = DeadLetterLimit::default();
/// assert_eq!((limit.in_a_row, limit.of_a_thousand), (20, 100));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadLetterLimit {
    /// So many one after the other. Default 20.
    pub in_a_row: u32,
    /// So many of the last thousand. Default 100.
    pub of_a_thousand: u32,
}

impl Default for DeadLetterLimit {
    fn default() -> Self {
        Self { in_a_row: 20, of_a_thousand: 100 }
    }
}

impl DeadLetterLimit {
    /// Every record may.
    pub const NONE: Self = Self { in_a_row: u32::MAX, of_a_thousand: u32::MAX };
}

/// What became of a partition's last records, and what that allows.
///
/// ```
/// use pelton_engine::{DeadLetterGauge, DeadLetterLimit};
///
/// let mut gauge = DeadLetterGauge::new(DeadLetterLimit { in_a_row: 2, of_a_thousand: 100 });
/// gauge.saw(true);
/// gauge.saw(true);
/// assert!(!gauge.allows()); // the third one waits
/// gauge.saw(false); // it was done after all
/// assert!(gauge.allows());
/// ```
#[derive(Debug)]
pub struct DeadLetterGauge {
    limit: DeadLetterLimit,
    /// So many records are through.
    seen: u64,
    /// Which of the last thousand were dead letters, counted from the first one.
    dead: VecDeque<u64>,
    in_a_row: u32,
}

/// So many records are looked back on.
const WINDOW: u64 = 1_000;

impl DeadLetterGauge {
    /// Nothing was seen yet.
    #[must_use]
    pub fn new(limit: DeadLetterLimit) -> Self {
        Self { limit, seen: 0, dead: VecDeque::new(), in_a_row: 0 }
    }

    /// May one more become a dead letter?
    #[must_use]
    pub fn allows(&self) -> bool {
        let dead = u32::try_from(self.dead.len()).unwrap_or(u32::MAX);
        self.in_a_row < self.limit.in_a_row && dead < self.limit.of_a_thousand
    }

    /// A record is through: as a dead letter, or done.
    pub fn saw(&mut self, is_dead: bool) {
        self.seen += 1;
        if self.dead.front().is_some_and(|oldest| *oldest + WINDOW <= self.seen) {
            self.dead.pop_front();
        }
        if is_dead {
            self.dead.push_back(self.seen);
        }
        self.in_a_row = if is_dead { self.in_a_row.saturating_add(1) } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_topic_that_fails_throughout_stops_after_a_few() {
        let mut gauge = DeadLetterGauge::new(DeadLetterLimit::default());
        let dead = (0..1_000).take_while(|_| gauge.allows().then(|| gauge.saw(true)).is_some());
        assert_eq!(dead.count(), 20);
    }

    proptest! {
        /// However records end: no thousand in a row and no run has more than its limit.
        #[test]
        fn no_stretch_has_more_than_its_limit(
            in_a_row in 1u32..30, of_a_thousand in 1u32..150,
            wishes in prop::collection::vec(prop::bool::weighted(0.6), 0..3_000),
        ) {
            let mut gauge = DeadLetterGauge::new(DeadLetterLimit { in_a_row, of_a_thousand });
            let mut seen = Vec::new();
            for wish in wishes {
                let is_dead = wish && gauge.allows();
                gauge.saw(is_dead);
                seen.push(is_dead);
                let dead = seen.iter().rev().take(1_000).filter(|is_dead| **is_dead).count();
                let run = seen.iter().rev().take_while(|is_dead| **is_dead).count();
                prop_assert!(dead <= of_a_thousand as usize && run <= in_a_row as usize);
            }
        }
    }
}
