//! cargo run -p pelton-examples --example key_order -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! How are many records handled at once, and each user's still in order? With `Ordering::key`.
//!
//! You will see logins being looked up, up to two hundred at a time, and for each user the running
//! count in order. Each look-up takes 50 ms: one after the other, a thousand logins would take 50 s.
//! Here most are through within a second or two; only a user with very many logins takes as long as
//! they take one after the other, and delays nobody else. End it with Ctrl-C in between and start it
//! again: it goes on with those that were not done, and repeats none. ADDRESS is your Kafka's, or what `cargo kafka up` prints; the topic
//! `user_logins` must exist (`lib.rs` says how to make it).

use std::time::Duration;

use pelton::{Context, Exit, Handler, HandlerError, Ordering, Record, Store, Worker};

/// `self` is scratch space: any free slot takes a user's next record. What belongs to a user is in
/// a store, under the record's own key.
struct LookUp {
    seen: Store<str, u64>,
}

impl Handler for LookUp {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let user = record.key_str()?;
        tokio::time::sleep(Duration::from_millis(50)).await; // a call to some service
        let seen = ctx.update(self.seen, user, |n| n.unwrap_or(0) + 1)?;
        tracing::info!(user, seen, offset = record.offset(), "looked up");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("key-order");
    // Without a changelog, so that the example needs no other topic.
    let seen = app.store_without_changelog("seen");
    app.input("user_logins").ordering(Ordering::key(200)).handler(move |_slot| LookUp { seen });
    app.run().await
}
