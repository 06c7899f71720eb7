//! Numbers that must never be mixed up: a partition, an offset, an assignment epoch.

use std::fmt;

/// A topic-partition as this worker numbers it; the runtime keeps the names.
///
/// ```
/// use pelton_engine::PartitionId;
///
/// let names = ["user_logins-0", "user_logins-1"]; // the runtime's
/// let PartitionId(number) = PartitionId(1);
/// assert_eq!(names[number as usize], "user_logins-1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub u32);

/// An offset as Kafka counts: of a record, or of the next one to read.
///
/// ```
/// use pelton_engine::Offset;
/// assert_eq!(Offset(7).next(), Offset(8));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

impl Offset {
    /// The offset after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts a partition's assignments (and resets) in this process, from 1.
///
/// Whatever was begun under one epoch says nothing about another: late answers are dropped.
///
/// ```
/// use pelton_engine::{Engine, EngineLimits, Epoch, Event, Offset, PartitionId, Time};
///
/// let partition = PartitionId(0);
/// let (mut engine, mut actions) = (Engine::new(EngineLimits::default()), Vec::new());
/// for _ in 0..2 {
///     engine.handle(Time::ZERO, Event::Assigned { partitions: vec![partition] }, &mut actions);
/// }
/// assert_eq!(engine.epoch(partition), Some(Epoch(2)));
/// actions.clear();
/// let (epoch, position, committed) = (Epoch(1), Offset(3), None); // from before
/// engine.handle(Time::ZERO, Event::Restored { partition, epoch, position, committed }, &mut actions);
/// assert!(actions.is_empty());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
