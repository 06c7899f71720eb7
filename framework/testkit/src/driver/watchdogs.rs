//! What if a partition stands still, and nobody says why? The watchdogs mend it, in a whole worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use pelton::{Context, Handler, HandlerError, Record, Worker, WorkerBuilder};

use super::TestDriver;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Takes anything; its `assigned` hook takes so long.
struct Slow {
    hook: Duration,
    hooks: Arc<AtomicU32>,
}

impl Handler for Slow {
    async fn handle(
        &mut self,
        _record: &Record<'_>,
        _ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        Ok(())
    }

    async fn assigned(&mut self, _ctx: &mut Context<'_>) -> Result<(), HandlerError> {
        self.hooks.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(self.hook).await;
        Ok(())
    }
}

fn app(hook: Duration) -> (WorkerBuilder, Arc<AtomicU32>) {
    let hooks = Arc::<AtomicU32>::default();
    let count = Arc::clone(&hooks);
    let mut app = Worker::builder("slow");
    app.input("in").handler(move |_slot| Slow { hook, hooks: Arc::clone(&count) });
    (app, hooks)
}

#[test]
fn a_start_that_hangs_is_begun_anew() {
    let (app, hooks) = app(Duration::ZERO);
    let mut driver = TestDriver::new(app);
    driver.revoke("in", 0);
    driver.send("in", "k", "{}");
    driver.leave_committed_unanswered(2);
    driver.assign("in", 0);
    driver.advance(5 * MINUTE);
    assert_eq!(driver.committed("in", 0), Some(0), "it hangs, and hangs again after 2 minutes");
    driver.advance(2 * MINUTE);
    assert_eq!(driver.committed("in", 0), Some(1), "4 minutes later it works");
    assert_eq!(hooks.load(Ordering::Relaxed), 2);
    assert!(driver.shut_down().is_ok());
}

#[test]
fn a_hook_that_takes_long_is_left_to_finish() {
    let (app, hooks) = app(30 * MINUTE);
    let mut driver = TestDriver::new(app);
    driver.send("in", "k", "{}");
    driver.advance(31 * MINUTE);
    assert_eq!(hooks.load(Ordering::Relaxed), 1, "user code is not begun anew for being slow");
    assert_eq!(driver.committed("in", 0), Some(1));
}

#[test]
fn a_fetcher_that_says_nothing_any_more_is_replaced() {
    let (app, _) = app(Duration::ZERO);
    let mut driver = TestDriver::with_partitions(app, 3);
    driver.silence_fetcher(0);
    for key in ["a", "b", "c", "d", "e", "f"] {
        driver.send("in", key, "{}");
    }
    let done = |driver: &TestDriver| (0..3).filter_map(|p| driver.committed("in", p)).sum::<i64>();
    driver.advance(50 * SECOND);
    assert_eq!(done(&driver), 0, "fetching anew does not help");
    driver.advance(20 * SECOND);
    assert_eq!(done(&driver), 6, "another client does");
    assert_eq!(driver.rebuilt_members(0), 0, "the membership is not touched");
}
