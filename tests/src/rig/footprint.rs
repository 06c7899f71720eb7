//! What does a process hold of the system at this moment? Open files, threads, memory.

use std::fs;
use std::path::{Path, PathBuf};

use crate::ClusterError;

/// What a process holds. Linux only: it is read from `/proc`.
///
/// ```
/// use pelton_tests::Footprint;
///
/// let own = Footprint::of(std::process::id())?;
/// assert!(own.threads >= 1 && own.resident_bytes > 0);
/// # Ok::<(), pelton_tests::ClusterError>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Footprint {
    /// Open sockets.
    pub sockets: usize,
    /// Other open files: pipes, event queues, files.
    pub files: usize,
    /// Threads.
    pub threads: usize,
    /// Clients of librdkafka: their main threads.
    pub clients: usize,
    /// Memory in use (RSS).
    pub resident_bytes: u64,
}

/// How librdkafka calls the main thread of each client.
const CLIENT: &str = "rdk:main";

impl Footprint {
    /// Of the process with this number. What ends while it is read is not counted.
    ///
    /// # Errors
    ///
    /// If there is no such process.
    pub fn of(pid: u32) -> Result<Self, ClusterError> {
        let folder = Path::new("/proc").join(pid.to_string());
        let targets: Vec<PathBuf> = entries(&folder.join("fd"))?
            .into_iter()
            .filter_map(|path| fs::read_link(path).ok())
            .collect();
        let is_socket = |target: &&PathBuf| target.to_string_lossy().starts_with("socket:");
        let sockets = targets.iter().filter(is_socket).count();
        let tasks = entries(&folder.join("task"))?;
        let name = |task: &PathBuf| fs::read_to_string(task.join("comm")).ok();
        let clients = tasks.iter().filter_map(name).filter(|name| name.trim() == CLIENT).count();
        let status = folder.join("status");
        let io = ClusterError::io(status.display().to_string());
        let status = fs::read_to_string(status).map_err(io)?;
        let resident = status.lines().find_map(|line| {
            let value = line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?;
            value.parse::<u64>().ok()
        });
        Ok(Self {
            sockets,
            files: targets.len() - sockets,
            threads: tasks.len(),
            clients,
            resident_bytes: resident.unwrap_or(0) * 1024,
        })
    }

    /// The most of each.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            sockets: self.sockets.max(other.sockets),
            files: self.files.max(other.files),
            threads: self.threads.max(other.threads),
            clients: self.clients.max(other.clients),
            resident_bytes: self.resident_bytes.max(other.resident_bytes),
        }
    }

    /// All open file descriptors.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        self.sockets + self.files
    }
}

impl std::fmt::Display for Footprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { sockets, files, threads, clients, resident_bytes } = self;
        let mib = resident_bytes / (1024 * 1024);
        write!(
            f,
            "{sockets} sockets, {files} other files, {threads} threads, {clients} clients, "
        )?;
        write!(f, "{mib} MiB")
    }
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, ClusterError> {
    let io = || ClusterError::io(folder.display().to_string());
    fs::read_dir(folder).map_err(io())?.map(|entry| Ok(entry.map_err(io())?.path())).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn open_files_and_sockets_and_threads_are_counted() -> Result<(), Box<dyn std::error::Error>> {
        // Other tests of this process come and go: more is sure, how many is not.
        let files: Vec<_> = (0..200).map(|_| File::open("/dev/null")).collect();
        let sockets: Vec<_> = (0..100).map(|_| TcpListener::bind("127.0.0.1:0")).collect();
        let seen = Footprint::of(std::process::id())?;
        assert!(seen.files >= 200 && seen.sockets >= 100, "{seen}");
        assert!(files.iter().all(Result::is_ok) && sockets.iter().all(Result::is_ok));
        assert!(seen.resident_bytes > 1024 * 1024, "{seen}");
        Ok(())
    }
}
