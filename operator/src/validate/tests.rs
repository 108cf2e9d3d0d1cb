//! What is found in a spec and in the Secrets that it names; and the clusters that other tests use too.

use super::*;
use crate::observe::{Kind, LiveObject, ObjectKey, SecretFacts, Standing};
use crds::names;
use serde_json::{Value, json};

/// Clusters of every sort, by name.
pub(crate) const CLUSTERS: &[(&str, &str)] = &[
    ("minimal", "redis: {embedded: {}}"),
    ("one_replica", "gateway: {replicas: 1}\nredis: {embedded: {}}"),
    ("embedded_with_storage", "redis: {embedded: {storage: {size: 2Gi, className: fast}}}"),
    (
        "external_tls_acl",
        "redis: {external: {host: redis.example.com, port: 6380, database: 3, username: chat, passwordSecretRef: {name: redis, key: password}, tls: {caSecretRef: {name: redis, key: ca.crt}}}}",
    ),
    ("external_plain_ipv6", "redis: {external: {host: 'fd00::1', prefix: 'mine:'}}"),
    (
        "load_balancer",
        "redis: {embedded: {}}\nexposure: {type: LoadBalancer, annotations: {cloud/lb: nlb}, page: true}",
    ),
    (
        "http_route",
        "redis: {embedded: {}}\nexposure: {type: HTTPRoute, hostnames: [chat.example.com], parentRefs: [{name: gw, namespace: infra, sectionName: https}]}",
    ),
    (
        "jwks_url",
        "redis: {embedded: {}}\nauth: {jwt: {issuers: [{issuer: 'https://i/', audience: chat, jwks: {url: 'https://i/jwks'}}], clockSkew: 30s}, allowedOrigins: ['https://app.example.com']}",
    ),
    (
        "jwks_secret",
        "redis: {embedded: {}}\nauth: {jwt: {issuers: [{issuer: 'https://i/', audience: chat, jwks: {secretRef: {name: jwks, key: keys}}}]}}",
    ),
    (
        "two_providers",
        "redis: {embedded: {}}\nproviders: [{name: first-one, type: anthropic, baseUrl: 'https://api.anthropic.com', apiKeySecretRef: {name: providers, key: a}, model: m, continues: Prefill, maxTokens: 100}, {name: second, type: openai, baseUrl: 'http://vllm:8000/v1', models: {fast: real}}]",
    ),
    (
        "autoscaling",
        "redis: {embedded: {}}\ngateway: {autoscaling: {min: 3, max: 9, target: {sessionsPerPod: 1000}}}",
    ),
    ("hibernated", "redis: {embedded: {}}\noperation: {hibernated: true}"),
    (
        "placement",
        "redis: {embedded: {placement: {nodeSelector: {disk: ssd}}}}\ngateway: {placement: {spread: None, nodeSelector: {pool: chat}, tolerations: [{key: chat, operator: Exists}], priorityClassName: high}, resources: {requests: {cpu: 500m, memory: 1Gi}, limits: {memory: 2Gi}}}",
    ),
    ("deleted_with_all", "redis: {embedded: {storage: {size: 1Gi}}}\ndeletionPolicy: Delete"),
    (
        "digest_and_pull_secret",
        "redis: {embedded: {}}\nimage: {repository: r.example.com/chat, digest: 'sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08', pullSecrets: [{name: registry}]}",
    ),
    (
        "no_policy_much_log",
        "redis: {embedded: {}}\nsecurity: {networkPolicy: {enabled: false}, serviceAccount: {annotations: {cloud/role: chat}}}\nobservability: {logLevel: debug, tracing: {otlp: 'http://collector:4318'}}",
    ),
];

pub(crate) fn cluster(spec: &str) -> ChatCluster {
    let spec: Value = serde_saphyr::from_str(spec).unwrap();
    serde_json::from_value(json!({
        "apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster",
        "metadata": {"name": "demo", "namespace": "default", "uid": "u-1", "generation": 1},
        "spec": spec,
    }))
    .unwrap()
}

pub(crate) fn defaults() -> Defaults {
    Defaults {
        image: "example.com:5000/chatcluster/dataplane:1.2.3".to_owned(),
        redis_image: "redis:7.4".to_owned(),
        namespace: "chatcluster-system".to_owned(),
    }
}

/// Every Secret that the clusters name.
pub(crate) fn observed() -> Observed {
    let secret = |keys: &[&str]| SecretFacts {
        keys: keys.iter().map(|key| ((*key).to_owned(), 40)).collect(),
        ..SecretFacts::default()
    };
    let secrets = [
        ("redis", secret(&["password", "ca.crt"])),
        ("jwks", secret(&["keys"])),
        ("providers", secret(&["a"])),
    ];
    let secrets = secrets.map(|(name, facts)| (name.to_owned(), facts)).into();
    Observed { secrets, gateway_api: true, ..Observed::default() }
}

fn findings(spec: &str, observed: &Observed) -> Vec<Finding> {
    validate(&cluster(spec), observed, &defaults()).unwrap_err().0
}

#[test]
fn every_cluster_of_the_tests_is_good() {
    for (name, spec) in CLUSTERS {
        validate(&cluster(spec), &observed(), &defaults())
            .unwrap_or_else(|why| panic!("{name}: {why:?}"));
    }
}

#[test]
fn hostile_objects_that_the_api_server_takes_are_told_with_field_and_remedy() {
    let hostile: Value =
        serde_saphyr::from_str(include_str!("../../../crds/tests/hostile.yaml")).unwrap();
    let mut seen = 0;
    for case in hostile["cases"].as_array().unwrap() {
        if case["refused"] != "operator" {
            continue;
        }
        let mut object = serde_json::to_value(cluster("redis: {embedded: {}}")).unwrap();
        merge(&mut object, &case["patch"]);
        let cluster: ChatCluster = serde_json::from_value(object).unwrap();
        let found = validate(&cluster, &Observed::default(), &defaults()).unwrap_err().0;
        let said = case["says"].as_str().unwrap();
        assert!(
            found.iter().any(|finding| finding.reason.as_str() == said),
            "{}: {found:?}",
            case["name"]
        );
        assert!(found.iter().all(|finding| finding.message.contains("spec.")), "{found:?}");
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
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

#[test]
fn a_missing_secret_a_missing_key_and_an_empty_one_are_told_apart() {
    let spec = "redis: {external: {host: r, passwordSecretRef: {name: redis, key: password}}}";
    let reason = |observed: &Observed| findings(spec, observed)[0].reason;
    let mut observed = observed();
    observed.secrets.get_mut("redis").unwrap().keys.insert("password".to_owned(), 0);
    assert_eq!(reason(&observed), Reason::SecretInvalid);
    observed.secrets.get_mut("redis").unwrap().keys.remove("password");
    assert_eq!(reason(&observed), Reason::SecretKeyNotFound);
    observed.secrets.clear();
    assert_eq!(reason(&observed), Reason::SecretNotFound);
}

#[test]
fn images_are_put_together_and_a_new_default_changes_no_running_cluster() {
    let image = |spec: &str, observed: &Observed| {
        validate(&cluster(spec), observed, &defaults()).unwrap().cluster.image
    };
    let new = observed();
    let with = |part: &str| format!("redis: {{embedded: {{}}}}\nimage: {part}");
    assert_eq!(image("redis: {embedded: {}}", &new), defaults().image);
    assert_eq!(image(&with("{tag: v2}"), &new), "example.com:5000/chatcluster/dataplane:v2");
    assert_eq!(image(&with("{repository: r/x}"), &new), "r/x:1.2.3");
    let digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
    assert_eq!(
        image(&with(&format!("{{digest: '{digest}'}}")), &new),
        format!("example.com:5000/chatcluster/dataplane@{digest}")
    );
    let mut running = new;
    let object = json!({
        "metadata": {"labels": {names::REVISION: "r1"}, "annotations": {names::IMAGE: "old:1"}},
        "spec": {"replicas": 2},
    });
    let live = LiveObject { object, standing: Standing::Ours };
    running.objects.insert(ObjectKey::new(Kind::ReplicaSet, "demo-r1"), live);
    assert_eq!(image("redis: {embedded: {}}", &running), "old:1");
    assert_eq!(image(&with("{pullSecrets: [{name: s}]}"), &running), "old:1");
    assert_eq!(image(&with("{tag: v2}"), &running), "example.com:5000/chatcluster/dataplane:v2");
}

#[test]
fn warnings_name_what_should_not_stay_and_a_missing_api_is_no_failure() {
    let reasons = |spec: &str, observed: &Observed| -> Vec<Reason> {
        let validated = validate(&cluster(spec), observed, &defaults()).unwrap();
        validated.findings.iter().map(|finding| finding.reason).collect()
    };
    let all = observed();
    assert_eq!(
        reasons("redis: {embedded: {}}", &all),
        [Reason::EmbeddedRedis, Reason::SimulatedProvider, Reason::ImageByTag]
    );
    assert!(reasons("redis: {external: {host: r}}", &all).contains(&Reason::RedisWithoutTls));
    let without = Observed { gateway_api: false, ..all };
    let route = "redis: {embedded: {}}\nexposure: {type: HTTPRoute, parentRefs: [{name: gw}]}";
    assert!(reasons(route, &without).contains(&Reason::GatewayApiNotInstalled));
}
