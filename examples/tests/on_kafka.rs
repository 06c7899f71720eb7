//! Do the examples keep their word? Each as its own process on real Kafka, started as its first line says.
//!
//! Their files say what a reader will see; here it is looked for in what they log, commit and send.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use libtest_mimic::Failed;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use pelton_tests::{Cluster, KafkaCluster, NewRecord, StoredRecord, Trial, trials, wait_for};
use serde_json::Value;

type Test = fn() -> Result<(), Failed>;

const LOGINS: usize = 300;
const USERS: usize = 40;
const PARTITIONS: i32 = 3;

/// Nothing here takes longer, on a busy machine either.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    let tests: [(&str, Test); 8] = [
        ("hello_worker", hello_worker),
        ("key_order", key_order),
        ("retry_and_dead_letter", retry_and_dead_letter),
        ("retry_topics", retry_topics),
        ("batch_insert", batch_insert),
        ("deferred_completion", deferred_completion),
        ("pause_and_seek", pause_and_seek),
        ("stateful_count", stateful_count),
    ];
    let trials: Vec<Trial> =
        tests.into_iter().map(|(name, test)| trials::on_kafka(name, test)).collect();
    trials::run(trials, 3)
}

/// Made once for all of them: they have groups of their own and leave the logins as they are.
fn kafka() -> Result<&'static KafkaCluster, Failed> {
    static FILLED: Mutex<bool> = Mutex::new(false);
    let kafka = KafkaCluster::shared(1)?;
    let mut filled = FILLED.lock().unwrap_or_else(PoisonError::into_inner);
    if !std::mem::replace(&mut *filled, true) {
        for topic in ["user_logins", "user_logins-dead", "login_alerts"] {
            kafka.create_topic(topic, PARTITIONS)?;
        }
        for number in [1, 2] {
            kafka.create_topic(&format!("retry-topics-user_logins-retry-{number}"), PARTITIONS)?;
        }
        kafka.produce("user_logins", &logins())?;
    }
    Ok(kafka)
}

/// One in ten of them fails.
fn logins() -> Vec<NewRecord> {
    let login = |number: usize| {
        let user = format!("user{}", number * 7 % USERS);
        let status = if number % 10 == 3 { "failure" } else { "success" };
        let value = format!(r#"{{"user":"{user}","status":"{status}","n":{number}}}"#);
        NewRecord::new(user, value)
    };
    (0..LOGINS).map(login).collect()
}

/// An example that runs, and the lines that it has logged.
struct Example {
    child: Child,
    group: String,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Example {
    /// Cargo builds the examples of this package with its tests.
    fn start(name: &str) -> Result<Self, Failed> {
        let tests = std::env::current_exe()?;
        let program: Option<PathBuf> =
            tests.ancestors().nth(2).map(|folder| folder.join("examples").join(name));
        let program = program.filter(|program| program.is_file());
        let program = program.ok_or("no such example: run `cargo test -p pelton-examples`")?;
        let mut child = Command::new(program)
            .args(["--bootstrap-servers", kafka()?.bootstrap_servers()])
            .args(["--set", "auto_offset_reset=earliest", "--set", "log.format=json"])
            .args(["--set", "admin.listen=127.0.0.1:0"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let lines = Arc::default();
        if let Some(logged) = child.stderr.take() {
            let lines = Arc::clone(&lines);
            std::thread::spawn(move || keep(BufReader::new(logged), &lines));
        }
        Ok(Self { child, group: name.replace('_', "-"), lines })
    }

    /// What it said in lines with this message.
    fn said(&self, message: &str) -> Vec<Value> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let says = |line: &&Value| line["message"] == message;
        lines.iter().filter(says).cloned().collect()
    }

    /// Until this is so; if it takes too long, the error has what the example said last.
    fn wait_until(&self, what: &str, is_so: impl Fn() -> bool) -> Result<(), Failed> {
        let waited = wait_for(what, PATIENCE, || is_so().then_some(()));
        waited.map_err(|late| {
            let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
            let last: Vec<_> = lines.iter().rev().take(10).rev().map(Value::to_string).collect();
            format!("{late}; {} said last:\n{}", self.group, last.join("\n")).into()
        })
    }

    /// Until it has committed all logins.
    fn wait_until_all_is_done(&self) -> Result<(), Failed> {
        let kafka = kafka()?;
        let ends = kafka.ends("user_logins")?;
        self.wait_until("all logins to be done", || {
            let committed = kafka.committed(&self.group, "user_logins").unwrap_or_default();
            ends.iter().copied().map(Some).eq(committed.iter().map(|at| at.offset))
        })
    }

    /// As Ctrl-C does.
    fn end(mut self) -> Result<(), Failed> {
        kill(Pid::from_raw(i32::try_from(self.child.id())?), Signal::SIGINT)?;
        let status = wait_for("the example to end", PATIENCE, || self.child.try_wait().ok()?)?;
        if !status.success() {
            return Err(format!("{} ended with {status}", self.group).into());
        }
        Ok(())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        drop(self.child.kill()); // it has ended, if all went well
        drop(self.child.wait());
    }
}

fn keep(logged: impl BufRead, lines: &Mutex<Vec<Value>>) {
    for line in logged.lines().map_while(Result::ok) {
        // What it says as it ends is no JSON.
        let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

fn sum(lines: &[Value], field: &str) -> u64 {
    lines.iter().filter_map(|line| line[field].as_u64()).sum()
}

/// By user, in the order in which it was said.
fn by_user<'a>(lines: &'a [Value], field: &str) -> BTreeMap<&'a str, Vec<u64>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for line in lines {
        let user = line["user"].as_str().unwrap_or_default();
        found.entry(user).or_default().extend(line[field].as_u64());
    }
    found
}

fn hello_worker() -> Result<(), Failed> {
    let example = Example::start("hello_worker")?;
    example.wait_until_all_is_done()?;
    assert_eq!(example.said("hello").len(), LOGINS);
    example.end()
}

fn key_order() -> Result<(), Failed> {
    let example = Example::start("key_order")?;
    example.wait_until_all_is_done()?;
    let seen = example.said("looked up");
    assert_eq!(seen.len(), LOGINS);
    for (user, offsets) in by_user(&seen, "offset") {
        assert!(offsets.is_sorted(), "{user}: {offsets:?}");
    }
    for (user, counts) in by_user(&seen, "seen") {
        assert!(counts.iter().copied().eq(1..=counts.len() as u64), "{user}: {counts:?}");
    }
    example.end()
}

fn is_failure(record: &StoredRecord) -> bool {
    String::from_utf8_lossy(record.value.as_deref().unwrap_or_default()).contains("failure")
}

fn retry_and_dead_letter() -> Result<(), Failed> {
    let example = Example::start("retry_and_dead_letter")?;
    example.wait_until_all_is_done()?;
    let failed = kafka()?.read_topic("user_logins")?.into_iter().filter(is_failure);
    let mut failed: Vec<_> = failed.map(|record| (record.key, record.value)).collect();
    let dead = kafka()?.read_topic("user_logins-dead")?;
    let attempts = dead.iter().filter_map(|letter| letter.header("pelton-attempts"));
    assert!(attempts.eq(std::iter::repeat_n(b"3", failed.len())), "{:?}", dead.first());
    let mut dead: Vec<_> = dead.into_iter().map(|record| (record.key, record.value)).collect();
    failed.sort();
    dead.sort();
    assert_eq!(dead, failed);
    assert_eq!(example.said("welcome").len(), LOGINS - failed.len());
    example.end()
}

fn retry_topics() -> Result<(), Failed> {
    let example = Example::start("retry_topics")?;
    example.wait_until("all users to be found", || example.said("found").len() == LOGINS)?;
    let found = example.said("found");
    let from_retry_topics = found.iter().filter(|line| line["topic"] != "user_logins");
    assert!(from_retry_topics.count() > 0, "nothing waited");
    example.end()
}

fn batch_insert() -> Result<(), Failed> {
    let example = Example::start("batch_insert")?;
    example.wait_until_all_is_done()?;
    let batches = example.said("a batch");
    assert_eq!(sum(&batches, "inserted"), LOGINS as u64);
    assert!(batches.len() < LOGINS / 3, "{} batches", batches.len());
    example.end()
}

fn deferred_completion() -> Result<(), Failed> {
    let example = Example::start("deferred_completion")?;
    example.wait_until_all_is_done()?;
    assert_eq!(sum(&example.said("answered"), "questions"), LOGINS as u64);
    example.end()
}

fn pause_and_seek() -> Result<(), Failed> {
    let example = Example::start("pause_and_seek")?;
    let is_first = |line: &&Value| line["partition"] == 0 && line["offset"] == 0;
    example.wait_until("the first partition to be read once more", || {
        example.said("a login").iter().filter(is_first).count() == 2
    })?;
    example.wait_until_all_is_done()?;
    example.end()
}

fn stateful_count() -> Result<(), Failed> {
    let example = Example::start("stateful_count")?;
    example.wait_until_all_is_done()?;
    let mut in_a_row = BTreeMap::<_, u32>::new();
    let mut expected = 0;
    for record in kafka()?.read_topic("user_logins")? {
        let row = in_a_row.entry(record.key.clone()).or_default();
        *row = if is_failure(&record) { *row + 1 } else { 0 };
        expected += usize::from(*row == 3);
    }
    assert_eq!(example.said("alert").len(), expected);
    assert_eq!(kafka()?.read_topic("login_alerts")?.len(), expected);
    example.end()
}
