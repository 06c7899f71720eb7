//! `cargo bench-worker`: what does a worker cost a record, and how much does it keep in flight? Without a broker.

use std::process::ExitCode;

fn main() -> ExitCode {
    pelton_tests::bench::main()
}
