//! cargo run -p pelton-examples --example retry_and_dead_letter -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! What becomes of a record that fails, hangs or can't be read? What the input's failure policy says.
//!
//! You will see failed logins being tried three times and then become dead letters, while all others
//! go on; `cargo kafka tool console-consumer --topic user_logins-dead --from-beginning --property
//! print.headers=true` shows them, with the story of each in its headers. ADDRESS is your Kafka's, or
//! what `cargo kafka up` prints; the topics `user_logins` and `user_logins-dead` must exist (`lib.rs`
//! says how to make them).

use std::time::Duration;

use pelton::{
    Context, DeadLetters, Exit, Handler, HandlerError, Ordering, Record, RetryPolicy, Worker,
};
use serde::Deserialize;

#[derive(Deserialize)]
struct Login {
    user: String,
    status: String,
}

struct Welcome;

impl Handler for Welcome {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let login: Login = record.json()?; // what can't be read is not tried again
        if login.status == "failure" {
            let attempt = ctx.attempt();
            return Err(HandlerError::retryable(format!("no welcome, attempt {attempt}")));
        }
        tracing::info!(user = login.user, "welcome");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("retry-and-dead-letter");
    app.input("user_logins")
        // A record that waits for its retry holds back only its own key.
        .ordering(Ordering::key(50))
        .retry(
            RetryPolicy::exponential(Duration::from_millis(200), Duration::from_secs(5)).at_most(3),
        )
        .attempt_timeout(Duration::from_secs(10))
        // Above the limits records wait instead: a bad deployment must not empty a topic. In this
        // example many logins are meant to fail.
        .dead_letters(DeadLetters::to("user_logins-dead").without_limit())
        .handler(|_slot| Welcome);
    app.run().await
}
