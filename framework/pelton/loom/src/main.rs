//! Can two threads come at the send gate or the spared lock in an order that breaks a promise?
//! Every order is tried, with every value that a load may see.
//!
//! `cargo run --release --manifest-path framework/pelton/loom/Cargo.toml`; it says how many models
//! hold, or how two threads came to break one.

#![no_std]
// The files below say `std::sync`: here that is loom's.
extern crate self as std;
extern crate std as standard;

pub mod sync {
    pub use loom::sync::{Mutex, MutexGuard, atomic};
    pub use standard::sync::PoisonError;
}
pub use standard::{collections, time};

#[path = "../../src/output/gate.rs"]
mod gate;
#[path = "../../src/spared_lock.rs"]
mod spared_lock;

use core::time::Duration;

use gate::SendGate;
use loom::sync::Arc;
use loom::thread;
use pelton_engine::Time;
use spared_lock::SparedLock;

const LIMIT: Duration = Duration::from_secs(3);

fn main() {
    let models: [(&str, fn()); 4] = [
        ("INV-13: who sends sees the old beat or the thaw", a_sender_sees_the_old_beat_or_the_thaw),
        ("no doubt is lost beside a thaw", no_doubt_is_lost_beside_a_thaw),
        ("what is put in is not passed over", what_is_put_in_is_not_passed_over),
        ("what is taken is taken once", what_is_taken_is_taken_once),
    ];
    for (name, model) in models {
        loom::model(model);
        standard::println!("holds: {name}");
    }
    standard::println!("{} models hold", models.len());
}

/// The process has thawed: the poll loop beats while a task asks whether it may still send.
fn a_sender_sees_the_old_beat_or_the_thaw() {
    let gate = Arc::new(SendGate::new(Time::ZERO, LIMIT));
    let thawed = Time::ZERO + LIMIT * 2;
    let beating = Arc::clone(&gate);
    let poll_loop = thread::spawn(move || assert!(beating.beat(thawed)));
    assert!(!gate.is_open(thawed, 0), "it sends without proof");
    poll_loop.join().unwrap();
    assert!(!gate.is_open(thawed, 0));
    assert!(gate.is_open(thawed, gate.thaws()));
}

fn no_doubt_is_lost_beside_a_thaw() {
    let gate = Arc::new(SendGate::new(Time::ZERO, LIMIT));
    let doubting = Arc::clone(&gate);
    let other = thread::spawn(move || doubting.doubt());
    gate.beat(Time::ZERO + LIMIT * 2);
    other.join().unwrap();
    assert_eq!(gate.thaws(), 2);
}

/// One finds the last entry over and takes it out while another puts one in.
fn what_is_put_in_is_not_passed_over() {
    let entries = Arc::new(SparedLock::new(Some(1)));
    let putting = Arc::clone(&entries);
    let other = thread::spawn(move || {
        putting.with(|entry| *entry = Some(2));
        assert!(!putting.is_nothing() || putting.with(|entry| entry.is_none()));
    });
    let first = entries.if_there(Option::take).flatten();
    other.join().unwrap();
    let second = entries.if_there(Option::take).flatten();
    assert!(first == Some(2) || second == Some(2), "{first:?}, then {second:?}");
    assert!(entries.is_nothing());
}

fn what_is_taken_is_taken_once() {
    let entries = Arc::new(SparedLock::new(Some(1)));
    let taking = Arc::clone(&entries);
    let other = thread::spawn(move || taking.if_there(Option::take).flatten());
    let here = entries.if_there(Option::take).flatten();
    let there = other.join().unwrap();
    assert_eq!(here.xor(there), Some(1));
}
