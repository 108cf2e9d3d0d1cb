//! Names and labels of everything that follows from a ChatCluster. A selector never changes: what it
//! selects would be lost.

use sha2::{Digest as _, Sha256};

/// Longest name of a ChatCluster, so that every name that follows from it fits into a label.
pub const MAX_NAME: usize = 40;
/// The operator's field manager.
pub const FIELD_MANAGER: &str = "chatcluster-operator";

/// The cluster that an object belongs to.
pub const CLUSTER: &str = "chatcluster.dev/cluster";
/// What part of it: `gateway` or `redis`.
pub const COMPONENT: &str = "chatcluster.dev/component";
/// `active` or `draining`.
pub const POOL: &str = "chatcluster.dev/pool";
/// The revision of a pod and its ReplicaSet.
pub const REVISION: &str = "chatcluster.dev/revision";
/// Annotation of a ReplicaSet: the image it was made with.
pub const IMAGE: &str = "chatcluster.dev/image";
/// Annotation of a pod: the drain it takes part in.
pub const DRAIN_EPOCH: &str = "chatcluster.dev/drain-epoch";
/// Annotation of a pod that drains: when it was taken out of its ReplicaSet, RFC 3339.
pub const DRAIN_SINCE: &str = "chatcluster.dev/drain-since";
/// Annotation of a pod that drains: the number of pods that its ReplicaSet has without it.
pub const REPLICAS_AFTER: &str = "chatcluster.dev/replicas-after";
/// Annotation of a ReplicaSet: how far its rollout came, and when.
pub const PROGRESS: &str = "chatcluster.dev/progress";
/// Annotation of a ReplicaSet: why it is not rolled out any more.
pub const FAILED: &str = "chatcluster.dev/failed";
/// Annotation of a pod, of Kubernetes: a ReplicaSet that shrinks deletes pods of a lower cost first
/// (<https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost>).
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// Annotation of the Secret of keys: `operation.rotateKeys`, as it was when keys were last exchanged.
pub const KEY_ROTATION: &str = "chatcluster.dev/key-rotation";
/// Annotation of the Secret of keys: `Published`, `Swapped` or `Signing`, while keys are exchanged.
pub const KEY_ROTATION_STEP: &str = "chatcluster.dev/key-rotation-step";
/// Annotation of the Secret of keys: since when every pod signs with the new keys, RFC 3339.
pub const KEY_ROTATION_SINCE: &str = "chatcluster.dev/key-rotation-since";
/// Label of what stays when a ChatCluster is deleted.
pub const RETAINED: &str = "chatcluster.dev/retained";

/// Port of clients.
pub const DATA_PORT: u16 = 8080;
/// Port of probes, scrapers and the operator.
pub const ADMIN_PORT: u16 = 8081;

/// The Service that clients use.
pub fn service(cluster: &str) -> String {
    cluster.to_owned()
}

/// The headless Service of the pods themselves.
pub fn pods_service(cluster: &str) -> String {
    format!("{cluster}-pods")
}

/// The ReplicaSet of a revision.
pub fn replica_set(cluster: &str, revision: &str) -> String {
    format!("{cluster}-{revision}")
}

/// The ConfigMap of what only new pods read; immutable.
pub fn rolled_settings(cluster: &str, revision: &str) -> String {
    format!("{cluster}-settings-{revision}")
}

/// The ConfigMap of what running pods read again.
pub fn hot_settings(cluster: &str) -> String {
    format!("{cluster}-hot")
}

/// The Secret of generated keys: `jwt`, `resume`, `admin`, and each one's `-previous`.
pub fn keys(cluster: &str) -> String {
    format!("{cluster}-keys")
}

/// Everything of the embedded Redis.
pub fn redis(cluster: &str) -> String {
    format!("{cluster}-redis")
}

/// The first ten hexadecimal digits of a SHA-256.
pub fn short_hash(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(5).map(|byte| format!("{byte:02x}")).collect()
}
