//! Is a partition silent that should not be?

use super::{Ending, Engine};
use crate::action::{Action, SilentAction};
use crate::assignment::{Fetching, Phase};
use crate::time::Time;

impl Engine {
    pub(super) fn watch(&mut self, now: Time, out: &mut Vec<Action>) {
        let limits = self.limits;
        let mut rejoin = false;
        for (partition, assignment) in &mut self.assignments {
            let partition = *partition;
            match &mut assignment.phase {
                // It is silent because it was told to be; how far it falls behind is still shown.
                Phase::Running(active) if self.paused.contains(&partition) => {
                    if now.since(active.asked) >= limits.silent_after {
                        active.asked = now;
                        out.push(Action::AskEnd { partition });
                    }
                }
                Phase::Running(active) => {
                    let Some(fetch) = active.fetch else {
                        continue;
                    };
                    let broken = fetch.again_at.is_some_and(|at| now >= at);
                    let quiet = now.since(active.heard) >= limits.silent_after;
                    // A transaction's marker at the end leaves a lag that no fetch can close.
                    let lagging = active.end.is_some_and(|end| end > active.expected)
                        && active.end != active.fetched_anew_for;
                    if broken || (quiet && lagging) {
                        active.heard = now;
                        active.fetch = Some(Fetching::from(active.expected));
                        out.push(Action::StopFetch { partition });
                        out.push(Action::StartFetch { partition, from: active.expected });
                    }
                    if !broken && quiet && lagging {
                        active.fetched_anew_for = active.end;
                        out.push(Action::Silent { partition, what: SilentAction::FetchedAnew });
                    } else if quiet && now.since(active.asked) >= limits.silent_after {
                        // A dead fetch learns of no new end: only a question can tell.
                        active.asked = now;
                        out.push(Action::AskEnd { partition });
                    }
                }
                Phase::Restoring { since } if now.since(*since) >= limits.silent_after => {
                    *since = now;
                    out.push(Action::Silent { partition, what: SilentAction::StillRestoring });
                }
                Phase::Lost { since } if now.since(*since) >= limits.rejoin_after => rejoin = true,
                Phase::Restoring { .. } | Phase::Lost { .. } => {}
                Phase::Draining { .. } | Phase::Released => {}
            }
        }
        if rejoin && self.ending == Ending::No {
            // The group says nothing of them any more; what it says later is acknowledged.
            self.assignments.retain(|_, a| !matches!(a.phase, Phase::Lost { .. }));
            out.push(Action::Rejoin);
        }
    }
}
