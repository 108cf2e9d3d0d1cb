#!/usr/bin/env bash
# What the charts render, what they refuse, and when their alerts fire. Needs helm, jq, promtool (Debian: prometheus)
# and Python with yaml. The last line counts.
#
#   CHARTS_CLUSTER=1   each rendering is also judged by the API server of KUBECONFIG, which keeps none of it
#   CHARTS_CLUSTER=0   renderings are only rendered
#   (not set)          1 where KUBECONFIG is set
set -uo pipefail; here=$(cd "$(dirname "$0")" && pwd); root=$here/../..; operator=$root/charts/chatcluster-operator
cluster=${CHARTS_CLUSTER:-${KUBECONFIG:+1}}
for tool in helm jq promtool python3 $([ "$cluster" != 1 ] || echo kubectl); do
  command -v "$tool" >/dev/null || { echo "$tool is missing" >&2; exit 2; }
done
passed=0 failed=0 work=$(mktemp -d) ns=chart-check-$$ kinds=() namespaces=()
digest=sha256:$(printf x | sha256sum | cut -d' ' -f1)
long=$(printf 'a%.0s' {1..53})
# Only what was made here goes away again: a cluster may have monitoring of its own.
end() {
  rm -rf "$work"
  [ ${#kinds[@]} = 0 ] || kubectl delete crd "${kinds[@]}" >/dev/null
  [ ${#namespaces[@]} = 0 ] || kubectl delete namespace --wait=false "${namespaces[@]}" >/dev/null
}
trap end EXIT
prepare() {
  local definition kind namespace account
  for definition in "$here"/monitoring/*.yaml; do
    kind=$(basename "$definition" .yaml)
    kubectl get crd "$kind" >/dev/null 2>&1 && continue
    kubectl create -f "$definition" >/dev/null || return 1
    kinds+=("$kind"); kubectl wait --for=condition=Established "crd/$kind" >/dev/null || return 1
  done
  for namespace in "$ns" "$ns-a" "$ns-b"; do
    kubectl create namespace "$namespace" >/dev/null || return 1
    namespaces+=("$namespace")
  done
  # The pod of helm test is refused without its account, which a dry run does not keep.
  for account in chart-check chat-operator "${long:0:50}"; do
    kubectl -n "$ns" create serviceaccount "$account" >/dev/null || return 1
  done
}

ok() { passed=$((passed + 1)); echo "  ok    $1"; }
bad() { failed=$((failed + 1)); printf '  FAIL  %s\n%s\n' "$1" "$2"; }
check() { local what=$1 said; shift; if said=$("$@" 2>&1); then ok "$what"; else bad "$what" "$said"; fi; }
render() { local chart=$1; shift; helm template --kube-version 1.34.0 "$root/charts/$chart" --name-template chart-check --namespace "$ns" "$@"; }
accepted() { # chart, then what helm is told
  render "$@" >"$work/rendered.yaml" && grep -q '^kind: ' "$work/rendered.yaml" || return 1
  [ "$cluster" = 1 ] || return 0
  local said; said=$(kubectl apply --dry-run=server -f "$work/rendered.yaml" 2>&1) || { echo "$said" | grep -v '(server dry run)$'; return 1; }
}
has() { local piece=$1; shift; render chatcluster-operator "$@" >"$work/rendered.yaml" && grep -qF -- "$piece" "$work/rendered.yaml"; }
lacks() { local piece=$1; shift; render chatcluster-operator "$@" >"$work/rendered.yaml" && ! grep -F -- "$piece" "$work/rendered.yaml"; }
refused() { # the sentence that must come, then what helm is told
  local sentence=$1 said; shift
  said=$(render chatcluster-operator "$@" 2>&1) && { bad "refuses $*" "it rendered"; return; }
  case $said in *"$sentence"*) ok "refuses $*" ;; *) bad "refuses $*" "no \"$sentence\" in: $said" ;; esac
}
# Helm and Prometheus write templates alike: whatever of theirs helm would resolve is gone from the cluster.
assets_are_rendered_as_they_are() {
  render chatcluster-operator -f "$here/everything.yaml" | python3 -c '
import sys, yaml
objects = {o["kind"]: o for o in yaml.safe_load_all(sys.stdin) if o}
folder = sys.argv[1] + "/files/"
assert objects["ConfigMap"]["data"]["chatcluster.json"].rstrip() == open(folder + "dashboard.json").read().rstrip(), "the dashboard differs"
assert objects["PrometheusRule"]["spec"] == yaml.safe_load(open(folder + "alerts.yaml")), "the alerts differ"' "$operator"
}
every_alert_is_seen_to_fire_and_to_be_quiet() {
  python3 -c '
import sys, yaml
rules = [r for g in yaml.safe_load(open(sys.argv[1]))["groups"] for r in g["rules"]]
cases = [c for t in yaml.safe_load(open(sys.argv[2]))["tests"] for c in t["alert_rule_test"]]
seen = {(c["alertname"], bool(c["exp_alerts"])) for c in cases}
missing = [r["alert"] + ": no case where it " + says for r in rules for fires, says in ((True, "fires"), (False, "is quiet")) if (r["alert"], fires) not in seen]
missing += [r["alert"] + " has no " + key for r in rules for key in ("summary", "description") if not r["annotations"].get(key)]
sys.exit("\n".join(missing) or 0)' "$operator/files/alerts.yaml" "$here/alerts_test.yaml"
}
every_metric_exists() { # of the nodes by their document, of the operator by its source
  local name code=0
  while read -r name; do
    case $name in
    chatcluster_operator_*) name=${name#chatcluster_operator_}; grep -qE "\"(${name%_total}|${name%_bucket})\"," "$root/operator/src/metrics.rs" ;;
    *) grep -qE "^### \`(${name%_bucket}|$name)\`" "$root/docs/metrics.md" ;;
    esac || { echo "$name is no metric"; code=1; }
  done < <(grep -oh 'chatcluster_[a-z_]*[a-z]' "$operator"/files/* | sort -u); return $code
}
queries_of_the_dashboard_are_well_formed() {
  jq '[.panels[].targets[]?.expr | gsub("\\$__rate_interval"; "5m")] | {groups: [{name: "dashboard", rules: [to_entries[] | {record: "query:\(.key)", expr: .value}]}]}' \
    "$operator/files/dashboard.json" >"$work/queries.yaml" && promtool check rules "$work/queries.yaml"
}

if [ "$cluster" = 1 ]; then prepare || { echo "the cluster could not be prepared" >&2; exit 2; }
else echo "  no API server judges the renderings: set KUBECONFIG"; fi

for chart in chatcluster-crds chatcluster-operator; do check "lint of $chart" helm lint --strict "$root/charts/$chart"; done
check "the definitions" accepted chatcluster-crds
check "the operator as it is" accepted chatcluster-operator
check "everything switched on" accepted chatcluster-operator -f "$here/everything.yaml" --set "image.digest=$digest"
check "two namespaces only" accepted chatcluster-operator --set "watchNamespaces={$ns-a,$ns-b}"
check "one replica" accepted chatcluster-operator --set replicas=1
check "without roles for people" accepted chatcluster-operator --set aggregatedRoles=false
check "a name as long as helm allows" accepted chatcluster-operator --name-template "$long"
check "values of a release before the dashboard" accepted chatcluster-operator --set dashboard=null
check "a registry with a port" accepted chatcluster-operator --set image.repository=localhost:5000/operator,dataplane.image=localhost:5000/dataplane:1

check "a digest goes before the tag" has "image: registry.example/chat/operator@$digest" -f "$here/everything.yaml" --set "image.digest=$digest" --set-string image.tag=1
check "the label namespace stays the cluster's" has "honorLabels: true" --set serviceMonitor.enabled=true
check "Grafana's label" has 'grafana_dashboard: "1"' --set dashboard.enabled=true
check "another label for Grafana" has 'board: mine' --set dashboard.enabled=true,dashboard.labels.board=mine
check "no budget over a single replica" lacks "kind: PodDisruptionBudget" --set replicas=1
check "no right beyond its namespaces" lacks "kind: ClusterRole" --set 'watchNamespaces={a},aggregatedRoles=false'
for off in ServiceMonitor PrometheusRule ConfigMap; do check "no $off by default" lacks "kind: $off"; done

refused "additional properties 'replica' not allowed" --set replica=1
refused "got string, want integer" --set-string replicas=2
refused "got boolean, want string" --set alerts.labels.team=true
refused "value must be one of 'Always', 'IfNotPresent', 'Never'" --set image.pullPolicy=Sometimes
refused "replicas: 0 runs nothing" --set replicas=0
refused "replicas: 6 is more than" --set replicas=6
refused 'image.repository: "a/b:1" is more than a repository' --set image.repository=a/b:1
refused "image.repository is empty" --set image.repository=
refused 'image.tag: "v1/2" is no tag' --set image.tag=v1/2
refused 'image.digest: "latest" is no digest' --set image.digest=latest
refused "redis.image is empty" --set redis.image=
refused 'redis.image: "redis" has no tag and no digest' --set redis.image=redis
refused 'dataplane.image: "a b" has a space' --set 'dataplane.image=a b'
refused 'dataplane.image: "localhost:5000/a" has no tag and no digest' --set dataplane.image=localhost:5000/a
refused 'logLevel: "verbose" is none of error, warn, info, debug, trace' --set logLevel=verbose
refused 'watchNamespaces: "Chat_A" is no name of a namespace' --set 'watchNamespaces={Chat_A}'
refused "watchNamespaces: a comes twice" --set 'watchNamespaces={a,b,a}'
refused 'serviceMonitor.interval: "30" is no time with its unit' --set-string serviceMonitor.interval=30

check "the alerts are well formed" promtool check rules "$operator/files/alerts.yaml"
check "the alerts fire when they should" promtool test rules "$here/alerts_test.yaml"
for said in every_alert_is_seen_to_fire_and_to_be_quiet every_metric_exists assets_are_rendered_as_they_are queries_of_the_dashboard_are_well_formed; do
  check "${said//_/ }" $said
done
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
