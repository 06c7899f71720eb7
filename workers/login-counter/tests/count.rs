//! What the login counter does with single records, in memory.

use login_counter::{LoginCounterSettings, app};
use pelton::OnInvalid;
use pelton_testkit::TestDriver;

fn login(user: &str, status: &str) -> String {
    serde_json::json!({ "user": user, "status": status, "ip": "192.0.2.1", "at": "2026-01-01T00:00:00Z" })
        .to_string()
}

#[test]
fn only_successes_count_and_every_new_total_is_emitted() {
    let mut driver = TestDriver::new(app(&LoginCounterSettings::default()));
    for status in ["success", "failure", "success"] {
        driver.send("user_logins", "alice", &login("alice", status));
    }
    let totals: Vec<_> = driver
        .emitted("login_totals")
        .iter()
        .map(|e| e.json::<serde_json::Value>()["total"].as_u64())
        .collect();
    assert_eq!(totals, [Some(1), Some(2)]);
    assert_eq!(driver.store::<u64>("totals")["alice"], 2);
    assert_eq!(driver.committed("user_logins", 0), Some(3));
}

#[test]
fn an_empty_name_and_a_name_with_escapes_are_users_like_any_other() {
    let mut driver = TestDriver::new(app(&LoginCounterSettings::default()));
    for user in ["", "a\"b\\c\t"] {
        driver.send("user_logins", user, &login(user, "success"));
    }
    let store = driver.store::<u64>("totals");
    assert_eq!(store[""], 1);
    assert_eq!(store["a\"b\\c\t"], 1);
}

#[test]
fn a_malformed_record_stops_the_worker_unless_it_is_told_to_skip() {
    let mut driver = TestDriver::new(app(&LoginCounterSettings::default()));
    driver.send("user_logins", "alice", "{");
    driver.advance(std::time::Duration::from_secs(1));
    let failure = driver.failure().map(ToString::to_string).unwrap_or_default();
    assert!(failure.contains("user_logins-0 offset 0"), "{failure}");

    let skipping =
        LoginCounterSettings { on_invalid: OnInvalid::Skip, ..LoginCounterSettings::default() };
    let mut driver = TestDriver::new(app(&skipping));
    driver.send("user_logins", "alice", "{");
    driver.send("user_logins", "alice", &login("alice", "success"));
    assert_eq!(driver.store::<u64>("totals")["alice"], 1);
}

#[test]
fn a_hand_over_keeps_the_count() {
    let mut driver = TestDriver::new(app(&LoginCounterSettings::default()));
    driver.send("user_logins", "alice", &login("alice", "success"));
    driver.revoke("user_logins", 0);
    assert!(driver.owned().is_empty());
    driver.assign("user_logins", 0);
    driver.send("user_logins", "alice", &login("alice", "success"));
    assert_eq!(driver.store::<u64>("totals")["alice"], 2);
    assert!(driver.shut_down().is_ok());
}
