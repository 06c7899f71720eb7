//! What a handler emits, until Kafka has it.

mod emit;
mod gate;
mod outbox;

pub(crate) use emit::OutputSpec;
pub use emit::{Emit, Output};
pub(crate) use gate::{GateLimits, SendGate};
pub(crate) use outbox::{Outbox, kept_bytes};
