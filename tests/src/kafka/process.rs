//! How is another program run to its end, but not for ever?

use std::process::{Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::ClusterError;

/// Runs a program to its end and gives what it said; kills it when it takes longer than
/// `within`.
pub(crate) fn output(
    what: &str,
    mut command: Command,
    within: Duration,
) -> Result<Output, ClusterError> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().map_err(ClusterError::io(what))?;
    let pid = i32::try_from(child.id()).map(Pid::from_raw);
    let (send, ended) = mpsc::channel();
    let waiting = std::thread::spawn(move || send.send(child.wait_with_output()).is_ok());
    if let Ok(output) = ended.recv_timeout(within) {
        return output.map_err(ClusterError::io(what));
    }
    // It has not been waited for yet, so the number is still its own.
    if let Ok(pid) = pid {
        let _gone_already = kill(pid, Signal::SIGKILL);
    }
    let _killed = waiting.join();
    Err(ClusterError::Late { what: what.to_owned(), within, last: String::new() })
}

/// The last lines of what a program said.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_takes_too_long_is_killed() {
        let mut sleep = Command::new("sleep");
        sleep.arg("60");
        let late = output("sleeping", sleep, Duration::from_millis(100)).unwrap_err();
        assert!(matches!(late, ClusterError::Late { .. }), "{late}");
    }

    #[test]
    fn the_tail_is_the_end() {
        assert_eq!(tail("a\nb\nc", 2), "b\nc");
        assert_eq!(tail("", 2), "");
    }
}
