//! One node: its settings, its process.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ClusterError;
use crate::kafka::Distribution;
use crate::kafka::process::tail;
use crate::kafka::reaper::Reaper;
use crate::waiting::wait_for;

/// How long a node may take to go in order.
const STOP: Duration = Duration::from_secs(60);

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Address {
    pub(crate) id: i32,
    pub(crate) port: u16,
    pub(crate) controller_port: u16,
}

/// What a node is given besides what every node has.
#[derive(Clone, Debug, Default)]
pub(crate) struct Besides {
    /// Settings; those of the same name are overruled.
    pub(crate) settings: String,
    /// What its metadata log begins with, instead of the usual first records.
    pub(crate) first_records: Option<PathBuf>,
}

/// A broker and controller in a process of its own. Dropping it ends the process.
#[derive(Debug)]
pub(crate) struct Node {
    address: Address,
    /// Settings, log, data.
    folder: PathBuf,
    /// None after we have ended it.
    process: Mutex<Option<Child>>,
    reaper: Arc<Reaper>,
}

impl Node {
    /// Writes its settings and its empty data folder; it does not run yet.
    pub(crate) fn create(
        distribution: &Distribution,
        cluster: &str,
        all: &[Address],
        address: Address,
        besides: &Besides,
        folder: PathBuf,
        reaper: Arc<Reaper>,
    ) -> Result<Self, ClusterError> {
        let io = |error| ClusterError::Io { what: folder.display().to_string(), error };
        let data = folder.join("data");
        fs::create_dir_all(&data).map_err(io)?;
        let identity = format!(
            "version=1\ncluster.id={cluster}\nnode.id={}\ndirectory.id={}\n",
            address.id,
            uuid()
        );
        fs::write(data.join("meta.properties"), identity).map_err(io)?;
        let usual = distribution.first_records();
        let first_records = besides.first_records.as_ref().unwrap_or(&usual);
        fs::copy(first_records, data.join("bootstrap.checkpoint")).map_err(io)?;
        let settings = settings(all, address, &data) + &besides.settings;
        fs::write(folder.join("server.properties"), settings).map_err(io)?;
        Ok(Self { address, folder, process: Mutex::new(None), reaper })
    }

    pub(crate) fn address(&self) -> Address {
        self.address
    }

    /// Starts the process, on the data that it has.
    pub(crate) fn start(
        &self,
        distribution: &Distribution,
        flags: &[&str],
    ) -> Result<(), ClusterError> {
        let mut process = self.process();
        if process.is_some() {
            return Err(self.refused("runs already"));
        }
        let io = |error| ClusterError::Io { what: format!("starting node {}", self.id()), error };
        let log = OpenOptions::new().create(true).append(true).open(self.log()).map_err(io)?;
        let mut command = distribution.java(&["-Xms64m", "-Xmx512m"]);
        command.args(flags);
        command.arg("kafka.Kafka").arg(self.folder.join("server.properties"));
        command.stdin(Stdio::null()).stdout(log.try_clone().map_err(io)?).stderr(log);
        // A group of its own: Ctrl-C is for the test, which decides what becomes of its nodes.
        command.process_group(0);
        let child = command.spawn().map_err(io)?;
        self.reaper.runs(child.id())?;
        *process = Some(child);
        Ok(())
    }

    /// Does it run, as far as we know? An error if it has ended by itself.
    pub(crate) fn is_running(&self) -> Result<bool, ClusterError> {
        match &mut *self.process() {
            None => Ok(false),
            Some(child) => match child.try_wait() {
                Ok(None) => Ok(true),
                Ok(Some(status)) => Err(self.ended_by_itself(status)),
                Err(error) => Err(ClusterError::Io { what: "waiting".to_owned(), error }),
            },
        }
    }

    /// Does this very node answer requests? (The cluster's metadata may tell of an earlier
    /// process.)
    pub(crate) fn answers(&self) -> bool {
        answers(self.address.port)
    }

    pub(crate) fn kill(&self) -> Result<(), ClusterError> {
        let mut process = self.process();
        let Some(mut child) = process.take() else {
            return Err(self.refused("does not run"));
        };
        let io = |error| ClusterError::Io { what: format!("killing node {}", self.id()), error };
        child.kill().and_then(|()| child.wait()).map_err(io)?;
        self.reaper.ended(child.id())
    }

    pub(crate) fn stop(&self) -> Result<(), ClusterError> {
        self.signal(Signal::SIGTERM)?;
        // A frozen one would never see it.
        self.signal(Signal::SIGCONT)?;
        let what = format!("the orderly end of node {}", self.id());
        let ended = wait_for(&what, STOP, || match &mut *self.process() {
            Some(child) => child.try_wait().ok().flatten().map(|_| ()),
            None => Some(()),
        });
        // Takes it off the books; a process that would not go is killed.
        let killed = self.kill();
        ended.and(killed)
    }

    pub(crate) fn suspend(&self) -> Result<(), ClusterError> {
        self.signal(Signal::SIGSTOP)
    }

    pub(crate) fn resume(&self) -> Result<(), ClusterError> {
        self.signal(Signal::SIGCONT)
    }

    /// The number of its process, if it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.process().as_ref().map(Child::id)
    }

    /// From now on nobody ends the process; the reaper leaves all nodes of the cluster alone.
    pub(crate) fn leave_running(&self) -> Result<(), ClusterError> {
        self.reaper.release()?;
        let _its_end_is_not_awaited = self.process().take();
        Ok(())
    }

    /// Could it not listen on its ports?
    pub(crate) fn was_beaten_to_its_ports(&self) -> bool {
        fs::read_to_string(self.log()).is_ok_and(|log| log.contains("java.net.BindException"))
    }

    fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        let process = self.process();
        let Some(child) = &*process else {
            return Err(self.refused("does not run"));
        };
        let pid = i32::try_from(child.id()).map_err(|error| self.refused(error))?;
        kill(Pid::from_raw(pid), signal).map_err(|error| self.refused(error))
    }

    fn id(&self) -> i32 {
        self.address.id
    }

    /// All that its processes have logged.
    pub(crate) fn said(&self) -> Result<String, ClusterError> {
        let read = fs::read_to_string(self.log());
        read.map_err(ClusterError::io(self.log().display().to_string()))
    }

    fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refused(&self, reason: impl ToString) -> ClusterError {
        ClusterError::refused(format!("node {}", self.id()), reason)
    }

    fn ended_by_itself(&self, status: ExitStatus) -> ClusterError {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let reason = format!("ended by itself ({status})");
        ClusterError::Node { node: self.id(), reason, log: tail(&log, 20) }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // That it does not run is fine.
        let _ended = self.kill();
    }
}

/// Does a Kafka broker answer requests on this port of loopback?
pub(crate) fn answers(port: u16) -> bool {
    // ApiVersions, version 0, correlation id 1, no client id.
    let request = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let ask = || -> std::io::Result<[u8; 8]> {
        let limit = Duration::from_secs(1);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut node = TcpStream::connect_timeout(&address, limit)?;
        node.set_read_timeout(Some(limit))?;
        node.write_all(&request)?;
        let mut answer = [0; 8];
        node.read_exact(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer[4..] == [0, 0, 0, 1])
}

/// What a node's server.properties says.
fn settings(all: &[Address], address: Address, data: &Path) -> String {
    let Address { id, port, controller_port } = address;
    let voter = |node: &Address| format!("{}@127.0.0.1:{}", node.id, node.controller_port);
    let voters = all.iter().map(voter).collect::<Vec<_>>().join(",");
    let replication = all.len().min(3);
    let in_sync = if replication >= 3 { 2 } else { 1 };
    let mut text = format!(
        "process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
",
        data.display()
    );
    for name in ["default", "offsets.topic", "transaction.state.log"] {
        let _infallible = writeln!(text, "{name}.replication.factor={replication}");
    }
    for name in ["min.insync.replicas", "transaction.state.log.min.isr"] {
        let _infallible = writeln!(text, "{name}={in_sync}");
    }
    for name in ["offsets.topic", "transaction.state.log"] {
        let _infallible = writeln!(text, "{name}.num.partitions=4");
    }
    text.push_str(
        "share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
auto.create.topics.enable=false
# Groups form at once, and tests need not wait long for a dead member.
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
group.consumer.min.session.timeout.ms=1000
group.consumer.session.timeout.ms=6000
group.consumer.min.heartbeat.interval.ms=100
group.consumer.heartbeat.interval.ms=300
# Nor for a dead node (9 s, 2 s).
broker.session.timeout.ms=6000
broker.heartbeat.interval.ms=1000
# What its peers lead waits for it until then at the most (30 s).
replica.lag.time.max.ms=2000
# A cleaner that is quick, and small (128 MiB of heap).
log.cleaner.backoff.ms=500
log.cleaner.dedupe.buffer.size=16777216
",
    );
    text
}

/// A random number; not for secrets.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

/// A random id as Kafka writes them: 16 bytes in 22 letters and digits, of which the last holds
/// two bits.
pub(crate) fn uuid() -> String {
    const LETTERS: &[u8; 62] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let letter = |_| {
        let at = usize::try_from(random() % 62).unwrap_or(0);
        char::from(LETTERS[at])
    };
    (0..21).map(letter).chain(['Q']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_elect_each_other_and_want_two_replicas_in_sync() {
        let node = |id: i32| Address { id, port: 15_000, controller_port: 16_000 };
        let text = settings(&[node(1), node(2), node(3)], node(2), Path::new("/d"));
        let has = |line: &str| text.lines().any(|found| found == line);
        assert!(has("node.id=2"));
        assert!(has(
            "controller.quorum.voters=1@127.0.0.1:16000,2@127.0.0.1:16000,3@127.0.0.1:16000"
        ));
        assert!(has("min.insync.replicas=2"));
        assert!(has("offsets.topic.replication.factor=3"));
        let text = settings(&[node(1)], node(1), Path::new("/d"));
        assert!(text.lines().any(|found| found == "min.insync.replicas=1"));
    }

    #[test]
    fn ids_are_as_long_as_kafkas_and_differ() {
        assert_eq!(uuid().len(), 22);
        assert_ne!(uuid(), uuid());
    }
}
