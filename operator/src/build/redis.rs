//! The embedded Redis: one pod, for development. Without storage a restart begins empty, and the nodes
//! write back what they hold.

use super::{Desired, metadata, pod};
use crate::observe::Kind;
use crate::validate::ValidatedCluster;
use crds::names;
use crds::redis::{EmbeddedRedis, Storage};
use serde_json::{Value, json};

/// As in the official image.
const USER: i64 = 999;
/// The password comes by standard input: command lines can be read by others.
const START: &str = "printf 'requirepass %s\\n' \"$(cat /etc/redis/password)\" | exec redis-server - \
    --port 6379 --dir /data --maxmemory-policy noeviction --save '' --appendonly ";

/// Its Service and its StatefulSet.
pub(super) fn all(cluster: &ValidatedCluster) -> Vec<Desired> {
    let embedded = cluster.spec.redis.embedded.clone().unwrap_or_default();
    vec![service(cluster), stateful_set(cluster, &embedded)]
}

fn service(cluster: &ValidatedCluster) -> Desired {
    let name = names::redis(&cluster.name);
    let body = json!({"spec": {
        "type": "ClusterIP",
        "selector": metadata::every(cluster, "redis"),
        "ports": [{"name": "redis", "port": 6379, "targetPort": "redis", "protocol": "TCP"}],
    }});
    Desired::new(Kind::Service, &name, metadata::of(cluster, &name, "redis"), body)
}

fn stateful_set(cluster: &ValidatedCluster, embedded: &EmbeddedRedis) -> Desired {
    let name = names::redis(&cluster.name);
    let replicas = i32::from(!cluster.spec.operation.hibernated);
    let mut spec = json!({
        "replicas": replicas,
        "serviceName": name,
        "selector": {"matchLabels": metadata::every(cluster, "redis")},
        "template": {
            "metadata": {"labels": metadata::labels(cluster, "redis")},
            "spec": pod_spec(cluster, embedded),
        },
    });
    if let Some(storage) = &embedded.storage {
        let deleted = if metadata::is_retained(cluster) { "Retain" } else { "Delete" };
        spec["volumeClaimTemplates"] = json!([claim(cluster, storage)]);
        spec["persistentVolumeClaimRetentionPolicy"] =
            json!({"whenDeleted": deleted, "whenScaled": "Retain"});
    }
    let metadata = metadata::of(cluster, &name, "redis");
    Desired::new(Kind::StatefulSet, &name, metadata, json!({"spec": spec}))
}

fn claim(cluster: &ValidatedCluster, storage: &Storage) -> Value {
    let mut labels = metadata::labels(cluster, "redis");
    labels[names::RETAINED] = json!(metadata::is_retained(cluster).to_string());
    let mut spec = json!({
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": storage.size}},
    });
    if let Some(class) = &storage.class_name {
        spec["storageClassName"] = json!(class);
    }
    json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": labels}, "spec": spec,
    })
}

fn pod_spec(cluster: &ValidatedCluster, embedded: &EmbeddedRedis) -> Value {
    let image = embedded.image.as_ref().unwrap_or(&cluster.defaults.redis_image);
    let append_only = if embedded.storage.is_some() { "yes" } else { "no" };
    let resources = match &embedded.resources {
        Some(resources) => json!(resources),
        None => {
            json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}})
        }
    };
    let mut volumes = vec![json!({"name": "password", "secret": {
        "secretName": names::keys(&cluster.name), "defaultMode": 0o440,
        "items": [{"key": "redis", "path": "password"}],
    }})];
    if embedded.storage.is_none() {
        volumes.push(json!({"name": "data", "emptyDir": {}}));
    }
    let mut spec = json!({
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": 10,
        "securityContext": pod::security(USER),
        "containers": [{
            "name": "redis",
            "image": image,
            "command": ["sh", "-c", format!("{START}{append_only}")],
            "ports": [{"name": "redis", "containerPort": 6379, "protocol": "TCP"}],
            "resources": resources,
            "securityContext": pod::container_security(),
            "readinessProbe": {"tcpSocket": {"port": "redis"}, "periodSeconds": 2, "timeoutSeconds": 2},
            "volumeMounts": [
                {"name": "password", "mountPath": "/etc/redis", "readOnly": true},
                {"name": "data", "mountPath": "/data"},
            ],
        }],
        "volumes": volumes,
    });
    pod::place(&mut spec, &embedded.placement);
    spec
}
