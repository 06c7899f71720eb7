//! The login counter as a process: settings, then the worker.

use clap::Parser;
use login_counter::{LoginCounterSettings, app};
use pelton::Exit;
use pelton::config::{Flags, load};

/// Counts successful logins per user, from one Kafka topic into another.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:
  login-counter --bootstrap-servers localhost:9092 --auto-offset-reset earliest
  login-counter --config pelton.toml --set log.filter=info,pelton=debug
  login-counter --config pelton.toml --print-config

All settings: `pelton config explain` (docs/config.md). An error begins with a code:
`pelton explain PLT-0106`. Exit codes: 0 ended as asked, 2 configuration, 3 an invalid
record, 5 the shutdown took too long; all are in docs/errors.md."
)]
struct CommandLine {
    #[command(flatten)]
    flags: Flags,
}

#[tokio::main]
async fn main() -> Exit {
    let flags = CommandLine::parse().flags;
    match load::<LoginCounterSettings>("login-counter", &flags) {
        Ok(loaded) => {
            let mut worker = app(&loaded.app);
            worker.settings(loaded.settings);
            worker.run().await
        }
        Err(error) => Exit::from(Err(error.into())),
    }
}
