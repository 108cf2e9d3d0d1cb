//! How long, how many, how large: a bound on every string, list, map and number of the schema. The API
//! server needs them to price the rules, and refuses what nobody can mean before anything acts on it.
//!
//! They stand in one table, as `schemars` has no word for the size of a map and embedded types of
//! Kubernetes bring none of their own.

use serde_json::{Map, Value, json};

/// Of strings that the table does not name: embedded types of Kubernetes.
const TEXT: u64 = 1_024;
/// Of lists that the table does not name.
const LIST: u64 = 32;
/// Of maps that the table does not name.
const ENTRIES: u64 = 32;

/// What a field may hold.
enum Bound {
    /// At most so many characters that match a pattern; an empty one: any.
    Text(u64, &'static str),
    /// A quantity of Kubernetes, written as a string so that rules can compare it.
    Quantity,
    /// At most so many entries, none twice.
    Set(u64),
    /// At most so many entries, which their `name` tells apart.
    ByName(u64),
    /// At most so many entries, which their `type` tells apart.
    ByType(u64),
    /// At most so many entries, in the order that they have.
    List(u64),
    /// At most so many keys.
    Map(u64),
    /// A number between both, these included.
    Number(i64, i64),
    /// A number from 1 to 200, or a percentage.
    Share,
}

use Bound::{ByName, ByType, List, Number, Quantity, Set, Share, Text};

const HOST: &str = r"^[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?$|^[0-9a-fA-F:]+$";
const DNS_NAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
const LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
const SECRET_KEY: &str = r"^[-._a-zA-Z0-9]+$";
const WEB: &str = r"^https?://[^\s/?#]+[^\s]*$";
const ORIGIN: &str = r"^https?://[^\s/?#]+$";
const REPOSITORY: &str = r"^[a-zA-Z0-9][-a-zA-Z0-9.:_/]*[a-zA-Z0-9]$";
const IMAGE: &str = r"^[a-zA-Z0-9][-a-zA-Z0-9.:_/@]*[a-zA-Z0-9]$";
const TIME: &str = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?(Z|[-+][0-9]{2}:[0-9]{2})$";

/// Path from the root of the object; `[]` are entries of a list, `{}` those of a map.
#[rustfmt::skip]
const BOUNDS: &[(&str, Bound)] = &[
    ("spec.image.repository", Text(255, REPOSITORY)),
    ("spec.image.tag", Text(128, r"^[\w][-\w.]*$")),
    ("spec.image.digest", Text(71, "^sha256:[0-9a-f]{64}$")),
    ("spec.image.pullSecrets", ByName(8)),
    ("spec.image.pullSecrets[].name", Text(253, OBJECT_NAME)),
    ("spec.gateway.replicas", Number(1, 200)),
    ("spec.gateway.autoscaling.min", Number(1, 200)),
    ("spec.gateway.autoscaling.max", Number(1, 200)),
    ("spec.gateway.autoscaling.target.sessionsPerPod", Number(1, 15_000)),
    ("spec.gateway.autoscaling.target.streamsPerPod", Number(1, 100_000)),
    ("spec.gateway.limits.sessionsPerPod", Number(1, 15_000)),
    ("spec.gateway.limits.streamsPerPod", Number(1, 100_000)),
    ("spec.gateway.placement.nodeSelector", Bound::Map(16)),
    ("spec.gateway.placement.nodeSelector{}", Text(63, "")),
    ("spec.gateway.placement.tolerations", List(16)),
    ("spec.gateway.placement.priorityClassName", Text(253, OBJECT_NAME)),
    ("spec.rollout.maxSurge", Share),
    ("spec.rollout.maxDraining", Number(1, 50)),
    ("spec.rollout.revisionHistoryLimit", Number(1, 10)),
    ("spec.drain.handoverPerSecond", Number(1, 10_000)),
    ("spec.exposure.hostnames", Set(16)),
    ("spec.exposure.hostnames[]", Text(253, DNS_NAME)),
    ("spec.exposure.parentRefs", List(8)),
    ("spec.exposure.parentRefs[].name", Text(253, OBJECT_NAME)),
    ("spec.exposure.parentRefs[].namespace", Text(63, LABEL)),
    ("spec.exposure.parentRefs[].sectionName", Text(253, OBJECT_NAME)),
    ("spec.exposure.annotations", Bound::Map(32)),
    ("spec.exposure.annotations{}", Text(1_024, "")),
    ("spec.auth.jwt.issuers", List(1)),
    ("spec.auth.jwt.issuers[].issuer", Text(512, r"^\S+$")),
    ("spec.auth.jwt.issuers[].audience", Text(512, r"^\S+$")),
    ("spec.auth.jwt.issuers[].jwks.url", Text(1_024, r"^https://[^\s/?#]+[^\s]*$")),
    ("spec.auth.jwt.issuers[].jwks.secretRef.name", Text(253, OBJECT_NAME)),
    ("spec.auth.jwt.issuers[].jwks.secretRef.key", Text(253, SECRET_KEY)),
    ("spec.auth.allowedOrigins", Set(32)),
    ("spec.auth.allowedOrigins[]", Text(255, ORIGIN)),
    ("spec.providers", ByName(16)),
    ("spec.providers[].name", Text(40, LABEL)),
    ("spec.providers[].baseUrl", Text(1_024, WEB)),
    ("spec.providers[].apiKeySecretRef.name", Text(253, OBJECT_NAME)),
    ("spec.providers[].apiKeySecretRef.key", Text(253, SECRET_KEY)),
    ("spec.providers[].model", Text(128, r"^\S+$")),
    ("spec.providers[].models", Bound::Map(32)),
    ("spec.providers[].models{}", Text(128, r"^\S+$")),
    ("spec.providers[].maxTokens", Number(1, 1_000_000)),
    ("spec.limits.perUser.requestsPerMinute", Number(1, 100_000)),
    ("spec.limits.perUser.requestBurst", Number(1, 10_000)),
    ("spec.limits.perUser.sockets", Number(1, 1_000)),
    ("spec.limits.perUser.answers", Number(1, 1_000)),
    ("spec.redis.external.host", Text(253, HOST)),
    ("spec.redis.external.port", Number(1, 65_535)),
    ("spec.redis.external.database", Number(0, 15)),
    ("spec.redis.external.username", Text(128, r"^[^\s:@/]+$")),
    ("spec.redis.external.passwordSecretRef.name", Text(253, OBJECT_NAME)),
    ("spec.redis.external.passwordSecretRef.key", Text(253, SECRET_KEY)),
    ("spec.redis.external.tls.caSecretRef.name", Text(253, OBJECT_NAME)),
    ("spec.redis.external.tls.caSecretRef.key", Text(253, SECRET_KEY)),
    ("spec.redis.external.prefix", Text(64, "^[-A-Za-z0-9_.:]+$")),
    ("spec.redis.embedded.image", Text(400, IMAGE)),
    ("spec.redis.embedded.placement.nodeSelector", Bound::Map(16)),
    ("spec.redis.embedded.placement.nodeSelector{}", Text(63, "")),
    ("spec.redis.embedded.placement.tolerations", List(16)),
    ("spec.redis.embedded.placement.priorityClassName", Text(253, OBJECT_NAME)),
    ("spec.redis.embedded.storage.size", Quantity),
    ("spec.redis.embedded.storage.className", Text(253, OBJECT_NAME)),
    ("spec.security.networkPolicy.extraIngress", List(16)),
    ("spec.security.networkPolicy.extraEgress", List(16)),
    ("spec.security.serviceAccount.annotations", Bound::Map(32)),
    ("spec.security.serviceAccount.annotations{}", Text(1_024, "")),
    ("spec.observability.tracing.otlp", Text(1_024, WEB)),
    ("spec.operation.restartedAt", Text(40, TIME)),
    ("spec.operation.retry", Text(64, r"^\S+$")),
    ("spec.operation.rotateKeys", Text(64, r"^\S+$")),
    ("status.conditions", ByType(16)),
    ("status.conditions[].message", Text(32_768, "")),
];

/// Puts every bound into the schema, and takes `nullable` out of it: the API server then drops an
/// explicit `null` as if the field were left out, and `has()` in a rule means what it says.
/// Returns the paths of the table that the schema does not have; a test wants none.
pub(crate) fn apply(schema: &mut Value) -> Vec<&'static str> {
    let mut lost = Vec::new();
    for (path, bound) in BOUNDS {
        match field(schema, path) {
            Some(found) => bound.put(found),
            None => lost.push(*path),
        }
    }
    rest(schema);
    shorten(schema, false);
    lost
}

/// Fields of embedded types of Kubernetes, which bring 200 KB of explanations along.
const EMBEDDED: [&str; 5] = ["affinity", "tolerations", "resources", "extraIngress", "extraEgress"];

/// Leaves of every explanation in an embedded type its first sentence: `kubectl apply` keeps a copy of the
/// whole definition in an annotation, and that has 256 KiB at most.
fn shorten(schema: &mut Value, embedded: bool) {
    if let Some(Value::String(text)) = schema.get_mut("description").filter(|_| embedded)
        && let Some(end) = text.find(". ")
    {
        text.truncate(end + 1);
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner) {
            shorten(inner, embedded);
        }
    }
    for (name, field) in
        schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten()
    {
        shorten(field, embedded || EMBEDDED.contains(&name.as_str()));
    }
}

impl Bound {
    fn put(&self, schema: &mut Map<String, Value>) {
        let mut set = |key: &str, value: Value| drop(schema.insert(key.to_owned(), value));
        let mut list = |max: u64, kind: &str, keys: &[&str]| {
            set("maxItems", json!(max));
            set("x-kubernetes-list-type", json!(kind));
            if !keys.is_empty() {
                set("x-kubernetes-list-map-keys", json!(keys));
            }
        };
        match *self {
            List(max) => list(max, "atomic", &[]),
            Set(max) => list(max, "set", &[]),
            ByName(max) => list(max, "map", &["name"]),
            ByType(max) => list(max, "map", &["type"]),
            Bound::Map(max) => set("maxProperties", json!(max)),
            Number(min, max) => {
                set("minimum", json!(min));
                set("maximum", json!(max));
            }
            Share => {
                set("minimum", json!(1));
                set("maximum", json!(200));
                set("maxLength", json!(4));
                set("pattern", json!("^[1-9][0-9]{0,2}%$"));
            }
            Text(max, pattern) => {
                set("maxLength", json!(max));
                if !pattern.is_empty() {
                    set("minLength", json!(1));
                    set("pattern", json!(pattern));
                }
            }
            Quantity => {
                set("type", json!("string"));
                set("maxLength", json!(20));
                set(
                    "pattern",
                    json!(r"^[1-9][0-9]{0,11}(\.[0-9]{1,3})?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$"),
                );
                schema.remove("x-kubernetes-int-or-string");
            }
        }
    }
}

/// The schema of a field.
fn field<'a>(schema: &'a mut Value, path: &str) -> Option<&'a mut Map<String, Value>> {
    let mut at = schema;
    for step in path.split('.') {
        let name = step.trim_end_matches("[]").trim_end_matches("{}");
        at = at.get_mut("properties")?.get_mut(name)?;
        if step.ends_with("[]") {
            at = at.get_mut("items")?;
        } else if step.ends_with("{}") {
            at = at.get_mut("additionalProperties")?;
        }
    }
    at.as_object_mut()
}

/// Bounds of whatever has none yet.
fn rest(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    schema.remove("nullable");
    // Formats of Rust's unsigned numbers, which Kubernetes does not know.
    if schema.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with('u')) {
        schema.remove("format");
    }
    let free = !schema.contains_key("enum") && !schema.contains_key("format");
    let kind = schema.get("type").and_then(Value::as_str).map(str::to_owned);
    match kind.as_deref() {
        Some("string") if free => drop(schema.entry("maxLength").or_insert(json!(TEXT))),
        Some("array") => drop(schema.entry("maxItems").or_insert(json!(LIST))),
        Some("object") if schema.contains_key("additionalProperties") => {
            schema.entry("maxProperties").or_insert(json!(ENTRIES));
        }
        _ => {}
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(inner) {
            rest(inner);
        }
    }
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().for_each(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use kube::CustomResourceExt as _;

    #[test]
    fn every_line_of_the_table_is_of_a_field_that_exists() {
        let crd = serde_json::to_value(crate::ChatCluster::crd()).unwrap();
        let mut schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
        assert_eq!(apply(&mut schema), Vec::<&str>::new());
    }

    fn unbounded(path: &str, schema: &Value, found: &mut Vec<String>) {
        let has = |key: &str| schema.get(key).is_some();
        let wrong = match schema["type"].as_str() {
            Some("string") => !(has("maxLength") || has("enum") || has("format")),
            Some("array") => !has("maxItems"),
            Some("object") => has("additionalProperties") && !has("maxProperties"),
            _ => false,
        };
        if wrong || has("nullable") || schema["format"].as_str().is_some_and(|f| f.starts_with('u'))
        {
            found.push(path.to_owned());
        }
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            unbounded(&format!("{path}.{name}"), inner, found);
        }
        for inner in ["items", "additionalProperties"] {
            if has(inner) {
                unbounded(&format!("{path}.{inner}"), &schema[inner], found);
            }
        }
    }

    #[test]
    fn nothing_is_without_bound() {
        let mut found = Vec::new();
        unbounded("", &manifest::schema(), &mut found);
        assert_eq!(found, Vec::<String>::new());
    }

    #[test]
    fn our_own_numbers_have_bounds_too() {
        // Embedded types of Kubernetes aside, whose numbers the API server checks in pods.
        fn numbers(path: &str, schema: &Value, found: &mut Vec<String>) {
            if EMBEDDED.iter().any(|name| path.ends_with(name)) {
                return;
            }
            if schema["type"] == "integer" && schema.get("maximum").is_none() {
                found.push(path.to_owned());
            }
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                numbers(&format!("{path}.{name}"), inner, found);
            }
            if let Some(items) = schema.get("items") {
                numbers(path, items, found);
            }
        }
        let mut found = Vec::new();
        numbers("spec", &manifest::schema()["properties"]["spec"], &mut found);
        assert_eq!(found, Vec::<String>::new());
    }
}
