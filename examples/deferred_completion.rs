//! cargo run -p pelton-examples --example deferred_completion -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! How does something else complete a record: an answer that comes later, a task of your own? With
//! `ctx.defer()`.
//!
//! You will see questions being asked, and their answers a second later in bunches of up to five
//! hundred; only an answer makes a login done, and until then its offset waits. ADDRESS is your Kafka's, or what `cargo kafka
//! up` prints; the topic `user_logins` must exist (`lib.rs` says how to make it).

use std::time::Duration;

use pelton::{Completion, Context, Exit, Handler, HandlerError, Ordering, Record, Worker};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

type Question = (String, Completion);

struct Ask {
    questions: UnboundedSender<Question>,
}

impl Handler for Ask {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let user = record.key_str()?.to_owned();
        // Not answered within ten seconds, the record is tried again.
        let completion = ctx.defer(Duration::from_secs(10))?;
        self.questions.send((user, completion))?;
        Ok(())
    }
}

/// Somebody who answers all questions of a second at once.
async fn answer(mut questions: UnboundedReceiver<Question>) {
    let mut asked = Vec::new();
    while questions.recv_many(&mut asked, 1_000).await > 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        tracing::info!(questions = asked.len(), "answered");
        for (_user, completion) in asked.drain(..) {
            completion.done();
        }
    }
}

#[tokio::main]
async fn main() -> Exit {
    let (questions, asked) = unbounded_channel();
    tokio::spawn(answer(asked));
    let mut app = Worker::builder("deferred-completion");
    app.input("user_logins")
        .ordering(Ordering::unordered(500))
        .handler(move |_slot| Ask { questions: questions.clone() });
    app.run().await
}
