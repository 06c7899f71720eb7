//! What does an attempt want to have done? Nothing, mostly: that takes no memory and no time to hand on.

use std::collections::BTreeMap;

use crate::error::HandlerError;
use crate::ports::OutRecord;
use crate::state::{Merge, Stores, Writes};

/// What one attempt wants to have done.
#[derive(Debug, Default)]
pub(crate) struct Effects(Option<Box<Wanted>>);

#[derive(Debug, Default)]
struct Wanted {
    outputs: Vec<OutRecord>,
    /// By the place of their store.
    writes: BTreeMap<usize, Writes>,
    /// Changes to what is there when the record is done.
    merges: Vec<Merge>,
}

impl Effects {
    /// One output, and nothing else.
    pub(crate) fn of_output(output: OutRecord) -> Self {
        let mut effects = Self::default();
        effects.send(output);
        effects
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|wanted| {
            wanted.outputs.is_empty() && wanted.writes.is_empty() && wanted.merges.is_empty()
        })
    }

    pub(crate) fn outputs(&self) -> &[OutRecord] {
        self.0.as_ref().map_or(&[], |wanted| &wanted.outputs)
    }

    pub(crate) fn writes(&self) -> impl Iterator<Item = &Writes> {
        self.0.iter().flat_map(|wanted| wanted.writes.values())
    }

    /// What it writes under that key of that store; `None` within is a removal.
    pub(crate) fn written(&self, store: usize, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.0.as_ref()?.writes.get(&store)?.get(key)
    }

    pub(crate) fn send(&mut self, output: OutRecord) {
        self.wanted().outputs.push(output);
    }

    pub(crate) fn write(&mut self, store: usize, key: Vec<u8>, value: Option<Vec<u8>>) {
        self.wanted().writes.entry(store).or_default().insert(key, value);
    }

    pub(crate) fn merge(&mut self, merge: Merge) {
        self.wanted().merges.push(merge);
    }

    /// Leaves none behind.
    pub(crate) fn take_outputs(&mut self) -> Vec<OutRecord> {
        self.0.as_mut().map(|wanted| std::mem::take(&mut wanted.outputs)).unwrap_or_default()
    }

    /// By the place of their store; leaves none behind.
    pub(crate) fn take_writes(&mut self) -> BTreeMap<usize, Writes> {
        self.0.as_mut().map(|wanted| std::mem::take(&mut wanted.writes)).unwrap_or_default()
    }

    /// What of this attempt the next one is to find: planted bugs.
    pub(crate) fn left_behind(&mut self, outputs: bool, writes: bool) -> Self {
        let mut left = Self::default();
        if outputs {
            left.wanted().outputs = self.take_outputs();
        }
        if writes {
            left.wanted().writes = self.take_writes();
        }
        left
    }

    /// Makes writes of the changes that commute, by what the stores hold now.
    ///
    /// # Errors
    ///
    /// If one of them can't be made: the record is not done.
    pub(crate) fn resolve(&mut self, stores: &Stores) -> Result<(), HandlerError> {
        let Some(wanted) = &mut self.0 else { return Ok(()) };
        for merge in std::mem::take(&mut wanted.merges) {
            merge.resolve(stores, &mut wanted.writes)?;
        }
        Ok(())
    }

    fn wanted(&mut self) -> &mut Wanted {
        self.0.get_or_insert_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nothing_takes_no_memory() {
        assert_eq!(size_of::<Effects>(), size_of::<usize>());
        assert!(Effects::default().0.is_none() && Effects::default().is_empty());
    }

    #[test]
    fn what_was_taken_is_gone() {
        let mut effects = Effects::default();
        effects.write(1, b"alice".to_vec(), Some(b"3".to_vec()));
        effects.write(1, b"bob".to_vec(), None);
        assert_eq!(effects.written(1, b"alice"), Some(&Some(b"3".to_vec())));
        assert_eq!(effects.written(1, b"bob"), Some(&None));
        assert_eq!((effects.written(0, b"bob"), effects.writes().count()), (None, 1));
        assert!(!effects.is_empty() && effects.outputs().is_empty());
        assert_eq!(effects.take_writes().len(), 1);
        assert!(effects.is_empty() && effects.take_writes().is_empty());
    }
}
