//! cargo run -p pelton-examples --example hello_worker -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! What is the smallest worker? One that logs each record.
//!
//! You will see one line per login with its partition and offset, and after Ctrl-C a graceful
//! end. Start it twice (the second time with `--set admin.listen=127.0.0.1:0`, because the first
//! holds the port for health and metrics), and the two share the partitions. ADDRESS is your
//! Kafka's, or what `cargo kafka up` prints; the topic `user_logins` must exist (`lib.rs` says
//! how to make and fill it).

use pelton::{Context, Exit, Handler, HandlerError, Record, Worker};

struct Hello;

impl Handler for Hello {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let value = String::from_utf8_lossy(record.value().unwrap_or_default());
        tracing::info!(partition = record.partition(), offset = record.offset(), %value, "hello");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("hello-worker"); // also the consumer group's name
    app.input("user_logins").handler(|_slot| Hello);
    app.run().await
}
