//! What a cluster does by itself, a second at a time: the controller of ReplicaSets with two watches that lag
//! each on its own, kubelets, and nodes that hand their sessions over.

use super::api::{Cluster, Id};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crds::names;
use jiff::{SignedDuration, Timestamp};
use protocol::DrainPhase;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Sessions that a node takes.
pub(super) const CAPACITY: u64 = 10;
/// Sessions that a node hands over in a second.
const RATE: u64 = 4;
/// Seconds until a new pod is ready, or a kubelet sees a change of a Secret.
const BOOT: i64 = 3;
/// A pod that is younger took the place of one that was taken out a moment ago.
const YOUNG: i64 = 20;
/// What a watch may lag behind, in seconds.
const LAG: usize = 3;

/// A node's process.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) sessions: u64,
    phase: DrainPhase,
    epoch: u64,
    keys: BTreeMap<String, String>,
    /// Keys that the kubelet brings at that time.
    due: Option<(Timestamp, BTreeMap<String, String>)>,
}

pub(super) struct Machines {
    pub(super) now: Timestamp,
    /// By the pod's name.
    pub(super) nodes: BTreeMap<String, Node>,
    /// What must not happen, and did.
    pub(super) broken: Vec<String>,
    /// Sessions whose node went before they could be handed over.
    pub(super) hurt: u64,
    random: StdRng,
    seen: VecDeque<(Vec<Value>, Vec<Value>)>,
    lag: (usize, usize),
    made: BTreeMap<String, BTreeSet<String>>,
    deleted: BTreeMap<String, BTreeSet<String>>,
    count: u64,
}

fn text<'a>(object: &'a Value, path: &str) -> &'a str {
    object.pointer(path).and_then(Value::as_str).unwrap_or_default()
}

pub(super) fn name(object: &Value) -> String {
    text(object, "/metadata/name").to_owned()
}

fn label<'a>(pod: &'a Value, label: &str) -> &'a str {
    pod["metadata"]["labels"][label].as_str().unwrap_or_default()
}

fn terminates(pod: &Value) -> bool {
    !pod["metadata"]["deletionTimestamp"].is_null()
}

pub(super) fn is_ready(pod: &Value) -> bool {
    pod["status"]["conditions"][0]["status"] == "True"
}

pub(super) fn is_active(pod: &Value) -> bool {
    label(pod, names::POOL) == "active" && !terminates(pod)
}

fn since(then: &str, now: Timestamp) -> i64 {
    then.parse().map_or(0, |then: Timestamp| now.duration_since(then).as_secs())
}

fn pod_id(name: &str) -> Id {
    ("pods".to_owned(), name.to_owned())
}

fn owned_by(pod: &Value, set: &str) -> bool {
    let owner = &pod["metadata"]["ownerReferences"][0];
    owner["kind"] == "ReplicaSet" && owner["name"] == set
}

impl Machines {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: "2026-01-01T00:00:00Z".parse().unwrap(),
            nodes: BTreeMap::new(),
            broken: Vec::new(),
            hurt: 0,
            random: StdRng::seed_from_u64(seed),
            seen: VecDeque::new(),
            lag: (0, 0),
            made: BTreeMap::new(),
            deleted: BTreeMap::new(),
            count: 0,
        }
    }

    pub(super) fn chance(&mut self, probability: f64) -> bool {
        self.random.random_bool(probability)
    }

    /// A report of the node at an address, after a drain of `epoch` where one is asked for.
    pub(super) fn drain(
        &mut self,
        objects: &BTreeMap<Id, Value>,
        address: &str,
        epoch: Option<u64>,
    ) -> Option<Result<Value, ()>> {
        let runs = |pod: &&Value| text(pod, "/status/podIP") == address && is_ready(pod);
        let pods = objects.iter().filter(|((of, _), _)| of == "pods").map(|(_, pod)| pod);
        let pod = name(pods.into_iter().find(runs)?);
        let node = self.nodes.get_mut(&pod)?;
        if let Some(epoch) = epoch {
            if epoch < node.epoch {
                return Some(Err(()));
            }
            (node.epoch, node.phase) = (epoch, node.phase.max(DrainPhase::HandingOver));
        }
        let of = |key: &str| {
            let ids = [key.to_owned(), format!("{key}-previous")];
            ids.iter().filter_map(|key| node.keys.get(key)).cloned().collect::<Vec<_>>()
        };
        Some(Ok(json!({
            "node": pod, "incarnation": "00000000-0000-4000-8000-000000000000",
            "phase": node.phase, "epoch": node.epoch, "sessions": node.sessions, "streams": 0,
            "accepting": node.phase == DrainPhase::Serving, "capacity": CAPACITY,
            "keyIds": {"resume": of("resume"), "admin": of("admin")},
        })))
    }

    /// SIGTERM: it hands over by itself. `told`: by whoever decides what goes.
    pub(super) fn leaves(&mut self, pod: &mut Value, told: bool) {
        if terminates(pod) {
            return;
        }
        let gone = self.now + SignedDuration::from_secs(45);
        pod["metadata"]["deletionTimestamp"] = json!(gone.to_string());
        let young = since(text(pod, "/metadata/creationTimestamp"), self.now) <= YOUNG;
        let Some(node) = self.nodes.get_mut(&name(pod)) else { return };
        if told && node.sessions > 0 && !young {
            self.broken.push(format!("{} deleted with {} sessions", name(pod), node.sessions));
        }
        node.phase = node.phase.max(DrainPhase::HandingOver);
    }
}

impl Cluster {
    /// A second passes.
    pub(super) fn tick(&mut self) {
        self.machines.now += SignedDuration::from_secs(1);
        self.kubelets();
        self.hand_over();
        let seen = (self.all("pods"), self.all("replicasets"));
        let machines = &mut self.machines;
        machines.seen.push_front(seen);
        machines.seen.truncate(LAG + 1);
        // A watch never goes back.
        let lag =
            |before: usize, random: &mut StdRng| random.random_range(0..=(before + 1).min(LAG));
        let (pods, sets) = machines.lag;
        machines.lag = (lag(pods, &mut machines.random), lag(sets, &mut machines.random));
        let at = |lag: usize| lag.min(machines.seen.len() - 1);
        let pods = machines.seen[at(machines.lag.0)].0.clone();
        let sets = machines.seen[at(machines.lag.1)].1.clone();
        sets.iter().for_each(|set| self.replica_set(set, &pods));
    }

    fn kubelets(&mut self) {
        let now = self.machines.now;
        let secret = self.objects.get(&("secrets".to_owned(), "demo-keys".to_owned()));
        let data =
            secret.and_then(|secret| secret["data"].as_object()).cloned().unwrap_or_default();
        let ids = data.into_iter().map(|(key, value)| {
            let value = STANDARD.decode(value.as_str().unwrap());
            (key, names::short_hash(&String::from_utf8(value.unwrap()).unwrap()))
        });
        let keys: BTreeMap<_, _> = ids.collect();
        for mut pod in self.all("pods") {
            let id = pod_id(&name(&pod));
            let age = since(text(&pod, "/metadata/creationTimestamp"), now);
            if terminates(&pod) {
                let gone_by = text(&pod, "/metadata/deletionTimestamp").to_owned();
                let node = self.machines.nodes.get(&id.1);
                let sessions = node.map_or(0, |node| node.sessions);
                if sessions == 0 || since(&gone_by, now) >= -20 {
                    self.machines.hurt += sessions;
                    self.machines.nodes.remove(&id.1);
                    self.objects.remove(&id);
                }
                continue;
            }
            let image = text(&pod, "/spec/containers/0/image").to_owned();
            if image.ends_with("bad") {
                pod["status"]["containerStatuses"] = json!([status(json!({"waiting":
                    {"reason": "ImagePullBackOff", "message": image}}))]);
            } else if age >= BOOT && !is_ready(&pod) {
                pod["status"]["containerStatuses"] =
                    json!([status(json!({"running": {"startedAt": now.to_string()}}))]);
                pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True",
                    "lastTransitionTime": now.to_string()}]);
                self.machines.nodes.insert(id.1.clone(), Node::new(&keys));
            }
            if let Some(node) = self.machines.nodes.get_mut(&id.1) {
                node.take_up(&keys, now);
            }
            self.store(&id, pod);
        }
    }

    fn hand_over(&mut self) {
        let drains = |node: &Node| node.phase > DrainPhase::Serving;
        let nodes = self.machines.nodes.iter().filter(|(_, node)| drains(node));
        let draining: Vec<_> = nodes.map(|(name, _)| name.clone()).collect();
        for from in draining {
            let moving = self.machines.nodes[&from].sessions.min(RATE);
            let arrived = self.arrive(moving);
            let Some(node) = self.machines.nodes.get_mut(&from) else { continue };
            node.sessions -= arrived;
            if node.sessions == 0 {
                node.phase = DrainPhase::Done;
            }
        }
    }

    /// Sessions that come in, as many as there is room for.
    pub(super) fn arrive(&mut self, sessions: u64) -> u64 {
        let taking = self.all("pods").into_iter().filter(|pod| is_active(pod) && is_ready(pod));
        let taking: BTreeSet<_> = taking.map(|pod| name(&pod)).collect();
        for arrived in 0..sessions {
            let nodes = self.machines.nodes.iter_mut();
            let free = nodes.filter(|(name, node)| {
                taking.contains(*name)
                    && node.phase == DrainPhase::Serving
                    && node.sessions < CAPACITY
            });
            let Some((_, node)) = free.min_by_key(|(_, node)| node.sessions) else {
                return arrived;
            };
            node.sessions += 1;
        }
        sessions
    }

    /// As the real controller it does nothing until it has seen its own last writes.
    fn replica_set(&mut self, set: &Value, pods: &[Value]) {
        let of = name(set);
        let Some(mut live) = self.objects.get(&("replicasets".to_owned(), of.clone())).cloned()
        else {
            return;
        };
        let there = |name: &String| pods.iter().any(|pod| text(pod, "/metadata/name") == name);
        let made = self.machines.made.entry(of.clone()).or_default();
        made.retain(|name| self.objects.contains_key(&pod_id(name)) && !there(name));
        let deleted = self.machines.deleted.entry(of.clone()).or_default();
        deleted.retain(|one| pods.iter().any(|pod| name(pod) == *one && !terminates(pod)));
        let waits = !made.is_empty() || !deleted.is_empty();
        let mine = pods.iter().filter(|pod| owned_by(pod, &of) && !terminates(pod));
        let (kept, released): (Vec<_>, Vec<_>) =
            mine.partition(|pod| label(pod, names::POOL) == "active");
        for pod in released {
            let id = pod_id(&name(pod));
            if let Some(mut pod) = self.objects.get(&id).filter(|pod| owned_by(pod, &of)).cloned() {
                pod["metadata"]["ownerReferences"] = json!([]);
                self.store(&id, pod);
            }
        }
        let there = kept.len();
        live["status"]["replicas"] = json!(there);
        self.store(&("replicasets".to_owned(), of.clone()), live);
        let wanted = usize::try_from(set["spec"]["replicas"].as_i64().unwrap_or(1)).unwrap();
        if waits {
            return;
        }
        (there..wanted).for_each(|_| self.make_pod(set));
        self.remove_pods(&of, kept, there.saturating_sub(wanted));
    }

    fn make_pod(&mut self, set: &Value) {
        self.machines.count += 1;
        let count = self.machines.count;
        let pod = format!("{}-{count:03}", name(set));
        let template = &set["spec"]["template"];
        let mut object = json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"],
            "status": {"podIP": format!("10.0.0.{count}")},
        });
        object["metadata"]["name"] = json!(pod);
        object["metadata"]["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "name": name(set), "uid": set["metadata"]["uid"], "controller": true}]);
        self.machines.made.entry(name(set)).or_default().insert(pod.clone());
        self.make(&pod_id(&pod), object);
    }

    /// Of its pods the unready ones, the cheap ones, the youngest.
    fn remove_pods(&mut self, set: &str, mut kept: Vec<&Value>, surplus: usize) {
        kept.sort_by_key(|pod| {
            let costly = !pod["metadata"]["annotations"][names::DELETION_COST].is_null();
            let made = text(pod, "/metadata/creationTimestamp");
            (is_ready(pod), costly, std::cmp::Reverse(made.to_owned()))
        });
        let gone: Vec<_> = kept.iter().take(surplus).map(|pod| name(pod)).collect();
        for pod in gone {
            self.machines.deleted.entry(set.to_owned()).or_default().insert(pod.clone());
            let Some(mut object) = self.objects.get(&pod_id(&pod)).cloned() else { continue };
            self.machines.leaves(&mut object, true);
            self.store(&pod_id(&pod), object);
        }
    }
}

fn status(state: Value) -> Value {
    json!({"name": "dataplane", "image": "", "imageID": "", "ready": true, "restartCount": 0, "state": state})
}

impl Node {
    fn new(keys: &BTreeMap<String, String>) -> Self {
        let keys = keys.clone();
        Self { sessions: 0, phase: DrainPhase::Serving, epoch: 0, keys, due: None }
    }

    /// What its kubelet brings, a moment later.
    fn take_up(&mut self, keys: &BTreeMap<String, String>, now: Timestamp) {
        if let Some((_, due)) = self.due.take_if(|(at, _)| *at <= now) {
            self.keys = due;
        }
        if self.due.is_none() && self.keys != *keys {
            self.due = Some((now + SignedDuration::from_secs(BOOT), keys.clone()));
        }
    }
}
