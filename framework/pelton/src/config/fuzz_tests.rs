//! Whatever stands in the file, the environment and the flags: is the answer settings or an error
//! with a code, never a panic, and never the text of a secret?

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::{Deserialize, Serialize};

use super::pass_through::may_show;
use super::{ConfigError, Flags, Loaded, Secret, load_from};

/// Long enough to stand in no name, so that where it is found it was repeated.
const CANARY: &str = "canary-5f3a9c";

#[derive(Debug, Default, Serialize, Deserialize)]
struct App {
    input_topic: String,
    batch: u32,
    users: Vec<String>,
    token: Secret,
    limits: BTreeMap<String, f64>,
    mode: Mode,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Plain,
    Tuned {
        size: u8,
    },
    Pair(u8, bool),
}

/// A file that is right, with a secret in each kind of place.
const RIGHT: &str = r#"
bootstrap_servers = "localhost:9092"
auto_offset_reset = "@2026-11-24T00:00:00Z"
commit_interval = "1m 30s"
memory_budget = "64MiB"
max_poll_records = 0x1f
paused_topics = ["a", 'b']
[inputs."a.b"]
attempt_timeout = "5s"
retry = { kind = "fixed", attempts = 5 }
batch.bytes = "1MiB"
[admin]
listen = "[::1]:0"
[kafka]
"security.protocol" = "sasl_ssl"
"sasl.mechanisms" = "PLAIN"
"sasl.username" = "canary-5f3a9c"
"sasl.password" = """canary-5f3a9c"""
"ssl.key.pem" = '''
canary-5f3a9c
'''
sasl.oauthbearer.client.secret = "canary-5f3a9c"
fetch.wait.max.ms = 10
[fuzzed]
batch = 7
users = ["a"]
token = "canary-5f3a9c"
limits = { a = 1.5, b = inf }
mode = { tuned = { size = 3 } }
"#;

/// Loads, checks, and looks at all that may be shown.
fn hold(
    file: &[u8],
    environment: &BTreeMap<String, String>,
    sets: Vec<String>,
) -> Result<(), TestCaseError> {
    let path = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(path.path(), file).unwrap();
    let flags = Flags { config: Some(path.path().to_owned()), set: sets, ..Flags::default() };
    let loaded = load_from::<App>("fuzzed", &flags, environment);
    let error = match loaded {
        Ok(loaded) => {
            let shown = format!("{} {:?} {:?}", loaded.effective(), loaded.settings, loaded.app);
            prop_assert!(!shown.contains(CANARY) || is_given_plainly(&loaded), "{shown}");
            loaded.settings.check().err()
        }
        Err(error) => Some(error),
    };
    if let Some(error) = error {
        let shown = format!("{error} {error:?}");
        prop_assert!(shown.starts_with(&format!("{}: ", error.code())), "{shown}");
        let is_a_key =
            matches!(&error, ConfigError::UnknownKey { key, .. } if key.contains(CANARY));
        prop_assert!(!shown.contains(CANARY) || is_a_key, "{shown}");
    }
    Ok(())
}

/// Is the secret's text a key, or the value of a setting that holds no secret? Nobody can tell then.
fn is_given_plainly(loaded: &Loaded<App>) -> bool {
    let kafka = loaded.settings.kafka.iter();
    let mut values: Vec<&str> =
        kafka.filter(|(key, _)| may_show(key)).map(|(_, value)| value).collect();
    values.extend(loaded.app.users.iter().map(String::as_str));
    values.extend(loaded.app.limits.keys().map(String::as_str));
    values.extend(loaded.settings.kafka.iter().map(|(key, _)| key));
    values.push(&loaded.app.input_topic);
    values.extend(loaded.settings.paused_topics.iter().map(String::as_str));
    values.iter().any(|value| value.contains(CANARY))
}

/// A change of a file, somewhere.
#[derive(Clone, Debug)]
enum Change {
    Cut(usize, usize),
    Insert(usize, String),
    Double(usize),
    Swap(usize, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let places = || 0..RIGHT.len();
    // What a file is made of, put where it does not belong.
    let piece = prop_oneof![
        "[\\[\\]{}=.,\"'#\n\\\\0-9a-z_-]{1,3}",
        prop::sample::select(vec![
            "[kafka]\n",
            "[[admin]]\n",
            "\"\"\"",
            "'''",
            ".file = ",
            "= 1",
            "\u{0}",
            "\u{feff}",
            "\r",
            "1979-05-27T07:32:00Z",
            "nan",
            "-0",
            "9223372036854775808",
            "{}",
            "\"sasl.password\" = 5\n",
            "token.file = \"/dev/null\"\n",
        ])
        .prop_map(str::to_owned),
        any::<char>().prop_map(String::from),
    ];
    prop_oneof![
        (places(), 1..40_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (places(), piece).prop_map(|(at, piece)| Change::Insert(at, piece)),
        places().prop_map(Change::Double),
        (places(), places()).prop_map(|(a, b)| Change::Swap(a, b)),
    ]
}

fn changed(mut text: Vec<char>, change: &Change) -> Vec<char> {
    let within = |at: usize| at.min(text.len());
    match change {
        Change::Cut(at, length) => {
            let (from, to) = (within(*at), within(at + length));
            text.drain(from..to);
        }
        Change::Insert(at, piece) => {
            let at = within(*at);
            text.splice(at..at, piece.chars());
        }
        Change::Double(at) => {
            let line: Vec<_> = text.iter().skip(within(*at)).take(30).copied().collect();
            text.extend(line);
        }
        Change::Swap(a, b) => {
            if *a < text.len() && *b < text.len() {
                text.swap(*a, *b);
            }
        }
    }
    text
}

/// Names of variables: right ones, wrong ones, and anything.
fn variable() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "COMMIT_INTERVAL",
        "ADMIN__LISTEN",
        "ADMIN",
        "KAFKA",
        "KAFKA__SASL_PASSWORD",
        "KAFKA__SASL_PASSWORD__FILE",
        "KAFKA__FETCH_MIN_BYTES",
        "KAFKA__FILE",
        "FUZZED__TOKEN",
        "FUZZED__TOKEN__FILE",
        "FUZZED__LIMITS__A",
        "FUZZED__MODE",
        "FUZZED",
        "PAUSED_TOPICS",
        "LOG__FILTER",
        "MEMORY_BUDGET",
        "AUTO_OFFSET_RESET",
        "BOOTSTRAP_SERVERS",
    ]);
    prop_oneof![
        3 => known.prop_map(|name| format!("PELTON__{name}")),
        1 => "PELTON__[A-Z_.]{0,20}",
        1 => any::<String>().prop_map(|name| format!("PELTON__{name}")),
        1 => any::<String>(),
    ]
}

fn value() -> impl Strategy<Value = String> {
    let known = prop::sample::select(vec![
        "5",
        "-1",
        "1.5",
        "true",
        "1s",
        "64MiB",
        "",
        " ",
        ",",
        "@",
        "@0",
        "range",
        "/dev/null",
        "/dev/zero",
        "/no/such",
        "localhost:1",
        CANARY,
        "1e999",
        "18446744073709551616",
        "99999999999999999999999999999s",
        "99999999999999999EiB",
        "info,pelton[",
    ]);
    prop_oneof![2 => known.prop_map(str::to_owned), 1 => any::<String>(), 1 => "[ -~]{0,40}"]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_settings_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        hold(&bytes, &BTreeMap::new(), Vec::new())?;
    }

    #[test]
    fn any_text_is_settings_or_an_error(text in "[\\[\\]{}=.,\"'#\n\\\\0-9a-z_ -]{0,200}") {
        hold(text.as_bytes(), &BTreeMap::new(), Vec::new())?;
    }

    #[test]
    fn a_file_gone_wrong_is_settings_or_an_error(changes in prop::collection::vec(change(), 1..6)) {
        let text = changes.iter().fold(RIGHT.chars().collect(), changed);
        let text: String = text.into_iter().collect();
        hold(text.as_bytes(), &BTreeMap::new(), Vec::new())?;
    }

    #[test]
    fn any_environment_is_settings_or_an_error(
        environment in prop::collection::btree_map(variable(), value(), 0..6)
    ) {
        hold(b"", &without_shown_canaries(environment.clone()), Vec::new())?;
        hold(RIGHT.as_bytes(), &without_shown_canaries(environment), Vec::new())?;
    }

    #[test]
    fn any_set_flag_is_settings_or_an_error(
        sets in prop::collection::vec((variable(), value()), 0..4),
        malformed in prop::collection::vec(any::<String>(), 0..2)
    ) {
        let key = |name: String| {
            let rest = name.strip_prefix("PELTON__").unwrap_or(&name).to_ascii_lowercase();
            match rest.strip_prefix("kafka__") {
                Some(kafka) => format!("kafka.{}", kafka.replace('_', ".")),
                None => rest.replace("__", "."),
            }
        };
        let sets = sets.into_iter().filter(|(_, value)| value != CANARY);
        let sets = sets.map(|(name, value)| format!("{}={value}", key(name))).chain(malformed);
        hold(RIGHT.as_bytes(), &BTreeMap::new(), sets.collect())?;
    }
}

/// Where a secret is given for a setting that is none, it may be seen: nobody can tell.
fn without_shown_canaries(mut environment: BTreeMap<String, String>) -> BTreeMap<String, String> {
    let secret = |name: &str| name.contains("PASSWORD") || name.contains("TOKEN");
    environment.retain(|name, value| value != CANARY || secret(name));
    environment
}
