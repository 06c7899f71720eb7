//! Where does a secret stand that the settings only name? In a file of its own, alone.
//!
//! Read whole and bounded, at start and again when secrets are rotated. One newline at its end is
//! not part of the secret: editors and `echo` write it. What the file holds is in no error.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::kafka_keys::{self, Exposure};
use super::origin::Origin;
use super::tree::{Scalar, Tree};

/// The key that names the file, below the secret's own.
pub(super) const FILE: &str = "file";

/// No secret is larger, not a chain of certificates either: 64 KiB.
const LIMIT_BYTES: u64 = 64 * 1024;

/// What is wrong where a path is wanted and something else is given.
pub(super) const NO_PATH: &str = "write the file's path as a text in \"quotes\"";

/// The secret in the file at `path`.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let refused = |error: std::io::Error| {
        format!("{error}; check the path, and that this process's user may read the file")
    };
    if path.as_os_str().is_empty() {
        return Err("the path is empty; name the file that holds the secret".to_owned());
    }
    // Opening a pipe would wait for its writer.
    if !fs::metadata(path).map_err(refused)?.is_file() {
        return Err("it is no regular file; name the file that holds the secret".to_owned());
    }
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(refused)?;
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(refused)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        let problem = "so it is no secret; name the file that holds the secret alone";
        return Err(format!("it is larger than {LIMIT_BYTES} bytes, {problem}"));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| "it is not UTF-8 text; write the secret into it as such".to_owned())?;
    let secret = text.strip_suffix('\n').unwrap_or(&text);
    let secret = secret.strip_suffix('\r').unwrap_or(secret);
    if secret.is_empty() {
        return Err("it is empty; write the secret into it".to_owned());
    }
    if secret.contains('\0') {
        return Err("it holds a zero byte; write the secret into it as text".to_owned());
    }
    Ok(secret.to_owned())
}

/// What may be said of a path from which no secret could be read: a bare word may be the secret
/// itself, in the wrong place.
pub(super) fn shown(path: &Path) -> PathBuf {
    if path.is_absolute() || path.components().nth(1).is_some() {
        path.to_owned()
    } else {
        "a word without `/`".into()
    }
}

/// May every user of this machine read it? Not where the system has no such rights.
pub(crate) fn is_open_to_all(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;

        fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o004 != 0)
    }
    #[cfg(not(unix))]
    {
        let _no_such_rights = path;
        false
    }
}

/// Gives the flat `[kafka]` table of one source a table below each secret that is in a file, so
/// that the file and the text of a secret stand in each other's place, as in other tables.
pub(super) fn nest(kafka: &mut Tree) -> Result<(), ConfigError> {
    let Tree::Table(table, _) = kafka else {
        return Ok(());
    };
    let named = |key: &String| kafka_keys::find(key).is_none() && secret_of(key).is_some();
    let keys: Vec<String> = table.keys().filter(|key| named(key)).cloned().collect();
    for key in keys {
        let (Some(value), Some(secret)) = (table.remove(&key), secret_of(&key)) else {
            continue;
        };
        let origin = value.origin().cloned().unwrap_or(Origin::Default);
        let file = Tree::Table([(FILE.to_owned(), value)].into(), None);
        if table.insert(secret.to_owned(), file).is_some() {
            return Err(ConfigError::Contradiction {
                origin,
                key: format!("kafka.{key}"),
                reason: format!(
                    "`kafka.{secret}` is given in the same place; keep the secret or its file"
                ),
            });
        }
    }
    Ok(())
}

/// `sasl.password.file` names the file of `sasl.password`.
fn secret_of(key: &str) -> Option<&str> {
    let secret = key.strip_suffix(FILE)?.strip_suffix('.')?;
    kafka_keys::find(secret).filter(|key| key.exposure == Exposure::Hidden).map(|_| secret)
}

/// Reads the secrets of `[kafka]` that stand in files.
pub(super) fn resolve(kafka: &mut Tree) -> Result<(), ConfigError> {
    let Tree::Table(table, _) = kafka else {
        return Ok(());
    };
    for (key, value) in table.iter_mut() {
        if !matches!(value, Tree::Table(..)) {
            continue;
        }
        let Some((path, named_by)) = file_of(value) else {
            return Err(ConfigError::InvalidValue {
                origin: value.origin().cloned().unwrap_or(Origin::Default),
                key: format!("kafka.{key}.{FILE}"),
                problem: NO_PATH.to_owned(),
            });
        };
        let text = read(path).map_err(|problem| ConfigError::SecretFile {
            key: format!("kafka.{key}"),
            path: shown(path),
            origin: named_by.clone(),
            problem,
        })?;
        let origin = Origin::in_secret_file(path, named_by);
        *value = Tree::text(text, origin);
    }
    Ok(())
}

/// The path in a table whose only key is `file`, and who gave it.
pub(super) fn file_of(tree: &Tree) -> Option<(&Path, &Origin)> {
    match tree {
        Tree::Table(table, _) if table.len() == 1 => match table.get(FILE) {
            Some(Tree::Leaf(Scalar::Text(path), origin)) => Some((Path::new(path), origin)),
            _ => None,
        },
        Tree::Table(..) | Tree::Leaf(..) | Tree::List(..) => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::read;

    fn read_bytes(bytes: &[u8]) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        read(file.path())
    }

    #[test]
    fn one_newline_at_the_end_is_not_part_of_the_secret() {
        for (bytes, secret) in [
            (&b"pass word"[..], "pass word"),
            (b"pass word\n", "pass word"),
            (b"pass word\r\n", "pass word"),
            (b"pass word\n\n", "pass word\n"),
            (b" pass\nword \n", " pass\nword "),
        ] {
            assert_eq!(read_bytes(bytes).as_deref(), Ok(secret));
        }
    }

    #[test]
    fn a_file_that_holds_no_secret_is_refused_without_its_text() {
        for (bytes, problem) in [
            (&b""[..], "it is empty"),
            (b"\n", "it is empty"),
            (b"\r\n", "it is empty"),
            (b"canary\xff", "it is not UTF-8 text"),
            (b"can\0ary", "it holds a zero byte"),
            (&[b'c'; 65_537], "it is larger than 65536 bytes"),
        ] {
            let error = read_bytes(bytes).unwrap_err();
            assert!(error.starts_with(problem) && !error.contains("can"), "{error}");
        }
        assert_eq!(read_bytes(&[b'c'; 65_536]).map(|secret| secret.len()), Ok(65_536));
    }

    #[test]
    fn a_path_that_leads_to_no_file_is_refused_and_nothing_is_waited_for() {
        for (path, problem) in [
            ("", "the path is empty"),
            ("/no/such/file", "No such file or directory"),
            ("/", "it is no regular file"),
            ("/dev/zero", "it is no regular file"),
            ("/dev/null/x", "Not a directory"),
        ] {
            let error = read(Path::new(path)).unwrap_err();
            assert!(error.starts_with(problem), "{path}: {error}");
        }
    }
}
