//! What does a handler hold of a store? A small handle that says which one, and of what types.

use std::fmt;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::HandlerError;
use crate::json_problem;

/// A declared store: key type `K`, value type `V`. `Copy`, so that handlers can hold it.
///
/// Values are stored as JSON. Reading and writing go through the
/// [`Context`](crate::Context) of the record at hand.
///
/// ```
/// use pelton::{Store, Worker};
///
/// let mut app = Worker::builder("login-counter");
/// let totals: Store<str, u64> = app.store("totals");
/// let copy = totals; // the handle is Copy
/// assert_eq!(format!("{copy:?}"), format!("{totals:?}"));
/// ```
pub struct Store<K: ?Sized, V> {
    pub(crate) index: usize,
    types: PhantomData<fn(&K) -> V>,
}

impl<K: ?Sized, V> Store<K, V> {
    pub(crate) fn new(index: usize) -> Self {
        Self { index, types: PhantomData }
    }
}

impl<K: ?Sized, V> Clone for Store<K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized, V> Copy for Store<K, V> {}

impl<K: ?Sized, V> fmt::Debug for Store<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.index).finish()
    }
}

/// A type whose values can be a store's keys: it has one byte form.
///
/// ```
/// use pelton::StoreKey;
/// assert_eq!("alice".store_key().as_ref(), b"alice");
/// assert_eq!(258u64.store_key().as_ref(), &[0, 0, 0, 0, 0, 0, 1, 2]);
/// ```
pub trait StoreKey {
    /// Its bytes; equal keys have equal bytes and different keys different ones.
    fn store_key(&self) -> std::borrow::Cow<'_, [u8]>;
}

impl StoreKey for str {
    fn store_key(&self) -> std::borrow::Cow<'_, [u8]> {
        self.as_bytes().into()
    }
}

impl StoreKey for String {
    fn store_key(&self) -> std::borrow::Cow<'_, [u8]> {
        self.as_bytes().into()
    }
}

impl StoreKey for [u8] {
    fn store_key(&self) -> std::borrow::Cow<'_, [u8]> {
        self.into()
    }
}

impl StoreKey for u64 {
    fn store_key(&self) -> std::borrow::Cow<'_, [u8]> {
        self.to_be_bytes().to_vec().into()
    }
}

pub(crate) fn encode<V: Serialize>(value: &V) -> Result<Vec<u8>, HandlerError> {
    serde_json::to_vec(value)
        .map_err(|error| HandlerError::fatal(format!("the value can't be stored as JSON: {error}")))
}

pub(crate) fn decode<V: DeserializeOwned>(store: &str, bytes: &[u8]) -> Result<V, HandlerError> {
    serde_json::from_slice(bytes).map_err(|error| {
        let error = json_problem::describe(&error);
        HandlerError::fatal(format!(
            "a value of the store {store} does not fit its type: {error}; was the type changed \
             without a new store name?"
        ))
    })
}
