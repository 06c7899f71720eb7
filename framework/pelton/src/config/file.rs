//! What stands in the settings file? Read whole, bounded, and never repeated in an error.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::origin::Origin;
use super::tree::{Scalar, Tree, joined};

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
    let line_ends = text.match_indices('\n').map(|(at, _)| at).collect();
    let file = Text { text, path, line_ends };
    match DeTable::parse(text) {
        Ok(table) => file.table(table.into_inner(), None, ""),
        Err(error) => Err(ConfigError::Syntax {
            path: path.to_owned(),
            place: error.span().map_or_else(String::new, |span| file.place(span.start)),
            problem: error.message().to_owned(),
        }),
    }
}

/// No setting stands deeper; the tables of a deeper one would be walked down one by one.
const LIMIT_DEPTH: usize = 32;

/// A file's text, and where it stands.
struct Text<'a> {
    text: &'a str,
    path: &'a Path,
    line_ends: Vec<usize>,
}

impl Text<'_> {
    fn table(
        &self,
        table: DeTable<'_>,
        origin: Option<Origin>,
        path: &str,
    ) -> Result<Tree, ConfigError> {
        let below = table.into_iter().map(|(key, value)| {
            let path = joined(path, key.get_ref());
            // A value may go over several lines; where its key stands is where to look.
            let tree = self.value(value.into_inner(), self.origin(key.span().start), &path)?;
            Ok((key.into_inner().into_owned(), tree))
        });
        Ok(Tree::Table(below.collect::<Result<_, _>>()?, origin))
    }

    fn value(&self, value: DeValue<'_>, origin: Origin, path: &str) -> Result<Tree, ConfigError> {
        let scalar = match value {
            DeValue::Table(table) if path.matches('.').count() < LIMIT_DEPTH => {
                return self.table(table, Some(origin), path);
            }
            DeValue::Table(_) => {
                let problem = "no setting stands so deep in tables; remove it".to_owned();
                let key = path.chars().take(LIMIT_DEPTH).chain("…".chars()).collect();
                return Err(ConfigError::InvalidValue { origin, key, problem });
            }
            DeValue::Array(items) => {
                let items = items.into_iter().map(|item| {
                    let origin = self.origin(item.span().start);
                    self.value(item.into_inner(), origin, path)
                });
                return Ok(Tree::List(items.collect::<Result<_, _>>()?, origin));
            }
            DeValue::Boolean(value) => Scalar::Bool(value),
            DeValue::String(value) => Scalar::Text(value.into_owned()),
            // TOML's own times have no quotes; as texts they fail by name, or are what is wanted.
            DeValue::Datetime(value) => Scalar::Text(value.to_string()),
            DeValue::Integer(number) => {
                match i64::from_str_radix(number.as_str(), number.radix()) {
                    Ok(number) => Scalar::Integer(number),
                    Err(_) => {
                        let problem = "no whole number of a setting is so large".to_owned();
                        let key = path.to_owned();
                        return Err(ConfigError::InvalidValue { origin, key, problem });
                    }
                }
            }
            // What TOML takes for a number with a fraction, Rust does, too.
            DeValue::Float(number) => Scalar::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        };
        Ok(Tree::Leaf(scalar, origin))
    }

    fn origin(&self, at: usize) -> Origin {
        Origin::File { path: self.path.to_owned(), line: self.line(at) }
    }

    /// The line of the byte at `at`, from 1.
    fn line(&self, at: usize) -> usize {
        self.line_ends.partition_point(|end| *end < at) + 1
    }

    fn place(&self, at: usize) -> String {
        let before = self.text.get(..at).unwrap_or(self.text);
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        format!(" at line {}, column {column}", self.line(at))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::path::Path;

    use super::{Tree, parse, read};

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
        assert!(problem_of(b"a = 99999999999999999999\n").contains("no whole number of a setting"));
    }

    /// Tables in tables, as deep as a file can be long: neither the stack nor patience may run out.
    #[test]
    fn a_setting_at_the_bottom_of_very_many_tables_is_refused() {
        for text in [
            format!("{}a = 1", "a.".repeat(100_000)),
            format!("[{}a]", "a.".repeat(100_000)),
            format!("a = {}1{}", "[".repeat(100_000), "]".repeat(100_000)),
            format!("a = {}{}", "{a=".repeat(100_000), "}".repeat(100_000)),
            format!("{}a = 1", "a.".repeat(40)),
        ] {
            let error = parse(&text, Path::new("f")).unwrap_err();
            assert!(matches!(error.code(), "PLT-0103" | "PLT-0105"), "{error}");
            assert!(error.to_string().len() < 300, "{error}");
        }
    }

    #[test]
    fn the_longest_file_is_read_at_once() {
        let line = |number: usize| format!("key_{number} = {number}\n");
        let text: String = (0..60_000).map(line).collect();
        let tree = parse(&text, Path::new("f")).unwrap();
        let origin = tree.child("key_59999").and_then(Tree::origin).unwrap();
        assert_eq!(origin.to_string(), "file f:60000");
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
