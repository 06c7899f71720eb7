//! How many processes has each record killed? Told by their last words.

use std::collections::BTreeMap;
use std::fmt;

use crate::rig::{Ended, LAST_WORDS, Poison};

/// Processes that have died, by the record of which they died.
///
/// ```
/// use pelton_tests::{Deaths, Poison};
///
/// let mut deaths = Deaths::default();
/// deaths.count("worker-1", "… the record ends its process poison=abort record=3-117\n");
/// deaths.count("worker-2", "… the record ends its process poison=abort record=3-117\n");
/// deaths.count("worker-3", "… all was well\n");
/// assert_eq!(deaths.of[&(Poison::Abort, "3-117".to_owned())], 2);
/// assert_eq!((deaths.most(), deaths.unexplained.len()), (2, 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deaths {
    /// So many of each record, a `<partition>-<offset>`.
    pub of: BTreeMap<(Poison, String), u32>,
    /// All of them.
    pub processes: u32,
    /// The names of those that named no record.
    pub unexplained: Vec<String>,
}

impl Deaths {
    /// Counts the death of the worker called `name`, of which `log` is all that it has logged. Where
    /// it names several records it is counted for each: at most one of them was it.
    pub fn count(&mut self, name: &str, log: &str) {
        self.processes += 1;
        let named = log.split(LAST_WORDS).skip(1).filter_map(|rest| {
            let line = rest.lines().next()?;
            let field = |name: &str| {
                let words = line.split_ascii_whitespace();
                words.filter_map(|word| word.strip_prefix(name)).find_map(|v| v.strip_prefix('='))
            };
            Some((Poison::from_name(field("poison")?.as_bytes())?, field("record")?.to_owned()))
        });
        let mut is_explained = false;
        for record in named {
            *self.of.entry(record).or_default() += 1;
            is_explained = true;
        }
        if !is_explained {
            self.unexplained.push(name.to_owned());
        }
    }

    pub(crate) fn count_one(&mut self, ended: &Ended) {
        self.count(&ended.name, &ended.log);
    }

    /// So many of one record.
    #[must_use]
    pub fn most(&self) -> u32 {
        self.of.values().copied().max().unwrap_or(0)
    }

    /// Records of this kind that have killed.
    #[must_use]
    pub fn records(&self, poison: Poison) -> u64 {
        let of_it = self.of.keys().filter(|(kind, _)| *kind == poison);
        u64::try_from(of_it.count()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for Deaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { of, processes, unexplained } = self;
        write!(f, "deaths: {processes} of {} records, at most {} of one", of.len(), self.most())?;
        write!(f, ", {} of none", unexplained.len())?;
        for ((poison, place), times) in of {
            write!(f, "\n  {times} of record {place} ({poison})")?;
        }
        unexplained.iter().take(5).try_for_each(|name| write!(f, "\n  {name} named no record"))
    }
}
