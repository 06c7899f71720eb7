//! cargo run -p pelton-examples --example several_topics -- --bootstrap-servers ADDRESS --set auto_offset_reset=earliest
//!
//! How does one worker read several topics? With an input and a handler for each.
//!
//! You will see a line per failed login, a line per round total, and a line per record of any
//! topic whose name begins with `audit-`, also of those created while it runs (they are found
//! within `partition_discovery_interval`). ADDRESS is your Kafka's, or what `cargo kafka up`
//! prints; the topics `user_logins` and `login_totals` must exist (`lib.rs` says how to make them).

use std::time::Duration;

use pelton::{Context, Exit, Handler, HandlerError, OnInvalid, Record, RetryPolicy, Worker};
use serde::Deserialize;

#[derive(Deserialize)]
struct Login {
    user: String,
    status: String,
}

#[derive(Deserialize)]
struct Total {
    user: String,
    total: u64,
}

struct Failures;

impl Handler for Failures {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let login: Login = record.json()?;
        if login.status == "failure" {
            tracing::info!(user = login.user, "login failed");
        }
        Ok(())
    }
}

struct RoundTotals;

impl Handler for RoundTotals {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let Total { user, total } = record.json()?;
        if total.is_multiple_of(10) {
            tracing::info!(user, total, "a round number of logins");
        }
        Ok(())
    }
}

struct Audit;

impl Handler for Audit {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        tracing::info!(topic = record.topic(), offset = record.offset(), "audit");
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Exit {
    let mut app = Worker::builder("several-topics");
    // Each input has its own rules: here what is no login is logged, counted and skipped …
    app.input("user_logins").on_invalid(OnInvalid::Skip).handler(|_slot| Failures);
    // … and here an invalid record stops the worker (the default), and failures wait less.
    app.input("login_totals")
        .retry(RetryPolicy::exponential(Duration::from_millis(100), Duration::from_secs(5)))
        .handler(|_slot| RoundTotals);
    app.input_matching("audit-.*").handler(|_slot| Audit);
    app.run().await
}
