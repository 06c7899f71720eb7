//! Logins for a topic: where they come from, and how they get there.
//!
//! ```text
//!  auth.log ──► SshdLog ───┐
//!  JSON lines ► JsonLines ─┼──► Login ──► send_all ──► user_logins (key: user, header: seq)
//!  a seed ────► Generated ─┘      └─────► Tally (what a counter must come to)
//! ```
//!
//! A source is an iterator of logins; it never panics on what it reads, and holds one line at a
//! time. [`send_all`] numbers the logins, writes them keyed by user with Java's partitioner and an
//! idempotent producer, and returns when Kafka has confirmed every one of them.
//!
//! ```
//! use load_generator::{Generated, Tally};
//!
//! let mut tally = Tally::default();
//! for (seq, login) in (0..).zip(Generated::new(1, 20).take(100)) {
//!     tally.add(seq, &login);
//! }
//! assert_eq!(tally.logins(), 100);
//! ```

mod clock;
#[cfg(test)]
#[path = "../../../framework/engine/src/damage.rs"]
mod damage;
mod error;
#[cfg(test)]
mod foreign_bytes;
mod generated;
mod json_lines;
mod lines;
mod login;
mod pace;
mod send;
mod source;
mod sshd;
mod sshd_print;
mod tally;

pub use error::{SendError, SourceError};
pub use generated::Generated;
pub use json_lines::JsonLines;
pub use login::{Login, Status};
pub use send::{Progress, SEQ_HEADER, SendOptions, Sent, create_topic, send_all};
pub use source::{Format, Logins, Source, open};
pub use sshd::SshdLog;
pub use sshd_print::print_sshd_log;
pub use tally::{OrderDigest, Tally, UserTally};

/// The sample of this repository: JSON lines, made by the generator (`sample/README.md` says how).
///
/// ```
/// let logins = load_generator::JsonLines::new(load_generator::SAMPLE);
/// assert_eq!(logins.count(), 2_000);
/// ```
pub const SAMPLE: &[u8] = include_bytes!("../sample/logins.jsonl");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_sample_is_what_generator_and_seed_make() {
        let made = || Generated::new(1, 40);
        let json: String = made().take(2_000).map(|login| login.to_json() + "\n").collect();
        assert!(SAMPLE == json.as_bytes(), "sample/logins.jsonl differs");
        let mut log = Vec::new();
        print_sshd_log(made().take(600), &mut log).unwrap();
        assert!(log == include_bytes!("../sample/auth.log"), "sample/auth.log differs");
    }
}
