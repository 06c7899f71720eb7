//! What happened around a record? The ledger's lines about it, and about its partition meanwhile.

use pelton::TopicPartition;

use crate::ledger::{Entry, Ledger};

/// So many lines make a story; the middle of a longer one is left out.
const LINES: usize = 24;

/// The lines about the record from its first attempt on, each on a line of its own: its attempts,
/// the commits that cover it, what became of its partition, and faults. Before them, who owned it.
pub(super) fn story(ledger: &Ledger, partition: &TopicPartition, offset: i64) -> String {
    let lines = ledger.lines();
    let is_attempt =
        |entry: &Entry| matches!(entry, Entry::Start { offset: of, .. } if *of == offset);
    let is_its_own = |entry: &Entry| entry.assignment().is_some_and(|(of, _)| of == partition);
    let first = lines.iter().position(|line| is_its_own(&line.entry) && is_attempt(&line.entry));
    let Some(first) = first else {
        return format!("\n    nobody started {partition} offset {offset}");
    };
    let is_assigned = |entry: &Entry| matches!(entry, Entry::Assigned { .. });
    let owner =
        lines[..first].iter().rposition(|line| is_its_own(&line.entry) && is_assigned(&line.entry));
    let tells = |at: &usize| tells(&lines[*at].entry, partition, offset);
    let told: Vec<_> = owner.into_iter().chain((first..lines.len()).filter(tells)).collect();
    let mut text = String::new();
    for (number, at) in told.iter().enumerate() {
        let is_middle = number >= LINES / 2 && number + LINES / 2 < told.len();
        if !is_middle {
            text.push_str("\n    ");
            text.push_str(&ledger.show(*at));
        } else if number == LINES / 2 {
            text.push_str(&format!("\n    … {} lines …", told.len() - LINES));
        }
    }
    text
}

/// Is the line part of the record's story?
fn tells(entry: &Entry, partition: &TopicPartition, record: i64) -> bool {
    match entry {
        Entry::Fault(_) => true,
        Entry::Start { partition: of, offset, .. } | Entry::End { partition: of, offset, .. } => {
            of == partition && *offset == record
        }
        Entry::CommitTried { partition: of, offset, .. }
        | Entry::CommitKnown { partition: of, offset, .. } => of == partition && *offset > record,
        other => other.assignment().is_some_and(|(of, _)| of == partition),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEDGER: &str = "10 a assigned t-0 1
         20 a started t-0 1 0
         30 a start t-0 1 0 1
         40 a end t-0 1 0 1 done
         50 a start t-0 1 1 1
         60 f fault kill a 1
         70 b assigned t-0 1
         80 b start t-1 1 1 1
         90 b try t-0 1 2 1";

    #[test]
    fn a_story_begins_with_the_owner_and_leaves_other_records_out() {
        let ledger = Ledger::from_text(LEDGER).expect("a ledger");
        let story = story(&ledger, &TopicPartition::new("t", 0), 1);
        let told: Vec<_> =
            story.lines().skip(1).filter_map(|line| line.split(": ").nth(1)).collect();
        let expected = [
            "assigned t-0 1",
            "start t-0 1 1 1",
            "fault kill a 1",
            "assigned t-0 1",
            "try t-0 1 2 1",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_record_that_nobody_started_has_a_short_story() {
        let ledger = Ledger::from_text(LEDGER).expect("a ledger");
        assert!(
            story(&ledger, &TopicPartition::new("t", 0), 7).contains("nobody started t-0 offset 7")
        );
    }
}
