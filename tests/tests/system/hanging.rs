//! A key that hangs: the others go on as before.

use std::time::Duration;

use libtest_mimic::Failed;
use pelton_tests::suites::hanging_key::{self, Key, Times};
use pelton_tests::{KafkaCluster, Trial, trials};

use crate::say;

/// The short forms of the suites of hanging keys.
pub(crate) fn trials() -> Vec<Trial> {
    let trial = |key: Key| {
        let name = format!("a_key_that_hangs_delays_no_other::{key:?}");
        // Times are measured.
        trials::on_kafka(&name, move || hangs(key)).alone()
    };
    Key::ALL.map(trial).into()
}

/// On a machine that also builds and tests other things, twice as long may be by chance; a stopped
/// partition makes seconds of it.
const SLACK: Duration = Duration::from_secs(1);

fn hangs(key: Key) -> Result<(), Failed> {
    let kafka = KafkaCluster::shared(1)?;
    // What is done behind the record in the short time comes to more than a partition's share.
    let plan = hanging_key::plan().with("MEMORY_BUDGET_RECORDS", "40000");
    let shown = hanging_key::run(kafka, plan, key, Times::SHORT)?;
    say(&shown.to_string());
    if shown.is_kept(SLACK) { Ok(()) } else { Err(shown.to_string().into()) }
}
