//! What would Kafka do? A cluster as a pure state machine in virtual time: brokers, the clients
//! that librdkafka would be, and a network between them that delays, loses and cuts.
//!
//! Nothing here reads a clock, sleeps, draws an unseeded number or walks a hash map: the same
//! calls give the same run. A request travels from a client over the network to a node, the
//! node's part of the cluster answers at once or later, and the answer travels back.

#[cfg(test)]
mod client_tests;
mod cluster;
mod fetcher;
mod group;
#[cfg(test)]
mod group_chaos;
#[cfg(test)]
mod group_network;
#[cfg(test)]
mod group_tests;
mod lane;
mod log;
mod member;
#[cfg(test)]
mod member_tests;
mod network;
mod ports;
mod producer;
mod queue;
mod random;
mod transactional;
#[cfg(test)]
mod transactional_tests;
mod transactions;
#[cfg(test)]
mod trial;
mod tricks;
mod wire;
mod world;

pub(crate) use cluster::Cluster;
pub(crate) use fetcher::FetchConfig;
pub(crate) use group::GroupConfig;
pub(crate) use member::{MemberConfig, MemberFaults};
pub(crate) use network::Way;
pub(crate) use ports::{ClientPlan, Process, SharedWorld, SimHost, SimTransactional, records_of};
pub(crate) use producer::ProducerConfig;
pub(crate) use queue::Queue;
pub(crate) use random::Random;
pub(crate) use transactional::{
    Callback, Outcome, TransactionOffsets, TransactionalClient, TransactionalConfig,
};
pub use tricks::RequestKind;
pub(crate) use tricks::Trick;
pub(crate) use wire::{Assignor, LogRecord, StoredOffset, Wire};
pub(crate) use world::World;
