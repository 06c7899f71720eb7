//! Who ends the nodes and workers when the test that started them is killed? A small shell script beside it.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use crate::ClusterError;

/// Holds the reaper's input open; when this goes, by drop or with the whole process, the nodes
/// that run are killed and the cluster's folder is removed (`reaper.sh`).
#[derive(Debug)]
pub(crate) struct Reaper {
    process: Mutex<Child>,
}

impl Reaper {
    pub(crate) fn start(folder: &Path) -> Result<Self, ClusterError> {
        let mut command = Command::new("sh");
        command.arg("-c").arg(include_str!("reaper.sh")).arg("reaper").arg(folder);
        // A group of its own: Ctrl-C is for the test, and the reaper must outlive it.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().map_err(ClusterError::io("starting the reaper"))?;
        Ok(Self { process: Mutex::new(process) })
    }

    /// This process is a node.
    pub(crate) fn runs(&self, pid: u32) -> Result<(), ClusterError> {
        self.tell(&format!("run {pid}"))
    }

    /// This one has ended; its number may become another's.
    pub(crate) fn ended(&self, pid: u32) -> Result<(), ClusterError> {
        self.tell(&format!("ended {pid}"))
    }

    /// The nodes and the folder stay.
    pub(crate) fn release(&self) -> Result<(), ClusterError> {
        self.tell("release")?;
        // It is gone with that: nothing more to tell it.
        drop(self.process.lock().unwrap_or_else(PoisonError::into_inner).stdin.take());
        Ok(())
    }

    fn tell(&self, line: &str) -> Result<(), ClusterError> {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        match &mut process.stdin {
            Some(input) => writeln!(input, "{line}").map_err(ClusterError::io("the reaper")),
            None => Ok(()),
        }
    }
}

impl Drop for Reaper {
    fn drop(&mut self) {
        let process = self.process.get_mut().unwrap_or_else(PoisonError::into_inner);
        drop(process.stdin.take());
        // Nothing can be done about an error here.
        let _ended = process.wait();
    }
}
