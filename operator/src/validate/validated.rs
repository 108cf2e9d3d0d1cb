//! A cluster that can be built.

use crate::finding::Finding;
use crds::ChatClusterSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

/// What the operator was started with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The data plane's image, `repository:tag` or `repository@sha256:…`.
    pub image: String,
    /// The embedded Redis' image.
    pub redis_image: String,
    /// The operator's namespace: NetworkPolicies let it in.
    pub namespace: String,
}

/// Who says how many pods there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The spec.
    Fixed(i32),
    /// The load.
    Load(Autoscale),
}

/// How the load says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Autoscale {
    /// Never fewer pods.
    pub min: i32,
    /// Never more.
    pub max: i32,
    /// Sessions that a pod should carry.
    pub sessions_per_pod: Option<i32>,
    /// Live answers that a pod should carry.
    pub streams_per_pod: Option<i32>,
}

impl Scale {
    /// Of a new cluster.
    pub fn first(self) -> i32 {
        match self {
            Self::Fixed(replicas) => replicas,
            Self::Load(by) => by.min,
        }
    }
}

/// A cluster that can be built.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedCluster {
    /// `metadata.name`, at most [`crds::names::MAX_NAME`] characters.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// For everything that goes with it.
    pub owner: OwnerReference,
    /// Of the spec.
    pub generation: i64,
    /// The data plane's image as pods name it.
    pub image: String,
    /// Who says how many pods there are.
    pub scale: Scale,
    /// The spec, with all that was checked: its durations parse, its references are there.
    pub spec: ChatClusterSpec,
    /// What the operator was started with.
    pub defaults: Defaults,
}

/// A cluster that cannot be built; running pods are left as they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid(pub Vec<Finding>);

/// What validation came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Validated {
    /// The cluster.
    pub cluster: ValidatedCluster,
    /// Warnings, and what is missing without which the rest can still be kept.
    pub findings: Vec<Finding>,
}
