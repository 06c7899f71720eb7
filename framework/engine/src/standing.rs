//! How does a partition stand? What is done, and what is known of records that are not: a commit
//! carries both.

use std::time::Duration;

use crate::caution::Window;
use crate::done_set::DoneSet;
use crate::holds::Holds;
use crate::ids::Offset;

/// What a commit says of its partition.
///
/// ```
/// use pelton_engine::{Mark, Offset, Standing};
/// use std::time::Duration;
///
/// let start = Standing::at(Offset(7));
/// let mut failed = start.clone();
/// failed.marks.push(Mark { attempts: 2, waited: Duration::from_secs(5), ..Mark::of(Offset(7)) });
/// assert!(failed.is_ahead_of(&start)); // worth a commit
/// assert_eq!(failed.offset(), Offset(7));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What is done.
    pub done: DoneSet,
    /// What is known of records that are not done, by offset.
    pub marks: Vec<Mark>,
    /// What its owner may have in hand, where that is said.
    pub window: Option<Window>,
    /// Keys with records in a retry topic.
    pub holds: Holds,
}

/// What is known of a record that is not done.
///
/// ```
/// use pelton_engine::{Mark, Offset};
///
/// let mark = Mark { attempts: 3, ..Mark::of(Offset(7)) };
/// assert_eq!(Mark::decode_all(&Mark::encode_all(&[mark], 100)), Some(vec![mark]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// Its offset.
    pub offset: Offset,
    /// So many attempts have failed.
    pub attempts: u32,
    /// Since the first of them so long has passed, in whole seconds.
    pub waited: Duration,
    /// So many processes have died while they had it in hand, it alone.
    pub deaths: u32,
}

/// No commit carries more of them.
pub(crate) const MOST_MARKS: usize = 32;

impl Standing {
    /// Everything below `offset` is done, and nothing is known beyond.
    #[must_use]
    pub fn at(offset: Offset) -> Self {
        DoneSet::above(offset).into()
    }

    /// The next offset to read.
    #[must_use]
    pub fn offset(&self) -> Offset {
        self.done.base()
    }

    /// Has it something to say that another one of the same assignment, an earlier one, has not?
    #[must_use]
    pub fn is_ahead_of(&self, other: &Self) -> bool {
        let differs = self.marks != other.marks || self.window != other.window;
        self.done.is_ahead_of(&other.done) || self.done == other.done && differs
    }
}

impl From<DoneSet> for Standing {
    fn from(done: DoneSet) -> Self {
        Self { done, marks: Vec::new(), window: None, holds: Holds::default() }
    }
}

impl Mark {
    /// Nothing is known of it.
    #[must_use]
    pub fn of(offset: Offset) -> Self {
        Self { offset, attempts: 0, waited: Duration::ZERO, deaths: 0 }
    }

    /// As text, at most `room` bytes: `<offset>.<attempts>.<seconds>.<deaths>,…`, the first ones if
    /// there is not room for all.
    #[must_use]
    pub fn encode_all(marks: &[Self], room: usize) -> String {
        let mut text = String::new();
        for mark in marks.iter().take(MOST_MARKS) {
            let Self { offset, attempts, waited, deaths } = mark;
            let comma = if text.is_empty() { "" } else { "," };
            let one = format!("{comma}{offset}.{attempts}.{}.{deaths}", waited.as_secs());
            if text.len() + one.len() > room {
                break;
            }
            text.push_str(&one);
        }
        text
    }

    /// Reads what [`encode_all`](Self::encode_all) wrote; `None` if it did not.
    #[must_use]
    pub fn decode_all(text: &str) -> Option<Vec<Self>> {
        text.split(',').map(Self::decode).collect()
    }

    fn decode(text: &str) -> Option<Self> {
        let mut fields = text.split('.');
        let offset = Offset(fields.next()?.parse().ok().filter(|offset| *offset >= 0)?);
        let attempts = fields.next()?.parse().ok()?;
        let waited = Duration::from_secs(fields.next()?.parse().ok()?);
        let deaths = fields.next()?.parse().ok()?;
        fields.next().is_none().then_some(Self { offset, attempts, waited, deaths })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn inv_8_the_text_is_the_same_in_every_version() {
        let mark = Mark {
            offset: Offset(7),
            attempts: 3,
            waited: Duration::from_millis(5_900),
            deaths: 1,
        };
        assert_eq!(Mark::encode_all(&[mark, Mark::of(Offset(9))], 100), "7.3.5.1,9.0.0.0");
    }

    #[test]
    fn what_was_not_written_by_it_is_refused() {
        for text in ["", "7", "7.1.1", "7.1.1.1.1", "-7.1.1.1", "7.1.1.1,", "a.1.1.1", "7.-1.1.1"] {
            assert_eq!(Mark::decode_all(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_read_back_is_what_was_written_as_far_as_there_was_room(
            marks in prop::collection::vec((0i64.., any::<u32>(), any::<u32>(), any::<u32>()), 1..40),
            room in 0usize..2_000,
        ) {
            let marks: Vec<_> = marks.into_iter().map(|(offset, attempts, waited, deaths)| Mark {
                offset: Offset(offset), attempts, waited: Duration::from_secs(waited.into()), deaths,
            }).collect();
            let text = Mark::encode_all(&marks, room);
            prop_assert!(text.len() <= room);
            let read = if text.is_empty() { Some(Vec::new()) } else { Mark::decode_all(&text) };
            prop_assert!(read.is_some_and(|read| marks.starts_with(&read)));
            let all = Mark::decode_all(&Mark::encode_all(&marks, usize::MAX));
            prop_assert_eq!(all.map(|all| all.len()), Some(marks.len().min(MOST_MARKS)));
        }
    }
}
