//! Which ways are there for a group to agree on who owns what?

use std::fmt;

/// A rebalance protocol, with its assignor and kind of membership.
///
/// ```
/// use pelton_tests::Protocol;
/// assert_eq!("kip-848".parse(), Ok(Protocol::Kip848));
/// assert_eq!(Protocol::StaticMembership.to_string(), "static-membership");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Classic and eager: everything stops at each change.
    Range,
    /// Classic and incremental; the default.
    CooperativeSticky,
    /// As before, each worker with a group instance id.
    StaticMembership,
    /// The broker assigns.
    Kip848,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Range, Self::CooperativeSticky, Self::StaticMembership, Self::Kip848];

    /// The settings that make it, without their prefix.
    pub(crate) fn settings(self) -> Vec<(String, String)> {
        let setting = match self {
            Self::Range => ("ASSIGNMENT_STRATEGY", "range"),
            Self::CooperativeSticky | Self::StaticMembership => {
                ("ASSIGNMENT_STRATEGY", "cooperative-sticky")
            }
            Self::Kip848 => ("GROUP_PROTOCOL", "consumer"),
        };
        vec![(setting.0.to_owned(), setting.1.to_owned())]
    }

    /// Do partitions that stay go on during a change?
    #[must_use]
    pub fn is_incremental(self) -> bool {
        self != Self::Range
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Range => "range",
            Self::CooperativeSticky => "cooperative-sticky",
            Self::StaticMembership => "static-membership",
            Self::Kip848 => "kip-848",
        })
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|protocol| protocol.to_string() == name).ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(ToString::to_string).collect();
            format!("no such protocol; there are {}", names.join(", "))
        })
    }
}
