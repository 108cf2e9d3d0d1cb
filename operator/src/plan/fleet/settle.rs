//! A pod that was taken out of its ReplicaSet: let go of, made up for, owned, drained, deleted.

use super::{Fleet, Moves, since_then};
use crate::observe::{Controller, Detached, PodFacts};
use crate::plan::{Action, PodRef};
use crds::{ConditionType, Reason};
use protocol::DrainPhase;
use std::time::Duration;

/// What a node needs after its deadline to end what is left, and a message to reach it.
const DRAIN_SLACK: Duration = Duration::from_secs(15);
/// So long after its time a pod that is being deleted is stuck: its machine may be lost.
const STUCK: Duration = Duration::from_secs(10);

/// Out by its label, and not yet ours.
pub(super) fn is_settling(pod: &PodFacts) -> bool {
    is_out(pod) && matches!(pod.controller, Controller::ReplicaSet(_) | Controller::Nobody)
}

fn is_out(pod: &PodFacts) -> bool {
    pod.pool == "draining" && !pod.terminating()
}

impl Fleet<'_> {
    /// Every pod that is on its way out.
    pub(super) fn settle(&self, moves: &mut Moves) {
        for pod in self.pods.iter().filter(|pod| is_out(pod)) {
            match (&pod.controller, &pod.detached) {
                // Somebody changed the label by hand: it is a drain like any other.
                (_, None) => self.note_drain(pod, moves),
                (Controller::ReplicaSet(_) | Controller::Other, _) => {}
                (Controller::Nobody, Some(notes)) => self.own(pod, notes, moves),
                (Controller::Cluster, Some(notes)) => self.drain(pod, notes, moves),
            }
        }
        for pod in self.pods.iter().filter(|pod| self.is_stuck(pod)) {
            let (name, reason) = (&pod.name, Reason::PodStuck);
            let message = format!(
                "pod {name} should be gone and is not: its machine may be lost. If it is, delete the \
                 Node, or the pod with --force"
            );
            moves.say(ConditionType::DrainBlocked, reason, message);
        }
    }

    fn note_drain(&self, pod: &PodFacts, moves: &mut Moves) {
        let replicas_after = self.set(&pod.revision).map_or(0, |set| set.replicas);
        let notes = Detached { epoch: 1, since: self.now, replicas_after };
        moves.actions.push(Action::Detach { pod: PodRef::to(pod), notes });
    }

    /// First its ReplicaSet is made smaller, then it is ours: a pass that ends in between does the first
    /// again, to the same number.
    fn own(&self, pod: &PodFacts, notes: &Detached, moves: &mut Moves) {
        match self.set(&pod.revision) {
            Some(set) if set.replicas > notes.replicas_after => {
                moves.scale(set, notes.replicas_after);
            }
            _ => moves.actions.push(Action::Adopt { pod: PodRef::to(pod) }),
        }
    }

    fn drain(&self, pod: &PodFacts, notes: &Detached, moves: &mut Moves) {
        let taken = since_then(notes.since, self.now);
        let late = taken >= self.policy.drain_deadline + DRAIN_SLACK;
        // Another life of its container has none of the sessions, and takes none.
        let restarted = pod.running_since.is_none_or(|since| since > notes.since);
        let done = pod.report.as_ref().is_some_and(|report| report.phase == DrainPhase::Done);
        if late && !done && !restarted {
            let message = format!("pod {} had still something after its deadline", pod.name);
            moves.say(ConditionType::DrainBlocked, Reason::DrainDeadlineExceeded, message);
        }
        if late || restarted || done {
            moves.actions.push(Action::DeletePod { pod: PodRef::to(pod) });
            return;
        }
        let told = pod.report.as_ref().is_some_and(|report| {
            report.phase > DrainPhase::Serving && report.epoch >= notes.epoch
        });
        if let Some(address) = pod.address.clone().filter(|_| !told) {
            let left = self.policy.drain_deadline.saturating_sub(taken);
            moves.actions.push(Action::Drain {
                pod: PodRef::to(pod),
                address,
                epoch: notes.epoch,
                deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
            });
        }
    }

    fn is_stuck(&self, pod: &PodFacts) -> bool {
        pod.gone_by.is_some_and(|gone_by| since_then(gone_by, self.now) >= STUCK)
    }

    /// Pods that are on their way out, whoever sent them; a stuck one is no reason to wait.
    pub(super) fn leaving(&self) -> i64 {
        let leaving = self.pods.iter().filter(|pod| is_out(pod) || pod.terminating());
        super::count(leaving.filter(|pod| !self.is_stuck(pod)))
    }
}
