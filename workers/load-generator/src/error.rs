//! What can go wrong, and what is the way out?

use std::io;
use std::path::PathBuf;

use thiserror::Error;

/// A source can't be read.
///
/// ```
/// use load_generator::JsonLines;
///
/// let error = JsonLines::new(&b"{}"[..]).next().unwrap().unwrap_err();
/// assert!(error.to_string().starts_with("line 1 is no login: missing field `user`"));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the message says they are")]
pub enum SourceError {
    /// The file can't be opened.
    #[error("{} can't be opened: {source}", path.display())]
    Open { path: PathBuf, source: io::Error },
    /// Reading failed on the way.
    #[error("the input can't be read beyond line {line}: {source}")]
    Read { line: u64, source: io::Error },
    /// A line of a JSON-lines file is no login.
    #[error(
        "line {line} is no login: {reason}; a login is \
         {{\"user\": …, \"status\": \"success\" | \"failure\", \"ip\": …, \"at\": \"2026-01-01T00:00:00Z\"}}"
    )]
    NoLogin { line: u64, reason: String },
}

/// Not everything was sent.
///
/// ```
/// use load_generator::SendError;
///
/// let error = SendError::NoTopic { topic: "logins".into(), bootstrap_servers: "kafka:9092".into() };
/// assert!(error.to_string().contains("--create-topic"));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the message says they are")]
pub enum SendError {
    /// The client's settings are refused.
    #[error("the Kafka client can't be made: {0}")]
    Client(rdkafka::error::KafkaError),
    /// No broker answers.
    #[error(
        "no answer from {bootstrap_servers}: {source}; is the address right, and does Kafka run \
         there?"
    )]
    Unreachable { bootstrap_servers: String, source: rdkafka::error::KafkaError },
    /// The topic is not there.
    #[error(
        "there is no topic {topic} at {bootstrap_servers}; make it with --create-topic PARTITIONS, \
         or with: kafka-topics.sh --bootstrap-server {bootstrap_servers} --create --topic {topic} \
         --partitions 12"
    )]
    NoTopic { topic: String, bootstrap_servers: String },
    /// The topic could not be made.
    #[error("the topic {topic} can't be made: {reason}")]
    Create { topic: String, reason: String },
    /// Kafka did not confirm every record.
    #[error(
        "{undelivered} of {sent} records were not delivered; the first: {reason}; the topic holds \
         the others, so send to a fresh topic, or go on with --first-seq"
    )]
    Undelivered { undelivered: u64, sent: u64, reason: String },
    /// The source failed on the way; what was read before is delivered.
    #[error("{source} ({delivered} records were delivered before it)")]
    Source { source: SourceError, delivered: u64 },
}
