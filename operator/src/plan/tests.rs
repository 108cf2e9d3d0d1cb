//! Passes against objects as the API server has them: they come to rest, and what must stay stays. Pods
//! come and go in the tests of [`fleet`](super::fleet).

use super::*;
use crate::build::build;
use crate::observe::{Load, PodFacts, SecretFacts};
use crate::validate::tests::{CLUSTERS, cluster, defaults, observed};
use crate::validate::{Defaults, validate};
use crds::ChatCluster;

/// Objects as the API server would have them after applies, without defaulting.
pub(crate) struct Model {
    pub(crate) observed: Observed,
    uid: &'static str,
    made: u64,
}

/// The time of tests without pods.
fn noon() -> Timestamp {
    Timestamp::from_second(1_000_000).unwrap()
}

impl Model {
    pub(crate) fn new() -> Self {
        Self { observed: observed(), uid: "u-1", made: 0 }
    }

    fn plan(&self, cluster: &ChatCluster, defaults: &Defaults) -> (Plan, String) {
        let validated = validate(cluster, &self.observed, defaults).unwrap();
        let built = build(&validated.cluster);
        (plan(&built, &self.observed, noon()), built.revision)
    }

    /// A write of an object, as the API server would carry it out.
    pub(crate) fn carry_out(&mut self, action: &Action) {
        self.made += 1;
        match action {
            Action::Keys { keys, absent, .. } => {
                let secret = self.observed.secrets.entry(keys.name.clone()).or_default();
                secret.ours = true;
                secret.keys.extend(absent.iter().map(|key| ((*key).to_owned(), 64)));
            }
            Action::Create { key, .. } if self.observed.objects.contains_key(key) => {}
            Action::Apply { key, object } | Action::Create { key, object } => {
                let mut object = object.clone();
                object["metadata"]["uid"] = json!(format!("o-{}", self.made));
                object["metadata"]["creationTimestamp"] = json!(format!("{:05}", self.made));
                object["metadata"]["resourceVersion"] = json!(self.made.to_string());
                let owned = object["metadata"]["ownerReferences"][0]["uid"] == self.uid;
                let standing = if owned { Standing::Ours } else { Standing::Foreign };
                self.observed.objects.insert(key.clone(), LiveObject { object, standing });
            }
            Action::Scale { replica_set, version, replicas } => {
                if let Some(object) = self.replica_set(replica_set, version) {
                    object["spec"]["replicas"] = json!(replicas);
                }
            }
            Action::Note { replica_set, version, annotation, text } => {
                if let Some(object) = self.replica_set(replica_set, version) {
                    object["metadata"]["annotations"][annotation] = json!(text);
                }
            }
            Action::Delete { key, version, .. } => {
                let live = self.observed.objects.get(key);
                if live.is_some_and(|live| live.object["metadata"]["resourceVersion"] == *version) {
                    self.observed.objects.remove(key);
                }
            }
            pods => panic!("no pods are here: {pods:?}"),
        }
    }

    /// To change it, unless it has changed since it was seen.
    fn replica_set(&mut self, name: &str, seen: &str) -> Option<&mut Value> {
        let key = ObjectKey::new(Kind::ReplicaSet, name);
        let object = &mut self.observed.objects.get_mut(&key)?.object;
        if object["metadata"]["resourceVersion"] != seen {
            return None;
        }
        object["metadata"]["resourceVersion"] = json!(self.made.to_string());
        Some(object)
    }

    /// Passes until nothing is to be done.
    fn settle(&mut self, cluster: &ChatCluster, defaults: &Defaults) -> usize {
        for passes in 0..5 {
            let (plan, _) = self.plan(cluster, defaults);
            if plan.actions().is_empty() {
                return passes;
            }
            plan.actions().iter().for_each(|action| self.carry_out(action));
        }
        panic!("it does not come to rest: {:#?}", self.plan(cluster, defaults).0);
    }

    fn fleets(&self) -> Vec<(String, i64)> {
        let sets = self.observed.objects.iter().filter(|(key, _)| key.kind == Kind::ReplicaSet);
        sets.map(|(key, live)| {
            (key.name.clone(), live.object["spec"]["replicas"].as_i64().unwrap())
        })
        .collect()
    }
}

#[test]
fn every_cluster_comes_to_rest_after_one_pass() {
    for (name, spec) in CLUSTERS {
        let mut model = Model::new();
        assert_eq!(model.settle(&cluster(spec), &defaults()), 1, "{name}");
    }
}

#[test]
fn what_pods_need_is_written_before_pods() {
    let (plan, _) = Model::new().plan(&cluster("redis: {embedded: {}}"), &defaults());
    let kinds: Vec<_> = plan
        .actions()
        .iter()
        .map(|action| match action {
            Action::Keys { .. } => "Secret",
            Action::Apply { key, .. } | Action::Create { key, .. } => key.kind.name(),
            other => panic!("{other:?}"),
        })
        .collect();
    let at = |kind| kinds.iter().position(|one| *one == kind).unwrap();
    assert_eq!(at("Secret"), 0);
    assert!(at("ConfigMap") < at("ReplicaSet") && at("ServiceAccount") < at("ReplicaSet"));
    assert_eq!(kinds.last(), Some(&"ReplicaSet"));
}

#[test]
fn an_edit_of_our_field_is_corrected_and_one_of_a_foreign_field_is_left() {
    let mut model = Model::new();
    let demo = cluster("redis: {embedded: {}}");
    model.settle(&demo, &defaults());
    let key = ObjectKey::new(Kind::Service, "demo");
    let service = &mut model.observed.objects.get_mut(&key).unwrap().object;
    service["metadata"]["annotations"]["foreign"] = json!("x");
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    assert_eq!(model.plan(&demo, &defaults()).0.actions(), []);
    let service = &mut model.observed.objects.get_mut(&key).unwrap().object;
    service["spec"]["ports"][0]["port"] = json!(81);
    let (plan, _) = model.plan(&demo, &defaults());
    assert!(
        matches!(plan.actions(), [Action::Apply { key: applied, .. }] if *applied == key),
        "{plan:?}"
    );
}

#[test]
fn a_field_that_is_no_longer_wanted_is_dropped() {
    let mut model = Model::new();
    let with = "redis: {embedded: {}}\nexposure: {annotations: {a: b}}";
    model.settle(&cluster(with), &defaults());
    let (plan, _) = model.plan(&cluster("redis: {embedded: {}}"), &defaults());
    assert!(
        matches!(plan.actions(), [Action::Apply { key, object }]
        if key.kind == Kind::Service && object["metadata"]["annotations"].get("a").is_none()),
        "{plan:?}"
    );
}

#[test]
fn objects_that_are_no_longer_wanted_go_and_keys_never_do() {
    let mut model = Model::new();
    model.settle(&cluster("redis: {embedded: {}}\ngateway: {replicas: 3}"), &defaults());
    let less = "redis: {embedded: {}}\ngateway: {replicas: 1}\nsecurity: {networkPolicy: {enabled: false}}";
    let (plan, _) = model.plan(&cluster(less), &defaults());
    let deleted: Vec<_> = plan
        .actions()
        .iter()
        .filter_map(|action| match action {
            Action::Delete { key, .. } => Some(key.kind.name()),
            _ => None,
        })
        .collect();
    assert_eq!(deleted, ["NetworkPolicy", "NetworkPolicy", "PodDisruptionBudget"]);
    model.settle(&cluster(less), &defaults());
    assert!(model.observed.secrets.contains_key("demo-keys"));
}

#[test]
fn another_operator_moves_no_pod_not_even_after_one_was_deleted() {
    let mut model = Model::new();
    let demo = cluster("redis: {embedded: {}}");
    model.settle(&demo, &defaults());
    let newer = Defaults { image: "example.com/other:9".to_owned(), ..defaults() };
    model.observed.pods.push(PodFacts::default());
    assert_eq!(model.plan(&demo, &newer).0.actions(), []);
    // And where it renders pods in another way.
    let validated = validate(&demo, &model.observed, &newer).unwrap();
    let mut built = build(&validated.cluster);
    built.replica_set.object["spec"]["template"]["spec"]["containers"][0]["env"] =
        json!([{"name": "NEW", "value": "1"}]);
    assert_eq!(plan(&built, &model.observed, noon()).actions(), []);
}

#[test]
fn an_autoscaler_follows_the_load() {
    let mut model = Model::new();
    let scaled = cluster(
        "redis: {embedded: {}}\ngateway: {autoscaling: {min: 3, max: 9, target: {sessionsPerPod: 10}}}",
    );
    model.settle(&scaled, &defaults());
    let name = model.fleets()[0].0.clone();
    model.observed.load = Load { sessions: 65, streams: 0 };
    model.settle(&scaled, &defaults());
    assert_eq!(model.fleets(), [(name, 7)]);
}

#[test]
fn foreign_objects_are_left_and_named() {
    let mut model = Model::new();
    for (kind, name) in [(Kind::Service, "demo"), (Kind::StatefulSet, "demo-redis")] {
        let object = json!({"metadata": {"name": name, "uid": "x"}});
        model
            .observed
            .objects
            .insert(ObjectKey::new(kind, name), LiveObject { object, standing: Standing::Foreign });
    }
    model.observed.secrets.insert("demo-keys".to_owned(), SecretFacts::default());
    let (plan, _) = model.plan(&cluster("redis: {embedded: {}}"), &defaults());
    let foreign =
        plan.findings.iter().filter(|finding| finding.reason == Reason::ForeignObject).count();
    assert_eq!(foreign, 3, "{:?}", plan.findings);
    let touched = plan.actions().iter().any(|action| match action {
        Action::Keys { .. } => true,
        Action::Apply { key, .. } | Action::Create { key, .. } | Action::Delete { key, .. } => {
            key.name == "demo" && key.kind == Kind::Service
        }
        _ => false,
    });
    assert!(!touched, "{plan:?}");
}

#[test]
fn what_an_earlier_cluster_left_is_taken_up_with_its_pods() {
    let mut model = Model::new();
    let demo = cluster("redis: {embedded: {}}");
    model.settle(&demo, &defaults());
    for live in model.observed.objects.values_mut() {
        live.object["metadata"].as_object_mut().unwrap().remove("ownerReferences");
        live.standing = Standing::Orphaned;
    }
    let fleet = model.fleets();
    let (plan, _) = model.plan(&demo, &defaults());
    assert_eq!(plan.actions().len(), model.observed.objects.len());
    model.settle(&demo, &defaults());
    assert_eq!(model.fleets(), fleet);
    assert!(model.observed.objects.values().all(|live| live.standing == Standing::Ours));
}

#[test]
fn what_is_being_collected_is_waited_for() {
    let mut model = Model::new();
    let demo = cluster("redis: {embedded: {}}");
    model.settle(&demo, &defaults());
    for live in model.observed.objects.values_mut() {
        live.standing = Standing::Going;
    }
    let (plan, _) = model.plan(&demo, &defaults());
    assert_eq!(plan.actions(), []);
    assert!(plan.findings.iter().all(|finding| finding.reason == Reason::Creating));
}
