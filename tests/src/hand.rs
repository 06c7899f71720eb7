//! How does a cluster outlive the command that started it? By a note of who its nodes are.
//!
//! `cargo kafka up` starts the nodes as a test would, with a reaper; when they serve it writes
//! the note (`target/kafka/cluster/state.json`) and releases them. So an interrupted `up` leaves
//! nothing behind, and a note says the truth or is stale, which shows: a node is only believed
//! to be one if its command line names the cluster's folder.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::kafka::distribution::{lock, remove, target_folder};
use crate::kafka::node::answers;
use crate::kafka::nodes::Nodes;
use crate::kafka::tools;
use crate::{ClusterError, Distribution, wait_for};

/// A cluster for hand use.
///
/// ```no_run
/// use pelton_tests::hand::{HandCluster, Up};
///
/// let cluster = match HandCluster::up(3, &|step| eprintln!("{step}"))? {
///     Up::Started(cluster) | Up::Runs(cluster) => cluster,
/// };
/// println!("{}", cluster.bootstrap_servers());
/// HandCluster::down()?;
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
pub struct HandCluster {
    bootstrap_servers: String,
    nodes: Vec<HandNode>,
}

/// One node of a cluster for hand use.
#[derive(Debug, Serialize, Deserialize)]
pub struct HandNode {
    id: i32,
    port: u16,
    pid: i32,
}

/// What came of [`HandCluster::up`].
#[derive(Debug)]
pub enum Up {
    /// It was started.
    Started(HandCluster),
    /// It had been started before and runs still, or a part of it.
    Runs(HandCluster),
}

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It answers requests.
    Serves,
    /// Its process runs but does not answer (yet).
    Silent,
    /// Its process is gone.
    Gone,
}

impl HandCluster {
    /// Starts a cluster and waits until it serves; if one runs, nothing is done. A note of one
    /// that does not run any more is removed, with its data. `tell` hears of the steps.
    ///
    /// # Errors
    ///
    /// As [`KafkaCluster::start`](crate::KafkaCluster::start).
    pub fn up(nodes: usize, tell: &dyn Fn(&str)) -> Result<Up, ClusterError> {
        let distribution = Distribution::get(tell)?;
        let _one_at_a_time = lock(&distribution.folder().join(LOCK))?;
        if let Some(cluster) = Self::find()? {
            return Ok(Up::Runs(cluster));
        }
        let folder = folder();
        remove(&folder).map_err(ClusterError::io("removing an old cluster"))?;
        tell(&format!("starting Apache Kafka {}, nodes: {nodes}", Distribution::version()));
        let started = Nodes::start_in(&folder, distribution, nodes, &[])?;
        let bootstrap_servers = started.bootstrap_servers();
        let mut nodes = Vec::new();
        for (address, pid) in started.processes() {
            let pid = i32::try_from(pid).map_err(|error| ClusterError::refused("pid", error))?;
            nodes.push(HandNode { id: address.id, port: address.port, pid });
        }
        let cluster = Self { bootstrap_servers, nodes };
        let note = serde_json::to_string_pretty(&cluster)
            .map_err(|error| ClusterError::refused("writing state.json", error))?;
        fs::write(folder.join(NOTE), note).map_err(ClusterError::io("writing state.json"))?;
        started.leave_running()?;
        Ok(Up::Started(cluster))
    }

    /// The cluster that runs, if a node of it does.
    ///
    /// # Errors
    ///
    /// If its note can't be read.
    pub fn find() -> Result<Option<Self>, ClusterError> {
        let note = match fs::read(folder().join(NOTE)) {
            Ok(note) => note,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(ClusterError::io("reading state.json")(error)),
        };
        // A torn note is of an `up` that did not end; its nodes have ended with it.
        let found: Option<Self> = serde_json::from_slice(&note).ok();
        Ok(found.filter(|cluster| cluster.nodes.iter().any(HandNode::runs)))
    }

    /// Ends the cluster and removes its data, also those of one that has ended by itself; how
    /// many nodes there were. One that is being started is waited for.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`] if a node does not end, [`ClusterError::Io`] if the folder can't be
    /// removed.
    pub fn down() -> Result<usize, ClusterError> {
        let kafka = target_folder().join("kafka");
        fs::create_dir_all(&kafka).map_err(ClusterError::io("target/kafka"))?;
        let _one_at_a_time = lock(&kafka.join(LOCK))?;
        let nodes = Self::find()?.map_or_else(Vec::new, |cluster| cluster.nodes);
        for node in nodes.iter().filter(|node| node.runs()) {
            // It may have ended by itself this moment.
            let _gone_already = kill(Pid::from_raw(node.pid), Signal::SIGKILL);
        }
        wait_for("the end of the nodes", Duration::from_secs(20), || {
            (!nodes.iter().any(HandNode::runs)).then_some(())
        })?;
        remove(&folder()).map_err(ClusterError::io("removing the cluster's folder"))?;
        Ok(nodes.len())
    }

    /// Where clients find it.
    #[must_use]
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }

    /// Its nodes, also those that have ended.
    #[must_use]
    pub fn nodes(&self) -> &[HandNode] {
        &self.nodes
    }
}

impl HandNode {
    /// Its number, from 1.
    #[must_use]
    pub fn id(&self) -> i32 {
        self.id
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// What its log is.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        folder().join(format!("node-{}", self.id)).join("server.log")
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> Health {
        match (self.runs(), answers(self.port)) {
            (false, _) => Health::Gone,
            (true, false) => Health::Silent,
            (true, true) => Health::Serves,
        }
    }

    /// Is this process (still) that node? Numbers are used again.
    fn runs(&self) -> bool {
        command_line(self.pid).contains(&*folder().to_string_lossy())
    }
}

/// The command of one of Kafka's own tools, aimed at `bootstrap_servers` unless its arguments
/// name another cluster.
///
/// # Errors
///
/// [`ClusterError::Impossible`] without Java or the jars.
pub fn tool(
    bootstrap_servers: &str,
    class: &str,
    arguments: &[String],
    tell: &dyn Fn(&str),
) -> Result<Command, ClusterError> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Ok(tools::command(Distribution::get(tell)?, bootstrap_servers, class, &arguments))
}

const NOTE: &str = "state.json";
const LOCK: &str = "cluster.lock";

/// Where the cluster for hand use lives.
fn folder() -> PathBuf {
    target_folder().join("kafka").join("cluster")
}

/// Empty if there is no such process, or only what is left of one.
fn command_line(pid: i32) -> String {
    if Path::new("/proc/self/cmdline").exists() {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        return String::from_utf8_lossy(&line).into_owned();
    }
    let said = Command::new("ps").args(["-ww", "-o", "command=", "-p", &pid.to_string()]).output();
    said.map_or_else(|_| String::new(), |said| String::from_utf8_lossy(&said.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_is_not_taken_for_a_node() {
        let own = i32::try_from(std::process::id()).unwrap();
        assert!(!command_line(own).is_empty());
        let node = HandNode { id: 1, port: 1, pid: own };
        assert!(!node.runs());
        assert_eq!(node.health(), Health::Gone);
    }
}
