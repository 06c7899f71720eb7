//! How does a process say why it ends? Once, on stderr and where Kubernetes looks for it.
//!
//! Nothing here panics, whatever stderr is: closed, full, held by a thread that will never let it
//! go. And nothing waits for long: a process that is to end does so without its last word rather
//! than never.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// Where Kubernetes reads a container's last word, unless a pod says otherwise.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Names another file. No setting: settings may be what is wrong.
const ELSEWHERE: &str = "PELTON_TERMINATION_LOG";

/// Kubernetes keeps so many bytes, the *last* ones; the error code stands at the beginning.
const KEPT_BYTES: usize = 4096;

/// The last word may take so long.
const PATIENCE: Duration = Duration::from_secs(1);

/// Says why this process ends, in one line.
pub(crate) fn say(reason: &str) {
    let file = termination_log(|name| std::env::var_os(name));
    let line = format!("{reason}\n");
    within(PATIENCE, move || {
        if let Some((path, make)) = file {
            // There is nobody left to be told of a failure.
            let _unwritten = note(&path, make, &line).is_err();
        }
        let _unwritten = io::stderr().write_all(line.as_bytes()).is_err();
    });
}

/// Runs `words` on a thread of their own, and waits for them, but not for ever.
fn within(limit: Duration, words: impl FnOnce() + Send + 'static) {
    let (spoken, heard) = mpsc::channel::<()>();
    let speak = move || {
        words();
        drop(spoken);
    };
    if thread::Builder::new().name("pelton-farewell".to_owned()).spawn(speak).is_ok() {
        // Nothing is ever sent: the sender is dropped, or time is up.
        let _spoken_or_late = heard.recv_timeout(limit).is_err();
    }
}

/// The file for the last word, and whether to make it.
fn termination_log(variable: impl Fn(&str) -> Option<OsString>) -> Option<(PathBuf, bool)> {
    match variable(ELSEWHERE) {
        Some(none) if none.is_empty() => None,
        Some(path) => Some((path.into(), true)),
        // Every container in a cluster has this variable.
        None => variable("KUBERNETES_SERVICE_HOST").map(|_| (TERMINATION_LOG.into(), false)),
    }
}

fn note(path: &Path, make: bool, line: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).create(make).open(path)?;
    file.write_all(beginning(line, KEPT_BYTES).as_bytes())
}

/// As many whole characters as fit into `bytes`.
fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(given: &[(&str, &str)]) -> Option<(PathBuf, bool)> {
        termination_log(|name| {
            given.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    #[test]
    fn the_termination_log_is_for_kubernetes_or_for_whoever_names_it() {
        let cluster = ("KUBERNETES_SERVICE_HOST", "10.0.0.1");
        assert_eq!(asked(&[]), None);
        assert_eq!(asked(&[cluster]), Some((TERMINATION_LOG.into(), false)));
        assert_eq!(asked(&[cluster, (ELSEWHERE, "/run/end")]), Some(("/run/end".into(), true)));
        assert_eq!(asked(&[(ELSEWHERE, "end")]), Some(("end".into(), true)));
        assert_eq!(asked(&[cluster, (ELSEWHERE, "")]), None, "an empty name switches it off");
    }

    #[test]
    fn kubernetes_gets_the_beginning_in_whole_characters_and_nothing_older() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("termination-log");
        assert!(note(&path, false, "no file").is_err(), "a file was made where none was");
        std::fs::write(&path, "what an earlier end said, at length".repeat(1000)).unwrap();
        note(&path, false, &format!("error: {}", "é".repeat(KEPT_BYTES))).unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert_eq!(kept.len(), KEPT_BYTES - 1, "an é has two bytes");
        assert!(kept.starts_with("error: é") && kept.ends_with('é'));
        note(&path, false, "short\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "short\n");
    }

    #[test]
    fn words_that_nobody_takes_hold_nothing_up() {
        let (hold, held) = mpsc::channel::<()>();
        within(Duration::from_millis(10), move || {
            let _for_ever = held.recv().is_err();
        });
        assert!(hold.send(()).is_ok(), "it is still at it, and we are not");
    }
}
