//! What do signals mean? The first SIGTERM or SIGINT: end gracefully. The second: at once.
//!
//! Threads of the operating system listen, not tasks: user code may block every thread of the
//! tokio runtime, and a process must end all the same.

use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use tokio::sync::oneshot;

use crate::runtime::WorkerHandle;

/// After the shutdown should be over, the process waits so long before it is ended by force.
const GRACE: Duration = Duration::from_secs(1);

/// The exit code of a shutdown that was ended by force ([`WorkerError::ShutdownTimeout`]).
///
/// [`WorkerError::ShutdownTimeout`]: crate::WorkerError::ShutdownTimeout
const FORCED: i32 = 5;

/// Takes the signals over from the system's default. The returned future ends with the first
/// signal; from then on a second one, or a shutdown that overruns `limit`, ends the process.
pub(crate) fn listen(
    worker: WorkerHandle,
    limit: Duration,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (first, heard) = oneshot::channel();
    thread::Builder::new().name("pelton-signals".to_owned()).spawn(move || {
        let mut coming = signals.forever();
        let Some(signal) = coming.next() else { return };
        tracing::info!(signal = name(signal), "ending gracefully; a second signal ends at once");
        worker.shut_down();
        let _nobody_listens = first.send(()).is_err();
        end_by_force_after(limit + GRACE);
        if let Some(signal) = coming.next() {
            tracing::warn!(signal = name(signal), "second signal: ending at once");
            // exit() would run C destructors under live client threads.
            low_level::exit(128 + signal);
        }
    })?;
    Ok(async move {
        if heard.await.is_err() {
            std::future::pending::<()>().await; // the listener is gone: no signal ever comes
        }
    })
}

fn end_by_force_after(wait: Duration) {
    let end = move || {
        thread::sleep(wait);
        tracing::error!("the shutdown did not end in time; ending by force");
        low_level::exit(FORCED);
    };
    if let Err(error) = thread::Builder::new().name("pelton-end".to_owned()).spawn(end) {
        tracing::error!(%error, "no thread to watch over the shutdown");
    }
}

fn name(signal: i32) -> &'static str {
    low_level::signal_name(signal).unwrap_or("a signal")
}
