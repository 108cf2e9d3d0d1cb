//! The Secrets that a spec names: that they are there and hold what is named.

use crate::finding::Finding;
use crate::observe::Observed;
use crds::providers::SecretKeyRef;
use crds::{ChatClusterSpec, ConditionType, Reason};

/// One key of a Secret that the spec names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The field that names it.
    pub path: String,
    /// Secret and key.
    pub reference: SecretKeyRef,
}

/// All of a spec.
pub type References = Vec<SecretUse>;

/// Every Secret that a spec names.
pub fn references(spec: &ChatClusterSpec) -> References {
    let issuers = spec.auth.jwt.issuers.iter().enumerate().map(|(at, issuer)| {
        (format!("spec.auth.jwt.issuers[{at}].jwks.secretRef"), issuer.jwks.secret_ref.as_ref())
    });
    let providers = spec.providers.iter().map(|provider| {
        let path = format!("spec.providers[{}].apiKeySecretRef", provider.name);
        (path, provider.api_key_secret_ref.as_ref())
    });
    let external = spec.redis.external.iter().flat_map(|redis| {
        let ca = redis.tls.as_ref().and_then(|tls| tls.ca_secret_ref.as_ref());
        let at = "spec.redis.external";
        [
            (format!("{at}.passwordSecretRef"), redis.password_secret_ref.as_ref()),
            (format!("{at}.tls.caSecretRef"), ca),
        ]
    });
    issuers
        .chain(providers)
        .chain(external)
        .filter_map(|(path, reference)| Some(SecretUse { path, reference: reference?.clone() }))
        .collect()
}

/// What is missing of them.
pub(super) fn check(spec: &ChatClusterSpec, observed: &Observed) -> Vec<Finding> {
    references(spec).iter().filter_map(|used| missing(used, observed)).collect()
}

fn missing(SecretUse { path, reference }: &SecretUse, observed: &Observed) -> Option<Finding> {
    let SecretKeyRef { name, key } = reference;
    let (reason, message) = match observed.secrets.get(name).map(|secret| secret.keys.get(key)) {
        None => (
            Reason::SecretNotFound,
            format!(
                "{path} names Secret {name}, which is not in this namespace: create it with the key {key}"
            ),
        ),
        Some(None) => (
            Reason::SecretKeyNotFound,
            format!(
                "{path} names key {key} of Secret {name}, which has no such key: add it, or name another"
            ),
        ),
        Some(Some(0)) => {
            (Reason::SecretInvalid, format!("{path}: key {key} of Secret {name} is empty: fill it"))
        }
        Some(Some(_)) => return None,
    };
    Some(Finding::new(ConditionType::SecretsReady, reason, message))
}
