//! Does a worker end, and say why, when nobody hears it? Its stderr is closed, or full.

use std::io::{PipeReader, PipeWriter, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pelton_tests::{Trial, wait_for, worker};

use crate::{insist, say};

/// Well above what each end takes, well below for ever.
const SOON: Duration = Duration::from_secs(20);

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("a_worker_whose_stderr_is_closed_ends_with_its_reason", closed),
        Trial::new("a_worker_whose_stderr_is_full_ends_within_its_time", || {
            let ended = full(1)?;
            ended.hold(5, "error: PLT-0503: the shutdown did not finish within 1s")
        }),
        Trial::new("a_worker_whose_stderr_is_full_ends_at_once_at_a_second_signal", || {
            let ended = full(2)?;
            ended.hold(128 + 15, "ended at once by a second SIGTERM")
        }),
    ]
}

/// A worker without a cluster, and what Kubernetes would hear of it.
struct Lonely {
    child: Child,
    folder: tempfile::TempDir,
    second: bool,
}

impl Lonely {
    fn start(settings: &[(&str, &str)], stderr: PipeWriter) -> Result<Self, Failed> {
        let folder = tempfile::tempdir()?;
        let mut command: Command = worker::command()?;
        command
            .envs(settings.iter().copied())
            .env("PELTON_TERMINATION_LOG", folder.path().join("end"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        Ok(Self { child: command.spawn()?, folder, second: false })
    }

    fn signal(&self) -> Result<(), Failed> {
        let id = Pid::from_raw(i32::try_from(self.child.id())?);
        Ok(kill(id, Signal::SIGTERM)?)
    }

    fn termination_log(&self) -> PathBuf {
        self.folder.path().join("end")
    }

    fn wait(&mut self) -> Result<ExitStatus, Failed> {
        let ended = wait_for("the worker's end", SOON, || {
            let ended = self.child.try_wait().ok()?;
            if ended.is_none() && self.second {
                // Until the first one is taken, another is the same to the system.
                self.signal().ok()?;
            }
            ended
        });
        Ok(ended?)
    }

    fn hold(mut self, exit: i32, reason: &str) -> Result<(), Failed> {
        let status = self.wait()?;
        insist(status.code() == Some(exit), || status.to_string())?;
        let said = std::fs::read_to_string(self.termination_log())?;
        insist(said.starts_with(reason) && said.ends_with('\n'), || said.clone())?;
        say(said.trim_end());
        Ok(())
    }
}

impl Drop for Lonely {
    fn drop(&mut self) {
        // It has ended, unless the test has failed.
        let _gone = self.child.kill().is_err();
        let _reaped = self.child.wait().is_err();
    }
}

fn closed() -> Result<(), Failed> {
    let (reader, writer) = std::io::pipe()?;
    drop(reader);
    Lonely::start(&[("PELTON__GUARANTEE", "certainly")], writer)?.hold(2, "error: PLT-0105: ")
}

/// A worker that was asked to end so many times, while its first log line finds no room.
fn full(signals: u32) -> Result<Lonely, Failed> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let (_never_read, writer) = full_pipe()?;
    let limit = if signals == 1 { "1s" } else { "1h" };
    let settings = [
        ("PELTON__BOOTSTRAP_SERVERS", "127.0.0.1:9"),
        ("PELTON__AUTO_OFFSET_RESET", "earliest"),
        ("PELTON__ADMIN__LISTEN", &*port.to_string()),
        ("PELTON__SHUTDOWN_TIMEOUT", limit),
    ];
    let mut worker = Lonely::start(&settings, writer)?;
    // Signals are heard from before it listens, and the line that says so is stuck.
    wait_for("the endpoint's port", SOON, || TcpStream::connect(port).ok())?;
    worker.signal()?;
    worker.second = signals > 1;
    let status = worker.wait()?;
    say(&format!("stderr is full: {status}"));
    Ok(worker)
}

fn full_pipe() -> Result<(PipeReader, PipeWriter), Failed> {
    let (reader, mut writer) = std::io::pipe()?;
    let flags = OFlag::from_bits_truncate(fcntl(&writer, FcntlArg::F_GETFL)?);
    fcntl(&writer, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    // To the last byte: a short line must not fit either.
    for size in [4096, 1] {
        while writer.write(&vec![b'.'; size]).is_ok() {}
    }
    fcntl(&writer, FcntlArg::F_SETFL(flags))?;
    Ok((reader, writer))
}
