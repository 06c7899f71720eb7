//! What is done to a run, and when? All of it follows from a seed: storms of troubles that overlap,
//! and rest between them.

use std::fmt;
use std::time::Duration;

use crate::suites::spell::{Spell, Trouble};

/// Troubles of a storm begin within so long.
const BEGIN_MS: u64 = 8_000;

/// Nodes of the cluster.
const NODES: u64 = 3;

/// Something that is done. Lots choose among those who are there at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// A worker is killed; a supervisor starts another one, or does not.
    Kill {
        /// Whom.
        lot: u64,
        /// Is another started at once?
        replace: bool,
    },
    /// A worker is frozen.
    Freeze {
        /// Whom.
        lot: u64,
    },
    /// It goes on.
    Thaw,
    /// A worker joins.
    Join,
    /// A worker is asked to end.
    Leave {
        /// Who.
        lot: u64,
    },
    /// A node of the cluster ends.
    BrokerDown {
        /// Which.
        node: i32,
        /// By SIGTERM instead of SIGKILL?
        gently: bool,
    },
    /// It is started again.
    BrokerUp {
        /// Which.
        node: i32,
    },
    /// The network becomes bad.
    Network(Spell),
    /// Connections are reset.
    Reset {
        /// At which gate.
        lot: u64,
    },
    /// The network is good again.
    Heal,
}

/// An act at its time, counted from the storm's beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deed {
    /// When.
    pub at: Duration,
    /// What.
    pub act: Act,
}

/// Troubles that overlap, in order of time; each that lasts has its end in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storm {
    /// In order.
    pub deeds: Vec<Deed>,
    /// How long nothing is done after it, once all is well.
    pub rest: Duration,
}

/// The storms that follow from a seed.
///
/// ```
/// use pelton_tests::suites::nemesis::storms;
/// assert_eq!(storms(7, 3), storms(7, 3));
/// assert_ne!(storms(7, 3), storms(8, 3));
/// println!("{}", storms(7, 1)[0]);
/// ```
#[must_use]
pub fn storms(seed: u64, count: usize) -> Vec<Storm> {
    let mut lots = Lots(seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    (0..count).map(|_| lots.storm()).collect()
}

/// xorshift64.
struct Lots(u64);

impl Lots {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit.max(1)
    }

    fn between(&mut self, from_ms: u64, to_ms: u64) -> Duration {
        Duration::from_millis(from_ms + self.below(to_ms - from_ms))
    }

    /// A random subset of the five kinds of trouble, never none of them.
    fn storm(&mut self) -> Storm {
        let subset = 1 + self.below(31);
        let mut deeds = Vec::new();
        for kind in (0..5_u32).filter(|kind| subset >> kind & 1 == 1) {
            let at = self.between(0, BEGIN_MS);
            match kind {
                0 => self.kills(at, &mut deeds),
                1 => self.freeze(at, &mut deeds),
                2 => self.changes(at, &mut deeds),
                3 => self.bounce(at, &mut deeds),
                _ => self.network(at, &mut deeds),
            }
        }
        deeds.sort_by_key(|deed| deed.at);
        Storm { deeds, rest: self.between(1_000, 5_000) }
    }

    fn kills(&mut self, mut at: Duration, deeds: &mut Vec<Deed>) {
        for _ in 0..=self.below(2) {
            let (lot, replace) = (self.draw(), self.below(2) == 0);
            deeds.push(Deed { at, act: Act::Kill { lot, replace } });
            at += self.between(500, 5_000);
        }
    }

    fn freeze(&mut self, at: Duration, deeds: &mut Vec<Deed>) {
        deeds.push(Deed { at, act: Act::Freeze { lot: self.draw() } });
        deeds.push(Deed { at: at + self.between(1_000, 20_000), act: Act::Thaw });
    }

    fn changes(&mut self, mut at: Duration, deeds: &mut Vec<Deed>) {
        for _ in 0..=self.below(3) {
            let lot = self.draw();
            let act = if self.below(2) == 0 { Act::Join } else { Act::Leave { lot } };
            deeds.push(Deed { at, act });
            at += self.between(200, 4_000);
        }
    }

    fn bounce(&mut self, at: Duration, deeds: &mut Vec<Deed>) {
        let node = i32::try_from(self.below(NODES)).unwrap_or(0) + 1;
        deeds.push(Deed { at, act: Act::BrokerDown { node, gently: self.below(2) == 0 } });
        deeds.push(Deed { at: at + self.between(500, 12_000), act: Act::BrokerUp { node } });
    }

    fn network(&mut self, at: Duration, deeds: &mut Vec<Deed>) {
        let trouble = match self.below(5) {
            0 => Trouble::DeafBroker,
            1 => Trouble::MuteBroker,
            2 => Trouble::Resets,
            3 => Trouble::Late,
            _ => Trouble::Narrow,
        };
        let mut spell = Spell::of(trouble, self.between(1_000, 15_000));
        if self.below(2) == 0 {
            spell = spell.behind(usize::try_from(self.below(2)).unwrap_or(0));
        }
        if self.below(2) == 0 {
            spell = spell.at(i32::try_from(self.below(NODES)).unwrap_or(0) + 1);
        }
        deeds.push(Deed { at, act: Act::Network(spell) });
        let end = at + spell.length;
        let mut next = at;
        while trouble == Trouble::Resets && next < end {
            deeds.push(Deed { at: next, act: Act::Reset { lot: self.draw() } });
            next += self.between(100, 800);
        }
        deeds.push(Deed { at: end, act: Act::Heal });
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kill { replace: true, .. } => f.write_str("kill a worker, and start another"),
            Self::Kill { .. } => f.write_str("kill a worker"),
            Self::Freeze { .. } => f.write_str("freeze a worker"),
            Self::Thaw => f.write_str("thaw it"),
            Self::Join => f.write_str("a worker joins"),
            Self::Leave { .. } => f.write_str("a worker leaves"),
            Self::BrokerDown { node, gently: true } => write!(f, "stop broker {node}"),
            Self::BrokerDown { node, .. } => write!(f, "kill broker {node}"),
            Self::BrokerUp { node } => write!(f, "start broker {node}"),
            Self::Network(spell) => write!(f, "network {spell}"),
            Self::Reset { .. } => f.write_str("reset connections"),
            Self::Heal => f.write_str("network good"),
        }
    }
}

impl fmt::Display for Deed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s {}", self.at.as_secs_f64(), self.act)
    }
}

/// Without single resets: they are many.
impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let told = self.deeds.iter().filter(|deed| !matches!(deed.act, Act::Reset { .. }));
        let told: Vec<_> = told.map(ToString::to_string).collect();
        write!(f, "{}; rest {:.1} s", told.join("; "), self.rest.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_trouble_comes_and_each_that_lasts_ends() {
        let storms = storms(1, 400);
        let mut kinds = BTreeSet::new();
        for storm in &storms {
            assert!(storm.deeds.is_sorted_by_key(|deed| deed.at) && !storm.deeds.is_empty());
            let count = |is: fn(&Act) -> bool| storm.deeds.iter().filter(|d| is(&d.act)).count();
            let freezes = count(|act| matches!(act, Act::Freeze { .. }));
            assert_eq!(freezes, count(|act| matches!(act, Act::Thaw)));
            let down = count(|act| matches!(act, Act::BrokerDown { .. }));
            assert_eq!(down, count(|act| matches!(act, Act::BrokerUp { .. })));
            assert!(down <= 1, "two of three nodes must be there");
            assert_eq!(
                count(|act| matches!(act, Act::Network(_))),
                count(|act| matches!(act, Act::Heal))
            );
            kinds.extend(storm.deeds.iter().map(|deed| match deed.act {
                Act::Network(spell) => spell.trouble.to_string(),
                act => act.to_string(),
            }));
        }
        for kind in ["kill a worker", "freeze a worker", "a worker joins", "a worker leaves"] {
            assert!(kinds.contains(kind), "{kind}: {kinds:?}");
        }
        for kind in ["stop broker 1", "kill broker 3", "deaf-broker", "mute-broker", "resets"] {
            assert!(kinds.contains(kind), "{kind}: {kinds:?}");
        }
    }
}
