//! What do signals mean? The first SIGTERM or SIGINT: end gracefully. The second: at once.
//!
//! Threads of the operating system listen, not tasks: user code may block every thread of the
//! tokio runtime, and a process must end all the same. So nothing that ends it comes after a log
//! line: whoever reads the log may have stopped.

use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use tokio::sync::oneshot;

use crate::error::{Exit, WorkerError};
use crate::farewell;
use crate::runtime::WorkerHandle;

/// After the shutdown should be over, the process waits so long before it is ended by force.
const GRACE: Duration = Duration::from_secs(1);

/// Takes the signals over from the system's default. The returned future ends with the first
/// signal; from then on a second one, or a shutdown that overruns `limit`, ends the process.
pub(crate) fn listen(
    worker: WorkerHandle,
    limit: Duration,
) -> std::io::Result<impl Future<Output = ()>> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (first, heard) = oneshot::channel();
    thread::Builder::new().name("pelton-signals".to_owned()).spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
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
        if let Some(signal) = signals.forever().next() {
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
