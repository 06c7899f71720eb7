//! Do the documents say of the settings what the types say?
//!
//! `docs/config.schema.json` is written whole, `docs/config.md` between its marks; the prose around
//! them is by hand. `PELTON_UPDATE=1` writes both anew.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex::Regex;
use serde_json::{Value, json};

use super::fields::fields_of;
use super::kafka_keys::{self, Exposure};
use super::refused::REFUSED;
use super::schema::schema;
use super::settings::{AdminSettings, LogSettings, Settings};
use super::tree::{Scalar, Tree};
use super::{
    BatchSettings, BreakerSettings, DeadLetterSettings, Flags, InputSettings, RetrySettings,
    RetryTopicSettings, file, load_from,
};

/// What no default can stand for.
const MUST_BE_GIVEN: [&str; 2] = ["bootstrap_servers", "auto_offset_reset"];

fn document(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs").join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(document(name)).unwrap()
}

/// The document holds `text`, or is made to.
fn hold(name: &str, text: &str) {
    if std::env::var_os("PELTON_UPDATE").is_some() {
        std::fs::write(document(name), text).unwrap();
        return;
    }
    for (is, should) in read(name).lines().zip(text.lines()) {
        assert_eq!(is, should, "docs/{name}; PELTON_UPDATE=1 writes it anew");
    }
    assert!(read(name) == text, "docs/{name} is shorter or longer; PELTON_UPDATE=1 writes it anew");
}

#[test]
fn the_schema_is_that_of_the_types() {
    hold("config.schema.json", &format!("{:#}\n", schema()));
}

#[test]
fn the_tables_are_those_of_the_types() {
    let mut text = read("config.md");
    for (name, table) in [
        ("settings", settings_table()),
        ("inputs", inputs_table()),
        ("refused", refused_table()),
        ("denied", denied_table()),
        ("secrets", secrets_list()),
    ] {
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), "<!-- end -->");
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("no {begin}"));
        let (_, after) = rest.split_once(end).expect("an end");
        text = format!("{before}{begin}{table}{end}{after}");
    }
    hold("config.md", &text);
}

/// One line of a document: a doc comment's paragraphs, joined.
fn joined(description: &Value) -> String {
    let text = description.as_str().expect("every setting has a doc comment");
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

fn settings_table() -> String {
    let schema = schema();
    let mut table = "| key | default | meaning and why |\n|---|---|---|\n".to_owned();
    let mut add = |key: &str, property: &Value| {
        let default = match &property["default"] {
            _ if MUST_BE_GIVEN.contains(&key) => "must be given".to_owned(),
            Value::Null => "–".to_owned(),
            Value::String(text) => format!("`\"{text}\"`"),
            other => format!("`{other}`"),
        };
        table += &format!("| `{key}` | {default} | {} |\n", joined(&property["description"]));
    };
    for key in fields_of::<Settings>() {
        let property = &schema["properties"][key];
        match *key {
            "kafka" | "inputs" => {}
            "admin" | "log" => {
                let admin = *key == "admin";
                let fields =
                    if admin { fields_of::<AdminSettings>() } else { fields_of::<LogSettings>() };
                for field in fields {
                    add(&format!("{key}.{field}"), &property["properties"][field]);
                }
            }
            key => add(key, property),
        }
    }
    table
}

/// The rules of an input: each with its path below the topic, and its schema.
fn input_rules(schema: &Value) -> Vec<(String, Value)> {
    let input = &schema["properties"]["inputs"]["additionalProperties"]["properties"];
    let mut rules = Vec::new();
    for key in fields_of::<InputSettings>() {
        let tables = match *key {
            "retry" => fields_of::<RetrySettings>(),
            "breaker" => fields_of::<BreakerSettings>(),
            "retry_topics" => fields_of::<RetryTopicSettings>(),
            "dead_letters" => fields_of::<DeadLetterSettings>(),
            "batch" => fields_of::<BatchSettings>(),
            _ => &[],
        };
        if tables.is_empty() {
            rules.push(((*key).to_owned(), input[key].clone()));
        }
        let below = tables
            .iter()
            .map(|own| (format!("{key}.{own}"), input[key]["properties"][own].clone()));
        rules.extend(below);
    }
    rules
}

fn inputs_table() -> String {
    let mut table = "| key | meaning |\n|---|---|\n".to_owned();
    for (key, rule) in input_rules(&schema()) {
        table += &format!("| `inputs.TOPIC.{key}` | {} |\n", joined(&rule["description"]));
    }
    table
}

fn refused_table() -> String {
    let mut table = "| word | answer |\n|---|---|\n".to_owned();
    for (word, answer) in REFUSED {
        table += &format!("| `{word}` | {answer} |\n");
    }
    table
}

/// Denied keys by reason, in the order of the first key with that reason.
fn denied_table() -> String {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, reason) in kafka_keys::denied() {
        match reasons.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, names)) => names.push(name),
            None => reasons.push((reason, vec![name])),
        }
    }
    let mut table = "| key of librdkafka | why not |\n|---|---|\n".to_owned();
    for (reason, names) in reasons {
        let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        table += &format!("| {} | {reason} |\n", names.join(", "));
    }
    table
}

fn secrets_list() -> String {
    let hidden =
        |name: &&str| kafka_keys::find(name).is_some_and(|key| key.exposure == Exposure::Hidden);
    let names: Vec<_> =
        kafka_keys::allowed().filter(hidden).map(|name| format!("- `{name}`\n")).collect();
    names.concat()
}

fn value_of(tree: &Tree) -> Value {
    match tree {
        Tree::Table(table, _) => {
            table.iter().map(|(key, below)| (key.clone(), value_of(below))).collect()
        }
        Tree::List(items, _) => items.iter().map(value_of).collect(),
        Tree::Leaf(scalar, _) => match scalar {
            Scalar::Null => Value::Null,
            Scalar::Bool(value) => json!(value),
            Scalar::Integer(value) => json!(value),
            Scalar::Float(value) => json!(value),
            Scalar::Text(value) => json!(value),
        },
    }
}

fn parsed(text: &str) -> Value {
    value_of(&file::parse(text, Path::new("example")).unwrap())
}

/// What is wrong with `value`, at which path: as much of JSON Schema as ours uses.
fn problems(schema: &Value, value: &Value, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (word, rule) in schema.as_object().into_iter().flatten() {
        let subschemas = || rule.as_array().into_iter().flatten();
        let fits = |schema: &&Value| problems(schema, value, path).is_empty();
        let holds = match (word.as_str(), value) {
            ("type", value) => {
                let kinds = rule.as_array().cloned().unwrap_or_else(|| vec![rule.clone()]);
                kinds.iter().any(|kind| match kind.as_str() {
                    Some("string") => value.is_string(),
                    Some("integer") => value.is_i64(),
                    Some("number") => value.is_number(),
                    Some("boolean") => value.is_boolean(),
                    Some("object") => value.is_object(),
                    Some("array") => value.is_array(),
                    other => panic!("no such type: {other:?}"),
                })
            }
            ("const", value) => value == rule,
            ("enum", value) => subschemas().any(|known| known == value),
            ("pattern", Value::String(text)) => {
                Regex::new(rule.as_str().unwrap_or_default()).unwrap().is_match(text)
            }
            ("minLength", Value::String(text)) => text.len() as u64 >= rule.as_u64().unwrap(),
            ("minimum", Value::Number(number)) => number.as_i64() >= rule.as_i64(),
            ("maximum", Value::Number(number)) => number.as_i64() <= rule.as_i64(),
            ("anyOf", _) => subschemas().any(|schema| fits(&schema)),
            ("oneOf", _) => subschemas().filter(fits).count() == 1,
            ("items", Value::Array(items)) => {
                found.extend(items.iter().flat_map(|item| problems(rule, item, path)));
                true
            }
            ("required", Value::Object(table)) => {
                subschemas().all(|key| table.contains_key(key.as_str().unwrap_or_default()))
            }
            ("properties", Value::Object(table)) => {
                for (key, below) in table {
                    let other = schema.get("additionalProperties").unwrap_or(&Value::Null);
                    let rule = rule.get(key).unwrap_or(other);
                    found.extend(problems(rule, below, &format!("{path}.{key}")));
                }
                true
            }
            ("additionalProperties", Value::Object(table))
                if schema.get("properties").is_none() =>
            {
                let below = table.iter();
                found.extend(
                    below.flat_map(|(key, below)| problems(rule, below, &format!("{path}.{key}"))),
                );
                true
            }
            (
                "$schema"
                | "title"
                | "description"
                | "default"
                | "examples"
                | "format"
                | "additionalProperties"
                | "pattern"
                | "minLength"
                | "minimum"
                | "maximum"
                | "required"
                | "properties",
                _,
            ) => true,
            (other, _) => panic!("the schema uses {other}, which this check does not know"),
        };
        if !holds {
            found.push(format!("{path}: {word}"));
        }
    }
    if schema == &json!(false) {
        found.push(format!("{path}: not allowed"));
    }
    found
}

/// The example shows every setting, each that has one with its default; it is valid, and loads.
#[test]
fn the_example_shows_every_setting_with_its_default() {
    let text = read("pelton.example.toml");
    let example = parsed(&text);
    assert_eq!(problems(&schema(), &example, ""), Vec::<String>::new());
    let defaults = serde_json::to_value(Settings::default()).unwrap();
    let (absent, mut missing) = (json!({}), BTreeSet::new());
    let mut see = |table: &str, key: &str, default: &Value, shown: &Value| {
        let there = shown == default || MUST_BE_GIVEN.contains(&key) && shown.is_string();
        let commented = default.is_null() && text.contains(&format!("\n# {key} = "));
        if !there && !commented {
            missing.insert(format!("{table}{key} = {default}"));
        }
    };
    for (key, default) in defaults.as_object().unwrap() {
        match default {
            Value::Object(table) if key != "kafka" && key != "inputs" => {
                for (below, default) in table {
                    see(&format!("{key}."), below, default, &example[key][below]);
                }
            }
            default => see("", key, default, example.get(key).unwrap_or(&absent)),
        }
    }
    assert!(missing.is_empty(), "the example lacks {missing:#?}");
    let flags = Flags { config: Some(document("pelton.example.toml")), ..Flags::default() };
    let loaded = load_from::<BTreeMap<String, String>>("my-worker", &flags, &BTreeMap::new());
    loaded.unwrap().settings.check().unwrap();
}

/// The example's rules of an input are comments; without their marks they are valid, and all.
#[test]
fn the_example_shows_every_rule_of_an_input() {
    let text = read("pelton.example.toml");
    let (_, rules) = text.split_once("\n# [inputs.").unwrap();
    let (rules, _) = rules.split_once("\n\n").unwrap();
    let rules = format!("# [inputs.{rules}").replace("\n# ", "\n").replacen("# ", "", 1);
    let (shown, schema) = (parsed(&rules), schema());
    assert_eq!(problems(&schema, &shown, ""), Vec::<String>::new());
    for (rule, _) in input_rules(&schema) {
        // What can't stand beside `attempts` is named in its line.
        let own = rule.split('.').next_back().unwrap();
        let value = rule.split('.').fold(&shown["inputs"]["user_logins"], |at, key| &at[key]);
        assert!(!value.is_null() || rules.contains(&format!("or {own} = ")), "it lacks {rule}");
    }
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(
        &mut file,
        format!("{}{rules}", &text[..text.find("[admin]").unwrap()]).as_bytes(),
    )
    .unwrap();
    let flags = Flags { config: Some(file.path().to_owned()), ..Flags::default() };
    load_from::<()>("my-worker", &flags, &BTreeMap::new()).unwrap().settings.check().unwrap();
}

#[test]
fn the_schema_refuses_what_the_worker_refuses() {
    for (text, problem) in [
        ("comit_interval = \"1s\"", ".comit_interval: type"),
        ("commit_interval = 5", ".commit_interval: type"),
        ("commit_interval = \"5\"", ".commit_interval: pattern"),
        ("drain_timeout = \"soon\"", ".drain_timeout: pattern"),
        ("memory_budget = \"lots\"", ".memory_budget: pattern"),
        ("max_poll_records = 0", ".max_poll_records: minimum"),
        ("session_timeout_ms = 4000000", ".session_timeout_ms: maximum"),
        ("group_id = 5", ".group_id: type"),
        ("assignment_strategy = \"sticky\"", ".assignment_strategy: oneOf"),
        ("auto_offset_reset = \"somewhere\"", ".auto_offset_reset: anyOf"),
        ("[admin]\nport = 1", ".admin.port: not allowed"),
        ("[admin]\nenabled = \"yes\"", ".admin.enabled: type"),
        ("[log]\nformat = \"xml\"", ".log.format: oneOf"),
        ("[inputs.a]\nretries = 5", ".inputs.a.retries: not allowed"),
        ("[inputs.a.retry]\nattempts = \"5\"", ".inputs.a.retry.attempts: type"),
        ("[inputs.a.retry]\nkind = \"linear\"", ".inputs.a.retry.kind: oneOf"),
        ("[inputs.a.batch]\nsize = 5", ".inputs.a.batch.size: not allowed"),
        ("[kafka]\n\"enable.auto.commit\" = true", ".kafka.enable.auto.commit: type"),
        ("[kafka]\n\"fetch.wait.max\" = 1", ".kafka.fetch.wait.max: type"),
        ("[kafka]\n\"sasl.password\".path = \"/\"", ".kafka.sasl.password: anyOf"),
        ("[kafka]\n\"fetch.min.bytes\".file = \"/\"", ".kafka.fetch.min.bytes: type"),
    ] {
        assert_eq!(problems(&schema(), &parsed(text), ""), [problem], "{text}");
    }
    for text in [
        "commit_interval = \"1m 30s\"\nmemory_budget = \"1.5 GB\"\n[my_worker]\nanything = 1",
        "auto_offset_reset = \"@1795478400000\"",
        "[kafka]\n\"sasl.password\".file = \"/run/secrets/x\"\n\"linger.ms\" = 0.5\nfetch.min.bytes = 1",
    ] {
        assert_eq!(problems(&schema(), &parsed(text), ""), Vec::<String>::new(), "{text}");
    }
}
