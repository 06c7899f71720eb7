//! cargo run -p pelton-examples --example embed_in_a_service -- ADDRESS
//!
//! How does a worker live inside my service? As a future beside its others: `build` gives the
//! worker and a handle, `run_until` runs it. Pelton takes no signals, no command line and no
//! logging here; they are the service's.
//!
//! You will see a line every two seconds with the logins seen so far, from a task of the service
//! that shares a counter with the handlers. Ctrl-C ends both in good order, and so do 10,000
//! logins. ADDRESS is your Kafka's, or what `cargo kafka up` prints; the topic `user_logins` must
//! exist (`lib.rs` says how to make and fill it).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pelton::config::{AutoOffsetReset, Settings};
use pelton::{Context, Exit, Handler, HandlerError, Record, Worker, WorkerError};

/// After so many logins the service has seen enough.
const ENOUGH: u64 = 10_000;

struct Count(Arc<AtomicU64>);

impl Handler for Count {
    async fn handle(
        &mut self,
        _record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    tracing_subscriber::fmt().init();
    Exit::from(serve().await) // says on stderr what went wrong, and chooses the exit code
}

async fn serve() -> Result<(), WorkerError> {
    let seen = Arc::new(AtomicU64::new(0));

    let mut settings = Settings::default();
    settings.bootstrap_servers = std::env::args().nth(1).unwrap_or_default();
    settings.auto_offset_reset = Some(AutoOffsetReset::Earliest);
    settings.admin.enabled = false; // the service has an endpoint of its own

    let mut app = Worker::builder("embedded");
    let counter = Arc::clone(&seen);
    app.settings(settings).input("user_logins").handler(move |_slot| Count(Arc::clone(&counter)));
    let (worker, handle) = app.build()?;

    let service = tokio::spawn(async move {
        while seen.load(Ordering::Relaxed) < ENOUGH {
            tokio::time::sleep(Duration::from_secs(2)).await;
            tracing::info!(logins = seen.load(Ordering::Relaxed), "the service is alive");
        }
        handle.shut_down(); // any part of the service may end the worker
    });
    let ended = worker.run_until(interrupted()).await; // done work is committed, the group left
    service.abort();
    ended
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "no signals; ending");
    }
}
