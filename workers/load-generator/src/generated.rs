//! How are logins made up, so that they look like a real host's and never change?
//!
//! Whole numbers only: the same seed gives the same logins on every machine and in every version.

use jiff::Timestamp;

use crate::login::{Login, Status};

/// Made-up logins without end, in the order of time, from 2026-01-01 on.
///
/// Users are skewed as real ones are: the n-th logs in 1/n as often as the first (Zipf). Most
/// logins come from the user's one to three usual addresses and succeed; now and then somebody
/// mistypes, and now and then a stranger tries a name again and again. Nights are quiet. Addresses
/// are private ones, and for strangers those reserved for documents.
///
/// ```
/// use load_generator::Generated;
///
/// let logins = |seed| Generated::new(seed, 100).take(50).collect::<Vec<_>>();
/// assert_eq!(logins(7), logins(7));
/// assert_ne!(logins(7), logins(8));
/// ```
#[derive(Clone, Debug)]
pub struct Generated {
    numbers: Numbers,
    seed: u64,
    /// How often each user and those before it log in, in shares of the first user's 1,000,000.
    shares: Vec<u64>,
    seconds: i64,
    stranger: Option<Stranger>,
}

/// Somebody who tries one name from one address.
#[derive(Clone, Debug)]
struct Stranger {
    name: String,
    ip: String,
    tries: u64,
}

/// 2026-01-01T00:00:00Z.
const START_SECONDS: i64 = 1_767_225_600;

const NAMES: [&str; 24] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "kim",
    "leo", "mallory", "nina", "oscar", "peggy", "quinn", "ruth", "sybil", "trent", "uma", "victor",
    "wendy", "zoe",
];

/// What strangers try; only `root` has an account.
pub(crate) const TRIED: [&str; 8] =
    ["root", "admin", "test", "guest", "oracle", "pi", "support", "ubnt"];

impl Generated {
    /// Logins of `users` users (at least one, at most a million).
    #[must_use]
    pub fn new(seed: u64, users: u32) -> Self {
        let mut sum = 0;
        let shares = (1..=u64::from(users.clamp(1, 1_000_000)))
            .map(|rank| {
                sum += 1_000_000 / rank;
                sum
            })
            .collect();
        Self { numbers: Numbers(seed), seed, shares, seconds: START_SECONDS, stranger: None }
    }

    fn user(&mut self) -> usize {
        let share = self.numbers.below(self.shares.last().copied().unwrap_or(1));
        self.shares.partition_point(|up_to| *up_to <= share)
    }

    fn user_login(&mut self) -> Login {
        self.seconds += 1 + self.numbers.below(if self.is_day() { 30 } else { 180 }).cast_signed();
        let user = self.user();
        let status = if self.numbers.one_in(16) { Status::Failure } else { Status::Success };
        let address = self.numbers.below(3);
        self.login(name(user), status, usual_address(self.seed, user, address))
    }

    fn begin_strange_tries(&mut self) -> Stranger {
        let name = if self.numbers.one_in(8) {
            name(self.user())
        } else {
            TRIED[self.numbers.index(TRIED.len())].to_owned()
        };
        let network = if self.numbers.one_in(2) { "192.0.2" } else { "203.0.113" };
        let ip = format!("{network}.{}", 1 + self.numbers.below(254));
        Stranger { name, ip, tries: 2 + self.numbers.below(9) }
    }

    fn login(&self, user: String, status: Status, ip: String) -> Login {
        let at = Timestamp::from_second(self.seconds).unwrap_or(Timestamp::MAX);
        Login { user, status, ip, at }
    }

    const fn is_day(&self) -> bool {
        matches!(self.seconds.rem_euclid(86_400) / 3_600, 7..19)
    }
}

impl Iterator for Generated {
    type Item = Login;

    fn next(&mut self) -> Option<Login> {
        if self.stranger.is_none() {
            if !self.numbers.one_in(24) {
                return Some(self.user_login());
            }
            self.stranger = Some(self.begin_strange_tries());
        }
        self.seconds += 1 + self.numbers.below(4).cast_signed();
        let stranger = self.stranger.take()?;
        let login = self.login(stranger.name.clone(), Status::Failure, stranger.ip.clone());
        self.stranger =
            (stranger.tries > 1).then(|| Stranger { tries: stranger.tries - 1, ..stranger });
        Some(login)
    }
}

/// `alice`, `bob`, … `zoe`, `alice2`, ….
fn name(user: usize) -> String {
    let (name, round) = (NAMES[user % NAMES.len()], user / NAMES.len());
    if round == 0 { name.to_owned() } else { format!("{name}{}", round + 1) }
}

/// One of the one to three addresses a user logs in from.
fn usual_address(seed: u64, user: usize, which: u64) -> String {
    let user = u64::try_from(user).unwrap_or(u64::MAX);
    let mut numbers = Numbers(seed ^ (user + 1).wrapping_mul(0x2545_f491_4f6c_dd1d));
    let many = 1 + numbers.below(3);
    for _ in 0..which % many {
        numbers.next();
    }
    format!("10.{}.{}.{}", numbers.below(4), numbers.below(256), 1 + numbers.below(254))
}

/// SplitMix64: small, well mixed, and fixed for ever.
#[derive(Clone, Debug)]
struct Numbers(u64);

impl Numbers {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `limit`.
    fn below(&mut self, limit: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(limit);
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    fn one_in(&mut self, many: u64) -> bool {
        self.below(many) == 0
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(u64::try_from(length).unwrap_or(1))).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::tally::Tally;

    fn tally(count: usize) -> Tally {
        let mut tally = Tally::default();
        (0..).zip(Generated::new(1, 200).take(count)).for_each(|(seq, l)| tally.add(seq, &l));
        tally
    }

    #[test]
    fn users_are_skewed_and_some_logins_fail() {
        let tally = tally(20_000);
        let of = |user: &str| tally.users()[user].successes;
        let (first, second, tenth) = (of("alice"), of("bob"), of("judy"));
        assert!(first > second * 3 / 2 && second > tenth * 3, "{first} {second} {tenth}");
        let share = tally.successes() * 100 / tally.logins();
        assert!((65..=85).contains(&share), "{share} % succeed");
        assert!(tally.users()["root"].failures > 100);
        assert!(tally.users().len() > 150);
    }

    #[test]
    fn time_never_goes_back_and_users_keep_their_addresses() {
        let logins: Vec<_> = Generated::new(3, 5).take(2_000).collect();
        assert!(logins.is_sorted_by_key(|login| login.at));
        let alice = logins.iter().filter(|l| l.user == "alice" && l.ip.starts_with("10."));
        let addresses: BTreeSet<_> = alice.map(|login| &login.ip).collect();
        assert!((1..=3).contains(&addresses.len()), "{addresses:?}");
    }

    #[test]
    fn senseless_numbers_of_users_still_give_logins() {
        for users in [0, 1, u32::MAX] {
            assert_eq!(Generated::new(0, users).take(10).count(), 10);
        }
    }
}
