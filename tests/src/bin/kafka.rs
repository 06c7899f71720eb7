//! `cargo kafka`: a real Apache Kafka for hand use, in one command.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program for the terminal")]

use std::os::unix::process::CommandExt;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use pelton_tests::hand::{HandCluster, Health, Up, tool};
use pelton_tests::{ClusterError, Distribution, TOOLS, tool_class};

/// A real Apache Kafka for hand use: started here, without containers or installation.
///
/// It needs Java 17 and, the first time, Maven, which fetches Kafka's jars (54 MB) into
/// target/kafka. The cluster runs until `down`, also when this command and its terminal are
/// gone. One cluster at a time.
#[derive(Parser)]
#[command(name = "cargo kafka", bin_name = "cargo kafka", after_help = EXAMPLE)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLE: &str = "\
Example:
  cargo kafka up --nodes 3
  cargo kafka tool topics --create --topic user_logins --partitions 6
  cargo kafka tool topics --list
  PELTON__BOOTSTRAP_SERVERS=$(cargo kafka address) cargo run -p login-counter
  cargo kafka tool consumer-groups --describe --all-groups
  cargo kafka down";

#[derive(Subcommand)]
enum Command {
    /// Start a cluster and print its address; says so if one runs already
    ///
    /// Nodes are brokers and controllers in one, each a JVM of about 200 MB that listens on
    /// loopback only. With three or more, topics have three replicas and writes need two of
    /// them in sync. Ctrl-C while it starts leaves nothing behind.
    Up {
        /// How many nodes: 1 is quick, 3 survive the loss of one
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
        nodes: u8,
    },
    /// Show the nodes, how they are, where their logs lie
    ///
    /// The exit code is 0 if all nodes serve, 1 if not or if there is no cluster.
    Status,
    /// Print the cluster's address alone, for scripts
    Address,
    /// Run one of Kafka's own tools against the cluster
    ///
    /// TOOL is the name of a script in Kafka's bin folder without `kafka-` and `.sh`, or the full
    /// name of a Java class. `--bootstrap-server` is added unless it is given.
    #[command(after_help = tools_help())]
    Tool {
        /// Which tool
        tool: String,
        /// Its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// End the cluster and delete its data
    Down,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Up { nodes } => up(nodes.into()),
        Command::Status => status(),
        Command::Address => running().map(|cluster| {
            println!("{}", cluster.bootstrap_servers());
            ExitCode::SUCCESS
        }),
        Command::Tool { tool, arguments } => run_tool(&tool, &arguments),
        Command::Down => down(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}

fn up(nodes: usize) -> Result<ExitCode, ClusterError> {
    #[expect(clippy::disallowed_methods, reason = "tells the user how long it took")]
    let start = Instant::now();
    match HandCluster::up(nodes, &progress)? {
        Up::Started(cluster) => {
            let took = start.elapsed().as_secs_f64();
            println!("Apache Kafka {} serves after {took:.1} s at", Distribution::version());
            println!("\n    {}\n", cluster.bootstrap_servers());
            explain(cluster.bootstrap_servers());
            Ok(ExitCode::SUCCESS)
        }
        Up::Runs(cluster) => {
            println!("A cluster runs already (`cargo kafka down` ends it):\n");
            Ok(show(&cluster))
        }
    }
}

fn explain(address: &str) {
    println!("Try:");
    println!("    cargo kafka tool topics --create --topic user_logins --partitions 6");
    println!("    cargo kafka tool topics --list");
    println!("    cargo kafka tool consumer-groups --describe --all-groups");
    println!("    cargo demo --kafka {address}");
    println!("    cargo kafka status");
    println!("    cargo kafka down        # ends it and deletes its data");
}

fn status() -> Result<ExitCode, ClusterError> {
    match HandCluster::find()? {
        Some(cluster) => Ok(show(&cluster)),
        None => {
            println!("No cluster runs. Start one: cargo kafka up");
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Prints the nodes; success if all serve.
fn show(cluster: &HandCluster) -> ExitCode {
    println!("bootstrap servers: {}", cluster.bootstrap_servers());
    let mut all_serve = true;
    for node in cluster.nodes() {
        let health = match node.health() {
            Health::Serves => "serves",
            Health::Silent => "runs, but does not answer",
            Health::Gone => "has ended",
        };
        all_serve &= node.health() == Health::Serves;
        let (id, address, pid, log) = (node.id(), node.address(), node.pid(), node.log());
        let here = std::env::current_dir().unwrap_or_default();
        let log = log.strip_prefix(here).unwrap_or(&log);
        println!("node {id}  {address}  pid {pid}  {health}  log {}", log.display());
    }
    if all_serve { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn down() -> Result<ExitCode, ClusterError> {
    match HandCluster::down()? {
        0 => println!("no cluster runs"),
        nodes => println!("ended the cluster (nodes: {nodes}) and deleted its data"),
    }
    Ok(ExitCode::SUCCESS)
}

fn run_tool(name: &str, arguments: &[String]) -> Result<ExitCode, ClusterError> {
    let Some(class) = tool_class(name) else {
        eprintln!("error: there is no tool {name:?}\n\n{}", tools_help());
        return Ok(ExitCode::from(2));
    };
    let elsewhere = arguments.iter().any(|argument| argument.starts_with("--bootstrap-"));
    let address = if elsewhere { String::new() } else { running()?.bootstrap_servers().to_owned() };
    // Takes this process's place: its input, output, signals and exit code are the tool's.
    let failed = tool(&address, class, arguments, &progress)?.exec();
    eprintln!("error: starting {class}: {failed}");
    Ok(ExitCode::FAILURE)
}

fn running() -> Result<HandCluster, ClusterError> {
    HandCluster::find()?.ok_or_else(|| ClusterError::Refused {
        what: "no cluster runs".to_owned(),
        reason: "start one with `cargo kafka up`".to_owned(),
    })
}

fn tools_help() -> String {
    let names: Vec<&str> = TOOLS.iter().map(|(name, _)| *name).collect();
    format!("Tools: {}", names.join(", "))
}

fn progress(step: &str) {
    eprintln!("{step} …");
}
