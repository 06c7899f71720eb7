//! What if two threads meet in the parts of `pelton` that need no lock? Their files are built here
//! without librdkafka, which Miri can't call, and their tests run under it: it tries other orders of
//! threads, and other orders in which one sees what another has written, with each seed.
//!
//! `cargo +nightly miri test`; upholds INV-13.

#![cfg(test)]
#![allow(dead_code, reason = "who calls them is not here")]

#[path = "../../src/output/gate.rs"]
mod gate;
#[path = "../../src/runtime/in_poll.rs"]
mod in_poll;
#[path = "../../src/spared_lock.rs"]
mod spared_lock;
