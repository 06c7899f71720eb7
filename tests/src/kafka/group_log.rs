//! What has a coordinator done with a group, and why? Its log says it, whichever node it was.

/// Both protocols: what begins a rebalance.
const REBALANCES: [&str; 2] = ["Preparing to rebalance group", "Bumped group epoch to"];

/// Both protocols: a member is removed that has not asked for it.
const EVICTIONS: [&str; 5] = [
    "has failed, removing it from the group",
    "fenced from the group because",
    "removed dynamic members who haven't joined",
    "removed members who haven't sent their sync requests",
    "has been removed after session timeout expiration",
];

/// What all nodes have logged about one group, in order of time.
///
/// Kafka logs each line at least once; a node that becomes the group's coordinator reads its
/// past and logs nothing of it again, except that it has loaded the group.
///
/// ```
/// use pelton_tests::GroupLog;
///
/// let node = "2026-01-01 10:00:00,100 INFO m - [c] Preparing to rebalance group counters in \
///     state Stable with old generation 3 (reason: Adding new member worker-2-1).\n";
/// let log = GroupLog::of("counters", &[node.to_owned()]);
/// assert_eq!((log.rebalances(), log.evictions()), (1, 0));
/// assert_eq!(GroupLog::of("counter", &[node.to_owned()]).rebalances(), 0);
/// ```
#[derive(Clone, Debug, Default)]
pub struct GroupLog {
    lines: Vec<String>,
}

impl GroupLog {
    /// The lines about `group` in the logs of its nodes. Lines begin with their time.
    #[must_use]
    pub fn of(group: &str, logs: &[String]) -> Self {
        let names = |line: &&str| {
            let is_end = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
            line.split(is_end).any(|word| word == group || word.trim_end_matches('.') == group)
        };
        let mut lines: Vec<String> = Vec::new();
        for log in logs {
            lines.extend(log.lines().filter(names).map(str::to_owned));
        }
        lines.sort();
        Self { lines }
    }

    /// All of it.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }

    /// What has been added since `earlier` was read.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self { lines: self.lines.iter().skip(earlier.lines.len()).cloned().collect() }
    }

    /// How many rebalances have begun: each raises the generation, or the group's epoch.
    #[must_use]
    pub fn rebalances(&self) -> u64 {
        self.count(&REBALANCES)
    }

    /// How many times members were removed that had not asked for it: silent for a session, or
    /// too slow for a rebalance.
    #[must_use]
    pub fn evictions(&self) -> u64 {
        self.count(&EVICTIONS)
    }

    fn count(&self, what: &[&str]) -> u64 {
        let is_one = |line: &&String| what.iter().any(|what| line.contains(what));
        u64::try_from(self.lines.iter().filter(is_one).count()).unwrap_or(u64::MAX)
    }
}

impl std::fmt::Display for GroupLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.lines.iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}
