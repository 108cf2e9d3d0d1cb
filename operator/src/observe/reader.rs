//! The first edge: what the API server has of one cluster, read anew for each pass, so that no pass acts
//! on a stale copy. Secrets are read one by one, by the names that the spec has; their values are dropped
//! at once, but for the key that the operator shows to nodes.

use super::{AdminKey, Kind, LiveObject, ObjectKey, Observed, Standing, pods, secret};
use crate::build::MANAGED_BY;
use crate::validate::references;
use crds::{ChatCluster, names};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams, ObjectMeta};
use kube::{Client, ResourceExt as _};
use std::collections::BTreeSet;

/// The API of a kind in a namespace.
pub fn api(client: &Client, namespace: &str, kind: Kind) -> Api<DynamicObject> {
    let (group, version, name) = kind.api();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, name));
    Api::namespaced_with(client.clone(), namespace, &resource)
}

/// Everything of one cluster.
///
/// # Errors
/// Whatever the API server answers; an API that is not installed is no error.
pub async fn read(client: &Client, cluster: &ChatCluster) -> Result<Observed, kube::Error> {
    let (name, namespace) = (cluster.name_any(), cluster.namespace().unwrap_or_default());
    let uid = cluster.uid().unwrap_or_default();
    let mine = ListParams::default().labels(&format!("{}={name}", names::CLUSTER));
    let before = cluster.status.as_ref().and_then(|status| status.gateway.as_ref());
    let wanted_before = before.map(|gateway| i64::from(gateway.desired));
    let mut observed = Observed { gateway_api: true, wanted_before, ..Observed::default() };
    for kind in Kind::ALL {
        let api = api(client, &namespace, kind);
        match api.list(&mine).await {
            Ok(found) => {
                let found = found.items.into_iter().map(|object| live(kind, object, &name, &uid));
                observed.objects.extend(found);
            }
            Err(kube::Error::Api(status)) if kind == Kind::HttpRoute && status.code == 404 => {
                observed.gateway_api = false;
                continue;
            }
            Err(error) => return Err(error),
        }
        for fixed in fixed_names(kind, &name) {
            let key = ObjectKey::new(kind, fixed);
            if !observed.objects.contains_key(&key)
                && let Some(object) = api.get_opt(&key.name).await?
            {
                observed.objects.extend([live(kind, object, &name, &uid)]);
            }
        }
    }
    read_secrets(client, cluster, &mut observed).await?;
    let there = Api::<Pod>::namespaced(client.clone(), &namespace).list(&mine).await?;
    observed.pods = there.items.iter().map(|pod| pods::facts(pod, &uid)).collect();
    Ok(observed)
}

/// Names under which somebody else's object may stand.
fn fixed_names(kind: Kind, cluster: &str) -> Vec<String> {
    match kind {
        Kind::Service => {
            vec![names::service(cluster), names::pods_service(cluster), names::redis(cluster)]
        }
        Kind::StatefulSet => vec![names::redis(cluster)],
        Kind::NetworkPolicy => vec![cluster.to_owned(), names::redis(cluster)],
        Kind::ServiceAccount | Kind::PodDisruptionBudget | Kind::HttpRoute => {
            vec![cluster.to_owned()]
        }
        Kind::ConfigMap => vec![names::hot_settings(cluster)],
        // Named by their contents.
        Kind::ReplicaSet => Vec::new(),
    }
}

fn live(
    kind: Kind,
    mut object: DynamicObject,
    cluster: &str,
    uid: &str,
) -> (ObjectKey, LiveObject) {
    object.metadata.managed_fields = None;
    let standing = standing(&object.metadata, cluster, uid);
    let key = ObjectKey::new(kind, object.name_any());
    let mut object = serde_json::to_value(object).unwrap_or_default();
    // Entries of a list come without them.
    object["apiVersion"] = kind.api_version().into();
    object["kind"] = kind.name().into();
    (key, LiveObject { object, standing })
}

/// Whose it is, by label and owner.
fn standing(metadata: &ObjectMeta, cluster: &str, uid: &str) -> Standing {
    let label = |name: &str| metadata.labels.as_ref()?.get(name).map(String::as_str);
    let labelled = label(names::CLUSTER) == Some(cluster)
        && label("app.kubernetes.io/managed-by") == Some(MANAGED_BY);
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    if owners.iter().any(|owner| owner.uid == uid) {
        return Standing::Ours;
    }
    match owners.iter().find(|owner| owner.controller == Some(true)) {
        None if labelled => Standing::Orphaned,
        Some(owner) if labelled && owner.kind == "ChatCluster" && owner.name == cluster => {
            Standing::Going
        }
        _ => Standing::Foreign,
    }
}

async fn read_secrets(
    client: &Client,
    cluster: &ChatCluster,
    observed: &mut Observed,
) -> Result<(), kube::Error> {
    let name = cluster.name_any();
    let secrets =
        Api::<Secret>::namespaced(client.clone(), &cluster.namespace().unwrap_or_default());
    let named = references(&cluster.spec).into_iter().map(|used| used.reference.name);
    let wanted: BTreeSet<String> = named.chain([names::keys(&name)]).collect();
    for wanted in wanted {
        let Some(found) = secrets.get_opt(&wanted).await? else { continue };
        let facts = secret::facts(&found, &name);
        if facts.ours && wanted == names::keys(&name) {
            let key = found.data.unwrap_or_default().remove("admin");
            let key = key.and_then(|key| String::from_utf8(key.0).ok());
            let key = key.map(|key| secret::line(&key).to_owned());
            observed.admin_key = key.filter(|key| !key.is_empty()).map(AdminKey);
        }
        observed.secrets.insert(wanted, facts);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn whose_an_object_is_follows_from_label_and_owner() {
        let ours = json!({names::CLUSTER: "demo", "app.kubernetes.io/managed-by": MANAGED_BY});
        let owner = |kind: &str, uid: &str| json!([{"apiVersion": "x/v1", "kind": kind, "name": "demo", "uid": uid, "controller": true}]);
        let cases = [
            (ours.clone(), owner("ChatCluster", "1"), Standing::Ours),
            (json!({}), owner("ChatCluster", "1"), Standing::Ours),
            (ours.clone(), json!([]), Standing::Orphaned),
            (ours.clone(), owner("ChatCluster", "0"), Standing::Going),
            (ours, owner("Deployment", "0"), Standing::Foreign),
            (json!({}), json!([]), Standing::Foreign),
            (json!({names::CLUSTER: "demo"}), json!([]), Standing::Foreign),
        ];
        for (labels, owners, standing) in cases {
            let metadata = json!({"labels": labels, "ownerReferences": owners});
            let metadata = serde_json::from_value(metadata).unwrap();
            assert_eq!(super::standing(&metadata, "demo", "1"), standing, "{metadata:?}");
        }
    }
}
