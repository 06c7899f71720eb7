//! What does a scenario stand on? A place, names of its own, and the facts that it notes.

use std::cell::RefCell;
use std::time::Duration;

use super::party::Party;
use super::place::{Failure, Place, Played, Process, Protocol, Role};
use super::reader::Reader;
use super::writer::Writer;

/// What happens at all happens within so long, in every place.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// So often is looked.
pub(super) const LOOK: Duration = Duration::from_millis(20);

/// Where one scenario is played, once.
pub struct Stage<'a> {
    pub(super) place: &'a dyn Place,
    facts: RefCell<Vec<String>>,
}

impl<'a> Stage<'a> {
    pub(super) fn new(place: &'a dyn Place) -> Self {
        Self { place, facts: RefCell::default() }
    }

    /// Notes what has been seen.
    pub fn fact(&self, fact: impl Into<String>) {
        self.facts.borrow_mut().push(fact.into());
    }

    pub(super) fn facts(&self) -> Vec<String> {
        self.facts.borrow().clone()
    }

    /// A new topic of so many partitions.
    pub(super) async fn topic(&self, partitions: i32) -> Played<String> {
        self.topic_with(partitions, &[]).await
    }

    pub(super) async fn topic_with(
        &self,
        partitions: i32,
        settings: &[(&str, &str)],
    ) -> Played<String> {
        let topic = self.place.unique("topic");
        self.place.create_topic(&topic, partitions, settings).await?;
        Ok(topic)
    }

    /// A process that is in no group.
    pub(super) fn process(&self) -> Played<Box<dyn Process>> {
        let role = Role {
            name: "outside".to_owned(),
            group: self.place.unique("nobody"),
            topics: vec!["none".to_owned()],
            protocol: Protocol::Consumer,
            instance: None,
        };
        self.place.process(&role)
    }

    /// Who writes.
    pub(super) fn writer(&self) -> Played<Writer> {
        Ok(Writer::new(self.process()?.producer()?))
    }

    /// Who reads, as restores do.
    pub(super) fn reader(&self) -> Played<Reader> {
        Ok(Reader::new(self.process()?.fetch()?))
    }

    /// A new group.
    pub(super) fn party(&self, protocol: Protocol, topics: &[&str]) -> Party<'_> {
        let group = self.place.unique("group");
        Party::new(self.place, group, protocol, topics)
    }

    /// Has `fill` write the values 0, 1, … into partition 0.
    pub(super) async fn fill(&self, topic: &str, count: usize) -> Played {
        let writer = self.writer()?;
        for number in 0..count {
            writer.send(topic, 0, None, &number.to_string())?;
        }
        writer.all_stored().await
    }
}

impl std::fmt::Debug for Stage<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stage").field("facts", &self.facts).finish_non_exhaustive()
    }
}

/// Looks until there is something.
pub(super) async fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> Played<T> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        if tokio::time::Instant::now() >= end {
            return Err(Failure::Broke(format!("{what} did not happen within {PATIENCE:?}")));
        }
        tokio::time::sleep(LOOK).await;
    }
}
