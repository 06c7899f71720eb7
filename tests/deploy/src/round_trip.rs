//! Was everything in a file understood? What is parsed and written again must have it all.

use std::fmt::Debug;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses `given` into a typed value that leaves nothing out: a misspelt key, or one in the wrong
/// place, is ignored by most types, and missed here.
pub(crate) fn typed<T: Serialize + DeserializeOwned + Debug>(path: &str, given: &Value) -> T {
    let parsed: T = serde_json::from_value(given.clone())
        .unwrap_or_else(|error| panic!("{path}: {error}\nin {given:#}"));
    let kept = serde_json::to_value(&parsed).unwrap();
    let mut lost = Vec::new();
    compare(given, &kept, "", &mut lost);
    assert!(lost.is_empty(), "{path}: nobody knows {lost:#?}");
    parsed
}

fn compare(given: &Value, kept: &Value, at: &str, lost: &mut Vec<String>) {
    match (given, kept) {
        (Value::Object(given), Value::Object(kept)) => {
            for (key, value) in given {
                let at = format!("{at}.{key}");
                match kept.get(key) {
                    Some(kept) => compare(value, kept, &at, lost),
                    None => lost.push(at),
                }
            }
        }
        (Value::Array(given), Value::Array(kept)) if given.len() == kept.len() => {
            for (index, (given, kept)) in given.iter().zip(kept).enumerate() {
                compare(given, kept, &format!("{at}[{index}]"), lost);
            }
        }
        _ if given == kept => {}
        _ => lost.push(format!("{at} = {given} became {kept}")),
    }
}

/// A YAML document as JSON has it.
pub(crate) fn yaml(path: &str, text: &str) -> Value {
    let mut value: serde_norway::Value =
        serde_norway::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"));
    value.apply_merge().unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::to_value(value).unwrap_or_else(|error| panic!("{path}: {error}"))
}

mod tests {
    use serde::{Deserialize, Serialize};

    use super::{typed, yaml};

    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Known {
        list: Vec<Inner>,
    }
    #[derive(Debug, Default, Serialize, Deserialize)]
    #[serde(default)]
    struct Inner {
        name: String,
    }

    #[test]
    fn what_a_type_does_not_know_is_found() {
        let given = yaml("x", "list: [{ name: a }]");
        assert_eq!(typed::<Known>("x", &given).list[0].name, "a");
        let misspelt = yaml("x", "list: [{ nmae: a }]");
        let found = std::panic::catch_unwind(|| typed::<Known>("x", &misspelt)).unwrap_err();
        assert!(found.downcast_ref::<String>().unwrap().contains(".list[0].nmae"));
    }
}
