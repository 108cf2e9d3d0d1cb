//! What the operator says of a cluster. Nothing here changes without a reason: no times of passes, no
//! counters that move by themselves.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found and did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChatClusterStatus {
    /// The generation of the spec that this speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// For people. Programs read the condition `Ready`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<Phase>,
    /// The data plane's version: of the tag, or the beginning of the digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Change>,
    /// The revision of what needs new pods to change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Change>,
    /// The pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<GatewayStatus>,
    /// What pods carry, rounded to two digits and told at most every ten seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<Sessions>,
    /// The rollout that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// The exchange of keys that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_rotation: Option<KeyRotation>,
    /// What is in force where the spec leaves it open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
    /// Why things are as they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// What is, and what shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Change {
    /// What pods have now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub current: Option<String>,
    /// What the spec asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Both in a word, as tables show it: `1.2.0`, or `1.2.0->1.3.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shown: Option<String>,
}

/// What pods carry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Sessions {
    /// Open sessions.
    pub active: i32,
    /// Live answers.
    pub streams: i32,
    /// Sessions that the accepting pods can have.
    pub capacity: i32,
    /// Pods that did not say how they are.
    pub unknown: i32,
    /// RESETs that clients were told since the boots of these pods, to the unit.
    pub resets: i32,
    /// Answers that ended INTERRUPTED since the boots of these pods, to the unit.
    pub interruptions: i32,
    /// Appends that the log refused because another text stands there, since the boots of these pods, to the
    /// unit. Anything but 0 is a fault.
    #[serde(default)]
    pub index_conflicts: i32,
}

/// An exchange of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyRotation {
    /// `operation.rotateKeys`, as it was when this one began.
    pub asked: String,
    /// What was done last.
    pub step: KeyRotationStep,
    /// What the next step waits for.
    pub waits_for: String,
}

/// How far an exchange of keys is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum KeyRotationStep {
    /// The new keys are there, to check with; the old ones still sign.
    #[default]
    Published,
    /// The new keys sign; not every pod has them yet.
    Swapped,
    /// Every pod signs with the new keys; the old ones stay until what they signed has expired.
    Signing,
}

/// A rollout, a change of the number of pods, or a drain.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Pods of the wanted revision that are ready.
    pub ready: i32,
    /// Pods of other revisions that are still to go.
    pub remaining_pods: i32,
    /// Sessions on pods that are still to go, rounded to two digits.
    pub remaining_sessions: i32,
    /// Of the sessions that were to move when it began, those that are no longer to, rounded to two digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moved_sessions: Option<i32>,
    /// Seconds from its last progress to its end, at the pace so far; absent until a pod has gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimated_seconds: Option<i32>,
    /// Why nothing moves, where nothing may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<String>,
}

/// The pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GatewayStatus {
    /// Wanted.
    pub desired: i32,
    /// There and not draining: what the scale subresource counts.
    pub replicas: i32,
    /// Of these, ready.
    pub ready: i32,
    /// Of these, taking new sessions.
    pub accepting: i32,
    /// On their way out.
    pub draining: i32,
    /// Selects the pods that `replicas` counts.
    pub selector: String,
}

/// What is in force where the spec leaves it open.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Effective {
    /// The number of pods.
    pub replicas: i32,
    /// The image, as pods name it.
    pub image: String,
    /// Seconds between SIGTERM and the end of a pod.
    pub termination_grace_period_seconds: i64,
    /// Pods that an eviction may take at once; absent: no budget is kept (one pod).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pdb_max_unavailable: Option<i32>,
}

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// The spec cannot be carried out as it is.
    Invalid,
    /// Pods are being made.
    Progressing,
    /// New pods take the place of old ones.
    RollingOut,
    /// As the spec has it.
    Running,
    /// It serves, and something is missing.
    Degraded,
    /// By `operation.paused`.
    Paused,
    /// By `operation.hibernated`.
    Hibernated,
    /// It is being deleted.
    Deleting,
}
