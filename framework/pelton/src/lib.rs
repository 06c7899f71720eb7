//! Stream-processing workers on Apache Kafka that lose nothing.
//!
//! Implement [`Handler`], start N copies of the same program, scale out by starting more. Kafka
//! shares the partitions among them; Pelton keeps each partition's records in order, commits
//! only what is done and durable, and hands partitions over without loss or repetition.
//!
//! ```no_run
//! use pelton::{Context, Exit, Handler, HandlerError, Output, Record, Store, Worker};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Deserialize)]
//! struct Login<'a> { user: &'a str, status: &'a str }
//! #[derive(Serialize)]
//! struct Total<'a> { user: &'a str, total: u64 }
//!
//! struct CountLogins { totals: Store<str, u64>, out: Output }
//!
//! impl Handler for CountLogins {
//!     async fn handle(&mut self, record: &Record<'_>, ctx: &mut Context<'_>) -> Result<(), HandlerError> {
//!         let login: Login<'_> = record.json()?; // an error here is *invalid*: never retried
//!         if login.status == "success" {
//!             let total = ctx.update(self.totals, login.user, |n| n.unwrap_or(0) + 1)?;
//!             ctx.emit(self.out, login.user, &Total { user: login.user, total })?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! #[tokio::main]
//! async fn main() -> Exit {
//!     let mut app = Worker::builder("login-counter");
//!     let totals = app.store("totals");
//!     let out = app.output("login_totals");
//!     app.input("user_logins").handler(move |_slot| CountLogins { totals, out });
//!     app.run().await
//! }
//! ```
//!
//! # A record's journey
//!
//! ```text
//!  Kafka ──records──► Fetch ──runs──► poll loop ──► Engine ──► Schedule ──► Slot ──► Handler::handle
//!    ▲                  ▲               │   ▲      (batches)  (a partition)            │ emit, update
//!    │                  └─ start, stop ─┘   │                                          ▼
//!    └──── Member ◄──── commit, acknowledge ┴──────── sealed ◄──────────────────── Outbox
//! ```
//!
//! # Guarantees
//!
//! At-least-once: a committed offset says that every record before it is done and that its
//! effects are durable. Records of a partition are handled one at a time, in offset order. A
//! graceful hand-over repeats nothing. `docs/guarantees.md` says what is *not* covered.

pub mod admin;
mod batch;
mod completion;
pub mod config;
mod context;
#[cfg(test)]
#[path = "../../engine/src/damage.rs"]
mod damage;
mod effects;
mod error;
mod farewell;
mod fnv1a;
#[cfg(test)]
mod foreign_bytes;
mod handler;
pub mod host;
mod json_problem;
mod kafka;
mod layer;
mod oauth;
mod output;
mod panic_place;
pub mod ports;
mod record;
mod refusal;
mod refusals;
mod reload;
mod rotation;
mod runtime;
mod signals;
mod spared_lock;
mod state;
pub mod telemetry;
mod topic_partition;
mod unwind;
mod worker;

pub use batch::{Batch, BatchHandler, Batches};
pub use completion::Completion;
pub use context::{Cancellation, Context};
pub use error::{Exit, HandlerError, WorkerError};
pub use handler::{Handler, SlotId};
#[doc(hidden)]
pub use kafka::KafkaPorts;
pub use layer::{Dedup, Filter, Layer, Layered, Layers, Remembered, Timing};
pub use oauth::OauthToken;
pub use output::{DeadLetters, Emit, Output, RetryTopics};
#[doc(hidden)]
pub use pelton_engine::{Alarm, Bug};
pub use pelton_engine::{Breaker, DoneSet, Ordering, RetryLimit, RetryPolicy};
pub use record::{Record, Run};
#[doc(hidden)]
pub use runtime::{Fault, FaultHandle};
pub use runtime::{OnInvalid, Scope, SteppedWorker};
pub use state::{Store, StoreKey};
pub use topic_partition::TopicPartition;
pub use worker::{InputBuilder, Worker, WorkerBuilder, WorkerHandle};
