//! Which partitions may fetch? As many bytes and records as the worker's one budget allows.
//!
//! Each partition has a share of the budget. It stops fetching when its buffer fills the share or
//! all buffers together the budget, and starts again when half of its share is free (hysteresis: a
//! stop discards what librdkafka has prefetched, so it must not flicker). Shares shrink when
//! partitions are added: what is held by then counts, and an empty partition still gets one run.
//! Upholds INV-4: what is buffered stays below the budget, but for the one run by which each
//! partition may overshoot.

/// Records and bytes together: what is buffered, or how much may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Volume {
    pub(crate) records: u64,
    pub(crate) bytes: u64,
}

impl Volume {
    pub(crate) fn add(&mut self, other: Self) {
        self.records = self.records.saturating_add(other.records);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }

    pub(crate) fn remove(&mut self, other: Self) {
        self.records = self.records.saturating_sub(other.records);
        self.bytes = self.bytes.saturating_sub(other.bytes);
    }

    pub(crate) fn is_empty(self) -> bool {
        self.records == 0
    }

    /// The share of one of `partitions` partitions.
    pub(crate) fn share(self, partitions: usize) -> Self {
        let parts = u64::try_from(partitions.max(1)).unwrap_or(u64::MAX);
        Self { records: (self.records / parts).max(1), bytes: (self.bytes / parts).max(1) }
    }

    /// Is the share used up?
    pub(crate) fn fills(self, share: Self) -> bool {
        self.records >= share.records || self.bytes >= share.bytes
    }

    /// Is at least half of the share free again?
    pub(crate) fn leaves_half_of(self, share: Self) -> bool {
        self.records <= share.records / 2 && self.bytes <= share.bytes / 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_stops_when_full_and_starts_again_at_half() {
        let share = Volume { records: 100, bytes: 1_000 }.share(10);
        assert_eq!(share, Volume { records: 10, bytes: 100 });
        assert!(Volume { records: 10, bytes: 0 }.fills(share));
        assert!(Volume { records: 0, bytes: 100 }.fills(share));
        assert!(!Volume { records: 9, bytes: 99 }.fills(share));
        assert!(Volume { records: 5, bytes: 50 }.leaves_half_of(share));
        assert!(!Volume { records: 5, bytes: 51 }.leaves_half_of(share));
    }

    #[test]
    fn a_tiny_budget_still_lets_every_partition_have_one_record() {
        let share = Volume { records: 3, bytes: 3 }.share(64);
        assert_eq!(share, Volume { records: 1, bytes: 1 });
        assert!(Volume::default().leaves_half_of(share));
    }
}
