//! The nodes of the data plane: image, number, size, place, address.

use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An image, by tag or by digest. A digest is preferred: what runs then never changes by itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.tag) && has(self.digest))")
    .message("set tag or digest, not both: a digest is preferred"))]
pub struct Image {
    /// Registry and repository, without tag and digest. Left out: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// A tag. Not together with `digest`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits. Not together with `tag`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Names of Secrets of this namespace with credentials for the registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pull_secrets: Vec<LocalName>,
}

/// The name of an object in the same namespace.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub struct LocalName {
    /// Its name.
    pub name: String,
}

/// The nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.replicas) && has(self.autoscaling))")
    .message("set replicas or autoscaling, not both: with autoscaling, bound the number by autoscaling.min and autoscaling.max"))]
#[x_kube(validation = Rule::new("!has(self.autoscaling) || !has(self.autoscaling.target.sessionsPerPod) || self.autoscaling.target.sessionsPerPod <= self.limits.sessionsPerPod")
    .message("autoscaling.target.sessionsPerPod must be at most limits.sessionsPerPod: a pod never carries more"))]
#[x_kube(validation = Rule::new("!has(self.autoscaling) || !has(self.autoscaling.target.streamsPerPod) || self.autoscaling.target.streamsPerPod <= self.limits.streamsPerPod")
    .message("autoscaling.target.streamsPerPod must be at most limits.streamsPerPod: a pod never carries more"))]
pub struct Gateway {
    /// How many; not together with `autoscaling`. Left out, and without autoscaling: 2. 0 is said by
    /// `operation.hibernated`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Follow the load, between bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscaling: Option<Autoscaling>,
    /// What one pod takes.
    #[serde(default)]
    pub limits: PodLimits,
    /// CPU and memory of a pod. Left out: 250m and 256Mi requested, 512Mi memory at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Which machines.
    #[serde(default)]
    pub placement: Placement,
}

/// The number of pods follows the load.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.min <= self.max")
    .message("min must be at most max"))]
#[x_kube(validation = Rule::new("has(self.target) && (has(self.target.sessionsPerPod) || has(self.target.streamsPerPod))")
    .message("set target.sessionsPerPod, target.streamsPerPod, or both: without a target nothing is followed"))]
pub struct Autoscaling {
    /// Never fewer pods.
    pub min: i32,
    /// Never more.
    pub max: i32,
    /// What a pod should carry.
    #[serde(default)]
    pub target: AutoscalingTarget,
}

/// The load of a pod that autoscaling aims at.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoscalingTarget {
    /// Open sessions. At most `gateway.limits.sessionsPerPod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_per_pod: Option<i32>,
    /// Live answers. At most `gateway.limits.streamsPerPod`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub streams_per_pod: Option<i32>,
}

/// Bounds of one pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodLimits {
    /// Open sessions.
    #[serde(default = "sessions_per_pod")]
    pub sessions_per_pod: i32,
    /// Live answers; takeovers may exceed it by half.
    #[serde(default = "streams_per_pod")]
    pub streams_per_pod: i32,
}

fn sessions_per_pod() -> i32 {
    6_000
}

fn streams_per_pod() -> i32 {
    1_000
}

impl Default for PodLimits {
    fn default() -> Self {
        Self { sessions_per_pod: sessions_per_pod(), streams_per_pod: streams_per_pod() }
    }
}

/// Which machines run the pods.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// `Default` spreads the pods over zones and machines as well as it can; `None` leaves it to
    /// the scheduler and to `affinity`.
    #[serde(default)]
    pub spread: Spread,
    /// Labels that a machine must have.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Taints that are tolerated.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// As in a pod.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// A PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority_class_name: Option<String>,
}

/// Whether pods are kept apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Spread {
    /// Over zones and machines, as well as can be.
    #[default]
    Default,
    /// As it comes.
    None,
}

/// How clients reach the nodes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.type != 'HTTPRoute' || (has(self.parentRefs) && self.parentRefs.size() > 0)")
    .message("type HTTPRoute needs parentRefs: name the Gateway that the route is attached to"))]
#[x_kube(validation = Rule::new("self.type == 'HTTPRoute' || (!has(self.parentRefs) && !has(self.hostnames))")
    .message("parentRefs and hostnames are of an HTTPRoute: set type: HTTPRoute, or leave them out"))]
#[x_kube(validation = Rule::new("!has(self.annotations) || self.annotations.all(key, !key.startsWith('chatcluster.dev/'))")
    .message("annotations under chatcluster.dev/ belong to the operator: choose another prefix"))]
pub struct Exposure {
    /// `ClusterIP`: from within the cluster, or through something of yours. `LoadBalancer`: a Service
    /// of that type. `HTTPRoute`: a route of the Gateway API, attached to `parentRefs`.
    #[serde(default, rename = "type")]
    pub kind: ExposureType,
    /// Host names of the HTTPRoute. Empty: all of its listeners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hostnames: Vec<String>,
    /// Gateways that the HTTPRoute is attached to. Needed with `HTTPRoute`, and only there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parent_refs: Vec<ParentRef>,
    /// Annotations of the Service, as load balancers of clouds want them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Serve the chat page at `/`. It asks for a token.
    #[serde(default)]
    pub page: bool,
}

/// How clients come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ExposureType {
    /// From within the cluster.
    #[default]
    ClusterIP,
    /// A cloud's load balancer.
    LoadBalancer,
    /// The Gateway API.
    HTTPRoute,
}

/// A Gateway, perhaps one listener of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParentRef {
    /// Its name.
    pub name: String,
    /// Its namespace. Left out: this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// One of its listeners. Left out: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}
