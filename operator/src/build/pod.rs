//! A node's pod: restricted, without a token for the API, its secrets as files.

use super::settings::{JWKS_FILE, REDIS_CA_FILE};
use super::{data_port, metadata};
use crate::validate::{GRACE_SECONDS, ValidatedCluster};
use crds::gateway::{Placement, Spread};
use crds::names::{self, ADMIN_PORT, DATA_PORT};
use crds::operations::LogLevel;
use crds::providers::SecretKeyRef;
use serde_json::{Value, json};

/// As in the data plane's image.
const USER: i64 = 65_532;
const SETTINGS: &str = "/etc/chatcluster/settings";
const HOT: &str = "/etc/chatcluster/hot";
const KEYS: &str = "/etc/chatcluster/keys";

/// A file of a Secret in a pod.
struct Mounted {
    volume: String,
    /// Folder and file name.
    folder: String,
    file: &'static str,
    secret: SecretKeyRef,
    /// The variable that names the file, where the settings do not.
    variable: Option<String>,
}

/// The pod of a revision.
pub(super) fn spec(cluster: &ValidatedCluster, revision: &str) -> Value {
    let spec = &cluster.spec;
    let mounted = mounted(cluster);
    let mut pod = json!({
        "serviceAccountName": cluster.name,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": security(USER),
        "containers": [container(cluster, &mounted)],
        "volumes": volumes(cluster, revision, &mounted),
    });
    place(&mut pod, &spec.gateway.placement);
    if spec.gateway.placement.spread == Spread::Default {
        pod["topologySpreadConstraints"] = spread(cluster);
    }
    let pull_secrets = spec.image.as_ref().map(|image| &image.pull_secrets);
    if let Some(secrets) = pull_secrets.filter(|secrets| !secrets.is_empty()) {
        pod["imagePullSecrets"] = json!(secrets);
    }
    pod
}

/// The pod's part of the restricted profile
/// (<https://kubernetes.io/docs/concepts/security/pod-security-standards/>).
pub(super) fn security(user: i64) -> Value {
    json!({
        "runAsNonRoot": true, "runAsUser": user, "runAsGroup": user, "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    })
}

/// A container's part of the restricted profile.
pub(super) fn container_security() -> Value {
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"]},
    })
}

/// Where it may run.
pub(super) fn place(pod: &mut Value, placement: &Placement) {
    let Placement { node_selector, tolerations, affinity, priority_class_name, .. } = placement;
    if !node_selector.is_empty() {
        pod["nodeSelector"] = json!(node_selector);
    }
    if !tolerations.is_empty() {
        pod["tolerations"] = json!(tolerations);
    }
    if let Some(affinity) = affinity {
        pod["affinity"] = json!(affinity);
    }
    if let Some(class) = priority_class_name {
        pod["priorityClassName"] = json!(class);
    }
}

/// Over zones, then machines, as well as can be: a pod that cannot be spread still runs.
fn spread(cluster: &ValidatedCluster) -> Value {
    let over = |key: &str| {
        json!({
            "maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
            "nodeTaintsPolicy": "Honor", "matchLabelKeys": [names::REVISION],
            "labelSelector": {"matchLabels": metadata::active(cluster)},
        })
    };
    json!([over("topology.kubernetes.io/zone"), over("kubernetes.io/hostname")])
}

fn container(cluster: &ValidatedCluster, mounted: &[Mounted]) -> Value {
    let probe =
        |path: &str| json!({"httpGet": {"path": path, "port": "admin"}, "timeoutSeconds": 2});
    let mut live = probe("/livez");
    live["periodSeconds"] = json!(10);
    live["failureThreshold"] = json!(6);
    let mut ready = probe("/readyz");
    ready["periodSeconds"] = json!(2);
    let mut starting = probe("/livez");
    starting["periodSeconds"] = json!(1);
    starting["failureThreshold"] = json!(60);
    let mut mounts = vec![
        json!({"name": "settings", "mountPath": SETTINGS, "readOnly": true}),
        json!({"name": "hot", "mountPath": HOT, "readOnly": true}),
        json!({"name": "keys", "mountPath": KEYS, "readOnly": true}),
    ];
    mounts.extend(
        mounted
            .iter()
            .map(|one| json!({"name": one.volume, "mountPath": one.folder, "readOnly": true})),
    );
    json!({
        "name": "dataplane",
        "image": cluster.image,
        "args": ["run", "--config", format!("{SETTINGS}/settings.yaml"), "--hot", format!("{HOT}/hot.yaml")],
        "env": environment(cluster, mounted),
        "ports": [
            {"name": data_port(), "containerPort": DATA_PORT, "protocol": "TCP"},
            {"name": "admin", "containerPort": ADMIN_PORT, "protocol": "TCP"},
        ],
        "resources": resources(cluster),
        "securityContext": container_security(),
        "startupProbe": starting,
        "livenessProbe": live,
        "readinessProbe": ready,
        "volumeMounts": mounts,
    })
}

fn resources(cluster: &ValidatedCluster) -> Value {
    match &cluster.spec.gateway.resources {
        Some(resources) => json!(resources),
        None => json!({
            "requests": {"cpu": "250m", "memory": "256Mi"},
            "limits": {"memory": "512Mi"},
        }),
    }
}

fn environment(cluster: &ValidatedCluster, mounted: &[Mounted]) -> Vec<Value> {
    let level = match cluster.spec.observability.log_level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    };
    let mut variables = vec![
        json!({"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}),
        json!({"name": "RUST_LOG", "value": level}),
        json!({"name": "CHAT_RESUME_SECRET_FILE", "value": format!("{KEYS}/resume")}),
        json!({"name": "CHAT_RESUME_SECRET_PREVIOUS_FILE", "value": format!("{KEYS}/resume-previous")}),
        json!({"name": "CHAT_ADMIN_KEY_FILE", "value": format!("{KEYS}/admin")}),
        json!({"name": "CHAT_ADMIN_KEY_PREVIOUS_FILE", "value": format!("{KEYS}/admin-previous")}),
    ];
    if cluster.spec.auth.jwt.issuers.is_empty() {
        variables.push(json!({"name": "CHAT_JWT_SECRET_FILE", "value": format!("{KEYS}/jwt")}));
        let previous = format!("{KEYS}/jwt-previous");
        variables.push(json!({"name": "CHAT_JWT_SECRET_PREVIOUS_FILE", "value": previous}));
    }
    if cluster.spec.redis.embedded.is_some() {
        variables
            .push(json!({"name": "CHAT_REDIS_PASSWORD_FILE", "value": format!("{KEYS}/redis")}));
    }
    let files = mounted.iter().filter_map(|one| {
        let variable = one.variable.as_ref()?;
        Some(json!({"name": variable, "value": format!("{}/{}", one.folder, one.file)}))
    });
    variables.extend(files);
    variables
}

/// Every Secret of the spec as a file.
fn mounted(cluster: &ValidatedCluster) -> Vec<Mounted> {
    let spec = &cluster.spec;
    let mut files = Vec::new();
    let mut add =
        |volume: String, path: &str, secret: &Option<SecretKeyRef>, variable: Option<String>| {
            let Some(secret) = secret.clone() else { return };
            let (folder, file) = path.rsplit_once('/').unwrap_or((path, ""));
            let file = match file {
                "keys.json" => "keys.json",
                "ca.crt" => "ca.crt",
                "password" => "password",
                _ => "key",
            };
            files.push(Mounted { volume, folder: folder.to_owned(), file, secret, variable });
        };
    if let Some(issuer) = spec.auth.jwt.issuers.first() {
        add("jwks".to_owned(), JWKS_FILE, &issuer.jwks.secret_ref, None);
    }
    if let Some(redis) = &spec.redis.external {
        let variable = Some("CHAT_REDIS_PASSWORD_FILE".to_owned());
        let path = "/etc/chatcluster/redis/password";
        add("redis-password".to_owned(), path, &redis.password_secret_ref, variable);
        if let Some(tls) = &redis.tls {
            add("redis-ca".to_owned(), REDIS_CA_FILE, &tls.ca_secret_ref, None);
        }
    }
    for provider in &spec.providers {
        let variable = provider.name.to_uppercase().replace('-', "_");
        let variable = Some(format!("CHAT_UPSTREAM_KEY_{variable}_FILE"));
        let path = format!("/etc/chatcluster/providers/{}/key", provider.name);
        add(format!("provider-{}", provider.name), &path, &provider.api_key_secret_ref, variable);
    }
    files
}

fn volumes(cluster: &ValidatedCluster, revision: &str, mounted: &[Mounted]) -> Vec<Value> {
    let settings = names::rolled_settings(&cluster.name, revision);
    let mut volumes = vec![
        json!({"name": "settings", "configMap": {"name": settings}}),
        json!({"name": "hot", "configMap": {"name": names::hot_settings(&cluster.name)}}),
        json!({"name": "keys", "secret": {"secretName": names::keys(&cluster.name), "defaultMode": 0o440}}),
    ];
    volumes.extend(mounted.iter().map(|one| {
        json!({"name": one.volume, "secret": {
            "secretName": one.secret.name, "defaultMode": 0o440,
            "items": [{"key": one.secret.key, "path": one.file}],
        }})
    }));
    volumes
}
