//! Who may reach the pods, and whom they may reach.
//!
//! | pods | in | out |
//! |---|---|---|
//! | nodes | clients on the data port from anywhere; the operator on the admin port | DNS, Redis, the ports of providers, key sets and collectors |
//! | embedded Redis | this cluster's nodes | nothing |

use super::{Desired, metadata};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::names::{self, ADMIN_PORT, DATA_PORT};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use url::Url;

const REDIS_PORT: u16 = 6_379;

/// All policies of a cluster.
pub(super) fn all(cluster: &ValidatedCluster) -> Vec<Desired> {
    let mut policies = vec![nodes(cluster)];
    if cluster.spec.redis.embedded.is_some() {
        policies.push(redis(cluster));
    }
    policies
}

fn tcp(port: u16) -> Value {
    json!({"protocol": "TCP", "port": port})
}

fn nodes(cluster: &ValidatedCluster) -> Desired {
    let extra = &cluster.spec.security.network_policy;
    let operator = json!({"namespaceSelector": {"matchLabels": {
        "kubernetes.io/metadata.name": cluster.defaults.namespace,
    }}});
    let mut ingress = vec![
        json!({"ports": [tcp(DATA_PORT)]}),
        json!({"from": [operator], "ports": [tcp(ADMIN_PORT)]}),
    ];
    ingress.extend(extra.extra_ingress.iter().map(|rule| json!(rule)));
    let mut egress = vec![json!({"ports": [{"protocol": "UDP", "port": 53}, tcp(53)]})];
    egress.push(to_redis(cluster));
    let outside: Vec<Value> = outside(cluster).into_iter().map(tcp).collect();
    if !outside.is_empty() {
        egress.push(json!({"ports": outside}));
    }
    egress.extend(extra.extra_egress.iter().map(|rule| json!(rule)));
    let body = json!({"spec": {
        "podSelector": {"matchLabels": metadata::every(cluster, "gateway")},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": ingress,
        "egress": egress,
    }});
    let metadata = metadata::of(cluster, &cluster.name, "gateway");
    Desired::new(Kind::NetworkPolicy, &cluster.name, metadata, body)
}

fn to_redis(cluster: &ValidatedCluster) -> Value {
    match &cluster.spec.redis.external {
        // Its address may be anywhere, and may change.
        Some(external) => {
            json!({"ports": [{"protocol": "TCP", "port": external.port}]})
        }
        None => json!({
            "to": [{"podSelector": {"matchLabels": metadata::every(cluster, "redis")}}],
            "ports": [tcp(REDIS_PORT)],
        }),
    }
}

/// Ports of what is named by URL: a policy knows no host names.
fn outside(cluster: &ValidatedCluster) -> BTreeSet<u16> {
    let spec = &cluster.spec;
    let providers = spec.providers.iter().filter_map(|one| one.base_url.as_ref());
    let key_sets = spec.auth.jwt.issuers.iter().filter_map(|one| one.jwks.url.as_ref());
    let collector = spec.observability.tracing.iter().map(|tracing| &tracing.otlp);
    let urls = providers.chain(key_sets).chain(collector);
    urls.filter_map(|url| Url::parse(url).ok()?.port_or_known_default()).collect()
}

fn redis(cluster: &ValidatedCluster) -> Desired {
    let name = names::redis(&cluster.name);
    let body = json!({"spec": {
        "podSelector": {"matchLabels": metadata::every(cluster, "redis")},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{
            "from": [{"podSelector": {"matchLabels": metadata::every(cluster, "gateway")}}],
            "ports": [tcp(REDIS_PORT)],
        }],
    }});
    Desired::new(Kind::NetworkPolicy, &name, metadata::of(cluster, &name, "redis"), body)
}
