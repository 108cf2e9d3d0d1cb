//! What has to be done so that what is becomes what should be, in order; nothing, where they agree.
//!
//! A revision's pods are one ReplicaSet, and its template is written once. While a ReplicaSet has pods it
//! stays the one that carries the cluster: a spec that needs other pods is said to be pending, and moves
//! none. A cluster without pods (new, or hibernated) begins with the revision that the spec asks for.

mod compare;
pub mod quantity;

use crate::build::{Built, Desired, Keys, Written};
use crate::finding::Finding;
use crate::observe::{Fleet, Kind, LiveObject, ObjectKey, Observed, Standing};
use crate::validate::Scale;
use crds::names;
use crds::{ConditionType, Reason};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// One write.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Make or fill the Secret of generated keys.
    Keys {
        /// The Secret, as it should be.
        keys: Keys,
        /// Of its keys, those that are absent.
        absent: Vec<&'static str>,
        /// It is not there at all.
        create: bool,
    },
    /// Server-side apply of exactly these fields.
    Apply {
        /// What.
        key: ObjectKey,
        /// The fields.
        object: Value,
    },
    /// Set the number of pods of a ReplicaSet.
    Scale {
        /// Its name.
        replica_set: String,
        /// How many.
        replicas: i64,
    },
    /// Remove what is not wanted any more.
    Delete {
        /// What.
        key: ObjectKey,
        /// Only this one.
        uid: String,
    },
}

/// Writes in order, and what is to be told. Only [`plan`] makes one, so only what was planned is applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    actions: Vec<Action>,
    /// For conditions.
    pub findings: Vec<Finding>,
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
pub fn plan(built: &Built, observed: &Observed) -> Plan {
    let mut plan = Plan::default();
    plan.keys(&built.keys, observed);
    let fleet = observed.fleet().filter(|fleet| fleet.replicas > 0 || fleet.there > 0);
    let (revision, pending) = match &fleet {
        Some(fleet) if fleet.revision != built.revision => (fleet.revision.clone(), true),
        _ => (built.revision.clone(), false),
    };
    if pending {
        plan.findings.push(rollout_pending(&revision, &built.revision));
    }
    for desired in &built.objects {
        let missing = desired.key.kind == Kind::HttpRoute && !observed.gateway_api;
        if !missing {
            plan.object(desired, observed);
        }
    }
    if !pending {
        plan.object(&built.settings, observed);
        plan.object(&built.replica_set, observed);
    }
    plan.scale(built, observed, fleet.as_ref());
    plan.remove(built, observed, &revision);
    plan
}

fn rollout_pending(current: &str, target: &str) -> Finding {
    Finding::new(
        ConditionType::Progressing,
        Reason::RolloutPending,
        format!(
            "the spec needs new pods (revision {target}); running ones keep revision {current}. To take \
             the new one up now, set operation.hibernated for a moment: all sessions reconnect"
        ),
    )
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
        let object = match live {
            // Its template stays as it was made; only the owner is new.
            Some(live) if desired.written == Written::Once => adopted(desired, &live.object),
            _ => compare::stamped(object),
        };
        self.actions.push(Action::Apply { key: desired.key.clone(), object });
    }

    /// With an autoscaler the number is its own, apart from waking up.
    fn scale(&mut self, built: &Built, observed: &Observed, fleet: Option<&Fleet>) {
        let Some(fleet) = fleet.cloned().or_else(|| observed.fleet()) else { return };
        let wanted = match built.scale {
            Scale::Fixed(replicas) => i64::from(replicas),
            Scale::Elsewhere { first } if fleet.replicas == 0 => i64::from(first),
            Scale::Elsewhere { .. } => fleet.replicas,
        };
        let new = fleet.replicas == 0 && fleet.there == 0 && fleet.revision != built.revision;
        if wanted != fleet.replicas && !new {
            self.actions.push(Action::Scale { replica_set: fleet.name, replicas: wanted });
        }
    }

    /// What is ours by owner and label, and not wanted any more. Never what stays with the namespace:
    /// keys are no object here, and claims are not read.
    fn remove(&mut self, built: &Built, observed: &Observed, revision: &str) {
        let wanted: BTreeSet<_> = built
            .objects
            .iter()
            .chain([&built.settings, &built.replica_set])
            .map(|desired| &desired.key)
            .collect();
        for (key, live) in &observed.objects {
            let of_revision = matches!(key.kind, Kind::ConfigMap | Kind::ReplicaSet)
                && label(&live.object, names::REVISION) == Some(revision);
            if live.standing != Standing::Ours || wanted.contains(key) || of_revision {
                continue;
            }
            if let Some(uid) = live.object.pointer("/metadata/uid").and_then(Value::as_str) {
                self.actions.push(Action::Delete { key: key.clone(), uid: uid.to_owned() });
            }
        }
    }
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
mod tests;
