//! How do slots that run at once change one key of a store? By changes that commute, laid on each
//! other when their records are done.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Stores, Writes, decode, encode};
use crate::error::HandlerError;

type Apply = dyn FnOnce(Option<&[u8]>) -> Result<Vec<u8>, HandlerError> + Send;

/// A change to what a key holds by then.
pub(crate) struct Merge {
    /// Which of the partition's stores.
    at: usize,
    key: Vec<u8>,
    apply: Box<Apply>,
}

impl fmt::Debug for Merge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Merge")
            .field("at", &self.at)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl Merge {
    pub(crate) fn new<V: Serialize + DeserializeOwned>(
        at: usize,
        name: &str,
        key: Vec<u8>,
        change: impl FnOnce(Option<V>) -> V + Send + 'static,
    ) -> Self {
        let name = name.to_owned();
        let apply = move |before: Option<&[u8]>| {
            let before = before.map(|bytes| decode(&name, bytes)).transpose()?;
            encode(&change(before))
        };
        Self { at, key, apply: Box::new(apply) }
    }

    /// Makes a write of it. A panic of the change is an error: its record is not done.
    ///
    /// # Errors
    ///
    /// If what the key holds, or what it should hold, has no JSON of the type.
    pub(crate) fn resolve(
        self,
        stores: &Stores,
        written: &mut std::collections::BTreeMap<usize, Writes>,
    ) -> Result<(), HandlerError> {
        let Self { at, key, apply } = self;
        let before = match written.get(&at).and_then(|writes| writes.get(&key)) {
            Some(value) => value.clone(),
            None => {
                let stores = stores.lock();
                stores.get(at).and_then(|layers| layers.read(&key)).map(<[u8]>::to_vec)
            }
        };
        let after = catch_unwind(AssertUnwindSafe(|| apply(before.as_deref())))
            .map_err(|_| HandlerError::retryable("a merge panicked"))??;
        written.entry(at).or_default().insert(key, Some(after));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::StoreLayers;

    #[test]
    fn merges_are_laid_on_what_is_there_then_and_on_each_other() {
        let mut layers = StoreLayers::default();
        layers.restored(b"a".to_vec(), Some(b"40".to_vec()));
        let stores = Stores::new(vec![layers]);
        let mut written = std::collections::BTreeMap::new();
        for _ in 0..2 {
            let one = |n: Option<u64>| n.unwrap_or(0) + 1;
            Merge::new(0, "totals", b"a".to_vec(), one).resolve(&stores, &mut written).expect("42");
        }
        assert_eq!(written[&0][&b"a"[..]], Some(b"42".to_vec()));
    }

    #[test]
    fn a_change_that_panics_or_does_not_fit_is_an_error_and_changes_nothing() {
        let mut layers = StoreLayers::default();
        layers.restored(b"a".to_vec(), Some(b"\"text\"".to_vec()));
        let stores = Stores::new(vec![layers]);
        let mut written = std::collections::BTreeMap::new();
        let panics = Merge::new::<u64>(0, "totals", b"b".to_vec(), |_| panic!("as planned"));
        assert!(panics.resolve(&stores, &mut written).is_err_and(|error| error.is_retryable()));
        let misfit = Merge::new::<u64>(0, "totals", b"a".to_vec(), |_| 1);
        assert!(misfit.resolve(&stores, &mut written).is_err_and(|error| error.is_fatal()));
        assert!(written.is_empty());
    }
}
