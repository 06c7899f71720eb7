//! Who starts workers again that have died? Whoever runs them in production does, a moment later.

use std::time::Duration;

use crate::ClusterError;
use crate::rig::{Deaths, Fleet, WorkerProcess};
use crate::waiting::{Deadline, patiently, wait_for};

/// Between a death and the next start under its name.
const RESTART: Duration = Duration::from_secs(1);

/// All are started again within so long.
const STARTED: Duration = Duration::from_secs(60);

/// Keeps as many workers as its fleet has, and counts those that died.
#[derive(Debug)]
pub struct Supervisor {
    fleet: Fleet,
    /// Names, and when each is started again.
    due: Vec<(Deadline, String)>,
    deaths: Deaths,
    /// It gives up when a record has killed more.
    at_most: u32,
}

impl Supervisor {
    /// Of these workers, until a record has killed more than `at_most`.
    #[must_use]
    pub fn of(fleet: Fleet, at_most: u32) -> Self {
        Self { fleet, due: Vec::new(), deaths: Deaths::default(), at_most }
    }

    /// Who has died so far.
    #[must_use]
    pub fn deaths(&self) -> &Deaths {
        &self.deaths
    }

    /// Starts again who dies until `ready`; false where a record has killed too many before.
    ///
    /// # Errors
    ///
    /// If a worker ends in another way than by a signal, can't be started, or [`ClusterError::Late`]
    /// with what `ready` said last.
    pub fn until(
        &mut self,
        what: &str,
        within: Duration,
        mut ready: impl FnMut(&Fleet) -> Result<(), String>,
    ) -> Result<bool, ClusterError> {
        patiently(what, within, || {
            if let Err(error) = self.look() {
                return Ok(Err(error));
            }
            if self.deaths.most() > self.at_most {
                return Ok(Ok(false));
            }
            ready(&self.fleet).map(|()| Ok(true)).map_err(|last| format!("{last}\n{}", self.deaths))
        })?
    }

    /// Waits until nobody is to be started any more and all are in their group; those workers, and
    /// who has died.
    ///
    /// # Errors
    ///
    /// If one can't be started, or is not in its group within a minute.
    pub fn rest(mut self) -> Result<(Fleet, Deaths), ClusterError> {
        wait_for("the last ones to be started again", STARTED, || match self.look() {
            Ok(()) => self.due.is_empty().then_some(Ok(())),
            Err(error) => Some(Err(error)),
        })??;
        self.fleet.workers().iter().try_for_each(WorkerProcess::wait_until_joined)?;
        Ok((self.fleet, self.deaths))
    }

    fn look(&mut self) -> Result<(), ClusterError> {
        for ended in self.fleet.take_dead()? {
            self.deaths.count_one(&ended);
            self.due.push((Deadline::after(RESTART), ended.name));
        }
        for (_, name) in self.due.extract_if(.., |(due, _)| due.has_passed()) {
            self.fleet.launch_as(&name, &[])?;
        }
        Ok(())
    }
}
