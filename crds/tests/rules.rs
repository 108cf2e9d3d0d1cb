//! The rules and bounds of the schema, without an API server: every hostile object is refused with words
//! that help, and every example is not.

#![allow(clippy::unwrap_used)] // A test binary, in all of its functions.

use crds::{ChatCluster, manifest};
use kube::core::cel::Validator;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::Path;

#[derive(Deserialize)]
struct Hostile {
    base: Value,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    patch: Value,
    refused: By,
    says: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum By {
    Schema,
    Rule,
    Operator,
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let (Some(target), Some(patch)) = (target.as_object_mut(), patch.as_object()) else {
        *target = patch.clone();
        return;
    };
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            merge(target.entry(key).or_insert(Value::Null), value);
        }
    }
}

/// The dialect of the API server as one of a validator: int-or-string is spelled out, lists of type set
/// hold nothing twice.
fn as_json_schema(schema: &mut Value) {
    if let Some(object) = schema.as_object_mut() {
        if object.contains_key("x-kubernetes-int-or-string") {
            object.insert("type".to_owned(), json!(["integer", "string"]));
        }
        if object.get("x-kubernetes-list-type") == Some(&json!("set")) {
            object.insert("uniqueItems".to_owned(), json!(true));
        }
        // These say how a value is printed; the API server does not refuse by them.
        object.remove("format");
        object.values_mut().for_each(as_json_schema);
    } else if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(as_json_schema);
    }
}

struct Server {
    schema: Value,
    structure: jsonschema::Validator,
}

impl Server {
    fn new() -> Self {
        let schema = manifest::schema();
        let mut structure = schema.clone();
        as_json_schema(&mut structure);
        Self { schema, structure: jsonschema::validator_for(&structure).unwrap() }
    }

    /// What the API server would say, as far as it can be said without one.
    fn create(&self, object: &Value, old: Option<&Value>) -> Result<(), (By, String)> {
        let wrong: Vec<String> = self
            .structure
            .iter_errors(object)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        if !wrong.is_empty() {
            return Err((By::Schema, wrong.join("; ")));
        }
        // With its defaults, which the API server fills in before it looks at the rules.
        let typed = |object: &Value| {
            let typed: ChatCluster = serde_json::from_value(object.clone()).unwrap();
            serde_json::to_value(typed).unwrap()
        };
        let old = old.map(typed);
        Validator::new()
            .validate(&self.schema, &typed(object), old.as_ref())
            .map_err(|errors| (By::Rule, errors.to_string()))
    }
}

fn hostile() -> Hostile {
    let text = include_str!("hostile.yaml");
    serde_saphyr::from_str(text).unwrap()
}

#[test]
fn every_hostile_object_is_refused_with_words_that_help() {
    let Hostile { base, cases } = hostile();
    let server = Server::new();
    server.create(&base, None).unwrap();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut wrong = Vec::new();
    for Case { name, patch, refused, says } in cases {
        let mut object = base.clone();
        merge(&mut object, &patch);
        match (server.create(&object, None), refused) {
            (Ok(()), By::Operator) => {}
            (Err((by, said)), refused) if by == refused && said.contains(&says) => {}
            (got, refused) => {
                wrong.push(format!("{name}: {refused:?} should say {says:?}, got {got:?}"))
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
}

fn updated(old: &Value, patch: &Value) -> Result<(), (By, String)> {
    let mut new = old.clone();
    merge(&mut new, patch);
    Server::new().create(&new, Some(old))
}

#[test]
fn what_cannot_be_changed_later_says_so() {
    let object = |redis: Value| {
        json!({
            "apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
            "metadata": {"name": "demo", "namespace": "default"}, "spec": {"redis": redis},
        })
    };
    let embedded = object(json!({"embedded": {}}));
    let stored = object(json!({"embedded": {"storage": {"size": "2Gi"}}}));
    let refused = [
        (
            &embedded,
            json!({"spec": {"redis": {"embedded": null, "external": {"host": "r"}}}}),
            "in place",
        ),
        (
            &embedded,
            json!({"spec": {"redis": {"embedded": {"storage": {"size": "1Gi"}}}}}),
            "later",
        ),
        (&stored, json!({"spec": {"redis": {"embedded": {"storage": null}}}}), "later"),
        (
            &stored,
            json!({"spec": {"redis": {"embedded": {"storage": {"size": "1Gi"}}}}}),
            "size cannot be changed",
        ),
        (
            &stored,
            json!({"spec": {"redis": {"embedded": {"storage": {"className": "fast"}}}}}),
            "className",
        ),
    ];
    for (old, patch, says) in refused {
        let (by, said) = updated(old, &patch).unwrap_err();
        assert!(by == By::Rule && said.contains(says), "{patch}: {by:?} {said}");
    }
    updated(&stored, &json!({"spec": {"redis": {"embedded": {"storage": {"size": "2048Mi"}}}}}))
        .unwrap();
    updated(&stored, &json!({"spec": {"gateway": {"replicas": 5}}})).unwrap();
}

#[test]
fn every_example_is_accepted() {
    let server = Server::new();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for document in text.split("\n---\n") {
            let object: Value = serde_saphyr::from_str(document).unwrap();
            if object["kind"] == "ChatCluster" {
                server.create(&object, None).unwrap_or_else(|why| panic!("{path:?}: {why:?}"));
                // No field that the type does not know: the API server would drop it without a word.
                let typed: ChatCluster = serde_json::from_value(object.clone()).unwrap();
                contains(&serde_json::to_value(typed).unwrap(), &object, "");
                seen.push(object["metadata"]["name"].as_str().unwrap().to_owned());
            }
        }
    }
    assert!(seen.len() >= 3 && seen.contains(&"demo".to_owned()), "{seen:?}");
}

/// Every field of `part` is in `whole`.
fn contains(whole: &Value, part: &Value, path: &str) {
    match part {
        Value::Object(fields) => {
            for (name, value) in fields {
                contains(&whole[name], value, &format!("{path}.{name}"));
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                contains(&whole[at], item, &format!("{path}[{at}]"));
            }
        }
        other => assert_eq!(whole, other, "{path}"),
    }
}

#[test]
fn an_explicit_null_is_as_if_it_were_left_out() {
    // The API server drops nulls of fields that are not nullable before it looks at anything else.
    assert!(!manifest::schema().to_string().contains("nullable"));
}

#[test]
fn the_committed_definition_is_the_generated_one() {
    let text = serde_saphyr::to_string(&manifest::definition().unwrap()).unwrap();
    let text = format!("# Generated from the types in crds/src by `make docs`.\n{text}");
    for place in ["crds/chatcluster.yaml", "charts/chatcluster-crds/files/chatcluster.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(place);
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(committed == text, "{place} is not what the types say: make docs");
    }
}

#[test]
fn every_condition_and_every_reason_is_explained_to_operators() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/operations.md");
    let text = std::fs::read_to_string(path).unwrap();
    let conditions = crds::ConditionType::ALL.iter().map(|one| one.as_str());
    let reasons = crds::Reason::ALL.iter().map(|one| one.as_str());
    let missing: Vec<_> =
        conditions.chain(reasons).filter(|name| !text.contains(&format!("| `{name}` |"))).collect();
    assert_eq!(missing, Vec::<&str>::new());
}

#[test]
fn explanations_read_like_documentation() {
    fn texts(schema: &Value, path: &str, found: &mut Vec<(String, String)>) {
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            let said = inner["description"].as_str().unwrap_or_default().to_owned();
            found.push((path.clone(), said));
            texts(inner, &path, found);
            texts(&inner["items"], &path, found);
        }
    }
    let mut found = Vec::new();
    texts(&manifest::schema()["properties"]["spec"], "spec", &mut found);
    let ours = found.iter().filter(|(path, _)| {
        !["affinity", "tolerations", "resources", "extraIngress", "extraEgress"]
            .iter()
            .any(|e| path.contains(e))
    });
    for (path, said) in ours {
        assert!(!said.is_empty(), "{path} is not explained");
        for odd in ["`Some", "`Option", "::", "](", "`Vec", "BTreeMap", "bool"] {
            assert!(!said.contains(odd), "{path} speaks Rust: {said}");
        }
    }
}
