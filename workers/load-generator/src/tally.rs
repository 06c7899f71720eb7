//! What must a counter come to, and in which order did each user's logins come?

use std::collections::BTreeMap;
use std::fmt;

use crate::login::{Login, Status};

/// A number that changes when an event is lost, doubled, or moved relative to another.
///
/// It starts at 14695981039346656037; each sequence number in turn is mixed in by
/// `h = (h xor seq) * 1099511628211 mod 2^64`. Written as 16 hexadecimal digits.
///
/// ```
/// use load_generator::OrderDigest;
///
/// let of = |seqs: &[u64]| seqs.iter().copied().collect::<OrderDigest>();
/// assert_eq!(of(&[]).to_string(), "cbf29ce484222325");
/// assert_ne!(of(&[1, 2]), of(&[2, 1]));
/// assert_ne!(of(&[1, 2]), of(&[1, 2, 2]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrderDigest(u64);

impl OrderDigest {
    /// Takes in the next event.
    pub const fn add(&mut self, seq: u64) {
        self.0 = (self.0 ^ seq).wrapping_mul(1_099_511_628_211);
    }
}

impl Default for OrderDigest {
    fn default() -> Self {
        Self(14_695_981_039_346_656_037)
    }
}

impl FromIterator<u64> for OrderDigest {
    fn from_iter<I: IntoIterator<Item = u64>>(seqs: I) -> Self {
        let mut digest = Self::default();
        seqs.into_iter().for_each(|seq| digest.add(seq));
        digest
    }
}

impl fmt::Display for OrderDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One user's logins.
///
/// ```
/// assert_eq!(load_generator::UserTally::default().successes, 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UserTally {
    /// Successful logins.
    pub successes: u64,
    /// Failed ones.
    pub failures: u64,
    /// The order of both.
    pub order: OrderDigest,
}

/// Logins counted by user, straight from a source: what to compare a worker's totals with.
///
/// ```
/// use load_generator::{JsonLines, Tally};
///
/// let line = br#"{"user":"alice","status":"success","ip":"192.0.2.1","at":"2026-01-01T00:00:00Z"}"#;
/// let mut tally = Tally::default();
/// for (seq, login) in (0..).zip(JsonLines::new(&line[..])) {
///     tally.add(seq, &login.unwrap());
/// }
/// assert_eq!(tally.users()["alice"].successes, 1);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally(BTreeMap<String, UserTally>);

impl Tally {
    /// Counts one login. `seq` is its number in the input.
    pub fn add(&mut self, seq: u64, login: &Login) {
        if !self.0.contains_key(&login.user) {
            self.0.insert(login.user.clone(), UserTally::default());
        }
        if let Some(user) = self.0.get_mut(&login.user) {
            match login.status {
                Status::Success => user.successes += 1,
                Status::Failure => user.failures += 1,
            }
            user.order.add(seq);
        }
    }

    /// All users, in the order of their names.
    #[must_use]
    pub const fn users(&self) -> &BTreeMap<String, UserTally> {
        &self.0
    }

    /// Logins of all users.
    #[must_use]
    pub fn logins(&self) -> u64 {
        self.0.values().map(|user| user.successes + user.failures).sum()
    }

    /// Successful logins of all users.
    #[must_use]
    pub fn successes(&self) -> u64 {
        self.0.values().map(|user| user.successes).sum()
    }
}
