//! How the cluster changes over time: rollouts, drains, what is done to it, what is told of it.

use crate::quantity::Span;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a change that needs new pods reaches them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.progressDeadline) >= duration('1m') && duration(self.progressDeadline) <= duration('24h')")
    .message("progressDeadline must be between 1m and 24h"))]
pub struct Rollout {
    /// `Drain`: new pods first, then the old ones are drained one after another.
    #[serde(default)]
    pub strategy: RolloutStrategy,
    /// Pods above the wanted number while it runs: a number, or a percentage of it (rounded up).
    #[serde(default = "max_surge")]
    pub max_surge: IntOrString,
    /// Pods that are drained at once.
    #[serde(default = "max_draining")]
    pub max_draining: i32,
    /// Without progress for this long the rollout has failed.
    #[serde(default = "progress_deadline")]
    pub progress_deadline: Span,
    /// What happens then. `Auto` goes back to the revision before.
    #[serde(default)]
    pub rollback: Rollback,
    /// Revisions without pods that are kept, to go back to.
    #[serde(default = "revision_history_limit")]
    pub revision_history_limit: i32,
}

fn revision_history_limit() -> i32 {
    3
}

fn max_surge() -> IntOrString {
    IntOrString::String("25%".to_owned())
}

fn max_draining() -> i32 {
    1
}

fn progress_deadline() -> Span {
    "30m".into()
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            strategy: RolloutStrategy::Drain,
            max_surge: max_surge(),
            max_draining: max_draining(),
            progress_deadline: progress_deadline(),
            rollback: Rollback::Auto,
            revision_history_limit: revision_history_limit(),
        }
    }
}

/// In which order pods are exchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum RolloutStrategy {
    /// New pods first, then the old ones are drained.
    #[default]
    Drain,
}

/// What happens to a rollout that failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Rollback {
    /// Back to the revision before.
    #[default]
    Auto,
    /// It stays where it is, for somebody to look at.
    Never,
}

/// How a node that goes gives its sessions and answers to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("duration(self.deadline) >= duration('1s') && duration(self.deadline) <= duration('24h')")
    .message("deadline must be between 1s and 24h"))]
pub struct Drain {
    /// The longest a drain that the operator began may take. Answers that still run are then handed
    /// over. Changes reach running pods.
    #[serde(default = "deadline")]
    pub deadline: Span,
    /// Sockets that are told to move, a second and pod.
    #[serde(default = "handover_per_second")]
    pub handover_per_second: i32,
}

fn deadline() -> Span {
    "10m".into()
}

fn handover_per_second() -> i32 {
    500
}

impl Default for Drain {
    fn default() -> Self {
        Self { deadline: deadline(), handover_per_second: handover_per_second() }
    }
}

/// What is told of the work beside metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Observability {
    /// Where traces go. Left out: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,
    /// How much is logged. No level logs tokens or message contents.
    #[serde(default)]
    pub log_level: LogLevel,
}

/// Where traces go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// A collector that takes OTLP over HTTP, without `/v1/traces`: `http://collector:4318`.
    pub otlp: String,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs somebody.
    Error,
    /// And what may.
    Warn,
    /// And what a node does.
    #[default]
    Info,
    /// And why.
    Debug,
    /// And every step.
    Trace,
}

/// What to do with the cluster as a whole, now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Operation {
    /// Change nothing in the cluster until this is false again; the status is still kept.
    #[serde(default)]
    pub paused: bool,
    /// Run no pods. Keys, claims and addresses stay.
    #[serde(default)]
    pub hibernated: bool,
    /// A time. A new one replaces every pod, as a rollout does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restarted_at: Option<String>,
    /// Any text. A new one has a failed revision tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<String>,
    /// Any text. A new one exchanges the keys of resume tokens and of the admin port, while every pod runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_keys: Option<String>,
}

/// What becomes of keys and claims.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// They stay, labelled.
    #[default]
    Retain,
    /// They go.
    Delete,
}
