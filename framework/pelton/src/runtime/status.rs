//! What does the worker show of itself? A board that the poll loop fills and anyone may read.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pelton_engine::{PartitionState, PartitionView};

use crate::admin::{Health, PartitionStatus, Status};
use crate::error::WorkerError;
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
    draining: bool,
    ended: bool,
    failure: Option<String>,
    partitions: Vec<PartitionStatus>,
}

impl StatusBoard {
    pub(crate) fn new(worker: String, group: String) -> Self {
        Self {
            worker,
            group,
            board: Mutex::default(),
        }
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn joined(&self) {
        self.board().joined = true;
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
        self.board().failure.get_or_insert(error.to_string());
    }

    pub(crate) fn show(&self, partitions: Vec<PartitionStatus>) {
        self.board().partitions = partitions;
    }
}

/// One line of the board.
pub(crate) fn partition_status(
    name: &TopicPartition,
    view: &PartitionView,
    time_lag_seconds: Option<f64>,
) -> PartitionStatus {
    let (committed, end) = (view.committed.map(|o| o.0), view.end.map(|o| o.0));
    PartitionStatus {
        topic: name.topic().to_owned(),
        partition: name.partition(),
        state: state_name(view.state).to_owned(),
        position: view.position.map(|o| o.0),
        committed,
        end_offset: end,
        lag: end
            .zip(committed)
            .map(|(end, committed)| (end - committed).max(0)),
        time_lag_seconds,
    }
}

fn state_name(state: PartitionState) -> &'static str {
    match state {
        PartitionState::Restoring => "restoring",
        PartitionState::Running => "running",
        PartitionState::Draining => "draining",
        PartitionState::Released => "released",
        PartitionState::Lost => "lost",
    }
}

impl Status for StatusBoard {
    fn health(&self) -> Health {
        let board = self.board();
        let restoring = board
            .partitions
            .iter()
            .filter(|p| p.state == "restoring")
            .count();
        let mut reasons = Vec::new();
        if !board.joined {
            reasons.push("not in the group yet".to_owned());
        }
        if restoring > 0 {
            reasons.push(format!("{restoring} partitions are restoring"));
        }
        if board.draining {
            reasons.push("shutting down".to_owned());
        }
        reasons.extend(board.failure.clone());
        Health {
            live: !board.ended,
            ready: board.joined && restoring == 0 && !board.draining,
            started: board.joined && restoring == 0,
            reasons,
            worker: self.worker.clone(),
            group: self.group.clone(),
        }
    }

    fn partitions(&self) -> Vec<PartitionStatus> {
        self.board().partitions.clone()
    }
}
