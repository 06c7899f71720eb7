//! The pure halves of a Pelton worker.
//!
//! [`Engine`] decides for the whole worker: which partitions run, what is fetched, what is
//! committed, when a partition may be given up. [`Schedule`] decides for one partition: which
//! record is next, when a failed one is tried again, how far a commit may go.
//!
//! Neither knows a clock, a socket, a thread or a future: time is an argument ([`Time`]), events
//! come in, actions go out. So every promise of `docs/invariants.md` can be held against them in
//! property tests, and the same input gives the same output. Only `std` is allowed here.
//!
//! ```
//! use pelton_engine::{Engine, EngineLimits, Event, Action, PartitionId, Time};
//!
//! let mut engine = Engine::new(EngineLimits::default());
//! let mut actions = Vec::new();
//! let logins = PartitionId(0);
//! engine.handle(Time::ZERO, Event::Assigned { partitions: vec![logins] }, &mut actions);
//! assert_eq!(actions[0], Action::Acknowledge);
//! assert!(matches!(actions[1], Action::Restore { partition, .. } if partition == logins));
//! ```

mod action;
mod assignment;
mod breaker;
mod budget;
mod caution;
mod commit;
#[cfg(test)]
mod damage;
mod dead_letters;
mod done_set;
mod engine;
#[cfg(test)]
mod engine_tests;
mod envelope;
mod event;
#[cfg(test)]
mod foreign_bytes;
mod holds;
mod ids;
mod limits;
mod line_table;
mod log_range;
#[cfg(test)]
mod memory_tests;
#[cfg(test)]
mod moment_tests;
mod offset_tracker;
mod pace;
mod planted;
mod queue;
mod retry;
mod schedule;
mod shares;
mod standing;
mod start_offset;
mod time;

pub use action::{Action, Closing, CommitItem, RestoreFrom, SilentAction};
pub use assignment::PartitionState;
pub use breaker::{Breaker, Circuit, CircuitChange, CircuitState, Permit};
pub use caution::{Hand, Window};
pub use commit::CommitStatus;
pub use dead_letters::{DeadLetterGauge, DeadLetterLimit};
pub use done_set::{DoneSet, DoneSetDamaged};
pub use engine::{Engine, PartitionView};
pub use envelope::{Envelope, EnvelopeError, METADATA_LIMIT_BYTES};
pub use event::{Event, HeldEffects, RunInfo};
pub use holds::Holds;
pub use ids::{Epoch, Offset, PartitionId};
pub use limits::EngineLimits;
pub use log_range::{Jump, LogRange, OutOfRange, OutOfRangePolicy, RangeCause};
pub use offset_tracker::OffsetTracker;
pub use pace::Pace;
pub use planted::{Alarm, Bug};
pub use retry::{RetryLimit, RetryPolicy};
pub use schedule::{Backwards, Finish, Item, Next, Ordering, Schedule, Turn};
pub use shares::Shares;
pub use standing::{Mark, Standing};
pub use start_offset::{OffsetReset, StartDecision, TopicCommits};
pub use time::Time;
