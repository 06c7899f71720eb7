//! The login counter under observation: what the whole-system tests start as processes.
//!
//! The same handler, settings and runtime as `login-counter`; around it a ledger, records that
//! take time, drains that take time, and a planted bug where a test wants one; signals let its
//! Kafka clients break and its poll loop hang. `--stateless` puts
//! a witness in the counter's place: no store, one output per record. A test binary starts
//! *itself* as a worker ([`run_if_asked`]), so no other binary has to be built or found.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use login_counter::{CountLogins, LoginCounterSettings};
use nix::sys::signal::Signal;
use pelton::config::{Flags, load};
use pelton::ports::ClientKind;
use pelton::{
    Breaker, Bug, Context, Emit, Exit, Fault, FaultHandle, Handler, HandlerError, Ordering, Output,
    Record, RetryPolicy, RetryTopics, Store, Worker, WorkerError,
};
use pelton_testkit::ledger::LedgerWriter;
use signal_hook::iterator::Signals;

use crate::rig::{Heavy, LAST_WORDS, Poison, TAKES_MS};

/// The first argument of a process that is to be a worker.
const ROLE: &str = "observed-worker";

/// Turns this process into a worker if it was started as one; then it never returns.
///
/// Call it first in the `main` of every program that uses [`Rig`](crate::Rig).
pub fn run_if_asked() {
    let mut arguments = std::env::args_os();
    let (program, role) = (arguments.next(), arguments.next());
    if role.is_some_and(|role| role == ROLE) {
        let line = CommandLine::parse_from(program.into_iter().chain(arguments));
        work(&line);
    }
}

/// A process that is to be such a worker: this program itself, with no settings of its own.
///
/// # Errors
///
/// If this program's file can't be found.
pub fn command() -> std::io::Result<std::process::Command> {
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg(ROLE).env("NO_COLOR", "1").stdin(std::process::Stdio::null());
    Ok(command)
}

#[tokio::main]
async fn work(line: &CommandLine) {
    let exit = match prepare(line) {
        Ok(worker) => worker.run().await,
        Err(error) => Exit::from(Err(error)),
    };
    exit.explain();
    signal_hook::low_level::exit(i32::from(exit.code()));
}

/// A login counter that keeps a ledger.
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    flags: Flags,
    /// Where the ledger goes: one file per process in this folder.
    #[arg(long)]
    ledger: Option<PathBuf>,
    /// The worker's name in the ledger.
    #[arg(long, default_value = "worker")]
    name: String,
    /// A known bug to plant.
    #[arg(long, value_parser = |name: &str| Bug::from_name(name).ok_or("no such bug"))]
    plant: Option<Bug>,
    /// Every record takes so long.
    #[arg(long, default_value_t = 0)]
    each_ms: u64,
    /// One record in so many is slow; 0 makes none slow.
    #[arg(long, default_value_t = 0)]
    slow_one_in: u64,
    /// A slow record takes up to so long.
    #[arg(long, default_value_t = 60)]
    slow_ms: u64,
    /// A drain takes up to so long.
    #[arg(long, default_value_t = 0)]
    drain_ms: u64,
    /// Each record of this user takes `--hold-ms`.
    #[arg(long)]
    hold_user: Option<String>,
    /// How long such a record takes.
    #[arg(long, default_value_t = 0)]
    hold_ms: u64,
    /// Such a record holds its thread meanwhile.
    #[arg(long)]
    hold_thread: bool,
    /// One record in so many fails at its first attempt; 0 makes none fail.
    #[arg(long, default_value_t = 0)]
    fail_one_in: u64,
    /// Keeps the records of each key in order, and handles so many keys at once; without it, all
    /// records of a partition.
    #[arg(long)]
    keys: Option<u32>,
    /// A record that has failed so often becomes a dead letter.
    #[arg(long, default_value_t = 3)]
    attempts: u32,
    /// Where those go; without it records are tried for ever.
    #[arg(long)]
    dead_letters: Option<String>,
    /// An attempt that takes longer has failed.
    #[arg(long)]
    attempt_timeout_ms: Option<u64>,
    /// Records that fail so often wait in retry topics, for so long in each.
    #[arg(long, value_delimiter = ',')]
    retry_after_ms: Vec<u64>,
    /// The input has a breaker.
    #[arg(long)]
    breaker: bool,
    /// While this file is there, what the handlers call is broken.
    #[arg(long)]
    broken_while: Option<PathBuf>,
    /// It is broken for one key in so many.
    #[arg(long, default_value_t = 1)]
    broken_one_in: u8,
    /// Keeps no store: emits each record's place instead of counting.
    #[arg(long)]
    stateless: bool,
    /// Without a store: emits under the record's key where it was written first.
    #[arg(long)]
    trace: bool,
    /// In the counter's place: large effects.
    #[arg(long)]
    heavy: Option<Heavy>,
}

/// What is done with a record.
#[derive(Clone, Copy)]
enum Work {
    Count(CountLogins),
    /// The output gets the record's place as its key: `<partition>-<offset>`.
    Witness(Output),
    /// The output gets the place as its value, and the record's key.
    Trace(Output),
    /// The same, with large effects beside it.
    Heave {
        heavy: Heavy,
        out: Output,
        blobs: Store<str, String>,
    },
}

impl Work {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        match self {
            Self::Count(counter) => counter.handle(record, ctx).await,
            Self::Witness(out) => {
                let place = format!("{}-{}", record.partition(), record.offset());
                ctx.emit_record(*out, Emit::new().key(place).bytes("seen"))
            }
            Self::Trace(out) => {
                let key = record.key().unwrap_or_default();
                ctx.emit_record(*out, Emit::new().key(key).bytes(first_place(record)))
            }
            Self::Heave { heavy, out, blobs } => {
                let offset = record.offset();
                let bytes = record.value().unwrap_or_default();
                if heavy.puts(offset) {
                    ctx.put(
                        *blobs,
                        &format!("{}", offset / heavy.put_one_in % 4),
                        &digits(bytes, heavy.put_bytes),
                    )?;
                }
                let place = format!("{}-{}", record.partition(), offset);
                let value = if heavy.emits(offset) {
                    bytes.iter().copied().cycle().take(heavy.emit_bytes).collect()
                } else {
                    b"seen".to_vec()
                };
                ctx.emit_record(*out, Emit::new().key(place).bytes(value))
            }
        }
    }
}

/// Where the record was written first, whichever retry topics it has come through.
fn first_place(record: &Record<'_>) -> String {
    let text = |name: &str| std::str::from_utf8(record.header(name)?).ok();
    let first = text("pelton-source-partition").zip(text("pelton-source-offset"));
    match first {
        Some((partition, offset)) => format!("{partition}-{offset}"),
        None => format!("{}-{}", record.partition(), record.offset()),
    }
}

/// So many digits, begun by a record's own bytes.
fn digits(bytes: &[u8], many: usize) -> String {
    let own: String = bytes.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let mut digits = own.repeat(many.checked_div(own.len()).map_or(0, |times| times + 1));
    digits.truncate(many);
    digits
}

/// The work, slowed down and tripped up.
struct Hindered {
    inner: Work,
    each_ms: u64,
    slow_one_in: u64,
    slow_ms: u64,
    drain_ms: u64,
    fail_one_in: u64,
    hold: Option<Hold>,
    outage: Option<Outage>,
    random: u64,
}

/// What the handlers call is broken for some keys, for as long as a file is there.
#[derive(Clone)]
struct Outage {
    file: PathBuf,
    one_in: u8,
}

impl Outage {
    fn of(line: &CommandLine) -> Option<Self> {
        let one_in = line.broken_one_in.max(1);
        line.broken_while.clone().map(|file| Self { file, one_in })
    }

    fn befalls(&self, record: &Record<'_>) -> bool {
        let last = record.key().and_then(|key| key.last()).copied().unwrap_or(0);
        last.is_multiple_of(self.one_in) && self.file.exists()
    }
}

/// A user whose records take their time.
#[derive(Clone)]
struct Hold {
    user: String,
    time: Duration,
    /// They don't yield meanwhile.
    thread: bool,
}

impl Hold {
    fn of(line: &CommandLine) -> Option<Self> {
        let (time, thread) = (Duration::from_millis(line.hold_ms), line.hold_thread);
        line.hold_user.clone().map(|user| Self { user, time, thread })
    }

    async fn last(&self) {
        if self.thread {
            std::thread::sleep(self.time);
        } else {
            tokio::time::sleep(self.time).await;
        }
    }
}

impl Hindered {
    /// A number below `bound`, from xorshift64.
    fn below(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound.max(1)
    }

    fn is_due(&mut self, one_in: u64) -> bool {
        one_in > 0 && self.below(one_in) == 0
    }
}

impl Handler for Hindered {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        if self.each_ms > 0 {
            tokio::time::sleep(Duration::from_millis(self.each_ms)).await;
        }
        if self.is_due(self.slow_one_in) {
            let pause = self.below(self.slow_ms) + 1;
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
        if let Some(hold) =
            self.hold.as_ref().filter(|hold| record.key() == Some(hold.user.as_bytes()))
        {
            hold.last().await;
        }
        if let Some(time) = takes(record) {
            tokio::time::sleep(time).await;
        }
        if self.outage.as_ref().is_some_and(|outage| outage.befalls(record)) {
            return Err(HandlerError::retryable("what it calls is broken"));
        }
        let handled = self.inner.handle(record, ctx).await;
        fail_as_told(record).await?;
        handled?;
        if ctx.attempt() == 1 && self.is_due(self.fail_one_in) {
            return Err(HandlerError::retryable("this attempt fails for the test"));
        }
        Ok(())
    }

    async fn revoked(&mut self, _ctx: &mut Context<'_>) {
        if self.drain_ms > 0 {
            let pause = self.below(self.drain_ms);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }
}

/// How long the record says that it takes.
fn takes(record: &Record<'_>) -> Option<Duration> {
    let millis = std::str::from_utf8(record.header(TAKES_MS)?).ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

/// Fails as a poisoned record says, after all its effects.
#[expect(clippy::panic, reason = "as the record says")]
async fn fail_as_told(record: &Record<'_>) -> Result<(), HandlerError> {
    let poison = record.header(Poison::HEADER).and_then(Poison::from_name);
    if let Some(deadly) = poison.filter(|poison| poison.is_deadly()) {
        let place = format!("{}-{}", record.partition(), record.offset());
        tracing::error!(poison = %deadly, record = %place, "{LAST_WORDS}");
    }
    match poison {
        Some(Poison::Error) => Err(HandlerError::retryable("poisoned")),
        Some(Poison::Panic) => panic!("poisoned"),
        Some(Poison::Hang) => std::future::pending().await,
        Some(Poison::Abort) => std::process::abort(),
        Some(Poison::Memory) => exhaust_memory(),
        None => Ok(()),
    }
}

/// Taken at once. What is left when no more is to be had is too little for anything.
const GULP: usize = 16 * 1024 * 1024;

/// More than any process is allowed that is to die of it.
const GULPS: usize = 256;

/// Takes memory, and uses it, until the allocator gives up and aborts the process.
fn exhaust_memory() -> Result<(), HandlerError> {
    let mut taken = Vec::with_capacity(GULPS);
    while taken.len() < GULPS {
        taken.push(std::hint::black_box(vec![1_u8; GULP]));
    }
    Err(HandlerError::retryable("nobody limits this process's memory"))
}

/// What a signal does to the worker.
const FAULTS: [(Signal, Fault); 4] = [
    (Signal::SIGUSR1, Fault::Break(ClientKind::Member)),
    (Signal::SIGUSR2, Fault::Break(ClientKind::Fetcher)),
    (Signal::SIGWINCH, Fault::Break(ClientKind::Producer)),
    (Signal::SIGURG, Fault::Hang),
];

/// The signal that does this to an observed worker.
pub(crate) fn signal_for(fault: Fault) -> Option<Signal> {
    FAULTS.iter().find(|(_, does)| *does == fault).map(|(signal, _)| *signal)
}

fn hear_faults(worker: FaultHandle) -> std::io::Result<()> {
    let mut signals = Signals::new(FAULTS.map(|(signal, _)| signal as i32))?;
    let hear = move || {
        for came in signals.forever() {
            let fault = FAULTS.iter().find(|(signal, _)| *signal as i32 == came);
            if let Some((_, fault)) = fault {
                worker.inject(*fault);
            }
        }
    };
    std::thread::Builder::new().name("faults".to_owned()).spawn(hear).map(drop)
}

fn prepare(line: &CommandLine) -> Result<pelton::WorkerBuilder, WorkerError> {
    let loaded = load::<LoginCounterSettings>("login-counter", &line.flags)?;
    let mut app = Worker::builder("login-counter");
    let out = app.output(&loaded.app.output_topic);
    let inner = if let Some(heavy) = line.heavy {
        Work::Heave { heavy, out, blobs: app.store("blobs") }
    } else if line.trace {
        Work::Trace(out)
    } else if line.stateless {
        Work::Witness(out)
    } else {
        Work::Count(CountLogins { totals: app.store("totals"), out })
    };
    let (each_ms, slow_one_in, slow_ms, drain_ms, fail_one_in) =
        (line.each_ms, line.slow_one_in, line.slow_ms, line.drain_ms, line.fail_one_in);
    let process = u64::from(std::process::id());
    let (hold, outage) = (Hold::of(line), Outage::of(line));
    hear_faults(app.fault_handle())
        .map_err(|error| WorkerError::System(format!("signals: {error}")))?;
    let mut retry = RetryPolicy::exponential(Duration::from_millis(50), Duration::from_secs(1));
    let mut input = app.input(&loaded.app.input_topic).on_invalid(loaded.app.on_invalid);
    if let Some(topic) = &line.dead_letters {
        retry = retry.at_most(line.attempts);
        input = input.dead_letters(topic.as_str());
    }
    if !line.retry_after_ms.is_empty() {
        let delays = line.retry_after_ms.iter().map(|delay| Duration::from_millis(*delay));
        input = input.retry_topics(RetryTopics::after(delays));
    }
    if line.breaker {
        // It opens before any record has had all its attempts.
        let breaker = Breaker::default().minimum_attempts(line.attempts);
        let (wait, most) = (Duration::from_millis(500), Duration::from_secs(2));
        input = input.breaker(breaker.wait_in_open(wait, most));
    }
    if let Some(limit) = line.attempt_timeout_ms {
        input = input.attempt_timeout(Duration::from_millis(limit));
    }
    input.ordering(line.keys.map_or(Ordering::Partition, Ordering::key)).retry(retry).handler(
        move |slot| {
            let partition = u64::from(slot.partition.partition().cast_unsigned());
            let seed = partition << 10 | u64::try_from(slot.index).unwrap_or(0);
            Hindered {
                inner,
                each_ms,
                slow_one_in,
                slow_ms,
                drain_ms,
                fail_one_in,
                hold: hold.clone(),
                outage: outage.clone(),
                random: (process << 20 | seed) ^ 0x9e37_79b9_7f4a_7c15,
            }
        },
    );
    app.settings(loaded.settings).plant(line.plant);
    if let Some(folder) = &line.ledger {
        let ledger = LedgerWriter::create(folder, &line.name)
            .map_err(|error| WorkerError::System(format!("the ledger: {error}")))?;
        app.observer(Arc::new(ledger));
    }
    Ok(app)
}
