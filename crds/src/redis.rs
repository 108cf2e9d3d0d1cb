//! Where answers, leases and facts are kept.

use crate::gateway::Placement;
use crate::providers::SecretKeyRef;
use k8s_openapi::api::core::v1::ResourceRequirements;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A Redis, 7.0 or later: exactly one of these.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.external) != has(self.embedded)")
    .message("set exactly one of external (a Redis of yours, for production) and embedded (for development)"))]
#[x_kube(validation = Rule::new("has(self.external) == has(oldSelf.external)")
    .message("external and embedded cannot be exchanged in place, answers would be lost: make another ChatCluster"))]
pub struct Redis {
    /// One of yours. For production.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<ExternalRedis>,
    /// One that the operator runs: a single pod. For development.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedded: Option<EmbeddedRedis>,
}

/// A Redis of yours.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExternalRedis {
    /// Host name or address.
    pub host: String,
    /// Port.
    #[serde(default = "port")]
    pub port: i32,
    /// Database number.
    #[serde(default)]
    pub database: i32,
    /// An ACL user. Left out: the default user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The user's password. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret_ref: Option<SecretKeyRef>,
    /// TLS. Left out: none, which is a warning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<RedisTls>,
    /// What every key begins with, where several clusters share a Redis. Left out: one that
    /// follows from the namespace and the name of this resource.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

fn port() -> i32 {
    6_379
}

/// TLS to Redis.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RedisTls {
    /// The authority's certificate (PEM). Left out: the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<SecretKeyRef>,
}

/// A Redis that the operator runs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.storage) == has(oldSelf.storage)")
    .message("storage cannot be added or taken away later: make another ChatCluster"))]
pub struct EmbeddedRedis {
    /// Its image. Left out: the operator's default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// CPU and memory. Left out: 100m and 256Mi, 512Mi at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,
    /// Which machines; not those of `gateway.placement`.
    #[serde(default)]
    pub placement: Placement,
    /// Keep an append-only file on a claim. Left out: a restart begins empty, and nodes write back
    /// what they hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage: Option<Storage>,
}

/// A claim.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("quantity(self.size).compareTo(quantity(oldSelf.size)) == 0")
    .message("size cannot be changed later: make another ChatCluster"))]
#[x_kube(validation = Rule::new("has(self.className) == has(oldSelf.className) && (!has(self.className) || self.className == oldSelf.className)")
    .message("className cannot be changed: a claim keeps its class"))]
pub struct Storage {
    /// How large. It cannot be changed later.
    pub size: Quantity,
    /// A StorageClass. Left out: the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_name: Option<String>,
}
