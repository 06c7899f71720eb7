//! What a handler emits, until Kafka has it.

mod dead_letter;
mod emit;
mod gate;
mod outbox;
mod retry_topic;
mod story;

pub use dead_letter::DeadLetters;
pub(crate) use dead_letter::{Failure, FailureKind, MAX_DEATHS, at_most, dead_letter};
pub(crate) use emit::OutputSpec;
pub use emit::{Emit, Output};
pub(crate) use gate::{GateLimits, SendGate};
pub(crate) use outbox::{Outbox, kept_bytes};
pub use retry_topic::RetryTopics;
pub(crate) use retry_topic::{RetryRoute, retry_at, retry_record};
pub(crate) use story::Story;
