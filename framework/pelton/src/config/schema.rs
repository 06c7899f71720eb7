//! How do editors and documents learn of the settings? From the types: their fields, doc comments,
//! defaults, words and bounds, as one JSON Schema.
//!
//! Built by tests alone: they hold `docs/config.schema.json` and the tables of `docs/config.md`
//! against it.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::check::NUMBERS;
use super::kafka_keys::{self, Exposure};
use super::pass_through::KafkaSettings;
use super::secret_file::FILE;
use super::settings::Settings;
use super::units::ByteCount;

/// A length of time as `humantime` reads it.
const TIME: &str = r"^\s*([0-9]+\s*[a-zµ]+\s*)+$";

/// A size as `bytesize` reads it.
const SIZE: &str = r"^\s*[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE]([iI])?)?[bB]?\s*$";

/// The schema of a settings file.
pub(super) fn schema() -> Value {
    let settings = SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let schema = settings.into_generator().into_root_schema_for::<Settings>();
    let mut schema = schema.to_value();
    schema["title"] = json!("Settings of a Pelton worker");
    // The application's own table has the application's name.
    schema["additionalProperties"] = json!({ "type": "object" });
    let closed = json!(false);
    for table in ["admin", "log"] {
        schema["properties"][table]["additionalProperties"] = closed.clone();
    }
    let input = &mut schema["properties"]["inputs"]["additionalProperties"];
    input["description"] = json!("The rules of the input of this name.");
    for table in ["retry", "breaker", "retry_topics", "dead_letters", "batch"] {
        input["properties"][table]["additionalProperties"] = closed.clone();
    }
    input["additionalProperties"] = closed;
    for property in schema["properties"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        without_null(property);
    }
    for number in NUMBERS {
        let property = &mut schema["properties"][number.key];
        property["minimum"] = json!(1);
        property["maximum"] = json!(number.most);
    }
    schema
}

/// TOML has no null: what may be left out is left out.
fn without_null(property: &mut Value) {
    if let Some(property) = property.as_object_mut() {
        let below = property.get_mut("properties").and_then(Value::as_object_mut);
        below.into_iter().flat_map(Map::values_mut).for_each(without_null);
        property.get_mut("additionalProperties").into_iter().for_each(without_null);
        property.retain(|word, rule| word != "default" || !rule.is_null());
        if let Some(Value::Array(mut choices)) = property.remove("anyOf") {
            choices.retain(|choice| choice["type"] != "null");
            match choices.as_mut_slice() {
                [Value::Object(only)] => {
                    for (word, rule) in std::mem::take(only) {
                        property.entry(word).or_insert(rule); // what it is said to be for stays
                    }
                }
                _ => drop(property.insert("anyOf".to_owned(), Value::Array(choices))),
            }
        }
        if let Some(kinds) = property.get_mut("type").and_then(Value::as_array_mut) {
            kinds.retain(|kind| kind != "null");
            if let [kind] = kinds.as_slice() {
                let kind = kind.clone();
                property.insert("type".to_owned(), kind);
            }
        }
    }
}

pub(super) fn time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": TIME, "examples": ["500ms", "25s", "5m"] })
}

pub(super) fn times(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "items": { "type": "string", "pattern": TIME } })
}

pub(super) fn address(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "pattern": "^.+:[0-9]+$", "examples": ["127.0.0.1:9464"] })
}

/// The words, or a time.
pub(super) fn start(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "string",
        "anyOf": [
            { "enum": ["earliest", "latest", "error"] },
            { "pattern": "^\\s*@", "examples": ["@2026-11-24T00:00:00Z"] },
        ],
    })
}

impl JsonSchema for ByteCount {
    fn schema_name() -> Cow<'static, str> {
        "ByteCount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": SIZE, "examples": ["64MiB", "1GiB"] })
    }
}

impl JsonSchema for KafkaSettings {
    fn schema_name() -> Cow<'static, str> {
        "KafkaSettings".into()
    }

    /// The keys that may be given, with quotes; without them they are tables in tables, which are
    /// left to the worker to judge.
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let value = json!({ "type": ["string", "number", "boolean"] });
        let file = json!({
            "type": "object",
            "properties": { FILE: { "type": "string", "minLength": 1 } },
            "required": [FILE],
            "additionalProperties": false,
        });
        let mut keys = Map::new();
        for name in kafka_keys::allowed() {
            let secret = kafka_keys::find(name).is_some_and(|key| key.exposure == Exposure::Hidden);
            let schema = if secret { json!({ "anyOf": [value, file] }) } else { value.clone() };
            keys.insert(name.to_owned(), schema);
        }
        json_schema!({
            "type": "object",
            "properties": keys,
            "additionalProperties": { "type": "object" },
        })
    }
}
