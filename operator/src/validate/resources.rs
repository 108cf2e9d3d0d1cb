//! CPU and memory: what the API server would refuse in a pod only once the ReplicaSet makes one.

use super::invalid;
use crate::finding::Finding;
use crate::plan::quantity;
use crds::ChatClusterSpec;
use k8s_openapi::api::core::v1::ResourceRequirements;

/// A node needs this much to start, in bytes.
const LEAST_MEMORY: f64 = 64.0 * 1024.0 * 1024.0;

/// Of nodes and of the embedded Redis.
pub(super) fn check(spec: &ChatClusterSpec) -> Vec<Finding> {
    let embedded = spec.redis.embedded.as_ref();
    let all = [
        ("spec.gateway.resources", spec.gateway.resources.as_ref()),
        ("spec.redis.embedded.resources", embedded.and_then(|redis| redis.resources.as_ref())),
    ];
    all.into_iter()
        .filter_map(|(path, resources)| Some((path, resources?)))
        .flat_map(|(path, resources)| of(path, resources))
        .collect()
}

fn of(path: &str, resources: &ResourceRequirements) -> Vec<Finding> {
    let mut wrong = Vec::new();
    let requests = resources.requests.clone().unwrap_or_default();
    let limits = resources.limits.clone().unwrap_or_default();
    for (part, amounts) in [("requests", &requests), ("limits", &limits)] {
        for (name, amount) in amounts {
            match quantity::parse(&amount.0) {
                None => wrong.push(invalid(format!(
                    "{path}.{part}.{name}: {:?} is no quantity: write it as 500m or 512Mi",
                    amount.0
                ))),
                Some(bytes) if name == "memory" && part == "limits" && bytes < LEAST_MEMORY => {
                    wrong.push(invalid(format!(
                        "{path}.limits.memory: {} is too little to start: give it 64Mi or more",
                        amount.0
                    )));
                }
                Some(_) => {}
            }
        }
    }
    for (name, request) in &requests {
        let least = quantity::parse(&request.0);
        let most = limits.get(name).and_then(|limit| quantity::parse(&limit.0));
        if let (Some(least), Some(most)) = (least, most)
            && least > most
        {
            wrong.push(invalid(format!(
                "{path}.requests.{name}: {} is above limits.{name}: raise the limit or ask for less",
                request.0
            )));
        }
    }
    wrong
}
