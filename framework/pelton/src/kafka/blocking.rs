//! Which calls wait for a broker on a thread of their own, and are any of them still waiting?
//!
//! librdkafka's questions (metadata, offsets) block their thread until an answer or a time-out.
//! A tokio runtime that ends waits for such threads: a process that must end in time asks
//! [`any_waiting`] and does not wait with it.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::ports::PortError;

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Runs a call that blocks, off the runtime's own threads. Dropping the future leaves the call to
/// its end.
pub(crate) async fn blocking<T: Send + 'static>(
    call: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PortError> {
    let counted = move || {
        WAITING.fetch_add(1, Ordering::AcqRel);
        let answer = call();
        WAITING.fetch_sub(1, Ordering::AcqRel);
        answer
    };
    tokio::task::spawn_blocking(counted).await.map_err(PortError::passing)
}

/// Is a call under way?
pub(crate) fn any_waiting() -> bool {
    WAITING.load(Ordering::Acquire) > 0
}
