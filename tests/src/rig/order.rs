//! In which order were each user's logins handled? Told by the ledger, not by the topics.

use std::collections::BTreeMap;

use load_generator::{OrderDigest, SEQ_HEADER};
use pelton::telemetry::RecordOutcome;
use pelton_testkit::ledger::{Entry, Ledger};

use crate::StoredRecord;

/// The order digest of every user over the logins that workers have done, in the order in which
/// they did them; a login done twice counts twice. Logins carry their number in the header `seq`,
/// as the load generator writes it; what has none is left out.
///
/// ```
/// use load_generator::OrderDigest;
/// use pelton_testkit::ledger::Ledger;
/// use pelton_tests::{StoredRecord, orders};
///
/// let login = |offset: i64, seq: &str| StoredRecord {
///     partition: 0,
///     offset,
///     key: Some(b"alice".to_vec()),
///     value: None,
///     headers: vec![("seq".to_owned(), Some(seq.into()))],
///     timestamp: None,
/// };
/// let ledger = Ledger::from_text(
///     "10 a start logins-0 1 0 1
///      20 a end logins-0 1 0 1 done
///      30 a start logins-0 1 1 1
///      40 a end logins-0 1 1 1 done",
/// )?;
/// let orders = orders(&ledger, &[login(0, "7"), login(1, "9")]);
/// assert_eq!(orders["alice"], [7, 9].into_iter().collect::<OrderDigest>());
/// # Ok::<(), pelton_testkit::ledger::LedgerError>(())
/// ```
#[must_use]
pub fn orders(ledger: &Ledger, input: &[StoredRecord]) -> BTreeMap<String, OrderDigest> {
    let logins: BTreeMap<(i32, i64), (String, u64)> = input.iter().filter_map(numbered).collect();
    let mut orders: BTreeMap<String, OrderDigest> = BTreeMap::new();
    for line in ledger.lines() {
        let Entry::End { partition, offset, outcome: RecordOutcome::Done, .. } = &line.entry else {
            continue;
        };
        if let Some((user, seq)) = logins.get(&(partition.partition(), *offset)) {
            orders.entry(user.clone()).or_default().add(*seq);
        }
    }
    orders
}

fn numbered(record: &StoredRecord) -> Option<((i32, i64), (String, u64))> {
    let user = String::from_utf8(record.key.clone()?).ok()?;
    let seq = std::str::from_utf8(record.header(SEQ_HEADER)?).ok()?.parse().ok()?;
    Some(((record.partition, record.offset), (user, seq)))
}
