//! May this process still send? Not if nobody can know that it is still in its group.
//!
//! A worker that was stopped for longer than its session (SIGSTOP, a suspended machine) is a
//! zombie: its partitions have new owners, and what it sends would overwrite newer values. The
//! poll loop beats here at least ten times a second; a beat that is late by more than the limit
//! is a thaw.
//!
//! A KIP-848 member that can't reach its coordinator is one, too, and its client does not say so:
//! the broker alone knows the session. So there the group's consent lasts only so long: a third of
//! the session, from when the last accepted commit was *sent*, or an assignment heard. What is sent within it is dead
//! within the session (`message.timeout.ms` is at most half of it). The client of a classic group
//! ends the session by its own clock, and needs no consent.
//!
//! Upholds INV-13.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use pelton_engine::Time;

/// How long the gate stays open by itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GateLimits {
    /// A silence of the poll loop above it is taken for a frozen process.
    pub(crate) silence: Duration,
    /// So long a commit or an assignment is the group's consent; `None`: for ever.
    pub(crate) consent: Option<Duration>,
}

#[derive(Debug)]
pub(crate) struct SendGate {
    last_beat: AtomicU64,
    thaws: AtomicU64,
    consent_ends: AtomicU64,
    limits: GateLimits,
}

impl SendGate {
    pub(crate) fn new(now: Time, limits: GateLimits) -> Self {
        let no_consent_yet = AtomicU64::new(0);
        let (last_beat, thaws) = (AtomicU64::new(now.0), AtomicU64::new(0));
        Self { last_beat, thaws, consent_ends: no_consent_yet, limits }
    }

    /// The poll loop is alive. Returns whether it was not, for too long.
    pub(crate) fn beat(&self, now: Time) -> bool {
        let last = Time(self.last_beat.load(Ordering::Acquire));
        let thawed = now.since(last) > self.limits.silence;
        if thawed {
            // Counted before the beat is stored: a sender sees either the old beat or the thaw.
            self.thaws.fetch_add(1, Ordering::AcqRel);
        }
        self.last_beat.store(now.0, Ordering::Release);
        thawed
    }

    /// The group may take us for gone: whoever sends needs new proof.
    pub(crate) fn doubt(&self) {
        self.consent_ends.store(0, Ordering::Release);
        self.thaws.fetch_add(1, Ordering::AcqRel);
    }

    /// How many thaws there were.
    pub(crate) fn thaws(&self) -> u64 {
        self.thaws.load(Ordering::Acquire)
    }

    /// The group took us for a member at `then` or later: it has accepted a commit that was sent
    /// then, or given us partitions.
    pub(crate) fn consented(&self, then: Time) {
        if let Some(lasts) = self.limits.consent {
            self.consent_ends.fetch_max((then + lasts).0, Ordering::AcqRel);
        }
    }

    /// Is the group's last consent recent enough?
    pub(crate) fn has_consent(&self, now: Time) -> bool {
        self.limits.consent.is_none() || now.0 < self.consent_ends.load(Ordering::Acquire)
    }

    /// May a sender go on, that has proof since thaw number `proved`?
    pub(crate) fn is_open(&self, now: Time, proved: u64) -> bool {
        now.since(Time(self.last_beat.load(Ordering::Acquire))) <= self.limits.silence
            && self.thaws() == proved
            && self.has_consent(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(3);
    const STANDING: GateLimits = GateLimits { silence: LIMIT, consent: None };

    #[test]
    fn inv_13_after_a_silence_nothing_passes_until_there_is_proof() {
        let gate = SendGate::new(Time::ZERO, STANDING);
        assert!(gate.is_open(Time::ZERO + LIMIT, 0));
        let thaw = Time::ZERO + LIMIT * 3;
        // The sender wakes before the poll loop does.
        assert!(!gate.is_open(thaw, 0));
        assert!(gate.beat(thaw));
        assert!(!gate.is_open(thaw, 0));
        assert!(gate.is_open(thaw, gate.thaws()));
        assert!(!gate.beat(thaw + LIMIT));
    }

    #[test]
    fn inv_13_the_groups_consent_lasts_from_when_the_accepted_commit_was_sent() {
        let consent = Some(LIMIT * 2);
        let gate = SendGate::new(Time::ZERO, GateLimits { silence: LIMIT * 9, consent });
        assert!(!gate.is_open(Time::ZERO, 0), "nothing was accepted yet");
        let (sent, answered) = (Time::ZERO + LIMIT, Time::ZERO + LIMIT * 2);
        gate.consented(sent);
        assert!(gate.is_open(answered, 0));
        gate.consented(Time::ZERO); // an older one takes nothing back
        let last = Time((sent + LIMIT * 2).0 - 1);
        assert!(gate.is_open(last, 0));
        assert!(!gate.is_open(sent + LIMIT * 2, 0));
        gate.consented(last);
        gate.doubt();
        assert!(!gate.is_open(last, gate.thaws()), "another member's consent is none");
    }

    /// What the two atomics owe to each other: a sender that sees the new beat sees the thaw, too.
    #[test]
    fn inv_13_a_sender_that_wakes_with_the_poll_loop_finds_the_gate_shut() {
        let rounds = if cfg!(miri) { 4 } else { 300 };
        let thaw = Time::ZERO + LIMIT * 3;
        for _ in 0..rounds {
            let gate = SendGate::new(Time::ZERO, STANDING);
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
        let gate = SendGate::new(Time::ZERO, STANDING);
        gate.doubt();
        assert!(!gate.is_open(Time::ZERO, 0));
        assert!(gate.is_open(Time::ZERO, 1));
    }
}
