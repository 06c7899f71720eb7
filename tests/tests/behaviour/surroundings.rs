//! What if the machine is hostile? Addresses that are none, files that can't be read, disks that
//! are full, limits that are low, a stderr that nobody reads: one clear message, soon, or none of
//! it matters; never a panic, never a hang.

use std::fs::{File, Permissions};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use libtest_mimic::Failed;
use pelton_tests::{Cluster, Ended, Rig, Stopwatch, Trial, wait_for, worker};

use crate::refusal::Refusal;
use crate::{embedded, embedded_plan, insist, login, say};

/// What needs no network is said by then.
const AT_ONCE: Duration = Duration::from_secs(10);

/// A Kafka that does not answer is given up by then.
const SOON: Duration = Duration::from_secs(25);

/// Something that must happen, and soon does.
const PATIENCE: Duration = Duration::from_secs(40);

/// A user without rights.
const NOBODY: u32 = 65_534;

pub(crate) fn trials() -> Vec<Trial> {
    let test = |name: &str, run: fn() -> Result<(), Failed>| Trial::new(name, run);
    vec![
        test("hostile::addresses_that_are_no_kafka_are_named", addresses),
        test("hostile::a_settings_file_that_is_none_is_named", settings_files),
        test("hostile::names_and_ports_that_can_t_be_are_named", names_and_ports),
        test("hostile::a_state_directory_that_takes_no_file_is_named", state_directories),
        test("hostile::a_state_directory_on_a_full_disk_is_named", full_disk),
        test("hostile::an_output_that_nobody_takes_changes_nothing", deaf_outputs),
        test("hostile::the_last_word_does_not_need_a_listener", last_word),
        // A worker inherits the files of the clients that other tests have in this process.
        test("hostile::too_few_files_are_an_error_or_enough", few_files).alone(),
    ]
}

/// A name nobody has; a port that speaks, but not Kafka's language.
fn addresses() -> Result<(), Failed> {
    let http = TcpListener::bind("127.0.0.1:0")?;
    let address = http.local_addr()?.to_string();
    std::thread::spawn(move || {
        for stream in http.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 64];
            let _asked = stream.read(&mut request).is_err();
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
            let _gone = stream.write_all(answer).is_err();
        }
    });
    let unresolvable = "no-such-host.invalid:9092";
    let mut running = Vec::new();
    for address in [unresolvable, &address] {
        running.push((address, Started::new(&[("BOOTSTRAP_SERVERS", address)], &[], |_| ())?));
    }
    for (address, started) in running {
        let says = &[address, "is bootstrap_servers right"];
        Refusal { code: "PLT-0301", exit: 8, says }.hold(&started.ended(SOON)?)?;
    }
    Ok(())
}

fn settings_files() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    File::create(path("huge.toml"))?.set_len(100_000_000)?;
    std::fs::write(path("binary.toml"), [0x7f, b'E', b'L', b'F', 0, 0xff, 0xfe])?;
    std::fs::write(path("nested.toml"), format!("a = {}", "[".repeat(100_000)))?;
    std::fs::create_dir(path("folder.toml"))?;
    std::fs::write(path("private.toml"), "group_id = \"a\"")?;
    std::fs::set_permissions(path("private.toml"), Permissions::from_mode(0o000))?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    for (name, code, says) in [
        ("missing.toml", "PLT-0101", "can't be read"),
        ("folder.toml", "PLT-0101", "it is a directory"),
        ("private.toml", "PLT-0101", "can't be read"),
        ("huge.toml", "PLT-0102", "is larger than"),
        ("binary.toml", "PLT-0103", "is not TOML"),
        ("nested.toml", "PLT-0103", "is not TOML"),
    ] {
        let path = path(name);
        let started = Started::new(&[], &["--config", &path], as_nobody)?;
        let says = &[path.as_str(), says];
        Refusal { code, exit: 2, says }.hold(&started.ended(AT_ONCE)?)?;
    }
    Ok(())
}

fn names_and_ports() -> Result<(), Failed> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?.to_string();
    for (settings, code, exit, says) in [
        ([("LOGIN_COUNTER__INPUT_TOPIC", "user logins"); 2], "PLT-0201", 2, "user logins"),
        ([("LOGIN_COUNTER__OUTPUT_TOPIC", ".."); 2], "PLT-0201", 2, "is no legal topic name"),
        ([("GROUP_ID", ""); 2], "PLT-0105", 2, "group_id"),
        ([("ADMIN__LISTEN", taken.as_str()); 2], "PLT-0131", 1, "another process does"),
        ([("ADMIN__LISTEN", "192.0.2.1:9464"); 2], "PLT-0132", 1, "192.0.2.1:9464"),
        ([("BOOTSTRAP_SERVERS", ""); 2], "PLT-0106", 2, "bootstrap_servers"),
    ] {
        let started = Started::new(&settings[..1], &[], |_| ())?;
        Refusal { code, exit, says: &[says] }.hold(&started.ended(AT_ONCE)?)?;
    }
    Ok(())
}

fn state_directories() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "")?;
    let locked = folder.path().join("locked");
    std::fs::create_dir(&locked)?;
    std::fs::set_permissions(&locked, Permissions::from_mode(0o555))?;
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
    for (path, says) in [
        (file.clone(), "it is not a directory"),
        (file.join("below"), "Not a directory"),
        (locked.clone(), "ermission denied"),
        (locked.join("below"), "ermission denied"),
        ("/proc/pelton".into(), "can't be used"),
    ] {
        refuses_state_in(&path, says)?;
    }
    Ok(())
}

fn refuses_state_in(path: &Path, says: &str) -> Result<(), Failed> {
    let path = path.display().to_string();
    let started = Started::new(&[("STATE_DIR", &path)], &[], as_nobody)?;
    let says = &[path.as_str(), says, "state_dir"];
    Refusal { code: "PLT-0602", exit: 1, says }.hold(&started.ended(AT_ONCE)?)
}

/// A disk of 16 KiB that is full, where we may mount one.
fn full_disk() -> Result<(), Failed> {
    let folder = tempfile::tempdir()?;
    let mount = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=16k,mode=0777", "none"])
        .arg(folder.path())
        .stderr(Stdio::null())
        .status();
    if !mount.is_ok_and(|status| status.success()) {
        say("no disk could be mounted: not looked at");
        return Ok(());
    }
    let fill = File::create(folder.path().join("fill"))?.write_all(&[1; 64 * 1024]);
    let refused = refuses_state_in(folder.path(), "No space left");
    let left = std::fs::read_dir(folder.path())?.count();
    Command::new("umount").arg(folder.path()).status()?;
    insist(fill.is_err() && left == 1, || format!("{fill:?}, {left} files"))?;
    refused
}

/// Workers whose stderr is full, closed, or has lost its reader count like any other.
fn deaf_outputs() -> Result<(), Failed> {
    let cluster = embedded()?;
    for script in [
        r#"exec "$@" >/dev/full 2>/dev/full"#,
        r#"exec "$@" >&- 2>&- <&-"#,
        r#"mkfifo "$PELTON_PIPE"; head -c 1 <"$PELTON_PIPE" >/dev/null & exec "$@" 2>"$PELTON_PIPE""#,
    ] {
        let folder = tempfile::tempdir()?;
        let pipe = folder.path().join("pipe").display().to_string();
        let script = format!("PELTON_PIPE='{pipe}'; {script}");
        // A warning for every record that is none: there is something to say all the time.
        let plan =
            embedded_plan().with("LOGIN_COUNTER__ON_INVALID", "skip").with("LOG__FILTER", "debug");
        let rig = Rig::new(&cluster, plan)?;
        let input = &rig.names().input;
        let records: Vec<_> = (0..100)
            .map(|n| {
                if n % 2 == 0 {
                    login("alice", 0)
                } else {
                    crate::NewRecord::new("k", "none").to_partition(0)
                }
            })
            .collect();
        cluster.produce(input, &records)?;
        let mut fleet = rig.fleet().by_shell(&script);
        fleet.launch(&[])?;
        rig.wait_until_handled(PATIENCE)?;
        cluster.produce(input, &records)?;
        rig.wait_until_handled(PATIENCE)?;
        fleet.check_alive()?;
        // Ended in good order, with 0, although it could say nothing of it.
        fleet.terminate_all()?;
        let outcome = rig.outcome()?;
        insist(outcome.ledger.is_clean() && outcome.ledger.skipped == 100, || outcome.to_string())?;
    }
    Ok(())
}

/// The exit code says what the last word can't.
fn last_word() -> Result<(), Failed> {
    for (arguments, exit) in [
        (&["--config", "/no/such.toml"][..], 2),
        (&["--print-config"][..], 1),
        (&["--help"][..], 0),
    ] {
        let full = || File::options().write(true).open("/dev/full");
        let (stdout, stderr) = (full()?, full()?);
        let started = Started::new(&[], arguments, move |command| {
            command.stdout(stdout).stderr(stderr);
        })?;
        let code = started.ended(AT_ONCE)?.status.code();
        insist(code == Some(exit), || format!("{arguments:?}: {code:?}"))?;
    }
    Ok(())
}

/// With few descriptors it works, or it says that there are too few: at its end, or while it tries
/// again; and it can be ended. With fewer still, tokio's runtime can't be made, and `main` panics
/// before Pelton is asked.
fn few_files() -> Result<(), Failed> {
    const SAID: &str = "Too many open files";
    let cluster = embedded()?;
    for limit in [16, 24, 64] {
        let rig = Rig::new(&cluster, embedded_plan())?;
        cluster.produce(&rig.names().input, &vec![login("alice", 0); 20])?;
        let mut fleet = rig.fleet().by_shell(&format!(r#"ulimit -n {limit}; exec "$@""#));
        fleet.launch(&[])?;
        wait_for("an end, a word or a result", PATIENCE, || {
            let handled = rig.wait_until_handled(Duration::from_millis(200)).is_ok();
            (handled || fleet.workers()[0].log().contains(SAID)).then_some(())
        })?;
        let log = fleet.workers()[0].log();
        let result = if log.contains(SAID) { "it says so" } else { "enough" };
        say(&format!("{limit} files: {result}"));
        // Sooner or later, in order or not, but it ends.
        let (_, status) = fleet.terminate(0)?;
        insist(status.signal().is_none(), || format!("{limit}: {status}"))?;
        insist(!log.contains("panicked at"), || format!("{limit}: {log}"))?;
        insist(limit < 64 || result == "enough", || format!("{limit}: {log}"))?;
    }
    Ok(())
}

/// A worker that is to end by itself.
struct Started {
    child: std::process::Child,
    log: tempfile::NamedTempFile,
    /// What Kubernetes would show.
    termination_log: tempfile::NamedTempFile,
    since: Stopwatch,
}

impl Started {
    /// With an address where nobody listens, unless the settings have another.
    fn new(
        settings: &[(&str, &str)],
        arguments: &[&str],
        change: impl FnOnce(&mut Command),
    ) -> Result<Self, Failed> {
        let (log, termination_log) =
            (tempfile::NamedTempFile::new()?, tempfile::NamedTempFile::new()?);
        // The worker may be another user than we are.
        std::fs::set_permissions(termination_log.path(), Permissions::from_mode(0o666))?;
        let mut command = worker::command()?;
        command
            .args(arguments)
            .env("PELTON__BOOTSTRAP_SERVERS", "127.0.0.1:1")
            .env("PELTON__AUTO_OFFSET_RESET", "earliest")
            .env("PELTON__ADMIN__LISTEN", "127.0.0.1:0")
            .env("PELTON_TERMINATION_LOG", termination_log.path())
            .envs(settings.iter().map(|(name, value)| (format!("PELTON__{name}"), value)))
            .stdout(Stdio::null())
            .stderr(log.reopen()?);
        change(&mut command);
        Ok(Self { child: command.spawn()?, log, termination_log, since: Stopwatch::start() })
    }

    fn ended(mut self, within: Duration) -> Result<Ended, Failed> {
        let status = wait_for("the worker's end", within, || self.child.try_wait().ok().flatten());
        if status.is_err() {
            self.child.kill()?;
            self.child.wait()?;
        }
        let log = std::fs::read_to_string(self.log.path())?;
        let status = status.map_err(|late| format!("{late}\n{log}"))?;
        let (name, pid, after) = ("worker".to_owned(), self.child.id(), self.since.elapsed());
        let termination_log = std::fs::read_to_string(self.termination_log.path())?;
        Ok(Ended { name, pid, after, status, log, termination_log })
    }
}

/// Root may read and write everything: where we are root, the worker is not.
fn as_nobody(command: &mut Command) {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    if is_root {
        command.uid(NOBODY).gid(NOBODY);
    }
}
