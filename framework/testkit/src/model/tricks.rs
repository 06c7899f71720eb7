//! Which messages get lost on purpose? The next ones of a kind.

use super::wire::{GroupRequest, Request};

/// What a client asks of a broker, by the name of Kafka's request.
///
/// ```
/// use pelton_testkit::sim::{Fault, RequestKind};
/// let fault = Fault::Lose { what: RequestKind::OffsetCommit, answer: true, times: 2 };
/// assert_eq!(fault.to_string(), "lose 2 answers to OffsetCommit"); // carried out, and not known
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names of Kafka's requests")]
pub enum RequestKind {
    OffsetCommit,
    OffsetFetch,
    Produce,
    Fetch,
    /// And `SyncGroup`.
    JoinGroup,
    /// Of a classic member, and `ConsumerGroupHeartbeat` of KIP-848.
    Heartbeat,
}

impl RequestKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::Produce,
        Self::Fetch,
        Self::JoinGroup,
        Self::Heartbeat,
    ];

    fn of(request: &Request) -> Option<Self> {
        use GroupRequest as G;
        match request {
            Request::Produce { .. } => Some(Self::Produce),
            Request::Fetch { .. } => Some(Self::Fetch),
            Request::Group { request, .. } => match request {
                G::Commit { .. } => Some(Self::OffsetCommit),
                G::Committed { .. } => Some(Self::OffsetFetch),
                G::Join { .. } | G::Sync { .. } => Some(Self::JoinGroup),
                G::Heartbeat { .. } | G::ConsumerHeartbeat { .. } => Some(Self::Heartbeat),
                G::Leave { .. } | G::TransactionalCommit { .. } => None,
            },
            Request::Offsets { .. }
            | Request::InitProducer { .. }
            | Request::Transaction { .. } => None,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trick {
    /// The request never arrives: the connection breaks before.
    LoseRequest,
    /// It is carried out, and nobody hears of it: the connection breaks after.
    LoseAnswer,
    /// Of a commit: the broker gives up waiting for replicas and stores nothing
    /// (`REQUEST_TIMED_OUT`, which leaves open what it has stored).
    TimeOut,
}

/// The tricks that wait for a message.
#[derive(Debug, Default)]
pub(crate) struct Tricks {
    waiting: Vec<(RequestKind, Trick)>,
    /// Lost since it was asked last.
    met: u32,
}

impl Tricks {
    pub(crate) fn add(&mut self, kind: RequestKind, trick: Trick) {
        self.waiting.push((kind, trick));
    }

    /// A request is sent: the trick that it meets, if one waits for its kind.
    pub(crate) fn meet(&mut self, request: &Request) -> Option<Trick> {
        let kind = RequestKind::of(request)?;
        let at = self.waiting.iter().position(|(of, _)| *of == kind)?;
        let (_, trick) = self.waiting.remove(at);
        self.met += u32::from(trick != Trick::TimeOut);
        Some(trick)
    }

    pub(crate) fn take_met(&mut self) -> u32 {
        std::mem::take(&mut self.met)
    }

    /// No more of them.
    pub(crate) fn clear(&mut self) {
        self.waiting.clear();
    }
}
