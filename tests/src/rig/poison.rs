//! What is wrong with a record? Its headers say it, so that every worker does alike, and a judge
//! knows without asking one.

use std::fmt;

use crate::{NewRecord, StoredRecord};

/// How the handler of a record fails, at each attempt.
///
/// ```
/// use pelton_tests::{NewRecord, Poison};
///
/// let record = Poison::Hang.into(NewRecord::new("alice", "in"));
/// assert_eq!(record.headers, [("poison".to_owned(), b"hang".to_vec())]);
/// assert_eq!(Poison::from_name(b"hang"), Some(Poison::Hang));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Poison {
    /// It returns an error.
    Error,
    /// It panics.
    Panic,
    /// It never returns: its attempts need a time-out.
    Hang,
    /// It aborts its process.
    Abort,
    /// It takes memory until there is none, and that ends its process.
    Memory,
}

impl Poison {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Error, Self::Panic, Self::Hang, Self::Abort, Self::Memory];

    /// Those that end an attempt and not its process.
    pub const MILD: [Self; 3] = [Self::Error, Self::Panic, Self::Hang];

    /// The header that names it.
    pub const HEADER: &'static str = "poison";

    /// What the header says.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Hang => "hang",
            Self::Abort => "abort",
            Self::Memory => "memory",
        }
    }

    /// The one whose name that is.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|poison| poison.name().as_bytes() == name)
    }

    /// The record, poisoned.
    #[must_use]
    pub fn into(self, record: NewRecord) -> NewRecord {
        record.header(Self::HEADER, self.name())
    }

    /// What is wrong with a record, if anything is.
    #[must_use]
    pub fn of(record: &StoredRecord) -> Option<Self> {
        record.header(Self::HEADER).and_then(Self::from_name)
    }

    /// Why its dead letter says that it failed.
    #[must_use]
    pub fn error_code(self) -> &'static str {
        match self {
            Self::Error => "failed",
            Self::Panic => "panicked",
            Self::Hang => "timed_out",
            Self::Abort | Self::Memory => "crashed",
        }
    }

    /// Does the record end the process that handles it?
    #[must_use]
    pub fn is_deadly(self) -> bool {
        !Self::MILD.contains(&self)
    }
}

impl fmt::Display for Poison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a worker logs before a record ends it, and behind it as `<poison> record=<place>`.
pub(crate) const LAST_WORDS: &str = "the record ends its process";

/// The header of a record whose handler takes so many milliseconds.
pub(crate) const TAKES_MS: &str = "takes-ms";
