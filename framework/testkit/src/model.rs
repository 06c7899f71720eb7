//! What would Kafka do? A cluster as a pure state machine in virtual time: brokers, the clients
//! that librdkafka would be, and a network between them that delays, loses and cuts.
//!
//! Nothing here reads a clock, sleeps, draws an unseeded number or walks a hash map: the same
//! calls give the same run. A request travels from a client over the network to a node, the
//! node's part of the cluster answers at once or later, and the answer travels back.

#[cfg(test)]
mod client_tests;
mod fetcher;
mod lane;
mod log;
mod producer;
mod random;
mod transactional;
#[cfg(test)]
mod transactional_tests;
mod transactions;
#[cfg(test)]
mod trial;
mod wire;
