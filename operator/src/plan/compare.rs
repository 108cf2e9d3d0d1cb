//! Whether an object is as it should be, in the fields that are ours.

use super::{APPLIED, quantity};
use crds::names;
use serde_json::{Value, json};

/// A hash of the fields that we want; it follows from them alone.
pub(super) fn hash(object: &Value) -> String {
    names::short_hash(&object.to_string())
}

/// The object with a note of what was applied.
pub(super) fn stamped(mut object: Value) -> Value {
    let hash = hash(&object);
    object["metadata"]["annotations"][APPLIED] = json!(hash);
    object
}

/// The note on a live object.
pub(super) fn applied(live: &Value) -> Option<&str> {
    live.get("metadata")?.get("annotations")?.get(APPLIED)?.as_str()
}

/// Whether `live` has every field of `wanted`. The API server adds fields, orders maps, and writes
/// quantities in its own way; others may add entries to a list that is merged by key.
pub(super) fn contains(live: &Value, wanted: &Value) -> bool {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => wanted.iter().all(|(name, wanted)| {
            live.get(name).map_or_else(|| is_empty(wanted), |live| contains(live, wanted))
        }),
        (Value::Array(live), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| live.iter().any(|live| contains(live, wanted)))
        }
        (live, wanted) => live == wanted || same_quantity(live, wanted),
    }
}

/// What the API server leaves out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

fn same_quantity(live: &Value, wanted: &Value) -> bool {
    let parse = |value: &Value| value.as_str().and_then(quantity::parse);
    matches!((parse(live), parse(wanted)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_fields_and_other_spellings_are_no_difference_and_changed_ones_are() {
        let wanted = json!({"spec": {"ports": [{"port": 80}], "cpu": "1", "memory": "1024Mi", "off": false}});
        let live = json!({"spec": {
            "ports": [{"port": 443}, {"port": 80, "protocol": "TCP"}], "cpu": "1000m", "memory": "1Gi",
            "clusterIP": "10.0.0.1",
        }});
        assert!(contains(&live, &wanted));
        for (path, value) in [("/spec/ports", json!([{"port": 81}])), ("/spec/cpu", json!("2"))] {
            let mut other = live.clone();
            *other.pointer_mut(path).unwrap() = value;
            assert!(!contains(&other, &wanted), "{path}");
        }
    }

    #[test]
    fn the_note_follows_from_the_fields() {
        let object = json!({"metadata": {"name": "a"}, "spec": {"x": 1}});
        let stamped = stamped(object.clone());
        assert_eq!(applied(&stamped), Some(hash(&object).as_str()));
        assert_ne!(hash(&object), hash(&json!({"metadata": {"name": "a"}, "spec": {}})));
    }
}
