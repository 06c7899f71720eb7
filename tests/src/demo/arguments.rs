//! What may be asked of the demo?

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Watch several workers share a topic, join, leave, and lose nothing.
///
/// Starts a small Kafka inside this process (or uses yours), replays logins into a topic, and
/// counts the successful ones per user with several processes of `login-counter`: first one, then
/// all of them, then one less. At the end every user's total is compared with a count made straight
/// from the input. The exit code is 0 only if all are equal.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "cargo demo",
    version,
    after_help = "Examples:\n  \
    cargo demo\n  \
    cargo demo --kill\n  \
    cargo demo --input /var/log/auth.log --format sshd\n  \
    cargo demo --kafka localhost:9092 --workers 5"
)]
pub(super) struct Arguments {
    /// Replay this file, plain or gzip, instead of the sample
    #[arg(long, value_name = "FILE", requires = "format")]
    pub(super) input: Option<PathBuf>,

    /// What the file holds: JSON lines, or the log of an OpenSSH server
    #[arg(long, value_enum, requires = "input")]
    pub(super) format: Option<Kind>,

    /// How many workers there are when all are there
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u16).range(2..=12))]
    pub(super) workers: u16,

    /// How many partitions the topics have
    #[arg(long, value_name = "N", default_value_t = 6,
          value_parser = clap::value_parser!(i32).range(1..=24))]
    pub(super) partitions: i32,

    /// Logins a second [default: so many that the replay takes 20 seconds]
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(super) rate: Option<f64>,

    /// Use this Kafka, 4.0 or newer: topics and group of the demo's own, removed at its end
    #[arg(long, value_name = "HOST:PORT")]
    pub(super) kafka: Option<String>,

    /// Kill a worker (SIGKILL) instead of stopping it: nothing may be lost, and what was not
    /// committed may be counted again
    #[arg(long)]
    pub(super) kill: bool,

    /// Start this program as the workers instead of building login-counter (for tests)
    #[arg(long, value_name = "FILE", hide = true)]
    pub(super) login_counter: Option<PathBuf>,
}

/// What an input file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// One JSON object a line
    Json,
    /// An OpenSSH server's log
    Sshd,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("write a number above 0, as in 250".to_owned()),
    }
}
