//! Does the systemd unit give the worker what it needs, and the time it needs to end?

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use crate::promises::{
    BESIDE_THE_BUDGET_BYTES, Surroundings, bytes, flags, forced_end, not_to_be_restarted, read,
};

const UNIT: &str = "deploy/systemd/login-counter@.service";

/// The instance of the tests: a port.
const INSTANCE: &str = "9471";

/// A unit: section, key and value of each line, specifiers filled in.
struct Unit(Vec<(String, String, String)>);

impl Unit {
    fn read() -> Self {
        let (text, mut section, mut lines) = (read(UNIT), String::new(), Vec::new());
        for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
            if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
                name.clone_into(&mut section);
            } else {
                let (key, value) = line.split_once('=').unwrap_or_else(|| panic!("{line}"));
                let value = value.replace("%i", INSTANCE).replace("%d", "/run/credentials/it");
                lines.push((section.clone(), key.to_owned(), value));
            }
        }
        Self(lines)
    }

    fn all<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        let key = key.to_owned();
        self.0.iter().filter(move |(_, known, _)| *known == key).map(|(_, _, value)| &**value)
    }

    fn one(&self, key: &str) -> &str {
        let values: Vec<_> = self.all(key).collect();
        let [only] = values[..] else { panic!("not one {key} but {values:?}") };
        only
    }

    fn surroundings(&self) -> Surroundings {
        let variables = self.all("Environment").map(|line| {
            let (name, value) = line.split_once('=').expect("NAME=value");
            (name.to_owned(), value.to_owned())
        });
        let secrets = self.all("LoadCredential").map(|line| {
            let (name, _) = line.split_once(':').expect("name:path");
            format!("/run/credentials/it/{name}")
        });
        Surroundings {
            file: Some(read("deploy/systemd/worker.toml")),
            variables: variables.collect(),
            secrets: secrets.collect(),
        }
    }
}

#[test]
fn a_worker_starts_with_what_the_unit_gives_it() {
    let unit = Unit::read();
    let mut words = unit.one("ExecStart").split(' ').map(str::to_owned);
    assert!(words.next().is_some_and(|program| program.ends_with("/login-counter")));
    let config = flags(&words.collect::<Vec<_>>()).config.expect("--config");
    let readme = read("deploy/systemd/README.md");
    assert!(readme.contains(&format!("worker.toml {}", config.display())), "{config:?}");
    let surroundings = unit.surroundings();
    let settings = surroundings.settings().settings;
    // Several copies on a host: each has an endpoint of its own, for this host alone.
    assert_eq!(settings.admin.listen.to_string(), format!("127.0.0.1:{INSTANCE}"));
    assert_eq!(settings.group_instance_id, None);
    for secret in &surroundings.secrets {
        let used = surroundings.variables.values().any(|value| value == secret);
        assert!(used, "nobody reads {secret}");
    }
    assert_eq!(surroundings.secrets.len(), 1);
}

#[test]
fn an_end_has_the_time_it_may_take_and_begins_with_sigterm() {
    let unit = Unit::read();
    let settings = unit.surroundings().settings().settings;
    assert_eq!(unit.one("KillSignal"), "SIGTERM");
    let limit: u64 = unit.one("TimeoutStopSec").parse().unwrap();
    let needed = settings.shutdown_timeout + forced_end();
    assert!(Duration::from_secs(limit) > needed, "{limit} s is not more than {needed:?}");
}

#[test]
fn what_a_restart_does_not_mend_is_not_restarted() {
    let unit = Unit::read();
    assert_eq!(unit.one("Restart"), "on-failure");
    let codes = unit.one("RestartPreventExitStatus").split(' ');
    let codes: BTreeSet<u8> = codes.map(|code| code.parse().unwrap()).collect();
    assert_eq!(codes, not_to_be_restarted(), "docs/errors.md says otherwise");
}

#[test]
fn a_reload_is_a_signal_that_the_worker_hears() {
    assert_eq!(Unit::read().one("ExecReload"), "/bin/kill -HUP $MAINPID");
    let signals = read("framework/pelton/src/signals.rs");
    assert!(signals.contains("SIGHUP"), "it would end the worker");
}

#[test]
fn a_worker_may_nothing_that_it_needs_not() {
    let unit = Unit::read();
    for (key, value) in [
        ("DynamicUser", "yes"),
        ("ProtectSystem", "strict"),
        ("ProtectHome", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
    ] {
        assert_eq!(unit.one(key), value, "{key}");
    }
    let budget = unit.surroundings().settings().settings.memory_budget.as_u64();
    assert_eq!(bytes(unit.one("MemoryMax")), budget + BESIDE_THE_BUDGET_BYTES);
}

/// What systemd itself makes of it, where it is: unknown keys, values it does not take.
#[test]
fn systemd_has_nothing_to_say_about_the_unit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(format!("login-counter@{INSTANCE}.service"));
    // The program is not on this machine.
    let unit = read(UNIT).replace("ExecStart=/usr/local/bin/login-counter", "ExecStart=/bin/true");
    std::fs::write(&path, unit).unwrap();
    let run = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let Ok(said) = run else {
        println!("systemd-analyze is not here: not tried");
        return;
    };
    let all = [said.stdout, said.stderr].concat();
    let all = String::from_utf8_lossy(&all);
    let ours: Vec<_> = all.lines().filter(|line| line.contains("login-counter@")).collect();
    assert!(said.status.success() && ours.is_empty(), "{all}");
}
