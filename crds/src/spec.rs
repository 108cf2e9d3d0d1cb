//! The resource itself and the top level of its spec. Each part of the spec has a file of its own.

use crate::gateway::{Exposure, Gateway, Image};
use crate::operations::{DeletionPolicy, Drain, Observability, Operation, Rollout};
use crate::providers::{Auth, Provider, UserLimits};
use crate::redis::Redis;
use crate::security::Security;
use crate::status::ChatClusterStatus;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A fleet of chat nodes behind one address: it streams answers of AI providers to people, and loses,
/// doubles or reorders no chunk of them, whatever happens to nodes, stores and networks.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "chatcluster.dev",
    version = "v1alpha1",
    kind = "ChatCluster",
    plural = "chatclusters",
    singular = "chatcluster",
    shortname = "chat",
    category = "all",
    namespaced,
    status = "ChatClusterStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 40")
        .message("metadata.name must have at most 40 characters: names of pods and labels are made of it"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')")
        .message("metadata.name must begin with a letter and have only a-z, 0-9 and -: a Service has this name"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Phase", type_ = "string", json_path = ".status.phase"),
    printcolumn(name = "Version", type_ = "string", json_path = ".status.version.shown"),
    printcolumn(name = "Pods", type_ = "integer", json_path = ".status.gateway.replicas"),
    printcolumn(name = "Accepting", type_ = "integer", json_path = ".status.gateway.accepting"),
    printcolumn(name = "Draining", type_ = "integer", json_path = ".status.gateway.draining"),
    printcolumn(name = "Sessions", type_ = "integer", json_path = ".status.sessions.active"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Revision", type_ = "string", json_path = ".status.revision.current", priority = 1),
    printcolumn(name = "Streams", type_ = "integer", json_path = ".status.sessions.streams", priority = 1),
    printcolumn(name = "Redis", type_ = "string", json_path = ".status.conditions[?(@.type==\"RedisReady\")].reason", priority = 1),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].reason", priority = 1),
    scale(
        spec_replicas_path = ".spec.gateway.replicas",
        status_replicas_path = ".status.gateway.replicas",
        label_selector_path = ".status.gateway.selector"
    )
)]
#[kube(cel)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.providers) || self.providers.size() == 1 || self.providers.all(one, one.type != 'simulated')")
    .message("the simulated provider must be the only one: its answers would be mixed with real ones"))]
pub struct ChatClusterSpec {
    /// The data plane's image. Left out: the one that the operator's chart names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// The nodes: how many, how large, where.
    #[serde(default)]
    pub gateway: Gateway,
    /// How a change that needs new pods reaches them.
    #[serde(default)]
    pub rollout: Rollout,
    /// How a node that goes gives its sessions and answers to others.
    #[serde(default)]
    pub drain: Drain,
    /// How clients reach the nodes.
    #[serde(default)]
    pub exposure: Exposure,
    /// Whose tokens are accepted.
    #[serde(default)]
    pub auth: Auth,
    /// AI providers in the order they are asked: the next one only where those before it gave no first
    /// token. Empty: a built-in one that simulates answers, for trying things out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub providers: Vec<Provider>,
    /// Bounds of one user, counted over all nodes.
    #[serde(default)]
    pub limits: UserLimits,
    /// Where answers, leases and facts are kept: exactly one of `external` and `embedded`.
    pub redis: Redis,
    /// Network policy and service account.
    #[serde(default)]
    pub security: Security,
    /// Traces and logs.
    #[serde(default)]
    pub observability: Observability,
    /// What to do with the cluster as a whole, now.
    #[serde(default)]
    pub operation: Operation,
    /// What becomes of keys and claims when this resource is deleted. `Retain` keeps them, labelled, for a
    /// ChatCluster of the same name; `Delete` removes them with it.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}
