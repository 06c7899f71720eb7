//! cargo run -p pelton-examples --example pause_and_seek -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! How does a program pause, slow down and rewind what its worker reads? With the `WorkerHandle`.
//!
//! You will see logins at ten a second, then none for three seconds, then all there are, and then the
//! first partition once more from its beginning. ADDRESS is your Kafka's, or what `cargo kafka up`
//! prints; the topic `user_logins` must exist (`lib.rs` says how to make it).

use std::num::NonZeroU32;
use std::time::Duration;

use pelton::config::{self, Flags};
use pelton::{
    Context, Exit, Handler, HandlerError, Record, TopicPartition, Worker, WorkerError, WorkerHandle,
};

struct Print;

impl Handler for Print {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        tracing::info!(partition = record.partition(), offset = record.offset(), "a login");
        Ok(())
    }
}

async fn operate(worker: WorkerHandle) {
    let three_seconds = Duration::from_secs(3);
    worker.limit_rate("user_logins", NonZeroU32::new(10));
    tokio::time::sleep(three_seconds).await;
    worker.pause("user_logins");
    tokio::time::sleep(three_seconds).await;
    worker.limit_rate("user_logins", None);
    worker.resume("user_logins");
    tokio::time::sleep(three_seconds).await;
    worker.seek(TopicPartition::new("user_logins", 0), 0);
}

async fn run() -> Result<(), WorkerError> {
    let loaded = config::load::<serde_json::Value>("pause-and-seek", &Flags::from_command_line())?;
    pelton::telemetry::init_logging(&loaded.settings.log)?;
    let mut app = Worker::builder("pause-and-seek");
    app.settings(loaded.settings);
    app.input("user_logins").handler(|_slot| Print);
    let (worker, handle) = app.build()?;
    tokio::spawn(operate(handle));
    worker.run_until(interrupted()).await
}

async fn interrupted() {
    if let Err(error) = tokio::signal::ctrl_c().await {
        tracing::error!(%error, "no signals; ending");
    }
}

#[tokio::main]
async fn main() -> Exit {
    run().await.into()
}
