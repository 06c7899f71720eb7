//! Which record kills its worker? What may be in hand is said in a commit before it is.
//!
//! A commit carries a [`Window`]: what its owner may have in hand when it dies. Usually that is far
//! more than it has, so that no record waits for a commit. The next owner runs what lay in the window
//! with care: one record at a time, each named in a commit before it starts. If it dies again, the
//! one in hand is known, and at a limit of deaths it is not started any more.
//!
//! A window of many records is narrowed first: they run as usual, a few hundred for each commit.
//!
//! Upholds INV-18: no record starts outside the window that Kafka has, and none that may have killed
//! too many starts at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::done_set::DoneSet;
use crate::ids::Offset;
use crate::planted::Bug;
use crate::standing::Standing;

/// What an owner may have in hand.
///
/// ```
/// use pelton_engine::{Hand, Offset, Window};
///
/// let (until, suspects) = (Offset(400), Offset(40));
/// let window = Window { until, suspects, hand: Hand::One(Offset(7)), deaths: 1 };
/// assert_eq!(window.encode(), "400.40.7.1");
/// assert_eq!(Window::decode("400.40.7.1"), Some(window));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// What is below it and not done is to be run with care by the next owner.
    pub until: Offset,
    /// Of that, what is below it one at a time; the rest is too much for that, and narrowed first.
    pub suspects: Offset,
    /// What is in hand.
    pub hand: Hand,
    /// So many owners have died with a window like this before, nobody knows at which record.
    pub deaths: u32,
}

/// Which records of a window may be in hand.
///
/// ```
/// use pelton_engine::{Hand, Offset, Window};
///
/// let (until, suspects) = (Offset(40), Offset(40));
/// let window = Window { until, suspects, hand: Hand::Below(Offset(20)), deaths: 0 };
/// assert!(window.allows(Offset(7)) && !window.allows(Offset(20)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// Any below this offset that are not done.
    Below(Offset),
    /// This one and no other.
    One(Offset),
    /// None.
    Nothing,
}

/// How large windows are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// One with more records that are not done is narrowed before they run one at a time.
    pub(crate) narrow: i64,
    /// It begins so many ahead of what has started: less than what is narrowed.
    pub(crate) ahead: i64,
}

/// At 5 ms for a commit, records of a narrow window take a second and a half more than without care.
pub(crate) const SIZES: Sizes = Sizes { narrow: 256, ahead: 64 };

impl Window {
    /// May the record at `offset` be in hand?
    #[must_use]
    pub fn allows(&self, offset: Offset) -> bool {
        match self.hand {
            Hand::Below(bound) => offset < bound,
            Hand::One(one) => offset == one,
            Hand::Nothing => false,
        }
    }

    /// As text: `<until>.<suspects>.<hand>.<deaths>`; a hand is an offset, `*` and the offset that it is below, or
    /// `-` for none.
    #[must_use]
    pub fn encode(&self) -> String {
        let hand = match self.hand {
            Hand::Below(bound) => format!("*{bound}"),
            Hand::One(offset) => offset.to_string(),
            Hand::Nothing => "-".to_owned(),
        };
        format!("{}.{}.{hand}.{}", self.until, self.suspects, self.deaths)
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` if it did not.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let offset = |text: &str| text.parse().ok().filter(|offset| *offset >= 0).map(Offset);
        let mut fields = text.split('.');
        let until = offset(fields.next()?)?;
        let suspects = offset(fields.next()?)?;
        let hand = match fields.next()? {
            "-" => Hand::Nothing,
            hand => match hand.strip_prefix('*') {
                Some(bound) => Hand::Below(offset(bound)?),
                None => Hand::One(offset(hand)?),
            },
        };
        let deaths = fields.next()?.parse().ok()?;
        fields.next().is_none().then_some(Self { until, suspects, hand, deaths })
    }

    /// What is left of it where its owner lives: what that was to be careful with itself.
    #[must_use]
    pub fn survived(self) -> Option<Self> {
        (self.deaths > 0).then_some(Self { hand: Hand::Nothing, ..self })
    }
}

/// One partition's care.
#[derive(Debug)]
pub(crate) struct Caution {
    /// A record that so many have died with is not started again.
    limit: u32,
    sizes: Sizes,
    /// What is below it and not done may have been in the hands of one that died.
    careful_below: Offset,
    /// Of that, what is below it runs one at a time; from there on it is too much.
    suspects_below: Offset,
    /// So many have died, nobody knows at which record.
    deaths: u32,
    /// So many have died with this record alone in hand.
    of: BTreeMap<Offset, u32>,
    /// Records to be careful with that have been through an attempt here.
    survived: BTreeSet<Offset>,
    /// What Kafka has.
    confirmed: Option<Window>,
    /// What it gets next, where that is another one.
    pending: Option<Window>,
    /// Is the record that they name, if they do, to be given up at its next death?
    is_trial: (bool, bool),
    /// Above all that has started.
    frontier: Offset,
    /// So many have started since the window was last moved.
    started: i64,
    /// Nothing starts any more.
    ends: bool,
    /// A commit says that nothing is in hand any more.
    rests: bool,
    bug: Option<Bug>,
}

impl Caution {
    /// Takes over from an owner whose last commit said this.
    pub(crate) fn resuming(limit: u32, before: &Standing, sizes: Sizes) -> Self {
        let base = before.offset();
        let window = before.window.unwrap_or(Window {
            until: base,
            suspects: base,
            hand: Hand::Nothing,
            deaths: 0,
        });
        let is_unnamed = matches!(window.hand, Hand::Below(_));
        let deaths = window.deaths.saturating_add(u32::from(is_unnamed));
        let is_open = |offset: Offset| offset >= base && !before.done.contains(offset);
        let marked = before.marks.iter().filter(|mark| mark.deaths > 0 && is_open(mark.offset));
        let mut of: BTreeMap<_, _> = marked.map(|mark| (mark.offset, mark.deaths)).collect();
        if let Hand::One(offset) = window.hand
            && is_open(offset)
        {
            let died = of.entry(offset).or_default();
            *died = died.saturating_add(1);
            // It may have caused those that are put down to nobody.
            if died.saturating_add(deaths) >= limit {
                *died = limit;
            }
        }
        let is_narrow = |bound: &Offset| before.done.undone_below(*bound) <= sizes.narrow;
        let suspects_below = match window.hand {
            Hand::Below(bound) => bound.min(window.until).max(window.suspects),
            Hand::One(_) | Hand::Nothing => window.suspects,
        };
        Self {
            limit,
            sizes,
            careful_below: window.until,
            suspects_below: Some(suspects_below).filter(is_narrow).unwrap_or(window.suspects),
            deaths,
            of,
            survived: BTreeSet::new(),
            confirmed: None,
            pending: None,
            is_trial: (false, false),
            frontier: base,
            started: 0,
            ends: false,
            rests: false,
            bug: None,
        }
    }

    pub(crate) fn plant(&mut self, bug: Option<Bug>) {
        self.bug = bug;
    }

    /// Is there something to be careful with?
    pub(crate) fn is_careful(&self, base: Offset) -> bool {
        base < self.careful_below
    }

    /// Has it killed so many that it is not to be started again?
    pub(crate) fn is_condemned(&self, offset: Offset) -> bool {
        self.deaths_of(offset) >= self.limit && !Bug::DeathsWithoutEnd.is(self.bug)
    }

    /// So many have died with it, as far as is known.
    pub(crate) fn deaths_of(&self, offset: Offset) -> u32 {
        self.of.get(&offset).copied().unwrap_or(0)
    }

    /// Is this one, or the one that is named as alone in hand, to be given up at one death more?
    pub(crate) fn is_trial(&self, next: Option<Offset>) -> bool {
        let (confirmed, pending) = self.is_trial;
        confirmed || pending || next.is_some_and(|offset| self.is_on_trial(offset))
    }

    fn is_on_trial(&self, offset: Offset) -> bool {
        let deaths = self.deaths_of(offset).saturating_add(self.deaths);
        self.is_suspect(offset) && deaths.saturating_add(1) >= self.limit
    }

    /// Of which records that are not done something is known.
    pub(crate) fn known(&self) -> impl Iterator<Item = (Offset, u32)> + '_ {
        self.of.iter().map(|(offset, deaths)| (*offset, *deaths))
    }

    fn is_suspect(&self, offset: Offset) -> bool {
        let is_one = offset < self.suspects_below || self.deaths_of(offset) > 0;
        is_one && !self.survived.contains(&offset)
    }

    /// May the record be started now? One that is condemned may: it does not run.
    pub(crate) fn allows(&self, offset: Offset) -> bool {
        if self.is_condemned(offset) || Bug::StartUnannounced.is(self.bug) {
            return true;
        }
        let Some(confirmed) = self.confirmed.filter(|window| window.allows(offset)) else {
            return false;
        };
        match self.pending {
            None if self.is_suspect(offset) => confirmed.hand == Hand::One(offset),
            None => true,
            Some(pending) => !self.is_suspect(offset) && pending.allows(offset),
        }
    }

    /// Is the record one of those that the window is for? One that is named comes before all others, and
    /// so do those of a window that is narrowed.
    pub(crate) fn prefers(&self, offset: Offset) -> bool {
        match (self.confirmed, self.bound()) {
            _ if self.is_condemned(offset) => true,
            (Some(Window { hand: Hand::One(one), .. }), _) => offset == one,
            (_, Some(bound)) => offset < bound,
            _ => true,
        }
    }

    fn bound(&self) -> Option<Offset> {
        match self.confirmed.filter(|window| window.deaths > 0)?.hand {
            Hand::Below(bound) => Some(bound),
            Hand::One(_) | Hand::Nothing => None,
        }
    }

    /// The window to be said before the record that is next can start; none if nothing is to be said,
    /// or not yet. `done` is asked for what is done, in a wide window alone.
    pub(crate) fn wish(
        &self,
        next: Option<Offset>,
        running: usize,
        done: impl FnOnce() -> DoneSet,
    ) -> Option<Window> {
        let names_one = matches!(self.confirmed, Some(Window { hand: Hand::One(_), .. }));
        let (until, suspects) = (self.careful_below, self.suspects_below);
        let deaths = self.deaths;
        if self.pending.is_some() || self.ends {
            return None;
        }
        match next {
            Some(offset) if self.allows(offset) => None,
            Some(offset) if self.is_suspect(offset) => (running == 0).then_some(Window {
                until,
                suspects,
                hand: Hand::One(offset),
                deaths,
            }),
            Some(_) if names_one && running > 0 => None,
            Some(offset) if (self.suspects_below..self.careful_below).contains(&offset) => {
                let bound = done().with_undone_below(self.sizes.narrow).min(self.careful_below);
                if self.bound().is_none_or(|before| before < bound) {
                    return Some(Window { until, suspects, hand: Hand::Below(bound), deaths });
                }
                // Nothing of the narrow one can start, perhaps for long: all wait for retries.
                (running == 0).then(|| self.free(offset.next()))
            }
            Some(offset) => Some(self.free(offset.next())),
            None => (names_one && running == 0).then(|| self.rest()),
        }
    }

    /// As usual: twice as many ahead as were started since it was last moved.
    fn free(&self, above: Offset) -> Window {
        let ahead = self.started.saturating_mul(2).max(self.sizes.ahead);
        let until = Offset(self.frontier.max(above).0.saturating_add(ahead));
        Window { until, suspects: Offset(0), hand: Hand::Below(until), deaths: 0 }
    }

    /// The next commit is to say the window that is wished for.
    pub(crate) fn announce(
        &mut self,
        next: Option<Offset>,
        running: usize,
        done: impl FnOnce() -> DoneSet,
    ) {
        if let Some(wish) = self.wish(next, running, done) {
            self.is_trial.1 = matches!(wish.hand, Hand::One(one) if self.is_on_trial(one));
            self.pending = Some(wish);
            self.started = 0;
        }
    }

    /// A commit is about to be made: as usual, the window moves on with it.
    pub(crate) fn seal(&mut self, running: usize) {
        self.rests = self.ends && running == 0;
        let is_free = |window: &Window| matches!(window.hand, Hand::Below(_)) && window.deaths == 0;
        let Some(window) = self.confirmed.filter(is_free) else { return };
        let next = self.free(self.frontier);
        if self.pending.is_none() && !self.ends && self.started > 0 && next.until > window.until {
            self.pending = Some(next);
            self.started = 0;
        }
    }

    /// What the commit says; `base` is its offset. Where nothing is in hand, as before the first
    /// window of its own, that is what there is still to be careful with.
    pub(crate) fn said(&self, base: Offset, running: usize) -> Option<Window> {
        let own = self.pending.or(self.confirmed).filter(|_| !self.rests || running > 0);
        own.or_else(|| self.is_careful(base).then(|| self.rest()))
    }

    fn rest(&self) -> Window {
        let (until, suspects, deaths) = (self.careful_below, self.suspects_below, self.deaths);
        Window { until, suspects, hand: Hand::Nothing, deaths }
    }

    /// Has nobody said yet that nothing is in hand any more, though it is so?
    pub(crate) fn is_open(&self) -> bool {
        self.ends && !self.rests && (self.pending.is_some() || self.confirmed.is_some())
    }

    /// Kafka has a commit that says this.
    pub(crate) fn confirmed(&mut self, window: Option<Window>) {
        if self.pending.is_some() && self.pending == window {
            self.confirmed = self.pending.take();
            self.is_trial = (self.is_trial.1, false);
        }
    }

    /// Nothing starts any more.
    pub(crate) fn end(&mut self) {
        self.ends = true;
    }

    /// The record starts.
    pub(crate) fn started(&mut self, offset: Offset) {
        self.frontier = self.frontier.max(offset.next());
        self.started += 1;
    }

    /// An attempt at it has ended, and the process lives.
    pub(crate) fn ended(&mut self, offset: Offset) {
        if offset < self.careful_below {
            self.survived.insert(offset);
        }
    }

    /// The record is done.
    pub(crate) fn done(&mut self, offset: Offset) {
        self.of.remove(&offset);
        self.survived.remove(&offset);
    }

    /// Is it one record at a time now, or is that what is next?
    pub(crate) fn is_alone(&self) -> bool {
        let one = |window: Option<Window>| {
            window.is_some_and(|window| matches!(window.hand, Hand::One(_)))
        };
        one(self.confirmed) || one(self.pending)
    }

    /// There is no more time to be careful.
    pub(crate) fn be_quick(&mut self) {
        (self.careful_below, self.suspects_below) = (Offset(0), Offset(0));
        self.of.retain(|_, deaths| *deaths >= self.limit);
    }
}

#[cfg(test)]
mod tests;
