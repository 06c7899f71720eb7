//! What does a changelog look like? A compacted topic with the input's partitions.

use std::sync::Arc;

use crate::ports::{OutRecord, TopicSpec};
use crate::state::Writes;

/// The header that names the version of a store's value, and the one version there is.
pub(crate) const VERSION_HEADER: &str = "pelton-store-version";
pub(crate) const VERSION: &[u8] = b"1";

/// A declared store.
#[derive(Clone, Debug)]
pub(crate) struct StoreSpec {
    /// Its name in the application.
    pub(crate) name: String,
    /// Its changelog's topic; `None` for a store without one.
    pub(crate) changelog: Option<Arc<str>>,
}

/// What a changelog topic's settings must be.
pub(crate) fn changelog_settings() -> Vec<(String, String)> {
    vec![("cleanup.policy".to_owned(), "compact".to_owned())]
}

/// The records that make sealed writes durable: each key once.
pub(crate) fn changelog_records(
    topic: &Arc<str>,
    partition: i32,
    writes: Writes,
) -> Vec<OutRecord> {
    writes
        .into_iter()
        .map(|(key, value)| OutRecord {
            topic: Arc::clone(topic),
            partition: Some(partition),
            key: Some(key),
            value,
            headers: vec![(VERSION_HEADER.to_owned(), Some(VERSION.to_vec()))],
            timestamp_ms: None,
        })
        .collect()
}

/// The command that makes a topic by hand.
pub(crate) fn create_command(bootstrap_servers: &str, spec: &TopicSpec) -> String {
    let settings: String =
        spec.settings.iter().map(|(name, value)| format!(" --config {name}={value}")).collect();
    format!(
        "kafka-topics.sh --bootstrap-server {bootstrap_servers} --create --topic {} --partitions {}{settings}",
        spec.name, spec.partitions
    )
}
