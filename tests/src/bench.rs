//! What does a worker cost a record, and how much does it keep in flight? Measured, without a broker.
//!
//! ```text
//!  endless records ──► poll loop (a thread) ──► desks ──► slots (tokio, 2 threads) ──► a handler
//!        ▲                                                                               │
//!        └──────────── a real worker on ports of its own, on the real clock ─────────────┘
//! ```
//!
//! Everything between the ports is what production runs: engine, schedules, desks, slots, metrics
//! with their recorder. What is not: librdkafka and the network. Each case is a worker of its own; it
//! warms up, is measured over several rounds, and ends in good order.

mod arguments;
mod cpu_bound;
mod endless;
mod figures;
mod handlers;
#[cfg(test)]
mod held_thread;
mod in_flight;
mod processor;
mod random;
mod scheduler;
mod subject;

use std::process::ExitCode;

use clap::Parser;

use self::arguments::{Arguments, Section};
use self::figures::Report;

/// Runs the sections that the command line names. Exit code 0 if all could be measured; a target that
/// is missed is said, and is no failure: the machine may be busy.
#[must_use]
#[expect(clippy::print_stderr, reason = "a program's word to its user")]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::WARN)
        .with_writer(std::io::stderr)
        .init();
    if let Err(error) = pelton::telemetry::install_recorder() {
        eprintln!("error: metrics have no recorder: {error}");
        return ExitCode::FAILURE;
    }
    let mut report = Report::default();
    for section in arguments.sections() {
        let measured = match section {
            Section::Scheduler => scheduler::run(&arguments, &mut report),
            Section::InFlight => in_flight::run(&arguments, &mut report),
            Section::CpuBound => cpu_bound::run(&arguments, &mut report),
        };
        if let Err(error) = measured {
            eprintln!("\nerror: {error}");
            return ExitCode::FAILURE;
        }
    }
    report.end();
    ExitCode::SUCCESS
}
