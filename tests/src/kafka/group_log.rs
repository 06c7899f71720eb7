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
    /// The lines that name `group` in the logs of its nodes; they begin with their time. The name
    /// should be no word that a log has anyway.
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines of Kafka 4.3.1: a classic member is killed and its group rebalances; a KIP-848 group
    /// loses a member; one node hands the group to another.
    const NODES: [&str; 2] = [
        "2026-11-25 00:00:43,036 INFO m - [GroupCoordinator id=1 topic=__consumer_offsets partition=3] Member worker-1-d456f03d in group classic-2c has failed, removing it from the group.
2026-11-25 00:00:43,040 INFO m - [GroupCoordinator id=1 topic=__consumer_offsets partition=3] Preparing to rebalance group classic-2c in state PreparingRebalance with old generation 3 (reason: removing member worker-1-d456f03d on heartbeat expiration.).
2026-11-25 00:00:48,415 INFO m - [GroupCoordinator id=1 topic=__consumer_offsets partition=3] [GroupId=classic-2c] Unloading group metadata for generation 4.
2026-11-25 00:02:10,541 INFO m - [GroupCoordinator id=1 topic=__consumer_offsets partition=0] [GroupId consumer-19] Member bUhscah fenced from the group because the member session expired.
2026-11-25 00:02:10,542 INFO m - [GroupCoordinator id=1 topic=__consumer_offsets partition=0] [GroupId consumer-19] Bumped group epoch to 13 with metadata hash -2015831154632284803.
",
        "2026-11-25 00:00:49,777 INFO m - [GroupCoordinator id=3 topic=__consumer_offsets partition=3] Loaded classic group classic-2c with 3 members.
2026-11-25 00:02:09,000 INFO m - [GroupCoordinator id=3 topic=__consumer_offsets partition=3] Preparing to rebalance group classic-2 in state Stable with old generation 1 (reason: another group).
",
    ];

    fn log(group: &str) -> GroupLog {
        GroupLog::of(group, &NODES.map(str::to_owned))
    }

    #[test]
    fn rebalances_and_evictions_are_counted_in_both_protocols() {
        for group in ["classic-2c", "consumer-19"] {
            assert_eq!((log(group).rebalances(), log(group).evictions()), (1, 1), "{group}");
        }
        assert_eq!((log("classic-2").rebalances(), log("classic-2").evictions()), (1, 0));
        assert!(log("classic-2c0").lines().is_empty());
    }

    #[test]
    fn the_nodes_lines_stand_in_order_of_time() {
        let all = log("classic-2c");
        assert_eq!(all.lines().len(), 4);
        let before = GroupLog::of("classic-2c", &[NODES[0].to_owned()]);
        let since = all.since(&before);
        assert!(since.to_string().contains("Loaded classic group"), "{since}");
        assert_eq!((since.lines().len(), since.rebalances()), (1, 0));
    }
}
