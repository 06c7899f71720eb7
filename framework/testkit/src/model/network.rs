//! How does a message get from a client to a broker and back? In order, after a while, or never.
//!
//! One connection per client and node, as TCP gives it: what is sent arrives in order or not at
//! all, and when the connection breaks nobody knows how far it came. A request whose answer is
//! lost was carried out all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use pelton_engine::Time;

use super::random::Random;
use super::wire::{CallId, ClientId, Node};

/// Which way a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the broker.
    There,
    /// From the broker to the client.
    Back,
}

/// What one link (all connections between a worker and a node) does to messages.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Weather {
    /// Until then messages of a way are held.
    held: [Option<Time>; 2],
    /// Until then each message takes so much longer, at most.
    slow: Option<(Time, Duration)>,
}

#[derive(Debug, Default)]
struct Connection {
    /// Messages of an older one are lost.
    number: u64,
    /// The last arrivals, in each way: nothing overtakes.
    arrivals: [Time; 2],
    /// Requests that were sent and not answered.
    open: BTreeSet<CallId>,
}

/// A message's journey, as told by [`Network::send`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Journey {
    /// `None`: never. The connection breaks when its time is over.
    pub(crate) arrives: Option<Time>,
    /// It is lost if the connection has another number by then.
    pub(crate) connection: u64,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Network {
    connections: BTreeMap<(ClientId, Node), Connection>,
    weather: BTreeMap<(usize, Node), Weather>,
}

/// What is held for so long never arrives: the connection breaks. A network that delivers what it
/// has held for longer than a session can let a former owner's output overwrite a newer one, and
/// nothing but exactly-once helps against that (`docs/guarantees.md`).
pub(crate) const LIFETIME: Duration = Duration::from_secs(2);

/// A message takes so long at least, and at most on a good day.
const FASTEST: Duration = Duration::from_micros(150);
const USUAL: Duration = Duration::from_micros(1_500);

impl Network {
    /// Sends a message at `now`. `worker` is the client's process.
    pub(crate) fn send(
        &mut self,
        now: Time,
        (worker, client): (usize, ClientId),
        node: Node,
        way: Way,
        random: &mut Random,
    ) -> Journey {
        let weather = self.weather.get(&(worker, node)).copied().unwrap_or_default();
        let mut arrives = now + random.duration(FASTEST, USUAL);
        if let Some((until, extra)) = weather.slow.filter(|(until, _)| *until > now) {
            let _ends_by_itself = until;
            arrives = arrives + random.duration(extra / 2, extra);
        }
        if let Some(until) = weather.held[way as usize] {
            arrives = arrives.max(until);
        }
        let connection = self.connections.entry((client, node)).or_default();
        let last = &mut connection.arrivals[way as usize];
        arrives = arrives.max(*last);
        if arrives.since(now) > LIFETIME {
            return Journey { arrives: None, connection: connection.number };
        }
        *last = arrives;
        Journey { arrives: Some(arrives), connection: connection.number }
    }

    /// A request is on its way until it is [answered](Self::answered).
    pub(crate) fn asked(&mut self, client: ClientId, node: Node, call: CallId) {
        self.connections.entry((client, node)).or_default().open.insert(call);
    }

    /// Was the call still waited for?
    pub(crate) fn answered(&mut self, client: ClientId, node: Node, call: CallId) -> bool {
        let connection = self.connections.get_mut(&(client, node));
        connection.is_some_and(|connection| connection.open.remove(&call))
    }

    /// Is this the connection of that number still?
    pub(crate) fn is_whole(&self, client: ClientId, node: Node, number: u64) -> bool {
        self.connections.get(&(client, node)).is_some_and(|c| c.number == number)
    }

    /// Breaks a connection: whatever is on its way is lost. Returns the calls that will never be
    /// answered.
    pub(crate) fn cut(&mut self, client: ClientId, node: Node) -> Vec<CallId> {
        let Some(connection) = self.connections.get_mut(&(client, node)) else {
            return Vec::new();
        };
        connection.number += 1;
        connection.arrivals = [Time::ZERO; 2];
        std::mem::take(&mut connection.open).into_iter().collect()
    }

    /// The clients with a connection to `node`.
    pub(crate) fn clients_of(&self, node: Node) -> Vec<ClientId> {
        let at = |(client, to): &(ClientId, Node)| (*to == node).then_some(*client);
        self.connections.keys().filter_map(at).collect()
    }

    /// A client is gone, and its connections.
    pub(crate) fn forget(&mut self, client: ClientId) {
        self.connections.retain(|(of, _), _| *of != client);
    }

    /// Holds messages of one way between a worker and a node until `until`; those under way
    /// arrive.
    pub(crate) fn hold(&mut self, worker: usize, node: Node, way: Way, until: Time) {
        let held = &mut self.weather.entry((worker, node)).or_default().held[way as usize];
        *held = Some(held.map_or(until, |before| before.max(until)));
    }

    /// Makes messages between a worker and a node slower by up to `extra` until `until`.
    pub(crate) fn slow(&mut self, worker: usize, node: Node, extra: Duration, until: Time) {
        self.weather.entry((worker, node)).or_default().slow = Some((until, extra));
    }
}
