//! `pelton`: what an operator asks beside a running worker.

mod explain;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Answers questions about Pelton workers.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct CommandLine {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// Says what an error code means, and whether trying again helps: `pelton explain PLT-0304`
    Explain {
        /// A code as it stands at the beginning of an error message; without one, all are listed
        code: Option<String>,
    },
}

fn main() -> ExitCode {
    let Question::Explain { code } = CommandLine::parse().question;
    match explain::explain(code.as_deref()) {
        Ok(text) => {
            let printed = writeln!(std::io::stdout(), "{text}");
            if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(problem) => {
            // Where nobody listens, the exit code has to do.
            let _unheard = writeln!(std::io::stderr(), "error: {problem}").is_err();
            ExitCode::from(2)
        }
    }
}
