//! The second edge: carries a plan out, one write after the other. Server-side apply, with force: the
//! fields are ours, and an edit of them by hand is corrected.

use crate::observe::{Kind, ObjectKey, reader};
use crate::plan::{Action, Plan};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crds::names::FIELD_MANAGER;
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde_json::{Map, Value, json};

/// Random bytes of a generated key.
const KEY_BYTES: usize = 48;

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

/// Carries the plan out; tells `written` of each write. A write that fails holds up new pods, which may
/// need what is missing, and nothing else.
///
/// # Errors
/// The first write that failed; the next pass tries it again.
pub async fn apply(
    client: &Client,
    namespace: &str,
    plan: &Plan,
    written: impl Fn(&'static str, &'static str),
) -> Result<(), ApplyError> {
    let mut failed = None;
    for action in plan.actions() {
        let new_pods = matches!(action, Action::Apply { key, .. } if key.kind == Kind::ReplicaSet);
        if failed.is_some() && new_pods {
            continue;
        }
        let (verb, kind, name) = describe(action);
        match carry_out(client, namespace, action).await {
            Ok(()) => {
                tracing::info!(namespace, verb, kind, name, "written");
                written(verb, kind);
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
        Action::Apply { key, .. } => ("patch", key.kind.name(), &key.name),
        Action::Scale { replica_set, .. } => ("patch", Kind::ReplicaSet.name(), replica_set),
        Action::Delete { key, .. } => ("delete", key.kind.name(), &key.name),
    }
}

async fn carry_out(client: &Client, namespace: &str, action: &Action) -> Result<(), kube::Error> {
    match action {
        Action::Keys { keys, absent, create } => {
            let api = Api::<Secret>::namespaced(client.clone(), namespace);
            let data: Map<String, Value> = absent
                .iter()
                .map(|key| Ok(((*key).to_owned(), json!(random()?))))
                .collect::<Result<_, kube::Error>>()?;
            let secret = json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": keys.metadata, "stringData": data,
            });
            if *create {
                let secret = serde_json::from_value(secret).map_err(kube::Error::SerdeError)?;
                api.create(&parameters(), &secret).await.map(drop)
            } else {
                let patch = json!({"stringData": data});
                api.patch(&keys.name, &PatchParams::default(), &Patch::Merge(patch)).await.map(drop)
            }
        }
        Action::Apply { key, object } => put(client, namespace, key, object).await,
        Action::Scale { replica_set, replicas } => {
            let api = reader::api(client, namespace, Kind::ReplicaSet);
            let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
            let parameters = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(replica_set, &parameters, &patch).await.map(drop)
        }
        Action::Delete { key, uid } => delete(client, namespace, key, uid).await,
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
            let parameters = PatchParams {
                field_manager: Some(FIELD_MANAGER.to_owned()),
                ..PatchParams::default()
            };
            api.patch(&key.name, &parameters, &Patch::Merge(object)).await.map(drop)
        }
        done => done.map(drop),
    }
}

fn parameters() -> PostParams {
    PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() }
}

/// What went meanwhile, or was made anew, is no error.
async fn delete(
    client: &Client,
    namespace: &str,
    key: &ObjectKey,
    uid: &str,
) -> Result<(), kube::Error> {
    let only = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let parameters = DeleteParams { preconditions: Some(only), ..DeleteParams::background() };
    match reader::api(client, namespace, key.kind).delete(&key.name, &parameters).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        done => done.map(drop),
    }
}

/// A new key, printable.
fn random() -> Result<String, kube::Error> {
    let mut bytes = [0; KEY_BYTES];
    let filled = OsRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| kube::Error::Service(Box::new(error)))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
