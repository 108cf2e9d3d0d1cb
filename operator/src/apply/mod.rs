//! The second edge: carries a plan out, one write after the other. Server-side apply, with force: the
//! fields are ours, and an edit of them by hand is corrected.

mod keys;

use crate::nodes::Nodes;
use crate::observe::{AdminKey, Detached, Kind, ObjectKey, reader};
use crate::plan::{Action, Plan, PodRef};
use crds::names::{self, FIELD_MANAGER};
use k8s_openapi::api::core::v1::{Pod, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use serde_json::{Value, json};

/// Of a pod that serves; others have none.
const COST: &str = "100";

/// A write that failed, and which one.
#[derive(Debug, thiserror::Error)]
#[error("{verb} {kind} {name}: {}", words(source))]
pub struct ApplyError {
    /// Of the API.
    pub verb: &'static str,
    /// Of the object.
    pub kind: &'static str,
    /// Of the object.
    pub name: String,
    /// What the API server answered.
    pub source: Box<kube::Error>,
}

/// What the API server says for people, without the rest of its answer.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// Where a plan is carried out.
pub struct To<'a> {
    /// The API server.
    pub client: &'a Client,
    /// The nodes.
    pub nodes: &'a Nodes,
    /// The cluster's namespace.
    pub namespace: &'a str,
    /// Of pods that are adopted.
    pub owner: &'a OwnerReference,
    /// What nodes are shown.
    pub admin_key: Option<&'a AdminKey>,
}

/// Carries the plan out; tells `written` of each write. A write that fails holds up new pods, which may
/// need what is missing, and nothing else.
///
/// # Errors
/// The first write that failed; the next pass tries it again.
pub async fn apply(
    to: &To<'_>,
    plan: &Plan,
    written: impl Fn(&'static str, &'static str),
) -> Result<(), ApplyError> {
    let mut failed = None;
    for action in plan.actions() {
        let new_pods = matches!(
            action,
            Action::Apply { key, .. } | Action::Create { key, .. } if key.kind == Kind::ReplicaSet
        );
        if failed.is_some() && new_pods {
            continue;
        }
        if let Action::Drain { .. } = action {
            drain(to, action).await;
            continue;
        }
        let namespace = to.namespace;
        let (verb, kind, name) = describe(action);
        match carry_out(to, action).await {
            Ok(()) => {
                tracing::info!(namespace, verb, kind, name, "written");
                written(verb, kind);
            }
            // Somebody changed it meanwhile: the next pass sees what it is now.
            Err(kube::Error::Api(status))
                if is_conditional(action) && matches!(status.code, 404 | 409) =>
            {
                tracing::info!(
                    namespace,
                    verb,
                    kind,
                    name,
                    "it has changed; it is looked at again"
                );
            }
            Err(source) => {
                let error =
                    ApplyError { verb, kind, name: name.to_owned(), source: Box::new(source) };
                tracing::warn!(namespace, %error, "a write failed");
                failed.get_or_insert(error);
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

fn describe(action: &Action) -> (&'static str, &'static str, &str) {
    match action {
        Action::Keys { keys, create: true, .. } => ("create", "Secret", &keys.name),
        Action::Keys { keys, .. } => ("patch", "Secret", &keys.name),
        Action::Exchange { secret, .. } => ("patch", "Secret", secret),
        Action::Create { key, .. } => ("create", key.kind.name(), &key.name),
        Action::Apply { key, .. } => ("patch", key.kind.name(), &key.name),
        Action::Scale { replica_set, .. } | Action::Note { replica_set, .. } => {
            ("patch", Kind::ReplicaSet.name(), replica_set)
        }
        Action::Cost { pod } | Action::Detach { pod, .. } | Action::Adopt { pod } => {
            ("patch", "Pod", &pod.name)
        }
        Action::Drain { pod, .. } => ("drain", "Pod", &pod.name),
        Action::DeletePod { pod } => ("delete", "Pod", &pod.name),
        Action::Delete { key, .. } => ("delete", key.kind.name(), &key.name),
    }
}

/// It was decided for one state of one object; of another one it is decided anew.
fn is_conditional(action: &Action) -> bool {
    use Action::{Adopt, Cost, Create, DeletePod, Detach, Exchange, Note, Scale};
    matches!(
        action,
        Create { .. }
            | Exchange { .. }
            | Scale { .. }
            | Note { .. }
            | Cost { .. }
            | Detach { .. }
            | Adopt { .. }
            | DeletePod { .. }
    )
}

/// A node that does not hear it is told again by the next pass.
async fn drain(to: &To<'_>, action: &Action) {
    let (Action::Drain { pod, address, epoch, deadline_ms }, Some(key)) = (action, to.admin_key)
    else {
        return;
    };
    let (namespace, name) = (to.namespace, &pod.name);
    match to.nodes.drain(address, key, *epoch, *deadline_ms).await {
        Ok(()) => tracing::info!(namespace, name, epoch, deadline_ms, "told to drain"),
        Err(error) => {
            tracing::warn!(namespace, name, %error, "could not be told to drain; again soon")
        }
    }
}

fn secrets(to: &To<'_>) -> Api<Secret> {
    Api::namespaced(to.client.clone(), to.namespace)
}

async fn carry_out(to: &To<'_>, action: &Action) -> Result<(), kube::Error> {
    let (client, namespace) = (to.client, to.namespace);
    match action {
        Action::Keys { keys, absent, create } => {
            keys::fill(&secrets(to), keys, absent, *create).await
        }
        Action::Exchange { secret, version, exchange } => {
            keys::exchange(&secrets(to), secret, version, exchange).await
        }
        Action::Apply { key, object } => put(client, namespace, key, object).await,
        Action::Create { key, object } => {
            let object = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
            let api = reader::api(client, namespace, key.kind);
            api.create(&parameters(), &object).await.map(drop)
        }
        Action::Scale { replica_set, version, replicas } => {
            let patch = json!({
                "metadata": {"resourceVersion": version}, "spec": {"replicas": replicas},
            });
            merge(&reader::api(client, namespace, Kind::ReplicaSet), replica_set, patch).await
        }
        Action::Note { replica_set, version, annotation, text } => {
            let patch = json!({"metadata": {
                "resourceVersion": version, "annotations": {*annotation: text},
            }});
            merge(&reader::api(client, namespace, Kind::ReplicaSet), replica_set, patch).await
        }
        Action::Cost { pod } => {
            let change = json!({"annotations": {names::DELETION_COST: COST}});
            change_pod(to, pod, change).await
        }
        Action::Detach { pod, notes } => change_pod(to, pod, detached(notes)).await,
        Action::Adopt { pod } => change_pod(to, pod, json!({"ownerReferences": [to.owner]})).await,
        Action::DeletePod { pod } => {
            let api = Api::<Pod>::namespaced(client.clone(), namespace);
            let only = Preconditions { uid: Some(pod.uid.clone()), resource_version: None };
            let parameters = DeleteParams { preconditions: Some(only), ..DeleteParams::default() };
            api.delete(&pod.name, &parameters).await.map(drop)
        }
        // Not of the API server.
        Action::Drain { .. } => Ok(()),
        Action::Delete { key, uid, version } => delete(to, key, uid, version).await,
    }
}

/// Server-side apply. Where a hand changed the key of an entry in a list (a Service's port), the entry is
/// the hand's own and ours would stand beside it: then the whole list is replaced.
async fn put(
    client: &Client,
    namespace: &str,
    key: &ObjectKey,
    object: &Value,
) -> Result<(), kube::Error> {
    let api = reader::api(client, namespace, key.kind);
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch(&key.name, &parameters, &Patch::Apply(object)).await {
        Err(kube::Error::Api(status)) if status.code == 422 => {
            merge(&api, &key.name, object.clone()).await
        }
        done => done.map(drop),
    }
}

async fn merge<K>(api: &Api<K>, name: &str, patch: Value) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let parameters =
        PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    api.patch(name, &parameters, &Patch::Merge(patch)).await.map(drop)
}

/// Out of its ReplicaSet and of every Service by its label, with the notes of its drain.
fn detached(notes: &Detached) -> Value {
    json!({
        "labels": {names::POOL: "draining"},
        "annotations": {
            names::DRAIN_EPOCH: notes.epoch.to_string(),
            names::DRAIN_SINCE: notes.since.to_string(),
            names::REPLICAS_AFTER: notes.replicas_after.to_string(),
        },
    })
}

/// Changes a pod's metadata, unless it is another pod or has changed since it was seen.
async fn change_pod(to: &To<'_>, pod: &PodRef, mut metadata: Value) -> Result<(), kube::Error> {
    metadata["uid"] = json!(pod.uid);
    metadata["resourceVersion"] = json!(pod.version);
    let api = Api::<Pod>::namespaced(to.client.clone(), to.namespace);
    merge(&api, &pod.name, json!({"metadata": metadata})).await
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// What went meanwhile, or was made anew, is no error.
async fn delete(to: &To<'_>, key: &ObjectKey, uid: &str, version: &str) -> Result<(), kube::Error> {
    let resource_version = (!version.is_empty()).then(|| version.to_owned());
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version };
    let parameters = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
    match reader::api(to.client, to.namespace, key.kind).delete(&key.name, &parameters).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        done => done.map(drop),
    }
}
