//! With which user and password do the clients log in? Those of the settings, until they change.
//!
//! A password is changed while the worker runs: first Kafka takes both, then the clients are told
//! the new one, then the old one is taken away. librdkafka uses the new one for the next
//! connection that it makes and leaves those it has alone. So every client must be told: those
//! that live, through what they leave here, and those that are made later, through their settings.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::ports::PortError;

/// What every client of a worker logs in with.
#[derive(Default)]
pub(crate) struct Credentials(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// User and password, once they were changed.
    changed: Option<(String, String)>,
    /// How each living client is told.
    clients: BTreeMap<u64, Tell>,
    attached: u64,
}

type Tell = Box<dyn Fn(&str, &str) -> Result<(), PortError> + Send>;

/// A client's place among those that are told. It must be dropped before the client is closed:
/// what tells the client may hold it.
pub(crate) struct Attached {
    all: Arc<Credentials>,
    number: u64,
}

impl Credentials {
    /// User and password, if they are not those of the settings any more.
    pub(crate) fn changed(&self) -> Option<(String, String)> {
        self.inner().changed.clone()
    }

    /// `tell` is called whenever user and password change; at once if they changed before.
    pub(crate) fn attach(
        self: &Arc<Self>,
        tell: impl Fn(&str, &str) -> Result<(), PortError> + Send + 'static,
    ) -> Attached {
        let mut inner = self.inner();
        if let Some((user, password)) = &inner.changed {
            warn_if_refused(tell(user, password));
        }
        inner.attached += 1;
        let number = inner.attached;
        inner.clients.insert(number, Box::new(tell));
        Attached { all: Arc::clone(self), number }
    }

    /// Tells every living client, and keeps them for those to come.
    pub(crate) fn change(&self, user: &str, password: &str) {
        let mut inner = self.inner();
        inner.changed = Some((user.to_owned(), password.to_owned()));
        for tell in inner.clients.values() {
            warn_if_refused(tell(user, password));
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn warn_if_refused(told: Result<(), PortError>) {
    if let Err(error) = told {
        tracing::warn!(%error, "a client did not take the new credentials; restart the worker to use them");
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        let tell = self.all.inner().clients.remove(&self.number);
        drop(tell); // perhaps with the client: not under the lock
    }
}

impl fmt::Debug for Credentials {
    /// Without user and password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("clients", &self.inner().clients.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn living_clients_hear_of_a_change_and_later_ones_find_it() {
        let credentials = Arc::new(Credentials::default());
        let (told, heard) = mpsc::channel();
        let client = |name: &'static str| {
            let told = told.clone();
            credentials.attach(move |user, password| {
                told.send(format!("{name} {user} {password}")).map_err(PortError::lasting)
            })
        };
        let member = client("member");
        let fetcher = client("fetcher");
        assert_eq!(credentials.changed(), None);
        drop(fetcher);
        credentials.change("alice", "new");
        let producer = client("producer");
        let heard: Vec<String> = heard.try_iter().collect();
        assert_eq!(heard, ["member alice new", "producer alice new"]);
        assert_eq!(credentials.changed(), Some(("alice".to_owned(), "new".to_owned())));
        drop((member, producer));
        assert_eq!(format!("{credentials:?}"), "Credentials { clients: 0 }");
    }
}
