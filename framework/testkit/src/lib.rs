//! Tests for Pelton workers: without Kafka, and against it.
//!
//! - [`TestDriver`] runs a whole worker in memory, in virtual time: send records, look at what
//!   was emitted and stored, let time pass, take partitions away.
//! - [`sim`] runs whole workers on a model of Kafka, with faults drawn from a seed.
//! - [`EmbeddedCluster`] is a cluster inside this process that other processes can join.
//! - [`ledger`] judges whole runs: workers write down what they do, and a checker holds it
//!   against the topics.

#[cfg(test)]
#[path = "../../engine/src/damage.rs"]
mod damage;
mod driver;
mod embedded;
pub mod ledger;
mod memory;
#[allow(
    dead_code,
    reason = "what the simulator does not reach yet is held by the own tests of the model"
)]
mod model;
mod murmur2;
#[doc(hidden)]
pub mod scenarios;
pub mod sim;

pub use driver::{Emitted, TestDriver};
pub use embedded::{EmbeddedCluster, EmbeddedError};
pub use murmur2::{murmur2, partition_for_key};
