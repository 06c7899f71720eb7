//! When are the settings read again? When SIGHUP asks for it.
//!
//! A thread of its own reads: a file may stand on a disk that hangs, and SIGTERM must be heard
//! all the same.

use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use crate::worker::WorkerHandle;

/// Asks for a reload.
pub(crate) struct Bell(SyncSender<()>);

impl Bell {
    /// The settings are read again, once more if they are being read at this moment.
    pub(crate) fn ring(&self) {
        // Full: somebody has rung already, and nobody has begun to read since.
        let _rung_already = self.0.try_send(()).is_err();
    }
}

/// Starts the thread. It ends when the bell is dropped.
pub(crate) fn start(worker: WorkerHandle) -> io::Result<Bell> {
    let (bell, rung) = mpsc::sync_channel(1);
    let wait = move || {
        while rung.recv().is_ok() {
            reload(&worker);
        }
    };
    thread::Builder::new().name("pelton-reload".to_owned()).spawn(wait)?;
    Ok(Bell(bell))
}

fn reload(worker: &WorkerHandle) {
    let read = worker.settings().load_again();
    let Some(read) = read else {
        tracing::warn!(
            "SIGHUP: these settings were made by the program, there is nothing to read again"
        );
        return;
    };
    if let Err(error) = read.and_then(|settings| worker.reload(&settings)) {
        tracing::error!(%error, "the settings can't be used; the worker goes on with those it has");
    }
}
