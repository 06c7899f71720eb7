//! cargo run -p pelton-examples --example stateful_count -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! How does a handler remember? In a store: it counts each user's failed logins in a row, and
//! the third raises an alert.
//!
//! You will see a line per alert; the alerts are in the topic `login_alerts`, keyed by user. Kill
//! it or start more copies: each partition's counts follow it to its next owner, through the
//! changelog topic `stateful-count-user_logins-failures-changelog` that the worker makes.
//! ADDRESS is your Kafka's, or what `cargo kafka up` prints; the topics `user_logins` and
//! `login_alerts` must exist (`lib.rs` says how to make and fill them).

use pelton::{Context, Exit, Handler, HandlerError, Output, Record, Store, Worker};
use serde::{Deserialize, Serialize};

/// Borrowed from the record where JSON allows it.
#[derive(Deserialize)]
struct Login<'a> {
    user: std::borrow::Cow<'a, str>,
    status: &'a str,
}

#[derive(Serialize)]
struct Alert<'a> {
    user: &'a str,
    failures: u64,
}

struct WatchFailures {
    failures: Store<str, u64>,
    alerts: Output,
}

impl Handler for WatchFailures {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let login: Login<'_> = record.json()?;
        let user = &*login.user;
        if login.status == "success" {
            return ctx.delete(self.failures, user);
        }
        let failures = ctx.update(self.failures, user, |n| n.unwrap_or(0) + 1)?;
        if failures == 3 {
            tracing::info!(user, failures, "alert");
            ctx.emit(self.alerts, user, &Alert { user, failures })?;
        }
        Ok(()) // from here on the count and the alert are one: both happen, or neither
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("stateful-count");
    // A store belongs to a partition of its input. Logins are keyed by user, so all logins of a
    // user meet in one partition, and the count is complete.
    let failures = app.store("failures");
    let alerts = app.output("login_alerts");
    app.input("user_logins").handler(move |_slot| WatchFailures { failures, alerts });
    app.run().await
}
