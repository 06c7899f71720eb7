//! State that follows its partition: stores, their changelogs, their restore.

mod access;
mod batch_writes;
mod changelog;
mod directory;
mod layers;
mod merge;
mod restore;
mod store;

pub(crate) use access::StoreAccess;
pub(crate) use batch_writes::BatchWrites;
pub(crate) use changelog::{StoreSpec, changelog_records, changelog_settings, create_command};
pub(crate) use directory::check as check_directory;
pub(crate) use layers::{StoreLayers, Stores, Use, Writes, writes_bytes};
pub(crate) use merge::Merge;
#[cfg(test)]
pub(crate) use restore::take;
pub(crate) use restore::{RestoreRequest, restore};
pub use store::{Store, StoreKey};
pub(crate) use store::{decode, encode};
