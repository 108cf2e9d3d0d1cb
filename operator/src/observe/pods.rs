//! Pods as a pass sees them: what Kubernetes says of each, what our annotations say of its drain, and what
//! it said itself.

use crds::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use protocol::DrainReport;

/// Who controls a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Controller {
    /// Nobody: its ReplicaSet has let go of it.
    #[default]
    Nobody,
    /// A ReplicaSet, by name.
    ReplicaSet(String),
    /// The ChatCluster: it drains.
    Cluster,
    /// Somebody else.
    Other,
}

/// What was noted on a pod when it was taken out of its ReplicaSet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detached {
    /// Of its drain; a node refuses a lower one than the last it accepted.
    pub epoch: u64,
    /// When.
    pub since: Timestamp,
    /// The number of pods that its ReplicaSet has without it.
    pub replicas_after: i64,
}

/// One pod of the data plane or of the embedded Redis.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// `gateway` or `redis`.
    pub component: String,
    /// `active` or `draining`; empty for redis.
    pub pool: String,
    /// The revision that it was made with.
    pub revision: String,
    /// Who controls it.
    pub controller: Controller,
    /// Where its admin port is.
    pub address: Option<String>,
    /// When it was made.
    pub made: Timestamp,
    /// When its Ready condition became true, while it is.
    pub ready_since: Option<Timestamp>,
    /// When it should be gone, once it is being deleted.
    pub gone_by: Option<Timestamp>,
    /// Its container ran at some time: it may have sessions.
    pub has_run: bool,
    /// When its container began, while it runs.
    pub running_since: Option<Timestamp>,
    /// It is marked as one that a shrinking ReplicaSet deletes last.
    pub is_costly: bool,
    /// Where it drains.
    pub detached: Option<Detached>,
    /// Why it does not start, where it does not: of the container's waiting state or the scheduler.
    pub trouble: Option<String>,
    /// What it last said; `None`: nothing, or too long ago.
    pub report: Option<DrainReport>,
}

impl PodFacts {
    /// Its Ready condition.
    pub fn ready(&self) -> bool {
        self.ready_since.is_some()
    }

    /// It has a deletionTimestamp.
    pub fn terminating(&self) -> bool {
        self.gone_by.is_some()
    }

    /// Of the data plane, serving or meant to.
    pub fn is_active(&self) -> bool {
        self.component == "gateway" && self.pool == "active" && !self.terminating()
    }

    /// New sessions are welcome, as far as anybody knows.
    pub fn accepts(&self) -> bool {
        self.is_active()
            && self.ready()
            && self.report.as_ref().is_none_or(|report| report.accepting)
    }
}

/// What Kubernetes says of a pod.
pub(super) fn facts(pod: &Pod, cluster_uid: &str) -> PodFacts {
    let label = |name: &str| pod.labels().get(name).cloned().unwrap_or_default();
    let status = pod.status.clone().unwrap_or_default();
    let conditions = status.conditions.unwrap_or_default();
    let is = |type_: &str, value: &str| {
        conditions.iter().find(|one| one.type_ == type_ && one.status == value)
    };
    let containers = status.container_statuses.unwrap_or_default();
    let unscheduled = is("PodScheduled", "False").and_then(|one| one.message.clone());
    let ready = is("Ready", "True");
    let made = pod.creation_timestamp().map(|time| time.0).unwrap_or_default();
    PodFacts {
        name: pod.name_any(),
        uid: pod.uid().unwrap_or_default(),
        version: pod.resource_version().unwrap_or_default(),
        component: label(names::COMPONENT),
        pool: label(names::POOL),
        revision: label(names::REVISION),
        controller: controller(pod, cluster_uid),
        address: status.pod_ip.filter(|address| !address.is_empty()),
        made,
        ready_since: ready.map(|one| one.last_transition_time.as_ref().map_or(made, |at| at.0)),
        gone_by: pod.metadata.deletion_timestamp.as_ref().map(|time| time.0),
        has_run: containers.iter().any(has_run),
        running_since: containers.iter().find_map(|one| {
            one.state.as_ref()?.running.as_ref()?.started_at.as_ref().map(|at| at.0)
        }),
        is_costly: pod.annotations().contains_key(names::DELETION_COST),
        detached: detached(pod),
        trouble: containers.iter().find_map(waiting).or(unscheduled),
        report: None,
    }
}

fn controller(pod: &Pod, cluster_uid: &str) -> Controller {
    match pod.owner_references().iter().find(|owner| owner.controller == Some(true)) {
        None => Controller::Nobody,
        Some(owner) if owner.kind == "ReplicaSet" => Controller::ReplicaSet(owner.name.clone()),
        Some(owner) if owner.uid == cluster_uid => Controller::Cluster,
        Some(_) => Controller::Other,
    }
}

fn has_run(container: &ContainerStatus) -> bool {
    let runs = container.state.as_ref().is_some_and(|state| state.running.is_some());
    runs || container.restart_count > 0
        || container.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
}

fn waiting(container: &ContainerStatus) -> Option<String> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let reason = waiting.reason.as_deref()?;
    if matches!(reason, "ContainerCreating" | "PodInitializing") {
        return None;
    }
    let message = waiting.message.as_deref().unwrap_or_default();
    Some(format!("{reason} {message}").trim().to_owned())
}

/// A note that cannot be read is one that is not there: the pod is then drained from now on.
fn detached(pod: &Pod) -> Option<Detached> {
    let note = |name: &str| pod.annotations().get(name);
    Some(Detached {
        epoch: note(names::DRAIN_EPOCH)?.parse().ok()?,
        since: note(names::DRAIN_SINCE)?.parse().ok()?,
        replicas_after: note(names::REPLICAS_AFTER)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_is_read_as_kubernetes_and_our_notes_have_it() {
        let pod = serde_json::from_value(json!({
            "metadata": {
                "name": "demo-r1-x", "uid": "p", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z",
                "labels": {names::COMPONENT: "gateway", names::POOL: "draining", names::REVISION: "r1"},
                "annotations": {
                    names::DRAIN_EPOCH: "2", names::DRAIN_SINCE: "2026-01-01T00:01:00Z",
                    names::REPLICAS_AFTER: "1",
                },
                "ownerReferences": [{"apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
                    "name": "demo", "uid": "u", "controller": true}],
            },
            "status": {
                "podIP": "10.0.0.1",
                "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:05Z"}],
                "containerStatuses": [{"name": "dataplane", "image": "", "imageID": "", "ready": true,
                    "restartCount": 0, "state": {"running": {"startedAt": "2026-01-01T00:00:03Z"}}}],
            },
        }))
        .unwrap();
        let facts = facts(&pod, "u");
        assert_eq!(facts.controller, Controller::Cluster);
        assert!(facts.ready() && facts.has_run && !facts.is_active() && !facts.accepts());
        let since = "2026-01-01T00:01:00Z".parse().unwrap();
        assert_eq!(facts.detached, Some(Detached { epoch: 2, since, replicas_after: 1 }));
        assert_eq!(super::facts(&pod, "other").controller, Controller::Other);
    }

    #[test]
    fn a_container_that_never_ran_is_told_from_one_that_crashes() {
        let status = |state: serde_json::Value, restarts: i32| {
            let status = json!({"name": "c", "image": "", "imageID": "", "ready": false,
                "restartCount": restarts, "state": state});
            serde_json::from_value::<ContainerStatus>(status).unwrap()
        };
        let pulling =
            status(json!({"waiting": {"reason": "ImagePullBackOff", "message": "no"}}), 0);
        let crashing = status(json!({"waiting": {"reason": "CrashLoopBackOff"}}), 3);
        let made = status(json!({"waiting": {"reason": "ContainerCreating"}}), 0);
        assert!(!has_run(&pulling) && has_run(&crashing) && !has_run(&made));
        assert_eq!(waiting(&pulling).unwrap(), "ImagePullBackOff no");
        assert_eq!(
            (waiting(&crashing).unwrap().as_str(), waiting(&made)),
            ("CrashLoopBackOff", None)
        );
    }
}
