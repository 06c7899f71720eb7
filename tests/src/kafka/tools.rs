//! How are Kafka's own command-line tools run?

use std::process::{Command, Output};
use std::time::Duration;

use crate::ClusterError;
use crate::kafka::{Distribution, process};

/// How long a tool may take.
const TOOL: Duration = Duration::from_secs(120);

/// The tools by the name of their script in Kafka's `bin/`, without `kafka-` and `.sh`.
pub const TOOLS: &[(&str, &str)] = &[
    ("topics", "org.apache.kafka.tools.TopicCommand"),
    ("consumer-groups", "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
    ("groups", "org.apache.kafka.tools.GroupsCommand"),
    ("get-offsets", "org.apache.kafka.tools.GetOffsetShell"),
    ("console-producer", "org.apache.kafka.tools.ConsoleProducer"),
    ("console-consumer", "org.apache.kafka.tools.consumer.ConsoleConsumer"),
    ("configs", "kafka.admin.ConfigCommand"),
    ("delete-records", "org.apache.kafka.tools.DeleteRecordsCommand"),
    ("transactions", "org.apache.kafka.tools.TransactionsCommand"),
    ("leader-election", "org.apache.kafka.tools.LeaderElectionCommand"),
    ("reassign-partitions", "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
    ("acls", "org.apache.kafka.tools.AclCommand"),
    ("features", "org.apache.kafka.tools.FeatureCommand"),
    ("log-dirs", "org.apache.kafka.tools.LogDirsCommand"),
    ("metadata-quorum", "org.apache.kafka.tools.MetadataQuorumCommand"),
    ("broker-api-versions", "org.apache.kafka.tools.BrokerApiVersionsCommand"),
];

/// The class of a tool: by its name in [`TOOLS`], or a class by its full name.
///
/// ```
/// use pelton_tests::tool_class;
/// assert_eq!(tool_class("topics"), Some("org.apache.kafka.tools.TopicCommand"));
/// assert_eq!(tool_class("kafka-topics.sh"), Some("org.apache.kafka.tools.TopicCommand"));
/// assert_eq!(tool_class("kafka.tools.StorageTool"), Some("kafka.tools.StorageTool"));
/// assert_eq!(tool_class("topic"), None);
/// ```
#[must_use]
pub fn tool_class(name: &str) -> Option<&str> {
    let short = name.trim_start_matches("kafka-").trim_end_matches(".sh");
    let known = TOOLS.iter().find(|(known, _)| *known == short).map(|(_, class)| *class);
    known.or_else(|| name.contains('.').then_some(name))
}

/// The command of a tool, aimed at a cluster unless its arguments name another.
pub(crate) fn command(
    distribution: &Distribution,
    bootstrap: &str,
    class: &str,
    arguments: &[&str],
) -> Command {
    let mut command = distribution.java(&["-Xmx256m"]);
    command.arg(class).args(arguments);
    if !arguments.iter().any(|argument| argument.starts_with("--bootstrap-")) {
        command.args(["--bootstrap-server", bootstrap]);
    }
    command
}

/// Runs a tool to its end.
pub(crate) fn run(
    distribution: &Distribution,
    bootstrap: &str,
    class: &str,
    arguments: &[&str],
) -> Result<Output, ClusterError> {
    let command = command(distribution, bootstrap, class, arguments);
    process::output(&format!("running {class}"), command, TOOL)
}
