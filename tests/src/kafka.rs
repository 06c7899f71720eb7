//! How is real Apache Kafka run in a test, and what may a test do to it?
//!
//! [`KafkaCluster`] is the face. Below it: `distribution` (the jars, the JVM), `node` (one
//! process and its settings), `ports`, `reaper` (nodes never outlive their test), `nodes` (all
//! of them, with their folder), `proxied` (nodes behind proxies), `group_log` (what they say of a group) and `tools` (Kafka's own
//! command line). [`SecureKafka`] is a cluster that lets in only who it knows: `certificates`,
//! `rights`, `security`.

mod admin;
mod certificates;
pub(crate) mod distribution;
mod group_log;
pub(crate) mod node;
pub(crate) mod nodes;
pub(crate) mod ports;
mod process;
mod proxied;
pub(crate) mod reaper;
mod rights;
mod security;
pub(crate) mod tools;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::process::Output;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rdkafka::consumer::Consumer;

pub use distribution::Distribution;
pub use group_log::GroupLog;
pub use rights::{Operation, Resource, Right};
pub use security::{Login, SecureKafka};
pub use tools::{TOOLS, tool_class};

use crate::cluster::client;
use crate::waiting::patiently;
use crate::{Cluster, ClusterError, Proxy};
use nodes::Nodes;

/// Names a cluster to use instead of starting nodes.
const BOOTSTRAP: &str = "PELTON_TEST_BOOTSTRAP";
/// `require` makes a test that can't run a failure.
const KAFKA: &str = "PELTON_TEST_KAFKA";

/// Apache Kafka: nodes of our own, or the cluster that `PELTON_TEST_BOOTSTRAP` names.
///
/// Our own nodes are combined brokers and controllers on free ports of loopback, with their data
/// in a folder of their own. Dropping this ends them and removes the folder; so does the end of
/// the process, whatever its cause. Their settings are Kafka's defaults but for these: topics are
/// not created by asking for them; `min.insync.replicas` is 2 from three nodes on; consumer
/// groups form at once, sessions may be short (1 s; KIP-848: 6 s, heartbeats every 300 ms); a
/// dead node is noticed after 6 s, and what others lead goes on without it after 2 s.
///
/// Node ids are 1, 2, …. All calls block, and may come from any thread.
///
/// ```no_run
/// use pelton_tests::{Cluster, KafkaCluster, NewRecord};
///
/// let kafka = KafkaCluster::start(3)?;
/// kafka.create_topic("user_logins", 6)?;
/// kafka.produce("user_logins", &[NewRecord::new("admin", "in")])?;
/// let leader = kafka.leader_of("user_logins", 1)?;
/// kafka.kill(leader)?;
/// kafka.wait_for_new_leader("user_logins", 1, leader)?;
/// assert_eq!(kafka.read_topic("user_logins")?.len(), 1);
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Debug)]
pub struct KafkaCluster {
    bootstrap_servers: String,
    /// None if the nodes are somebody else's.
    nodes: Option<Nodes>,
    /// What stands before them.
    proxies: Vec<Proxy>,
}

impl KafkaCluster {
    /// Starts `nodes` nodes and waits until all serve (about 2 s for one, 6 s for three, on two
    /// cores; the first time on a machine, Maven fetches 54 MB before).
    ///
    /// # Errors
    ///
    /// [`ClusterError::Impossible`] without Java 17 or the jars, [`ClusterError::Node`] if a node
    /// ends by itself, [`ClusterError::Late`] if they don't serve within two minutes.
    pub fn start(nodes: usize) -> Result<Self, ClusterError> {
        if let Some(bootstrap_servers) = elsewhere() {
            let cluster = Self { bootstrap_servers, nodes: None, proxies: Vec::new() };
            cluster.wait_until_ready()?;
            return Ok(cluster);
        }
        let distribution = Distribution::get(&|_| {})?;
        let nodes = Nodes::start(distribution, nodes, &[])?;
        Ok(Self::of(nodes))
    }

    /// Nodes that were started elsewhere in this crate.
    pub(crate) fn of(nodes: Nodes) -> Self {
        let bootstrap_servers = nodes.bootstrap_servers();
        Self { bootstrap_servers, nodes: Some(nodes), proxies: Vec::new() }
    }

    /// A cluster of that many nodes shared by all tests of this process: for tests that only
    /// add topics and groups ([`unique`](Self::unique) names keep them apart).
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn shared(nodes: usize) -> Result<&'static Self, ClusterError> {
        static SHARED: Mutex<BTreeMap<usize, &'static KafkaCluster>> = Mutex::new(BTreeMap::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = shared.get(&nodes) {
            return Ok(cluster);
        }
        // It ends with the process: the reaper sees to it.
        let cluster: &'static Self = Box::leak(Box::new(Self::start(nodes)?));
        shared.insert(nodes, cluster);
        Ok(cluster)
    }

    /// A cluster of that many nodes for tests that stop, kill or freeze nodes: all of this process
    /// take the same one, in turn. One that somebody has left without a node is replaced.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn in_turn(nodes: usize) -> Result<InTurn, ClusterError> {
        type Turns = BTreeMap<usize, &'static Mutex<KafkaCluster>>;
        static TURNS: Mutex<Turns> = Mutex::new(Turns::new());
        let turn = {
            let mut turns = TURNS.lock().unwrap_or_else(PoisonError::into_inner);
            match turns.get(&nodes) {
                Some(turn) => *turn,
                None => {
                    // It ends with the process: the reaper sees to it.
                    let turn = Box::leak(Box::new(Mutex::new(Self::start(nodes)?)));
                    *turns.entry(nodes).or_insert(turn)
                }
            }
        };
        let mut cluster = turn.lock().unwrap_or_else(PoisonError::into_inner);
        if cluster.nodes.as_ref().is_some_and(|nodes| !nodes.all_run()) {
            *cluster = Self::start(nodes)?;
        }
        cluster.wait_until_ready()?;
        Ok(InTurn(cluster))
    }

    /// Can tests run on Kafka here? Fetches the jars if they are missing.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Impossible`] says what is missing.
    pub fn available() -> Result<(), ClusterError> {
        match elsewhere() {
            Some(_) => Ok(()),
            None => Distribution::get(&|_| {}).map(|_| ()),
        }
    }

    /// Must tests fail where Kafka can't run (`PELTON_TEST_KAFKA=require`)?
    #[must_use]
    pub fn is_required() -> bool {
        std::env::var(KAFKA).is_ok_and(|value| value == "require")
    }

    /// Does `PELTON_TEST_BOOTSTRAP` name a cluster to use instead of nodes of our own?
    #[must_use]
    pub fn is_elsewhere() -> bool {
        elsewhere().is_some()
    }

    /// A name that no other test and no earlier run uses.
    ///
    /// ```
    /// let name = pelton_tests::KafkaCluster::unique("logins");
    /// assert!(name.starts_with("logins-"));
    /// assert_ne!(name, pelton_tests::KafkaCluster::unique("logins"));
    /// ```
    #[must_use]
    pub fn unique(name: &str) -> String {
        format!("{name}-{:016x}", node::random())
    }

    /// A random number, for what needs a seed.
    #[must_use]
    pub fn random() -> u64 {
        node::random()
    }

    /// How many nodes we have started; none if they are somebody else's.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.nodes.as_ref().map_or(0, Nodes::count)
    }

    /// Creates a topic; `replication` of -1 is the cluster's default.
    ///
    /// # Errors
    ///
    /// If the topic exists, a setting is unknown, or the cluster does not answer.
    pub fn create_topic_with(
        &self,
        topic: &str,
        partitions: i32,
        replication: i32,
        settings: &[(&str, &str)],
    ) -> Result<(), ClusterError> {
        admin::create_topic(&self.bootstrap_servers, topic, partitions, replication, settings)
    }

    /// Lets a topic grow to `total` partitions.
    ///
    /// # Errors
    ///
    /// If it has as many already, or the cluster does not answer.
    pub fn add_partitions(&self, topic: &str, total: usize) -> Result<(), ClusterError> {
        admin::add_partitions(&self.bootstrap_servers, topic, total)
    }

    /// Gives a topic this setting; all others that it had become the cluster's defaults.
    ///
    /// # Errors
    ///
    /// If there is no such topic or setting, or the cluster does not answer.
    pub fn set_topic(&self, topic: &str, name: &str, value: &str) -> Result<(), ClusterError> {
        admin::set_topic(&self.bootstrap_servers, topic, name, value)
    }

    /// Deletes a topic.
    ///
    /// # Errors
    ///
    /// If it does not exist, or the cluster does not answer.
    pub fn delete_topic(&self, topic: &str) -> Result<(), ClusterError> {
        admin::delete_topic(&self.bootstrap_servers, topic)
    }

    /// Deletes the records of a partition before an offset.
    ///
    /// # Errors
    ///
    /// If the offset lies past the end, or the cluster does not answer.
    pub fn delete_records(
        &self,
        topic: &str,
        partition: i32,
        before: i64,
    ) -> Result<(), ClusterError> {
        admin::delete_records(&self.bootstrap_servers, topic, partition, before)
    }

    /// The node that leads a partition.
    ///
    /// # Errors
    ///
    /// If there is none within half a minute.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Result<i32, ClusterError> {
        let asking = client::consumer(&self.bootstrap_servers, &[])?;
        let metadata = client::topic_with_leaders(asking.client(), topic)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let found = partitions.into_iter().find(|found| found.id() == partition);
        found
            .map(|partition| partition.leader())
            .ok_or_else(|| ClusterError::refused(topic, format!("has no partition {partition}")))
    }

    /// Waits until another node than `old` leads a partition; the new leader.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`] after a minute.
    pub fn wait_for_new_leader(
        &self,
        topic: &str,
        partition: i32,
        old: i32,
    ) -> Result<i32, ClusterError> {
        patiently(&format!("a new leader of {topic}-{partition}"), Duration::from_secs(60), || {
            match self.leader_of(topic, partition) {
                Ok(leader) if leader != old => Ok(leader),
                Ok(_) => Err(format!("node {old} is its leader still")),
                Err(error) => Err(error.to_string()),
            }
        })
    }

    /// Waits until every replica of a topic is in sync, as after a node's return.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`] after two minutes.
    pub fn wait_until_in_sync(&self, topic: &str) -> Result<(), ClusterError> {
        let asking = client::consumer(&self.bootstrap_servers, &[])?;
        patiently(&format!("the replicas of {topic} in sync"), Duration::from_secs(120), || {
            let metadata = client::topic_with_leaders(asking.client(), topic);
            let metadata = metadata.map_err(|error| error.to_string())?;
            let mut partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
            match partitions.find(|found| found.isr().len() < found.replicas().len()) {
                Some(behind) => Err(format!("partition {} is not", behind.id())),
                None => Ok(()),
            }
        })
    }

    /// The node that coordinates a group. Kafka's rule: the leader of the partition of
    /// `__consumer_offsets` that the group's name hashes to.
    ///
    /// # Errors
    ///
    /// If no group has ever committed or joined, or there is no leader within half a minute.
    pub fn coordinator_of(&self, group: &str) -> Result<i32, ClusterError> {
        const OFFSETS: &str = "__consumer_offsets";
        let asking = client::consumer(&self.bootstrap_servers, &[])?;
        let metadata = client::topic_with_leaders(asking.client(), OFFSETS)?;
        let partitions = metadata.topics().iter().map(|topic| topic.partitions().len()).sum();
        self.leader_of(OFFSETS, offsets_partition(group, partitions))
    }

    /// What the coordinators have done with a group so far, by their own logs.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotOurs`]; [`ClusterError::Io`] if a log can't be read.
    pub fn group_log(&self, group: &str) -> Result<GroupLog, ClusterError> {
        let logs = self.ours("read a node's log")?.logs()?;
        Ok(GroupLog::of(group, &logs))
    }

    /// Moves every partition's leadership to its first replica, as Kafka does by itself some
    /// minutes after a node's return: coordinators move with it.
    ///
    /// # Errors
    ///
    /// If Kafka's tool fails.
    pub fn elect_preferred_leaders(&self) -> Result<(), ClusterError> {
        let class = "org.apache.kafka.tools.LeaderElectionCommand";
        let arguments = ["--election-type", "preferred", "--all-topic-partitions"];
        let answer = self.tool(class, &arguments)?;
        if answer.status.success() {
            return Ok(());
        }
        Err(ClusterError::refused("electing leaders", String::from_utf8_lossy(&answer.stderr)))
    }

    /// Waits until every running node serves and knows the others.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`] after two minutes, [`ClusterError::Node`] if one has ended.
    pub fn wait_until_ready(&self) -> Result<(), ClusterError> {
        match &self.nodes {
            Some(nodes) => nodes.wait_until_ready(),
            None => nodes::wait_for_brokers(&self.bootstrap_servers, &BTreeSet::new()),
        }
    }

    /// Ends a node at once (SIGKILL).
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotOurs`]; [`ClusterError::Refused`] if it does not run.
    pub fn kill(&self, node: i32) -> Result<(), ClusterError> {
        self.ours("kill a node")?.node(node)?.kill()
    }

    /// Lets a node go in order (SIGTERM) and waits for its end: it hands over what it leads.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotOurs`]; [`ClusterError::Refused`] if it does not run;
    /// [`ClusterError::Late`] after a minute.
    pub fn stop(&self, node: i32) -> Result<(), ClusterError> {
        self.ours("stop a node")?.node(node)?.stop()
    }

    /// Freezes a node (SIGSTOP): it is there and does nothing.
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotOurs`]; [`ClusterError::Refused`] if it does not run.
    pub fn suspend(&self, node: i32) -> Result<(), ClusterError> {
        self.ours("suspend a node")?.node(node)?.suspend()
    }

    /// Lets a frozen node go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotOurs`]; [`ClusterError::Refused`] if it does not run.
    pub fn resume(&self, node: i32) -> Result<(), ClusterError> {
        self.ours("resume a node")?.node(node)?.resume()
    }

    /// Starts a node that has ended, on the same port and data. It serves a few seconds later:
    /// [`wait_until_ready`](Self::wait_until_ready).
    ///
    /// # Errors
    ///
    /// [`ClusterError::NotOurs`]; [`ClusterError::Refused`] if it runs.
    pub fn start_node(&self, node: i32) -> Result<(), ClusterError> {
        self.ours("start a node")?.start_node(node)
    }

    /// Runs one of Kafka's own tools against this cluster and waits for its end, two minutes at
    /// most. `--bootstrap-server` is added.
    ///
    /// ```no_run
    /// # let kafka = pelton_tests::KafkaCluster::start(1)?;
    /// let answer = kafka.tool("org.apache.kafka.tools.TopicCommand", &["--list"])?;
    /// assert!(answer.status.success());
    /// # Ok::<(), pelton_tests::ClusterError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClusterError::Impossible`] without the jars. A tool that fails is no error: its exit
    /// status says so.
    pub fn tool(&self, class: &str, arguments: &[&str]) -> Result<Output, ClusterError> {
        let distribution = Distribution::get(&|_| {})?;
        tools::run(distribution, &self.bootstrap_servers, class, arguments)
    }

    fn ours(&self, what: &str) -> Result<&Nodes, ClusterError> {
        self.nodes.as_ref().ok_or_else(|| ClusterError::NotOurs {
            what: what.to_owned(),
            bootstrap_servers: self.bootstrap_servers.clone(),
        })
    }
}

/// A cluster that is ours to disturb until this is dropped.
///
/// ```no_run
/// use pelton_tests::KafkaCluster;
///
/// let kafka = KafkaCluster::in_turn(3)?;
/// kafka.kill(1)?;
/// kafka.start_node(1)?;
/// kafka.wait_until_ready()?;
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Debug)]
pub struct InTurn(MutexGuard<'static, KafkaCluster>);

impl Deref for InTurn {
    type Target = KafkaCluster;

    fn deref(&self) -> &KafkaCluster {
        &self.0
    }
}

impl Cluster for KafkaCluster {
    fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), ClusterError> {
        self.create_topic_with(topic, partitions, -1, &[])
    }

    fn has_admin_calls(&self) -> bool {
        true
    }
}

fn elsewhere() -> Option<String> {
    std::env::var(BOOTSTRAP).ok().filter(|address| !address.trim().is_empty())
}

/// Java's `abs(group.hashCode()) % partitions`.
fn offsets_partition(group: &str, partitions: usize) -> i32 {
    let add = |hash: i32, unit: u16| hash.wrapping_mul(31).wrapping_add(i32::from(unit));
    let hash = group.encode_utf16().fold(0, add);
    // Kafka's own abs: of the smallest number it is 0.
    let hash = if hash == i32::MIN { 0 } else { hash.abs() };
    hash % i32::try_from(partitions).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_groups_partition_is_the_one_java_would_choose() {
        // "hello".hashCode() is 99162322; "polygenelubricants".hashCode() is the smallest int.
        assert_eq!(offsets_partition("hello", 50), 22);
        assert_eq!(offsets_partition("polygenelubricants", 50), 0);
        assert_eq!(offsets_partition("", 4), 0);
    }
}
