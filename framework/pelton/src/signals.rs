//! What do signals mean? The first SIGTERM or SIGINT: end gracefully. The second: at once.
//! SIGHUP: read the settings again.
//!
//! Threads of the operating system listen, not tasks: user code may block every thread of the
//! tokio runtime, and a process must end all the same. So nothing that ends it comes after a log
//! line: whoever reads the log may have stopped.

use std::io::IsTerminal;
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use tokio::sync::oneshot;

use crate::error::{Exit, WorkerError};
use crate::worker::WorkerHandle;
use crate::{farewell, reload};

/// After the shutdown should be over, the process waits so long before it is ended by force.
const GRACE: Duration = Duration::from_secs(1);

/// Takes the signals over from the system's default. The returned future ends with the first
/// signal to end; from then on a second one, or a shutdown that overruns `limit`, ends the
/// process.
pub(crate) fn listen(
    worker: WorkerHandle,
    limit: Duration,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let bell = reload::start(worker.clone())?;
    let terminals = terminals();
    let (first, heard) = oneshot::channel();
    thread::Builder::new().name("pelton-signals".to_owned()).spawn(move || {
        let ending = signals.forever().find(|signal| {
            let reload = *signal == SIGHUP && !has_hung_up(terminals, self::terminals());
            if reload {
                bell.ring();
            }
            !reload
        });
        let Some(signal) = ending else { return };
        drop(bell);
        worker.shut_down();
        let _nobody_listens = first.send(()).is_err();
        end_by_force_after(limit);
        end_at_once_on_the_next(signals);
        tracing::info!(signal = name(signal), "ending gracefully; a second signal ends at once");
    })?;
    Ok(async move {
        if heard.await.is_err() {
            std::future::pending::<()>().await; // the listener is gone: no signal ever comes
        }
    })
}

/// Which of stdin, stdout and stderr are terminals.
fn terminals() -> [bool; 3] {
    [
        std::io::stdin().is_terminal(),
        std::io::stdout().is_terminal(),
        std::io::stderr().is_terminal(),
    ]
}

/// SIGHUP's first meaning: the terminal was closed. Nobody who works at it is left to end the
/// process by hand.
fn has_hung_up(before: [bool; 3], now: [bool; 3]) -> bool {
    before.into_iter().zip(now).any(|(was, is)| was && !is)
}

fn end_by_force_after(limit: Duration) {
    watch("pelton-end", move || {
        thread::sleep(limit + GRACE);
        let reason = "something of it does not end; it is ended by force".to_owned();
        let exit = Exit::from(Err(WorkerError::ShutdownTimeout { limit, reason }));
        exit.explain();
        low_level::exit(i32::from(exit.code()));
    });
}

fn end_at_once_on_the_next(mut signals: Signals) {
    watch("pelton-second", move || {
        if let Some(signal) = signals.forever().find(|signal| *signal != SIGHUP) {
            let name = name(signal);
            farewell::say(&format!(
                "ended at once by a second {name}; what was not committed runs again"
            ));
            // exit() would run C destructors under live client threads.
            low_level::exit(128 + signal);
        }
    });
}

fn watch(name: &str, body: impl FnOnce() + Send + 'static) {
    if let Err(error) = thread::Builder::new().name(name.to_owned()).spawn(body) {
        tracing::error!(%error, "no thread to watch over the shutdown");
    }
}

fn name(signal: i32) -> &'static str {
    low_level::signal_name(signal).unwrap_or("a signal")
}

#[cfg(test)]
mod tests {
    use super::has_hung_up;

    #[test]
    fn a_terminal_that_is_gone_has_hung_up() {
        assert!(has_hung_up([true, true, true], [false, false, false]));
        assert!(has_hung_up([true, false, false], [false, false, false]));
        assert!(!has_hung_up([true, false, false], [true, false, false]));
        assert!(!has_hung_up([false, false, false], [false, false, false])); // a service has none
    }
}
