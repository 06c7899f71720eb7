//! What if a client can't go on? It is ended, and after a while another takes its place.
//!
//! ```text
//! Whole ──► Ending (the member's old client leaves the group) ──► Due ──► Whole
//!   └───────────────── fetcher, producer ───────────────────────────┘
//! ```
//!
//! Without its member nothing is ours: tasks end as at a loss, and what was not committed runs
//! again wherever the group gives it. Without its fetcher nothing arrives, and what is here goes
//! on; a new one starts at the engine's next expected offsets. Without its producer outboxes
//! settle, and send again in order (INV-12). In the place of a client that is missing stands one
//! that does nothing. `rebuilds.rs` says when it is enough; then the worker ends.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use pelton_engine::{Event, Time};

use super::{Ending, PollLoop};
use crate::error::WorkerError;
use crate::ports::{
    ClientKind, CommitEntry, Committed, CommittedOffsets, Done, Fetch, FetchEvent, Member,
    MemberEvent, PortError,
};
use crate::runtime::lookout::Doing;
use crate::runtime::rebuilds::{LIMIT, Rebuilds, WINDOW};
use crate::runtime::shared::TaskEvent;
use crate::topic_partition::TopicPartition;

/// An old member may take so long to leave before a new one joins all the same.
const RETIREMENT: Duration = Duration::from_secs(60);

/// A client that Kafka refuses what it needs is made again so soon, for ever.
const REFUSED: Duration = Duration::from_secs(5);

/// How far each client's rebuild has come.
#[derive(Default)]
pub(super) struct Repairs {
    rebuilds: Rebuilds,
    member: Repair,
    fetcher: Repair,
    producer: Repair,
    /// The producer's client that is broken.
    broken_producer: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Repair {
    #[default]
    Whole,
    /// The old client is ending; the new one is due at `not_before`, but `by` at the latest.
    Ending {
        not_before: Time,
        by: Time,
    },
    Due(Time),
}

impl Repair {
    fn at(self) -> Option<Time> {
        match self {
            Self::Whole => None,
            Self::Ending { by, .. } => Some(by),
            Self::Due(at) => Some(at),
        }
    }

    fn is_due(self, now: Time) -> bool {
        self.at().is_some_and(|at| now >= at)
    }
}

impl Repairs {
    /// When the next client is due; a worker that ends needs no new member.
    pub(super) fn wake(&self, ending: bool) -> Option<Time> {
        let member = self.member.at().filter(|_| !ending);
        [member, self.fetcher.at(), self.producer.at()].into_iter().flatten().min()
    }

    /// Records were done and committed: rebuilding, if there was any, has helped.
    pub(super) fn worked(&mut self) {
        self.rebuilds.worked();
    }
}

impl PollLoop {
    /// Is there a client in the group, or one on its way out of it?
    pub(super) fn has_member(&self) -> bool {
        self.repairs.member == Repair::Whole
    }

    pub(super) fn member_broke(&mut self, now: Time, reason: String) {
        if self.ending != Ending::No {
            // Nothing can be committed any more, and a new member would not get these partitions.
            return self.fail(now, WorkerError::Client { reason });
        }
        let Some(wait) = self.may_rebuild(now, ClientKind::Member, &reason) else {
            return;
        };
        // A sender that is just looking must not pass on the strength of the old membership.
        self.shared.gate.doubt();
        self.tell(now, Event::MemberGone);
        if let Some(sent) = self.commit.take() {
            self.observe_answers(&sent, &[]);
        }
        let old = std::mem::replace(&mut self.member, Box::new(NoMember));
        self.repairs.member = Repair::Ending { not_before: now + wait, by: now + RETIREMENT };
        let events = self.events.clone();
        old.retire(Box::new(move || events.send(TaskEvent::MemberRetired)));
        self.status.rebuilding(ClientKind::Member, Some(reason));
    }

    pub(super) fn member_retired(&mut self) {
        if let Repair::Ending { not_before, .. } = self.repairs.member {
            self.repairs.member = Repair::Due(not_before);
        }
    }

    pub(super) fn fetcher_broke(&mut self, now: Time, reason: String) {
        if self.repairs.fetcher != Repair::Whole {
            return;
        }
        let Some(wait) = self.may_rebuild(now, ClientKind::Fetcher, &reason) else {
            return;
        };
        self.end_fetcher();
        self.repairs.fetcher = Repair::Due(now + wait);
        self.status.rebuilding(ClientKind::Fetcher, Some(reason));
    }

    /// A partition stays silent whatever is done about it: another client may hear it.
    pub(super) fn renew_fetcher(&mut self, now: Time) {
        if self.repairs.fetcher == Repair::Whole {
            self.end_fetcher();
            self.repairs.fetcher = Repair::Due(now);
        }
    }

    /// Ending a client can take time that the loop does not have.
    fn end_fetcher(&mut self) {
        let old = std::mem::replace(&mut self.fetch, Box::new(NoFetch));
        let end = std::thread::Builder::new().name("pelton-retire".to_owned());
        if let Err(error) = end.spawn(move || old.close()) {
            tracing::error!(%error, "no thread to end the broken client on");
        }
    }

    pub(super) fn producer_broke(&mut self, now: Time, client: u64, reason: String) {
        if self.repairs.producer != Repair::Whole || client <= self.repairs.broken_producer {
            return; // every partition tells of it
        }
        let Some(wait) = self.may_rebuild(now, ClientKind::Producer, &reason) else {
            return;
        };
        self.repairs.broken_producer = client;
        self.repairs.producer = Repair::Due(now + wait);
        self.status.rebuilding(ClientKind::Producer, Some(reason));
    }

    /// How long to wait before a client is rebuilt; if it is enough, the worker ends.
    fn may_rebuild(&mut self, now: Time, client: ClientKind, reason: &str) -> Option<Duration> {
        if self.shared.refusals.stand() {
            // The next client will be refused the same until somebody mends it; the log says what.
            tracing::debug!(%client, reason, "a Kafka client is refused what it needs");
            return Some(REFUSED);
        }
        let wait = self.repairs.rebuilds.broke(now);
        match wait {
            Some(wait) => {
                tracing::error!(%client, reason, wait_ms = wait.as_millis(), "a Kafka client can't go on; another takes its place");
            }
            None => {
                let minutes = WINDOW.as_secs() / 60;
                let reason = format!(
                    "{reason}; clients were rebuilt {LIMIT} times within {minutes} minutes and no \
                     record was done in between"
                );
                let error = WorkerError::Client { reason };
                match client {
                    ClientKind::Member => self.fail(now, error),
                    ClientKind::Fetcher | ClientKind::Producer => self.fail_in_order(now, error),
                }
            }
        }
        wait
    }

    /// Makes the clients that are due.
    pub(super) fn rebuild_due(&mut self, now: Time) {
        if self.repairs.member.is_due(now) && self.ending == Ending::No {
            self.look.doing(Doing::ReplacingAClient);
            match self.clients.member(self.events.waker()) {
                Ok(member) => {
                    self.shared.committed.replace(member.committed());
                    self.member = member;
                    self.repairs.member = Repair::Whole;
                    self.rebuilt(ClientKind::Member);
                }
                Err(error) => {
                    let wait = self.may_rebuild(now, ClientKind::Member, &error.reason);
                    self.repairs.member = Repair::Due(now + wait.unwrap_or_default());
                }
            }
        }
        if self.repairs.fetcher.is_due(now) {
            self.look.doing(Doing::ReplacingAClient);
            match self.clients.fetch(self.events.waker()) {
                Ok(fetch) => {
                    self.fetch = fetch;
                    self.repairs.fetcher = Repair::Whole;
                    self.rebuilt(ClientKind::Fetcher);
                    self.tell(now, Event::FetcherReplaced);
                }
                Err(error) => {
                    let wait = self.may_rebuild(now, ClientKind::Fetcher, &error.reason);
                    self.repairs.fetcher = Repair::Due(now + wait.unwrap_or_default());
                }
            }
        }
        if self.repairs.producer.is_due(now) {
            self.look.doing(Doing::ReplacingAClient);
            match self.shared.producer.renew(self.repairs.broken_producer) {
                Ok(()) => {
                    self.repairs.producer = Repair::Whole;
                    self.rebuilt(ClientKind::Producer);
                }
                Err(error) => {
                    let wait = self.may_rebuild(now, ClientKind::Producer, &error.reason);
                    self.repairs.producer = Repair::Due(now + wait.unwrap_or_default());
                }
            }
        }
    }

    fn rebuilt(&self, client: ClientKind) {
        tracing::warn!(%client, "a new Kafka client has taken the place of the broken one");
        self.metrics.rebuilt(client);
        self.status.rebuilding(client, None);
    }

    /// Lets a client fail as if it were broken: for tests.
    pub(crate) fn break_for_test(&self, client: ClientKind) {
        match client {
            ClientKind::Member => self.member.break_for_test(),
            ClientKind::Fetcher => self.fetch.break_for_test(),
            ClientKind::Producer => self.shared.producer.break_for_test(),
        }
    }
}

/// Stands in the member's place while there is none.
struct NoMember;

impl Member for NoMember {
    fn poll(&mut self) -> Option<MemberEvent> {
        None
    }

    fn acknowledge(&mut self) -> Result<(), PortError> {
        Ok(())
    }

    fn commit(&mut self, _id: u64, _entries: &[CommitEntry]) -> Result<(), PortError> {
        Err(PortError::passing("the group's client is being rebuilt"))
    }

    fn committed(&self) -> Arc<dyn CommittedOffsets> {
        Arc::new(Self)
    }

    fn has_joined(&self) -> bool {
        false
    }

    fn leave(&mut self) {}

    fn rejoin(&mut self) {}

    fn has_left(&self) -> bool {
        true
    }

    fn close(self: Box<Self>, _graceful: bool) {}

    fn retire(self: Box<Self>, done: Done) {
        done();
    }
}

#[async_trait]
impl CommittedOffsets for NoMember {
    async fn read(&self, _partitions: Vec<TopicPartition>) -> Result<Vec<Committed>, PortError> {
        Err(PortError::passing("the group's client is being rebuilt"))
    }
}

/// Stands in the fetcher's place while there is none; the next one is told what to fetch.
struct NoFetch;

impl Fetch for NoFetch {
    fn start(&mut self, _partition: &TopicPartition, _offset: i64) -> Result<(), PortError> {
        Ok(())
    }

    fn stop(&mut self, _partition: &TopicPartition) -> Result<(), PortError> {
        Ok(())
    }

    fn poll(&mut self, _max_records: usize, _out: &mut Vec<FetchEvent>) {}

    fn end_offset(&self, _partition: &TopicPartition) -> Option<i64> {
        None
    }

    fn close(self: Box<Self>) {}
}
