//! How are the logins replayed while the demo goes on?

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use load_generator::{Progress, SendError, SendOptions, Sent, send_all};

use crate::demo::error::DemoError;
use crate::demo::input::Input;

/// A thread that sends the input. Dropping it ends the sending.
#[derive(Debug)]
pub(super) struct Sending {
    sent: Arc<AtomicUsize>,
    delivered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Sent, SendError>>>,
}

impl Sending {
    pub(super) fn start(input: &Arc<Input>, options: SendOptions) -> Self {
        let [sent, delivered] = [(); 2].map(|()| Arc::new(AtomicUsize::new(0)));
        let stop = Arc::new(AtomicBool::new(false));
        let (input, ending) = (Arc::clone(input), Arc::clone(&stop));
        let shown = [Arc::clone(&sent), Arc::clone(&delivered)];
        let show = move |progress: Progress| {
            for (figure, shown) in [progress.sent, progress.delivered].into_iter().zip(&shown) {
                shown.store(usize::try_from(figure).unwrap_or(usize::MAX), Ordering::Release);
            }
            if ending.load(Ordering::Relaxed) {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        };
        let thread = std::thread::spawn(move || {
            send_all(input.logins.iter().cloned().map(Ok), &options, show)
        });
        Self { sent, delivered, stop, thread: Some(thread) }
    }

    /// Logins given to the client: no worker has seen more.
    pub(super) fn sent(&self) -> usize {
        self.sent.load(Ordering::Acquire)
    }

    /// Logins that Kafka has confirmed.
    pub(super) fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Acquire)
    }

    /// Fails if sending has failed.
    pub(super) fn check(&mut self) -> Result<(), DemoError> {
        match self.thread.take_if(|thread| thread.is_finished()).map(JoinHandle::join) {
            None | Some(Ok(Ok(_))) => Ok(()),
            Some(Ok(Err(error))) => Err(error.into()),
            Some(Err(_)) => Err(DemoError::SenderLost),
        }
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
