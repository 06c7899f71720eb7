//! Known bugs, planted on purpose: which promise does each break, and who has to notice?
//!
//! A worker has none unless a test plants one, and only builds with the feature
//! `planted-bugs` (the whole-system tests) contain the switches at all. Each bug is a mistake that
//! a developer could make in one place; some are made anew after bugs that others have published.

/// Who notices a bug.
///
/// ```
/// use pelton_engine::{Alarm, Bug};
/// assert_eq!(Bug::CommitOffByOne.cries()[0], Alarm::A1);
/// assert_eq!(Alarm::A1.code(), "A1");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Alarm {
    /// The ledger: a commit covers only what is done.
    A1,
    /// The ledger: nothing is lost.
    A2,
    /// The ledger: order.
    A3,
    /// The ledger: one owner at a time.
    A4,
    /// The ledger: commits only advance, one after the other.
    A5,
    /// The ledger: every repeat is explained.
    A6,
    /// The ledger: no partition stands still.
    A7,
    /// The topics: the values per key that a counting handler has written are not those of its
    /// input (too old, too high, or too many).
    Totals,
    /// The engine's own tests: a whole worker holds the promise in more than one place, has no
    /// virtual form of what breaks it (memory), or breaks it only in moments that chance hardly
    /// meets (two of these are played by hand, in the test kit's `tests/sim.rs`).
    Engine,
}

impl Alarm {
    /// As reports name it: `A1` to `A7`, `totals`, `engine`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::A1 => "A1",
            Self::A2 => "A2",
            Self::A3 => "A3",
            Self::A4 => "A4",
            Self::A5 => "A5",
            Self::A6 => "A6",
            Self::A7 => "A7",
            Self::Totals => "totals",
            Self::Engine => "engine",
        }
    }
}

/// One row a bug: its mistake, its name, the invariant of `docs/invariants.md` that it breaks
/// first, and who may notice; the first of these notices in the shortest run.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident $name:literal INV $broken:literal: $($alarm:ident)+;)+) => {
        /// A bug that a test can plant into a worker.
        ///
        /// ```
        /// use pelton_engine::Bug;
        /// assert_eq!(Bug::from_name("commit-past-in-flight"), Some(Bug::CommitPastInFlight));
        /// assert!(Bug::ALL.iter().all(|bug| Bug::from_name(bug.name()) == Some(*bug)));
        /// ```
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Bug {
            $($(#[$doc])* $bug,)+
        }

        impl Bug {
            /// Every bug there is.
            pub const ALL: &'static [Self] = &[$(Self::$bug,)+];

            /// Its name on a command line: `commit-past-in-flight`.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$bug => $name,)+
                }
            }

            /// The number of the invariant (INV-n of `docs/invariants.md`) that it breaks.
            #[must_use]
            pub fn breaks(self) -> u8 {
                match self {
                    $(Self::$bug => $broken,)+
                }
            }

            /// Who may notice it; whoever does, it is caught. The first notices in the shortest
            /// run that shows it.
            #[must_use]
            pub fn cries(self) -> &'static [Alarm] {
                match self {
                    $(Self::$bug => &[$(Alarm::$alarm,)+],)+
                }
            }
        }
    };
}

bugs! {
    // --- What may be committed ---------------------------------------------------------------

    /// The tracker counts a record as done when it starts.
    CommitPastInFlight "commit-past-in-flight" INV 1: A1 A2;
    /// The commit is one further than what is done.
    CommitOffByOne "commit-off-by-one" INV 1: A1 A2;
    /// Once nothing waits any more, the commit is taken from the highest offset that was seen: a
    /// revocation drops what waits, and its last commit passes it (parallel-consumer #826).
    CommitHighestSeen "commit-highest-seen" INV 1: A1 A2;
    /// Every 50th record is dropped on its way to the partition.
    SkipRecords "skip-records" INV 1: A2 A1;
    /// A fetch that was stopped goes on one record too far.
    ResumeOneTooFar "resume-one-too-far" INV 1: A1 A2;
    /// A record of `flush_every` counts as done when it is handled, not when it is flushed.
    DoneBeforeFlush "done-before-flush" INV 1: A1;
    /// A flush that failed counts as one that succeeded.
    FailedFlushCounts "failed-flush-counts" INV 1: A1;
    /// What a panic has taken with it of `flush_every` is flushed by the next instance, which
    /// knows nothing of it.
    FlushAfterPanic "flush-after-panic" INV 14: A1;
    /// A panic counts as done: the next record is not the one to blame.
    PanicCountsAsDone "panic-counts-as-done" INV 14: A1 A3 A2;

    // --- Order and retries -------------------------------------------------------------------

    /// A record whose attempt failed is dropped instead of tried again.
    DropFailedRecord "drop-failed-record" INV 3: A2 A1 A3;
    /// A drain counts the record that waits for its retry as done.
    RetryDoneByDrain "retry-done-by-drain" INV 3: A1 A2;
    /// A waiting retry lets the next record pass.
    RetryOutOfOrder "retry-out-of-order" INV 2: A3;
    /// Records below the position, which the client delivers twice, are not dropped.
    DuplicatesPass "duplicates-pass" INV 2: A3 A6;
    /// The record that was in hand when its partition was taken away counts as still in hand when
    /// the partition comes back: the fresh one is hidden by the stale one (parallel-consumer #909).
    StaleHidesFresh "stale-hides-fresh" INV 3: A3 A2;

    /// The records of a key start at once, as if each were a key of its own.
    KeyOrderForgotten "key-order-forgotten" INV 2: A3;
    /// When a record leaves, the next one of its key is not told that it is its turn.
    NextOfItsKeyForgotten "next-of-its-key-forgotten" INV 3: A2 A7;
    /// A slot goes on with what it has in hand when a record has failed, those of its key included.
    HandGoesOn "hand-goes-on" INV 2: A3;
    /// What a slot had in hand and gives back is in nobody's line any more.
    HandForgotten "hand-forgotten" INV 3: A2 A7;
    /// A deferred record counts as done when its handler returns.
    DeferredDoneAtReturn "deferred-done-at-return" INV 1: A1;
    /// A record that is given up is done without its dead letter.
    DeadLetterForgotten "dead-letter-forgotten" INV 3: Totals;
    /// Nobody counts how many records of an input are in hand.
    PlacesWithoutLimit "places-without-limit" INV 16: Engine;
    /// A partition that has nothing in hand any more keeps its places: the others starve.
    PlacesLeak "places-leak" INV 16: A2 A7;
    /// Records start while the breaker of their input is open.
    OpenLetsThrough "open-lets-through" INV 20: Engine;
    /// A half-open breaker lets every record probe at once.
    ProbesWithoutLimit "probes-without-limit" INV 20: Engine;
    /// A record starts before Kafka knows that it may be in hand: nobody knows which one killed.
    StartUnannounced "start-unannounced" INV 18: Engine;
    /// A record passes one of its key that lies in a retry topic.
    HoldsForgotten "holds-forgotten" INV 19: Engine;
    /// A record that has killed as many as may die of it is started again.
    DeathsWithoutEnd "deaths-without-end" INV 18: Engine;

    // --- Owning a partition ------------------------------------------------------------------

    /// A revocation is acknowledged before the drain.
    ReleaseBeforeDrain "release-before-drain" INV 5: A4;
    /// A revocation of several partitions is acknowledged when the first of them has drained.
    AcknowledgeFirst "acknowledge-first" INV 5: A4;
    /// A lost partition goes on running.
    IgnoreLost "ignore-lost" INV 5: A4;
    /// That the group does not know the member is taken for a refusal that passes.
    IgnoreMemberLost "ignore-member-lost" INV 5: A4 A5;
    /// A loss is acknowledged while a commit of it is under way: the client joins anew, and sends
    /// it as the new member.
    AcknowledgeUnderCommit "acknowledge-under-commit" INV 5: Engine;
    /// A partition is reset while a commit of it is under way: what it reads as committed may be
    /// older than what that commit stores.
    ResetUnderCommit "reset-under-commit" INV 6: Engine;
    /// The task of a partition that was taken away is left to itself, neither cut off nor waited
    /// for: two slots on one counter.
    TwoSlots "two-slots" INV 2: A4;
    /// What another assignment says counts for this one.
    AnyEpoch "any-epoch" INV 7: Engine;
    /// A pause is forgotten when its partition is assigned anew.
    PauseForgotten "pause-forgotten" INV 15: Engine;

    // --- Commits -----------------------------------------------------------------------------

    /// A commit may go backwards.
    CommitBackwards "commit-backwards" INV 6: A5;
    /// A commit does not wait for the answer to the one before; when the callbacks come out of
    /// order, what is known to be committed goes back (KAFKA-5731).
    CommitsOvertake "commits-overtake" INV 6: A5;
    /// A commit is tried of a partition that was lost.
    CommitLost "commit-lost" INV 5: A5;
    /// No answer to a commit counts as a good one.
    NoAnswerIsAccepted "no-answer-is-accepted" INV 6: A6 A2;
    /// A drain commits nothing.
    NoCommitOnRevoke "no-commit-on-revoke" INV 5: A6;
    /// A shutdown commits nothing more.
    NoCommitOnShutdown "no-commit-on-shutdown" INV 5: A2 A6;
    /// A drain flushes nothing.
    NoFlushOnRevoke "no-flush-on-revoke" INV 5: A6;
    /// A drain that takes longer than its time-out gives the partition up as it is, without a
    /// commit of what was done before (the join time-out of arroyo).
    JoinTimeOut "join-time-out" INV 5: A6;
    /// A drained partition is given up before its commit is answered (arroyo PR#559).
    ReleaseBeforeCommit "release-before-commit" INV 5: A6;

    /// The done-set names records that are still in hand.
    DoneSetNamesRunning "done-set-names-running" INV 1: A1 A2;
    /// A commit that only proves ownership says less than the one before: its done-set is empty.
    ProofForgetsDoneSet "proof-forgets-done-set" INV 6: A5 A6;
    /// A seek leaves behind what was done and not committed.
    SeekWithoutDrain "seek-without-drain" INV 6: Engine;

    // --- Where a partition starts ------------------------------------------------------------

    /// A new assignment starts again at the beginning of the last commit interval.
    StartBehindCommit "start-behind-commit" INV 9: A6 A3;
    /// The committed offset is remembered from the first assignment.
    CachedCommit "cached-commit" INV 9: A3 A6;
    /// A partition without a commit starts behind its newest record.
    StartAtLatest "start-at-latest" INV 9: A1 A2;
    /// A commit whose metadata can't be read counts as none.
    DamageDropsCommit "damage-drops-commit" INV 8: A3 A6;
    /// A position that is not in its log goes on at the end, and nobody says so.
    JumpToLatest "jump-to-latest" INV 9: A2 A1;

    /// What the last owner's commit names as done is handled again.
    DoneSetDropped "done-set-dropped" INV 9: A6;

    // --- Standing still ----------------------------------------------------------------------

    /// A stopped fetch is never started again.
    NeverResume "never-resume" INV 4: A7 A2;
    /// Fetches are not stopped when memory is full.
    IgnoreBudget "ignore-budget" INV 4: Engine;
    /// What arrives is counted twice and freed once: the budget fills up for ever.
    BudgetCountsTwice "budget-counts-twice" INV 4: A7 A2;
    /// A fetch that has broken off is waited for, and nobody starts it again.
    LostWakeUp "lost-wake-up" INV 4: A7 A2;
    /// Nobody looks after a partition that is silent.
    WatchdogAsleep "watchdog-asleep" INV 4: A7 A2;

    // --- Effects -----------------------------------------------------------------------------

    /// Offsets are committed without waiting for the outputs.
    CommitBeforeDelivery "commit-before-delivery" INV 12: Totals;
    /// A commit names records as done whose outputs are not delivered.
    DoneSetBeforeDelivery "done-set-before-delivery" INV 12: Totals;
    /// The changelog's records enter the outbox behind the seal that should wait for them.
    ChangelogBehindCommit "changelog-behind-commit" INV 12: Totals;
    /// A seal repeats what the seal before it holds, which may be older, and puts it last.
    OlderValueLast "older-value-last" INV 12: Totals;
    /// After a failed delivery only the failed output is sent again, behind newer ones.
    ResendOnlyFailed "resend-only-failed" INV 12: Totals;
    /// Every output is sent twice.
    SentTwice "sent-twice" INV 12: Totals;
    /// A tick's effects go out before those of the records that were handled before it.
    TickOvertakes "tick-overtakes" INV 12: Totals;
    /// What a failed attempt has written is still there at the next one.
    FailedWritesStay "failed-writes-stay" INV 11: Totals;
    /// What a failed attempt has emitted goes out with the next one.
    FailedOutputsStay "failed-outputs-stay" INV 11: Totals;
    /// A process that was frozen sends on without proof of ownership.
    SendWhenThawed "send-when-thawed" INV 13: Totals;

    // --- Stores ------------------------------------------------------------------------------

    /// Stores start empty instead of being restored.
    SkipRestore "skip-restore" INV 10: Totals;
    /// A change that commutes is laid on what its key held when the handler asked for it.
    MergeTooEarly "merge-too-early" INV 17: Totals;
    /// A restore ends one record before the changelog's end.
    RestoreEndsEarly "restore-ends-early" INV 10: Totals;
    /// A restore overlooks tombstones: deleted keys come back.
    RestoreWithoutTombstones "restore-without-tombstones" INV 10: Totals;
    /// Every partition restores the first one's changelog.
    RestoreOfAnother "restore-of-another" INV 10: Totals;
}

impl Bug {
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
