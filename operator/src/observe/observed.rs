//! What was read for one pass over one cluster: plain data, made by hand in tests.

use super::{PodFacts, SecretFacts};
use serde_json::Value;
use std::collections::BTreeMap;

/// The kinds of objects that follow from a ChatCluster, in the order in which they are applied: what pods
/// need comes before pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// As whom pods run.
    ServiceAccount,
    /// A revision's settings.
    ConfigMap,
    /// Addresses.
    Service,
    /// Who may reach whom.
    NetworkPolicy,
    /// How many pods an eviction may take.
    PodDisruptionBudget,
    /// The Gateway API's; it need not be installed.
    HttpRoute,
    /// The embedded Redis.
    StatefulSet,
    /// A revision's pods.
    ReplicaSet,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::ServiceAccount,
        Self::ConfigMap,
        Self::Service,
        Self::NetworkPolicy,
        Self::PodDisruptionBudget,
        Self::HttpRoute,
        Self::StatefulSet,
        Self::ReplicaSet,
    ];

    /// Group, version and kind, as manifests have them.
    pub fn api(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::ServiceAccount => ("", "v1", "ServiceAccount"),
            Self::ConfigMap => ("", "v1", "ConfigMap"),
            Self::Service => ("", "v1", "Service"),
            Self::NetworkPolicy => ("networking.k8s.io", "v1", "NetworkPolicy"),
            Self::PodDisruptionBudget => ("policy", "v1", "PodDisruptionBudget"),
            Self::HttpRoute => ("gateway.networking.k8s.io", "v1", "HTTPRoute"),
            Self::StatefulSet => ("apps", "v1", "StatefulSet"),
            Self::ReplicaSet => ("apps", "v1", "ReplicaSet"),
        }
    }

    /// As people call it.
    pub fn name(self) -> &'static str {
        self.api().2
    }

    /// `apiVersion` of a manifest.
    pub fn api_version(self) -> String {
        match self.api() {
            ("", version, _) => version.to_owned(),
            (group, version, _) => format!("{group}/{version}"),
        }
    }
}

/// Kind and name of an object in the cluster's namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectKey {
    /// Kind and name.
    pub fn new(kind: Kind, name: impl Into<String>) -> Self {
        Self { kind, name: name.into() }
    }
}

/// Whose an object is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This ChatCluster owns it.
    Ours,
    /// It has our labels and no owner: an earlier ChatCluster of this name was deleted without it. It
    /// is taken up.
    Orphaned,
    /// It has our labels and the owner is an earlier ChatCluster of this name: it will be collected.
    Going,
    /// Anything else. It is left alone.
    Foreign,
}

/// An object as the API server has it.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveObject {
    /// Without `managedFields`.
    pub object: Value,
    /// Whose it is.
    pub standing: Standing,
}

/// What pods carry together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Open sessions.
    pub sessions: u64,
    /// Live answers.
    pub streams: u64,
}

/// The bearer of `/admin/*` of a cluster's nodes. Its `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminKey(pub String);

impl std::fmt::Debug for AdminKey {
    fn fmt(&self, to: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        to.write_str("AdminKey")
    }
}

/// What is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Objects by label, and whatever else stands under a name that we would use.
    pub objects: BTreeMap<ObjectKey, LiveObject>,
    /// Secrets that the spec names or that we generate, by name; absent: not there.
    pub secrets: BTreeMap<String, SecretFacts>,
    /// Pods by label.
    pub pods: Vec<PodFacts>,
    /// The Gateway API is installed.
    pub gateway_api: bool,
    /// The number of pods that an earlier pass wanted, of the status.
    pub wanted_before: Option<i64>,
    /// What the pods carry that say it.
    pub load: Load,
    /// The most that they carried within the last window; `None`: not all of it is known.
    pub peak: Option<Load>,
    /// What the operator shows to nodes; `None`: there is none yet.
    pub admin_key: Option<AdminKey>,
}
