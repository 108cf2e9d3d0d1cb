//! An API server as an HTTP server, for the real client: one namespace, what passes use of it, and no more.
//! Whoever may write dies after so many writes: its last one is carried out, and it hears nothing of it.

use super::machines::Machines;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::names;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Plural and name.
pub(super) type Id = (String, String);

/// What is stored, and what happens to it by itself.
pub(super) struct Cluster {
    pub(super) objects: BTreeMap<Id, Value>,
    pub(super) machines: Machines,
    /// Writes that were carried out, as verb and object.
    pub(super) writes: Vec<String>,
    /// Writes that this life of the operator has left; `None`: it lives on.
    pub(super) left: Option<usize>,
    /// As an operator that does not wait for the ReplicaSet to let go of a pod: what the tests must notice.
    pub(super) impatient: bool,
    version: u64,
}

/// The server. Dropped, it ends.
pub(super) struct Api {
    pub(super) url: String,
    pub(super) cluster: Arc<Mutex<Cluster>>,
    _tasks: JoinSet<()>,
}

impl Api {
    pub(super) async fn start(machines: Machines) -> Self {
        let cluster = Cluster {
            objects: BTreeMap::new(),
            machines,
            writes: Vec::new(),
            left: None,
            impatient: false,
            version: 0,
        };
        let cluster = Arc::new(Mutex::new(cluster));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new().fallback(handle).with_state(cluster.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, cluster, _tasks: tasks }
    }

    pub(super) fn cluster(&self) -> MutexGuard<'_, Cluster> {
        self.cluster.lock().unwrap()
    }
}

async fn handle(
    State(cluster): State<Arc<Mutex<Cluster>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let mut cluster = cluster.lock().unwrap();
    let done = if uri.path() == "/admin/drain" {
        // As the proxy of the nodes' addresses.
        let address = headers["host"].to_str().unwrap().split(':').next().unwrap_or_default();
        cluster.node(&method, address, &body)
    } else {
        cluster.ask(&method, &uri, &headers, body)
    };
    match done {
        Ok(value) => axum::Json(value).into_response(),
        Err((code, message)) => {
            let status = json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": message,
                "reason": code.canonical_reason().unwrap_or_default().replace(' ', ""), "code": code.as_u16(),
            });
            (code, axum::Json(status)).into_response()
        }
    }
}

type Answer = Result<Value, (StatusCode, String)>;

fn refused(code: StatusCode, what: impl Into<String>) -> Answer {
    Err((code, what.into()))
}

impl Cluster {
    fn node(&mut self, method: &Method, address: &str, body: &Value) -> Answer {
        if self.left == Some(0) {
            return refused(StatusCode::SERVICE_UNAVAILABLE, "nobody is there to ask");
        }
        let epoch = (method == Method::POST).then(|| body["epoch"].as_u64().unwrap_or(0));
        match self.machines.drain(&self.objects, address, epoch) {
            Some(Ok(report)) => Ok(report),
            Some(Err(())) => refused(StatusCode::CONFLICT, "a lower epoch"),
            None => refused(StatusCode::BAD_GATEWAY, "no such node"),
        }
    }

    fn ask(&mut self, method: &Method, uri: &Uri, headers: &HeaderMap, body: Value) -> Answer {
        if self.left == Some(0) {
            return refused(StatusCode::INTERNAL_SERVER_ERROR, "it is dead");
        }
        let path: Vec<_> = uri.path().trim_matches('/').split('/').collect();
        let at = path.iter().position(|part| *part == "namespaces").unwrap();
        let plural = path[at + 2].to_owned();
        let name = path.get(at + 3).map(|name| (*name).to_owned());
        let part = path.get(at + 4).copied();
        if method == Method::GET {
            return match name {
                Some(name) => self.get(&(plural, name)),
                None => Ok(self.list(&plural, uri.query().unwrap_or_default())),
            };
        }
        let name = name.or_else(|| body["metadata"]["name"].as_str().map(str::to_owned));
        let id = (plural, name.unwrap_or_default());
        let done = match *method {
            Method::POST => self.create(&id, body),
            Method::PATCH => {
                let kind = headers["content-type"].to_str().unwrap();
                self.patch(&id, part, kind.contains("apply"), body)
            }
            Method::DELETE => self.delete(&id, &body),
            _ => panic!("{method} {uri}"),
        };
        if done.is_ok() {
            self.writes.push(format!("{method} {}/{} {}", id.0, id.1, part.unwrap_or_default()));
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return refused(StatusCode::INTERNAL_SERVER_ERROR, "it died of this write");
                }
            }
        }
        done
    }

    fn get(&self, id: &Id) -> Answer {
        let found = self.objects.get(id).cloned();
        found.map_or_else(|| refused(StatusCode::NOT_FOUND, format!("{id:?} not found")), Ok)
    }

    fn list(&self, plural: &str, query: &str) -> Value {
        let selector = query.split('&').find_map(|one| one.strip_prefix("labelSelector="));
        let selector = selector.map(|one| one.replace("%2F", "/").replace("%3D", "="));
        let wanted = selector.as_deref().and_then(|one| one.split_once('='));
        let is = |object: &Value| {
            wanted.is_none_or(|(label, value)| object["metadata"]["labels"][label] == value)
        };
        let of = self.objects.iter().filter(|((of, _), object)| of == plural && is(object));
        let items: Vec<_> = of.map(|(_, object)| object.clone()).collect();
        json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
    }

    fn create(&mut self, id: &Id, mut object: Value) -> Answer {
        if id.0 == "events" {
            return Ok(object);
        }
        if self.objects.contains_key(id) {
            return refused(StatusCode::CONFLICT, format!("{id:?} already exists"));
        }
        decode(&mut object);
        let version = self.next();
        let made = self.machines.now.to_string();
        let metadata = json!({"uid": format!("u-{version}"), "namespace": "default",
            "creationTimestamp": made, "resourceVersion": version.to_string()});
        merge(&mut object["metadata"], &metadata);
        self.objects.insert(id.clone(), object.clone());
        Ok(object)
    }

    fn patch(&mut self, id: &Id, part: Option<&str>, applies: bool, mut patch: Value) -> Answer {
        let Some(live) = self.objects.get(id) else {
            return if applies && part.is_none() {
                self.create(id, patch)
            } else {
                refused(StatusCode::NOT_FOUND, format!("{id:?} not found"))
            };
        };
        for field in ["uid", "resourceVersion"] {
            let asked = &patch["metadata"][field];
            if !asked.is_null() && *asked != live["metadata"][field] {
                return refused(StatusCode::CONFLICT, format!("{id:?} has another {field}"));
            }
        }
        decode(&mut patch);
        let mut object = live.clone();
        if part == Some("status") {
            // One manager owns all of it: what it leaves out goes.
            object["status"] = patch["status"].clone();
        } else {
            merge(&mut object, &patch);
        }
        if self.impatient && id.0 == "pods" {
            self.shrink_at_once(&object);
        }
        Ok(self.store(id, object))
    }

    fn shrink_at_once(&mut self, pod: &Value) {
        let after = pod["metadata"]["annotations"][names::REPLICAS_AFTER].as_str();
        let owner = pod["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default();
        let id = ("replicasets".to_owned(), owner.to_owned());
        if let (Some(after), Some(mut set)) = (after, self.objects.get(&id).cloned()) {
            set["spec"]["replicas"] = json!(after.parse::<i64>().unwrap());
            self.store(&id, set);
        }
    }

    fn delete(&mut self, id: &Id, options: &Value) -> Answer {
        let mut object = self.get(id)?;
        let only = &options["preconditions"];
        for field in ["uid", "resourceVersion"] {
            if !only[field].is_null() && only[field] != object["metadata"][field] {
                return refused(StatusCode::CONFLICT, format!("{id:?} has another {field}"));
            }
        }
        if id.0 == "pods" {
            self.machines.leaves(&mut object, true);
            return Ok(self.store(id, object));
        }
        self.objects.remove(id);
        Ok(object)
    }

    /// A write of anybody. One that changes nothing is none.
    pub(super) fn store(&mut self, id: &Id, mut object: Value) -> Value {
        if self.objects.get(id) == Some(&object) {
            return object;
        }
        object["metadata"]["resourceVersion"] = json!(self.next().to_string());
        self.objects.insert(id.clone(), object.clone());
        object
    }

    /// What somebody else makes.
    pub(super) fn make(&mut self, id: &Id, object: Value) {
        self.create(id, object).unwrap();
    }

    /// All of a kind.
    pub(super) fn all(&self, plural: &str) -> Vec<Value> {
        let of = self.objects.iter().filter(|((of, _), _)| of == plural);
        of.map(|(_, object)| object.clone()).collect()
    }

    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}

/// `stringData` is written only (RFC 7386 for the rest).
fn decode(object: &mut Value) {
    let Some(Value::Object(texts)) =
        object.as_object_mut().and_then(|all| all.remove("stringData"))
    else {
        return;
    };
    for (key, text) in texts {
        object["data"][key] = json!(STANDARD.encode(text.as_str().unwrap_or_default()));
    }
}

/// A JSON merge patch, RFC 7386.
pub(super) fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let Some(object) = object.as_object_mut() else { return };
    for (key, value) in patch {
        if value.is_null() {
            object.remove(key);
        } else {
            merge(object.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}
