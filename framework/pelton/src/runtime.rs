//! The loops that make a worker: poll loop, partition tasks, start-up and shutdown.

mod desk;
mod input;
mod jump;
mod live;
mod names;
mod partition_task;
mod poll_loop;
mod prepare;
mod process;
mod shared;
mod slot;
mod start_up;
mod status;

pub use input::OnInvalid;
pub(crate) use input::{HandlerFactory, Input, InputSpec, SlotFactory, Subscription};
pub(crate) use live::{Control, Live};
pub use process::SteppedWorker;
pub(crate) use process::{WorkerParts, start};
pub(crate) use shared::Plan;
pub(crate) use status::StatusBoard;
