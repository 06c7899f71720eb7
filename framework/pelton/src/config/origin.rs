//! Where did a value come from? Every error about a setting names it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// The place a setting's value was read from.
///
/// ```
/// use pelton::config::Origin;
///
/// let origin = Origin::Environment("PELTON__GROUP_ID".to_owned());
/// assert_eq!(origin.to_string(), "environment variable PELTON__GROUP_ID");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// Nobody gave a value: the default holds.
    Default,
    /// The program set it itself.
    Code,
    /// A TOML file.
    File {
        /// Where it is.
        path: PathBuf,
        /// In which line the setting stands, from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, as it was typed but for its value.
    Flag(String),
    /// A file that holds this one secret.
    SecretFile {
        /// Where it is.
        path: PathBuf,
        /// Who named it.
        named_by: Box<Self>,
    },
}

impl Origin {
    pub(super) fn in_secret_file(path: &Path, named_by: &Self) -> Self {
        Self::SecretFile { path: path.to_owned(), named_by: Box::new(named_by.clone()) }
    }

    /// Whether a value from here is text by nature, to be read as whatever type is asked for.
    ///
    /// A file distinguishes `5` from `"5"`; an environment variable and a flag can't.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Environment(_) | Self::Flag(_))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Code => f.write_str("the program's code"),
            Self::File { path, line } => write!(f, "file {}:{line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::SecretFile { path, named_by } => {
                write!(f, "secret file {}, named by {named_by}", path.display())
            }
        }
    }
}

/// The origin of every value that somebody gave, by key path (`admin.listen`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origins(pub(crate) BTreeMap<String, Origin>);

impl Origins {
    /// Where the value at `key` came from, if somebody gave one.
    pub(crate) fn given(&self, key: &str) -> Option<&Origin> {
        self.0.get(key)
    }

    /// Where the first value below `table` came from, if somebody gave one.
    pub(crate) fn first_below(&self, table: &str) -> Option<&Origin> {
        let below = |key: &str| key.strip_prefix(table).is_some_and(|rest| rest.starts_with('.'));
        self.0.iter().find(|(key, _)| below(key)).map(|(_, origin)| origin)
    }

    /// The values at those keys are from where `new` has them from.
    pub(crate) fn take_over(&mut self, new: &Self, is_taken_over: impl Fn(&str) -> bool) {
        self.0.retain(|key, _| !is_taken_over(key));
        let taken = new.0.iter().filter(|(key, _)| is_taken_over(key));
        self.0.extend(taken.map(|(key, origin)| (key.clone(), origin.clone())));
    }

    /// The key path of each secret that came from a file of its own, and the file.
    pub(crate) fn secret_files(&self) -> impl Iterator<Item = (&str, &Path)> {
        self.0.iter().filter_map(|(key, origin)| match origin {
            Origin::SecretFile { path, .. } => Some((key.as_str(), path.as_path())),
            _ => None,
        })
    }

    /// Where the value at `key` came from; one that no place gave is the program's own.
    pub(crate) fn of(&self, key: &str) -> Origin {
        self.given(key).cloned().unwrap_or(Origin::Code)
    }
}
