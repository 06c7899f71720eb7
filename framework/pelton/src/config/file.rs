//! What stands in the settings file? Read whole, bounded, and never repeated in an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use config::{FileFormat, Source};

use super::error::ConfigError;
use super::origin::Origin;
use super::tree::Tree;

/// No settings file is larger: 1 MiB.
const LIMIT_BYTES: u64 = 1024 * 1024;

/// The values of the TOML file at `path`.
pub(super) fn read(path: &Path) -> Result<Tree, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    // The length of a pipe or a device is not known before it is read: read one byte more.
    let file = File::open(path).map_err(unreadable)?;
    if file.metadata().map_err(unreadable)?.is_dir() {
        return Err(unreadable(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory")));
    }
    file.take(LIMIT_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > LIMIT_BYTES {
        return Err(ConfigError::TooLarge { path: path.to_owned(), limit_bytes: LIMIT_BYTES });
    }
    let text = String::from_utf8(bytes).map_err(|_| ConfigError::Syntax {
        path: path.to_owned(),
        place: String::new(),
        problem: "it is not UTF-8 text".to_owned(),
    })?;
    // Editors of some systems begin a file with a byte order mark.
    parse(text.strip_prefix('\u{feff}').unwrap_or(&text), path)
}

/// The values of a TOML text that stands in the file at `path`.
pub(super) fn parse(text: &str, path: &Path) -> Result<Tree, ConfigError> {
    let origin = Origin::File(path.to_owned());
    match config::File::from_str(text, FileFormat::Toml).collect() {
        Ok(table) => {
            let below = |(key, value)| (key, Tree::from_file(value, &origin));
            Ok(Tree::Table(table.into_iter().map(below).collect()))
        }
        Err(config::ConfigError::FileParse { cause, .. }) => {
            let (place, problem) = without_source_text(&cause.to_string());
            Err(ConfigError::Syntax { path: path.to_owned(), place, problem })
        }
        Err(_) => Err(ConfigError::Syntax {
            path: path.to_owned(),
            place: String::new(),
            problem: "it can't be parsed".to_owned(),
        }),
    }
}

/// Place and problem of the parser's message, without the lines of the file that it shows.
fn without_source_text(message: &str) -> (String, String) {
    let mut lines = message.lines();
    let first = lines.next().unwrap_or_default();
    let place = first.strip_prefix("TOML parse error at").map(|at| format!(" at{at}"));
    let problem = match &place {
        Some(_) => lines.filter(|line| !line.contains('|')).collect::<Vec<_>>().join(" "),
        None => first.to_owned(),
    };
    let problem = if problem.trim().is_empty() { "it can't be parsed".to_owned() } else { problem };
    (place.unwrap_or_default(), problem)
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::{parse, read};

    fn problem_of(bytes: &[u8]) -> String {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        let path = file.path().display().to_string();
        read(file.path()).unwrap_err().to_string().replace(&path, "FILE")
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read(Path::new("/no/such/pelton.toml")).unwrap_err().to_string();
        assert!(
            error.starts_with("PLT-0101: the settings file /no/such/pelton.toml can't be read")
        );
        assert!(error.contains("check the path given with --config"), "{error}");
        let error = read(Path::new("/")).unwrap_err().to_string();
        assert!(error.contains("it is a directory"), "{error}");
    }

    #[test]
    fn a_file_of_100_mb_is_refused_without_being_read() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(100_000_000).unwrap();
        let error = read(file.path()).unwrap_err();
        assert_eq!(error.code(), "PLT-0102");
        assert!(error.to_string().contains("is larger than 1048576 bytes"), "{error}");
    }

    #[test]
    fn garbage_is_refused_with_its_place() {
        assert_eq!(
            problem_of(b"group_id = \"a\"\n\nadmin = [\n"),
            "PLT-0103: the settings file FILE is not TOML at line 3, column 10: unclosed array, \
             expected `]`; correct it there (texts stand in \"quotes\", keys with dots too)"
        );
        assert!(problem_of(&[0xff, 0xfe, 0]).contains("it is not UTF-8 text"));
        assert!(problem_of(b"{\"group_id\": 1}").starts_with("PLT-0103"));
        assert!(problem_of(b"\0\0\0\0").starts_with("PLT-0103"));
        assert!(problem_of(b"a = 1\na = 2\n").contains("duplicate key"));
        assert!(problem_of(b"a = 99999999999999999999\n").starts_with("PLT-0103"));
    }

    #[test]
    fn a_line_with_a_secret_is_not_repeated() {
        for text in [
            "\"sasl.password\" = \"canary",
            "\"sasl.password\" = canary",
            "\"sasl.password\" = 'can\u{0}ary'",
            "\"sasl.password\" = \"\\canary\"",
            "\"sasl.password\" = \"\"\"\ncanary | canary\n\"\" x",
        ] {
            let error = parse(&format!("[kafka]\n{text}\n"), Path::new("f")).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains("canary"), "{shown}");
            assert!(shown.contains("line"), "{shown}");
        }
    }
}
