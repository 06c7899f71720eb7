//! What does Kafka refuse this worker now, since when, and is that news?
//!
//! The clients tell it, from any thread; the poll loop reviews it, logs what is new, what stands
//! still and what is over, and shows it. Pure but for its lock: the clock is the caller's.

use std::collections::BTreeMap;
use std::time::Duration;

use pelton_engine::Time;

use crate::error::WorkerError;
use crate::refusal::Refusal;
use crate::spared_lock::SparedLock;

/// What stands is said again so often.
const AGAIN: Duration = Duration::from_secs(60);

/// What nobody has met for so long is over. librdkafka repeats an error of a connection only
/// every 30 s.
const QUIET: Duration = Duration::from_secs(45);

/// Everything that is refused at the moment.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    /// Where all is well there are none, and nobody waits.
    standing: SparedLock<BTreeMap<Refusal, Standing>>,
}

#[derive(Debug)]
struct Standing {
    reason: String,
    /// Met since the last review.
    met: bool,
    begun: Option<Time>,
    met_at: Time,
    said_at: Time,
    over: bool,
}

/// What a review finds worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It is refused from now on.
    Begun { refusal: Refusal, reason: String },
    /// It has been refused for so long.
    Still { refusal: Refusal, reason: String, after: Duration },
    /// It works again.
    Over { refusal: Refusal },
}

impl Refusals {
    /// A client has met a refusal.
    pub(crate) fn tell(&self, refusal: Refusal, reason: &str) {
        self.standing.with(|standing| {
            let now_met = standing.entry(refusal).or_insert_with(|| Standing {
                reason: String::new(),
                met: true,
                begun: None,
                met_at: Time::ZERO,
                said_at: Time::ZERO,
                over: false,
            });
            (now_met.met, now_met.over) = (true, false);
            reason.clone_into(&mut now_met.reason);
        });
    }

    /// It works, whatever it was.
    pub(crate) fn over(&self, refusal: &Refusal) {
        self.standing.if_there(|standing| {
            if let Some(standing) = standing.get_mut(refusal) {
                (standing.over, standing.met) = (true, false);
            }
        });
    }

    /// Nothing is refused. Cheap: for the paths that every record takes.
    pub(crate) fn are_none(&self) -> bool {
        self.standing.is_nothing()
    }

    /// What has changed since the last review.
    pub(crate) fn review(&self, now: Time) -> Vec<Change> {
        self.standing.if_there(|all| review(all, now)).unwrap_or_default()
    }

    /// What is refused, in words.
    pub(crate) fn shown(&self) -> Vec<String> {
        let shown = self.standing.if_there(|all| {
            let standing = all.iter().filter(|(refusal, _)| refusal.is_lasting());
            standing.map(|(refusal, standing)| format!("{refusal}: {}", standing.reason)).collect()
        });
        shown.unwrap_or_default()
    }

    /// The reason of one that stands.
    pub(crate) fn reason(&self, refusal: &Refusal) -> Option<String> {
        self.standing.if_there(|all| Some(all.get(refusal)?.reason.clone())).flatten()
    }

    /// Does anything stand that stays until somebody changes something?
    pub(crate) fn stand(&self) -> bool {
        let stands =
            |(refusal, standing): (&Refusal, &Standing)| refusal.is_lasting() && !standing.over;
        self.standing.if_there(|all| all.iter().any(stands)).unwrap_or(false)
    }

    /// Why a worker can't start, if what stands will stay.
    pub(crate) fn lasting(&self, bootstrap_servers: &str) -> Option<WorkerError> {
        self.first(bootstrap_servers, Refusal::is_lasting)
    }

    /// Why a worker could not start, as far as is known.
    pub(crate) fn any(&self, bootstrap_servers: &str) -> Option<WorkerError> {
        self.first(bootstrap_servers, |_| true)
    }

    fn first(
        &self,
        bootstrap_servers: &str,
        which: impl Fn(&Refusal) -> bool,
    ) -> Option<WorkerError> {
        let first = self.standing.if_there(|all| {
            let (refusal, standing) =
                all.iter().find(|(refusal, standing)| !standing.over && which(refusal))?;
            Some(refusal.error(bootstrap_servers, &standing.reason))
        });
        first.flatten()
    }

    /// Forgets everything: what was met is of no account any more.
    pub(crate) fn clear(&self) {
        self.standing.with(BTreeMap::clear);
    }
}

fn review(all: &mut BTreeMap<Refusal, Standing>, now: Time) -> Vec<Change> {
    let mut changes = Vec::new();
    all.retain(|refusal, standing| {
        if standing.met {
            (standing.met, standing.met_at) = (false, now);
        }
        let over = standing.over || now.since(standing.met_at) >= QUIET;
        let (refusal, reason) = (refusal.clone(), standing.reason.clone());
        match standing.begun {
            // Met and over between two reviews: no news.
            None if over => {}
            Some(_) if over => changes.push(Change::Over { refusal }),
            None => {
                (standing.begun, standing.said_at) = (Some(now), now);
                changes.push(Change::Begun { refusal, reason });
            }
            Some(begun) if now.since(standing.said_at) >= AGAIN => {
                standing.said_at = now;
                changes.push(Change::Still { refusal, reason, after: now.since(begun) });
            }
            Some(_) => {}
        }
        !over
    });
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Operation;

    fn at(seconds: u64) -> Time {
        Time(seconds * 1_000_000_000)
    }

    #[test]
    fn a_refusal_is_said_when_it_begins_at_intervals_and_when_it_is_over() {
        let refusals = Refusals::default();
        let read = Refusal::topic(Operation::Read, "logins");
        let mut said = Vec::new();
        for second in 1..130 {
            if second < 70 {
                refusals.tell(read.clone(), "denied"); // each retry meets it
            }
            if second == 100 {
                refusals.over(&read);
            }
            said.extend(refusals.review(at(second)).into_iter().map(|change| (second, change)));
        }
        let reason = || "denied".to_owned();
        let begun = Change::Begun { refusal: read.clone(), reason: reason() };
        let after = Duration::from_secs(60);
        let still = Change::Still { refusal: read.clone(), reason: reason(), after };
        let over = Change::Over { refusal: read };
        assert_eq!(said, [(1, begun), (61, still), (100, over)]);
        assert!(refusals.are_none() && refusals.shown().is_empty());
    }

    #[test]
    fn what_nobody_meets_any_more_is_over_by_itself() {
        let refusals = Refusals::default();
        refusals.tell(Refusal::Login, "wrong password");
        assert_eq!(refusals.review(at(1)).len(), 1);
        assert_eq!(refusals.review(at(45)), []);
        assert_eq!(refusals.review(at(46)), [Change::Over { refusal: Refusal::Login }]);
    }

    #[test]
    fn the_cause_that_explains_the_others_is_named_and_passing_ones_are_waited_for() {
        let refusals = Refusals::default();
        assert!(refusals.any("b:9092").is_none());
        refusals.tell(Refusal::Unreachable, "refused");
        assert!(refusals.lasting("b:9092").is_none());
        assert_eq!(refusals.any("b:9092").map(|error| error.code()), Some("PLT-0301".into()));
        refusals.tell(Refusal::Login, "unknown user");
        refusals.tell(Refusal::Tls, "not trusted");
        assert_eq!(refusals.lasting("b:9092").map(|e| e.code()), Some("PLT-0313".into()));
    }
}
