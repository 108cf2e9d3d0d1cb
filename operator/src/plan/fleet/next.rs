//! How many pods the target has, and which pod goes next.

use super::{Fleet, Moves, count, since_then};
use crate::observe::{Controller, Detached, PodFacts, Set};
use crate::plan::{Action, PodRef};
use crds::status::RolloutStatus;
use crds::{ConditionType, Reason};
use std::time::Duration;

/// A pod that is younger may not be ready yet, and that alone is no trouble.
const BEGINS: Duration = Duration::from_secs(60);

/// Why no pod goes now.
pub(super) enum Held {
    /// None has to.
    Nothing,
    /// One is on its way, or is being prepared.
    Underway,
    /// As many as may are on their way.
    Draining,
    /// The new pods are not ready.
    NotReady,
    /// The others have no room for its sessions.
    Capacity { pod: String, sessions: u64, room: u64 },
}

impl Fleet<'_> {
    fn surge(&self) -> i64 {
        if self.others() > 0 { self.policy.surge(self.wanted) } else { 0 }
    }

    /// How many pods the target may have: with those of other revisions never more than wanted and surge.
    pub(super) fn grown(&self) -> i64 {
        let room = self.wanted + self.surge() - self.others();
        self.wanted.min(room).max(0)
    }

    /// More pods of the target, fewer that a ReplicaSet only would have: some cannot be made.
    pub(super) fn grow(&self, moves: &mut Moves) {
        if self.is_settling() {
            return;
        }
        let grown = self.grown();
        if let Some(set) = self.set(&self.target).filter(|set| set.replicas < grown) {
            moves.scale(set, grown);
        }
        if self.serving() < self.wanted {
            return;
        }
        for set in &self.sets {
            let there = self.there(set);
            if set.there != there {
                continue;
            }
            let least = if set.revision == self.target { self.wanted } else { 0 };
            if there.max(least) < set.replicas {
                moves.scale(set, there.max(least));
            }
        }
    }

    /// Takes the pod out that goes next, if one has to and may.
    pub(super) fn shrink(&self, moves: &mut Moves) -> Held {
        let Some(pod) = self.candidate() else { return Held::Nothing };
        let Some(set) = self.set(&pod.revision) else { return Held::Nothing };
        // A ReplicaSet that has one too many still would take another one for it; so would one that has not
        // seen yet that one is gone.
        let there = self.there(set);
        if self.is_settling() || there != set.replicas || there != set.there {
            return Held::Underway;
        }
        if self.leaving() >= self.policy.max_draining {
            return Held::Draining;
        }
        let floor = self.wanted - i64::from(self.others() > 0 && self.surge() == 0);
        if self.works(pod) && self.serving() - i64::from(self.serves(pod)) < floor {
            return Held::NotReady;
        }
        let (sessions, room) = (self.sessions(pod), self.room_beside(pod));
        if sessions > room {
            return Held::Capacity { pod: pod.name.clone(), sessions, room };
        }
        let cheap: Vec<_> = self.beside(pod).filter(|other| !other.is_costly).collect();
        if !cheap.is_empty() {
            let cost = |pod: &PodFacts| Action::Cost { pod: PodRef::to(pod) };
            moves.actions.extend(cheap.into_iter().map(cost));
            return Held::Underway;
        }
        let notes = Detached {
            epoch: pod.detached.as_ref().map_or(1, |notes| notes.epoch + 1),
            since: self.now,
            replicas_after: (set.replicas - 1).max(0),
        };
        moves.actions.push(Action::Detach { pod: PodRef::to(pod), notes });
        Held::Underway
    }

    /// The pod that goes next: of another revision, else one too many. First what does not work, then what
    /// has the fewest sessions.
    fn candidate(&self) -> Option<&PodFacts> {
        let exchange = self.others() > 0;
        let too_many = self.set(&self.target).is_some_and(|set| set.replicas > self.wanted);
        if !exchange && !too_many {
            return None;
        }
        let may_go = self.active().filter(|pod| {
            (pod.revision != self.target) == exchange
                && matches!(pod.controller, Controller::ReplicaSet(_))
                && self.set(&pod.revision).is_some()
        });
        may_go.min_by_key(|pod| (self.works(pod), self.sessions(pod), pod.name.clone()))
    }

    /// Pods that a ReplicaSet has; [`Set::there`] is how many it has seen.
    fn there(&self, set: &Set) -> i64 {
        let owner = Controller::ReplicaSet(set.name.clone());
        count(self.pods.iter().filter(|pod| pod.controller == owner && !pod.terminating()))
    }

    /// It serves, or may be about to.
    fn works(&self, pod: &PodFacts) -> bool {
        let begins = pod.trouble.is_none() && since_then(pod.made, self.now) < BEGINS;
        pod.ready() || begins
    }

    /// Pods that its ReplicaSet would rather keep.
    fn beside(&self, pod: &PodFacts) -> impl Iterator<Item = &PodFacts> {
        let (uid, controller) = (pod.uid.clone(), pod.controller.clone());
        self.active()
            .filter(move |other| other.uid != uid && other.controller == controller)
            .filter(|other| other.ready())
    }

    /// What is under way, for people.
    pub(super) fn tell(&self, held: Held, moves: &mut Moves) {
        let others = self.others();
        let out = self.pods.iter().filter(|pod| pod.pool == "draining" && !pod.terminating());
        let too_many = self.set(&self.target).map_or(0, |set| set.replicas - self.wanted).max(0);
        let remaining = others + too_many;
        if remaining == 0 && count(out) == 0 {
            return;
        }
        let (moved_sessions, estimated_seconds) = self.pace();
        let words = held.words();
        let ready = self.ready();
        moves.rollout = Some(RolloutStatus {
            ready: small(ready),
            remaining_pods: small(remaining),
            remaining_sessions: crate::status::rounded(self.sessions_to_move()),
            moved_sessions,
            estimated_seconds,
            held: words.clone(),
        });
        let why = words.map(|words| format!(": {words}")).unwrap_or_default();
        let (target, wanted) = (&self.target, self.wanted);
        if matches!(held, Held::Capacity { .. }) {
            let message =
                format!("to {wanted} pods of revision {target}, {remaining} still to go{why}");
            moves.say(ConditionType::Progressing, Reason::CapacityHeld, message);
        } else if others > 0 {
            let message = format!(
                "to revision {target}: {ready} of {wanted} pods ready, {others} others to go{why}"
            );
            moves.say(ConditionType::Progressing, Reason::RollingOut, message);
        } else if remaining > 0 {
            let message = format!("to {wanted} pods, {remaining} to go{why}");
            moves.say(ConditionType::Progressing, Reason::Scaling, message);
        }
    }
}

impl Held {
    fn words(&self) -> Option<String> {
        match self {
            Self::Nothing | Self::Underway => None,
            Self::Draining => Some("as many pods drain as may".to_owned()),
            Self::NotReady => Some("the new pods are not ready yet".to_owned()),
            Self::Capacity { pod, sessions, room } => Some(format!(
                "pod {pod} has {sessions} sessions and the others have room for {room}; raise \
                 gateway.replicas, rollout.maxSurge or gateway.limits.sessionsPerPod, or wait"
            )),
        }
    }
}

fn small(number: i64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
