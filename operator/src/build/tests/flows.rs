//! Who reaches whom, decided from the rendered NetworkPolicies alone, as the API documents them
//! (<https://kubernetes.io/docs/concepts/services-networking/network-policies/>).

use super::built;
use crate::build::Built;
use crate::observe::Kind;
use serde_json::{Value, json};

/// One end of a flow: a pod with labels in a namespace, or an address outside.
struct End {
    namespace: Option<&'static str>,
    labels: Value,
}

fn node() -> End {
    pod(
        "default",
        json!({"chatcluster.dev/cluster": "demo", "chatcluster.dev/component": "gateway", "chatcluster.dev/pool": "active"}),
    )
}

fn draining() -> End {
    pod(
        "default",
        json!({"chatcluster.dev/cluster": "demo", "chatcluster.dev/component": "gateway", "chatcluster.dev/pool": "draining"}),
    )
}

fn redis() -> End {
    pod("default", json!({"chatcluster.dev/cluster": "demo", "chatcluster.dev/component": "redis"}))
}

fn other_node() -> End {
    pod(
        "default",
        json!({"chatcluster.dev/cluster": "other", "chatcluster.dev/component": "gateway"}),
    )
}

fn stranger() -> End {
    pod("default", json!({"app": "shop"}))
}

fn operator() -> End {
    pod("chatcluster-system", json!({"app": "operator"}))
}

fn dns() -> End {
    pod("kube-system", json!({"k8s-app": "kube-dns"}))
}

fn outside() -> End {
    End { namespace: None, labels: json!({}) }
}

fn pod(namespace: &'static str, labels: Value) -> End {
    End { namespace: Some(namespace), labels }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object();
    wanted.is_none_or(|wanted| wanted.iter().all(|(key, value)| labels.get(key) == Some(value)))
}

/// Whether one entry of `from` or `to` means this end.
fn means(peer: &Value, end: &End) -> bool {
    let Some(namespace) = end.namespace else { return peer.get("ipBlock").is_some() };
    let in_namespace = match peer.get("namespaceSelector") {
        Some(selector) => selects(selector, &json!({"kubernetes.io/metadata.name": namespace})),
        None => namespace == "default",
    };
    let is_pod = peer.get("podSelector").is_none_or(|selector| selects(selector, &end.labels));
    peer.get("ipBlock").is_none() && in_namespace && is_pod
}

fn rule_allows(rule: &Value, peers: &str, end: &End, protocol: &str, port: u16) -> bool {
    let peer = rule.get(peers).and_then(Value::as_array);
    let ports = rule.get("ports").and_then(Value::as_array);
    peer.is_none_or(|all| all.iter().any(|peer| means(peer, end)))
        && ports.is_none_or(|all| {
            all.iter().any(|one| one["protocol"] == protocol && one["port"] == port)
        })
}

/// No policy that selects the pod: everything is allowed. Else one of their rules must.
fn side(
    policies: &[&Value],
    of: &End,
    direction: &str,
    peers: &str,
    other: &End,
    protocol: &str,
    port: u16,
) -> bool {
    let mine: Vec<_> = policies
        .iter()
        .filter(|policy| {
            of.namespace == Some("default") && selects(&policy["spec"]["podSelector"], &of.labels)
        })
        .collect();
    let rules = mine.iter().filter_map(|policy| policy["spec"][direction].as_array()).flatten();
    mine.is_empty() || rules.into_iter().any(|rule| rule_allows(rule, peers, other, protocol, port))
}

fn allowed(built: &Built, from: &End, to: &End, protocol: &str, port: u16) -> bool {
    let policies: Vec<&Value> = built
        .objects
        .iter()
        .filter(|desired| desired.key.kind == Kind::NetworkPolicy)
        .map(|desired| &desired.object)
        .collect();
    side(&policies, to, "ingress", "from", from, protocol, port)
        && side(&policies, from, "egress", "to", to, protocol, port)
}

type Flow = (&'static str, End, End, &'static str, u16, bool);

fn flows() -> Vec<Flow> {
    vec![
        ("a client of anywhere chats", outside(), node(), "TCP", 8080, true),
        ("a pod of the namespace chats", stranger(), node(), "TCP", 8080, true),
        ("a draining node still serves", outside(), draining(), "TCP", 8080, true),
        ("the operator asks a node", operator(), node(), "TCP", 8081, true),
        ("the operator asks a draining node", operator(), draining(), "TCP", 8081, true),
        ("a stranger asks no node", stranger(), node(), "TCP", 8081, false),
        ("the internet asks no node", outside(), node(), "TCP", 8081, false),
        ("nobody reaches another port", stranger(), node(), "TCP", 22, false),
        ("a node reaches its Redis", node(), redis(), "TCP", 6379, true),
        ("a draining node reaches its Redis", draining(), redis(), "TCP", 6379, true),
        ("a stranger does not", stranger(), redis(), "TCP", 6379, false),
        ("another cluster's node does not", other_node(), redis(), "TCP", 6379, false),
        ("the operator does not", operator(), redis(), "TCP", 6379, false),
        ("a node asks for names", node(), dns(), "UDP", 53, true),
        ("over TCP too", node(), dns(), "TCP", 53, true),
        ("a node reaches its provider", node(), outside(), "TCP", 443, true),
        ("a node reaches its collector", node(), stranger(), "TCP", 4318, true),
        ("a node reaches nothing else outside", node(), outside(), "TCP", 25, false),
        ("a node does not reach the API server's port", node(), outside(), "TCP", 6443, false),
        ("Redis reaches nobody", redis(), outside(), "TCP", 443, false),
        ("Redis asks for no names", redis(), dns(), "UDP", 53, false),
    ]
}

const SPEC: &str = "redis: {embedded: {}}
providers: [{name: a, type: openai, baseUrl: 'https://api.example.com/v1'}]
observability: {tracing: {otlp: 'http://collector:4318'}}";

fn wrong(built: &Built) -> Vec<&'static str> {
    let flows = flows().into_iter();
    flows
        .filter(|(_, from, to, protocol, port, wanted)| {
            allowed(built, from, to, protocol, *port) != *wanted
        })
        .map(|(name, ..)| name)
        .collect()
}

#[test]
fn the_policies_let_through_what_they_should_and_nothing_else() {
    assert!(flows().len() >= 15);
    assert_eq!(wrong(&built(SPEC)), Vec::<&str>::new());
}

#[test]
fn a_missing_policy_or_a_wider_rule_shows() {
    let whole = built(SPEC);
    let policies = |built: &Built| {
        built.objects.iter().filter(|one| one.key.kind == Kind::NetworkPolicy).count()
    };
    for at in 0..whole.objects.len() {
        if whole.objects[at].key.kind == Kind::NetworkPolicy {
            let mut without = whole.clone();
            without.objects.remove(at);
            assert!(policies(&without) < policies(&whole) && !wrong(&without).is_empty());
            let mut wide = whole.clone();
            wide.objects[at].object["spec"]["ingress"] = json!([{}]);
            assert!(!wrong(&wide).is_empty());
        }
    }
    assert!(
        policies(&built("redis: {embedded: {}}\nsecurity: {networkPolicy: {enabled: false}}")) == 0
    );
}

#[test]
fn rules_of_the_spec_stand_beside_ours() {
    let scraped = built(
        "redis: {embedded: {}}
security: {networkPolicy: {extraIngress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}], ports: [{protocol: TCP, port: 8081}]}]}}",
    );
    assert!(allowed(&scraped, &pod("monitoring", json!({})), &node(), "TCP", 8081));
    assert!(!allowed(&scraped, &stranger(), &node(), "TCP", 8081));
}
