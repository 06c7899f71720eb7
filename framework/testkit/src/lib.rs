//! Tests for Pelton workers: without Kafka, and against it.
//!
//! - [`TestDriver`] runs a whole worker in memory, in virtual time: send records, look at what
//!   was emitted and stored, let time pass, take partitions away.
//! - [`EmbeddedCluster`] is a cluster inside this process that other processes can join.

mod driver;
mod embedded;
mod memory;
mod murmur2;

pub use driver::{Emitted, TestDriver};
pub use embedded::{EmbeddedCluster, EmbeddedError};
pub use murmur2::{murmur2, partition_for_key};
