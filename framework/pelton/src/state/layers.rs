//! What is in a store now, and what of it is committed?
//!
//! Writes of done records are *pending* until a commit that covers them is known; then they are
//! merged into the *committed* layer. Handlers read through all layers; snapshots, standbys and
//! queries will read only the committed one. Upholds INV-11: a failed attempt leaves nothing
//! behind, because its writes never come here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Last value per key; `None` deletes the key.
pub(crate) type Writes = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// One partition's part of one store.
#[derive(Debug, Default)]
pub(crate) struct StoreLayers {
    /// How records that run at once use it, if any have.
    used: Option<Use>,
    committed: HashMap<Vec<u8>, Vec<u8>>,
    /// Sealed, oldest first, with the number of the seal; their commit is not known yet.
    sealed: VecDeque<(u64, Writes)>,
    /// Of records done since the last seal.
    pending: Writes,
    /// Of records handled since the last flush: not done yet, but later records see them.
    handled: Writes,
    /// Bytes of the layers above the committed one.
    bytes: LayerBytes,
}

/// How records with keys of their own, which run at once, use a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// Each replaces what its own key holds.
    Own,
    /// They change what others' keys hold, by merges.
    Shared,
}

/// Bytes of the layers that are not committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LayerBytes {
    pub(crate) sealed: usize,
    /// Pending and handled.
    pub(crate) unsealed: usize,
}

/// What a map takes to find an entry, about.
const ENTRY: usize = 96;

/// What a write takes in memory.
pub(crate) fn write_bytes(key: &[u8], value: Option<&Vec<u8>>) -> usize {
    key.len() + value.map_or(0, Vec::len) + ENTRY
}

/// What writes take in memory.
pub(crate) fn writes_bytes(writes: &Writes) -> usize {
    writes.iter().map(|(key, value)| write_bytes(key, value.as_ref())).sum()
}

/// Lays `writes` over `layer`; returns the bytes that came and those that went.
fn lay(layer: &mut Writes, writes: Writes) -> (usize, usize) {
    let (mut came, mut went) = (0, 0);
    for (key, value) in writes {
        let length = key.len();
        came += write_bytes(&key, value.as_ref());
        if let Some(old) = layer.insert(key, value) {
            went += length + old.as_ref().map_or(0, Vec::len) + ENTRY;
        }
    }
    (came, went)
}

impl StoreLayers {
    /// The value a handler sees.
    pub(crate) fn read(&self, key: &[u8]) -> Option<&[u8]> {
        let sealed = || self.sealed.iter().rev().find_map(|(_, writes)| writes.get(key));
        match self.handled.get(key).or_else(|| self.pending.get(key)).or_else(sealed) {
            Some(written) => written.as_deref(),
            None => self.committed.get(key).map(Vec::as_slice),
        }
    }

    /// Records that run at once use it so from now on; false if they have used it otherwise.
    pub(crate) fn use_as(&mut self, wanted: Use) -> bool {
        *self.used.get_or_insert(wanted) == wanted
    }

    /// Takes in the writes of a done record.
    pub(crate) fn apply(&mut self, writes: Writes) {
        let (came, went) = lay(&mut self.pending, writes);
        self.bytes.unsealed += came;
        self.bytes.unsealed = self.bytes.unsealed.saturating_sub(went);
    }

    /// Takes in the writes of a record that the next flush makes done.
    pub(crate) fn apply_handled(&mut self, writes: Writes) {
        let (came, went) = lay(&mut self.handled, writes);
        self.bytes.unsealed += came;
        self.bytes.unsealed = self.bytes.unsealed.saturating_sub(went);
    }

    /// The flush succeeded: handled records are done.
    pub(crate) fn flushed(&mut self) {
        let handled = std::mem::take(&mut self.handled);
        let (_moved, went) = lay(&mut self.pending, handled);
        self.bytes.unsealed = self.bytes.unsealed.saturating_sub(went);
    }

    /// Closes the pending writes under the number `seal` and returns what the changelog must
    /// hold before the commit may be sent.
    pub(crate) fn seal(&mut self, seal: u64) -> Writes {
        let writes = std::mem::take(&mut self.pending);
        if !writes.is_empty() {
            let bytes = writes_bytes(&writes);
            self.bytes.unsealed = self.bytes.unsealed.saturating_sub(bytes);
            self.bytes.sealed += bytes;
            self.sealed.push_back((seal, writes.clone()));
        }
        writes
    }

    /// The commit of seal number `seal` is known: what it closed is committed.
    pub(crate) fn committed(&mut self, seal: u64) {
        while self.sealed.front().is_some_and(|(number, _)| *number <= seal) {
            for (key, value) in self.sealed.pop_front().into_iter().flat_map(|(_, writes)| writes) {
                let bytes = write_bytes(&key, value.as_ref());
                self.bytes.sealed = self.bytes.sealed.saturating_sub(bytes);
                self.restored(key, value);
            }
        }
    }

    /// Planted bug: the writes of the oldest seal whose commit is not known.
    pub(crate) fn oldest_sealed(&self) -> Writes {
        self.sealed.front().map(|(_, writes)| writes.clone()).unwrap_or_default()
    }

    /// What the layers above the committed one take.
    pub(crate) fn bytes(&self) -> LayerBytes {
        self.bytes
    }

    /// A changelog record, while restoring.
    pub(crate) fn restored(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => drop(self.committed.insert(key, value)),
            None => drop(self.committed.remove(&key)),
        }
    }
}

/// All stores of one partition. A record's handler and the partition's task both reach it, never
/// at the same time: the lock is never waited for, and never held across an await.
#[derive(Debug, Default)]
pub(crate) struct Stores(Mutex<Vec<StoreLayers>>);

impl Stores {
    pub(crate) fn new(stores: Vec<StoreLayers>) -> Self {
        Self(Mutex::new(stores))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<StoreLayers>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, value: Option<&str>) -> Writes {
        Writes::from([(key.as_bytes().to_vec(), value.map(|v| v.as_bytes().to_vec()))])
    }

    #[test]
    fn the_newest_layer_wins_and_a_deletion_hides_what_is_below() {
        let mut layers = StoreLayers::default();
        layers.restored(b"a".to_vec(), Some(b"1".to_vec()));
        layers.apply(write("a", Some("2")));
        assert_eq!(layers.read(b"a"), Some(&b"2"[..]));
        layers.seal(1);
        layers.apply(write("a", None));
        assert_eq!(layers.read(b"a"), None);
    }

    #[test]
    fn a_seal_holds_each_key_once_with_its_last_value() {
        let mut layers = StoreLayers::default();
        for n in 1..=9 {
            layers.apply(write("a", Some(&n.to_string())));
        }
        assert_eq!(layers.seal(1), write("a", Some("9")));
        assert_eq!(layers.seal(2), Writes::new());
    }

    #[test]
    fn only_known_commits_reach_the_committed_layer() {
        let mut layers = StoreLayers::default();
        layers.apply(write("a", Some("1")));
        layers.seal(1);
        layers.apply(write("a", Some("2")));
        layers.seal(2);
        layers.committed(1);
        assert_eq!(layers.committed.get(&b"a"[..]), Some(&b"1".to_vec()));
        assert_eq!(layers.read(b"a"), Some(&b"2"[..]));
    }

    #[test]
    fn inv_4_what_is_not_committed_is_counted_until_it_is() {
        let mut layers = StoreLayers::default();
        let one = write_bytes(b"a", Some(&b"1234".to_vec()));
        let counted = |layers: &StoreLayers| (layers.bytes().unsealed, layers.bytes().sealed);
        layers.apply_handled(write("a", Some("1234")));
        layers.apply(write("a", Some("5678")));
        assert_eq!(counted(&layers), (2 * one, 0));
        layers.flushed();
        assert_eq!(counted(&layers), (one, 0), "the same key twice");
        layers.apply(write("a", None));
        assert_eq!(counted(&layers), (one - 4, 0));
        layers.seal(1);
        layers.apply(write("b", Some("5678")));
        assert_eq!(counted(&layers), (one, one - 4));
        layers.committed(1);
        assert_eq!(counted(&layers), (one, 0));
        layers.seal(2);
        layers.committed(2);
        assert_eq!(counted(&layers), (0, 0));
    }
}
