//! All nodes of one cluster, and their folder.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::Consumer;

use crate::ClusterError;
use crate::cluster::client;
use crate::kafka::Distribution;
use crate::kafka::node::{Address, Besides, Node, random, uuid};
use crate::kafka::ports;
use crate::kafka::reaper::Reaper;
use crate::waiting::{patiently, wait_for};

/// How long nodes may take until they serve: few processors may be shared by many.
const READY: Duration = Duration::from_secs(120);

/// Other processes may take the ports first.
const ATTEMPTS: u32 = 3;

/// The nodes that we have started. Dropping this ends them and removes their folder.
#[derive(Debug)]
pub(crate) struct Nodes {
    nodes: Vec<Node>,
    distribution: Distribution,
}

impl Nodes {
    /// Starts nodes, in a folder that is theirs alone, and waits until they serve.
    pub(crate) fn start(
        distribution: &Distribution,
        count: usize,
        flags: &[&str],
    ) -> Result<Self, ClusterError> {
        let folder = distribution.folder().join("running").join(format!("{:016x}", random()));
        Self::start_in(&folder, distribution, count, flags)
    }

    /// As [`start`](Self::start), with more than every node has, asked for anew at each attempt; it
    /// is told each node's address.
    pub(crate) fn start_with(
        distribution: &Distribution,
        count: usize,
        besides: &dyn Fn(Address) -> Besides,
    ) -> Result<Self, ClusterError> {
        let folder = distribution.folder().join("running").join(format!("{:016x}", random()));
        Self::attempt(&folder, distribution, count, &[], besides)
    }

    /// One node with more than every node has, asked for anew at each attempt; it is told the
    /// node's address.
    pub(crate) fn start_one_with(
        folder: &Path,
        distribution: &Distribution,
        besides: &dyn Fn(Address) -> Besides,
    ) -> Result<Self, ClusterError> {
        Self::attempt(folder, distribution, 1, &[], besides)
    }

    /// As [`start`](Self::start), in this folder; it may not exist yet.
    pub(crate) fn start_in(
        folder: &Path,
        distribution: &Distribution,
        count: usize,
        flags: &[&str],
    ) -> Result<Self, ClusterError> {
        if !(1..=9).contains(&count) {
            return Err(ClusterError::refused(
                "starting nodes",
                "their number must be from 1 to 9",
            ));
        }
        Self::attempt(folder, distribution, count, flags, &|_| Besides::default())
    }

    fn attempt(
        folder: &Path,
        distribution: &Distribution,
        count: usize,
        flags: &[&str],
        besides: &dyn Fn(Address) -> Besides,
    ) -> Result<Self, ClusterError> {
        let mut attempt = 1;
        loop {
            let nodes = Self::create(folder, distribution, count, besides)?;
            let started = nodes
                .nodes
                .iter()
                .try_for_each(|node| node.start(distribution, flags))
                .and_then(|()| nodes.wait_until_ready());
            match started {
                Ok(()) => return Ok(nodes),
                Err(_) if attempt < ATTEMPTS && nodes.were_beaten_to_their_ports() => attempt += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn create(
        folder: &Path,
        distribution: &Distribution,
        count: usize,
        besides: &dyn Fn(Address) -> Besides,
    ) -> Result<Self, ClusterError> {
        let ports = ports::free(2 * count);
        let pairs = (1..).zip(ports.chunks_exact(2));
        let all: Vec<Address> = pairs
            .map(|(id, ports)| Address { id, port: ports[0], controller_port: ports[1] })
            .collect();
        if all.len() < count {
            return Err(ClusterError::refused("starting nodes", "there are no free ports"));
        }
        fs::create_dir_all(folder).map_err(ClusterError::io(folder.display().to_string()))?;
        let reaper = Arc::new(Reaper::start(folder)?);
        let cluster = uuid();
        let create = |address: &Address| {
            let folder = folder.join(format!("node-{}", address.id));
            let (besides, reaper) = (besides(*address), Arc::clone(&reaper));
            Node::create(distribution, &cluster, &all, *address, &besides, folder, reaper)
        };
        let nodes = all.iter().map(create).collect::<Result<_, _>>()?;
        Ok(Self { nodes, distribution: distribution.clone() })
    }

    pub(crate) fn all_run(&self) -> bool {
        self.nodes.iter().all(|node| matches!(node.is_running(), Ok(true)))
    }

    pub(crate) fn count(&self) -> usize {
        self.nodes.len()
    }

    pub(crate) fn bootstrap_servers(&self) -> String {
        let address = |node: &Node| format!("127.0.0.1:{}", node.address().port);
        self.nodes.iter().map(address).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn node(&self, id: i32) -> Result<&Node, ClusterError> {
        self.nodes.iter().find(|node| node.address().id == id).ok_or_else(|| {
            ClusterError::refused(format!("node {id}"), format!("nodes are 1 to {}", self.count()))
        })
    }

    pub(crate) fn start_node(&self, id: i32) -> Result<(), ClusterError> {
        self.node(id)?.start(&self.distribution, &[])
    }

    /// Waits until every running node answers requests and its peers count it in.
    pub(crate) fn wait_until_ready(&self) -> Result<(), ClusterError> {
        let mut running = BTreeSet::new();
        for node in &self.nodes {
            if node.is_running()? {
                running.insert(node.address().id);
            }
        }
        let mut failure = None;
        let answer = |node: &&Node| !running.contains(&node.address().id) || node.answers();
        wait_for("every node's first answer", READY, || {
            let ended = self.nodes.iter().find_map(|node| node.is_running().err());
            if ended.is_some() {
                failure = ended;
                return Some(());
            }
            self.nodes.iter().all(|node| answer(&node)).then_some(())
        })?;
        match failure {
            Some(failure) => Err(failure),
            None => wait_for_brokers(&self.bootstrap_servers(), &running),
        }
    }

    /// What each node has logged, whether it runs or not.
    pub(crate) fn logs(&self) -> Result<Vec<String>, ClusterError> {
        self.nodes.iter().map(Node::said).collect()
    }

    /// The nodes that run, with the numbers of their processes.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (Address, u32)> {
        self.nodes.iter().filter_map(|node| Some((node.address(), node.pid()?)))
    }

    /// From now on nobody ends the nodes or removes their folder.
    pub(crate) fn leave_running(self) -> Result<(), ClusterError> {
        self.nodes.iter().try_for_each(Node::leave_running)
    }

    fn were_beaten_to_their_ports(&self) -> bool {
        self.nodes.iter().any(Node::was_beaten_to_its_ports)
    }
}

/// Waits until a cluster's metadata names these brokers, and any at all.
pub(crate) fn wait_for_brokers(
    bootstrap: &str,
    brokers: &BTreeSet<i32>,
) -> Result<(), ClusterError> {
    let asking = client::consumer(bootstrap, &[])?;
    patiently(&format!("the brokers of {bootstrap}"), READY, || {
        // Any topic would do; without one the answer would be about all of them.
        let answer = asking.fetch_metadata(Some("__consumer_offsets"), Duration::from_secs(5));
        let metadata = answer.map_err(|error| error.to_string())?;
        let known: BTreeSet<i32> = metadata.brokers().iter().map(|broker| broker.id()).collect();
        if !known.is_empty() && known.is_superset(brokers) {
            return Ok(());
        }
        Err(format!("it names the brokers {known:?}"))
    })
}
