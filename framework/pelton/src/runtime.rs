//! The loops that make a worker: poll loop, partition tasks, start-up and shutdown.

mod alone;
mod breaker;
mod committed;
mod desk;
mod handful;
mod in_flight;
mod in_poll;
mod input;
mod jump;
mod lease;
mod live;
mod lookout;
mod names;
mod partition_task;
mod poll_loop;
mod prepare;
mod process;
mod rebuilds;
mod shared;
mod slot;
mod slot_task;
mod start;
mod start_up;
mod status;
mod wish;

pub use input::OnInvalid;
pub(crate) use input::{
    DeadLetterRoute, HandlerFactory, Input, InputSpec, SlotFactory, Subscription,
};
pub(crate) use live::{Control, Live};
#[doc(hidden)]
pub use live::{Fault, FaultHandle};
pub use process::SteppedWorker;
pub(crate) use process::{WorkerParts, start};
pub(crate) use shared::Plan;
pub(crate) use start::{SignsOfLife, Stage};
pub(crate) use status::StatusBoard;
pub use wish::Scope;
pub(crate) use wish::Wish;
