//! When are the settings read again? When SIGHUP asks for it; secrets also by themselves.
//!
//! A thread of its own reads: a file may stand on a disk that hangs, and SIGTERM must be heard
//! all the same.

use std::io;
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::thread;
use std::time::Duration;

use crate::rotation::{Rotated, Rotation};
use crate::worker::WorkerHandle;

/// Between two looks at the files of secrets.
const ROTATION: Duration = Duration::from_secs(10);

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
    let listen = move || {
        let mut rotation = Rotation::default();
        loop {
            rotate(&worker, &mut rotation);
            match rung.recv_timeout(ROTATION) {
                Ok(()) => reload(&worker),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    };
    thread::Builder::new().name("pelton-reload".to_owned()).spawn(listen)?;
    Ok(Bell(bell))
}

fn reload(worker: &WorkerHandle) {
    tracing::debug!("reading the settings again");
    let Some(read) = worker.settings().load_again() else {
        tracing::warn!(
            "SIGHUP: these settings were made by the program, there is nothing to read again"
        );
        return;
    };
    if let Err(error) = read.and_then(|settings| worker.reload(&settings)) {
        tracing::error!(%error, "the settings can't be used; the worker goes on with those it has");
    }
}

fn rotate(worker: &WorkerHandle, rotation: &mut Rotation) {
    let mut settings = worker.settings();
    let mut login = false;
    for rotated in rotation.look(&settings) {
        match rotated {
            Rotated::Secret { key, text } => match key.strip_prefix("kafka.") {
                Some(own @ ("sasl.username" | "sasl.password")) => {
                    // Not if SIGHUP has brought it already.
                    login |= settings.kafka.value(own) != Some(text.as_str());
                    settings.kafka.set(own, text);
                }
                _ => tracing::warn!(
                    key,
                    "a secret has changed in its file; restart the worker to use it"
                ),
            },
            Rotated::Tls { key, path } => tracing::warn!(
                key,
                path = %path.display(),
                "a file for TLS has changed; the client reads it when it is made: restart the worker to use it"
            ),
            Rotated::Unreadable { key, problem } => tracing::error!(
                key,
                problem,
                "a secret can't be read again; the worker goes on with the one it has"
            ),
        }
    }
    if login && let Err(error) = worker.reload(&settings) {
        tracing::error!(%error, "the login can't be changed; the worker goes on with the one it has");
    }
}
