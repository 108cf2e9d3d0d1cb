//! Secrets as a pass sees them: what is there, and for the operator's own keys their ids and how far an
//! exchange of them is. No value is kept.

use crate::build::MANAGED_BY;
use crds::names;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use std::collections::BTreeMap;

/// A Secret that is referred to or generated, without its contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretFacts {
    /// Its keys with the length of each value.
    pub keys: BTreeMap<String, usize>,
    /// It carries our labels.
    pub ours: bool,
    /// `metadata.resourceVersion`.
    pub version: String,
    /// What nodes call each of its values, where it is ours ([`protocol::drain::KeyIds`]).
    pub ids: BTreeMap<String, String>,
    /// `operation.rotateKeys`, as it was when its keys were last exchanged.
    pub rotation: Option<String>,
    /// How far an exchange of its keys is; `None`: none is under way.
    pub step: Option<Step>,
}

/// What was done last of an exchange of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The new keys are there, to check with.
    Published,
    /// The new keys sign.
    Swapped,
    /// Every pod signs with the new keys, since then.
    Signing(Timestamp),
}

/// What is there of a Secret; ids only of the one that is generated for `cluster`.
pub(super) fn facts(secret: &Secret, cluster: &str) -> SecretFacts {
    let label = |name: &str| secret.labels().get(name).map(String::as_str);
    let ours = label(names::CLUSTER) == Some(cluster)
        && label("app.kubernetes.io/managed-by") == Some(MANAGED_BY);
    let data = || secret.data.iter().flatten();
    let id = |value: &[u8]| Some(names::short_hash(line(std::str::from_utf8(value).ok()?)));
    let generated = ours && secret.name_any() == names::keys(cluster);
    let ids = data().filter(|(_, value)| generated && !value.0.is_empty());
    SecretFacts {
        keys: data().map(|(key, value)| (key.clone(), value.0.len())).collect(),
        ours,
        version: secret.resource_version().unwrap_or_default(),
        ids: ids.filter_map(|(key, value)| Some((key.clone(), id(&value.0)?))).collect(),
        rotation: secret.annotations().get(names::KEY_ROTATION).cloned(),
        step: step(secret.annotations()),
    }
}

/// As a node reads a file: without the line end that editors and `echo` add.
pub(super) fn line(text: &str) -> &str {
    let Some(text) = text.strip_suffix('\n') else { return text };
    text.strip_suffix('\r').unwrap_or(text)
}

fn step(notes: &BTreeMap<String, String>) -> Option<Step> {
    match notes.get(names::KEY_ROTATION_STEP)?.as_str() {
        "Published" => Some(Step::Published),
        "Swapped" => Some(Step::Swapped),
        "Signing" => {
            let since = notes.get(names::KEY_ROTATION_SINCE).and_then(|at| at.parse().ok());
            // Without a time the step before is repeated, which notes one.
            Some(since.map_or(Step::Swapped, Step::Signing))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn secret(name: &str, notes: serde_json::Value) -> Secret {
        serde_json::from_value(json!({
            "metadata": {
                "name": name, "resourceVersion": "7", "annotations": notes,
                "labels": {names::CLUSTER: "demo", "app.kubernetes.io/managed-by": MANAGED_BY},
            },
            // "hunter2" and a line end.
            "data": {"resume": "aHVudGVyMgo=", "jwt": ""},
        }))
        .unwrap()
    }

    #[test]
    fn ids_are_what_nodes_say_and_no_value_is_kept() {
        let facts = facts(&secret("demo-keys", json!({})), "demo");
        assert_eq!(facts.ids, [("resume".to_owned(), names::short_hash("hunter2"))].into());
        assert_eq!((facts.keys["resume"], facts.version.as_str(), facts.step), (8, "7", None));
        assert!(!format!("{facts:?}").contains("hunter2"));
        let other = super::facts(&secret("other", json!({})), "demo");
        assert!(other.ours && other.ids.is_empty());
    }

    #[test]
    fn a_step_is_read_and_one_without_its_time_is_the_step_before() {
        let step = |step: &str, since: &str| {
            let notes = json!({names::KEY_ROTATION_STEP: step, names::KEY_ROTATION_SINCE: since});
            facts(&secret("demo-keys", notes), "demo").step
        };
        let since = "2026-01-01T00:00:00Z";
        assert_eq!(step("Published", ""), Some(Step::Published));
        assert_eq!(step("Signing", since), Some(Step::Signing(since.parse().unwrap())));
        assert_eq!(step("Signing", "soon"), Some(Step::Swapped));
        assert_eq!(step("Else", ""), None);
    }
}
