//! How long does a worker write that hears nothing of its group? A KIP-848 one only for a while.

use std::time::Duration;

use pelton::config::GroupProtocol;
use pelton::{Context, Handler, HandlerError, Output, Record, Worker};

use super::TestDriver;

const SECOND: Duration = Duration::from_secs(1);

/// Says what it has heard.
struct Echo(Output);

impl Handler for Echo {
    async fn handle(
        &mut self,
        record: &Record<'_>,
        ctx: &mut Context<'_>,
    ) -> Result<(), HandlerError> {
        ctx.emit(self.0, record.key_str()?, &record.offset())
    }
}

/// A worker with the default session of 15 s, which begins at rest.
fn driver(protocol: GroupProtocol) -> TestDriver {
    let mut app = Worker::builder("echo");
    let out = app.output("out");
    app.input("in").handler(move |_slot| Echo(out));
    TestDriver::with_settings(app, 1, |settings| settings.group_protocol = protocol)
}

/// A record a second; how many outputs there are then.
fn send(driver: &mut TestDriver, seconds: u64) -> usize {
    for _ in 0..seconds {
        driver.send("in", "k", "{}");
        driver.advance(SECOND);
    }
    driver.emitted("out").len()
}

#[test]
fn inv_13_who_hears_nothing_of_its_group_stops_writing() {
    let mut driver = driver(GroupProtocol::Consumer);
    assert_eq!(send(&mut driver, 10), 10);
    driver.hold_commit_answers(true);
    let written = send(&mut driver, 10);
    assert!((13..=16).contains(&written), "a third of the session: {written}");
    assert_eq!(send(&mut driver, 20), written, "it does not begin again by itself");
    driver.hold_commit_answers(false);
    driver.advance(SECOND);
    assert_eq!(driver.emitted("out").len(), 40, "nothing was lost");
    assert!(driver.shut_down().is_ok());
}

#[test]
fn whoever_was_idle_asks_before_it_writes() {
    let mut driver = driver(GroupProtocol::Consumer);
    assert_eq!(send(&mut driver, 1), 1);
    driver.advance(SECOND * 60);
    driver.hold_commit_answers(true);
    assert_eq!(send(&mut driver, 1), 1, "the last word of the group is a minute old");
    driver.hold_commit_answers(false);
    assert_eq!(driver.emitted("out").len(), 2);
}

#[test]
fn a_member_of_a_classic_group_relies_on_its_clients_clock() {
    let mut driver = driver(GroupProtocol::Classic);
    driver.hold_commit_answers(true);
    assert_eq!(send(&mut driver, 30), 30);
}
