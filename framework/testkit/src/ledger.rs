//! Did a run keep its promises? What workers say they did, held against what the topics hold.
//!
//! Each worker writes every step into a ledger ([`LedgerWriter`] is an
//! [`Observer`](pelton::telemetry::Observer)); the test writes what it does to them
//! ([`FaultLog`]). Afterwards [`Ledger::read`] puts all lines in their true order, and
//! [`Check::hold`] judges them together with the [`Truth`]: the records that exist and the
//! offsets that are committed, read by someone else.
//!
//! ```no_run
//! use pelton::TopicPartition;
//! use pelton_testkit::ledger::{Check, FaultKind, FaultLog, Ledger, LedgerWriter, Truth};
//!
//! // in each worker process: app.observer(Arc::new(LedgerWriter::create("run-1", "worker-1")?))
//! // in the test:
//! let faults = FaultLog::create("run-1")?;
//! faults.fault(FaultKind::Kill, "worker-1", 4711)?; // then kill it
//! // … and when everything is handled and stands still:
//! let mut truth = Truth::new();
//! let logins = TopicPartition::new("user_logins", 0);
//! truth.record(&logins, 0, Some(b"alice"), Some(1_700_000_000_000)); // every record there is
//! truth.at_rest(&logins, Some(1), 1);
//! let verdict = Check::new().hold(&Ledger::read("run-1")?, &truth);
//! assert!(verdict.is_clean(), "{verdict}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is judged ([`Invariant`]): A1 commits cover only what is done · A2 nothing is lost ·
//! A3 order, per partition or key ([`Check::ordering`]) · A4 one owner at a time · A5 commits only
//! advance · A6 every repeat is explained by a fault · A7 no partition stands still.
//! [`TotalsCheck`] looks at effects instead: the last value per key. [`Timeline`] measures
//! hand-overs.
//!
//! What it does not see: effects outside Kafka; a lie told by a worker.

mod check;
#[cfg(test)]
mod foreign_bytes;
mod history;
mod line;
mod memory;
mod reader;
mod timeline;
mod totals;
mod truth;
mod verdict;
mod writer;

pub use check::Check;
pub use line::{Entry, Fault, FaultKind, Line};
pub use memory::MemoryLedger;
pub use reader::{Ledger, LedgerError, Process};
pub use timeline::{Drain, HandOver, KeptGaps, Quantiles, Timeline};
pub use totals::{TotalsCheck, TotalsVerdict, WrongTotal};
pub use truth::Truth;
pub use verdict::{Cause, Invariant, Repeat, Verdict, Violation, ZombieWindow};
pub use writer::{FaultLog, LedgerWriter};
