//! What does the worker show of itself? A board that the poll loop fills and anyone may read.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use pelton_engine::{PartitionState as EngineState, PartitionView, Time};

use crate::admin::{Health, MemoryStatus, PartitionState, PartitionStatus, Status};
use crate::error::WorkerError;
use crate::ports::Host;
use crate::topic_partition::TopicPartition;

#[derive(Debug)]
pub(crate) struct StatusBoard {
    worker: String,
    group: String,
    board: Mutex<Board>,
    /// The worker's clock, once it runs.
    host: OnceLock<Arc<dyn Host>>,
}

/// A poll loop that has not shown itself for so long hangs.
const HANGING: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
struct Board {
    joined: bool,
    draining: bool,
    ended: bool,
    failure: Option<String>,
    /// When the poll loop showed itself last.
    shown: Option<Time>,
    partitions: Vec<PartitionStatus>,
    memory: Option<MemoryStatus>,
    /// Input topics that are not there.
    missing: Vec<String>,
}

impl StatusBoard {
    pub(crate) fn new(worker: String, group: String) -> Self {
        Self { worker, group, board: Mutex::default(), host: OnceLock::new() }
    }

    /// The worker runs from now on, by this clock.
    pub(crate) fn started(&self, host: &Arc<dyn Host>) {
        let _first = self.host.set(Arc::clone(host));
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn joined(&self) {
        if !std::mem::replace(&mut self.board().joined, true) {
            tracing::info!(group = self.group, "joined the group");
        }
    }

    pub(crate) fn has_joined(&self) -> bool {
        self.board().joined
    }

    pub(crate) fn draining(&self) {
        self.board().draining = true;
    }

    pub(crate) fn ended(&self) {
        self.board().ended = true;
    }

    pub(crate) fn failed(&self, error: &WorkerError) {
        self.board().failure.get_or_insert_with(|| error.to_string());
    }

    pub(crate) fn show(&self, now: Time, partitions: Vec<PartitionStatus>, missing: Vec<String>) {
        let mut board = self.board();
        board.shown = Some(now);
        board.partitions = partitions;
        board.missing = missing;
    }

    pub(crate) fn show_memory(&self, memory: MemoryStatus) {
        self.board().memory = Some(memory);
    }

    /// How long the poll loop has not shown itself.
    fn silence(&self, board: &Board) -> Duration {
        let now = self.host.get().map(|host| host.now());
        now.zip(board.shown).map_or(Duration::ZERO, |(now, shown)| now.since(shown))
    }
}

/// One line of the board; `None` for a partition that is no longer ours.
pub(crate) fn partition_status(
    name: &TopicPartition,
    view: &PartitionView,
    behind: Option<Duration>,
) -> Option<PartitionStatus> {
    let state = match view.state {
        EngineState::Restoring => PartitionState::Restoring,
        EngineState::Running => PartitionState::Running,
        EngineState::Draining => PartitionState::Draining,
        EngineState::Released | EngineState::Lost => return None,
    };
    let (committed, end) = (view.committed.map(|o| o.0), view.end.map(|o| o.0));
    let mut line = PartitionStatus::new(name.topic(), name.partition(), state);
    line.position = view.position.map(|o| o.0);
    line.committed = committed;
    line.end_offset = end;
    line.lag = end.zip(committed).map(|(end, committed)| (end - committed).max(0));
    line.time_lag_seconds = behind.map(|behind| behind.as_secs_f64());
    Some(line)
}

impl Status for StatusBoard {
    fn health(&self) -> Health {
        let board = self.board();
        let restoring =
            board.partitions.iter().filter(|p| p.state == PartitionState::Restoring).count();
        let hangs = self.silence(&board) >= HANGING;
        let mut reasons = Vec::new();
        if hangs {
            reasons.push("the poll loop hangs".to_owned());
        }
        if !board.joined {
            reasons.push("not in the group yet".to_owned());
        }
        if restoring > 0 {
            reasons.push(format!("{restoring} partitions are restoring"));
        }
        if board.draining {
            reasons.push("shutting down".to_owned());
        }
        let missing = board.missing.iter();
        reasons.extend(missing.map(|topic| format!("the input topic {topic} does not exist")));
        reasons.extend(board.failure.clone());
        Health {
            live: !board.ended && !hangs,
            ready: board.joined && restoring == 0 && !board.draining && !hangs,
            started: board.joined,
            reasons,
            worker: self.worker.clone(),
            group: self.group.clone(),
        }
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        self.board().partitions.clone()
    }

    fn memory(&self) -> Option<MemoryStatus> {
        self.board().memory
    }
}
