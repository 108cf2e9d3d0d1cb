//! What was read for one pass over one cluster: plain data, made by hand in tests.

use crds::names;
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

/// A Secret that is referred to or generated, without its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// Its keys with the length of each value.
    pub keys: BTreeMap<String, usize>,
    /// It carries our labels.
    pub ours: bool,
}

/// One pod of the data plane or of the embedded Redis.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodFacts {
    /// `metadata.name`.
    pub name: String,
    /// `gateway` or `redis`.
    pub component: String,
    /// `active` or `draining`; empty for redis.
    pub pool: String,
    /// Its Ready condition.
    pub ready: bool,
    /// It has a deletionTimestamp.
    pub terminating: bool,
    /// Why it does not start, where it does not: of the container's waiting state or the scheduler.
    pub trouble: Option<String>,
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
}

/// A ReplicaSet of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fleet {
    /// Its name.
    pub name: String,
    /// Of the label.
    pub revision: String,
    /// Of the annotation: the image it was made with.
    pub image: String,
    /// `spec.replicas`.
    pub replicas: i64,
    /// `status.replicas`.
    pub there: i64,
}

impl Observed {
    /// The ReplicaSet that carries the cluster: of those with pods the newest, else the newest.
    pub fn fleet(&self) -> Option<Fleet> {
        let fleets = self.objects.iter().filter(|(key, live)| {
            key.kind == Kind::ReplicaSet
                && matches!(live.standing, Standing::Ours | Standing::Orphaned)
        });
        fleets
            .map(|(key, live)| {
                let text = |path: &str| live.object.pointer(path).and_then(Value::as_str);
                let count = |path: &str| live.object.pointer(path).and_then(Value::as_i64);
                let label = format!("/metadata/labels/{}", names::REVISION.replace('/', "~1"));
                let image = format!("/metadata/annotations/{}", names::IMAGE.replace('/', "~1"));
                let fleet = Fleet {
                    name: key.name.clone(),
                    revision: text(&label).unwrap_or_default().to_owned(),
                    image: text(&image).unwrap_or_default().to_owned(),
                    replicas: count("/spec/replicas").unwrap_or(0),
                    there: count("/status/replicas").unwrap_or(0),
                };
                let made = text("/metadata/creationTimestamp").unwrap_or_default().to_owned();
                (fleet.replicas > 0 || fleet.there > 0, made, fleet)
            })
            .max_by(|a, b| (a.0, &a.1, &a.2.name).cmp(&(b.0, &b.1, &b.2.name)))
            .map(|(_, _, fleet)| fleet)
    }
}
