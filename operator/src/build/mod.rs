//! Every object that should be there, from a validated cluster alone. One file an object.

mod built;
mod disruption;
mod metadata;
mod network_policies;
mod pod;
mod policy;
mod redis;
mod replica_set;
mod revision;
mod route;
mod services;
mod settings;

pub use built::{Built, Desired, Keys, Written};
pub use metadata::MANAGED_BY;
pub use policy::Policy;

use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::gateway::ExposureType;
use crds::names;
use serde_json::{Value, json};

/// Every object of a cluster.
pub fn build(cluster: &ValidatedCluster) -> Built {
    let settings = settings::of(cluster);
    let revision = revision::of(cluster, &settings);
    let mut objects = vec![account(cluster), settings::hot_map(cluster)];
    objects.extend(services::all(cluster));
    if cluster.spec.security.network_policy.enabled {
        objects.extend(network_policies::all(cluster));
    }
    objects.extend(disruption::budget(cluster));
    if cluster.spec.exposure.kind == ExposureType::HTTPRoute {
        objects.push(route::route(cluster));
    }
    if cluster.spec.redis.embedded.is_some() {
        objects.extend(redis::all(cluster));
    }
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    Built {
        keys: keys(cluster),
        objects,
        settings: settings::config_map(cluster, &settings, &revision),
        replica_set: replica_set::of(cluster, &revision),
        policy: policy::of(cluster),
        revision,
    }
}

/// As whom pods run: somebody who may do nothing.
fn account(cluster: &ValidatedCluster) -> Desired {
    let annotations = &cluster.spec.security.service_account.annotations;
    let mut metadata = metadata::of(cluster, &cluster.name, "gateway");
    if !annotations.is_empty() {
        metadata["annotations"] = json!(annotations);
    }
    let body = json!({"automountServiceAccountToken": false});
    Desired::new(Kind::ServiceAccount, &cluster.name, metadata, body)
}

/// What is generated and stays: other nodes and old tokens depend on it.
fn keys(cluster: &ValidatedCluster) -> Keys {
    let mut wanted = vec!["admin", "jwt", "resume"];
    if cluster.spec.redis.embedded.is_some() {
        wanted.push("redis");
    }
    let name = names::keys(&cluster.name);
    let mut metadata = metadata::of(cluster, &name, "gateway");
    if metadata::is_retained(cluster) {
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("ownerReferences");
        }
        metadata["labels"][names::RETAINED] = json!("true");
    }
    let rotation = cluster.spec.operation.rotate_keys.clone();
    if let Some(rotation) = &rotation {
        // Keys that are made now need no exchange.
        metadata["annotations"][names::KEY_ROTATION] = json!(rotation);
    }
    Keys { name, metadata, wanted, rotation }
}

/// The port of clients, by the name that pods give it.
fn data_port() -> Value {
    json!("data")
}

#[cfg(test)]
mod tests;
