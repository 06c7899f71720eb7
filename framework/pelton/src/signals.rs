//! What do signals mean? The first SIGTERM or SIGINT: end gracefully. The second: at once.

use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// After the shutdown should be over, the process waits so long before it is ended by force.
const GRACE: Duration = Duration::from_secs(1);

pub(crate) struct Signals {
    term: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over from the system's default.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> (&'static str, i32) {
        tokio::select! {
            _ = self.term.recv() => ("SIGTERM", 143),
            _ = self.interrupt.recv() => ("SIGINT", 130),
        }
    }

    /// Ends with the first signal; from then on a second one, or a shutdown that overruns its
    /// limit, ends the process.
    pub(crate) async fn shutdown(mut self, limit: Duration) {
        let (name, _) = self.next().await;
        tracing::info!(signal = name, "ending gracefully; a second signal ends at once");
        tokio::spawn(async move {
            let code = tokio::select! {
                (name, code) = self.next() => {
                    tracing::warn!(signal = name, "second signal: ending at once");
                    code
                }
                () = tokio::time::sleep(limit + GRACE) => {
                    tracing::error!("the shutdown did not end in time; ending by force");
                    5
                }
            };
            // exit() would run C destructors under live client threads.
            signal_hook::low_level::exit(code);
        });
    }
}
