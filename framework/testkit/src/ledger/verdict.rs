//! Did the run keep its promises? Counts, and for each broken one the shortest explanation.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use pelton::TopicPartition;

/// What the ledger holds a run against. Each has its number in reports: `A1` to `A7`.
///
/// ```
/// use pelton_testkit::ledger::Invariant;
/// assert_eq!(Invariant::SingleOwner.to_string(), "A4 single owner");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Invariant {
    /// A1: every record below an offset that was committed, or may have been, and every one that
    /// the commit's done-set names above it, was done before the commit was tried: from its position
    /// on by the assignment that commits, unless it took over a done-set with it; below it by anyone.
    /// Under `flush_every` a record is done when it is flushed; one that was handled by an
    /// instance that panicked or was cut off before its flush is not.
    CoveredCommit,
    /// A2: at rest every record was done and the committed offset is the end of the log.
    NoLoss,
    /// A3: a record is done for the first time only after all records before it in its ordering
    /// unit ([`Check::ordering`](crate::ledger::Check::ordering): its partition, its key, or only
    /// itself); within an assignment a unit's attempts stand one after another, in offset order, no
    /// more run at once than may, and they begin at or above what was committed when it was assigned.
    Order,
    /// A4: a partition has one owner at a time, and nobody else's attempts run beside its own. Excused and counted:
    /// the window in which an owner that was frozen or cut off, or had yet to hear of its loss,
    /// went on.
    SingleOwner,
    /// A5: accepted commits never go backwards, nor does one take back that a record is done (but for
    /// want of room in its done-set, from 2,000 bytes on); each waits for the answer to the one before, and
    /// nobody commits what it no longer owns, nor once the group has said that it does not know
    /// the member.
    CommitsAdvance,
    /// A6: a record that was done is handled again only if the assignment that did it ended
    /// ungracefully, by a fault with a name, before a commit covered it, by its offset or its
    /// done-set.
    ExplainedRepeats,
    /// A7: while a partition is assigned and has records to handle, it handles them.
    NoStuckPartition,
}

impl Invariant {
    /// All seven.
    pub const ALL: [Self; 7] = [
        Self::CoveredCommit,
        Self::NoLoss,
        Self::Order,
        Self::SingleOwner,
        Self::CommitsAdvance,
        Self::ExplainedRepeats,
        Self::NoStuckPartition,
    ];

    /// Its number: `A1` to `A7`.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::CoveredCommit => "A1",
            Self::NoLoss => "A2",
            Self::Order => "A3",
            Self::SingleOwner => "A4",
            Self::CommitsAdvance => "A5",
            Self::ExplainedRepeats => "A6",
            Self::NoStuckPartition => "A7",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match self {
            Self::CoveredCommit => "covered commit",
            Self::NoLoss => "no loss",
            Self::Order => "order",
            Self::SingleOwner => "single owner",
            Self::CommitsAdvance => "commits advance",
            Self::ExplainedRepeats => "explained repeats",
            Self::NoStuckPartition => "no stuck partition",
        };
        write!(f, "{} {words}", self.code())
    }
}

/// Why a record was handled again although it was done: the fault that ended the assignment
/// which did it before a commit covered it.
///
/// ```
/// use pelton_testkit::ledger::Cause;
/// assert_eq!(Cause::CancelledDrain.to_string(), "cancelled drain");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// Its process was killed.
    Kill,
    /// Its process was frozen.
    Stop,
    /// The partition was lost.
    Lost,
    /// The partition was reset in place.
    Reset,
    /// Its drain was cut short by its deadline.
    CancelledDrain,
    /// The partition was lost, or its commit not accepted, after a broker was killed.
    BrokerKill,
    /// The partition was lost, or its commit not accepted, while the network failed or soon after.
    Network,
    /// The last commit got no answer, or a refusal.
    CommitNotAccepted,
    /// Its outputs could not be delivered before its end.
    Undelivered,
    /// It was done out of order, and the last commit's done-set had no room for it.
    NoRoom,
    /// An operator set the offset back.
    OffsetReset,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Stop => "stop",
            Self::Lost => "lost",
            Self::Reset => "reset",
            Self::CancelledDrain => "cancelled drain",
            Self::BrokerKill => "broker kill",
            Self::Network => "network",
            Self::CommitNotAccepted => "commit not accepted",
            Self::Undelivered => "undelivered outputs",
            Self::NoRoom => "no room in the commit",
            Self::OffsetReset => "offset reset",
        })
    }
}

/// A record that was handled again although it was done.
///
/// ```
/// # use pelton_testkit::ledger::Repeat;
/// fn is_explained(repeat: &Repeat) -> bool {
///     repeat.cause.is_some()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repeat {
    /// Its partition.
    pub partition: TopicPartition,
    /// Its offset.
    pub offset: i64,
    /// Its key, where the truth has one.
    pub key: Option<Box<[u8]>>,
    /// The fault that explains it; `None` breaks A6.
    pub cause: Option<Cause>,
    /// The assignment that did it first had released the partition in good order.
    pub graceful: bool,
}

/// The time in which a partition had a new owner and the old one did not know it yet.
///
/// ```
/// # use pelton_testkit::ledger::ZombieWindow;
/// fn longest(windows: &[ZombieWindow]) -> Option<std::time::Duration> {
///     windows.iter().map(|window| window.length).max()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZombieWindow {
    /// Of which partition.
    pub partition: TopicPartition,
    /// The old owner, as [`Ledger::name`](crate::ledger::Ledger::name) has it.
    pub zombie: String,
    /// From the new owner's assignment to the old one's end.
    pub length: Duration,
    /// Attempts that the old owner began or ended in it.
    pub attempts: u64,
}

/// A broken invariant.
///
/// ```
/// # use pelton_testkit::ledger::{Ledger, Truth, Check};
/// # let ledger = Ledger::from_text("10 a assigned t-0 1\n20 b assigned t-0 1\n30 c stopping").unwrap();
/// # let verdict = Check::new().hold(&ledger, &Truth::new());
/// let violation = &verdict.violations()[0];
/// assert_eq!(violation.invariant.code(), "A4");
/// println!("{violation}"); // what happened, and the lines of the ledger that show it
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which one.
    pub invariant: Invariant,
    /// Of which partition.
    pub partition: TopicPartition,
    /// At which offset, if it is about one.
    pub offset: Option<i64>,
    /// What happened, in a sentence.
    pub what: String,
    /// The lines of the ledger that show it, at most five.
    pub lines: Vec<String>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.partition)?;
        if let Some(offset) = self.offset {
            write!(f, " offset {offset}")?;
        }
        write!(f, ": {}", self.what)?;
        self.lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// What the ledger says of a run.
///
/// Displays as a table of counts followed by the first violations of each kind.
///
/// ```
/// use pelton::TopicPartition;
/// use pelton_testkit::ledger::{Check, Invariant, Ledger, Truth};
///
/// let ledger = Ledger::from_text(
///     "10 a assigned logins-0 1
///      20 a started logins-0 1 0
///      30 a start logins-0 1 0 1
///      40 a try logins-0 1 1 1       # commits offset 1 while record 0 is in flight
///      50 a end logins-0 1 0 1 done
///      60 a known logins-0 1 1 1 accepted",
/// )?;
/// let mut truth = Truth::new();
/// truth.record(&TopicPartition::new("logins", 0), 0, None, None);
/// let verdict = Check::new().hold(&ledger, &truth);
/// assert!(!verdict.is_clean());
/// assert_eq!(verdict.count(Invariant::CoveredCommit), 1);
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Processes that wrote steps of a worker.
    pub processes: u64,
    /// Assignments of partitions to processes.
    pub assignments: u64,
    /// Attempts at records.
    pub attempts: u64,
    /// Attempts that failed and were to be tried again.
    pub retries: u64,
    /// Records there are.
    pub records: u64,
    /// Records that were done at least once.
    pub done: u64,
    /// Of these, records that were skipped as invalid.
    pub skipped: u64,
    /// Records that were never done although the run is at rest.
    pub lost: u64,
    /// Records that were never done because an operator set the offset beyond them, or because a
    /// position was not in its log and `on_out_of_range` says where to go on.
    pub jumped: u64,
    /// Records handled again although they were done.
    pub repeats: Vec<Repeat>,
    /// Times in which a partition had an owner that did not know that it was none any more.
    pub zombie_windows: Vec<ZombieWindow>,
    pub(crate) counts: BTreeMap<Invariant, u64>,
    pub(crate) violations: Vec<Violation>,
}

impl Verdict {
    /// Is no invariant broken?
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many times an invariant was broken.
    #[must_use]
    pub fn count(&self, invariant: Invariant) -> u64 {
        self.counts.get(&invariant).copied().unwrap_or(0)
    }

    /// The invariants that were broken.
    pub fn broken(&self) -> impl Iterator<Item = Invariant> + '_ {
        self.counts.keys().copied()
    }

    /// The first violations of each invariant, with their explanations.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// Repeats, by the fault that explains them; `None` are the unexplained ones.
    #[must_use]
    pub fn repeats_by_cause(&self) -> BTreeMap<Option<Cause>, u64> {
        let mut causes = BTreeMap::new();
        for repeat in &self.repeats {
            *causes.entry(repeat.cause).or_insert(0) += 1;
        }
        causes
    }

    /// How often each key may have been counted again: its explained repeats. For
    /// [`TotalsCheck`](crate::ledger::TotalsCheck).
    #[must_use]
    pub fn repeats_by_key(&self) -> BTreeMap<Vec<u8>, u64> {
        let mut keys = BTreeMap::new();
        for repeat in self.repeats.iter().filter(|repeat| repeat.cause.is_some()) {
            if let Some(key) = &repeat.key {
                *keys.entry(key.to_vec()).or_insert(0) += 1;
            }
        }
        keys
    }

    /// Records handled again after a graceful hand-over or end: breaks A6.
    #[must_use]
    pub fn graceful_repeats(&self) -> u64 {
        let graceful = self.repeats.iter().filter(|r| r.cause.is_none() && r.graceful);
        u64::try_from(graceful.count()).unwrap_or(u64::MAX)
    }

    /// Repeats without a fault that explains them: breaks A6.
    #[must_use]
    pub fn unexplained_repeats(&self) -> u64 {
        self.repeats_by_cause().get(&None).copied().unwrap_or(0)
    }
}

/// So many violations of each invariant are displayed: what follows mostly follows from them.
const SHOWN: usize = 3;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processes, assignments, attempts, retries, .. } = self;
        writeln!(
            f,
            "{processes} processes, {assignments} assignments, {attempts} attempts, {retries} to be retried"
        )?;
        let Self { records, done, skipped, lost, .. } = self;
        write!(f, "{records} records: {done} done ({skipped} of them skipped), {lost} lost, ")?;
        if self.jumped > 0 {
            write!(f, "{} jumped over, ", self.jumped)?;
        }
        write!(f, "{} repeated", self.repeats.len())?;
        let causes = self.repeats_by_cause();
        let explained = causes.iter().filter_map(|(cause, n)| Some((cause.as_ref()?, n)));
        for (at, (cause, count)) in explained.enumerate() {
            write!(f, "{} {count} by {cause}", if at == 0 { ":" } else { "," })?;
        }
        let (unexplained, graceful) = (self.unexplained_repeats(), self.graceful_repeats());
        writeln!(f, "; {unexplained} unexplained, {graceful} of them graceful")?;
        if let Some(longest) = self.zombie_windows.iter().map(|window| window.length).max() {
            let count = self.zombie_windows.len();
            writeln!(f, "{count} zombie windows, the longest {longest:.1?}")?;
        }
        let broken = Invariant::ALL
            .map(|invariant| format!("{} {}", invariant.code(), self.count(invariant)));
        write!(f, "violations: {}", broken.join(", "))?;
        let mut untold = self.counts.values().sum::<u64>();
        for invariant in Invariant::ALL {
            let broken = self.violations.iter().filter(|broken| broken.invariant == invariant);
            for violation in broken.take(SHOWN) {
                write!(f, "\n{violation}")?;
                untold -= 1;
            }
        }
        if untold > 0 {
            write!(f, "\n… and {untold} more")?;
        }
        Ok(())
    }
}
