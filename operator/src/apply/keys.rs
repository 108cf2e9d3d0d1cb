//! The only place that makes keys, and that moves them: what is generated, and each step of an exchange.
//! A step is noted on the Secret in the write that makes it, and refused where the Secret has changed since.

use super::{merge, parameters};
use crate::build::Keys;
use crate::plan::{Exchange, ROTATED, previous};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crds::names::{KEY_ROTATION, KEY_ROTATION_SINCE, KEY_ROTATION_STEP};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use kube::api::Api;
use kube::core::Status;
use rand::TryRngCore as _;
use rand::rngs::OsRng;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Random bytes of a generated key.
const KEY_BYTES: usize = 48;

/// Makes the Secret, or fills what is absent.
pub(super) async fn fill(
    api: &Api<Secret>,
    keys: &Keys,
    absent: &[&'static str],
    create: bool,
) -> Result<(), kube::Error> {
    let made = absent.iter().map(|key| Ok(((*key).to_owned(), json!(random()?))));
    let data = made.collect::<Result<Map<String, Value>, kube::Error>>()?;
    if create {
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": keys.metadata, "stringData": data,
        });
        let secret = serde_json::from_value(secret).map_err(kube::Error::SerdeError)?;
        api.create(&parameters(), &secret).await.map(drop)
    } else {
        merge(api, &keys.name, json!({"stringData": data})).await
    }
}

/// One step of an exchange.
pub(super) async fn exchange(
    api: &Api<Secret>,
    secret: &str,
    version: &str,
    exchange: &Exchange,
) -> Result<(), kube::Error> {
    let mut patch = match exchange {
        Exchange::Publish { asked } => {
            let made = ROTATED.iter().map(|key| Ok((previous(key), json!(random()?))));
            let data = made.collect::<Result<Map<String, Value>, kube::Error>>()?;
            let notes = json!({KEY_ROTATION: asked, KEY_ROTATION_STEP: "Published"});
            json!({"metadata": {"annotations": notes}, "stringData": data})
        }
        Exchange::Swap => {
            let now = api.get(secret).await?;
            if now.resource_version().as_deref() != Some(version) {
                return Err(changed());
            }
            let data = swapped(now.data.unwrap_or_default());
            json!({"metadata": {"annotations": {KEY_ROTATION_STEP: "Swapped"}}, "data": data})
        }
        Exchange::Sign { since } => {
            let notes =
                json!({KEY_ROTATION_STEP: "Signing", KEY_ROTATION_SINCE: since.to_string()});
            json!({"metadata": {"annotations": notes}})
        }
        Exchange::Retire => {
            let data: Map<String, Value> =
                ROTATED.iter().map(|key| (previous(key), Value::Null)).collect();
            let notes = json!({KEY_ROTATION_STEP: null, KEY_ROTATION_SINCE: null});
            json!({"metadata": {"annotations": notes}, "data": data})
        }
    };
    patch["metadata"]["resourceVersion"] = json!(version);
    merge(api, secret, patch).await
}

/// Each exchanged key in the place of its second one, and the other way round.
fn swapped(mut data: BTreeMap<String, ByteString>) -> BTreeMap<String, ByteString> {
    let mut swapped = BTreeMap::new();
    for key in ROTATED {
        let (first, second) = (data.remove(key), data.remove(&previous(key)));
        swapped.extend(first.map(|value| (previous(key), value)));
        swapped.extend(second.map(|value| (key.to_owned(), value)));
    }
    swapped
}

/// As the API server refuses a write about an earlier state.
fn changed() -> kube::Error {
    let message = "the Secret has changed since it was read";
    let status = Status::failure(message, "Conflict").with_code(409);
    kube::Error::Api(Box::new(status))
}

/// A new key, printable.
fn random() -> Result<String, kube::Error> {
    let mut bytes = [0; KEY_BYTES];
    let filled = OsRng.try_fill_bytes(&mut bytes);
    filled.map_err(|error| kube::Error::Service(Box::new(error)))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_change_places_and_those_of_tokens_stay() {
        let data = ["admin", "admin-previous", "jwt", "resume", "resume-previous"];
        let data = data.map(|key| (key.to_owned(), ByteString(key.as_bytes().to_vec()))).into();
        let swapped = swapped(data);
        assert_eq!(swapped["admin"].0, b"admin-previous");
        assert_eq!(swapped["admin-previous"].0, b"admin");
        assert_eq!(swapped["resume"].0, b"resume-previous");
        assert_eq!(swapped.len(), 4);
    }
}
