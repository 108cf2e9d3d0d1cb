//! What new pods are needed for.
//!
//! Not a hash of the rendered pod, and of settings only what differs from their defaults: another operator,
//! which may render pods in another way or know more settings, must give the same revision to the same spec.

use crate::validate::ValidatedCluster;
use crds::ChatClusterSpec;
use crds::names;
use protocol::Settings;
use serde_json::{Map, Value, json};

/// The revision of a cluster: a hash of everything that a running pod cannot take up, and the image.
pub(super) fn of(cluster: &ValidatedCluster, settings: &Settings) -> String {
    let said = inputs(&cluster.spec, settings);
    let unsaid = inputs(&ChatClusterSpec::default(), &Settings::default());
    // A map of serde_json is ordered by key, so the text follows from the values alone.
    let text = json!({"image": cluster.image, "inputs": differences(&said, &unsaid)});
    names::short_hash(&text.to_string())
}

fn inputs(spec: &ChatClusterSpec, settings: &Settings) -> Value {
    let provider_keys: Vec<_> =
        spec.providers.iter().map(|one| (&one.name, &one.api_key_secret_ref)).collect();
    let key_sets: Vec<_> = spec.auth.jwt.issuers.iter().map(|one| &one.jwks.secret_ref).collect();
    let redis = spec.redis.external.as_ref();
    json!({
        "pullSecrets": spec.image.as_ref().map(|image| &image.pull_secrets).filter(|all| !all.is_empty()),
        "settings": settings,
        "resources": spec.gateway.resources,
        "placement": spec.gateway.placement,
        "restartedAt": spec.operation.restarted_at,
        "logLevel": spec.observability.log_level,
        "providerKeys": provider_keys,
        "keySets": key_sets,
        "redisPassword": redis.map(|redis| &redis.password_secret_ref),
        "redisTls": redis.map(|redis| &redis.tls),
    })
}

/// The fields of `said` that are not as in `unsaid`.
fn differences(said: &Value, unsaid: &Value) -> Value {
    let (Some(fields), Some(defaults)) = (said.as_object(), unsaid.as_object()) else {
        return said.clone();
    };
    let other = fields.iter().filter(|(name, value)| defaults.get(*name) != Some(value));
    let other = other.map(|(name, value)| {
        let default = defaults.get(name).unwrap_or(&Value::Null);
        (name.clone(), differences(value, default))
    });
    Value::Object(other.collect::<Map<_, _>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_only_a_later_version_knows_changes_nothing_until_it_is_set() {
        let said = json!({"a": 1, "deep": {"b": 2, "c": 3}});
        let unsaid = json!({"a": 1, "deep": {"b": 2, "c": 4}});
        let newer =
            |value: i32| json!({"a": 1, "new": value, "deep": {"b": 2, "c": 3, "more": false}});
        let newer_unsaid = json!({"a": 1, "new": 7, "deep": {"b": 2, "c": 4, "more": false}});
        assert_eq!(differences(&said, &unsaid), json!({"deep": {"c": 3}}));
        assert_eq!(differences(&newer(7), &newer_unsaid), differences(&said, &unsaid));
        assert_ne!(differences(&newer(8), &newer_unsaid), differences(&said, &unsaid));
    }
}
