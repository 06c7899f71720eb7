//! cargo run -p pelton-examples --example retry_topics -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! What becomes of records while something that they need is down? They wait in retry topics, for 5 s and
//! then for 20 s, and what comes behind them of the same key waits, too; all other keys go on.
//!
//! You will see logins of users whose name ends in an even digit fail for the first 15 s of the worker's
//! life, and be done later, each user's in order. ADDRESS is your Kafka's, or what `cargo kafka up`
//! prints; the topics `user_logins`, `user_logins-dead`, `retry-topics-user_logins-retry-1` and `-2` must
//! exist, the last two with as many partitions as the first (`lib.rs` says how to make them).
//!
//! Where all records need the same thing, let the input pause instead: `.breaker(Breaker::default())`.

use std::time::Duration;

use pelton::{
    Context, Exit, Handler, HandlerError, Ordering, Record, RetryPolicy, RetryTopics, Timing,
    Worker,
};
use tokio::time::Instant;

/// Knows half of all users from its fifteenth second on.
struct Directory {
    since: Instant,
}

impl Handler for Directory {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let user = record.key_str()?;
        let is_down = self.since.elapsed() < Duration::from_secs(15);
        if is_down && user.ends_with(['0', '2', '4', '6', '8']) {
            return Err(HandlerError::retryable("the directory of even users is down"));
        }
        tracing::info!(user, topic = record.topic(), offset = record.offset(), "found");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("retry-topics");
    let since = Instant::now();
    app.input("user_logins")
        .ordering(Ordering::key(50))
        // In place twice; then it makes room for others.
        .retry(RetryPolicy::fixed(Duration::from_millis(200)).at_most(2))
        .retry_topics(RetryTopics::after([5, 20].map(Duration::from_secs)))
        .dead_letters("user_logins-dead")
        // A layer around the handler: what takes long is named in the log.
        .layer(Timing::named("directory").warn_above(Duration::from_secs(1)))
        .handler(move |_slot| Directory { since });
    app.run().await
}
