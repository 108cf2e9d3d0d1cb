//! Addresses: of the cluster, and of each pod.

use super::{Desired, data_port, metadata};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::gateway::ExposureType;
use crds::names::{self, ADMIN_PORT, DATA_PORT};
use serde_json::json;

/// Both Services.
pub(super) fn all(cluster: &ValidatedCluster) -> [Desired; 2] {
    [clients(cluster), pods(cluster)]
}

fn clients(cluster: &ValidatedCluster) -> Desired {
    let exposure = &cluster.spec.exposure;
    let name = names::service(&cluster.name);
    let mut metadata = metadata::of(cluster, &name, "gateway");
    if !exposure.annotations.is_empty() {
        metadata["annotations"] = json!(exposure.annotations);
    }
    let kind = match exposure.kind {
        ExposureType::LoadBalancer => "LoadBalancer",
        ExposureType::ClusterIP | ExposureType::HTTPRoute => "ClusterIP",
    };
    let body = json!({"spec": {
        "type": kind,
        "selector": metadata::active(cluster),
        "ports": [{
            "name": "http", "port": 80, "targetPort": data_port(), "protocol": "TCP",
            "appProtocol": "http",
        }],
    }});
    Desired::new(Kind::Service, &name, metadata, body)
}

/// Not only of ready pods: a draining one is still asked for its report.
fn pods(cluster: &ValidatedCluster) -> Desired {
    let name = names::pods_service(&cluster.name);
    let port = |name: &str, port: u16| json!({"name": name, "port": port, "targetPort": name, "protocol": "TCP"});
    let body = json!({"spec": {
        "clusterIP": "None",
        "publishNotReadyAddresses": true,
        "selector": metadata::every(cluster, "gateway"),
        "ports": [port("data", DATA_PORT), port("admin", ADMIN_PORT)],
    }});
    Desired::new(Kind::Service, &name, metadata::of(cluster, &name, "gateway"), body)
}
