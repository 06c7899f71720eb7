//! Which settings does the command line give?

use std::path::PathBuf;

use super::error::ConfigError;
use super::origin::Origin;
use super::tree::Tree;

/// The flags every worker has; flatten them into a program's own `clap` arguments.
///
/// ```
/// use clap::Parser;
/// use pelton::config::Flags;
///
/// #[derive(Parser)]
/// struct Arguments {
///     #[command(flatten)]
///     pelton: Flags,
/// }
///
/// let given = Arguments::parse_from(["worker", "--set", "commit_interval=2s"]);
/// assert_eq!(given.pelton.set, ["commit_interval=2s"]);
/// ```
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Settings")]
#[non_exhaustive]
pub struct Flags {
    /// Read settings from this TOML file
    ///
    /// Every setting may stand in it; `pelton config example` prints a file with all of them. The
    /// environment (PELTON__…) beats the file, and flags beat the environment.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Set one setting, as in --set commit_interval=2s; may be repeated, the last one wins
    ///
    ///   --set admin.listen=127.0.0.1:0              the same as listen under admin in the file
    ///   --set inputs.user_logins.retry.attempts=5   a rule of one input
    ///   --set kafka.fetch.wait.max.ms=100           librdkafka's own
    ///   --set kafka.sasl.password.file=/run/secrets/kafka-password
    ///
    /// In the environment the first would be PELTON__ADMIN__LISTEN=127.0.0.1:0. A secret itself is
    /// no flag: whoever may list this machine's processes would read it.
    #[arg(long, value_name = "KEY=VALUE", verbatim_doc_comment)]
    pub set: Vec<String>,

    /// Some brokers' addresses, comma-separated; must be given, here or elsewhere
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap_servers: Option<String>,

    /// Where a partition without a commit starts; must be given, here or elsewhere
    ///
    /// `earliest` reads all that the log holds; `latest` loses what arrives before the first
    /// commit; `@2026-11-24T00:00:00Z` begins at that time; `error` ends the worker.
    #[arg(long, value_name = "earliest|latest|error|@TIME")]
    pub auto_offset_reset: Option<String>,

    /// The consumer group; copies of a program that share one share its work
    #[arg(long, value_name = "NAME")]
    pub group_id: Option<String>,

    /// Print each setting with its source, secrets hidden, and exit
    #[arg(long)]
    pub print_config: bool,

    /// Ask the worker that runs here with the same settings how it is, and exit with 0 or 1
    #[arg(long, value_name = "PROBE", num_args = 0..=1, default_missing_value = "livez",
          value_parser = ["livez", "readyz", "startupz"])]
    pub health: Option<String>,
}

impl std::fmt::Debug for Flags {
    /// Without the values of `--set`: one may be a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let keys: Vec<_> =
            self.set.iter().map(|set| set.split_once('=').map_or("?", |(key, _)| key)).collect();
        f.debug_struct("Flags")
            .field("config", &self.config)
            .field("set", &keys)
            .field("bootstrap_servers", &self.bootstrap_servers)
            .field("auto_offset_reset", &self.auto_offset_reset)
            .field("group_id", &self.group_id)
            .field("print_config", &self.print_config)
            .field("health", &self.health)
            .finish()
    }
}

/// The values the flags give. A flag of its own wins over the same key in `--set`.
pub(super) fn read(flags: &Flags) -> Result<Tree, ConfigError> {
    let mut tree = Tree::empty();
    for set in &flags.set {
        let malformed = |problem: &str| ConfigError::Malformed {
            origin: Origin::Flag("--set".to_owned()),
            problem: problem.to_owned(),
        };
        let form = "write --set KEY=VALUE, as in --set admin.listen=127.0.0.1:0";
        let Some((key, value)) = set.split_once('=') else {
            return Err(malformed(&format!("it has no `=`; {form}")));
        };
        let key = key.trim();
        let path: Vec<&str> = match key.strip_prefix("kafka.") {
            Some(rest) => vec!["kafka", rest],
            None => parts(key),
        };
        if path.iter().any(|part| part.is_empty()) {
            return Err(malformed(&format!("a part of its key is empty; {form}")));
        }
        tree.set(&path, Tree::text(value, Origin::Flag(format!("--set {key}"))));
    }
    let own = [
        ("bootstrap_servers", "--bootstrap-servers", &flags.bootstrap_servers),
        ("auto_offset_reset", "--auto-offset-reset", &flags.auto_offset_reset),
        ("group_id", "--group-id", &flags.group_id),
    ];
    for (key, flag, value) in own {
        if let Some(value) = value {
            tree.set(&[key], Tree::text(value, Origin::Flag(flag.to_owned())));
        }
    }
    Ok(tree)
}

/// The parts of a dotted key; what stands in quotes is one part, as in TOML.
fn parts(key: &str) -> Vec<&str> {
    let mut quoted = false;
    let ends = |letter: char| {
        quoted ^= letter == '"';
        letter == '.' && !quoted
    };
    key.split(ends).map(|part| part.trim_matches('"')).collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{Flags, Origin, Tree, read};

    fn set(sets: &[&str]) -> Flags {
        Flags { set: sets.iter().map(|&set| set.to_owned()).collect(), ..Flags::default() }
    }

    #[test]
    fn a_set_flag_names_its_key_path() {
        let tree = read(&set(&["kafka.fetch.wait.max.ms=1=0", "admin.listen=x"])).unwrap();
        let origin = Origin::Flag("--set kafka.fetch.wait.max.ms".to_owned());
        let kafka = tree.child("kafka").unwrap();
        assert_eq!(kafka.child("fetch.wait.max.ms"), Some(&Tree::text("1=0", origin)));
        assert!(tree.child("admin").unwrap().child("listen").is_some());
        let tree = read(&set(&["inputs.\"a.b\".concurrency=2"])).unwrap();
        let inputs = tree.child("inputs").unwrap();
        assert!(inputs.child("a.b").unwrap().child("concurrency").is_some());
    }

    #[test]
    fn a_malformed_set_flag_is_refused_without_its_text() {
        for (given, problem) in [("kafka.sasl.password:canary", "no `=`"), ("a..b=canary", "empty")]
        {
            let error = read(&set(&[given])).unwrap_err();
            assert_eq!(error.code(), "PLT-0109");
            let error = error.to_string();
            assert!(error.contains(problem) && !error.contains("canary"), "{error}");
        }
    }

    #[derive(clap::Parser)]
    struct Program {
        #[command(flatten)]
        _flags: Flags,
    }

    #[test]
    fn help_shows_how_each_kind_of_setting_is_given() {
        let help = Program::command().render_long_help().to_string();
        for line in [
            "  --set kafka.sasl.password.file=/run/secrets/kafka-password\n",
            "PELTON__ADMIN__LISTEN=127.0.0.1:0",
            "--auto-offset-reset <earliest|latest|error|@TIME>",
            "must be given, here or elsewhere",
            "pelton config example",
        ] {
            assert!(help.contains(line), "{line} is not in\n{help}");
        }
    }

    #[test]
    fn values_of_set_flags_are_not_in_debug() {
        let shown = format!("{:?}", set(&["kafka.sasl.password=canary"]));
        assert!(shown.contains("kafka.sasl.password") && !shown.contains("canary"), "{shown}");
    }
}
