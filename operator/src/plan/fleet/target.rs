//! Which revision the fleet goes to, how far it came, and when it has failed.

use super::{Fleet, Moves, since_then};
use crate::build::Policy;
use crate::observe::{Began, Failed, Progress, Set};
use crate::status::rounded;
use crds::{ConditionType, Reason, names};

/// The revision that the spec asks for; the newest other one, where that has failed and one may go back.
pub(super) fn choose(policy: &Policy, sets: &[Set], asked: &str) -> String {
    let failed = sets.iter().any(|set| set.revision == asked && has_failed(set, policy));
    let before = sets.iter().filter(|set| set.revision != asked && set.failed.is_none());
    // The newest with pods, else the newest.
    let before = before.clone().find(|set| set.has_pods()).or(before.clone().next());
    match before {
        Some(before) if failed && policy.rolls_back => before.revision.clone(),
        _ => asked.to_owned(),
    }
}

/// It is not tried again until the spec asks for another revision, or says so.
fn has_failed(set: &Set, policy: &Policy) -> bool {
    set.failed.as_ref().is_some_and(|failed| failed.retry == policy.retry)
}

impl Fleet<'_> {
    /// Notes that have had their time.
    pub(super) fn forget(&self, moves: &mut Moves) {
        for set in &self.sets {
            let goes_on = set.revision == self.target && self.others() > 0;
            if set.progress.is_some() && !goes_on {
                moves.note(set, names::PROGRESS, None);
            }
            let again = set.revision == self.asked && !has_failed(set, self.policy);
            if set.failed.is_some() && again {
                moves.note(set, names::FAILED, None);
            }
        }
    }

    /// Whether the rollout has failed and stays where it is.
    pub(super) fn judge(&self, moves: &mut Moves) -> bool {
        let asked = self.set(self.asked);
        let failed = asked.filter(|set| has_failed(set, self.policy));
        if let Some(Failed { message, .. }) = failed.and_then(|set| set.failed.as_ref()) {
            if self.target == self.asked {
                moves.say(ConditionType::Progressing, Reason::ProgressDeadlineExceeded, message);
                // Without another revision it goes on: there is nothing to be spoilt.
                return self.others() > 0;
            }
            let (asked, target) = (self.asked, &self.target);
            moves.say(
                ConditionType::Ready,
                Reason::RolledBack,
                format!(
                    "revision {asked} is not rolled out: {message}. Revision {target} serves. Change the \
                     spec, or set operation.retry to another text to have {asked} tried again"
                ),
            );
        }
        self.measure(moves)
    }

    /// Whether it has failed just now.
    fn measure(&self, moves: &mut Moves) -> bool {
        let Some(set) = self.set(&self.target).filter(|_| self.others() > 0) else { return false };
        let (ready, others) = (self.ready(), self.others());
        let best = set.progress.as_ref();
        if best.is_none_or(|best| ready > best.ready || others < best.others) {
            let progress = Progress {
                ready: best.map_or(ready, |best| best.ready.max(ready)),
                others: best.map_or(others, |best| best.others.min(others)),
                since: self.now,
                began: best.map_or_else(|| Some(self.begins()), |best| best.began),
            };
            // A flat structure of numbers and a time is written without fail.
            moves.note(set, names::PROGRESS, serde_json::to_string(&progress).ok());
            return false;
        }
        let late = best
            .is_some_and(|best| since_then(best.since, self.now) >= self.policy.progress_deadline);
        if !late || ready >= set.replicas || set.failed.is_some() || self.target != self.asked {
            return false;
        }
        let failed = Failed {
            message: self.why_late(ready, set.replicas),
            generation: self.policy.generation,
            retry: self.policy.retry.clone(),
        };
        moves.note(set, names::FAILED, serde_json::to_string(&failed).ok());
        true
    }

    fn begins(&self) -> Began {
        Began { at: self.now, others: self.others(), sessions: self.sessions_to_move() }
    }

    /// Sessions that are no longer to move, and how long the rest takes at the pace so far.
    pub(super) fn pace(&self) -> (Option<i32>, Option<i32>) {
        let progress = self.set(&self.target).and_then(|set| set.progress.as_ref());
        let Some((best, began)) = progress.and_then(|best| Some((best, best.began?))) else {
            return (None, None);
        };
        let moved = began.sessions.saturating_sub(self.sessions_to_move());
        let gone = began.others - best.others;
        // Between two steps nothing that is told may change by itself.
        let taken = since_then(began.at, best.since).as_secs();
        let left = u64::try_from(best.others).unwrap_or(0);
        let seconds = u64::try_from(gone).ok().and_then(|gone| (taken * left).checked_div(gone));
        (Some(rounded(moved)), seconds.map(rounded))
    }

    fn why_late(&self, ready: i64, replicas: i64) -> String {
        let seconds = self.policy.progress_deadline.as_secs();
        let mut pods = self.active().filter(|pod| pod.revision == self.target);
        let why =
            pods.find_map(|pod| Some(format!("; pod {}: {}", pod.name, pod.trouble.as_ref()?)));
        let why = why.unwrap_or_default();
        format!("for {seconds} s no more than {ready} of {replicas} of its pods are ready{why}")
    }
}
