//! What people are told, case by case.

use super::*;
use crate::observe::{Kind, LiveObject, ObjectKey, Standing};
use crate::validate::tests::{cluster, defaults, observed};
use crate::validate::validate;
use crds::Reason;
use serde_json::json;

fn pod(component: &str, ready: bool, trouble: Option<&str>) -> PodFacts {
    PodFacts {
        name: format!("demo-{component}"),
        component: component.to_owned(),
        pool: if component == "gateway" { "active".to_owned() } else { String::new() },
        ready_since: ready.then(jiff::Timestamp::default),
        trouble: trouble.map(str::to_owned),
        ..PodFacts::default()
    }
}

fn running(gateway: usize, redis: bool) -> Observed {
    let object = json!({
        "metadata": {"labels": {names::REVISION: "r1"}, "annotations": {names::IMAGE: "x/y:1.0"}},
        "spec": {"replicas": 2}, "status": {"replicas": 2},
    });
    let mut observed = observed();
    observed.objects.insert(
        ObjectKey::new(Kind::ReplicaSet, "demo-r1"),
        LiveObject { object, standing: Standing::Ours },
    );
    observed.pods = (0..2).map(|at| pod("gateway", at < gateway, None)).collect();
    observed.pods.push(pod("redis", redis, None));
    observed
}

fn at(seconds: i64) -> Time {
    Time(jiff::Timestamp::from_second(seconds).unwrap())
}

fn told(cluster: &ChatCluster, observed: &Observed, findings: &[Finding]) -> ChatClusterStatus {
    let validated = validate(cluster, observed, &defaults());
    let mut all = findings.to_vec();
    match &validated {
        Ok(validated) => all.extend(validated.findings.clone()),
        Err(invalid) => all.extend(invalid.0.clone()),
    }
    let pass = Pass {
        cluster,
        observed,
        validated: validated.as_ref().ok(),
        revision: Some("r1"),
        wanted: Some(2),
        rollout: None,
        key_rotation: None,
        findings: &all,
    };
    status(&pass, at(1))
}

fn condition(status: &ChatClusterStatus, condition: ConditionType) -> (String, String, String) {
    let found = status.conditions.iter().find(|one| one.type_ == condition.as_str()).unwrap();
    (found.status.clone(), found.reason.clone(), found.message.clone())
}

fn ready(spec: &str, observed: &Observed, findings: &[Finding]) -> (String, String, String) {
    condition(&told(&cluster(spec), observed, findings), ConditionType::Ready)
}

const SPEC: &str = "redis: {embedded: {}}";

#[test]
fn ready_names_the_first_thing_in_the_way() {
    let is = |got: (String, String, String), status: &str, reason: Reason, words: &str| {
        assert_eq!((got.0.as_str(), got.1.as_str()), (status, reason.as_str()), "{}", got.2);
        assert!(got.2.contains(words), "{}", got.2);
    };
    is(ready(SPEC, &running(2, true), &[]), "True", Reason::AsSpecified, "2 of 2");
    is(ready(SPEC, &running(2, false), &[]), "False", Reason::EmbeddedNotReady, "Redis");
    is(ready(SPEC, &running(0, true), &[]), "False", Reason::NoPodReady, "no pod");
    is(ready(SPEC, &running(1, true), &[]), "False", Reason::PodsNotReady, "1 of 2");
    let mut failing = running(0, true);
    failing.pods[0].trouble = Some("ImagePullBackOff no such image".to_owned());
    is(ready(SPEC, &failing, &[]), "False", Reason::PodFailing, "demo-gateway: ImagePullBackOff");
    let missing = "redis: {external: {host: r, passwordSecretRef: {name: nowhere, key: k}}}";
    is(ready(missing, &running(2, true), &[]), "False", Reason::SecretNotFound, "nowhere");
    let pending = Finding::new(ConditionType::Progressing, Reason::RollingOut, "new pods");
    is(ready(SPEC, &running(2, true), &[pending]), "False", Reason::RollingOut, "new pods");
    let foreign = Finding::new(ConditionType::Degraded, Reason::ForeignObject, "Service demo");
    is(ready(SPEC, &running(2, true), &[foreign]), "False", Reason::ForeignObject, "Service demo");
    let balanced = "redis: {embedded: {}}\nexposure: {type: LoadBalancer}";
    is(ready(balanced, &running(2, true), &[]), "False", Reason::AddressPending, "no address");
    let asleep = "redis: {embedded: {}}\noperation: {hibernated: true}";
    is(ready(asleep, &observed(), &[]), "True", Reason::HibernatedBySpec, "no pods run");
}

#[test]
fn every_condition_is_there_once_with_a_message_and_the_generation() {
    let status = told(&cluster(SPEC), &running(2, true), &[]);
    let types: Vec<_> = status.conditions.iter().map(|one| one.type_.as_str()).collect();
    assert_eq!(types, ConditionType::ALL.map(ConditionType::as_str));
    for one in &status.conditions {
        assert!(!one.message.is_empty() && one.observed_generation == Some(1));
        assert!(Reason::ALL.iter().any(|reason| reason.as_str() == one.reason), "{}", one.reason);
    }
}

#[test]
fn a_second_look_at_the_same_changes_nothing() {
    let mut cluster = cluster(SPEC);
    let observed = running(2, true);
    let first = told(&cluster, &observed, &[]);
    cluster.status = Some(first.clone());
    let validated = validate(&cluster, &observed, &defaults()).unwrap();
    let pass = Pass {
        cluster: &cluster,
        observed: &observed,
        validated: Some(&validated),
        revision: Some("r1"),
        wanted: Some(2),
        rollout: None,
        key_rotation: None,
        findings: &validated.findings,
    };
    assert_eq!(status(&pass, at(100)), first);
    let other = running(1, true);
    let pass = Pass { observed: &other, ..pass };
    let later = status(&pass, at(100));
    let time = |status: &ChatClusterStatus, condition: ConditionType| {
        status
            .conditions
            .iter()
            .find(|one| one.type_ == condition.as_str())
            .unwrap()
            .last_transition_time
            .clone()
    };
    assert_eq!(time(&later, ConditionType::Ready), at(100));
    assert_eq!(time(&later, ConditionType::Available), at(1));
}

#[test]
fn phases_and_versions_are_for_people() {
    let phase =
        |spec: &str, observed: &Observed| told(&cluster(spec), observed, &[]).phase.unwrap();
    assert_eq!(phase(SPEC, &running(2, true)), Phase::Running);
    assert_eq!(phase(SPEC, &running(0, true)), Phase::Progressing);
    assert_eq!(
        phase("redis: {embedded: {}}\noperation: {paused: true}", &running(2, true)),
        Phase::Paused
    );
    assert_eq!(
        phase("redis: {embedded: {}}\noperation: {hibernated: true}", &observed()),
        Phase::Hibernated
    );
    let missing = "redis: {external: {host: r, passwordSecretRef: {name: nowhere, key: k}}}";
    assert_eq!(phase(missing, &running(2, true)), Phase::Invalid);
    for (image, text) in [
        ("x/y:1.0", "1.0"),
        ("h:5000/y", "latest"),
        ("y@sha256:0123456789abcdef", "sha256:0123456789ab"),
    ] {
        assert_eq!(version(image), text);
    }
}
