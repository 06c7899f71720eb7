//! How does a worker learn its settings?
//!
//! From three places, the stronger first: a flag, an environment variable (`PELTON__…`), a TOML
//! file. What none of them gives has a default.
//!
//! ```text
//!  file ──┐
//!  env  ──┼──► Tree (each value knows its source) ──► Settings + the application's own section
//!  flags ─┘              │                                    │
//!                        └─ unknown key, wrong type            └─ Settings::check: contradictions
//! ```
//!
//! Loading reads nothing but the named file, the environment it is given, and the files these name
//! for secrets. It upholds
//! two rules: a value that can't be used is an error that says where the value came from and the
//! way out, and a secret is never printed, neither by an error nor by `Debug`.

mod check;
mod choices;
mod contradictions;
#[cfg(test)]
mod docs_tests;
mod effective;
mod environment;
mod error;
mod fields;
mod file;
mod flags;
#[cfg(test)]
mod fuzz_tests;
mod inputs;
mod kafka_keys;
mod load;
#[cfg(test)]
mod load_tests;
mod memory;
mod nearest;
mod origin;
mod pass_through;
mod read;
mod refused;
mod reload;
#[cfg(test)]
mod schema;
mod secret;
mod secret_file;
mod settings;
mod tree;
mod units;
#[cfg(test)]
mod wrong_tests;

pub use choices::{
    AssignmentStrategy, AutoOffsetReset, GroupProtocol, Guarantee, LogFormat, OnOutOfRange,
    RetryKind,
};
pub use error::ConfigError;
pub use flags::Flags;
pub use inputs::{
    BatchSettings, BreakerSettings, DeadLetterSettings, InputSettings, RetrySettings,
    RetryTopicSettings,
};
pub use load::{Loaded, load, load_from};
pub use origin::Origin;
pub use pass_through::KafkaSettings;
pub use reload::{Change, Fate};
pub use secret::Secret;
pub use settings::{AdminSettings, LogSettings, Settings};
pub use units::ByteCount;

pub(crate) use inputs::as_variable;
pub(crate) use memory::{MemoryShares, RESTORES};
pub(crate) use nearest::nearest;
pub(crate) use secret_file::is_open_to_all;
