//! How does a cluster stand behind proxies? Each broker has one listener more for each proxy, and
//! advertises there the proxy's gate instead of itself.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};

use crate::kafka::node::{Address, Besides, random};
use crate::kafka::nodes::Nodes;
use crate::kafka::{Distribution, KafkaCluster, elsewhere, ports};
use crate::{ClusterError, Proxy};

impl KafkaCluster {
    /// As [`start`](Self::start), with so many proxies before the nodes. Who connects to a proxy's
    /// [`addresses`](Proxy::addresses) reaches every node through that proxy only; gate 1 leads
    /// to node 1, and so on. The nodes themselves, and who is given
    /// [`bootstrap_servers`](crate::Cluster::bootstrap_servers), meet directly.
    ///
    /// ```no_run
    /// use pelton_tests::{KafkaCluster, Way, Weather};
    ///
    /// let kafka = KafkaCluster::start_behind_proxies(3, 1)?;
    /// let proxy = kafka.proxy(0)?;
    /// proxy.set(2, Weather { to_client: Way::dead(), ..Weather::default() })?;
    /// # Ok::<(), pelton_tests::ClusterError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start); [`ClusterError::NotOurs`] if `PELTON_TEST_BOOTSTRAP` names a
    /// cluster.
    pub fn start_behind_proxies(nodes: usize, proxies: usize) -> Result<Self, ClusterError> {
        if let Some(bootstrap_servers) = elsewhere() {
            let what = "put proxies before the nodes".to_owned();
            return Err(ClusterError::NotOurs { what, bootstrap_servers });
        }
        let distribution = Distribution::get(&|_| {})?;
        let io = || ClusterError::io("finding ports behind proxies");
        // Held until the gates have ports of their own.
        let held: Vec<TcpListener> =
            (0..nodes * proxies).map(|_| ports::listen()).collect::<Result<_, _>>().map_err(io())?;
        let behind: Vec<SocketAddr> =
            held.iter().map(TcpListener::local_addr).collect::<Result<_, _>>().map_err(io())?;
        let brokers = behind.chunks(nodes.max(1));
        let proxies: Vec<Proxy> = brokers
            .clone()
            .map(|brokers| Proxy::before(brokers, random()))
            .collect::<Result<_, _>>()?;
        drop(held);
        let besides = |address: Address| {
            let mut doors = Vec::new();
            for (proxy, brokers) in proxies.iter().zip(brokers.clone()) {
                let at = usize::try_from(address.id).ok().and_then(|id| id.checked_sub(1));
                if let (Some(own), Ok(gate)) =
                    (at.and_then(|at| brokers.get(at)), proxy.gate(address.id))
                {
                    doors.push((*own, gate));
                }
            }
            Besides { settings: settings(address, &doors), first_records: None }
        };
        let nodes = Nodes::start_with(distribution, nodes, &besides)?;
        Ok(Self { proxies, ..Self::of(nodes) })
    }

    /// One of the proxies before the nodes, from 0.
    ///
    /// # Errors
    ///
    /// If the cluster has none of that number: it was not
    /// [started behind proxies](Self::start_behind_proxies).
    pub fn proxy(&self, number: usize) -> Result<&Proxy, ClusterError> {
        self.proxies.get(number).ok_or_else(|| {
            let reason = format!("the cluster stands behind {} proxies", self.proxies.len());
            ClusterError::refused(format!("proxy {number}"), reason)
        })
    }

    /// All the proxies before the nodes.
    #[must_use]
    pub fn proxies(&self) -> &[Proxy] {
        &self.proxies
    }
}

/// The listeners of a node: its own, and of each door where it listens and what it says of it.
fn settings(address: Address, doors: &[(SocketAddr, SocketAddr)]) -> String {
    let Address { port, controller_port, .. } = address;
    let mut listeners =
        format!("PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}");
    let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
    let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned();
    for (number, (own, gate)) in doors.iter().enumerate() {
        let _infallible = write!(listeners, ",PROXY{number}://{own}");
        let _infallible = write!(advertised, ",PROXY{number}://{gate}");
        let _infallible = write!(protocols, ",PROXY{number}:PLAINTEXT");
    }
    format!(
        "listeners={listeners}
advertised.listeners={advertised}
listener.security.protocol.map={protocols}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_listens_at_its_doors_and_advertises_their_gates() {
        let address = Address { id: 1, port: 15_000, controller_port: 16_000 };
        let door = |own, gate| (([127, 0, 0, 1], own).into(), ([127, 0, 0, 1], gate).into());
        let text = settings(address, &[door(17_000, 18_000), door(19_000, 20_000)]);
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has(
            "advertised.listeners=PLAINTEXT://127.0.0.1:15000,PROXY0://127.0.0.1:18000,PROXY1://127.0.0.1:20000"
        ));
        assert!(text.contains(",PROXY0://127.0.0.1:17000,PROXY1://127.0.0.1:19000\n"));
        assert!(text.ends_with(",PROXY0:PLAINTEXT,PROXY1:PLAINTEXT\n"));
    }
}
