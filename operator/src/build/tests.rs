//! Every object of many clusters as it is rendered, that it is of its kind, and what pods may do.

use super::*;
use crate::validate::tests::{CLUSTERS, cluster, defaults, observed};
use crate::validate::validate;
use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde::Serialize;
use serde::de::DeserializeOwned;

mod flows;

fn built(spec: &str) -> Built {
    let cluster = cluster(spec);
    build(&validate(&cluster, &observed(), &defaults()).unwrap().cluster)
}

fn all(built: &Built) -> Vec<&Desired> {
    built.objects.iter().chain([&built.settings, &built.replica_set]).collect()
}

#[test]
fn every_object_of_every_cluster_is_as_it_was() {
    assert!(CLUSTERS.len() >= 12, "{}", CLUSTERS.len());
    for (name, spec) in CLUSTERS {
        let built = built(spec);
        let mut text = format!("# keys: {} {:?}\n", built.keys.name, built.keys.wanted);
        for desired in all(&built) {
            text.push_str("---\n");
            text.push_str(&serde_saphyr::to_string(&desired.object).unwrap());
        }
        insta::assert_snapshot!(format!("cluster_{name}"), text);
    }
}

/// Reads it as its type and writes it again: a field that the type does not know would be lost.
fn survives<K: DeserializeOwned + Serialize>(object: &Value) {
    let typed: K = serde_json::from_value(object.clone()).unwrap();
    let again = serde_json::to_value(typed).unwrap();
    assert_eq!(&again, object);
}

#[test]
fn every_object_is_of_its_kind_without_a_field_that_nobody_knows() {
    for (_, spec) in CLUSTERS {
        for desired in all(&built(spec)) {
            let object = &desired.object;
            match desired.key.kind {
                Kind::ServiceAccount => survives::<ServiceAccount>(object),
                Kind::ConfigMap => survives::<ConfigMap>(object),
                Kind::Service => survives::<Service>(object),
                Kind::NetworkPolicy => survives::<NetworkPolicy>(object),
                Kind::PodDisruptionBudget => survives::<PodDisruptionBudget>(object),
                Kind::StatefulSet => survives::<StatefulSet>(object),
                Kind::ReplicaSet => survives::<ReplicaSet>(object),
                Kind::HttpRoute => assert_eq!(object["kind"], "HTTPRoute"),
            }
        }
    }
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/>, restricted.
#[test]
fn every_pod_is_restricted_and_has_no_token() {
    for (name, spec) in CLUSTERS {
        let built = built(spec);
        for desired in all(&built) {
            let Some(pod) = desired.object.pointer("/spec/template/spec") else { continue };
            let security = &pod["securityContext"];
            assert_eq!(security["runAsNonRoot"], true, "{name}");
            assert_eq!(security["seccompProfile"]["type"], "RuntimeDefault");
            assert_eq!(pod["automountServiceAccountToken"], false);
            for field in ["hostNetwork", "hostPID", "hostIPC"] {
                assert!(pod.get(field).is_none());
            }
            for container in pod["containers"].as_array().unwrap() {
                let security = &container["securityContext"];
                assert_eq!(security["allowPrivilegeEscalation"], false);
                assert_eq!(security["readOnlyRootFilesystem"], true);
                assert_eq!(security["capabilities"], json!({"drop": ["ALL"]}));
                assert!(container["resources"]["limits"]["memory"].is_string());
            }
            let allowed = ["configMap", "secret", "emptyDir", "persistentVolumeClaim"];
            for volume in pod["volumes"].as_array().unwrap() {
                assert!(allowed.iter().any(|kind| volume.get(kind).is_some()), "{volume}");
            }
        }
    }
}

#[test]
fn the_settings_are_what_a_node_reads() {
    for (name, spec) in CLUSTERS {
        let built = built(spec);
        let file = built.settings.object["data"]["settings.yaml"].as_str().unwrap();
        let settings: protocol::Settings = serde_saphyr::from_str(file).unwrap();
        assert_ne!(settings, protocol::Settings::default(), "{name}");
        let file = |object: &Desired| Some(object.object["data"]["hot.yaml"].as_str()?.to_owned());
        let hot: protocol::hot::Hot =
            serde_saphyr::from_str(&built.objects.iter().find_map(file).unwrap()).unwrap();
        assert!(hot.generation > 0, "{name}");
        let (over, default) = (hot.over(&settings), protocol::Settings::default());
        assert_eq!(settings.limits, default.limits, "{name}: what is hot stands in one place");
        assert_ne!(over.drain, default.drain, "{name}");
    }
}

#[test]
fn the_revision_follows_from_what_new_pods_are_needed_for_and_from_nothing_else() {
    let minimal = "redis: {embedded: {}}";
    let revision = |spec: &str| built(spec).revision;
    for same in [
        "redis: {embedded: {}}\ngateway: {replicas: 7}",
        "redis: {embedded: {}}\nexposure: {type: LoadBalancer, annotations: {a: b}}",
        "redis: {embedded: {}}\noperation: {hibernated: true}",
        "redis: {embedded: {}}\nsecurity: {networkPolicy: {enabled: false}}",
        "redis: {embedded: {}}\nrollout: {maxDraining: 3}",
        "redis: {embedded: {}}\ndeletionPolicy: Delete",
        "redis: {embedded: {}}\nlimits: {perUser: {answers: 3}}",
        "redis: {embedded: {}}\ngateway: {limits: {sessionsPerPod: 3}}",
        "redis: {embedded: {}}\ndrain: {deadline: 1m, handoverPerSecond: 5}",
    ] {
        assert_eq!(revision(same), revision(minimal), "{same}");
    }
    for other in [
        "redis: {embedded: {}}\nexposure: {page: true}",
        "redis: {embedded: {}}\nimage: {tag: v2}",
        "redis: {embedded: {}}\nobservability: {logLevel: debug}",
        "redis: {embedded: {}}\ngateway: {resources: {limits: {memory: 1Gi}}}",
        "redis: {embedded: {}}\ngateway: {placement: {nodeSelector: {a: b}}}",
        "redis: {embedded: {}}\nproviders: [{name: a, type: openai, baseUrl: 'https://x/v1'}]",
        "redis: {embedded: {}}\nauth: {allowedOrigins: ['https://a.example']}",
        "redis: {embedded: {}}\noperation: {restartedAt: '2026-01-01T00:00:00Z'}",
    ] {
        assert_ne!(revision(other), revision(minimal), "{other}");
    }
}
