//! Which words do readers bring from elsewhere, and what does Pelton answer?
//!
//! They are looked for before the settings are typed, so the answer says more than "unknown".

use super::error::ConfigError;
use super::kafka_keys;
use super::tree::Tree;

/// Keys Pelton knows and refuses: the reason and the way out.
pub(super) const REFUSED: &[(&str, &str)] = &[
    (
        "enable_auto_commit",
        "Pelton commits a record when it is done, and only then; committing on a timer loses what \
         was read and not done. Remove it; `commit_interval` says how often done work is committed",
    ),
    ("auto_commit_interval_ms", "Pelton's word is `commit_interval`, with a unit as in \"1s\""),
    ("partition_assignment_strategy", "Pelton's word is `assignment_strategy`"),
    ("session_timeout", "the unit is in the name: write `session_timeout_ms`"),
    ("heartbeat_interval", "the unit is in the name: write `heartbeat_interval_ms`"),
    ("max_poll_interval", "the unit is in the name: write `max_poll_interval_ms`"),
    ("isolation_level", "Pelton always reads committed records only. Remove it"),
    ("transactional_id", "Pelton names its transactions itself. Remove it"),
    ("enable_idempotence", "Pelton's producer is always idempotent. Remove it"),
    ("acks", "Pelton's outputs always wait for all in-sync replicas. Remove it"),
    ("value_deserializer", "a record is decoded by the handler, as in `record.json()`. Remove it"),
    ("key_deserializer", "a record is decoded by the handler. Remove it"),
];

/// Refuses the words above, and librdkafka's keys outside `[kafka]`.
pub(super) fn check(tree: &Tree, section: &str) -> Result<(), ConfigError> {
    let Tree::Table(table, _) = tree else {
        return Ok(());
    };
    for (key, below) in table {
        let origin = || below.origin().cloned().unwrap_or(super::Origin::Default);
        if let Some((_, reason)) = REFUSED.iter().find(|(refused, _)| refused == key) {
            let (key, reason) = (key.clone(), (*reason).to_owned());
            return Err(ConfigError::Refused { origin: origin(), key, reason });
        }
        let written = below.clone().flattened();
        let dotted = match &written {
            Tree::Table(keys, _) => keys.keys().map(|rest| format!("{key}.{rest}")).next(),
            Tree::Leaf(..) | Tree::List(..) => Some(key.clone()),
        };
        let Some(dotted) = dotted.filter(|_| key != section && key != "kafka") else {
            continue;
        };
        if dotted.contains('.') && kafka_keys::find(&dotted).is_some() {
            let way_out = format!("librdkafka's settings stand under [kafka], as `\"{dotted}\"`");
            return Err(ConfigError::UnknownKey { origin: origin(), key: dotted, way_out });
        }
    }
    Ok(())
}
