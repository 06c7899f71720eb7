//! Have secrets or certificates changed in their files?
//!
//! Whoever rotates them writes the file and tells nobody. So the files are read again now and
//! then, and compared with what they held: by a fingerprint, so that no secret is kept here.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::{Hash, Hasher};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::config::Settings;

/// What was found in the files so far.
#[derive(Default)]
pub(crate) struct Rotation {
    seen: BTreeMap<String, Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Content(u64),
    Unreadable,
}

/// A file that is not what it was when it was last looked at.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Rotated {
    /// It holds another secret.
    Secret { key: String, text: String },
    /// It holds another certificate or key.
    Tls { key: String, path: PathBuf },
    /// It can't be read any more.
    Unreadable { key: String, problem: String },
}

impl Rotation {
    /// Looks at every file that `settings` name. The first look finds only what differs from the
    /// settings themselves.
    pub(crate) fn look(&mut self, settings: &Settings) -> Vec<Rotated> {
        let mut found = Vec::new();
        let keys: Vec<String> = settings.secret_files().map(|(key, _)| key.to_owned()).collect();
        for key in keys {
            let held = key.strip_prefix("kafka.").and_then(|key| settings.kafka.value(key));
            if let Some(held) = held {
                self.seen
                    .entry(key.clone())
                    .or_insert_with(|| Seen::Content(fingerprint(held.as_bytes())));
            }
            match settings.secret_again(&key) {
                Some(Ok(text))
                    if self.is_new(&key, Seen::Content(fingerprint(text.as_bytes()))) =>
                {
                    found.push(Rotated::Secret { key, text });
                }
                Some(Err(error)) if self.is_new(&key, Seen::Unreadable) => {
                    found.push(Rotated::Unreadable { key, problem: error.to_string() });
                }
                _ => {}
            }
        }
        for (key, path) in tls_files(settings) {
            if let Some(content) = read(path) {
                let seen = Seen::Content(fingerprint(&content));
                if self.is_new(&key, seen) {
                    found.push(Rotated::Tls { key, path: path.to_owned() });
                }
            }
        }
        found
    }

    /// Whether a file was looked at before and held something else.
    fn is_new(&mut self, key: &str, now: Seen) -> bool {
        self.seen.insert(key.to_owned(), now).is_some_and(|before| before != now)
    }
}

/// The files that librdkafka reads when it makes a client, and only then.
fn tls_files(settings: &Settings) -> impl Iterator<Item = (String, &Path)> {
    let files = settings.kafka.iter().filter(|(key, _)| {
        key.starts_with("ssl.") && key.ends_with(".location") && *key != "ssl.engine.location"
    });
    files.map(|(key, path)| (format!("kafka.{key}"), Path::new(path)))
}

/// What a regular file of a certificate's size holds: opening a pipe would wait for its writer,
/// and a folder of certificates has many.
fn read(path: &Path) -> Option<Vec<u8>> {
    const LIMIT_BYTES: u64 = 4 * 1024 * 1024;
    fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(LIMIT_BYTES).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn fingerprint(content: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Rotated, Rotation};
    use crate::config::{Flags, Settings, load_from};

    /// Settings that name a password's file and a certificate's.
    fn settings(password: &std::path::Path, certificate: &std::path::Path) -> Settings {
        let environment = BTreeMap::from([
            ("PELTON__KAFKA__SASL_PASSWORD__FILE".to_owned(), password.display().to_string()),
            ("PELTON__KAFKA__SSL_CA_LOCATION".to_owned(), certificate.display().to_string()),
        ]);
        load_from::<()>("worker", &Flags::default(), &environment).unwrap().settings
    }

    #[test]
    fn a_rotated_file_is_found_once() {
        let folder = tempfile::tempdir().unwrap();
        let (password, certificate) = (folder.path().join("password"), folder.path().join("ca"));
        std::fs::write(&password, "one\n").unwrap();
        std::fs::write(&certificate, "first").unwrap();
        let settings = settings(&password, &certificate);
        let mut rotation = Rotation::default();
        assert_eq!(rotation.look(&settings), []);

        std::fs::write(&password, "two\n").unwrap();
        let key = "kafka.sasl.password".to_owned();
        let found = Rotated::Secret { key: key.clone(), text: "two".to_owned() };
        assert_eq!(rotation.look(&settings), [found]);
        assert_eq!(rotation.look(&settings), []);

        std::fs::write(&certificate, "second").unwrap();
        let found =
            Rotated::Tls { key: "kafka.ssl.ca.location".to_owned(), path: certificate.clone() };
        assert_eq!(rotation.look(&settings), [found]);

        // Between two versions a file may be away; it is said once.
        std::fs::remove_file(&password).unwrap();
        std::fs::remove_file(&certificate).unwrap();
        let found = rotation.look(&settings);
        assert!(
            matches!(&found[..], [Rotated::Unreadable { problem, .. }] if problem.contains("PLT-0111"))
        );
        assert_eq!(rotation.look(&settings), []);
        std::fs::write(&password, "three").unwrap();
        assert_eq!(rotation.look(&settings), [Rotated::Secret { key, text: "three".to_owned() }]);
    }

    /// The file may have changed while the worker started.
    #[test]
    fn the_first_look_compares_with_the_settings() {
        let folder = tempfile::tempdir().unwrap();
        let (password, certificate) = (folder.path().join("password"), folder.path().join("ca"));
        std::fs::write(&password, "one").unwrap();
        let settings = settings(&password, &certificate);
        std::fs::write(&password, "two").unwrap();
        assert_eq!(Rotation::default().look(&settings).len(), 1);
    }
}
