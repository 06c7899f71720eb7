//! Is each wrong setting answered as `docs/config-errors.md` says, to the letter?
//!
//! The document is the table: what is given, and the answer. `PELTON_UPDATE=1` writes the answers
//! anew; read the difference before you keep it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Flags, Secret, load_from};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/config-errors.md");

/// Stands in the document for a variable that would be given otherwise.
const NOT_GIVEN: &str = "(not given)";

/// The settings of the application that the document calls `login-counter`.
#[derive(Debug, Serialize, Deserialize)]
struct App {
    input_topic: String,
    batch: u32,
    api_token: Secret,
}

impl Default for App {
    fn default() -> Self {
        Self { input_topic: "user_logins".to_owned(), batch: 10, api_token: Secret::default() }
    }
}

/// What one section of the document gives a worker.
#[derive(Default)]
struct Given {
    file: String,
    environment: BTreeMap<String, String>,
    flags: Vec<String>,
}

impl Given {
    fn parse(section: &str) -> Self {
        let mut given = Self::default();
        for block in section.split("```").skip(1).step_by(2) {
            let (kind, text) = block.split_once('\n').expect("a block");
            match kind {
                "toml" => text.clone_into(&mut given.file),
                "sh" => text.lines().for_each(|line| given.add(line)),
                other => panic!("no such block: {other}"),
            }
        }
        given
    }

    fn add(&mut self, line: &str) {
        if let Some(flag) = line.strip_prefix("--set ") {
            self.flags.push(flag.to_owned());
        } else {
            let (name, value) = line.split_once('=').expect("NAME=value");
            self.environment.insert(name.to_owned(), value.to_owned());
        }
    }

    fn answer(mut self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pelton.toml");
        std::fs::write(&path, &self.file).unwrap();
        // What must be given is, or everything would be answered alike.
        let needed = [("bootstrap_servers", "localhost:9092"), ("auto_offset_reset", "earliest")];
        for (key, value) in needed.into_iter().filter(|(key, _)| !self.file.contains(key)) {
            let name = format!("PELTON__{}", key.to_ascii_uppercase());
            self.environment.entry(name).or_insert_with(|| value.to_owned());
        }
        self.environment.retain(|_, value| value != NOT_GIVEN);
        let flags = Flags { config: Some(path.clone()), set: self.flags, ..Flags::default() };
        let loaded = load_from::<App>("login-counter", &flags, &self.environment);
        let checked = loaded.and_then(|loaded| loaded.settings.check());
        match checked.map_err(|error: ConfigError| error.to_string()) {
            Ok(()) => panic!("nothing is wrong with\n{}", self.file),
            Err(answer) => answer.replace(&path.display().to_string(), "pelton.toml"),
        }
    }
}

#[test]
fn each_wrong_setting_is_answered_as_the_document_says() {
    let document = std::fs::read_to_string(DOCUMENT).unwrap();
    let mut sections = document.split("\n### ");
    let mut written = sections.next().expect("an introduction").to_owned();
    let mut count = 0;
    for section in sections {
        count += 1;
        // The answer is the only quotation of a section; a heading of a higher rank may follow it.
        let (given, rest) = section.split_once("\n> ").expect("an answer");
        let rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
        let answer = Given::parse(given).answer();
        assert!(!answer.contains('\n'), "an answer is one line: {answer}");
        written = format!("{written}\n### {given}\n> {answer}\n{rest}");
    }
    assert!(count >= 45, "only {count} wrong settings are documented");
    if std::env::var_os("PELTON_UPDATE").is_some() {
        std::fs::write(Path::new(DOCUMENT), written).unwrap();
        return;
    }
    for (is, should) in written.lines().zip(document.lines()) {
        assert_eq!(is, should, "docs/config-errors.md; PELTON_UPDATE=1 writes it anew");
    }
    assert_eq!(written, document);
}
