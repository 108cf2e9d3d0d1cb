//! The pods of one revision.

use super::{Desired, metadata, pod};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::names;
use serde_json::json;

/// The ReplicaSet: its template is written once, later passes touch replicas only.
pub(super) fn of(cluster: &ValidatedCluster, revision: &str) -> Desired {
    let name = names::replica_set(&cluster.name, revision);
    let mut metadata = metadata::of(cluster, &name, "gateway");
    metadata["labels"][names::REVISION] = json!(revision);
    metadata["annotations"] = json!({names::IMAGE: cluster.image});
    let mut selector = metadata::active(cluster);
    selector[names::REVISION] = json!(revision);
    let mut labels = metadata::labels(cluster, "gateway");
    labels[names::POOL] = json!("active");
    labels[names::REVISION] = json!(revision);
    let body = json!({"spec": {
        "replicas": cluster.scale.first(),
        "selector": {"matchLabels": selector},
        "template": {"metadata": {"labels": labels}, "spec": pod::spec(cluster, revision)},
    }});
    Desired::new(Kind::ReplicaSet, &name, metadata, body).once()
}
