//! Does a panic of user code end one attempt, or the process? Only unwinding can be caught.
//!
//! A panicking handler is a failed attempt, tried again with a new instance. Under
//! `panic = "abort"` it would end the process instead, in a loop: the same record comes first
//! after every restart. So a program that aborts does not compile.

#[cfg(panic = "abort")]
compile_error!(
    "Pelton catches the panics of handlers, which panic = \"abort\" makes impossible: a record \
     whose handler panics would end the process at every restart. Remove `panic = \"abort\"` \
     from this profile in Cargo.toml (and `-C panic=abort` from RUSTFLAGS)."
);

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// This file, compiled alone, under a panic strategy.
    fn compile(strategy: &str) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let output = Command::new(rustc)
            .args(["--crate-type=lib", "--emit=metadata", "--edition=2024"])
            .arg(format!("-Cpanic={strategy}"))
            .arg("--out-dir")
            .arg(folder.path())
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/unwind.rs"))
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    }

    #[test]
    fn a_program_that_aborts_on_panic_does_not_compile_and_is_told_why() {
        let (compiles, said) = compile("abort");
        assert!(!compiles, "it compiles");
        assert!(said.contains("Remove `panic = \"abort\"`"), "{said}");
        let (compiles, said) = compile("unwind");
        assert!(compiles, "{said}");
    }
}
