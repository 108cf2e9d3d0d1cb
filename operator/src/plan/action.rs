//! One write: what [`super::plan`] decides, and apply carries out.

use crate::build::Keys;
use crate::observe::{Detached, ObjectKey};
use jiff::Timestamp;
use serde_json::Value;

/// A pod as it was seen: a write about another one of this name, or about a later state of it, is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
}

/// A step of an exchange of keys, in the order in which they are done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Put new keys beside those that sign.
    Publish {
        /// `operation.rotateKeys`.
        asked: String,
    },
    /// Have the new keys sign, and keep the old ones to check with.
    Swap,
    /// Note that every pod signs with the new keys.
    Sign {
        /// Since when.
        since: Timestamp,
    },
    /// Take the old keys out.
    Retire,
}

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
    /// One step of an exchange of keys.
    Exchange {
        /// The Secret.
        secret: String,
        /// As it was seen: refused where it has changed since.
        version: String,
        /// Which step.
        exchange: Exchange,
    },
    /// Server-side apply of exactly these fields.
    Apply {
        /// What.
        key: ObjectKey,
        /// The fields.
        object: Value,
    },
    /// Make what is named by its contents, unless it is there: an operator that comes late changes nothing.
    Create {
        /// What.
        key: ObjectKey,
        /// All of it.
        object: Value,
    },
    /// Set the number of pods of a ReplicaSet.
    Scale {
        /// Its name.
        replica_set: String,
        /// As it was seen: refused where it has changed since.
        version: String,
        /// How many.
        replicas: i64,
    },
    /// Note something on a ReplicaSet, or forget it.
    Note {
        /// Its name.
        replica_set: String,
        /// As it was seen: refused where it has changed since.
        version: String,
        /// The annotation.
        annotation: &'static str,
        /// What it says.
        text: Option<String>,
    },
    /// Mark a pod as one that a shrinking ReplicaSet deletes last.
    Cost {
        /// Which.
        pod: PodRef,
    },
    /// Take a pod out of its ReplicaSet and out of every Service, by its label.
    Detach {
        /// Which.
        pod: PodRef,
        /// Noted on it in the same write.
        notes: Detached,
    },
    /// Own a pod that its ReplicaSet let go of.
    Adopt {
        /// Which.
        pod: PodRef,
    },
    /// Have a node hand over what it has. No write of the API server.
    Drain {
        /// The pod.
        pod: PodRef,
        /// Where its admin port is.
        address: String,
        /// Of the drain.
        epoch: u64,
        /// What is left of its time, in milliseconds.
        deadline_ms: u64,
    },
    /// Delete a pod that has nothing left, or no time.
    DeletePod {
        /// Which.
        pod: PodRef,
    },
    /// Remove what is not wanted any more.
    Delete {
        /// What.
        key: ObjectKey,
        /// Only this one.
        uid: String,
        /// And only as it was seen.
        version: String,
    },
}
