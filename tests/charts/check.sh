#!/usr/bin/env bash
# What the charts render, what they refuse, and when their alerts fire. Needs helm, kubectl with a cluster
# that has no ServiceMonitor of its own (it checks each rendering without keeping it) and promtool (Debian:
# prometheus). The last line counts.
set -uo pipefail; here=$(cd "$(dirname "$0")" && pwd); charts=$here/../../charts
passed=0 failed=0
ok() { passed=$((passed + 1)); echo "  ok    $1"; }
bad() { failed=$((failed + 1)); printf '  FAIL  %s\n%s\n' "$1" "$2"; }
check() { local what=$1 said; shift; if said=$("$@" 2>&1); then ok "$what"; else bad "$what" "$said"; fi; }
digest=sha256:$(printf x | sha256sum | cut -d' ' -f1)

accepted() { # chart, then what helm is told; every object passes the API server's checks
  local chart=$1; shift
  render() { helm template --kube-version 1.34.0 "$charts/$chart" --name-template chart-check --namespace chart-check "$@"; }
  # A pod is refused where its account is not there: the chart's test has one.
  [ "$chart" = chatcluster-crds ] || render "$@" -s templates/account.yaml | kubectl apply -f - >/dev/null || return 1
  render "$@" | kubectl apply --dry-run=server -f - >/dev/null
}
refused() { # the sentence that must come, then what helm is told
  local sentence=$1 said; shift
  said=$(helm template --kube-version 1.34.0 chart-check "$charts/chatcluster-operator" "$@" 2>&1) && { bad "refuses $*" "it rendered"; return; }
  case $said in *"$sentence"*) ok "refuses $*" ;; *) bad "refuses $*" "no \"$sentence\" in: $said" ;; esac
}

for namespace in chart-check chart-check-a chart-check-b; do kubectl create namespace $namespace >/dev/null; done
kubectl apply -f "$here/monitoring.yaml" >/dev/null
kubectl wait --for=condition=Established -f "$here/monitoring.yaml" >/dev/null
trap 'kubectl delete -f "$here/monitoring.yaml" --wait=false >/dev/null; kubectl delete namespace chart-check chart-check-a chart-check-b --wait=false >/dev/null' EXIT

check "lint of the definitions" helm lint --strict "$charts/chatcluster-crds"
check "lint of the operator" helm lint --strict "$charts/chatcluster-operator"
check "the definitions" accepted chatcluster-crds
check "the operator as it is" accepted chatcluster-operator
check "everything switched on" accepted chatcluster-operator -f "$here/everything.yaml" --set "image.digest=$digest"
check "two namespaces only" accepted chatcluster-operator --set 'watchNamespaces={chart-check-a,chart-check-b}'
check "one replica" accepted chatcluster-operator --set replicas=1
check "without roles for people" accepted chatcluster-operator --set aggregatedRoles=false
check "a name as long as helm allows" accepted chatcluster-operator --name-template "$(printf 'a%.0s' {1..53})"
namespaced=$(helm template --kube-version 1.34.0 chart-check "$charts/chatcluster-operator" --set 'watchNamespaces={a}' --set aggregatedRoles=false)
case $namespaced in *"kind: ClusterRole"*) bad "no right beyond its namespaces" "a ClusterRole" ;; *) ok "no right beyond its namespaces" ;; esac

refused 'replica' --set replica=1
refused "replicas: 0 runs nothing" --set replicas=0
refused "replicas: 6 is more than" --set replicas=6
refused 'image.digest: "latest" is no digest' --set image.digest=latest
refused "image.tag: \"v1/2\" is no tag" --set image.tag=v1/2
refused "logLevel: \"verbose\" is none of error, warn, info, debug, trace" --set logLevel=verbose
refused 'watchNamespaces: "Chat_A" is no name of a namespace' --set 'watchNamespaces={Chat_A}'
refused "watchNamespaces: a comes twice" --set 'watchNamespaces={a,a}'
refused 'serviceMonitor.interval: "30" needs a unit' --set-string serviceMonitor.interval=30
refused "redis.image is empty" --set redis.image=
refused 'dataplane.image: "a b" has a space' --set 'dataplane.image=a b'
refused "got boolean, want string" --set alerts.labels.team=true

check "the alerts are well formed" promtool check rules "$charts/chatcluster-operator/files/alerts.yaml"
check "the alerts fire when they should" promtool test rules "$here/alerts_test.yaml"
alerts=$(grep -c '^  - alert:' "$charts/chatcluster-operator/files/alerts.yaml")
tested=$(grep -o 'alertname: [A-Za-z]*' "$here/alerts_test.yaml" | sort -u | wc -l)
check "every alert is tested ($tested of $alerts)" test "$alerts" = "$tested"
check "the dashboard is JSON" python3 -m json.tool "$charts/chatcluster-operator/files/dashboard.json"
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
