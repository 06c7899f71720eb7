//! Does a record that holds its thread delay those that its slot has in hand behind it? On the real
//! clock: in virtual time nobody holds a thread.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use pelton::host::Machine;
use pelton::{Context, Handler, HandlerError, Ordering, Record};

use super::endless::Endless;
use super::subject::{Stepping, runtime, worker};
use crate::wait_for;

/// Slots have got used to records that take no time by then.
const HOLDS: i64 = 20_000;

const HELD: Duration = Duration::from_millis(500);

#[derive(Debug, Default)]
struct Seen {
    done: BTreeSet<i64>,
    /// Those of the next hundred that were not done when the thread was free again.
    late: Option<Vec<i64>>,
}

struct Holds(Arc<Mutex<Seen>>);

impl Handler for Holds {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        _: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        let offset = record.offset();
        if offset == HOLDS {
            std::thread::sleep(HELD);
        }
        let mut seen = self.0.lock().expect("no panic holds it");
        if offset == HOLDS {
            let late = (HOLDS - 100..HOLDS + 100).filter(|at| *at != HOLDS);
            seen.late = Some(late.filter(|at| !seen.done.contains(at)).collect());
        }
        seen.done.insert(offset);
        Ok(())
    }
}

/// A slot kept what it had in hand for as long: the records behind a careless one stood still, though
/// another core was free.
#[test]
fn what_is_behind_a_record_that_holds_its_thread_goes_to_others() {
    let (host, seen) = (Arc::new(Machine::new()), Arc::<Mutex<Seen>>::default());
    let (runtime, witness) = (runtime().expect("threads"), Arc::clone(&seen));
    let make = move || Holds(Arc::clone(&witness));
    let worker = worker(Ordering::unordered(8), make).expect("a worker");
    let world = Endless::new(1, 100);
    let stepping = Stepping::start(worker, &world, &host, runtime.handle().clone());
    let stepping = stepping.expect("a thread");
    let late = wait_for("a record that holds its thread", Duration::from_secs(30), || {
        seen.lock().expect("no panic holds it").late.clone()
    });
    stepping.end().expect("it ends in good order");
    let late = late.expect("it comes");
    assert!(late.is_empty(), "{late:?} waited for it");
}
