//! Stream-processing workers on Apache Kafka that lose nothing.

pub mod telemetry;
mod topic_partition;

pub use topic_partition::TopicPartition;
