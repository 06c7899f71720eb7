//! The ports over librdkafka: the only place that knows rdkafka.
//!
//! Two clients (FACTS: measured): the *member* joins the group, commits and never fetches; the
//! *fetcher* has no group and reads partitions at explicit offsets. So a rebalance never touches
//! partitions that stay. A producer and an admin client stand beside them.

mod admin;
mod clients;
mod credentials;
mod errors;
mod fetcher;
mod ffi;
mod hearing;
mod member;
mod ports;
mod producer;
mod settings;
mod tls_check;
mod tokens;

pub(crate) use admin::KafkaAdmin;
pub(crate) use clients::KafkaClients;
pub(crate) use credentials::Credentials;
pub(crate) use fetcher::KafkaRestores;
pub use ports::KafkaPorts;
pub(crate) use producer::KafkaProducer;
pub(crate) use settings::{ClientSettings, Protocol, refusal};
pub(crate) use tokens::Tokens;

#[cfg(test)]
pub(crate) use ffi::properties;
