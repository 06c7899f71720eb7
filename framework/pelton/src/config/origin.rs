//! Where did a value come from? Every error about a setting names it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

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
    File(PathBuf),
    /// An environment variable, by name.
    Environment(String),
    /// A command line flag, as it was typed but for its value.
    Flag(String),
}

impl Origin {
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
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
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

    /// Where the value at `key` came from; one that no place gave is the program's own.
    pub(crate) fn of(&self, key: &str) -> Origin {
        self.given(key).cloned().unwrap_or(Origin::Code)
    }
}
