//! Is every user's total true?
//!
//! Read from the output topic with a consumer of the demo's own, and compared with the count of
//! the input. Nothing the workers say about themselves is believed here.

use std::collections::BTreeMap;
use std::time::Duration;

use load_generator::Tally;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::{Offset, TopicPartitionList};
use serde::Deserialize;

use crate::demo::clock::Clock;
use crate::demo::error::DemoError;
use crate::demo::venue::{Venue, kafka};

/// What each user came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// Users with a login, most successes first.
    pub(super) users: Vec<UserVerdict>,
    /// Successful logins that are in no total.
    pub(super) lost: u64,
    /// Successful logins that were counted, or whose total was written, more than once.
    pub(super) duplicated: u64,
    /// Whether no user has more repeats than a kill explains.
    pub(super) explained: bool,
}

/// One user's count and total.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UserVerdict {
    pub(super) user: String,
    /// Successful logins in the input.
    pub(super) count: u64,
    /// The last total the workers wrote; 0 if none.
    pub(super) total: u64,
    /// Totals written more than needed, or counted too high: whichever is more.
    pub(super) repeats: u64,
    /// Repeats that a kill explains, at most.
    pub(super) allowed: u64,
}

impl UserVerdict {
    pub(super) fn is_true(&self) -> bool {
        self.count <= self.total && self.repeats <= self.allowed
    }
}

/// What the output topic holds of a user.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// The last total.
    last: u64,
    /// How many totals were written.
    records: u64,
    /// Whether a total ever went back, or left a number out.
    uneven: u64,
}

impl Verdict {
    /// Compares the count of the input with what was written. `allowed` are the repeats that a
    /// kill explains, by user.
    pub(super) fn compare(
        truth: &Tally,
        written: &BTreeMap<String, Written>,
        allowed: &BTreeMap<String, u64>,
    ) -> Self {
        let all =
            truth.users().keys().chain(written.keys()).collect::<std::collections::BTreeSet<_>>();
        let mut users: Vec<_> = all
            .into_iter()
            .map(|user| {
                let count = truth.users().get(user).map_or(0, |user| user.successes);
                let written = written.get(user).copied().unwrap_or_default();
                let over = |figure: u64| figure.saturating_sub(count);
                let repeats = over(written.last).max(over(written.records)).max(written.uneven);
                let allowed = allowed.get(user).copied().unwrap_or(0);
                UserVerdict { user: user.clone(), count, total: written.last, repeats, allowed }
            })
            .collect();
        users.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.user.cmp(&b.user)));
        let lost = users.iter().map(|user| user.count.saturating_sub(user.total)).sum();
        let duplicated = users.iter().map(|user| user.repeats).sum();
        let explained = users.iter().all(|user| user.repeats <= user.allowed);
        Self { users, lost, duplicated, explained }
    }

    pub(super) fn is_true(&self) -> bool {
        self.lost == 0 && self.explained
    }
}

/// Reads the output topic from its beginning to its present end.
pub(super) fn read_totals(venue: &Venue) -> Result<BTreeMap<String, Written>, DemoError> {
    const PATIENCE: Duration = Duration::from_secs(20);
    let reader = venue.reader()?;
    let mut left = assign_all(&reader, venue)?;
    let mut written = BTreeMap::new();
    let clock = Clock::start();
    while left > 0 {
        if clock.elapsed() > PATIENCE {
            return Err(DemoError::Reading(format!(
                "{left} records of {} did not come",
                venue.output
            )));
        }
        let record = match reader.poll(Duration::from_millis(200)) {
            None => continue,
            Some(Err(KafkaError::MessageConsumption(RDKafkaErrorCode::AllBrokersDown))) => continue,
            Some(record) => record.map_err(kafka(format!("reading {}", venue.output)))?,
        };
        left -= 1;
        note(&mut written, record.key(), record.payload()).map_err(|reason| {
            DemoError::Reading(format!("{reason} (offset {})", record.offset()))
        })?;
    }
    Ok(written)
}

/// Starts reading all partitions; answers how many records there are.
fn assign_all(reader: &BaseConsumer, venue: &Venue) -> Result<i64, DemoError> {
    let reading = || kafka(format!("reading {}", venue.output));
    let mut all = TopicPartitionList::new();
    let mut records = 0;
    for partition in 0..venue.partitions {
        let (low, high) = reader
            .fetch_watermarks(&venue.output, partition, Duration::from_secs(10))
            .map_err(reading())?;
        records += high - low;
        all.add_partition_offset(&venue.output, partition, Offset::Offset(low))
            .map_err(reading())?;
    }
    reader.assign(&all).map_err(reading())?;
    Ok(records)
}

/// A record of the output topic.
#[derive(Deserialize)]
struct Total {
    user: String,
    total: u64,
}

fn note(
    written: &mut BTreeMap<String, Written>,
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(), String> {
    let total: Total = serde_json::from_slice(value.unwrap_or_default())
        .map_err(|error| format!("a total that can't be read: {error}"))?;
    if key != Some(total.user.as_bytes()) {
        return Err("a total whose key is not its user".to_owned());
    }
    let user = written.entry(total.user).or_default();
    user.uneven += u64::from(total.total != user.last + 1);
    user.records += 1;
    user.last = total.total;
    Ok(())
}

#[cfg(test)]
mod tests {
    use load_generator::{Generated, Status};

    use super::*;

    fn truth(successes: u64) -> Tally {
        let mut login = Generated::new(1, 1).next().unwrap();
        (login.user, login.status) = ("alice".to_owned(), Status::Success);
        let mut truth = Tally::default();
        (0..successes).for_each(|seq| truth.add(seq, &login));
        truth
    }

    fn written(totals: &[u64]) -> BTreeMap<String, Written> {
        let mut written = BTreeMap::new();
        for total in totals {
            let value = format!("{{\"user\":\"alice\",\"total\":{total}}}");
            note(&mut written, Some(b"alice"), Some(value.as_bytes())).unwrap();
        }
        written
    }

    fn judge(successes: u64, totals: &[u64], allowed: u64) -> (bool, u64, u64) {
        let allowed = BTreeMap::from([("alice".to_owned(), allowed)]);
        let verdict = Verdict::compare(&truth(successes), &written(totals), &allowed);
        (verdict.is_true(), verdict.lost, verdict.duplicated)
    }

    #[test]
    fn true_totals_are_true() {
        assert_eq!(judge(3, &[1, 2, 3], 0), (true, 0, 0));
    }

    #[test]
    fn a_lost_login_is_found_whatever_is_allowed() {
        assert_eq!(judge(3, &[1, 2], 9), (false, 1, 0));
        assert_eq!(judge(3, &[], 9), (false, 3, 0));
    }

    #[test]
    fn repeats_are_found_and_true_only_where_a_kill_explains_them() {
        for (totals, repeats) in [
            (&[1, 2, 3, 4][..], 1), // counted twice
            (&[1, 2, 2, 3], 1),     // written twice
            (&[1, 3, 4, 5], 2),     // a total left out: the store was ahead of the output
        ] {
            assert_eq!(judge(3, totals, 0), (false, 0, repeats), "{totals:?}");
            assert_eq!(judge(3, totals, repeats), (true, 0, repeats), "{totals:?}");
        }
    }

    #[test]
    fn a_user_who_never_logged_in_may_have_no_total() {
        let verdict = Verdict::compare(&truth(0), &written(&[1]), &BTreeMap::new());
        assert!(!verdict.is_true());
    }

    #[test]
    fn a_total_under_another_key_is_an_error() {
        let value = br#"{"user":"alice","total":1}"#;
        assert!(note(&mut BTreeMap::new(), Some(b"bob"), Some(value)).is_err());
        assert!(note(&mut BTreeMap::new(), None, Some(value)).is_err());
    }
}
