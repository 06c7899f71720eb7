//! Where is the `login-counter` that fits this demo?
//!
//! Cargo builds no binaries of dependencies, so the demo asks cargo for it. Both packages are named
//! in that call: features are then resolved as they were for the demo, and nothing that is already
//! built is built again.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::demo::error::DemoError;

/// Builds the worker and says where it is. A demo that was not started by cargo takes the one
/// beside itself.
pub(super) fn login_counter() -> Result<PathBuf, DemoError> {
    let own = std::env::current_exe().map_err(|error| DemoError::Build(error.to_string()))?;
    let folder = own.parent().unwrap_or_else(|| Path::new("."));
    let Some(cargo) = std::env::var_os("CARGO") else {
        let beside = folder.join("login-counter");
        return if beside.exists() {
            Ok(beside)
        } else {
            let reason = format!("{} is missing; start the demo with cargo demo", beside.display());
            Err(DemoError::Build(reason))
        };
    };
    let built = Command::new(cargo)
        .args(["build", "--quiet", "--package", "pelton-tests", "--package", "login-counter"])
        .args(["--bin", "login-counter", "--message-format", "json-render-diagnostics"])
        .args(["--profile", profile(folder)])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| DemoError::Build(error.to_string()))?;
    if !built.status.success() {
        return Err(DemoError::Build(format!("cargo build ended with {}", built.status)));
    }
    executable(&built.stdout)
        .ok_or_else(|| DemoError::Build("cargo build did not say where it is".to_owned()))
}

/// Cargo's name of the profile whose files are in `folder`.
fn profile(folder: &Path) -> &str {
    match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    }
}

/// The executable that cargo's messages name.
fn executable(messages: &[u8]) -> Option<PathBuf> {
    messages.split(|byte| *byte == b'\n').find_map(|line| {
        let message: serde_json::Value = serde_json::from_slice(line).ok()?;
        (message["target"]["name"] == "login-counter")
            .then(|| message["executable"].as_str().map(PathBuf::from))?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_executable_is_found_among_cargos_messages() {
        let messages =
            br#"{"reason":"compiler-artifact","target":{"name":"pelton"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"login-counter"},"executable":"/t/login-counter"}
{"reason":"build-finished","success":true}
"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/login-counter")));
        assert_eq!(executable(b"\nnonsense"), None);
    }

    #[test]
    fn a_profile_is_named_by_its_folder() {
        assert_eq!(profile(Path::new("/t/target/debug")), "dev");
        assert_eq!(profile(Path::new("/t/target/release")), "release");
    }
}
