//! What has to be done so that what is becomes what should be, in order; nothing, where they agree.
//!
//! A revision's pods are one ReplicaSet, and its template is written once. Which pods come and go is decided
//! in [`fleet`](self::fleet); here is every other object.

mod action;
mod compare;
mod fleet;
pub mod quantity;
mod rotation;
mod story;

pub use action::{Action, Exchange, PodRef};
pub use rotation::{ROTATED, previous};
pub use story::Told;

use crate::build::{Built, Desired, Keys, Written};
use crate::finding::Finding;
use crate::observe::{Kind, LiveObject, ObjectKey, Observed, Standing};
use crds::names;
use crds::status::{KeyRotation, RolloutStatus};
use crds::{ConditionType, Reason};
use fleet::Moves;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Writes in order, and what is to be told. Only [`plan`] makes one, so only what was planned is applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    actions: Vec<Action>,
    /// For conditions.
    pub findings: Vec<Finding>,
    /// While pods are exchanged, come or go.
    pub rollout: Option<RolloutStatus>,
    /// While keys are exchanged.
    pub key_rotation: Option<KeyRotation>,
    /// Pods that there should be; `None`: nobody knows, the spec cannot be carried out.
    pub wanted: Option<i64>,
}

impl Plan {
    /// The writes, in order.
    pub fn actions(&self) -> &[Action] {
        &self.actions
    }
}

/// Annotation with a hash of what was applied last: a field that is no longer wanted shows by it.
pub const APPLIED: &str = "chatcluster.dev/applied";

/// Compares what should be with what is.
pub fn plan(built: &Built, observed: &Observed, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    plan.keys(&built.keys, observed);
    plan.rotate(&built.keys, observed, now);
    for desired in &built.objects {
        let missing = desired.key.kind == Kind::HttpRoute && !observed.gateway_api;
        if !missing {
            plan.object(desired, observed);
        }
    }
    let moves = fleet::moves(built, observed, now);
    if moves.target == built.revision {
        plan.object(&built.settings, observed);
        plan.object(&beginning(&built.replica_set, moves.begins_with), observed);
    }
    plan.remove(built, observed, &moves);
    plan.actions.extend(moves.actions);
    plan.findings.extend(moves.findings);
    plan.rollout = moves.rollout;
    plan.wanted = Some(moves.wanted);
    plan
}

/// A ReplicaSet that is not there yet begins with as many pods as there is room for beside the others.
fn beginning(replica_set: &Desired, replicas: i64) -> Desired {
    let mut replica_set = replica_set.clone();
    replica_set.object["spec"]["replicas"] = json!(replicas);
    replica_set
}

impl Plan {
    fn keys(&mut self, keys: &Keys, observed: &Observed) {
        let there = observed.secrets.get(&keys.name);
        if there.is_some_and(|secret| !secret.ours) {
            self.findings.push(foreign("Secret", &keys.name));
            return;
        }
        let has = |key: &str| {
            there.is_some_and(|secret| secret.keys.get(key).is_some_and(|len| *len > 0))
        };
        let absent: Vec<_> = keys.wanted.iter().copied().filter(|key| !has(key)).collect();
        if !absent.is_empty() {
            self.actions.push(Action::Keys { keys: keys.clone(), absent, create: there.is_none() });
        }
    }

    fn object(&mut self, desired: &Desired, observed: &Observed) {
        let live = observed.objects.get(&desired.key);
        match live.map(|live| live.standing) {
            Some(Standing::Foreign) => {
                self.findings.push(foreign(desired.key.kind.name(), &desired.key.name));
            }
            Some(Standing::Going) => self.findings.push(going(&desired.key)),
            _ => self.apply(desired, live),
        }
    }

    fn apply(&mut self, desired: &Desired, live: Option<&LiveObject>) {
        let object = desired.object.clone();
        let as_it_is = live.filter(|live| {
            let adopted = live.standing == Standing::Ours;
            let written = desired.written == Written::Once
                || (compare::applied(&live.object) == Some(compare::hash(&object).as_str())
                    && compare::contains(&live.object, &object));
            adopted && written
        });
        if as_it_is.is_some() {
            return;
        }
        let key = desired.key.clone();
        self.actions.push(match (live, desired.written) {
            // Its template stays as it was made; only the owner is new.
            (Some(live), Written::Once) => {
                Action::Apply { key, object: adopted(desired, &live.object) }
            }
            (None, Written::Once) => Action::Create { key, object: compare::stamped(object) },
            (_, Written::WheneverItDiffers) => {
                Action::Apply { key, object: compare::stamped(object) }
            }
        });
    }

    /// What is ours by owner and label, and not wanted any more. Never what stays with the namespace:
    /// keys are no object here, and claims are not read.
    fn remove(&mut self, built: &Built, observed: &Observed, moves: &Moves) {
        let wanted: BTreeSet<_> = built
            .objects
            .iter()
            .chain([&built.settings, &built.replica_set])
            .map(|desired| &desired.key)
            .collect();
        let revisions = kept(built, observed, moves);
        for (key, live) in &observed.objects {
            let of_revision = matches!(key.kind, Kind::ConfigMap | Kind::ReplicaSet)
                && label(&live.object, names::REVISION).is_some_and(|one| revisions.contains(one));
            if live.standing != Standing::Ours || wanted.contains(key) || of_revision {
                continue;
            }
            let text = |field: &str| live.object["metadata"][field].as_str().map(str::to_owned);
            if let Some(uid) = text("uid") {
                let version = text("resourceVersion").unwrap_or_default();
                self.actions.push(Action::Delete { key: key.clone(), uid, version });
            }
        }
    }
}

/// Revisions with pods, the one that the fleet goes to, and the newest of the others.
fn kept(built: &Built, observed: &Observed, moves: &Moves) -> BTreeSet<String> {
    let draining = observed.pods.iter().map(|pod| pod.revision.clone());
    let mut kept: BTreeSet<_> = draining.chain([moves.target.clone()]).collect();
    let (with_pods, without): (Vec<_>, Vec<_>) =
        observed.sets().into_iter().partition(|set| set.has_pods());
    kept.extend(with_pods.into_iter().map(|set| set.revision));
    let history = without.into_iter().map(|set| set.revision).filter(|one| *one != built.revision);
    let history: Vec<_> =
        history.filter(|one| !kept.contains(one)).take(built.policy.history).collect();
    kept.extend(history);
    kept
}

/// The owner and the labels alone, for an object whose contents stay.
fn adopted(desired: &Desired, live: &Value) -> Value {
    let metadata = &desired.object["metadata"];
    let mut object = json!({
        "apiVersion": desired.object["apiVersion"],
        "kind": desired.object["kind"],
        "metadata": {
            "name": metadata["name"], "namespace": metadata["namespace"],
            "labels": metadata["labels"], "ownerReferences": metadata["ownerReferences"],
        },
    });
    if let Some(annotations) = live.pointer("/metadata/annotations") {
        object["metadata"]["annotations"] = annotations.clone();
    }
    for part in ["spec", "data", "immutable"] {
        if let Some(kept) = live.get(part) {
            object[part] = kept.clone();
        }
    }
    object
}

fn label<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get("metadata")?.get("labels")?.get(name)?.as_str()
}

fn foreign(kind: &str, name: &str) -> Finding {
    Finding::new(
        ConditionType::Degraded,
        Reason::ForeignObject,
        format!(
            "{kind} {name} is there and belongs to somebody else: it is left alone. Rename or remove it, or rename this ChatCluster"
        ),
    )
}

fn going(key: &ObjectKey) -> Finding {
    Finding::new(
        ConditionType::Progressing,
        Reason::Creating,
        format!(
            "{} {} of an earlier ChatCluster of this name is still being removed",
            key.kind.name(),
            key.name
        ),
    )
}

#[cfg(test)]
pub(crate) mod tests;
