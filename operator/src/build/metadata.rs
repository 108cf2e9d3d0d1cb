//! Names, labels and owner of whatever is built.

use crate::validate::ValidatedCluster;
use crds::names;
use crds::operations::DeletionPolicy;
use serde_json::{Value, json};

/// The part of everything that is ours.
pub const MANAGED_BY: &str = "chatcluster-operator";

/// Of an object that goes with the cluster.
pub(super) fn of(cluster: &ValidatedCluster, name: &str, component: &str) -> Value {
    json!({
        "name": name,
        "namespace": cluster.namespace,
        "labels": labels(cluster, component),
        "ownerReferences": [cluster.owner],
    })
}

/// What every object carries.
pub(super) fn labels(cluster: &ValidatedCluster, component: &str) -> Value {
    json!({
        "app.kubernetes.io/name": "chatcluster",
        "app.kubernetes.io/instance": cluster.name,
        "app.kubernetes.io/component": component,
        "app.kubernetes.io/managed-by": MANAGED_BY,
        names::CLUSTER: cluster.name,
        names::COMPONENT: component,
    })
}

/// Pods that serve: of every revision, without those that drain.
pub(super) fn active(cluster: &ValidatedCluster) -> Value {
    json!({
        names::CLUSTER: cluster.name,
        names::COMPONENT: "gateway",
        names::POOL: "active",
    })
}

/// Every pod of a part, draining ones too.
pub(super) fn every(cluster: &ValidatedCluster, component: &str) -> Value {
    json!({names::CLUSTER: cluster.name, names::COMPONENT: component})
}

/// Keys and claims stay when the cluster goes.
pub(super) fn is_retained(cluster: &ValidatedCluster) -> bool {
    cluster.spec.deletion_policy == DeletionPolicy::Retain
}
