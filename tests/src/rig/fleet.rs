//! The worker processes of a run, and what may be done to them.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use pelton::Fault;
use pelton::admin::{PartitionState, PartitionStatus};
use pelton::telemetry::names::REBALANCES_TOTAL;
use pelton_testkit::ledger::{FaultKind, FaultLog};

use crate::kafka::reaper::Reaper;
use crate::rig::endpoint::{self, Answer};
use crate::rig::steps::Steps;
use crate::rig::{Footprint, Protocol, RigPlan};
use crate::waiting::{Deadline, Stopwatch, patiently, wait_for};
use crate::{ClusterError, worker};

/// A worker may take so long to end after SIGTERM: its default shutdown time-out, and a little.
const END: Duration = Duration::from_secs(30);

/// A worker may take so long to join.
const JOIN: Duration = Duration::from_secs(60);

/// The file a worker leaves its reason in, beside its log.
const TERMINATION_LOG: &str = "end";

/// A slow record comes within so long.
const CATCH: Duration = Duration::from_secs(90);

/// A record that takes so long is a slow one.
const WELL_UNDER_WAY: Duration = Duration::from_millis(15);

/// The workers of a run. Those that still run when it is dropped are killed.
#[derive(Debug)]
pub struct Fleet {
    workers: Vec<WorkerProcess>,
    /// Asked to end, and not yet waited for.
    leaving: Vec<WorkerProcess>,
    environment: Vec<(String, String)>,
    arguments: Vec<String>,
    folder: PathBuf,
    reaper: Arc<Reaper>,
    faults: Arc<FaultLog>,
    is_static: bool,
    started: u32,
    shell: Option<String>,
    random: u64,
}

/// One worker process. Dropping it kills it if it still runs.
#[derive(Debug)]
pub struct WorkerProcess {
    name: String,
    child: Child,
    log: PathBuf,
    /// The folder.
    ledger: PathBuf,
    reaper: Arc<Reaper>,
}

/// How a worker ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its name.
    pub name: String,
    /// The process id that it had.
    pub pid: u32,
    /// How long its end was waited for; since SIGTERM, if it was asked to end.
    pub after: Duration,
    /// Its exit code, or the signal that ended it.
    pub status: ExitStatus,
    /// All it has logged.
    pub log: String,
    /// What Kubernetes would show as its reason; empty where it left none.
    pub termination_log: String,
}

impl Ended {
    /// The lines in which it says why: those that begin with `error: `, written last.
    #[must_use]
    pub fn reasons(&self) -> Vec<&str> {
        self.log.lines().filter_map(|line| line.strip_prefix("error: ")).collect()
    }
}

impl Fleet {
    pub(crate) fn new(
        environment: Vec<(String, String)>,
        arguments: Vec<String>,
        folder: &Path,
        reaper: &Arc<Reaper>,
        faults: &Arc<FaultLog>,
        plan: &RigPlan,
    ) -> Self {
        Self {
            workers: Vec::new(),
            leaving: Vec::new(),
            environment,
            arguments,
            folder: folder.to_owned(),
            reaper: Arc::clone(reaper),
            faults: Arc::clone(faults),
            is_static: plan.protocol == Protocol::StaticMembership,
            started: 0,
            shell: None,
            random: plan.seed.map_or_else(|| u64::from(std::process::id()) | 1, scattered),
        }
    }

    /// Workers that are started from now on are started by this shell script, which ends with
    /// `exec "$@"`: for limits, and for what their output goes to.
    #[must_use]
    pub fn by_shell(mut self, script: &str) -> Self {
        self.shell = Some(script.to_owned());
        self
    }

    /// Starts `count` workers more and waits until each is in the group.
    ///
    /// # Errors
    ///
    /// If one can't be started, ends by itself, or is not ready within a minute.
    pub fn start(&mut self, count: usize) -> Result<(), ClusterError> {
        for _ in 0..count {
            self.launch(&[])?;
        }
        self.workers.iter().rev().take(count).try_for_each(WorkerProcess::wait_until_joined)
    }

    /// Starts one worker more, with more settings (environment variables), and does not wait.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn launch(&mut self, settings: &[(&str, &str)]) -> Result<&WorkerProcess, ClusterError> {
        self.started += 1;
        let name = format!("worker-{}", self.started);
        self.launch_as(&name, settings)
    }

    /// As [`launch`](Self::launch), under a name; a static member's name is its instance id.
    ///
    /// # Errors
    ///
    /// If it can't be started.
    pub fn launch_as(
        &mut self,
        name: &str,
        settings: &[(&str, &str)],
    ) -> Result<&WorkerProcess, ClusterError> {
        let io = || ClusterError::io(format!("starting {name}"));
        let number = self.random();
        let log = self.folder.join(format!("{name}-{number:x}.log"));
        let mut command = worker::command().map_err(io())?;
        if let Some(script) = &self.shell {
            let mut shell = Command::new("sh");
            shell.args(["-c", script, "sh"]).arg(command.get_program()).args(command.get_args());
            command = shell;
        }
        command
            .args(&self.arguments)
            .args(["--name", name])
            .arg("--ledger")
            .arg(self.folder.join("ledger"))
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .env("PELTON__CLIENT_ID", name)
            .envs(settings.iter().map(|(name, value)| (format!("PELTON__{name}"), value)))
            .env("PELTON_TERMINATION_LOG", log.with_extension(TERMINATION_LOG))
            .env("NO_COLOR", "1")
            // As the image and the systemd unit do (docs/guarantees.md: memory).
            .env("MALLOC_MMAP_THRESHOLD_", "262144")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).map_err(io())?);
        if self.is_static {
            command.env("PELTON__GROUP_INSTANCE_ID", name);
        }
        let child = command.spawn().map_err(io())?;
        let (ledger, reaper) = (self.folder.join("ledger"), Arc::clone(&self.reaper));
        let name = name.to_owned();
        self.workers.push(WorkerProcess { name, child, log, ledger, reaper });
        let started = self.workers.last().ok_or_else(none)?;
        self.reaper.runs(started.pid())?;
        Ok(started)
    }

    /// Workers that are started from now on have no slow or failing records and drain at once.
    #[must_use]
    pub fn unhindered(mut self) -> Self {
        self.arguments.clear();
        self
    }

    /// How many run.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// How many were started under numbers of their own, running or not.
    #[must_use]
    pub fn started(&self) -> usize {
        usize::try_from(self.started).unwrap_or(usize::MAX)
    }

    /// Is there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// Its workers.
    #[must_use]
    pub fn workers(&self) -> &[WorkerProcess] {
        &self.workers
    }

    /// Asks a worker to end (SIGTERM) and waits for it. Its exit status is not judged.
    ///
    /// # Errors
    ///
    /// If it does not end.
    pub fn terminate(&mut self, at: usize) -> Result<(String, ExitStatus), ClusterError> {
        let mut worker = self.take(at)?;
        self.tell(FaultKind::Terminate, &worker)?;
        worker.signal(Signal::SIGTERM)?;
        let status = worker.wait(END)?;
        Ok((worker.name.clone(), status))
    }

    /// Asks a random worker to end (SIGTERM) and does not wait; its name. It may not have joined.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn dismiss_any(&mut self) -> Result<String, ClusterError> {
        let at = self.pick();
        self.dismiss(at)
    }

    /// Asks a worker to end (SIGTERM) and does not wait; its name.
    ///
    /// # Errors
    ///
    /// If there is none at that place.
    pub fn dismiss(&mut self, at: usize) -> Result<String, ClusterError> {
        let worker = self.take(at)?;
        self.tell(FaultKind::Terminate, &worker)?;
        worker.signal(Signal::SIGTERM)?;
        let name = worker.name.clone();
        self.leaving.push(worker);
        Ok(name)
    }

    /// Waits for all that were dismissed; how each ended is not judged.
    ///
    /// # Errors
    ///
    /// If one does not end.
    pub fn ends_of_the_dismissed(&mut self) -> Result<Vec<Ended>, ClusterError> {
        let watch = Stopwatch::start();
        let ended = self.leaving.drain(..).map(|mut worker| {
            let status = worker.wait(END)?;
            Ok(worker.ended(watch.elapsed(), status))
        });
        ended.collect()
    }

    /// Takes out those that have ended by themselves.
    ///
    /// # Errors
    ///
    /// If the system does not say whether they run.
    pub fn take_ended(&mut self) -> Result<Vec<Ended>, ClusterError> {
        let mut ended = Vec::new();
        for mut worker in std::mem::take(&mut self.workers) {
            match worker.child.try_wait().map_err(ClusterError::io(&worker.name))? {
                Some(status) => ended.push(worker.ended(Duration::ZERO, status)),
                None => self.workers.push(worker),
            }
        }
        Ok(ended)
    }

    /// Takes out those that have died of a signal that nobody sent, and tells the ledger of each as
    /// of a kill.
    ///
    /// # Errors
    ///
    /// If one has ended in another way, with the end of its log.
    pub fn take_dead(&mut self) -> Result<Vec<Ended>, ClusterError> {
        let ended = self.take_ended()?;
        for Ended { name, pid, status, log, .. } in &ended {
            if status.signal().is_none() {
                let what = format!("{name} ended by itself ({status})");
                return Err(ClusterError::refused(what, tail(log)));
            }
            let told = self.faults.fault(FaultKind::Kill, name, *pid);
            told.map_err(ClusterError::io("the fault log"))?;
        }
        Ok(ended)
    }

    /// Waits for all that were dismissed, and insists on clean exits.
    ///
    /// # Errors
    ///
    /// If one does not end, or not with exit code 0.
    pub fn wait_for_the_dismissed(&mut self) -> Result<(), ClusterError> {
        for mut worker in self.leaving.drain(..) {
            let status = worker.wait(END)?;
            clean(&worker.name, status, &worker.log)?;
        }
        Ok(())
    }

    /// Asks a random worker to end (SIGTERM), waits, and insists on a clean exit.
    ///
    /// # Errors
    ///
    /// If it does not end, or not with exit code 0.
    pub fn terminate_any(&mut self) -> Result<String, ClusterError> {
        let at = self.pick();
        self.terminate_cleanly(at)
    }

    /// Asks a worker to end (SIGTERM), waits, and insists on a clean exit.
    ///
    /// # Errors
    ///
    /// If there is none at that place, it does not end, or not with exit code 0.
    pub fn terminate_cleanly(&mut self, at: usize) -> Result<String, ClusterError> {
        let log = self.workers.get(at).map(|worker| worker.log.clone()).unwrap_or_default();
        let (name, status) = self.terminate(at)?;
        clean(&name, status, &log)?;
        Ok(name)
    }

    /// Asks all to end at once, and insists on clean exits.
    ///
    /// # Errors
    ///
    /// If one does not end, or not with exit code 0.
    pub fn terminate_all(&mut self) -> Result<(), ClusterError> {
        for worker in &self.workers {
            self.tell(FaultKind::Terminate, worker)?;
            worker.signal(Signal::SIGTERM)?;
        }
        for worker in &mut self.workers.drain(..) {
            let mut worker = worker;
            let status = worker.wait(END)?;
            clean(&worker.name, status, &worker.log)?;
        }
        Ok(())
    }

    /// Asks each worker to end (SIGTERM), the first at the first moment from now, and so on, over
    /// and over; waits for all, and judges nothing.
    ///
    /// # Errors
    ///
    /// If one does not end `within` that time after it was asked to.
    pub fn terminate_at(
        &mut self,
        moments: &[Duration],
        within: Duration,
    ) -> Result<Vec<Ended>, ClusterError> {
        let watch = Stopwatch::start();
        let due = moments.iter().cycle().copied();
        let mut waiting: Vec<_> = due.zip(self.workers.drain(..)).collect();
        let mut asked: Vec<(Stopwatch, WorkerProcess)> = Vec::new();
        let mut ended = Vec::new();
        while !(waiting.is_empty() && asked.is_empty()) {
            let now = watch.elapsed();
            for (_, worker) in waiting.extract_if(.., |(moment, _)| *moment <= now) {
                tell(&self.faults, FaultKind::Terminate, &worker)?;
                worker.signal(Signal::SIGTERM)?;
                asked.push((Stopwatch::start(), worker));
            }
            let mut still = Vec::new();
            for (since, mut worker) in asked {
                let after = since.elapsed();
                match worker.child.try_wait().map_err(ClusterError::io(&worker.name))? {
                    Some(status) => ended.push(worker.ended(after, status)),
                    None if after > within => {
                        let (what, last) = (format!("the end of {}", worker.name), worker.log());
                        return Err(ClusterError::Late { what, within, last: tail(&last) });
                    }
                    None => still.push((since, worker)),
                }
            }
            asked = still;
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(ended)
    }

    /// Kills a random one of the workers that have joined (SIGKILL); its name.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn kill_any(&mut self) -> Result<String, ClusterError> {
        let joined = patiently("a worker that has joined", JOIN, || {
            let numbered = self.workers.iter().enumerate();
            let joined: Vec<usize> =
                numbered.filter(|(_, worker)| worker.has_joined()).map(|(at, _)| at).collect();
            if joined.is_empty() { Err(self.logs()) } else { Ok(joined) }
        })?;
        let lot = self.random() % u64::try_from(joined.len()).unwrap_or(1);
        let at = usize::try_from(lot).ok().and_then(|lot| joined.get(lot).copied());
        let at = at.ok_or_else(none)?;
        self.kill(at)
    }

    /// Kills a worker (SIGKILL); its name.
    ///
    /// # Errors
    ///
    /// If there is none at that place.
    pub fn kill(&mut self, at: usize) -> Result<String, ClusterError> {
        let mut worker = self.take(at)?;
        self.tell(FaultKind::Kill, &worker)?;
        worker.signal(Signal::SIGKILL)?;
        worker.wait(END)?;
        Ok(worker.name.clone())
    }

    /// Waits until a worker ends by itself, and takes it out.
    ///
    /// # Errors
    ///
    /// If there is none at that place, or [`ClusterError::Late`] with the end of its log.
    pub fn wait_for_end(&mut self, at: usize, within: Duration) -> Result<Ended, ClusterError> {
        let watch = Stopwatch::start();
        let worker = self.workers.get_mut(at).ok_or_else(none)?;
        let status = worker.wait(within)?;
        let worker = self.take(at)?;
        let after = watch.elapsed();
        Ok(worker.ended(after, status))
    }

    /// Freezes a random worker (SIGSTOP); its place.
    ///
    /// # Errors
    ///
    /// If there is none.
    pub fn freeze_any(&mut self) -> Result<usize, ClusterError> {
        let at = self.pick();
        self.freeze(at)?;
        Ok(at)
    }

    /// Freezes a random worker while one of its handlers is in the middle of a record; its place.
    ///
    /// The run needs slow records: one must last until the signal has come. Where it does not,
    /// the worker goes on at once and another record is waited for.
    ///
    /// # Errors
    ///
    /// If there is none, or no handler is caught within a minute and a half.
    pub fn freeze_any_mid_record(&mut self) -> Result<usize, ClusterError> {
        let at = self.pick();
        let what = format!("{} in the middle of a record", self.name_of(at));
        let deadline = Deadline::after(CATCH);
        while !deadline.has_passed() {
            let worker = self.workers.get(at).ok_or_else(none)?;
            let step = worker.steps();
            let attempt = wait_for(&what, deadline.left(), || {
                let first = step.in_flight().ok()?;
                std::thread::sleep(WELL_UNDER_WAY); // what is still running then runs longer
                step.in_flight().ok()?.into_iter().find(|attempt| first.contains(attempt))
            })?;
            self.freeze(at)?;
            if step.in_flight()?.contains(&attempt) {
                return Ok(at);
            }
            self.thaw(at)?;
        }
        Err(ClusterError::Late { what, within: CATCH, last: String::new() })
    }

    /// Freezes a worker (SIGSTOP) and waits until it stands still.
    ///
    /// # Errors
    ///
    /// If there is none at that place, or it has ended.
    pub fn freeze(&mut self, at: usize) -> Result<(), ClusterError> {
        let worker = self.workers.get(at).ok_or_else(none)?;
        self.tell(FaultKind::Stop, worker)?;
        worker.signal(Signal::SIGSTOP)?;
        worker.wait_until_stopped()
    }

    /// Lets a frozen worker go on (SIGCONT).
    ///
    /// # Errors
    ///
    /// If there is none at that place.
    pub fn thaw(&mut self, at: usize) -> Result<(), ClusterError> {
        let worker = self.workers.get(at).ok_or_else(none)?;
        self.tell(FaultKind::Continue, worker)?;
        worker.signal(Signal::SIGCONT)
    }

    /// Rebalance events that the workers have counted since each began: `assigned`, `revoked` and
    /// `lost`, with and without partitions in them.
    ///
    /// # Errors
    ///
    /// If a worker does not answer.
    pub fn rebalance_events(&self) -> Result<u64, ClusterError> {
        self.workers.iter().map(WorkerProcess::rebalance_events).sum()
    }

    /// Lets a Kafka client of a worker break, or its poll loop hang.
    ///
    /// # Errors
    ///
    /// If there is none at that place, or it has ended.
    pub fn inject(&self, at: usize, fault: Fault) -> Result<(), ClusterError> {
        let worker = self.workers.get(at).ok_or_else(none)?;
        let signal = worker::signal_for(fault)
            .ok_or_else(|| ClusterError::refused(format!("{fault:?}"), "no signal does it"))?;
        worker.signal(signal)
    }

    /// Insists that every worker still runs.
    ///
    /// # Errors
    ///
    /// If one has ended by itself, with the end of its log.
    pub fn check_alive(&mut self) -> Result<(), ClusterError> {
        self.workers.iter_mut().try_for_each(WorkerProcess::check_alive)
    }

    /// A number, from xorshift64.
    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// The last lines of every log.
    pub(crate) fn logs(&self) -> String {
        let log = |worker: &WorkerProcess| format!("{}:\n{}", worker.name, tail(&worker.log()));
        self.workers.iter().map(log).collect::<Vec<_>>().join("\n")
    }

    fn name_of(&self, at: usize) -> &str {
        self.workers.get(at).map_or("nobody", WorkerProcess::name)
    }

    fn pick(&mut self) -> usize {
        let count = u64::try_from(self.workers.len().max(1)).unwrap_or(1);
        usize::try_from(self.random() % count).unwrap_or(0)
    }

    fn take(&mut self, at: usize) -> Result<WorkerProcess, ClusterError> {
        if at < self.workers.len() { Ok(self.workers.remove(at)) } else { Err(none()) }
    }

    fn tell(&self, kind: FaultKind, worker: &WorkerProcess) -> Result<(), ClusterError> {
        tell(&self.faults, kind, worker)
    }
}

/// A seed for xorshift64: not 0, and far from that of the seed before.
fn scattered(seed: u64) -> u64 {
    seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

fn tell(faults: &FaultLog, kind: FaultKind, worker: &WorkerProcess) -> Result<(), ClusterError> {
    faults.fault(kind, &worker.name, worker.child.id()).map_err(ClusterError::io("the fault log"))
}

impl Drop for WorkerProcess {
    fn drop(&mut self) {
        // Gone already, most of them.
        let _gone = self.child.kill().is_err();
        let _gone = self.child.wait().is_err();
        let _gone = self.reaper.ended(self.child.id()).is_err();
    }
}

impl WorkerProcess {
    /// Its name in the ledger; its client id.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn ended(&self, after: Duration, status: ExitStatus) -> Ended {
        let termination_log = self.log.with_extension(TERMINATION_LOG);
        let termination_log = std::fs::read_to_string(termination_log).unwrap_or_default();
        let (name, pid) = (self.name.clone(), self.pid());
        Ended { name, pid, after, status, log: self.log(), termination_log }
    }

    /// Is it in its group, with or without partitions?
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.log().contains("joined the group")
    }

    /// What it does, step by step.
    #[must_use]
    pub fn steps(&self) -> Steps {
        Steps::of(&self.ledger, &self.name, self.pid())
    }

    /// Asks its admin endpoint for a path, once that endpoint is there.
    ///
    /// # Errors
    ///
    /// If it has none within a minute, or it does not answer in HTTP.
    pub fn ask(&self, path: &str) -> Result<Answer, ClusterError> {
        let address = patiently(&format!("the endpoint of {}", self.name), JOIN, || {
            let log = self.log();
            let found = log.split("admin endpoint address=").nth(1);
            let address = found.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
            address.ok_or_else(|| tail(&log))
        })?;
        endpoint::ask(address, path)
    }

    /// The rebalance events that it has counted.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn rebalance_events(&self) -> Result<u64, ClusterError> {
        let answer = self.ask("/metrics")?;
        let refused = |why: String| ClusterError::refused(format!("{}'s metrics", self.name), why);
        let count = |event| {
            let found = answer.metric(REBALANCES_TOTAL, &[("event", event)]);
            let found =
                found.ok_or_else(|| refused(format!("no {REBALANCES_TOTAL} of {event}")))?;
            found.to_string().parse::<u64>().map_err(|error| refused(error.to_string()))
        };
        ["assigned", "revoked", "lost"].into_iter().map(count).sum()
    }

    /// What it holds of the system: open files, threads, memory.
    ///
    /// # Errors
    ///
    /// If it has ended.
    pub fn footprint(&self) -> Result<Footprint, ClusterError> {
        Footprint::of(self.pid())
    }

    /// The partitions it says it owns, by number, with their states.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn partitions(&self) -> Result<Vec<PartitionStatus>, ClusterError> {
        let answer = self.ask("/partitions")?;
        serde_json::from_str(&answer.body)
            .map_err(|error| ClusterError::refused(format!("{}'s partitions", self.name), error))
    }

    /// How many partitions it says it runs.
    ///
    /// # Errors
    ///
    /// As [`ask`](Self::ask).
    pub fn running(&self) -> Result<usize, ClusterError> {
        let partitions = self.partitions()?;
        Ok(partitions.iter().filter(|p| p.state == PartitionState::Running).count())
    }

    /// Waits until it is in its group, with or without partitions.
    ///
    /// # Errors
    ///
    /// If it is not within a minute.
    pub fn wait_until_joined(&self) -> Result<(), ClusterError> {
        patiently(&format!("{} in its group", self.name), JOIN, || {
            if self.has_joined() { Ok(()) } else { Err(tail(&self.log())) }
        })
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// [`ClusterError::Late`] if it does not come.
    pub fn wait(&mut self, within: Duration) -> Result<ExitStatus, ClusterError> {
        let child = &mut self.child;
        let ended = patiently(&format!("the end of {}", self.name), within, || {
            child.try_wait().map_err(|e| e.to_string())?.ok_or_else(|| "it runs".to_owned())
        });
        ended.map_err(|error| ClusterError::refused(error.to_string(), tail(&self.log())))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) -> Result<(), ClusterError> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        kill(pid, signal).map_err(|error| ClusterError::refused(format!("{signal}"), error))
    }

    /// A signal takes a moment to arrive.
    fn wait_until_stopped(&self) -> Result<(), ClusterError> {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(i32::MAX));
        match waitpid(pid, Some(WaitPidFlag::WUNTRACED)) {
            Ok(WaitStatus::Stopped(..)) => Ok(()),
            Ok(other) => Err(ClusterError::refused(&self.name, format!("it ended: {other:?}"))),
            Err(error) => Err(ClusterError::refused(&self.name, error)),
        }
    }

    fn check_alive(&mut self) -> Result<(), ClusterError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            Ok(Some(status)) => {
                let what = format!("{} ended by itself ({status})", self.name);
                Err(ClusterError::refused(what, tail(&self.log())))
            }
            Err(error) => Err(ClusterError::refused(&self.name, error)),
        }
    }
}

fn clean(name: &str, status: ExitStatus, log: &Path) -> Result<(), ClusterError> {
    if status.success() {
        return Ok(());
    }
    let log = std::fs::read_to_string(log).unwrap_or_default();
    Err(ClusterError::refused(format!("{name} ended with {status}"), tail(&log)))
}

fn none() -> ClusterError {
    ClusterError::refused("doing something to a worker", "there is none")
}

/// The last lines of a log.
fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}
