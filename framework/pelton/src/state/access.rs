//! Which keys of a store may the code at hand touch?
//!
//! Upholds INV-17: two slots never interleave a read and a write of the same key.

use std::borrow::Cow;

use crate::error::HandlerError;

/// What a call of user code may do with its stores.
#[derive(Clone, Debug)]
pub(crate) enum StoreAccess<'a> {
    /// It runs alone in its partition: everything.
    Any,
    /// Others run beside it, each with a key of its own: only that.
    OwnKey(Option<Cow<'a, [u8]>>),
    /// Others run beside it, perhaps with the same key: changes that commute.
    Merges,
    /// A tick or a hook beside records: nothing.
    Nothing,
}

impl StoreAccess<'_> {
    /// May `key` of the store `store` be read, and what it holds be replaced?
    ///
    /// # Errors
    ///
    /// *Fatal*, with the rule and the way out: trying again can't help.
    pub(crate) fn check(&self, store: &str, key: &[u8]) -> Result<(), HandlerError> {
        let why = match self {
            Self::Any => return Ok(()),
            Self::OwnKey(Some(own)) if **own == *key => return Ok(()),
            Self::OwnKey(own) => {
                let own = own.as_ref().map_or_else(
                    || "has no key".to_owned(),
                    |own| format!("has the key {}", own.escape_ascii()),
                );
                format!(
                    "the key {} of the store {store} belongs to other records: this one {own}, and under Ordering::Key a \
                     record may use only its own ordering key; use merge(…), or Ordering::Partition",
                    key.escape_ascii()
                )
            }
            Self::Merges => format!(
                "the store {store} can't be read or replaced under Ordering::Unordered, where others change it at the \
                 same time; use add(…) or merge(…), or another ordering"
            ),
            Self::Nothing => format!(
                "the store {store} can't be used in a tick or hook while records of other slots run; only under \
                 Ordering::Partition"
            ),
        };
        Err(HandlerError::fatal(why))
    }

    /// May what others change by merges be looked at? Where records with one key are in order.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(crate) fn check_look(&self, store: &str, key: &[u8]) -> Result<(), HandlerError> {
        match self {
            Self::Any | Self::OwnKey(_) => Ok(()),
            Self::Merges | Self::Nothing => self.check(store, key),
        }
    }

    /// Does the key belong to other records than the one at hand?
    pub(crate) fn is_anothers(&self, key: &[u8]) -> bool {
        matches!(self, Self::OwnKey(own) if own.as_deref() != Some(key))
    }

    /// May a change that commutes be made?
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub(crate) fn check_merge(&self, store: &str, key: &[u8]) -> Result<(), HandlerError> {
        match self {
            Self::Nothing => self.check(store, key),
            Self::Any | Self::OwnKey(_) | Self::Merges => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inv_17_a_record_beside_others_uses_its_own_key_or_changes_that_commute() {
        let own = StoreAccess::OwnKey(Some(Cow::Borrowed(b"alice")));
        assert!(own.check("totals", b"alice").is_ok());
        let refused = own.check("totals", b"bob").expect_err("another's key");
        assert!(refused.is_fatal());
        let text = refused.to_string();
        assert!(
            text.contains("bob") && text.contains("alice") && text.contains("totals"),
            "{text}"
        );
        assert!(StoreAccess::OwnKey(None).check("totals", b"").is_err());
        assert!(StoreAccess::Merges.check("totals", b"alice").is_err());
        assert!(StoreAccess::Nothing.check_merge("totals", b"alice").is_err());
        for access in [own, StoreAccess::Merges, StoreAccess::Any] {
            assert!(access.check_merge("totals", b"bob").is_ok());
        }
        assert!(StoreAccess::Any.check("totals", b"bob").is_ok());
    }
}
