//! What did commits carry from owner to owner, above their offsets? Without it the next owner would
//! have handled it again.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use pelton::TopicPartition;
use pelton::telemetry::CommitOutcome;
use pelton_engine::{DoneSet, Offset};
use pelton_testkit::ledger::{Entry, Ledger};

/// What stood in the last accepted commit of a partition when it was assigned to somebody else.
///
/// ```
/// use pelton_testkit::ledger::Ledger;
/// use pelton_tests::Carried;
///
/// let ledger = Ledger::from_text(
///     "10 a assigned logins-0 1
///      20 a try logins-0 1 5 1 5-7rBC    # 6 and 7 are done, 5 is not
///      30 a known logins-0 1 5 1 accepted
///      40 a released logins-0 1
///      50 b assigned logins-0 1",
/// )?;
/// let carried = Carried::of(&ledger);
/// assert_eq!((carried.hand_overs, carried.with_done_above, carried.records), (1, 1, 2));
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Assignments of partitions of which something had been committed.
    pub hand_overs: u64,
    /// Those at which records above the committed offset were known to be done.
    pub with_done_above: u64,
    /// So many records, over all of them.
    pub records: u64,
    /// At one of them at most.
    pub most: u64,
}

impl Carried {
    /// Of a run.
    #[must_use]
    pub fn of(ledger: &Ledger) -> Self {
        let mut tried: HashMap<(usize, &TopicPartition, u64), &str> = HashMap::new();
        let mut stored: BTreeMap<&TopicPartition, &str> = BTreeMap::new();
        let mut this = Self::default();
        for line in ledger.lines() {
            match &line.entry {
                Entry::CommitTried { partition, id, done, .. } => {
                    tried.insert((line.process, partition, *id), done);
                }
                Entry::CommitKnown { partition, id, outcome: CommitOutcome::Accepted, .. } => {
                    if let Some(done) = tried.remove(&(line.process, partition, *id)) {
                        stored.insert(partition, done);
                    }
                }
                Entry::Assigned { partition, .. } => {
                    if let Some(done) = stored.get(partition) {
                        this.add(named(done));
                    }
                }
                _ => {}
            }
        }
        this
    }

    fn add(&mut self, records: u64) {
        self.hand_overs += 1;
        self.with_done_above += u64::from(records > 0);
        self.records += records;
        self.most = self.most.max(records);
    }
}

/// How many offsets a done-set names.
fn named(text: &str) -> u64 {
    let Ok(done) = DoneSet::decode(text) else { return 0 };
    let Some(highest) = done.highest() else { return 0 };
    let all = (done.base().0..=highest.0).filter(|offset| done.contains(Offset(*offset)));
    u64::try_from(all.count()).unwrap_or(u64::MAX)
}

impl fmt::Display for Carried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hand_overs, with_done_above, records, most } = self;
        write!(
            f,
            "hand-overs: {hand_overs}, {with_done_above} of them with records done above the \
             committed offset: {records} in all, {most} at most"
        )
    }
}
