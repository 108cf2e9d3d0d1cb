//! ReplicaSets of nodes, one a revision, as a pass sees them.

use super::{Kind, LiveObject, Observed, Standing};
use crds::names;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How far a rollout came, at its best, and when it came so far: an annotation of its ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Most pods of the new revision that were ready.
    pub ready: i64,
    /// Fewest pods of other revisions.
    pub others: i64,
    /// Since when it is not better.
    pub since: Timestamp,
    /// Where it began; absent in notes of an operator that did not write it down.
    #[serde(default)]
    pub began: Option<Began>,
}

/// A fleet when its rollout began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// When.
    pub at: Timestamp,
    /// Pods of other revisions.
    pub others: i64,
    /// Their sessions.
    pub sessions: u64,
}

/// Why a revision is not rolled out any more: an annotation of its ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    /// For people.
    pub message: String,
    /// The generation of the spec that asked for it.
    pub generation: i64,
    /// `operation.retry` then: another one has it tried again.
    pub retry: Option<String>,
}

/// A ReplicaSet of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// Of the label.
    pub revision: String,
    /// Of the annotation: the image it was made with.
    pub image: String,
    /// When it was made; as text it sorts like the time.
    pub made: String,
    /// `spec.replicas`.
    pub replicas: i64,
    /// `status.replicas`: the pods that its controller has seen.
    pub there: i64,
    /// Of the annotation.
    pub progress: Option<Progress>,
    /// Of the annotation.
    pub failed: Option<Failed>,
}

impl Set {
    /// It has pods, or is about to.
    pub fn has_pods(&self) -> bool {
        self.replicas > 0 || self.there > 0
    }

    fn of(name: &str, live: &LiveObject) -> Self {
        let text = |path: &str| live.object.pointer(path).and_then(Value::as_str);
        let count = |path: &str| live.object.pointer(path).and_then(Value::as_i64).unwrap_or(0);
        let escaped = |name: &str| name.replace('/', "~1");
        let note = |name: &str| {
            text(&format!("/metadata/annotations/{}", escaped(name))).unwrap_or_default()
        };
        let label = format!("/metadata/labels/{}", escaped(names::REVISION));
        Self {
            name: name.to_owned(),
            version: text("/metadata/resourceVersion").unwrap_or_default().to_owned(),
            revision: text(&label).unwrap_or_default().to_owned(),
            image: note(names::IMAGE).to_owned(),
            made: text("/metadata/creationTimestamp").unwrap_or_default().to_owned(),
            replicas: count("/spec/replicas"),
            there: count("/status/replicas"),
            progress: serde_json::from_str(note(names::PROGRESS)).ok(),
            failed: serde_json::from_str(note(names::FAILED)).ok(),
        }
    }
}

impl Observed {
    /// The ReplicaSets that are ours, the newest first.
    pub fn sets(&self) -> Vec<Set> {
        let ours = self.objects.iter().filter(|(key, live)| {
            key.kind == Kind::ReplicaSet
                && matches!(live.standing, Standing::Ours | Standing::Orphaned)
        });
        let mut sets: Vec<_> = ours.map(|(key, live)| Set::of(&key.name, live)).collect();
        sets.sort_by(|a, b| (&b.made, &b.name).cmp(&(&a.made, &a.name)));
        sets
    }

    /// The ReplicaSet that carries the cluster: the newest with pods that did not fail, else the newest that
    /// did not fail, else the newest.
    pub fn carrier(&self) -> Option<Set> {
        let rank = |set: &Set| (set.failed.is_none(), set.has_pods());
        // The last of several equal ones would win, and the newest comes first.
        self.sets().into_iter().rev().max_by_key(rank)
    }
}
