//! Who may start one record more, where the partitions of an input share so many at once?
//!
//! Whoever asks first, while there is room for all. Once somebody was refused, who has his fair
//! share or more waits behind him: each place that becomes free goes to the next in line.
//!
//! Upholds INV-16: never more at once than the limit, and each partition its share.

use std::collections::VecDeque;

use crate::ids::PartitionId;
use crate::planted::Bug;

/// So many records at once, shared by partitions.
///
/// ```
/// use pelton_engine::{PartitionId, Shares};
///
/// let (a, b) = (PartitionId(0), PartitionId(1));
/// let mut shares = Shares::new(2);
/// shares.joined();
/// shares.joined();
/// assert!(shares.take(a, 0) && shares.take(a, 1)); // b has nothing to do
/// assert!(!shares.take(b, 0)); // and now it has
/// assert_eq!(shares.give_back(1), [b]);
/// assert!(shares.take(b, 0) && !shares.take(a, 1));
/// ```
#[derive(Debug)]
pub struct Shares {
    limit: usize,
    running: usize,
    partitions: usize,
    /// Refused, first come first.
    waiting: VecDeque<PartitionId>,
    bug: Option<Bug>,
}

impl Shares {
    /// At most `limit` at once, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        let (limit, waiting) = (limit.max(1), VecDeque::new());
        Self { limit, running: 0, partitions: 0, waiting, bug: None }
    }

    /// Plants a known bug (tests only; without the feature `planted-bugs` it does nothing).
    pub fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// One partition more takes part.
    pub fn joined(&mut self) {
        self.partitions += 1;
    }

    /// A partition takes part no more; what it held it has given back. Returns who may ask again.
    pub fn left(&mut self, partition: PartitionId) -> Vec<PartitionId> {
        self.partitions = self.partitions.saturating_sub(1);
        self.withdraw(partition)
    }

    /// May this partition, which has `own` running, start another one? If not it stands in line
    /// until it may, or withdraws.
    pub fn take(&mut self, partition: PartitionId, own: usize) -> bool {
        let others_wait = self.waiting.iter().any(|waiting| *waiting != partition);
        let is_free = self.running < self.limit || Bug::PlacesWithoutLimit.is(self.bug);
        let may = is_free && (!others_wait || own < self.share());
        if may {
            self.running += 1;
            self.waiting.retain(|waiting| *waiting != partition);
        } else if !self.waiting.contains(&partition) {
            self.waiting.push_back(partition);
        }
        may
    }

    /// May a partition that has `own` running start the next one in the place of one that has
    /// ended? Not if others wait and it has more than its share.
    #[must_use]
    pub fn may_keep(&self, own: usize) -> bool {
        self.waiting.is_empty() || own <= self.share()
    }

    /// So many have ended, and none takes their place. Returns who stands in line for it: they
    /// should ask again, or withdraw.
    pub fn give_back(&mut self, records: usize) -> Vec<PartitionId> {
        self.running = self.running.saturating_sub(records);
        self.waiting.iter().copied().take(self.free()).collect()
    }

    /// This partition has nothing to start any more. Returns who may ask in its place.
    pub fn withdraw(&mut self, partition: PartitionId) -> Vec<PartitionId> {
        self.waiting.retain(|waiting| *waiting != partition);
        self.waiting.iter().copied().take(self.free()).collect()
    }

    /// How many more could start.
    #[must_use]
    pub fn free(&self) -> usize {
        self.limit.saturating_sub(self.running)
    }

    /// Each partition's fair share, at least one.
    fn share(&self) -> usize {
        (self.limit / self.partitions.max(1)).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The property below can tell.
    #[cfg(feature = "planted-bugs")]
    #[test]
    fn nobody_counts_and_there_are_too_many() {
        let mut shares = Shares::new(2);
        shares.plant(Some(Bug::PlacesWithoutLimit));
        shares.joined();
        assert_eq!((0..9).filter(|own| shares.take(PartitionId(0), *own)).count(), 9);
    }

    proptest! {
        /// However records start and end: never more at once than may, nobody waits while there is
        /// room, and whoever keeps asking gets his share.
        #[test]
        fn inv_16_never_more_than_the_limit_and_everybody_gets_his_share(
            limit in 1usize..12, partitions in 1u32..6,
            steps in prop::collection::vec((0u32..6, any::<bool>()), 1..200),
        ) {
            let mut shares = Shares::new(limit);
            (0..partitions).for_each(|_| shares.joined());
            let mut own = vec![0_usize; partitions as usize];
            for (pick, starts) in steps {
                let pick = pick % partitions;
                let mine = own[pick as usize];
                if starts {
                    let is_free = own.iter().sum::<usize>() < limit;
                    let took = shares.take(PartitionId(pick), mine);
                    prop_assert!(!took || is_free, "more than the limit");
                    prop_assert!(took || !is_free || mine >= shares.share(), "refused its share");
                    own[pick as usize] += usize::from(took);
                } else if mine > 0 {
                    own[pick as usize] -= 1;
                    shares.give_back(1);
                }
            }
            // All have work without end: places go round until everybody has his share.
            for round in 0..limit * 4 {
                for partition in 0..partitions {
                    let mine = own[partition as usize];
                    own[partition as usize] += usize::from(shares.take(PartitionId(partition), mine));
                }
                let richest = (0..own.len()).max_by_key(|at| (own[*at], *at == round % own.len()));
                if let Some(richest) = richest.filter(|at| own[*at] > shares.share()) {
                    own[richest] -= 1;
                    shares.give_back(1);
                }
            }
            let poorest = own.iter().min().copied().unwrap_or(0);
            prop_assert!(poorest >= shares.share() || limit < own.len(), "{own:?}");
        }
    }
}
