//! What is done to the workers, the brokers and the network between them?

use std::fmt;
use std::time::Duration;

use pelton::ports::ClientKind;

use super::plan::Plan;
use crate::model::{Random, RequestKind, Trick, Way};

/// A fault and its moment.
///
/// ```
/// use std::time::Duration;
/// use pelton_testkit::sim::{Fault, TimedFault};
///
/// let fault = TimedFault::new(Duration::from_secs(5), Fault::Cut { worker: 1 });
/// assert_eq!(fault.fault.worker(), Some(1));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TimedFault {
    /// When, since the beginning.
    pub at: Duration,
    /// What.
    pub fault: Fault,
}

/// What can be done. Workers and nodes are numbered from 0.
///
/// ```
/// use std::time::Duration;
/// use pelton_testkit::sim::Fault;
///
/// let fault = Fault::Freeze { worker: 1, lasts: Duration::from_secs(9) };
/// assert_eq!(fault.to_string(), "freeze worker 1 for 9.0 s");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields say what they are")]
pub enum Fault {
    /// SIGKILL; another process takes its place.
    Kill { worker: usize, back_after: Duration },
    /// SIGTERM; another process takes its place.
    Terminate { worker: usize, back_after: Duration },
    /// SIGSTOP and SIGCONT.
    Freeze { worker: usize, lasts: Duration },
    /// The same, as soon as the worker gives partitions back.
    FreezeInDrain { worker: usize, lasts: Duration },
    /// One worker more for a while.
    Visitor { stays: Duration },
    /// A Kafka client has a fatal error.
    BreakClient { worker: usize, client: ClientKind },
    /// A fetcher brings nothing any more and does not say why.
    SilenceFetcher { worker: usize },
    /// The fetches of a worker break off and say so.
    BreakOffFetches { worker: usize },
    /// The group's commit metadata is overwritten with another tool's.
    DamageMetadata,
    /// Retention overtakes readers: so many tenths of a partition's log are gone.
    DeleteRecords { partition: i32, tenths: u32 },
    /// A broker dies and comes back.
    KillNode { node: usize, back_after: Duration },
    /// A broker is frozen.
    FreezeNode { node: usize, lasts: Duration },
    /// Another tool removes the worker's member from the group. The worker hears of it at its next
    /// heartbeat, joins anew, and may get the same partitions back at once; until then it writes
    /// beside its successor (`docs/guarantees.md`, "One owner").
    Expel { worker: usize },
    /// The group gets another coordinator.
    MoveCoordinator,
    /// A partition of the input gets another leader.
    MoveLeader { partition: i32 },
    /// Messages of one way are held between a worker and a node, or all nodes.
    Blackhole { worker: usize, node: Option<usize>, to_the_broker: bool, lasts: Duration },
    /// All connections of a worker break.
    Cut { worker: usize },
    /// Messages between a worker and all nodes take longer.
    Slow { worker: usize, extra: Duration, lasts: Duration },
    /// The next requests of a kind are lost before they are carried out, or their answers after.
    Lose { what: RequestKind, answer: bool, times: u32 },
    /// The next commits are not stored, and the broker's answer leaves that open
    /// (`REQUEST_TIMED_OUT`).
    TimeOutCommits { times: u32 },
    /// An operator pauses a worker's input, and resumes it.
    Pause { worker: usize, lasts: Duration },
    /// An operator lets so many records of a worker's input start in a second, for a while.
    LimitRate { worker: usize, per_second: u32, lasts: Duration },
}

impl Fault {
    /// Whom it is done to, if it is one worker.
    #[must_use]
    pub fn worker(&self) -> Option<usize> {
        match self {
            Self::Kill { worker, .. }
            | Self::Terminate { worker, .. }
            | Self::Freeze { worker, .. }
            | Self::FreezeInDrain { worker, .. }
            | Self::BreakClient { worker, .. }
            | Self::SilenceFetcher { worker }
            | Self::BreakOffFetches { worker }
            | Self::Expel { worker }
            | Self::Blackhole { worker, .. }
            | Self::Cut { worker }
            | Self::Slow { worker, .. }
            | Self::Pause { worker, .. }
            | Self::LimitRate { worker, .. } => Some(*worker),
            Self::Visitor { .. }
            | Self::DamageMetadata
            | Self::DeleteRecords { .. }
            | Self::KillNode { .. }
            | Self::FreezeNode { .. }
            | Self::MoveCoordinator
            | Self::MoveLeader { .. }
            | Self::Lose { .. }
            | Self::TimeOutCommits { .. } => None,
        }
    }

    /// Until it is over, as far as it ends by itself.
    pub(crate) fn length(&self) -> Duration {
        match self {
            Self::Kill { back_after: length, .. }
            | Self::Terminate { back_after: length, .. }
            | Self::Freeze { lasts: length, .. }
            | Self::FreezeInDrain { lasts: length, .. }
            | Self::Visitor { stays: length }
            | Self::KillNode { back_after: length, .. }
            | Self::FreezeNode { lasts: length, .. }
            | Self::Blackhole { lasts: length, .. }
            | Self::Slow { lasts: length, .. }
            | Self::Pause { lasts: length, .. }
            | Self::LimitRate { lasts: length, .. } => *length,
            Self::BreakClient { .. }
            | Self::SilenceFetcher { .. }
            | Self::BreakOffFetches { .. }
            | Self::DamageMetadata
            | Self::DeleteRecords { .. }
            | Self::Expel { .. }
            | Self::MoveCoordinator
            | Self::MoveLeader { .. }
            | Self::Cut { .. }
            | Self::Lose { .. } => Duration::ZERO,
            // Until every worker has committed once.
            Self::TimeOutCommits { .. } => Duration::from_secs(2),
        }
    }

    /// Can it make an output fail, so that it is sent again?
    pub(crate) fn may_fail_a_delivery(&self) -> bool {
        self.may_hold_a_write()
            || matches!(
                self,
                Self::Freeze { .. }
                    | Self::FreezeInDrain { .. }
                    | Self::Kill { .. }
                    | Self::BreakClient { .. }
            )
    }

    /// Can it hold up an output that a client already has, until the worker has been replaced?
    #[must_use]
    pub fn may_hold_a_write(&self) -> bool {
        matches!(
            self,
            Self::KillNode { .. }
                | Self::FreezeNode { .. }
                | Self::MoveLeader { .. }
                | Self::Blackhole { .. }
                | Self::Cut { .. }
                | Self::Slow { .. }
                | Self::Lose { what: RequestKind::Produce, .. }
        )
    }

    pub(crate) fn trick(answer: bool) -> Trick {
        if answer { Trick::LoseAnswer } else { Trick::LoseRequest }
    }

    pub(crate) fn way(to_the_broker: bool) -> Way {
        if to_the_broker { Way::There } else { Way::Back }
    }
}

impl TimedFault {
    /// At that moment, this.
    ///
    /// ```
    /// use std::time::Duration;
    /// use pelton_testkit::sim::{Fault, TimedFault};
    ///
    /// let fault = TimedFault::new(Duration::from_secs(5), Fault::MoveCoordinator);
    /// assert_eq!(fault.to_string(), "  5.000 s  move the group's coordinator");
    /// ```
    #[must_use]
    pub fn new(at: Duration, fault: Fault) -> Self {
        Self { at, fault }
    }

    /// What an operator does.
    pub(crate) fn draw_control(plan: &Plan, random: &mut Random) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let worker = usize::try_from(random.below(plan.workers as u64)).unwrap_or(0);
        let lasts = random.duration(SECOND / 5, SECOND * 6);
        let per_second = u32::try_from(random.between(5, 100)).unwrap_or(5);
        let at = random.duration(SECOND, plan.load + SECOND);
        Self::new(
            at,
            match random.one_in(3) {
                true => Fault::LimitRate { worker, per_second, lasts },
                false => Fault::Pause { worker, lasts },
            },
        )
    }

    pub(crate) fn draw(plan: &Plan, random: &mut Random) -> Self {
        const SECOND: Duration = Duration::from_secs(1);
        let begin = SECOND * 2;
        // Few strike in the two seconds in which the last of the load is handled and committed:
        // nothing comes after it that would cover up what went wrong.
        let from = if random.one_in(6) { begin.max(plan.load) } else { begin };
        let at = random.duration(from, begin + plan.load);
        let size = |number: u64| usize::try_from(number).unwrap_or(0);
        let worker = size(random.below(plan.workers as u64));
        let node = size(random.below(plan.nodes as u64));
        let session = plan.session_timeout;
        let fault = match random.below(24) {
            0..=2 => Fault::Kill { worker, back_after: random.duration(SECOND / 5, SECOND * 4) },
            3 | 4 => {
                Fault::Terminate { worker, back_after: random.duration(SECOND / 5, SECOND * 4) }
            }
            5 => Fault::Freeze { worker, lasts: random.duration(SECOND / 5, session * 3) },
            6 => Fault::FreezeInDrain { worker, lasts: random.duration(SECOND / 5, session * 3) },
            7 => Fault::Visitor { stays: random.duration(SECOND, SECOND * 8) },
            8 => {
                let client = random.pick(&ClientKind::ALL).copied().unwrap_or(ClientKind::Fetcher);
                Fault::BreakClient { worker, client }
            }
            9 => Fault::SilenceFetcher { worker },
            10 => Fault::KillNode { node, back_after: random.duration(SECOND, SECOND * 10) },
            11 => Fault::FreezeNode { node, lasts: random.duration(SECOND / 5, SECOND * 8) },
            12 => Fault::MoveCoordinator,
            13 => Fault::MoveLeader {
                partition: i32::try_from(random.below(u64::from(plan.partitions.unsigned_abs())))
                    .unwrap_or(0),
            },
            14 | 15 => Fault::Blackhole {
                worker,
                node: random.one_in(2).then_some(node),
                to_the_broker: random.one_in(2),
                lasts: random.duration(SECOND / 2, session * 2),
            },
            16 => Fault::Cut { worker },
            20 => Fault::Slow {
                worker,
                extra: random.duration(SECOND / 20, SECOND / 2),
                lasts: random.duration(SECOND, SECOND * 8),
            },
            17 => Fault::BreakOffFetches { worker },
            18 => Fault::DamageMetadata,
            21 => Fault::Expel { worker },
            22 => Fault::TimeOutCommits { times: u32::try_from(random.between(1, 4)).unwrap_or(1) },
            _ => Fault::Lose {
                what: random.pick(&RequestKind::ALL).copied().unwrap_or(RequestKind::Fetch),
                answer: random.one_in(2),
                times: u32::try_from(random.between(1, 4)).unwrap_or(1),
            },
        };
        let partition = i32::try_from(random.below(u64::from(plan.partitions.unsigned_abs())));
        let tenths = u32::try_from(random.between(1, 10)).unwrap_or(1);
        let again = random.duration(SECOND / 5, SECOND * 4);
        let fault = match fault {
            // What a zombie does with records that are gone, or while its client is odd, can't be
            // told from what it may not do: these plans have no zombies.
            Fault::Kill { .. } | Fault::Terminate { .. } | Fault::Visitor { .. } => fault,
            _ if plan.retention => {
                Fault::DeleteRecords { partition: partition.unwrap_or(0), tenths }
            }
            Fault::MoveLeader { .. } | Fault::DamageMetadata | Fault::BreakOffFetches { .. } => {
                fault
            }
            _ if plan.odd_clients => Fault::Terminate { worker, back_after: again },
            fault => fault,
        };
        Self { at, fault }
    }
}

impl fmt::Display for TimedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>7.3} s  {}", self.at.as_secs_f64(), self.fault)
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = |duration: &Duration| format!("{:.1} s", duration.as_secs_f64());
        match self {
            Self::Kill { worker, back_after } => {
                write!(f, "kill worker {worker}, another after {}", s(back_after))
            }
            Self::Terminate { worker, back_after } => {
                write!(f, "end worker {worker} gracefully, another after {}", s(back_after))
            }
            Self::Freeze { worker, lasts } => write!(f, "freeze worker {worker} for {}", s(lasts)),
            Self::FreezeInDrain { worker, lasts } => {
                write!(f, "freeze worker {worker} for {} when it gives back next", s(lasts))
            }
            Self::Visitor { stays } => write!(f, "one worker more for {}", s(stays)),
            Self::BreakClient { worker, client } => {
                write!(f, "break the {client} of worker {worker}")
            }
            Self::SilenceFetcher { worker } => write!(f, "silence the fetcher of worker {worker}"),
            Self::BreakOffFetches { worker } => {
                write!(f, "the fetches of worker {worker} break off")
            }
            Self::DamageMetadata => f.write_str("another tool overwrites the commit metadata"),
            Self::DeleteRecords { partition, tenths } => {
                write!(f, "{tenths} tenths of partition {partition} are deleted")
            }
            Self::KillNode { node, back_after } => {
                write!(f, "kill node {node}, back after {}", s(back_after))
            }
            Self::FreezeNode { node, lasts } => write!(f, "freeze node {node} for {}", s(lasts)),
            Self::Expel { worker } => {
                write!(f, "another tool removes worker {worker} from the group")
            }
            Self::MoveCoordinator => f.write_str("move the group's coordinator"),
            Self::MoveLeader { partition } => write!(f, "move the leader of partition {partition}"),
            Self::Blackhole { worker, node, to_the_broker, lasts } => {
                let node =
                    node.map_or_else(|| "all nodes".to_owned(), |node| format!("node {node}"));
                let (from, to) = match to_the_broker {
                    true => (format!("worker {worker}"), node),
                    false => (node, format!("worker {worker}")),
                };
                write!(f, "nothing passes from {from} to {to} for {}", s(lasts))
            }
            Self::Cut { worker } => write!(f, "cut all connections of worker {worker}"),
            Self::Slow { worker, extra, lasts } => {
                write!(
                    f,
                    "worker {worker}'s messages take up to {} more for {}",
                    s(extra),
                    s(lasts)
                )
            }
            Self::Pause { worker, lasts } => {
                write!(f, "an operator pauses the input of worker {worker} for {}", s(lasts))
            }
            Self::LimitRate { worker, per_second, lasts } => {
                let lasts = s(lasts);
                write!(f, "worker {worker} may start {per_second} records/s for {lasts}")
            }
            Self::TimeOutCommits { times } => {
                write!(f, "the next {times} commits time out at the broker")
            }
            Self::Lose { what, answer, times } => {
                let part = if *answer { "answers to" } else { "requests of" };
                write!(f, "lose {times} {part} {what:?}")
            }
        }
    }
}
