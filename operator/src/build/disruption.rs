//! How many pods an eviction may take at once.

use super::{Desired, metadata};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use serde_json::json;

/// One, where there is more than one: a budget over a single pod would hold up a node's drain for ever.
pub(super) fn budget(cluster: &ValidatedCluster) -> Option<Desired> {
    if cluster.scale.first() < 2 {
        return None;
    }
    let body = json!({"spec": {
        "maxUnavailable": 1,
        "unhealthyPodEvictionPolicy": "AlwaysAllow",
        "selector": {"matchLabels": metadata::active(cluster)},
    }});
    let metadata = metadata::of(cluster, &cluster.name, "gateway");
    Some(Desired::new(Kind::PodDisruptionBudget, &cluster.name, metadata, body))
}
