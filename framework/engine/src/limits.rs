//! How much, how often, how long? The engine's settings, as values.

use std::time::Duration;

use crate::planted::Bug;

/// The engine's settings, as values.
///
/// ```
/// use pelton_engine::{Action, EngineLimits, Event, RunInfo};
/// # use pelton_engine::{Engine, Epoch, Offset, PartitionId, Time};
///
/// let limits = EngineLimits { budget_records: 100, ..EngineLimits::default() };
/// let mut engine = Engine::new(limits);
/// # let partition = PartitionId(0);
/// # let mut actions = Vec::new();
/// # engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// # let (epoch, position, committed) = (Epoch(1), Offset(3), None);
/// # engine.handle(Time::ZERO, Event::Restored { partition, epoch, position, committed }, &mut actions);
/// // A run that fills the budget stops the fetch.
/// let run = RunInfo { first: Offset(3), last: Offset(102), records: 100, bytes: 6_400 };
/// engine.handle(Time::ZERO, Event::Fetched { partition, run }, &mut actions);
/// assert_eq!(actions.last(), Some(&Action::StopFetch { partition }));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EngineLimits {
    /// Records that all partitions may buffer together. Default 100,000.
    pub budget_records: u64,
    /// Bytes that all partitions may hold together, of records and of effects. Default 256 MiB.
    pub budget_bytes: u64,
    /// Records may have effects: outputs, or writes to stores. Default yes.
    pub effects: bool,
    /// Between two rounds of commits. Default 1 s.
    pub commit_interval: Duration,
    /// After it, a drain cancels what still runs. Default 10 s.
    pub drain_timeout: Duration,
    /// After it, a drain releases its partition whatever has been committed; between the two,
    /// effects become durable and offsets are committed. Default 20 s; it must stay below half
    /// of `max.poll.interval.ms`, past which the broker gives partitions away without a word.
    pub release_timeout: Duration,
    /// An output is delivered or given up so long after it was sent. Default 7.5 s.
    pub delivery_timeout: Duration,
    /// A running partition that hears nothing for so long asks for the end of its log; if it has
    /// lag, it is fetched anew. Default 30 s.
    pub silent_after: Duration,
    /// A partition that gives no sign of life before it starts is begun anew after so long;
    /// doubled each time, up to 16 times as long. Default 120 s.
    pub restart_after: Duration,
    /// A fetch that has broken off is started anew after so long. Default 500 ms.
    pub fetch_retry: Duration,
    /// A lost partition that the group says nothing of for so long makes the member join anew.
    /// Default 60 s.
    pub rejoin_after: Duration,
    /// Before a refused commit is tried again; doubled up to a second. Default 50 ms.
    pub commit_retry: Duration,
    /// A known bug, planted by a test.
    pub bug: Option<Bug>,
}

impl Default for EngineLimits {
    fn default() -> Self {
        Self {
            budget_records: 100_000,
            budget_bytes: 256 * 1024 * 1024,
            effects: true,
            commit_interval: Duration::from_secs(1),
            drain_timeout: Duration::from_secs(10),
            release_timeout: Duration::from_secs(20),
            delivery_timeout: Duration::from_millis(7_500),
            silent_after: Duration::from_secs(30),
            restart_after: Duration::from_secs(120),
            fetch_retry: Duration::from_millis(500),
            rejoin_after: Duration::from_secs(60),
            commit_retry: Duration::from_millis(50),
            bug: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_as_documented() {
        let limits = EngineLimits::default();
        assert_eq!((limits.budget_records, limits.budget_bytes), (100_000, 268_435_456));
    }
}
