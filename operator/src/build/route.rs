//! The way from a Gateway to the Service.

use super::{Desired, metadata};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::gateway::ParentRef;
use crds::names;
use serde_json::{Value, json};

/// The HTTPRoute.
pub(super) fn route(cluster: &ValidatedCluster) -> Desired {
    let exposure = &cluster.spec.exposure;
    let parents: Vec<Value> = exposure.parent_refs.iter().map(parent).collect();
    let mut spec = json!({
        "parentRefs": parents,
        "rules": [{
            "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
            "backendRefs": [{"name": names::service(&cluster.name), "port": 80}],
            // An answer streams for as long as it takes.
            "timeouts": {"request": "0s"},
        }],
    });
    if !exposure.hostnames.is_empty() {
        spec["hostnames"] = json!(exposure.hostnames);
    }
    let metadata = metadata::of(cluster, &cluster.name, "gateway");
    Desired::new(Kind::HttpRoute, &cluster.name, metadata, json!({"spec": spec}))
}

fn parent(parent: &ParentRef) -> Value {
    let mut reference = json!({"name": parent.name});
    for (field, value) in [("namespace", &parent.namespace), ("sectionName", &parent.section_name)]
    {
        if let Some(value) = value {
            reference[field] = json!(value);
        }
    }
    reference
}
