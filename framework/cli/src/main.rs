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
    /// Describes the settings of a worker
    #[command(subcommand)]
    Config(Config),
}

#[derive(Debug, Subcommand)]
enum Config {
    /// Prints the JSON Schema of a settings file, for editors: complete and check what you type
    Schema,
    /// Prints a settings file with every setting and its default
    Example,
    /// Prints what each setting means
    Explain,
}

const SCHEMA: &str = include_str!("../../pelton/docs/config.schema.json");
const EXAMPLE: &str = include_str!("../../pelton/docs/pelton.example.toml");
const SETTINGS: &str = include_str!("../../pelton/docs/config.md");

fn main() -> ExitCode {
    let answer = match CommandLine::parse().question {
        Question::Explain { code } => explain::explain(code.as_deref()),
        Question::Config(Config::Schema) => Ok(SCHEMA.trim_end().to_owned()),
        Question::Config(Config::Example) => Ok(EXAMPLE.trim_end().to_owned()),
        Question::Config(Config::Explain) => Ok(SETTINGS.trim_end().to_owned()),
    };
    match answer {
        Ok(text) => {
            print(&text);
            ExitCode::SUCCESS
        }
        Err(problem) => {
            // Where nobody listens, the exit code has to do.
            let _unheard = writeln!(std::io::stderr(), "error: {problem}").is_err();
            ExitCode::from(2)
        }
    }
}
