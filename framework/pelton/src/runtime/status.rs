//! What does the worker show of itself? A board that the poll loop fills and anyone may read.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use pelton_engine::{PartitionState as EngineState, PartitionView};

use crate::admin::{Health, MemoryStatus, PartitionState, PartitionStatus, Status};
use crate::error::WorkerError;
use crate::ports::ClientKind;
use crate::topic_partition::TopicPartition;

#[derive(Debug)]
pub(crate) struct StatusBoard {
    worker: String,
    group: String,
    board: Mutex<Board>,
}

#[derive(Debug, Default)]
struct Board {
    joined: bool,
    /// It has joined its group once.
    started: bool,
    draining: bool,
    ended: bool,
    failure: Option<String>,
    /// What the poll loop hangs in.
    hangs: Option<String>,
    /// Clients that are being rebuilt, and why.
    rebuilding: Vec<(ClientKind, String)>,
    partitions: Vec<PartitionStatus>,
    memory: Option<MemoryStatus>,
    /// Input topics that are not there.
    missing: Vec<String>,
    /// What Kafka refuses.
    refused: Vec<String>,
}

impl StatusBoard {
    pub(crate) fn new(worker: String, group: String) -> Self {
        Self { worker, group, board: Mutex::default() }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn joined(&self) {
        let mut board = self.board();
        board.started = true;
        let was_joined = std::mem::replace(&mut board.joined, true);
        drop(board);
        if !was_joined {
            tracing::info!(group = self.group, "joined the group");
        }
    }

    /// Has it been in its group before?
    pub(crate) fn has_started(&self) -> bool {
        self.board().started
    }

    /// The poll loop hangs, or does no longer.
    pub(crate) fn hangs(&self, what: Option<String>) {
        self.board().hangs = what;
    }

    /// A client is being rebuilt, or is whole again. Without its member the worker is in no group.
    pub(crate) fn rebuilding(&self, client: ClientKind, reason: Option<String>) {
        let mut board = self.board();
        board.rebuilding.retain(|(other, _)| *other != client);
        if client == ClientKind::Member && reason.is_some() {
            board.joined = false;
        }
        board.rebuilding.extend(reason.map(|reason| (client, reason)));
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

    pub(crate) fn show(&self, partitions: Vec<PartitionStatus>, missing: Vec<String>) {
        let mut board = self.board();
        board.partitions = partitions;
        board.missing = missing;
    }

    pub(crate) fn refused(&self, refused: Vec<String>) {
        self.board().refused = refused;
    }

    pub(crate) fn show_memory(&self, memory: MemoryStatus) {
        self.board().memory = Some(memory);
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
    line.paused = view.paused;
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
        let hangs = board.hangs.is_some();
        let is_ending = board.draining || board.ended || board.failure.is_some();
        let mut reasons = Vec::new();
        reasons.extend(board.hangs.clone());
        let rebuilding = board.rebuilding.iter();
        reasons.extend(
            rebuilding.map(|(client, reason)| format!("the {client} is being rebuilt: {reason}")),
        );
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
        reasons.extend(board.refused.iter().cloned());
        reasons.extend(board.failure.clone());
        Health {
            live: !board.ended && !hangs,
            ready: board.joined && restoring == 0 && !is_ending && !hangs,
            started: board.started,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn line(state: PartitionState) -> PartitionStatus {
        PartitionStatus::new("logins", 0, state)
    }

    /// Ready, and why not.
    fn ready(board: &StatusBoard) -> (bool, String) {
        let health = board.health();
        (health.ready, health.reasons.join(", "))
    }

    #[test]
    fn a_worker_is_ready_when_it_is_assigned_and_restored_and_not_about_to_end() {
        let board = StatusBoard::new("worker".to_owned(), "group".to_owned());
        let show = |state| board.show(vec![line(state)], Vec::new());
        assert_eq!(ready(&board), (false, "not in the group yet".to_owned()));
        show(PartitionState::Restoring);
        board.joined();
        assert_eq!(ready(&board), (false, "1 partitions are restoring".to_owned()));
        show(PartitionState::Running);
        assert_eq!(ready(&board), (true, String::new()));
        show(PartitionState::Draining); // on its way to somebody else
        assert_eq!(ready(&board), (true, String::new()));
        board.show(Vec::new(), Vec::new()); // a spare takes over when it is needed
        assert_eq!(ready(&board), (true, String::new()));
        board.draining();
        assert_eq!(ready(&board), (false, "shutting down".to_owned()));
        assert!(board.health().live, "it ends by itself, a restart would only disturb it");
        board.ended();
        assert!(!ready(&board).0 && !board.health().live);
    }

    #[test]
    fn a_worker_that_failed_is_not_ready_and_says_why() {
        let board = StatusBoard::new("worker".to_owned(), "group".to_owned());
        board.joined();
        board.failed(&WorkerError::System("no memory".to_owned()));
        assert_eq!(ready(&board), (false, "PLT-0601: no memory".to_owned()));
    }
}
