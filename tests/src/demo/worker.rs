//! How is a worker process started, watched and ended?

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pelton::admin::PartitionStatus;

use crate::demo::admin;
use crate::demo::clock::Clock;
use crate::demo::error::DemoError;

/// A process of `login-counter`. Dropping it ends the process: politely, then by force.
#[derive(Debug)]
pub(super) struct WorkerProcess {
    pub(super) name: String,
    pub(super) log: PathBuf,
    child: Child,
    address: Option<SocketAddr>,
    /// What it owned when it was asked last.
    pub(super) partitions: Vec<PartitionStatus>,
    /// Whether it was ready then; one that owns nothing is idle.
    pub(super) ready: bool,
    pub(super) life: Life,
}

/// ```text
///  Alive ──stop──► Stopping ──► Ended
///    └────kill───────────────────▲
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    Alive,
    Stopping,
    Ended,
}

impl WorkerProcess {
    /// Starts `program` with `settings` (names of environment variables and their values); its log
    /// goes to a file in `logs`. No other Pelton setting of this process's environment reaches it.
    pub(super) fn start(
        program: &Path,
        name: &str,
        settings: &[(String, String)],
        logs: &Path,
    ) -> Result<Self, DemoError> {
        let failed = |source| DemoError::Start { name: name.to_owned(), source };
        let log = logs.join(format!("{name}.log"));
        let out = File::create(&log).map_err(failed)?;
        let mut command = Command::new(program);
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PELTON__") {
                command.env_remove(variable);
            }
        }
        let child = command
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .env("PELTON__CLIENT_ID", name)
            .env("PELTON__ADMIN__LISTEN", "127.0.0.1:0")
            .env("PELTON__LOG__FORMAT", "json")
            .stdin(Stdio::null())
            .stdout(out.try_clone().map_err(failed)?)
            .stderr(out)
            .spawn()
            .map_err(failed)?;
        Ok(Self {
            name: name.to_owned(),
            log,
            child,
            address: None,
            partitions: Vec::new(),
            ready: false,
            life: Life::Alive,
        })
    }

    /// Asks what it owns. A worker that does not answer now keeps its last answer.
    pub(super) fn look(&mut self) {
        if self.life == Life::Ended {
            return;
        }
        if self.address.is_none() {
            self.address = address_in(&self.log);
        }
        let Some(address) = self.address else {
            return;
        };
        if let Ok(partitions) = admin::partitions(address) {
            self.partitions = partitions;
            self.ready = admin::is_ready(address);
        }
    }

    /// Its exit status, once it has ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.try_wait().ok().flatten()?;
        self.life = Life::Ended;
        self.partitions.clear();
        Some(status)
    }

    /// Asks it to end: it drains, commits and leaves.
    pub(super) fn stop(&mut self) -> Result<(), DemoError> {
        self.life = Life::Stopping;
        self.signal(Signal::SIGTERM)
    }

    /// Ends it without a warning.
    pub(super) fn kill(&mut self) -> Result<(), DemoError> {
        self.signal(Signal::SIGKILL)?;
        self.life = Life::Ended;
        let _status = self.child.wait();
        Ok(())
    }

    fn signal(&self, signal: Signal) -> Result<(), DemoError> {
        let failed = |reason: String| DemoError::Signal { name: self.name.clone(), reason };
        let id = i32::try_from(self.child.id()).map_err(|error| failed(error.to_string()))?;
        kill(Pid::from_raw(id), signal).map_err(|error| failed(error.to_string()))
    }
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        const POLITE: Duration = Duration::from_secs(3);
        if self.ended().is_some() || self.life == Life::Ended {
            return;
        }
        let _asked = self.signal(Signal::SIGTERM);
        let clock = Clock::start();
        while clock.elapsed() < POLITE && self.ended().is_none() {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _killed = self.child.kill();
        let _status = self.child.wait();
    }
}

/// Where the worker's log says that its admin endpoint listens.
fn address_in(log: &Path) -> Option<SocketAddr> {
    let lines = BufReader::new(File::open(log).ok()?).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        (line["message"] == "admin endpoint").then(|| line["address"].as_str()?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_endpoint_is_found_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        assert_eq!(address_in(&log), None);
        std::fs::write(&log, "no json\n{\"message\":\"assigned\"}\n").unwrap();
        assert_eq!(address_in(&log), None);
        let line = "\n{\"message\":\"admin endpoint\",\"address\":\"127.0.0.1:81\"}\n{\"messa";
        std::fs::write(&log, line).unwrap();
        assert_eq!(address_in(&log), Some(SocketAddr::from(([127, 0, 0, 1], 81))));
    }

    #[test]
    fn a_worker_that_is_dropped_is_gone_even_if_it_does_not_listen() {
        let folder = tempfile::tempdir().unwrap();
        let deaf = folder.path().join("deaf.sh");
        std::fs::write(&deaf, "#!/bin/sh\ntrap '' TERM\nwhile :; do sleep 0.1; done\n").unwrap();
        let mut rights = std::fs::metadata(&deaf).unwrap().permissions();
        std::os::unix::fs::PermissionsExt::set_mode(&mut rights, 0o755);
        std::fs::set_permissions(&deaf, rights).unwrap();
        let worker = WorkerProcess::start(&deaf, "deaf", &[], folder.path()).unwrap();
        let id = Pid::from_raw(i32::try_from(worker.child.id()).unwrap());
        assert!(kill(id, None).is_ok());
        drop(worker);
        assert_eq!(kill(id, None), Err(nix::errno::Errno::ESRCH));
    }
}
