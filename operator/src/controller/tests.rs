//! Whole passes, by the real client, against an API server that is an HTTP server in this process. Every
//! script is replayed by operators that die after each write, every second write, every third one; that miss
//! events; beside a controller of ReplicaSets whose watches lag. The end must be the same.
//!
//! The planner's model ([`crate::plan`], `fleet/tests/world.rs`) plays thousands of histories on plain facts; here
//! a few go through every byte that is read and written.

mod api;
mod machines;

use super::*;
use crate::backoff::Backoff;
use crate::validate::tests::defaults;
use api::{Api, Id, merge};
use kube::runtime::events::Reporter;
use machines::{CAPACITY, Machines, is_active, is_ready, name};
use serde_json::Value;

/// Something that is done to a cluster at rest.
struct Script {
    name: &'static str,
    /// A merge patch of the spec.
    change: Value,
    /// A pod is deleted in the middle.
    kills: bool,
    /// Image tag and number of the pods in the end.
    ends: (&'static str, usize),
}

/// The operator's lives, and what they live in.
struct World {
    api: Api,
    context: Arc<Context>,
    /// Writes of each life.
    life: Option<usize>,
    deaths: usize,
    seconds: u64,
}

/// Then the last one lives on.
const DEATHS: usize = 150;

/// One life: it knows nothing but what the API server and the nodes say.
fn context(api: &Api) -> Arc<Context> {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::try_from(kube::Config::new(api.url.parse().unwrap())).unwrap();
    let proxy = reqwest::Proxy::http(&api.url).unwrap();
    let nodes = Nodes::through(reqwest::Client::builder().proxy(proxy).build().unwrap());
    let reporter = Reporter { controller: "test".to_owned(), instance: None };
    let cluster = api.cluster.clone();
    Arc::new(Context {
        recorder: Recorder::new(client.clone(), reporter),
        client,
        defaults: defaults(),
        metrics: Arc::default(),
        lacking: Arc::default(),
        backoff: Backoff::default(),
        scraper: Arc::new(Scraper::new(nodes.clone())),
        nodes,
        now: Arc::new(move || cluster.lock().unwrap().machines.now),
    })
}

fn demo() -> Id {
    ("chatclusters".to_owned(), "demo".to_owned())
}

impl World {
    /// Three pods at rest with twelve sessions.
    async fn new(seed: u64) -> Self {
        let api = Api::start(Machines::new(seed)).await;
        let spec = json!({
            "redis": {"external": {"host": "redis"}}, "image": {"tag": "a"},
            "gateway": {"replicas": 3, "limits": {"sessionsPerPod": CAPACITY}},
            "rollout": {"progressDeadline": "1m"},
        });
        let cluster = json!({
            "apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
            "metadata": {"name": "demo", "generation": 1}, "spec": spec,
        });
        api.cluster().make(&demo(), cluster);
        let context = context(&api);
        let mut world = Self { api, context, life: None, deaths: 0, seconds: 0 };
        world.rest().await.unwrap();
        assert_eq!(world.api.cluster().arrive(12), 12);
        world
    }

    /// As the spec would be after `kubectl patch`.
    fn change(&self, patch: &Value) {
        let mut cluster = self.api.cluster();
        let mut object = cluster.objects[&demo()].clone();
        merge(&mut object["spec"], patch);
        let generation = object["metadata"]["generation"].as_i64().unwrap();
        object["metadata"]["generation"] = json!(generation + 1);
        cluster.store(&demo(), object);
    }

    /// A pass of whoever is alive. Who died is followed by somebody who has seen nothing.
    async fn pass(&mut self) {
        self.context.scraper.look(self.seconds * 5).await;
        let seen = json!({"apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
            "metadata": {"name": "demo", "namespace": "default"}, "spec": {"redis": {"embedded": {}}}});
        // What the watch has is late: of it a pass may use the name alone.
        let seen: ChatCluster = serde_json::from_value(seen).unwrap();
        let _ = pass(&DeserializeGuard(Ok(seen)), &self.context).await;
        if self.api.cluster().left == Some(0) {
            self.deaths += 1;
            // Whoever begins says first that it knows no sessions, so that short lives never come to rest.
            self.api.cluster().left = self.life.filter(|_| self.deaths < DEATHS);
            self.context = context(&self.api);
        }
    }

    async fn second(&mut self) {
        self.seconds += 1;
        let (looks, waits) = {
            let mut cluster = self.api.cluster();
            let looks = cluster.machines.chance(0.8);
            (looks, cluster.objects[&demo()]["status"]["keyRotation"]["step"] == "Signing")
        };
        if looks {
            self.pass().await;
        }
        let mut cluster = self.api.cluster();
        cluster.tick();
        if waits {
            cluster.machines.now += jiff::SignedDuration::from_mins(1);
        }
    }

    /// Until nothing moves any more.
    async fn rest(&mut self) -> Result<(), String> {
        let mut quiet = 0;
        for _ in 0..800 {
            let before = self.api.cluster().writes.len();
            self.second().await;
            let cluster = self.api.cluster();
            let moves = cluster.writes.len() > before
                || cluster.all("pods").iter().any(|pod| !is_active(pod) || !is_ready(pod))
                || !cluster.objects[&demo()]["status"]["keyRotation"].is_null();
            quiet = if moves { 0 } else { quiet + 1 };
            if quiet > 20 {
                return Ok(());
            }
        }
        let cluster = self.api.cluster();
        let last = cluster.writes.len().saturating_sub(10);
        Err(format!(
            "no rest: {:#?} {:#?}",
            &cluster.writes[last..],
            cluster.objects[&demo()]["status"]
        ))
    }

    /// A pod that somebody deletes.
    fn kill(&self) {
        let mut cluster = self.api.cluster();
        let Some(mut pod) = cluster.all("pods").into_iter().find(is_active) else { return };
        let id = ("pods".to_owned(), name(&pod));
        cluster.machines.leaves(&mut pod, false);
        cluster.store(&id, pod);
    }

    /// What must be the same, however it came to be.
    fn end(&self) -> Value {
        let cluster = self.api.cluster();
        let image = |object: &Value, path: &str| {
            object.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let sets: Vec<_> = cluster
            .all("replicasets")
            .iter()
            .map(|set| {
                json!([
                    name(set),
                    image(set, "/spec/template/spec/containers/0/image"),
                    set["spec"]["replicas"],
                    set["status"]["replicas"],
                    set["metadata"]["annotations"].get(names::FAILED).is_some(),
                    set["metadata"]["annotations"].get(names::PROGRESS).is_some()
                ])
            })
            .collect();
        let mut pods: Vec<_> = cluster
            .all("pods")
            .iter()
            .map(|pod| {
                json!([
                    image(pod, "/spec/containers/0/image"),
                    pod["metadata"]["labels"],
                    pod["metadata"]["ownerReferences"][0]["name"]
                ])
            })
            .collect();
        pods.sort_by_key(Value::to_string);
        let others = cluster.objects.keys().filter(|(of, _)| of != "pods");
        let status = &cluster.objects[&demo()]["status"];
        let conditions: Vec<_> = status["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| json!([one["type"], one["status"], one["reason"]]))
            .collect();
        let secret = &cluster.objects[&("secrets".to_owned(), "demo-keys".to_owned())];
        let keys: Vec<_> = secret["data"].as_object().unwrap().keys().collect();
        let sessions: u64 = cluster.machines.nodes.values().map(|node| node.sessions).sum();
        json!({
            "sets": sets, "pods": pods, "objects": others.collect::<Vec<_>>(), "keys": keys,
            "rotation": secret["metadata"]["annotations"], "conditions": conditions,
            "phase": status["phase"], "gateway": status["gateway"], "rollout": status["rollout"],
            "sessions": sessions + cluster.machines.hurt, "hurt": cluster.machines.hurt,
            "broken": cluster.machines.broken,
        })
    }
}

/// The end of a script whose operators live for so many writes, and how many writes there were.
async fn replay(script: &Script, seed: u64, life: Option<usize>) -> (Value, usize) {
    let mut world = World::new(seed).await;
    let before = world.api.cluster().writes.len();
    (world.life, world.api.cluster().left) = (life, life);
    world.change(&script.change);
    if script.kills {
        for _ in 0..9 {
            world.second().await;
        }
        world.kill();
    }
    world.rest().await.unwrap_or_else(|why| panic!("{} {life:?} {seed}: {why}", script.name));
    let writes = world.api.cluster().writes.len() - before;
    assert!(life.is_none_or(|life| world.deaths >= DEATHS.min(writes / life)), "{}", world.deaths);
    (world.end(), writes)
}

async fn every_death_comes_to_the_same_end(script: Script) {
    let (end, writes) = replay(&script, 0, None).await;
    assert_eq!((&end["broken"], &end["hurt"]), (&json!([]), &json!(0)), "{}", script.name);
    assert!(writes > 3, "{}: {writes} writes", script.name);
    let (tag, count) = script.ends;
    let pods = end["pods"].as_array().unwrap();
    assert!(pods.len() == count && pods.iter().all(|pod| pod[0].as_str().unwrap().ends_with(tag)));
    for (seed, life) in [(1, 1), (2, 1), (3, 2), (4, 3)] {
        let (died, _) = replay(&script, seed, Some(life)).await;
        assert_eq!(died, end, "{} by operators that die after {life} writes", script.name);
    }
}

#[tokio::test]
async fn a_rollout_in_which_a_pod_is_deleted() {
    let change = json!({"image": {"tag": "b"}});
    let script = Script { name: "rollout", change, kills: true, ends: (":b", 3) };
    every_death_comes_to_the_same_end(script).await;
}

#[tokio::test]
async fn more_pods() {
    let change = json!({"gateway": {"replicas": 5}});
    let script = Script { name: "more pods", change, kills: false, ends: (":a", 5) };
    every_death_comes_to_the_same_end(script).await;
}

#[tokio::test]
async fn fewer_pods() {
    let change = json!({"gateway": {"replicas": 2}});
    let script = Script { name: "fewer pods", change, kills: false, ends: (":a", 2) };
    every_death_comes_to_the_same_end(script).await;
}

#[tokio::test]
async fn an_image_that_is_not_there() {
    let change = json!({"image": {"tag": "bad"}});
    let script = Script { name: "bad image", change, kills: false, ends: (":a", 3) };
    every_death_comes_to_the_same_end(script).await;
}

#[tokio::test]
async fn keys_that_are_exchanged() {
    let change = json!({"operation": {"rotateKeys": "one"}});
    let script = Script { name: "keys", change, kills: false, ends: (":a", 3) };
    every_death_comes_to_the_same_end(script).await;
}

#[tokio::test]
async fn an_operator_that_does_not_wait_for_the_replica_set_is_found_out() {
    for seed in 0..10 {
        let mut world = World::new(seed).await;
        world.api.cluster().impatient = true;
        world.change(&json!({"image": {"tag": "b"}}));
        let _ = world.rest().await;
        if !world.api.cluster().machines.broken.is_empty() {
            return;
        }
    }
    panic!("no world noticed it");
}
