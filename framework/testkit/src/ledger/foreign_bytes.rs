//! What if a ledger is damaged? A line that is none is named; what reads as a ledger is judged.
//!
//! `PROPTEST_CASES=1000000 cargo test -p pelton-testkit --lib foreign_bytes` is the long form.

use std::num::NonZeroU32;

use pelton::{Ordering, TopicPartition};
use proptest::prelude::*;

use super::writer::{HEADER, SUFFIX};
use super::{Check, Ledger, Timeline, Truth};
use crate::damage::damaged;

const HISTORY: &str = "10 a assigned t-0 1
20 a started t-0 1 0
30 a start t-0 1 0 1
40 a end t-0 1 0 1 retry
41 a start t-0 1 0 2
42 a end t-0 1 0 2 done
50 a try t-0 1 1 1
55 f fault kill a 1
60 a known t-0 1 1 1 accepted
61 a start t-0 1 1 1
62 a start t-0 1 2 1
63 a end t-0 1 2 1 done
64 a try t-0 1 1 2 1-2rBB
64 a known t-0 1 1 2 accepted
65 f fault offset-reset t-0 4
70 a revoked t-0 1
75 f fault broker-kill 2
80 a released t-0 1
90 b assigned t-0 1
91 b jumped t-0 1 1 3
92 b started t-0 1 3
93 b lost t-0 1
94 b stopping
95 b reset t-0 1
99 b stopped
";

/// The same as one process's file.
fn file() -> Vec<u8> {
    let lines = HISTORY.lines().filter(|line| !line.contains(" fault "));
    let lines =
        lines.map(|line| format!("{}\n", line.replacen(" a ", " ", 1).replacen(" b ", " ", 1)));
    format!("{HEADER} w 7 0 1700000000000\n{}", lines.collect::<String>()).into_bytes()
}

/// A ledger that could be read can be judged, whatever it says.
fn judge(ledger: &Ledger) {
    let partition = TopicPartition::new("t", 0);
    let mut truth = Truth::new();
    for offset in 0..5 {
        truth.record(&partition, offset, Some(b"k"), None);
    }
    truth.at_rest(&partition, Some(3), 5);
    let concurrency = NonZeroU32::MIN;
    let orderings =
        [Ordering::Partition, Ordering::Key { concurrency }, Ordering::Unordered { concurrency }];
    for ordering in orderings {
        let _shown = Check::new().ordering(ordering).hold(ledger, &truth).to_string();
    }
    let timeline = Timeline::of(ledger);
    let _shown = (timeline.drains(), timeline.hand_overs(), timeline.kept_gaps());
    for at in 0..ledger.lines().len() {
        let _line = ledger.show(at);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_a_history_or_is_refused(text in "\\PC{0,300}") {
        if let Ok(ledger) = Ledger::from_text(&text) {
            judge(&ledger);
        }
    }

    #[test]
    fn a_damaged_history_is_judged_or_refused(bytes in damaged(Just(HISTORY.as_bytes().to_vec()))) {
        if let Ok(ledger) = Ledger::from_text(&String::from_utf8_lossy(&bytes)) {
            judge(&ledger);
        }
    }

    /// Lines lost, doubled and in another order: each of them is a line, their story is none.
    #[test]
    fn any_order_of_lines_is_judged(
        lines in prop::collection::vec((0usize..28, any::<u32>()), 0..40),
    ) {
        let all: Vec<_> = HISTORY.lines().filter_map(|line| line.split_once(' ')).collect();
        let text: Vec<_> =
            lines.iter().map(|(line, at)| format!("{at} {}\n", all[line % all.len()].1)).collect();
        judge(&Ledger::from_text(&text.concat()).expect("each is a line"));
    }

    #[test]
    fn a_damaged_file_is_read_or_refused(bytes in damaged(Just(file()))) {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join(format!("w.{SUFFIX}")), bytes).expect("a file");
        if let Ok(ledger) = Ledger::read(folder.path()) {
            judge(&ledger);
        }
    }
}
