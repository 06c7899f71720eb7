//! Known bugs, planted on purpose: the ledger has to catch each of them.
//!
//! A worker has none unless a test plants one, and only builds with the feature
//! `planted-bugs` (the whole-system tests) contain the switches at all.

/// A bug that a test can plant into a worker.
///
/// ```
/// use pelton_engine::Bug;
/// assert_eq!(Bug::from_name("commit-past-in-flight"), Some(Bug::CommitPastInFlight));
/// assert!(Bug::ALL.iter().all(|bug| Bug::from_name(bug.name()) == Some(*bug)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Bug {
    /// The tracker counts a record as done when it starts (A1).
    CommitPastInFlight,
    /// The commit is one further than what is done (A1).
    CommitOffByOne,
    /// A record whose attempt failed is dropped instead of tried again (A2).
    DropFailedRecord,
    /// Every 50th record is dropped on its way to the partition (A2).
    SkipRecords,
    /// A waiting retry lets the next record pass (A3).
    RetryOutOfOrder,
    /// A revocation is acknowledged before the drain (A4).
    ReleaseBeforeDrain,
    /// A lost partition goes on running (A4).
    IgnoreLost,
    /// A commit may go backwards (A5).
    CommitBackwards,
    /// A drain commits nothing (A6).
    NoCommitOnRevoke,
    /// A new assignment starts again at the beginning of the last commit interval (A6).
    StartBehindCommit,
    /// A stopped fetch is never started again (A7).
    NeverResume,
    /// Fetches are not stopped when memory is full (INV-4).
    IgnoreBudget,
    /// Offsets are committed without waiting for the outputs (the topics' check).
    CommitBeforeDelivery,
    /// A commit is tried of a partition that was lost (A5).
    CommitLost,
    /// Stores start empty instead of being restored (the topics' check).
    SkipRestore,
    /// A process that was frozen sends on without proof of ownership (the topics' check).
    SendWhenThawed,
}

impl Bug {
    /// Every bug there is.
    pub const ALL: &'static [Self] = &[
        Self::CommitPastInFlight,
        Self::CommitOffByOne,
        Self::DropFailedRecord,
        Self::SkipRecords,
        Self::RetryOutOfOrder,
        Self::ReleaseBeforeDrain,
        Self::IgnoreLost,
        Self::CommitBackwards,
        Self::NoCommitOnRevoke,
        Self::StartBehindCommit,
        Self::NeverResume,
        Self::IgnoreBudget,
        Self::CommitBeforeDelivery,
        Self::CommitLost,
        Self::SkipRestore,
        Self::SendWhenThawed,
    ];

    /// Its name on a command line: `commit-past-in-flight`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::CommitPastInFlight => "commit-past-in-flight",
            Self::CommitOffByOne => "commit-off-by-one",
            Self::DropFailedRecord => "drop-failed-record",
            Self::SkipRecords => "skip-records",
            Self::RetryOutOfOrder => "retry-out-of-order",
            Self::ReleaseBeforeDrain => "release-before-drain",
            Self::IgnoreLost => "ignore-lost",
            Self::CommitBackwards => "commit-backwards",
            Self::NoCommitOnRevoke => "no-commit-on-revoke",
            Self::StartBehindCommit => "start-behind-commit",
            Self::NeverResume => "never-resume",
            Self::IgnoreBudget => "ignore-budget",
            Self::CommitBeforeDelivery => "commit-before-delivery",
            Self::CommitLost => "commit-lost",
            Self::SkipRestore => "skip-restore",
            Self::SendWhenThawed => "send-when-thawed",
        }
    }

    /// The bug of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|bug| bug.name() == name)
    }

    /// Is this bug the planted one? Always false without the feature `planted-bugs`.
    #[must_use]
    #[inline]
    pub fn is(self, planted: Option<Self>) -> bool {
        cfg!(feature = "planted-bugs") && planted == Some(self)
    }
}
