//! Which settings are in force, and where did each come from?

use serde::Serialize;
use serde_json::Value;

use super::fields::fields_of;
use super::origin::Origin;
use super::pass_through::{HIDDEN, may_show};
use super::settings::Settings;
use super::tree::joined;

/// One line a setting: `key = value  # origin`, in the order of the settings' declaration.
pub(super) fn lines<A: Serialize>(settings: &Settings, section: &str, app: &A) -> String {
    let mut leaves = Vec::new();
    let values = serde_json::to_value(settings).unwrap_or_default();
    for key in fields_of::<Settings>() {
        collect(key, values.get(key).unwrap_or(&Value::Null), &mut leaves);
    }
    if let app @ Value::Object(_) = serde_json::to_value(app).unwrap_or_default() {
        collect(section, &app, &mut leaves);
    }
    leaves
        .into_iter()
        .map(|(key, value)| {
            let origin = settings.origins.given(&key).unwrap_or(&Origin::Default);
            let value = if shows(&key) || is_nothing(&value) { value } else { HIDDEN.to_owned() };
            let reloadable = if Settings::is_reloadable(&key) { ", reloadable" } else { "" };
            format!("{key} = {value}  # {origin}{reloadable}\n")
        })
        .collect()
}

/// What a setting without a value looks like.
const NOT_SET: &str = "(not set)";

/// That a secret is not given is no secret.
fn is_nothing(value: &str) -> bool {
    value == NOT_SET || value == "\"\""
}

pub(super) fn collect(prefix: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(table) => {
            for (key, below) in table {
                collect(&joined(prefix, key), below, into);
            }
        }
        Value::Null => into.push((prefix.to_owned(), NOT_SET.to_owned())),
        other => into.push((prefix.to_owned(), other.to_string())),
    }
}

/// Whether the value at `key` may be printed. An application's own keys are judged by their words.
pub(super) fn shows(key: &str) -> bool {
    if key.starts_with("inputs.") {
        return true; // by topics, whose names may be any
    }
    if let Some(kafka) = key.strip_prefix("kafka.") {
        return may_show(kafka);
    }
    let secret = ["password", "passwd", "secret", "token", "passphrase", "credential", "pem"];
    let key = key.to_ascii_lowercase();
    let private = key.ends_with("_key") || key.ends_with(".key") || key.contains("apikey");
    !private && !secret.iter().any(|word| key.contains(word))
}
