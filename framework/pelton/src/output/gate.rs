//! May this process still send? Not if it was frozen and nobody has proved it alive since.
//!
//! A worker that was stopped for longer than its session (SIGSTOP, a suspended machine) is a
//! zombie: its partitions have new owners, and what it sends would overwrite newer values. The
//! poll loop beats here at least ten times a second; a beat that is late by more than the limit
//! is a thaw. Upholds INV-13: after a thaw nothing is sent before the group has accepted a
//! commit that was sent after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pelton_engine::Time;

#[derive(Debug)]
pub(crate) struct SendGate {
    last_beat: AtomicU64,
    thaws: AtomicU64,
    limit: Duration,
}

impl SendGate {
    /// A gate that takes a silence of more than `limit` for a thaw.
    pub(crate) fn new(now: Time, limit: Duration) -> Self {
        Self { last_beat: AtomicU64::new(now.0), thaws: AtomicU64::new(0), limit }
    }

    /// The poll loop is alive. Returns whether it was not, for too long.
    pub(crate) fn beat(&self, now: Time) -> bool {
        let last = Time(self.last_beat.load(Ordering::Acquire));
        let thawed = now.since(last) > self.limit;
        if thawed {
            // Counted before the beat is stored: a sender sees either the old beat or the thaw.
            self.thaws.fetch_add(1, Ordering::AcqRel);
        }
        self.last_beat.store(now.0, Ordering::Release);
        thawed
    }

    /// The group may take us for gone: whoever sends needs new proof.
    pub(crate) fn doubt(&self) {
        self.thaws.fetch_add(1, Ordering::AcqRel);
    }

    /// How many thaws there were.
    pub(crate) fn thaws(&self) -> u64 {
        self.thaws.load(Ordering::Acquire)
    }

    /// May a sender go on, that has proof since thaw number `proved`?
    pub(crate) fn is_open(&self, now: Time, proved: u64) -> bool {
        now.since(Time(self.last_beat.load(Ordering::Acquire))) <= self.limit
            && self.thaws() == proved
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);

    #[test]
    fn inv_13_after_a_silence_nothing_passes_until_there_is_proof() {
        let gate = SendGate::new(Time::ZERO, LIMIT);
        assert!(gate.is_open(Time::ZERO + LIMIT, 0));
        let thaw = Time::ZERO + LIMIT * 3;
        // The sender wakes before the poll loop does.
        assert!(!gate.is_open(thaw, 0));
        assert!(gate.beat(thaw));
        assert!(!gate.is_open(thaw, 0));
        assert!(gate.is_open(thaw, gate.thaws()));
        assert!(!gate.beat(thaw + LIMIT));
    }

    /// What the two atomics owe to each other: a sender that sees the new beat sees the thaw, too.
    #[test]
    fn inv_13_a_sender_that_wakes_with_the_poll_loop_finds_the_gate_shut() {
        let rounds = if cfg!(miri) { 4 } else { 300 };
        let thaw = Time::ZERO + LIMIT * 3;
        for _ in 0..rounds {
            let gate = SendGate::new(Time::ZERO, LIMIT);
            std::thread::scope(|threads| {
                threads.spawn(|| assert!(gate.beat(thaw)));
                // To see the beat is no more than that: it is `is_open` that has to see the rest.
                while gate.last_beat.load(Ordering::Relaxed) < thaw.0 {
                    assert!(!gate.is_open(thaw, 0));
                    std::thread::yield_now();
                }
                assert!(!gate.is_open(thaw, 0));
            });
            assert!(gate.is_open(thaw, 1));
        }
    }

    #[test]
    fn a_doubt_shuts_the_gate_until_there_is_proof_of_later() {
        let gate = SendGate::new(Time::ZERO, LIMIT);
        gate.doubt();
        assert!(!gate.is_open(Time::ZERO, 0));
        assert!(gate.is_open(Time::ZERO, 1));
    }
}
