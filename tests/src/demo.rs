//! Can it be seen that workers share a topic, join, leave, and lose nothing?
//!
//! ```text
//!  input ──► Input ──► sender thread ──► user_logins ──► worker processes ──► login_totals
//!              │                                          │ admin endpoints        │
//!              │                                        Stage ──► Screen           │
//!              └───────────── true counts ───────────────────────► Verdict ◄───────┘
//! ```
//!
//! The story is told by [`main`]: one worker, then all, then one leaves. Workers are
//! processes of `login-counter`; the demo sees them only as an operator does, through their admin
//! endpoints, and judges by what it reads from the output topic itself.

mod admin;
mod arguments;
mod build;
mod clock;
mod error;
mod input;
mod screen;
mod sending;
mod stage;
mod story;
mod venue;
mod verdict;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::demo::arguments::Arguments;

/// Runs the demo from the command line. Exit code 0 only if every user's total is true.
#[must_use]
#[expect(clippy::print_stderr, reason = "a program's word to its user")]
pub fn main() -> ExitCode {
    match story::tell(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("\nerror: {error}");
            ExitCode::FAILURE
        }
    }
}
