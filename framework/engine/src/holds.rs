//! Which keys must wait for records of theirs that lie in a retry topic?
//!
//! A record that goes to the retry topic is done where it came from, and its key is held: what
//! follows goes the same way behind it. The key is let go when the group has committed past its last
//! record there. A commit says which keys are held, so that the next owner knows.
//!
//! Upholds INV-19: while records of a key lie in a retry topic, none of it is handled ahead of them.

use std::collections::BTreeMap;

use crate::done_set::DoneSet;
use crate::ids::Offset;

/// The keys of a partition that are held, by their hashes.
///
/// Retry topics form a line: what fails in one goes to the next, and the key is held for all of them.
///
/// ```
/// use pelton_engine::{DoneSet, Holds, Offset};
///
/// let mut holds = Holds::default();
/// holds.hold(7, Offset(40)); // the record at 40 goes to the first retry topic
/// assert!(holds.is_held(7) && !holds.is_held(8));
/// // 40 is committed, and the topic ends at 12 with it; the group has committed 11 of it.
/// let (is_last, done) = (true, DoneSet::above(Offset(41)));
/// holds.heard(0, is_last, &done, Offset(12), Some(Offset(11)));
/// assert!(holds.is_held(7));
/// holds.heard(0, is_last, &done, Offset(15), Some(Offset(12)));
/// assert!(holds.is_empty());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holds {
    keys: BTreeMap<u64, Held>,
    /// All keys are held.
    all: Option<Held>,
}

/// Where the last record of a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Held {
    /// In which retry topic, or on its way to which; from 0.
    topic: usize,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// On its way; this was its offset where it came from.
    OnItsWay(Offset),
    /// Below this offset.
    Below(Offset),
}

/// A partition remembers so many keys: some hundred bytes for each commit that is under way and key.
const MOST_KEYS: usize = 10_000;

/// What a commit of an owner before, or of the topic before, says to have gone is there.
const THERE: Place = Place::OnItsWay(Offset(-1));

impl Held {
    /// None if it is over.
    fn after(
        self,
        is_last: bool,
        done: &DoneSet,
        end: Offset,
        handled: Option<Offset>,
    ) -> Option<Self> {
        let place = match self.place {
            Place::OnItsWay(offset) if offset < done.base() || done.contains(offset) => {
                Place::Below(end)
            }
            other => other,
        };
        match place {
            Place::Below(end) if handled.is_some_and(|handled| end <= handled) => {
                (!is_last).then_some(Self { topic: self.topic + 1, place: THERE })
            }
            place => Some(Self { place, ..self }),
        }
    }

    fn encode(self) -> String {
        let topic = if self.topic > 0 { format!(".{}", self.topic) } else { String::new() };
        match self.place {
            Place::OnItsWay(_) => topic,
            Place::Below(end) => format!("{topic}:{end}"),
        }
    }

    fn decode(text: &str) -> Option<Self> {
        let (topic, end) = text.split_at(text.find(':').unwrap_or(text.len()));
        let topic = match topic.strip_prefix('.') {
            Some(topic) => topic.parse().ok().filter(|topic| *topic > 0)?,
            None => topic.is_empty().then_some(0)?,
        };
        let place = match end.strip_prefix(':') {
            Some(end) => Place::Below(end.parse().ok().filter(|end| *end >= 0).map(Offset)?),
            None => THERE,
        };
        Some(Self { topic, place })
    }
}

impl Holds {
    /// The record at `offset`, of this key, goes to the first retry topic.
    ///
    /// Of more than 10,000 keys each is not remembered: all are held, until the last of them may go.
    pub fn hold(&mut self, key: u64, offset: Offset) {
        let held = Held { topic: 0, place: Place::OnItsWay(offset) };
        self.keys.insert(key, held);
        if self.keys.len() > MOST_KEYS {
            self.keys.clear();
            self.all = Some(held);
        }
    }

    /// Must a record of this key go there, too?
    #[must_use]
    pub fn is_held(&self, key: u64) -> bool {
        self.all.is_some() || self.keys.contains_key(&key)
    }

    /// Is no key held?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.all.is_none()
    }

    /// In how many retry topics keys may have records.
    ///
    /// ```
    /// use pelton_engine::{Holds, Offset};
    ///
    /// let mut holds = Holds::default();
    /// assert_eq!(holds.topics(), 0);
    /// holds.hold(7, Offset(40));
    /// assert_eq!(holds.topics(), 1);
    /// ```
    #[must_use]
    pub fn topics(&self) -> usize {
        let held = self.keys.values().chain(&self.all);
        held.map(|held| held.topic + 1).max().unwrap_or(0)
    }

    /// How many keys are held, as far as is known; all of them count as one.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len() + usize::from(self.all.is_some())
    }

    /// What is known of the partition in retry topic number `topic`: it ends at `end`, or did so after
    /// this much of our own partition was `done` in a commit; and the group had `handled` it so far.
    ///
    /// Topics are told in their order, and were asked in their order, each for its end first: a record
    /// that has left one is below the end of the next.
    pub fn heard(
        &mut self,
        topic: usize,
        is_last: bool,
        done: &DoneSet,
        end: Offset,
        handled: Option<Offset>,
    ) {
        let after = |held: &Held| match held.topic == topic {
            true => held.after(is_last, done, end, handled),
            false => Some(*held),
        };
        self.keys.retain(|_, held| after(held).map(|after| *held = after).is_some());
        self.all = self.all.as_ref().and_then(after);
    }

    /// As text, at most `room` bytes: `<key>[.<topic>][:<end>],…`, keys in hexadecimal digits. If there
    /// is not room for all of them, all keys that there are: `*`, as if all had just gone.
    #[must_use]
    pub fn encode(&self, room: usize) -> String {
        let mut text = String::new();
        for (key, held) in &self.keys {
            let comma = if text.is_empty() { "" } else { "," };
            text += &format!("{comma}{key:x}{}", held.encode());
            if text.len() > room {
                break;
            }
        }
        if self.all.is_none() && text.len() <= room { text } else { "*".to_owned() }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it did not.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        if let Some(all) = text.strip_prefix('*') {
            return Some(Self { keys: BTreeMap::new(), all: Some(Held::decode(all)?) });
        }
        let mut keys = BTreeMap::new();
        for one in text.split(',') {
            let (key, held) = one.split_at(one.find(['.', ':']).unwrap_or(one.len()));
            let key = Some(key).filter(|key| !key.starts_with('+'));
            keys.insert(u64::from_str_radix(key?, 16).ok()?, Held::decode(held)?);
        }
        Some(Self { keys, all: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn done(below: i64) -> DoneSet {
        DoneSet::above(Offset(below))
    }

    /// An outage held a million keys, outside of every budget, and each commit wrote all of them before it
    /// saw that there was no room.
    #[test]
    fn inv_19_where_very_many_keys_are_held_all_are_until_the_last_may_go() {
        let mut holds = Holds::default();
        (0..=10_000_u32).for_each(|key| holds.hold(key.into(), Offset(key.into())));
        assert!(holds.len() == 1 && holds.is_held(1_000_000));
        let last = Offset(10_000);
        holds.heard(0, true, &DoneSet::above(last), Offset(9), Some(Offset(9)));
        assert!(holds.is_held(3), "the last one is on its way");
        holds.hold(7, last.next());
        holds.heard(0, true, &DoneSet::above(last.next()), Offset(10), Some(Offset(10)));
        assert!(holds.is_held(7) && !holds.is_held(3));
    }

    #[test]
    fn a_key_is_let_go_only_when_its_last_record_there_is_committed() {
        let mut holds = Holds::default();
        holds.hold(1, Offset(5));
        holds.heard(0, true, &done(5), Offset(3), Some(Offset(1_000)));
        assert!(holds.is_held(1), "it is on its way");
        let mut above = done(4);
        above.push(Offset(5), Offset(5));
        holds.heard(0, true, &above, Offset(3), None);
        holds.hold(1, Offset(9));
        holds.heard(0, true, &above, Offset(3), Some(Offset(3)));
        assert!(holds.is_held(1), "another one of it followed");
        holds.heard(0, true, &done(10), Offset(8), Some(Offset(7)));
        holds.heard(0, true, &done(10), Offset(20), Some(Offset(8)));
        assert!(!holds.is_held(1), "what came behind it is of others");
    }

    #[test]
    fn what_has_left_one_retry_topic_may_lie_in_the_next() {
        let mut holds = Holds::default();
        holds.hold(1, Offset(5));
        holds.heard(0, false, &done(6), Offset(3), Some(Offset(3)));
        assert!(holds.is_held(1));
        assert_eq!(holds.encode(100), "1.1");
        let mut next = Holds::decode("1.1").expect("its own text");
        next.heard(0, false, &done(6), Offset(9), Some(Offset(9)));
        next.heard(1, true, &done(6), Offset(4), Some(Offset(3)));
        assert_eq!(next.encode(100), "1.1:4");
        next.heard(1, true, &done(6), Offset(7), Some(Offset(4)));
        assert!(next.is_empty());
    }

    #[test]
    fn what_does_not_fit_holds_all_keys() {
        let mut holds = Holds::default();
        (0..100).for_each(|key| holds.hold(key << 50, Offset(1)));
        assert_eq!(holds.encode(200), "*");
        let mut next = Holds::decode("*").expect("its own text");
        assert!(next.is_held(12_345) && !next.is_empty());
        next.heard(0, true, &done(0), Offset(70), Some(Offset(70)));
        assert!(next.is_empty());
    }

    #[test]
    fn what_was_not_written_by_it_is_refused() {
        for text in
            ["", "x", "1,", "1:", "1:-2", "+1", "*1", "*:x", "1:2:3", "1.0", "1.x:3", "1.:3"]
        {
            assert_eq!(Holds::decode(text), None, "{text}");
        }
        assert_eq!(
            Holds::decode("ff:12,7.2").map(|holds| holds.encode(100)),
            Some("7.2,ff:12".into())
        );
    }

    proptest! {
        /// Against a plain model: where each record of a key is, through two retry topics.
        #[test]
        fn inv_19_no_key_is_let_go_before_its_last_record_is_committed(
            steps in prop::collection::vec((0u8..6, 0u64..4), 1..300), room in 0usize..60,
        ) {
            let (mut holds, mut next, mut committed) = (Holds::default(), 0, 0);
            // What each topic got, and how much of it is handled and committed.
            let (mut got, mut handled) = ([Vec::new(), Vec::new()], [0, 0]);
            for (step, key) in steps {
                match step {
                    0 => { holds.hold(key, Offset(next)); got[0].push(key); next += 1; }
                    1 => committed = next,
                    // Some fail there, and go on to the second one; some are done.
                    2 if handled[0] < got[0].len() => {
                        let of = got[0][handled[0]];
                        let waits = got[1][handled[1]..].contains(&of);
                        if key == 0 || waits { got[1].push(of); }
                        handled[0] += 1;
                    }
                    3 if handled[1] < got[1].len() => handled[1] += 1,
                    4 => for topic in [0, 1] {
                        let offset = |count: usize| Offset(i64::try_from(count).expect("few"));
                        let (end, handled) = (offset(got[topic].len()), offset(handled[topic]));
                        holds.heard(topic, topic == 1, &done(committed), end, Some(handled));
                    },
                    // Another owner, if all was committed.
                    5 if committed == next => {
                        let text = holds.encode(room);
                        holds = if text.is_empty() { Holds::default() } else { Holds::decode(&text).expect("its own") };
                    }
                    _ => {}
                }
                for topic in [0, 1] {
                    for key in &got[topic][handled[topic]..] {
                        prop_assert!(holds.is_held(*key), "{key}: {got:?} {handled:?}");
                    }
                }
            }
        }
    }
}
