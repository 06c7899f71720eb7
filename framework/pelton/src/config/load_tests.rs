//! What a user meets when loading: precedence, the exact words of each error, and no secret.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::kafka_keys::{self, Exposure};
use super::{AutoOffsetReset, ByteCount, ConfigError, Flags, Loaded, Secret, load_from};

/// Deliberately without `#[serde(default)]`: defaults come from `Default` all the same.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct App {
    input_topic: String,
    output_topic: Option<String>,
    batch: u32,
    users: Vec<String>,
    api_token: Secret,
}

impl Default for App {
    fn default() -> Self {
        Self {
            input_topic: "user_logins".to_owned(),
            output_topic: None,
            batch: 10,
            users: Vec::new(),
            api_token: Secret::default(),
        }
    }
}

fn load(file: &str, env: &[(&str, &str)], sets: &[&str]) -> Result<Loaded<App>, ConfigError> {
    let mut config = tempfile::NamedTempFile::new().unwrap();
    config.write_all(file.as_bytes()).unwrap();
    let flags = Flags {
        config: Some(config.path().to_owned()),
        set: sets.iter().map(|&set| set.to_owned()).collect(),
        ..Flags::default()
    };
    let env: BTreeMap<String, String> =
        env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load_from("login-counter", &flags, &env)
}

/// The error's text, with the temporary file's name as `FILE`.
fn problem(file: &str, env: &[(&str, &str)], sets: &[&str]) -> String {
    let loaded = load(file, env, sets);
    let error = match loaded {
        Err(error) => error,
        Ok(loaded) => loaded.settings.check().unwrap_err(),
    };
    let mut words: Vec<String> = Vec::new();
    for word in error.to_string().split(' ') {
        let hidden = std::env::temp_dir();
        let is_file = word.starts_with(&*hidden.to_string_lossy());
        let line = word.split_once(':').map_or("", |(_, line)| line);
        words.push(if is_file { format!("FILE:{line}") } else { word.to_owned() });
    }
    words.join(" ")
}

#[test]
fn a_flag_beats_the_environment_and_that_the_file() {
    let file = "group_id = \"file\"\ncommit_interval = \"2s\"\n[admin]\nlisten = \"127.0.0.1:1\"\n";
    let env = [("PELTON__GROUP_ID", "env"), ("PELTON__ADMIN__LISTEN", "127.0.0.1:2")];
    let sets = ["admin.listen=127.0.0.1:3"];

    let settings = load("", &[], &[]).unwrap().settings;
    assert_eq!((settings.group_id.as_deref(), settings.admin.listen.port()), (None, 9464));
    let settings = load(file, &[], &[]).unwrap().settings;
    assert_eq!((settings.group_id.as_deref(), settings.admin.listen.port()), (Some("file"), 1));
    let settings = load(file, &env, &[]).unwrap().settings;
    assert_eq!((settings.group_id.as_deref(), settings.admin.listen.port()), (Some("env"), 2));
    let settings = load(file, &env, &sets).unwrap().settings;
    assert_eq!((settings.group_id.as_deref(), settings.admin.listen.port()), (Some("env"), 3));
    assert_eq!(settings.commit_interval, Duration::from_secs(2));
    assert!(settings.admin.enabled);
}

#[test]
fn a_flag_of_its_own_beats_a_set_flag() {
    let flags = Flags {
        set: vec!["group_id=set".to_owned()],
        group_id: Some("own".to_owned()),
        bootstrap_servers: Some("k:9092".to_owned()),
        auto_offset_reset: Some("@0".to_owned()),
        ..Flags::default()
    };
    let loaded = load_from::<()>("idle", &flags, &BTreeMap::new()).unwrap();
    assert_eq!(loaded.settings.group_id.as_deref(), Some("own"));
    assert_eq!(loaded.settings.bootstrap_servers, "k:9092");
    assert_eq!(loaded.settings.auto_offset_reset, Some(AutoOffsetReset::AtTime(0)));
}

#[test]
fn the_environment_alone_runs_a_worker() {
    let env = [
        ("PELTON__BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
        ("PELTON__GROUP_ID", "42"),
        ("PELTON__AUTO_OFFSET_RESET", "earliest"),
        ("PELTON__ADMIN__LISTEN", "127.0.0.1:0"),
        ("PELTON__ADMIN__ENABLED", "false"),
        ("PELTON__STATE_DIR", "/var/lib/pelton"),
        ("PELTON__GUARANTEE", "at_least_once"),
        ("PELTON__COMMIT_INTERVAL", "250ms"),
        ("PELTON__DRAIN_TIMEOUT", "2s"),
        ("PELTON__MEMORY_BUDGET", "64MiB"),
        ("PELTON__MAX_POLL_RECORDS", "7"),
        ("PELTON__KAFKA__FETCH_WAIT_MAX_MS", "10"),
        ("PELTON__LOGIN_COUNTER__INPUT_TOPIC", "007"),
        ("PELTON__LOGIN_COUNTER__OUTPUT_TOPIC", "true"),
        ("PELTON__LOGIN_COUNTER__BATCH", "3"),
        ("PELTON__LOGIN_COUNTER__USERS", "ann, bob"),
        ("PELTON_TEST_BOOTSTRAP", "none of ours"),
    ];
    let loaded = load("", &env, &[]).unwrap();
    let settings = loaded.settings;
    settings.check().unwrap();
    // What looks like a number stays a text where a text is wanted.
    assert_eq!(settings.group_id.as_deref(), Some("42"));
    assert_eq!(settings.auto_offset_reset, Some(AutoOffsetReset::Earliest));
    assert!(!settings.admin.enabled);
    assert_eq!(settings.state_dir.as_deref(), Some("/var/lib/pelton".as_ref()));
    assert_eq!(settings.commit_interval, Duration::from_millis(250));
    assert_eq!(settings.effective_drain_timeout(), Duration::from_secs(2));
    assert_eq!(settings.memory_budget, ByteCount::from_mib(64));
    assert_eq!(settings.max_poll_records, 7);
    assert_eq!(settings.kafka.value("fetch.wait.max.ms"), Some("10"));
    assert_eq!(
        loaded.app,
        App {
            input_topic: "007".to_owned(),
            output_topic: Some("true".to_owned()),
            batch: 3,
            users: vec!["ann".to_owned(), "bob".to_owned()],
            api_token: Secret::default(),
        }
    );
}

/// A topic may be called like a secret; what is set about it is none.
#[test]
fn the_rules_of_an_input_are_shown_where_they_are_given_and_nowhere_else() {
    let file = "[inputs.\"password.resets\".retry]\nattempts = 5";
    let env = [("PELTON__INPUTS__PASSWORD_RESETS__RETRY__KIND", "fixed")];
    let loaded = load(file, &env, &["inputs.other.concurrency=2"]).unwrap();
    let effective = loaded.effective();
    let shown: Vec<_> = effective.lines().filter(|line| line.starts_with("inputs")).collect();
    let [flag, attempts, kind] = shown.as_slice() else { panic!("{shown:?}") };
    assert_eq!(*flag, "inputs.other.concurrency = 2  # flag --set inputs.other.concurrency");
    assert!(
        attempts.starts_with("inputs.password.resets.retry.attempts = 5  # file"),
        "{attempts}"
    );
    let variable = "environment variable PELTON__INPUTS__PASSWORD_RESETS__RETRY__KIND";
    assert_eq!(*kind, format!("inputs.password.resets.retry.kind = \"fixed\"  # {variable}"));
    assert!(!load("", &[], &[]).unwrap().effective().contains("inputs"));
}

#[test]
fn librdkafka_settings_are_texts_however_they_are_written() {
    let file = "[kafka]\n\"fetch.min.bytes\" = 1\nfetch.max.bytes = 5\ncheck.crcs = true\n\
                \"client.rack\" = \"a\"\n";
    let env = [("PELTON__KAFKA__FETCH_MAX_BYTES", "6")];
    let settings = load(file, &env, &[]).unwrap().settings;
    let wanted = [
        ("check.crcs", "true"),
        ("client.rack", "a"),
        ("fetch.max.bytes", "6"),
        ("fetch.min.bytes", "1"),
    ];
    assert_eq!(settings.kafka.iter().collect::<Vec<_>>(), wanted);
}

#[test]
fn an_application_without_settings_refuses_any() {
    let env = BTreeMap::from([("PELTON__IDLE__X".to_owned(), "1".to_owned())]);
    let error = load_from::<()>("idle", &Flags::default(), &env).unwrap_err();
    assert_eq!(
        error.to_string(),
        "PLT-0104: unknown setting `idle.x` from environment variable PELTON__IDLE__X: there are \
         no settings here; remove it"
    );
}

#[test]
fn an_application_can_not_be_named_like_a_setting() {
    for name in ["kafka", "admin", "group-id", "", "a b", "a__b", "ä"] {
        let error = load_from::<()>(name, &Flags::default(), &BTreeMap::new()).unwrap_err();
        assert_eq!(error.code(), "PLT-0110", "{name}");
    }
}

/// A file that holds a secret, and a newline as editors write it.
fn secret_file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "{text}").unwrap();
    file
}

#[test]
fn a_secret_may_stand_in_a_file_that_any_source_names() {
    let (one, two) = (secret_file("canary 1"), secret_file("canary 2"));
    let [one_path, two_path] = [&one, &two].map(|file| file.path().display().to_string());
    let file = format!("[kafka]\n\"sasl.password\".file = '{one_path}'\n");
    let env = [
        ("PELTON__KAFKA__SSL_KEY_PASSWORD__FILE", two_path.as_str()),
        ("PELTON__LOGIN_COUNTER__API_TOKEN__FILE", one_path.as_str()),
    ];
    let set = format!("kafka.ssl.keystore.password.file={two_path}");
    let loaded = load(&file, &env, &[&set]).unwrap();
    let kafka = &loaded.settings.kafka;
    assert_eq!(kafka.value("sasl.password"), Some("canary 1"));
    assert_eq!(kafka.value("ssl.key.password"), Some("canary 2"));
    assert_eq!(kafka.value("ssl.keystore.password"), Some("canary 2"));
    assert_eq!(loaded.app.api_token.expose(), "canary 1");
    // Each can be read again where it came from.
    let files: Vec<_> = loaded.settings.secret_files().collect();
    assert_eq!(
        files,
        [
            ("kafka.sasl.password", one.path()),
            ("kafka.ssl.key.password", two.path()),
            ("kafka.ssl.keystore.password", two.path()),
            ("login_counter.api_token", one.path()),
        ]
    );
    std::fs::write(two.path(), "canary 3").unwrap();
    let again = loaded.settings.secret_again("kafka.ssl.key.password").unwrap();
    assert_eq!(again.unwrap(), "canary 3");
    std::fs::write(two.path(), "").unwrap();
    let again = loaded.settings.secret_again("kafka.ssl.key.password").unwrap();
    assert_eq!(again.unwrap_err().code(), "PLT-0111");
    assert!(loaded.settings.secret_again("kafka.sasl.username").is_none());
    // And its origin says so, without the text.
    let shown = format!("{} {:?} {:?}", loaded.effective(), loaded.settings, loaded.app);
    assert!(!shown.contains("canary"), "{shown}");
    let line = format!(
        "kafka.ssl.key.password = (hidden)  # secret file {two_path}, named by environment \
         variable PELTON__KAFKA__SSL_KEY_PASSWORD__FILE\n"
    );
    assert!(shown.contains(&line), "{line} is not in\n{shown}");
    let line = format!("login_counter.api_token = (hidden)  # secret file {one_path}, named by");
    assert!(shown.contains(&line), "{line} is not in\n{shown}");
}

#[test]
fn a_secret_and_its_file_stand_in_each_others_place() {
    let held = secret_file("from the file");
    let path = held.path().display().to_string();
    let named = format!("[kafka]\n\"sasl.password\".file = '{path}'\n");
    let given = "[kafka]\n\"sasl.password\" = \"given\"\n";
    let password = |file: &str, env: &[(&str, &str)], sets: &[&str]| {
        let loaded = load(file, env, sets).unwrap();
        loaded.settings.kafka.value("sasl.password").map(str::to_owned)
    };
    let set = format!("kafka.sasl.password.file={path}");
    for (file, env, sets, wanted) in [
        (
            given,
            &[("PELTON__KAFKA__SASL_PASSWORD__FILE", path.as_str())][..],
            &[][..],
            "from the file",
        ),
        (&named, &[("PELTON__KAFKA__SASL_PASSWORD", "given")], &[], "given"),
        (&named, &[], &["kafka.sasl.password=given"], "given"),
        (given, &[], &[&set], "from the file"),
    ] {
        assert_eq!(password(file, env, sets).as_deref(), Some(wanted));
    }
    let token = |file: &str, env: &[(&str, &str)]| load(file, env, &[]).unwrap().app.api_token;
    let file = "[login_counter]\napi_token = \"given\"\n";
    let env = [("PELTON__LOGIN_COUNTER__API_TOKEN__FILE", path.as_str())];
    assert_eq!(token(file, &env).expose(), "from the file");
    let file = format!("[login_counter]\napi_token.file = '{path}'\n");
    assert_eq!(token(&file, &[("PELTON__LOGIN_COUNTER__API_TOKEN", "given")]).expose(), "given");
    // In one place there is no telling which was meant.
    let both =
        format!("[kafka]\n\"sasl.password\" = \"canary\"\n\"sasl.password.file\" = '{path}'\n");
    assert_eq!(
        problem(&both, &[], &[]),
        "PLT-0108: `kafka.sasl.password.file` from file FILE:3 contradicts another setting: \
         `kafka.sasl.password` is given in the same place; keep the secret or its file"
    );
}

/// A canary in every place a secret can stand, right or wrong: it is never printed.
#[test]
fn a_secret_is_never_printed() {
    let secrets = "[kafka]\n\"sasl.password\" = \"canary\"\n\"ssl.key.pem\" = \"canary\"\n\
                   \"sasl.oauthbearer.config\" = \"canary\"\n\"sasl.pasword\" = \"canary\"\n\
                   [login_counter]\napi_token = \"canary\"\n";
    let env = [("PELTON__KAFKA__SSL_KEY_PASSWORD", "canary")];
    let sets = ["kafka.sasl.oauthbearer.client.secret=canary"];
    let loaded = load(secrets, &env, &sets).unwrap();
    let shown = format!("{:?} {}", loaded.settings, loaded.effective());
    assert!(!shown.contains("canary"), "{shown}");
    assert!(shown.contains("kafka.sasl.password = (hidden)  # file"), "{shown}");

    for (file, sets) in [
        ("sasl.password = \"canary\"", &[][..]),
        ("\"sasl.password\" = \"canary\"", &[]),
        ("sasl_password = \"canary\"", &[]),
        ("admin = \"canary\"", &[]),
        ("max_poll_records = \"canary\"", &[]),
        ("guarantee = \"canary\"", &[]),
        ("commit_interval = \"canary\"", &[]),
        ("memory_budget = \"canary\"", &[]),
        ("admin.listen = \"canary\"", &[]),
        ("bootstrap_servers = \"user:canary@host:1\"", &[]),
        ("", &["max_poll_records=canary"]),
        ("", &["admin.enabled=canary"]),
        ("", &["log.filter=canary"]),
        ("kafka = \"canary\"", &[]),
    ] {
        let error = match load(file, &[], sets) {
            Err(error) => error,
            Ok(loaded) => loaded.settings.check().unwrap_err(),
        };
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("canary"), "{shown}");
    }
}

#[test]
fn each_effective_setting_names_its_source() {
    let loaded = load("max_poll_records = 9\n", &[("PELTON__GROUP_ID", "g")], &[]).unwrap();
    let shown = loaded.effective();
    for line in [
        "group_id = \"g\"  # environment variable PELTON__GROUP_ID\n",
        "commit_interval = \"1s\"  # default\n",
        "memory_budget = \"256MiB\"  # default\n",
        "drain_timeout = (not set)  # default\n",
        "login_counter.batch = 10  # default\n",
        "max_poll_records = 9  # file ",
    ] {
        assert!(shown.contains(line), "{line} is not in\n{shown}");
    }
}

/// Every key of librdkafka's that may hold a secret, given in every way there is.
#[test]
fn no_key_that_may_hold_a_secret_shows_it_whichever_way_it_was_given() {
    const CANARY: &str = "canary-5f3a9c";
    let mut kept = tempfile::NamedTempFile::new().unwrap();
    writeln!(kept, "{CANARY}").unwrap();
    let file = kept.path().display();
    let secret =
        |name: &&str| kafka_keys::find(name).is_some_and(|key| key.exposure == Exposure::Hidden);
    let mut taken = 0;
    for name in kafka_keys::allowed().filter(secret) {
        let variable = format!("PELTON__KAFKA__{}", name.to_uppercase().replace('.', "_"));
        let in_file = format!("{variable}__FILE");
        for (way, loaded) in [
            ("file", load(&format!("[kafka]\n\"{name}\" = \"{CANARY}\""), &[], &[])),
            ("environment", load("", &[(&variable, CANARY)], &[])),
            ("flag", load("", &[], &[&format!("kafka.{name}={CANARY}")])),
            ("file of its own", load(&format!("[kafka]\n\"{name}\".file = \"{file}\""), &[], &[])),
            ("file by variable", load("", &[(&in_file, &file.to_string())], &[])),
        ] {
            let shown = match &loaded {
                Ok(loaded) => {
                    assert_eq!(loaded.settings.kafka.value(name), Some(CANARY), "{name}, {way}");
                    taken += 1;
                    let checked = loaded.settings.check();
                    format!("{}{loaded:?}{loaded:#?}{checked:?}", loaded.effective())
                }
                Err(error) => format!("{error}{error:?}"),
            };
            assert!(!shown.contains(CANARY), "{name}, {way}: {shown}");
        }
    }
    assert!(taken >= 50, "{taken} values were taken: too few were tried");
}
