//! What has changed in the settings, and what of it can a running worker take over?
//!
//! ```text
//!  in force ──┐
//!             ├──► changes: key, old, new ──► applied, or needs a restart
//!  read anew ─┘
//! ```
//!
//! Which settings are reloadable stands beside their declaration ([`RELOADABLE`]).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::effective::{collect, shows};
use super::error::ConfigError;
use super::flags::Flags;
use super::load::load_from;
use super::pass_through::HIDDEN;
use super::settings::{RELOADABLE, Settings};
use super::tree::{Tree, joined};

/// What a secret is written as, as a JSON text.
const HIDDEN_TEXT: &str = "\"(hidden)\"";

/// A setting that is not what it was.
///
/// ```
/// use pelton::config::{Fate, Settings};
///
/// let before = Settings::default();
/// let mut after = before.clone();
/// after.paused_topics = vec!["user_logins".to_owned()];
/// after.max_poll_records = 100;
/// let changes = before.changes(&after);
/// assert_eq!(changes[0].to_string(), "max_poll_records 500 → 100");
/// assert_eq!(changes[0].fate, Fate::NeedsRestart);
/// assert_eq!(changes[1].to_string(), r#"paused_topics [] → ["user_logins"]"#);
/// assert_eq!(changes[1].fate, Fate::Applied);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// Its key path (`log.filter`).
    pub key: String,
    /// What it was; hidden if it may be a secret.
    pub old: String,
    /// What it is now; hidden if it may be a secret.
    pub new: String,
    /// What comes of it.
    pub fate: Fate,
}

/// What comes of a changed setting in a worker that runs.
///
/// ```
/// use pelton::config::{Change, Fate};
///
/// /// Must somebody be told to restart the worker?
/// fn is_restart_due(changes: &[Change]) -> bool {
///     changes.iter().any(|change| change.fate == Fate::NeedsRestart)
/// }
/// assert!(!is_restart_due(&[]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The worker takes it over at once.
    Applied,
    /// The worker keeps what it was started with.
    NeedsRestart,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} → {}", self.key, self.old, self.new)
    }
}

impl Settings {
    /// Whether a running worker takes the setting at `key` over when its settings are read again.
    ///
    /// ```
    /// use pelton::config::Settings;
    ///
    /// assert!(Settings::is_reloadable("log.filter"));
    /// assert!(!Settings::is_reloadable("group_id"));
    /// ```
    #[must_use]
    pub fn is_reloadable(key: &str) -> bool {
        let is = |known: &&str| match known.split_once("TOPIC") {
            Some((before, after)) => key.starts_with(before) && key.ends_with(after),
            None => *known == key,
        };
        RELOADABLE.iter().any(is)
    }

    /// What is different in `new`, by key, the application's own section included.
    #[must_use]
    pub fn changes(&self, new: &Self) -> Vec<Change> {
        let (before, after) = (self.leaves(), new.leaves());
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        let changed = keys.into_iter().filter(|key| before.get(*key) != after.get(*key));
        changed
            .map(|key| {
                let hidden = !shows(key) || self.hides(key) || new.hides(key);
                let show = |value: Option<&String>| match value {
                    Some(_) if hidden => HIDDEN.to_owned(),
                    Some(value) => value.clone(),
                    None => "(not set)".to_owned(),
                };
                // What was taken away has no value that a client could be told.
                let told = after.contains_key(key) || !key.starts_with("kafka.");
                let applied = Self::is_reloadable(key) && told;
                Change {
                    key: key.clone(),
                    old: show(before.get(key)),
                    new: show(after.get(key)),
                    fate: if applied { Fate::Applied } else { Fate::NeedsRestart },
                }
            })
            .collect()
    }

    /// Is the value at `key` one of the application's own secrets, whatever its name?
    fn hides(&self, key: &str) -> bool {
        let own = self.source.as_ref().and_then(|source| {
            let key = key.strip_prefix(&source.section)?.strip_prefix('.')?;
            let value = key.split('.').try_fold(&source.app, |at, part| at.get(part))?;
            Some(value == HIDDEN)
        });
        own.unwrap_or(false)
    }

    /// Reads the same flags, environment and file once more; `None` for settings that were not
    /// read from any.
    pub(crate) fn load_again(&self) -> Option<Result<Self, ConfigError>> {
        self.source.as_ref().map(Source::load)
    }

    /// Takes what is reloadable over from `new`; everything else stays what it was.
    pub(crate) fn take_over(&mut self, new: &Self) {
        self.log.filter.clone_from(&new.log.filter);
        self.paused_topics.clone_from(&new.paused_topics);
        self.max_records_per_second = new.max_records_per_second;
        for input in self.inputs.values_mut() {
            input.max_records_per_second = None;
        }
        for (topic, input) in &new.inputs {
            if let Some(rate) = input.max_records_per_second {
                self.inputs.entry(topic.clone()).or_default().max_records_per_second = Some(rate);
            }
        }
        for key in ["sasl.username", "sasl.password"] {
            if let Some(value) = new.kafka.value(key) {
                self.kafka.set(key, value);
            }
        }
        self.origins.take_over(&new.origins, Self::is_reloadable);
    }

    /// Every setting as text, by key: what to compare, secrets too.
    fn leaves(&self) -> BTreeMap<String, String> {
        let mut settings = serde_json::to_value(self).unwrap_or_default();
        if let Value::Object(table) = &mut settings {
            table.remove("kafka"); // written without its secrets
        }
        let mut leaves = Vec::new();
        collect("", &settings, &mut leaves);
        if let Some(source) = &self.source
            && source.app.is_object()
        {
            let mut own = Vec::new();
            collect("", &source.app, &mut own);
            let told = |key: String, text| {
                let text = if text == HIDDEN_TEXT { source.given(&key) } else { text };
                (joined(&source.section, &key), text)
            };
            leaves.extend(own.into_iter().map(|(key, text)| told(key, text)));
        }
        let kafka =
            self.kafka.iter().map(|(key, value)| (format!("kafka.{key}"), value.to_owned()));
        leaves.into_iter().chain(kafka).collect()
    }
}

/// Where settings were read, so that they can be read there again.
#[derive(Clone)]
pub(super) struct Source {
    application: String,
    flags: Flags,
    environment: BTreeMap<String, String>,
    section: String,
    /// The application's own settings as they were read.
    app: Value,
    /// As they were written: a secret is written out by no type.
    given: Tree,
    /// Knows the type of the application's own settings.
    load: fn(&Self) -> Result<Settings, ConfigError>,
}

impl Source {
    pub(super) fn new<A: DeserializeOwned + Default + Serialize>(
        application: &str,
        flags: &Flags,
        environment: &BTreeMap<String, String>,
        section: &str,
        given: Option<Tree>,
        app: &A,
    ) -> Self {
        let ours = environment.iter().filter(|(name, _)| name.starts_with("PELTON__"));
        Self {
            application: application.to_owned(),
            flags: flags.clone(),
            environment: ours.map(|(name, value)| (name.clone(), value.clone())).collect(),
            section: section.to_owned(),
            app: serde_json::to_value(app).unwrap_or_default(),
            given: given.unwrap_or_else(Tree::empty),
            load: |source| {
                load_from::<A>(&source.application, &source.flags, &source.environment)
                    .map(|loaded| loaded.settings)
            },
        }
    }

    fn load(&self) -> Result<Settings, ConfigError> {
        (self.load)(self)
    }

    /// What was written for the application's own `key`, to be compared.
    fn given(&self, key: &str) -> String {
        let at = key.split('.').try_fold(&self.given, |at, part| at.child(part));
        format!("{at:?}")
    }
}

impl fmt::Debug for Source {
    /// Without values: one may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("application", &self.application).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::config::{AutoOffsetReset, ByteCount, Secret};

    #[derive(Default, Serialize, serde::Deserialize)]
    struct Own {
        topic: String,
        api_key: String,
        pin: Secret,
    }

    fn shown(changes: &[Change]) -> Vec<String> {
        changes.iter().map(|change| format!("{change} {:?}", change.fate)).collect()
    }

    #[test]
    fn a_file_that_has_changed_is_read_again_and_compared() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let flags = Flags {
            config: Some(file.path().to_owned()),
            set: vec!["max_poll_records=7".to_owned()],
            ..Flags::default()
        };
        file.write_all(b"max_poll_records = 9\n[counter]\ntopic = \"a\"\npin = \"old\"").unwrap();
        let environment = BTreeMap::from([("PELTON__GROUP_ID".to_owned(), "g".to_owned())]);
        let before = load_from::<Own>("counter", &flags, &environment).unwrap().settings;
        let same = before.load_again().unwrap().unwrap();
        assert_eq!(before.changes(&same), []);

        std::fs::write(
            file.path(),
            "max_poll_records = 8\ngroup_id = \"h\"\nmax_records_per_second = 5\n\
             [counter]\ntopic = \"b\"\napi_key = \"canary\"\npin = \"canary\"\n[log]\nfilter = \"debug\"",
        )
        .unwrap();
        let after = before.load_again().unwrap().unwrap();
        let changes = before.changes(&after);
        // A flag and the environment still beat the file.
        assert_eq!(
            shown(&changes),
            [
                "counter.api_key (hidden) → (hidden) NeedsRestart",
                "counter.pin (hidden) → (hidden) NeedsRestart",
                "counter.topic \"a\" → \"b\" NeedsRestart",
                "log.filter \"info\" → \"debug\" Applied",
                "max_records_per_second (not set) → 5 Applied",
            ]
        );
        assert!(!format!("{before:?} {after:?} {changes:?}").contains("canary"));
    }

    #[test]
    fn a_password_is_compared_and_never_shown() {
        let mut before = Settings::default();
        before.kafka.set("sasl.password", "canary-1");
        let mut after = before.clone();
        after.kafka.set("sasl.password", "canary-2");
        after.kafka.set("ssl.key.password", "canary-3");
        let changes = before.changes(&after);
        assert_eq!(
            shown(&changes),
            [
                "kafka.sasl.password (hidden) → (hidden) Applied",
                "kafka.ssl.key.password (not set) → (hidden) NeedsRestart",
            ]
        );
        assert!(!format!("{changes:?}").contains("canary"));
        // A client can be told another password, but not to have none.
        let changes = after.changes(&Settings::default());
        assert!(changes.iter().all(|change| change.fate == Fate::NeedsRestart), "{changes:?}");
    }

    #[test]
    fn the_documents_say_what_is_reloadable() {
        let rows = include_str!("../../docs/config.md").lines();
        let marked: BTreeSet<_> = rows
            .filter(|row| row.to_lowercase().contains("reloadable"))
            .filter_map(|row| row.strip_prefix("| `")?.split('`').next())
            .collect();
        let own = RELOADABLE.iter().copied().filter(|key| !key.starts_with("kafka."));
        assert_eq!(marked, own.collect());
    }

    #[test]
    fn what_is_called_reloadable_is_taken_over_and_nothing_else() {
        let mut new = Settings {
            group_id: Some("other".to_owned()),
            auto_offset_reset: Some(AutoOffsetReset::Latest),
            memory_budget: ByteCount::from_mib(7),
            paused_topics: vec!["logins".to_owned()],
            max_records_per_second: Some(50),
            ..Settings::default()
        };
        let rules = new.inputs.entry("TOPIC".to_owned()).or_default();
        (rules.max_records_per_second, rules.concurrency) = (Some(5), Some(6));
        new.log.filter = "debug".to_owned();
        for key in ["sasl.username", "sasl.password", "client.rack"] {
            new.kafka.set(key, "x");
        }
        let mut in_force = Settings::default();
        let (applied, left): (Vec<_>, Vec<_>) =
            in_force.changes(&new).into_iter().partition(|change| change.fate == Fate::Applied);
        in_force.take_over(&new);
        assert_eq!(in_force.changes(&new), left);
        let applied: BTreeSet<_> = applied.iter().map(|change| change.key.as_str()).collect();
        assert_eq!(applied, RELOADABLE.iter().copied().collect(), "a case is missing above");
    }
}
