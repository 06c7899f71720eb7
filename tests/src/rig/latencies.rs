//! How long after they were sent were records done? Told by the ledger, and by the records' own
//! timestamps: to the millisecond.

use std::collections::HashMap;
use std::time::Duration;

use pelton::telemetry::RecordOutcome;
use pelton_testkit::ledger::{Entry, Ledger};

use crate::StoredRecord;
use crate::rig::Moment;

/// When each record of one topic was sent, and how long it took until it was done first.
///
/// ```
/// use pelton_testkit::ledger::Ledger;
/// use pelton_tests::{Latencies, Moment};
///
/// let nothing = Latencies::of(&Ledger::default(), &[]);
/// assert!(nothing.between(Moment::now(), Moment::now(), |_| true).is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Latencies<'a> {
    records: Vec<(&'a StoredRecord, Moment, Duration)>,
}

impl<'a> Latencies<'a> {
    /// Of the records of a run that were done.
    #[must_use]
    pub fn of(ledger: &Ledger, input: &'a [StoredRecord]) -> Self {
        let mut done: HashMap<(i32, i64), Moment> = HashMap::new();
        for line in ledger.lines() {
            if let Entry::End { partition, offset, outcome: RecordOutcome::Done, .. } = &line.entry
            {
                done.entry((partition.partition(), *offset)).or_insert_with(|| Moment::of(line));
            }
        }
        let of_record = |record: &'a StoredRecord| {
            let sent = Moment::of_wall_clock(ledger, record.timestamp?)?;
            let done = done.get(&(record.partition, record.offset))?;
            Some((record, sent, done.since(sent)))
        };
        Self { records: input.iter().filter_map(of_record).collect() }
    }

    /// Of the records of this kind that were sent from one moment to another.
    #[must_use]
    pub fn between(
        &self,
        from: Moment,
        until: Moment,
        of: impl Fn(&StoredRecord) -> bool,
    ) -> Vec<Duration> {
        let sent = self.records.iter().filter(|(_, sent, _)| *sent >= from && *sent < until);
        sent.filter(|(record, _, _)| of(record)).map(|(_, _, took)| *took).collect()
    }
}
