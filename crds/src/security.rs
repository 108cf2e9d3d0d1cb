//! What pods may reach, who may reach them, as whom they run.

use k8s_openapi::api::networking::v1::{NetworkPolicyEgressRule, NetworkPolicyIngressRule};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Network policy and service account.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Security {
    /// Who may reach the pods, and whom they may reach.
    #[serde(default)]
    pub network_policy: NetworkPolicy,
    /// As whom the pods run. They call no API of Kubernetes and have no token.
    #[serde(default)]
    pub service_account: ServiceAccount,
}

/// Who may reach the pods, and whom they may reach.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPolicy {
    /// Keep them.
    #[serde(default = "enabled")]
    pub enabled: bool,
    /// Rules beside ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_ingress: Vec<NetworkPolicyIngressRule>,
    /// Rules beside ours.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_egress: Vec<NetworkPolicyEgressRule>,
}

fn enabled() -> bool {
    true
}

impl Default for NetworkPolicy {
    fn default() -> Self {
        Self { enabled: true, extra_ingress: Vec::new(), extra_egress: Vec::new() }
    }
}

/// As whom the pods run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.annotations) || self.annotations.all(key, !key.startsWith('chatcluster.dev/'))")
    .message("annotations under chatcluster.dev/ belong to the operator: choose another prefix"))]
pub struct ServiceAccount {
    /// Annotations, as clouds want them for identities.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}
