//! cargo run -p pelton-examples --example batch_insert -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! How are records inserted many at once? With a batch handler: one call, a result for each record.
//!
//! You will see batches of up to 200 logins; a login without a user fails by itself, and stops the
//! worker, because this input has no dead letters. ADDRESS is your Kafka's, or what `cargo kafka up`
//! prints; the topic `user_logins` must exist (`lib.rs` says how to make it).

use std::time::Duration;

use pelton::{Batch, BatchHandler, Batches, Exit, HandlerError, Worker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Login {
    user: String,
}

/// In place of a table.
struct Table {
    rows: u64,
}

impl Table {
    async fn insert(&mut self, users: &[String]) -> std::io::Result<()> {
        tokio::time::sleep(Duration::from_millis(5)).await; // one round trip for all
        self.rows += users.len() as u64;
        Ok(())
    }
}

struct Insert {
    table: Table,
}

impl BatchHandler for Insert {
    async fn handle_batch(&mut self, batch: &mut Batch<'_>) -> Result<(), HandlerError> {
        let (mut users, mut bad) = (Vec::new(), Vec::new());
        for (number, record, _ctx) in batch.each() {
            match record.json::<Login>() {
                Ok(login) => users.push(login.user),
                Err(error) => bad.push((number, error)),
            }
        }
        self.table.insert(&users).await?; // an error here is every record's
        for (number, error) in bad {
            batch.fail(number, error);
        }
        tracing::info!(inserted = users.len(), rows = self.table.rows, "a batch");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("batch-insert");
    let batches = Batches::of(200).linger(Duration::from_millis(50));
    app.input("user_logins").batch_handler(batches, |_slot| Insert { table: Table { rows: 0 } });
    app.run().await
}
