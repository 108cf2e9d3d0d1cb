//! Which pods come, which go next, and why nothing may move now. Pure; everything that must be remembered
//! from one pass to the next is noted on pods and ReplicaSets.
//!
//! - [`target`]: which revision the fleet goes to, how far it is, and when it has failed.
//! - [`settle`]: a pod that was taken out of its ReplicaSet, until it is deleted.
//! - [`autoscale`]: how many pods the load asks for.
//! - [`next`]: how many pods the target has, and which pod goes next.
//!
//! A pod leaves its ReplicaSet by its label, never by lowering `replicas` first: a ReplicaSet that shrinks
//! chooses by itself whom it deletes. Only when it has let go of the pod (it reads pods and ReplicaSets
//! through two watches, and this is the proof that it saw the label) it is told to be one smaller.

mod autoscale;
mod next;
mod settle;
mod target;

use super::{Action, PodRef};
use crate::build::{Built, Policy};
use crate::finding::Finding;
use crate::observe::{Observed, PodFacts, Set};
use crate::validate::Scale;
use crds::status::RolloutStatus;
use crds::{ConditionType, Reason};
use jiff::Timestamp;
use std::time::Duration;

/// What the fleet does now.
#[derive(Default)]
pub(super) struct Moves {
    /// In order.
    pub(super) actions: Vec<Action>,
    /// For conditions.
    pub(super) findings: Vec<Finding>,
    /// The revision that the fleet goes to.
    pub(super) target: String,
    /// Pods that there should be.
    pub(super) wanted: i64,
    /// Pods of a ReplicaSet of the target that is not there yet.
    pub(super) begins_with: i64,
    /// While pods are exchanged, come or go.
    pub(super) rollout: Option<RolloutStatus>,
}

/// A fleet as one pass sees it.
struct Fleet<'a> {
    policy: &'a Policy,
    sets: Vec<Set>,
    /// Of the data plane.
    pods: Vec<&'a PodFacts>,
    /// The revision that the spec asks for.
    asked: &'a str,
    /// The revision that the fleet goes to.
    target: String,
    wanted: i64,
    now: Timestamp,
}

/// What the fleet does now.
pub(super) fn moves(built: &Built, observed: &Observed, now: Timestamp) -> Moves {
    let fleet = Fleet::new(built, observed, now);
    let (target, begins_with) = (fleet.target.clone(), fleet.grown());
    let mut moves = Moves { target, begins_with, wanted: fleet.wanted, ..Moves::default() };
    fleet.forget(&mut moves);
    fleet.settle(&mut moves);
    if fleet.wanted == 0 {
        fleet.sleep(&mut moves);
        return moves;
    }
    if fleet.judge(&mut moves) {
        return moves;
    }
    fleet.grow(&mut moves);
    let held = fleet.shrink(&mut moves);
    fleet.tell(held, &mut moves);
    moves
}

impl<'a> Fleet<'a> {
    fn new(built: &'a Built, observed: &'a Observed, now: Timestamp) -> Self {
        let sets = observed.sets();
        let pods = observed.pods.iter().filter(|pod| pod.component == "gateway").collect();
        let target = target::choose(&built.policy, &sets, &built.revision);
        let exchanged = sets.iter().any(|set| set.revision != target && set.replicas > 0);
        let wanted = match built.policy.scale {
            Scale::Fixed(wanted) => i64::from(wanted),
            Scale::Load(by) => autoscale::wanted(&by, observed, exchanged),
        };
        Self { policy: &built.policy, sets, pods, asked: &built.revision, target, wanted, now }
    }

    fn set(&self, revision: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.revision == revision)
    }

    /// Pods that other revisions should have, by their ReplicaSets.
    fn others(&self) -> i64 {
        self.sets.iter().filter(|set| set.revision != self.target).map(|set| set.replicas).sum()
    }

    fn active(&self) -> impl Iterator<Item = &'a PodFacts> {
        self.pods.iter().copied().filter(|pod| pod.is_active())
    }

    /// Ready for long enough to be relied on.
    fn serves(&self, pod: &PodFacts) -> bool {
        pod.is_active()
            && pod.ready_since.is_some_and(|since| since_then(since, self.now) >= SETTLED)
    }

    fn serving(&self) -> i64 {
        count(self.active().filter(|pod| self.serves(pod)))
    }

    /// Of the target.
    fn ready(&self) -> i64 {
        count(self.active().filter(|pod| pod.revision == self.target && self.serves(pod)))
    }

    /// Unknown counts as full, where something may be there at all.
    fn sessions(&self, pod: &PodFacts) -> u64 {
        match &pod.report {
            Some(report) => report.sessions as u64,
            None if pod.running_since.is_none() => 0,
            None => self.policy.sessions_per_pod,
        }
    }

    /// On pods of other revisions, and on those that are on their way out.
    fn sessions_to_move(&self) -> u64 {
        let goes = |pod: &&&PodFacts| {
            let out = pod.pool == "draining" && !pod.terminating();
            out || (pod.is_active() && pod.revision != self.target)
        };
        self.pods.iter().filter(goes).map(|pod| self.sessions(pod)).sum()
    }

    /// Places for sessions on the pods that take some, other than `pod`; unknown counts as none.
    fn room_beside(&self, pod: &PodFacts) -> u64 {
        let others = self.active().filter(|other| other.uid != pod.uid && self.serves(other));
        let free = others.filter_map(|other| {
            let report = other.report.as_ref().filter(|report| report.accepting)?;
            Some(self.policy.sessions_per_pod.saturating_sub(report.sessions as u64))
        });
        free.sum()
    }

    /// A pod is out of its ReplicaSet by its label, and not yet ours.
    fn is_settling(&self) -> bool {
        self.pods.iter().any(|pod| settle::is_settling(pod))
    }

    /// No pods are wanted: nobody is there to take sessions, so each pod ends by itself.
    fn sleep(&self, moves: &mut Moves) {
        for set in self.sets.iter().filter(|set| set.replicas > 0) {
            moves.scale(set, 0);
        }
    }
}

/// A pod that is ready for a shorter time may be about to fall over.
const SETTLED: Duration = Duration::from_secs(2);

impl Moves {
    fn scale(&mut self, set: &Set, replicas: i64) {
        let (replica_set, version) = (set.name.clone(), set.version.clone());
        self.actions.push(Action::Scale { replica_set, version, replicas });
    }

    fn note(&mut self, set: &Set, annotation: &'static str, text: Option<String>) {
        let (replica_set, version) = (set.name.clone(), set.version.clone());
        self.actions.push(Action::Note { replica_set, version, annotation, text });
    }

    fn say(&mut self, condition: ConditionType, reason: Reason, message: impl Into<String>) {
        self.findings.push(Finding::new(condition, reason, message));
    }
}

impl PodRef {
    fn to(pod: &PodFacts) -> Self {
        Self { name: pod.name.clone(), uid: pod.uid.clone(), version: pod.version.clone() }
    }
}

/// Clocks of two machines may differ: what lies ahead is now.
fn since_then(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

fn count<T>(pods: impl Iterator<Item = T>) -> i64 {
    i64::try_from(pods.count()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
