//! The load generator as a program.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroU64;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{ArgGroup, Parser, ValueEnum};
use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use load_generator::{
    Format, Generated, Login, Logins, Progress, SendOptions, Sent, SourceError, create_topic, open,
    print_sshd_log, send_all,
};

/// Fills a Kafka topic with logins, keyed by user.
///
/// Each record's value is {"user": "alice", "status": "success" | "failure", "ip": "192.0.2.7",
/// "at": "2026-01-01T08:00:00Z"}, its key is the user, and its header `seq` numbers the logins of
/// the run: 0, 1, 2, …. A user's logins stay in order: they go to the partition that Java's
/// producer would choose (murmur2), through an idempotent producer, and the program ends when
/// Kafka has confirmed every record.
#[derive(Parser)]
#[command(
    version,
    after_help = "Examples:\n  \
    load-generator --bootstrap-servers localhost:9092 --generate 10000 --rate 500\n  \
    load-generator --bootstrap-servers localhost:9092 --input /var/log/auth.log --format sshd\n  \
    ssh gate cat auth.log | load-generator --input - --format sshd --print json\n  \
    load-generator --generate 100 --seed 7 --print json",
    after_long_help = "Examples:\n  \
    load-generator --bootstrap-servers localhost:9092 --generate 10000 --rate 500\n  \
    load-generator --bootstrap-servers localhost:9092 --input /var/log/auth.log --format sshd\n  \
    ssh gate cat auth.log | load-generator --input - --format sshd --print json\n  \
    load-generator --generate 100 --seed 7 --print json\n\n\
    Formats:\n  \
    json  one object a line, as above; `outcome`, `src_ip` and `ts` are read as `status`, `ip`\n        \
    and `at`, other fields are ignored. A line that is no login ends the run.\n  \
    sshd  the log of an OpenSSH server: its `Accepted …` and `Failed …` lines. `message repeated\n        \
    N times: [ … ]` counts N times; other lines are skipped and counted. A name that is\n        \
    not UTF-8 keeps its valid parts, other bytes become \\ooo (octal).\n\
    Both may be gzip.\n\n\
    Exit codes: 0 all delivered; 1 not all delivered, or the input could not be read;\n\
    2 wrong arguments; 130 ended by Ctrl-C, what was sent until then is delivered.",
    group(ArgGroup::new("source").required(true).args(["input", "generate"]))
)]
struct CommandLine {
    /// Read logins from this file, plain or gzip; `-` is standard input
    #[arg(long, value_name = "FILE", requires = "format")]
    input: Option<PathBuf>,

    /// What the file holds
    #[arg(long, value_enum, requires = "input")]
    format: Option<Kind>,

    /// The year of an sshd log's first line, for logs that have none; UTC is assumed
    /// [default: this year]
    #[arg(long, value_name = "YEAR", value_parser = clap::value_parser!(i16).range(1..=9998))]
    year: Option<i16>,

    /// Make up so many logins
    #[arg(long, value_name = "N")]
    generate: Option<u64>,

    /// Seed of the made-up logins: the same seed gives the same logins everywhere
    #[arg(long, value_name = "S", default_value_t = 1, conflicts_with = "input")]
    seed: u64,

    /// Users of the made-up logins; the n-th logs in 1/n as often as the first
    #[arg(long, value_name = "U", default_value_t = 100, conflicts_with = "input",
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    users: u32,

    /// End after so many logins
    #[arg(long, value_name = "N")]
    limit: Option<u64>,

    /// Some brokers' addresses, comma-separated. No default: a wrong cluster is worse than none
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "PELTON__BOOTSTRAP_SERVERS",
        required_unless_present = "print"
    )]
    bootstrap_servers: Option<String>,

    /// Where to send
    #[arg(long, default_value = "user_logins")]
    topic: String,

    /// Make the topic first if it is not there, with so many partitions
    #[arg(long, value_name = "PARTITIONS", value_parser = clap::value_parser!(i32).range(1..))]
    create_topic: Option<i32>,

    /// Logins a second, evenly [default: as fast as possible]
    #[arg(long, value_name = "N", value_parser = rate)]
    rate: Option<f64>,

    /// The number of the first login: where an earlier run ended
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    first_seq: u64,

    /// After every N logins send a record that is none, to see what `on_invalid` does
    #[arg(long, value_name = "N")]
    malformed_every: Option<NonZeroU64>,

    /// Set a setting of librdkafka, as in --kafka security.protocol=ssl; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    kafka: Vec<(String, String)>,

    /// Write the logins to standard output in this format, and send nothing
    #[arg(long, value_enum, value_name = "FORMAT")]
    print: Option<Kind>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// One JSON object a line
    Json,
    /// An OpenSSH server's log
    Sshd,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if rate > 0.0 && f64::is_finite(rate) => Ok(rate),
        _ => Err("write a number above 0, as in 250 or 0.5".to_owned()),
    }
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments = CommandLine::parse();
    let result = match arguments.print {
        Some(kind) => print(&arguments, kind),
        None => send(&arguments),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

type AnyError = Box<dyn std::error::Error>;

/// What a run reads, and how many logins that is where it is known.
fn source(arguments: &CommandLine) -> Result<(Box<dyn Logins>, Option<u64>), SourceError> {
    let Some(path) = &arguments.input else {
        let count = arguments.generate.unwrap_or(0).min(arguments.limit.unwrap_or(u64::MAX));
        let generated = Generated::new(arguments.seed, arguments.users);
        return Ok((Box::new(MadeUp { generated, left: count }), Some(count)));
    };
    let format = match arguments.format {
        Some(Kind::Sshd) => {
            let this_year = || jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).year();
            Format::Sshd { year: arguments.year.unwrap_or_else(this_year) }
        }
        Some(Kind::Json) | None => Format::Json,
    };
    Ok((open(path, format)?, None))
}

/// So many made-up logins, as a source among others.
#[derive(Debug)]
struct MadeUp {
    generated: Generated,
    left: u64,
}

impl Iterator for MadeUp {
    type Item = Result<Login, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        self.generated.next().map(Ok)
    }
}

impl Logins for MadeUp {
    fn skipped(&self) -> u64 {
        0
    }
}

fn limit(arguments: &CommandLine) -> usize {
    arguments.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

fn print(arguments: &CommandLine, kind: Kind) -> Result<ExitCode, AnyError> {
    let (mut logins, _) = source(arguments)?;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let mut failure = None;
    let good = logins.by_ref().take(limit(arguments)).map_while(|login| match login {
        Ok(login) => Some(login),
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let written = match kind {
        Kind::Sshd => print_sshd_log(good, &mut out),
        Kind::Json => good.into_iter().try_for_each(|login| writeln!(out, "{}", login.to_json())),
    };
    match written.and_then(|()| out.flush()) {
        // Whoever reads has seen enough, as `head` has.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(ExitCode::SUCCESS),
        written => written?,
    }
    failure.map_or(Ok(ExitCode::SUCCESS), |error| Err(error.into()))
}

fn send(arguments: &CommandLine) -> Result<ExitCode, AnyError> {
    let stop = stop_on_signals()?;
    let bootstrap_servers = arguments.bootstrap_servers.clone().unwrap_or_default();
    let mut options = SendOptions::new(bootstrap_servers, &arguments.topic);
    options.rate_per_second = arguments.rate;
    options.first_seq = arguments.first_seq;
    options.malformed_every = arguments.malformed_every.map(NonZeroU64::get);
    options.kafka.clone_from(&arguments.kafka);
    let (mut logins, total) = source(arguments)?;
    if let Some(partitions) = arguments.create_topic {
        create_topic(&options, partitions)?;
    }
    let bar = bar(total.or(arguments.limit));
    let watch = |progress: Progress| {
        bar.set_position(progress.delivered);
        if stop.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    let sent = send_all(logins.by_ref().take(limit(arguments)), &options, watch);
    bar.finish_and_clear();
    let sent = sent?;
    say(&summary(&options.topic, &sent, logins.skipped()));
    Ok(if sent.interrupted { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// Set by the first SIGINT or SIGTERM; the second ends the process.
fn stop_on_signals() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&stop))?;
        signal_hook::flag::register(signal, Arc::clone(&stop))?;
    }
    Ok(stop)
}

fn bar(total: Option<u64>) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let template = match total {
        Some(_) => {
            "{bar:40.cyan/dim} {human_pos}/{human_len} logins · {rate} a second · {eta} left"
        }
        None => "{spinner:.cyan} {human_pos} logins · {rate} a second · {elapsed}",
    };
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A rate that can't be written is left out.
            let _written = write!(out, "{:.0}", state.per_sec());
        });
    let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new);
    bar.set_draw_target(ProgressDrawTarget::stderr());
    bar.with_style(style.progress_chars("━━─"))
}

fn summary(topic: &str, sent: &Sent, skipped: u64) -> String {
    let seconds = sent.elapsed.max(Duration::from_millis(1)).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let rate = sent.logins as f64 / seconds;
    let mut text = format!(
        "{} logins delivered to {topic} in {seconds:.1} s ({rate:.0} a second)",
        HumanCount(sent.logins)
    );
    if sent.malformed > 0 {
        text.push_str(&format!(", and {} records that are none", sent.malformed));
    }
    if skipped > 0 {
        text.push_str(&format!(", {skipped} lines that are no logins skipped"));
    }
    if sent.interrupted {
        text.push_str("; ended early, as asked");
    }
    text
}

#[expect(clippy::print_stderr, reason = "a program's word to its user")]
fn say(text: &str) {
    eprintln!("{text}");
}
