//! What can be wrong with the settings? Each error names the source, the key and the way out.

use std::path::PathBuf;

use thiserror::Error;

use super::origin::Origin;

/// A worker can't be configured as asked.
///
/// Trying again helps only where the file could not be read. The text never holds the value of a
/// secret. [`code`](Self::code) is stable.
///
/// ```
/// use pelton::config::Settings;
///
/// let error = Settings::default().check().unwrap_err();
/// assert_eq!(error.code(), "PLT-0106");
/// assert!(error.to_string().contains("PELTON__BOOTSTRAP_SERVERS"));
/// ```
#[derive(Debug, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are what the message says they are")]
pub enum ConfigError {
    /// The settings file can't be read.
    #[error(
        "PLT-0101: the settings file {} can't be read: {source}; check the path given with \
         --config and the file's rights", path.display()
    )]
    Unreadable { path: PathBuf, source: std::io::Error },

    /// The settings file is larger than any settings file.
    #[error(
        "PLT-0102: {} is larger than {limit_bytes} bytes, so it is not a settings file; check \
         the path given with --config", path.display()
    )]
    TooLarge { path: PathBuf, limit_bytes: u64 },

    /// The settings file is not TOML. Its text is not repeated: a line may hold a secret.
    #[error(
        "PLT-0103: the settings file {} is not TOML{place}: {problem}; correct it there (texts \
         stand in \"quotes\", keys with dots too)", path.display()
    )]
    Syntax { path: PathBuf, place: String, problem: String },

    /// No setting has this name.
    #[error("PLT-0104: unknown setting `{key}` from {origin}: {way_out}")]
    UnknownKey { origin: Origin, key: String, way_out: String },

    /// The value is of the wrong type, or outside what the setting can be.
    #[error("PLT-0105: `{key}` from {origin} can't be used: {problem}")]
    InvalidValue { origin: Origin, key: String, problem: String },

    /// A setting without a default was not given.
    #[error("PLT-0106: `{key}` is not set: {way_out}")]
    Missing { key: String, way_out: String },

    /// Pelton takes this over, and a setting could only break it.
    #[error("PLT-0107: `{key}` from {origin} is refused: {reason}")]
    Refused { origin: Origin, key: String, reason: String },

    /// Two settings that can't both hold.
    #[error("PLT-0108: `{key}` from {origin} contradicts another setting: {reason}")]
    Contradiction { origin: Origin, key: String, reason: String },

    /// A flag or an environment variable whose own form is wrong.
    #[error("PLT-0109: {origin} is malformed: {problem}")]
    Malformed { origin: Origin, problem: String },

    /// The application's name can't name its section.
    #[error(
        "PLT-0110: the application's name \"{name}\" can't name a section of settings: {reason}; \
         give Worker::builder another name"
    )]
    ApplicationName { name: String, reason: String },

    /// A file that a setting names for a secret doesn't give one. Its text is not repeated.
    #[error(
        "PLT-0111: the secret `{key}` can't be read from {}, named by {origin}: {problem}",
        path.display()
    )]
    SecretFile { key: String, path: PathBuf, origin: Origin, problem: String },
}

impl ConfigError {
    /// The stable code, as in `PLT-0104`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "PLT-0101",
            Self::TooLarge { .. } => "PLT-0102",
            Self::Syntax { .. } => "PLT-0103",
            Self::UnknownKey { .. } => "PLT-0104",
            Self::InvalidValue { .. } => "PLT-0105",
            Self::Missing { .. } => "PLT-0106",
            Self::Refused { .. } => "PLT-0107",
            Self::Contradiction { .. } => "PLT-0108",
            Self::Malformed { .. } => "PLT-0109",
            Self::ApplicationName { .. } => "PLT-0110",
            Self::SecretFile { .. } => "PLT-0111",
        }
    }
}
