//! Which settings does the environment give? Those of variables that begin with `PELTON__`.
//!
//! `PELTON__ADMIN__LISTEN` is `admin.listen`. Under `PELTON__KAFKA__` the rest is one key of
//! librdkafka with its dots written as `_`: `PELTON__KAFKA__FETCH_WAIT_MAX_MS`.

use std::collections::BTreeMap;

use super::error::ConfigError;
use super::kafka_keys;
use super::origin::Origin;
use super::secret_file::FILE;
use super::tree::Tree;

const PREFIX: &str = "PELTON__";

/// The values of those `variables` that are settings; all others are none of ours.
pub(super) fn read(variables: &BTreeMap<String, String>) -> Result<Tree, ConfigError> {
    let mut tree = Tree::empty();
    let ours =
        variables.range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX));
    for (name, value) in ours {
        let origin = Origin::Environment(name.clone());
        let rest = name[PREFIX.len()..].to_ascii_lowercase();
        let kafka = rest.strip_prefix("kafka__").map(kafka_key);
        let path: Vec<&str> = match &kafka {
            Some(key) => vec!["kafka", key],
            None => rest.split("__").collect(),
        };
        if path.iter().any(|part| part.is_empty()) {
            let problem = "a part of its name is empty; write PELTON__ and the key in capitals, \
                           with `__` between a table and its key";
            return Err(ConfigError::Malformed { origin, problem: problem.to_owned() });
        }
        tree.set(&path, Tree::text(value, origin));
    }
    Ok(tree)
}

/// The variables of this process, with those that are not UTF-8 left out unless they are ours.
pub(super) fn of_process() -> Result<BTreeMap<String, String>, ConfigError> {
    let mut variables = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            Ok(value) => {
                variables.insert(name, value);
            }
            Err(_) if name.starts_with(PREFIX) => {
                return Err(ConfigError::Malformed {
                    origin: Origin::Environment(name),
                    problem: "its value is not UTF-8 text; write it as such".to_owned(),
                });
            }
            Err(_) => {}
        }
    }
    Ok(variables)
}

/// The key with dots: `fetch_wait_max_ms` → `fetch.wait.max.ms`. A few keys do have a `_`; and
/// `sasl_password__file` → `sasl.password.file`.
fn kafka_key(rest: &str) -> String {
    if kafka_keys::find(rest).is_some() {
        return rest.to_owned();
    }
    match rest.strip_suffix("__file") {
        Some(secret) => format!("{}.{FILE}", secret.replace('_', ".")),
        None => rest.replace('_', "."),
    }
}

#[cfg(test)]
mod tests {
    use super::{BTreeMap, Origin, Tree, read};

    fn tree_of(name: &str, value: &str) -> Tree {
        let others = [("PATH", "/bin"), ("PELTON_TEST_DATA", "x"), ("PELTONX", "y"), ("Q", "z")];
        let variables: BTreeMap<String, String> =
            others.into_iter().chain([(name, value)]).map(|(k, v)| (k.into(), v.into())).collect();
        read(&variables).unwrap()
    }

    #[test]
    fn a_name_is_a_key_path() {
        for (name, path) in [
            ("PELTON__GROUP_ID", vec!["group_id"]),
            ("PELTON__ADMIN__LISTEN", vec!["admin", "listen"]),
            ("PELTON__LOGIN_COUNTER__INPUT_TOPIC", vec!["login_counter", "input_topic"]),
            ("PELTON__KAFKA__FETCH_WAIT_MAX_MS", vec!["kafka", "fetch.wait.max.ms"]),
            ("PELTON__KAFKA__LOG_LEVEL", vec!["kafka", "log_level"]),
            ("PELTON__KAFKA__SASL_PASSWORD__FILE", vec!["kafka", "sasl.password.file"]),
            ("PELTON__IDLE__TOKEN__FILE", vec!["idle", "token", "file"]),
        ] {
            let mut wanted = Tree::empty();
            wanted.set(&path, Tree::text("v", Origin::Environment(name.to_owned())));
            assert_eq!(tree_of(name, "v"), wanted);
        }
    }

    #[test]
    fn a_name_with_an_empty_part_is_refused() {
        for name in ["PELTON__", "PELTON__ADMIN__", "PELTON____X", "PELTON__KAFKA__"] {
            let variables = BTreeMap::from([(name.to_owned(), "v".to_owned())]);
            let error = read(&variables).unwrap_err();
            assert_eq!(error.code(), "PLT-0109", "{name}");
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
