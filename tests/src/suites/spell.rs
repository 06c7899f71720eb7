//! What is done to the network between workers and brokers: what is wrong, for whom, for how long?

use std::fmt;
use std::time::Duration;

use crate::rig::Rig;
use crate::waiting::Deadline;
use crate::{ClusterError, KafkaCluster, Proxy, Way, Weather};

/// 1 Mbit/s.
const NARROW: u64 = 125_000;

/// What arrives late arrives so much later, in each direction.
const LATE: Duration = Duration::from_millis(500);

/// … or so much more or less.
const JITTER: Duration = Duration::from_millis(250);

/// Who was cut off for so long may have a successor. What it had sent must not arrive any more: an
/// older value would be the last one, and only transactions prevent that (`docs/guarantees.md`,
/// "One owner"). A run that goes on over it would tell by chance; the suite `network-late-writes`
/// looks at it.
const SUCCEEDED: Duration = Duration::from_secs(5);

/// A reset is done within so long.
const DONE: Duration = Duration::from_millis(200);

/// What is wrong with a network.
///
/// ```
/// use pelton_tests::suites::spell::Trouble;
/// assert_eq!(Trouble::DeafBroker.to_string(), "deaf-broker");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nothing reaches the broker; what it says reaches clients.
    DeafBroker,
    /// Nothing that the broker says reaches clients; it hears them.
    MuteBroker,
    /// Connections are reset several times a second, and new ones refused now and then.
    Resets,
    /// Everything takes 500 ms ± 250 ms, each way.
    Late,
    /// Each broker's way carries 1 Mbit/s, each way.
    Narrow,
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::DeafBroker, Self::MuteBroker, Self::Resets, Self::Late, Self::Narrow];

    fn weather(self) -> Weather {
        match self {
            Self::DeafBroker => Weather { to_broker: Way::dead(), ..Weather::default() },
            Self::MuteBroker => Weather { to_client: Way::dead(), ..Weather::default() },
            Self::Resets => Weather::default(),
            Self::Late => Weather::both(Way::delayed(LATE, JITTER)),
            Self::Narrow => Weather::both(Way::limited(NARROW)),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeafBroker => "deaf-broker",
            Self::MuteBroker => "mute-broker",
            Self::Resets => "resets",
            Self::Late => "late",
            Self::Narrow => "narrow",
        })
    }
}

/// A time in which the network is bad.
///
/// ```
/// use pelton_tests::suites::spell::{Spell, Trouble};
/// use std::time::Duration;
///
/// let spell = Spell::of(Trouble::Late, Duration::from_secs(30)).behind(1).at(3);
/// assert_eq!(spell.to_string(), "late for 30.0 s behind proxy 1 at broker 3");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spell {
    /// What is wrong.
    pub trouble: Trouble,
    /// For how long.
    pub length: Duration,
    /// Only for workers behind this proxy; for all without it.
    pub proxy: Option<usize>,
    /// Only on the way to this broker; to all without it.
    pub broker: Option<i32>,
}

impl Spell {
    /// For all workers, and on the way to all brokers.
    #[must_use]
    pub fn of(trouble: Trouble, length: Duration) -> Self {
        Self { trouble, length, proxy: None, broker: None }
    }

    /// Only for workers behind one proxy.
    #[must_use]
    pub fn behind(self, proxy: usize) -> Self {
        Self { proxy: Some(proxy), ..self }
    }

    /// Only on the way to one broker.
    #[must_use]
    pub fn at(self, broker: i32) -> Self {
        Self { broker: Some(broker), ..self }
    }

    /// How many connections stand at its gates.
    ///
    /// # Errors
    ///
    /// If there are no such gates.
    pub fn meets(&self, kafka: &KafkaCluster) -> Result<usize, ClusterError> {
        self.gates(kafka)?.iter().map(|(proxy, gate)| proxy.live(*gate)).sum()
    }

    /// Writes it down and begins it.
    ///
    /// # Errors
    ///
    /// If it can't be carried out: there are no such gates, or no connection stands at any of
    /// them, so that nobody would notice.
    pub fn begin(&self, rig: &Rig<'_, KafkaCluster>) -> Result<(), ClusterError> {
        let gates = self.gates(rig.cluster())?;
        if self.meets(rig.cluster())? == 0 {
            let reason = "no connection stands there: are the workers behind the proxies?";
            return Err(ClusterError::refused(format!("{self}"), reason));
        }
        let told = rig.faults().network(&self.trouble.to_string());
        told.map_err(ClusterError::io("the fault log"))?;
        gates.iter().try_for_each(|(proxy, gate)| proxy.set(*gate, self.trouble.weather()))
    }

    /// Lasts as long as it is to last; how many connections it has reset.
    ///
    /// # Errors
    ///
    /// If there are no such gates.
    pub fn last(
        &self,
        rig: &Rig<'_, KafkaCluster>,
        mut random: impl FnMut() -> u64,
    ) -> Result<usize, ClusterError> {
        let over = Deadline::after(self.length);
        if self.trouble != Trouble::Resets {
            std::thread::sleep(over.left());
            return Ok(0);
        }
        let mut reset = 0;
        while !over.has_passed() {
            reset += self.reset_some(rig.cluster(), random())?;
            std::thread::sleep(Duration::from_millis(100 + random() % 700).min(over.left()));
        }
        Ok(reset)
    }

    /// Resets what stands at one of its gates; every third time nobody gets in there until the
    /// next time. How many connections those were.
    ///
    /// # Errors
    ///
    /// If there are no such gates.
    pub fn reset_some(&self, kafka: &KafkaCluster, lot: u64) -> Result<usize, ClusterError> {
        let gates = self.gates(kafka)?;
        let at = lot % u64::try_from(gates.len().max(1)).unwrap_or(1);
        let mut reset = 0;
        for (number, (proxy, gate)) in (0..).zip(&gates) {
            if number != at {
                proxy.set(*gate, Weather::default())?;
                continue;
            }
            let refuses = (lot / 64).is_multiple_of(3);
            proxy.set(*gate, if refuses { Weather::refusing() } else { Weather::default() })?;
            reset += proxy.cut(*gate)?;
        }
        Ok(reset)
    }

    /// Resets every connection at its gates, with what is under way there, and waits until that is
    /// done; how many those were.
    ///
    /// # Errors
    ///
    /// If there are no such gates.
    pub fn reset_all(&self, kafka: &KafkaCluster) -> Result<usize, ClusterError> {
        let gates = self.gates(kafka)?;
        let reset = gates.iter().map(|(proxy, gate)| proxy.cut(*gate)).sum();
        std::thread::sleep(DONE);
        reset
    }

    /// Ends it: the network is good for all, and that is written down. What was sent to a deaf
    /// broker arrives now, unless that lasted for about a session: then it is gone with its
    /// connections. How many of those were reset.
    ///
    /// # Errors
    ///
    /// If there are no such gates, or it can't be written down.
    pub fn end(&self, rig: &Rig<'_, KafkaCluster>) -> Result<usize, ClusterError> {
        let is_gone = self.trouble == Trouble::DeafBroker && self.length >= SUCCEEDED;
        let reset = if is_gone { self.reset_all(rig.cluster())? } else { 0 };
        heal(rig)?;
        Ok(reset)
    }

    /// The gates that it is about.
    fn gates<'a>(&self, kafka: &'a KafkaCluster) -> Result<Vec<(&'a Proxy, i32)>, ClusterError> {
        let proxies: Vec<&Proxy> = match self.proxy {
            Some(number) => vec![kafka.proxy(number)?],
            None => kafka.proxies().iter().collect(),
        };
        let gates = |proxy: &'a Proxy| {
            let all = 1..=proxy.count();
            let of = self.broker;
            all.filter(move |gate| of.is_none_or(|broker| broker == *gate))
                .map(move |gate| (proxy, gate))
        };
        let gates: Vec<_> = proxies.into_iter().flat_map(gates).collect();
        if gates.is_empty() {
            return Err(ClusterError::refused(format!("{self}"), "there is no such gate"));
        }
        Ok(gates)
    }
}

/// Makes the network good for all, and writes it down.
///
/// # Errors
///
/// If it can't be written down.
pub fn heal(rig: &Rig<'_, KafkaCluster>) -> Result<(), ClusterError> {
    rig.cluster().proxies().iter().for_each(Proxy::heal);
    rig.faults().network_healed().map_err(ClusterError::io("the fault log"))
}

impl fmt::Display for Spell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} for {:.1} s", self.trouble, self.length.as_secs_f64())?;
        if let Some(proxy) = self.proxy {
            write!(f, " behind proxy {proxy}")?;
        }
        if let Some(broker) = self.broker {
            write!(f, " at broker {broker}")?;
        }
        Ok(())
    }
}
