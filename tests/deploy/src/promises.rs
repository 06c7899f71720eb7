//! What does the code promise that a deployment relies on? Asked of the code itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use login_counter::LoginCounterSettings;
use pelton::admin::{AdminServer, Health, PartitionStatus, Status};
use pelton::config::{Flags, Loaded, load_from};

/// What a worker is given beside its `memory_budget`: below 100 MiB for its program, its clients and
/// its threads, the rest for what its stores hold. Every memory limit of `deploy/` is the sum.
pub(crate) const BESIDE_THE_BUDGET_BYTES: u64 = 256 << 20;

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

pub(crate) fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A worker's command line.
#[derive(Parser)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) flags: Flags,
}

/// Arguments, understood as a worker understands them.
pub(crate) fn flags(arguments: &[String]) -> Flags {
    let line = std::iter::once("worker").chain(arguments.iter().map(String::as_str));
    CommandLine::try_parse_from(line).unwrap_or_else(|error| panic!("{arguments:?}: {error}")).flags
}

/// What a worker gets to see: a settings file and variables, with secrets in files.
#[derive(Debug, Default)]
pub(crate) struct Surroundings {
    pub(crate) file: Option<String>,
    pub(crate) variables: BTreeMap<String, String>,
    /// Paths of files that a deployment puts there, and that are not on this machine.
    pub(crate) secrets: Vec<String>,
}

impl Surroundings {
    /// The settings a worker has there; panics where it would refuse to start.
    pub(crate) fn settings(&self) -> Loaded<LoginCounterSettings> {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, mut variables) = (self.file.clone(), self.variables.clone());
        for (number, secret) in self.secrets.iter().enumerate() {
            let here = folder.path().join(number.to_string());
            fs::write(&here, "secret\n").unwrap();
            let here = here.display().to_string();
            file = file.map(|text| text.replace(secret, &here));
            variables.values_mut().for_each(|value| *value = value.replace(secret, &here));
        }
        let mut flags = Flags::default();
        if let Some(text) = file {
            let path = folder.path().join("worker.toml");
            fs::write(&path, text).unwrap();
            flags.config = Some(path);
        }
        let loaded = load_from::<LoginCounterSettings>("login-counter", &flags, &variables)
            .and_then(|loaded| loaded.settings.check().map(|()| loaded));
        loaded.unwrap_or_else(|error| panic!("{error}\nin {self:#?}"))
    }
}

/// An end by force comes so long after `shutdown_timeout`, at most: `signals.rs` waits, then
/// `farewell.rs` has its say.
pub(crate) fn forced_end() -> Duration {
    let seconds = |file: &str, name: &str| {
        let text = read(&format!("framework/pelton/src/{file}"));
        let line = format!("const {name}: Duration = Duration::from_secs(");
        let (_, rest) = text.split_once(&line).unwrap_or_else(|| panic!("{file} has no {line}"));
        rest.split(')').next().unwrap().parse::<u64>().unwrap()
    };
    Duration::from_secs(seconds("signals.rs", "GRACE") + seconds("farewell.rs", "PATIENCE"))
}

/// The exit codes after which a restart mends nothing, by the last column of `docs/errors.md`.
pub(crate) fn not_to_be_restarted() -> BTreeSet<u8> {
    let document = read("framework/pelton/docs/errors.md");
    let (_, table) = document.split_once("| exit code | meaning |").unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with("| "));
    let mut codes = BTreeSet::new();
    for row in rows {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let again = cells.last().unwrap();
        if again.starts_with("not before") || *again == "no" {
            codes.insert(cells[0].parse().unwrap());
        }
    }
    assert!(codes.contains(&2) && codes.len() > 3, "{codes:?}");
    codes
}

/// What a real endpoint answers to these paths, while its worker is well.
pub(crate) fn answers(paths: &[&str]) -> Vec<u16> {
    struct Well;
    impl Status for Well {
        fn health(&self) -> Health {
            let starting = Health::starting("worker", "group");
            Health { ready: true, started: true, ..starting }
        }
        fn partitions(&self) -> Vec<PartitionStatus> {
            Vec::new()
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let recorder = pelton::telemetry::install_recorder().unwrap();
    let server =
        AdminServer::bind("127.0.0.1:0".parse().unwrap(), Arc::new(Well), recorder).unwrap();
    let address = server.local_addr();
    let serving = runtime.spawn(server.serve(std::future::pending()));
    let ask = |path: &&str| {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    };
    let answers = paths.iter().map(ask).collect();
    serving.abort();
    answers
}

/// `512Mi`, `512M`, `512m`, `1g` as bytes: Kubernetes, systemd and compose each write it their way.
pub(crate) fn bytes(text: &str) -> u64 {
    let digits = text.trim_end_matches(|c: char| c.is_alphabetic());
    let unit = match &text[digits.len()..] {
        "Ki" => 1 << 10,
        "Mi" | "M" | "m" => 1 << 20,
        "Gi" | "G" | "g" => 1 << 30,
        other => panic!("{text}: what is {other}?"),
    };
    digits.parse::<u64>().unwrap() * unit
}

#[test]
fn the_endpoint_has_the_paths_that_are_asked_for_and_no_others() {
    assert_eq!(answers(&["/livez", "/metrics", "/healthz"]), [200, 200, 404]);
}
