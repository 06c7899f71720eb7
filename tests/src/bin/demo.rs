//! `cargo demo`: several workers count logins, come and go, and lose nothing.

use std::process::ExitCode;

fn main() -> ExitCode {
    pelton_tests::demo::main()
}
