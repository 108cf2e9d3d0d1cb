#!/usr/bin/env bash
# What the operator and its charts do on a real Kubernetes. Each case has a namespace of its own; a case that
# this cluster cannot show says why and is counted as skipped. The last line counts.
#
#   E2E_CLUSTER=local      a cluster of its own, made for the run and removed after it
#   E2E_CLUSTER=kind       one of kind's, made for the run and removed after it
#   E2E_CLUSTER=existing   the one of KUBECONFIG, with both charts installed and the images loaded
#   (not set)              local where this machine can; else every case is skipped, and why is said
#   E2E_IDLE=180           seconds of the case that counts writes
#   suite.sh CASE…         only these
set -uo pipefail; here=$(cd "$(dirname "$0")" && pwd); root=$here/../..
provider=${E2E_CLUSTER:-local} idle=${E2E_IDLE:-180}
case $provider in
local)
  if ! why=$("$here/local/possible.sh"); then
    echo "no case of a real Kubernetes was shown here: $why" >&2
    [ -z "${E2E_CLUSTER:-}" ] || exit 1
    echo "0 passed, 0 failed, $(cat "$0" "$here/moves.sh" | grep -c '^case_') skipped"; exit 0
  fi
  export CHATCLUSTER_LOCAL_ID=${CHATCLUSTER_LOCAL_ID:-5}
  trap '"$here/cluster.sh" down' EXIT
  up=$(mktemp)
  "$here/cluster.sh" up >"$up" 2>&1 || { cat "$up" >&2; echo "the local cluster did not come up" >&2; exit 1; }
  rm -f "$up"
  eval "$("$here/cluster.sh" env)"; . "$here/local/env.sh"; audit=$S/log/audit.log first_node=$(netns 1) ;;
kind)
  for one in kind helm kubectl docker; do command -v $one >/dev/null || { echo "E2E_CLUSTER=kind needs $one: https://kind.sigs.k8s.io/docs/user/quick-start" >&2; exit 1; }; done
  KUBECONFIG=$(mktemp); export KUBECONFIG; images=$(mktemp -d)
  trap 'kind delete cluster --name chatcluster-e2e >/dev/null 2>&1; rm -rf "$KUBECONFIG" "$images"' EXIT
  printf 'kind: Cluster\napiVersion: kind.x-k8s.io/v1alpha4\nnodes: [{role: control-plane}, {role: worker}]\n' | kind create cluster --name chatcluster-e2e --wait 2m --config - || exit 1
  "$here/local/images.sh" "$images" "${CARGO_TARGET_DIR:-$root/target}/debug" >/dev/null || exit 1
  for one in "$images"/*.tar; do kind load image-archive "$one" --name chatcluster-e2e || exit 1; done
  "$here/cluster.sh" charts || exit 1; audit= ;;
existing) audit= ;;
*) echo "E2E_CLUSTER is local, kind or existing, not $provider" >&2; exit 2 ;;
esac

fail() { echo "    $*" >&2; return 1; }
k() { kubectl -n "$ns" "$@"; }
until_() { local t=$1 what=$2; shift 2; for ((i = 0; i < t * 5; i++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done; fail "not within $t s: $what"; }
is() { [ "$1" = "$2" ] || fail "$3: $1, not $2"; }
demo() { # [merge patch of the spec]
  python3 - "$root/examples/chatcluster.yaml" "${1:-{\}}" <<'P' | k apply -f - >/dev/null
import json, re, sys
def merge(a, b):
    for key, value in b.items():
        a[key] = merge(a.get(key, {}), value) if isinstance(value, dict) else value
    return {key: value for key, value in a.items() if value is not None}
base = {"gateway": {"replicas": 2}, "exposure": {"page": True}, "redis": {"embedded": {}}}
print(json.dumps({"apiVersion": "chatcluster.dev/v1alpha1", "kind": "ChatCluster", "metadata": {"name": "demo"},
                  "spec": merge(base, json.loads(sys.argv[2]))}))
P
}
ready() { k wait --for=condition=Ready chat/demo --timeout="${1:-60}s" >/dev/null || fail "not Ready: $(reason Ready)"; }
reason() { k get chat demo -o "jsonpath={.status.conditions[?(@.type==\"$1\")].reason} {.status.conditions[?(@.type==\"$1\")].message}"; }
has_reason() { case $(reason "$1") in "$2 "*) ;; *) return 1 ;; esac; }
pods() { k get pods -l chatcluster.dev/component=gateway -o name | sort | tr '\n' ' '; }
. "$here/moves.sh"
none_left() { [ -z "$(k get pods,rs,sts,svc,netpol,pdb,cm,sa -l chatcluster.dev/cluster=demo -o name)" ]; }

case_ready_within_a_minute_and_a_chat_from_a_pod() {
  k apply -f "$root/examples/chatcluster.yaml" >/dev/null && ready 60 || return 1
  k get secret demo-keys -o 'jsonpath={.data.jwt}' | base64 -d >"$work/jwt"
  local token; token=$("${CARGO_TARGET_DIR:-$root/target}/debug/chatctl" token --secret-file "$work/jwt") || return 1
  k run chat --image=chatcluster.test/chatctl:dev --restart=Never --env="CHATCTL_TOKEN=$token" -- --url http://demo chat "[sim tokens=40 rate=40] hello" >/dev/null
  until_ 30 "the chat ends" eval '[ "$(k get pod chat -o jsonpath={.status.phase})" = Succeeded ]' || return 1
  k logs chat | grep -q "digest ok" || fail "$(k logs chat)"
}
case_the_page_through_a_port_forward() {
  demo && ready || return 1
  k port-forward service/demo 18480:80 >/dev/null 2>&1 & local forward=$!
  until_ 10 "the page answers" curl -sf --noproxy '*' http://127.0.0.1:18480/; local code=$?
  curl -s --noproxy '*' http://127.0.0.1:18480/ | grep -qi "<title>ChatCluster" || code=1
  kill $forward; return $code
}
case_an_edit_of_our_field_is_corrected_and_a_foreign_one_left() {
  demo && ready || return 1
  k patch service demo --type=json -p '[{"op":"replace","path":"/spec/ports/0/port","value":81}]' >/dev/null
  k annotate service demo foreign=x >/dev/null
  until_ 15 "the port is 80 again" eval '[ "$(k get service demo -o jsonpath={.spec.ports[*].port})" = 80 ]' || return 1
  is "$(k get service demo -o 'jsonpath={.metadata.annotations.foreign}')" x "the foreign annotation"
}
case_the_scale_subresource() {
  demo && ready && k scale chat demo --replicas=3 >/dev/null || return 1
  until_ 30 "three pods" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.ready})" = 3 ]'
}
case_deleted_and_made_again_with_the_same_keys() {
  demo && ready || return 1
  local key; key=$(k get secret demo-keys -o 'jsonpath={.data.jwt}')
  k delete chat demo --timeout=30s >/dev/null; until_ 60 "all is gone" none_left || return 1
  demo && ready && is "$(k get secret demo-keys -o 'jsonpath={.data.jwt}')" "$key" "the key"
}
case_orphaned_objects_are_taken_up_without_moving_a_pod() {
  demo && ready || return 1
  local before; before=$(pods); k delete chat demo --cascade=orphan >/dev/null; sleep 1
  demo && ready 30 && is "$(pods)" "$before" "the pods" || return 1
  local uid; uid=$(k get chat demo -o 'jsonpath={.metadata.uid}')
  until_ 15 "the new owner" eval '[ "$(k get rs -o jsonpath={.items[*].metadata.ownerReferences[*].uid})" = '"$uid"' ]'
}
case_a_foreign_object_is_left_and_named() {
  k create service clusterip demo --tcp=1:1 >/dev/null; demo
  until_ 15 "ForeignObject" has_reason Ready ForeignObject || return 1
  is "$(k get service demo -o 'jsonpath={.spec.ports[0].port}')" 1 "its port" || return 1
  k delete service demo >/dev/null; ready 60
}
case_a_missing_secret_is_named_and_heals() {
  demo '{"providers":[{"name":"a","type":"openai","baseUrl":"http://10.0.0.1/v1","apiKeySecretRef":{"name":"k","key":"v"}}]}'
  until_ 15 "SecretNotFound" has_reason Ready SecretNotFound || return 1
  k create secret generic k --from-literal=v=x >/dev/null; ready 60
}
case_hibernated_and_woken() {
  demo && ready && demo '{"operation":{"hibernated":true}}' || return 1
  until_ 60 "no pods" eval '[ -z "$(pods)" ]' || return 1
  demo '{"operation":{"hibernated":false}}' && ready 60
}
case_what_is_no_longer_wanted_goes() {
  demo '{"exposure":{"page":false}}' && ready || return 1
  local sets; sets=$(k get rs -o name)
  demo '{"operation":{"hibernated":true}}'; until_ 60 "no pods" eval '[ -z "$(pods)" ]' || return 1
  demo '{"gateway":{"replicas":1},"security":{"networkPolicy":{"enabled":false}},"operation":{"hibernated":false}}' && ready 60 || return 1
  until_ 15 "no policy" eval '[ -z "$(k get netpol -o name)" ]' || return 1
  is "$(k get pdb -o name)" "" "the budgets" && is "$(k get rs -o name | wc -l)" 2 "the ReplicaSets: this one and the one before" || return 1
  is "$(k get "$sets" -o 'jsonpath={.spec.replicas}')" 0 "the pods of the revision before"
}
case_paused_changes_nothing() {
  demo && ready && demo '{"operation":{"paused":true}}' || return 1
  until_ 10 "Paused" has_reason Paused PausedBySpec || return 1
  k scale chat demo --replicas=3 >/dev/null; sleep 3; is "$(pods | wc -w)" 2 "the pods"
}
case_a_missing_optional_api_is_a_condition() {
  kubectl api-resources --api-group=gateway.networking.k8s.io 2>/dev/null | grep -q HTTPRoute && { echo "the Gateway API is installed here"; return 77; }
  demo '{"exposure":{"type":"HTTPRoute","parentRefs":[{"name":"gw"}]}}'
  until_ 30 "GatewayApiNotInstalled" has_reason ExposureReady GatewayApiNotInstalled && has_reason Available PodsReady || until_ 30 "Available" has_reason Available PodsReady
}
case_hostile_objects_are_refused_with_words_that_help() {
  python3 "$here/hostile.py" "$root/crds/tests/hostile.yaml" "$ns"
}
case_a_namespace_is_deleted_while_the_operator_is_gone() {
  demo && ready || return 1
  kubectl -n chatcluster-system scale deployment chatcluster --replicas=0 >/dev/null
  kubectl delete namespace "$ns" --timeout=60s >/dev/null; local code=$?
  kubectl -n chatcluster-system scale deployment chatcluster --replicas=2 >/dev/null
  kubectl -n chatcluster-system rollout status deployment chatcluster --timeout=60s >/dev/null; return $code
}
case_another_operator_moves_no_pod() {
  demo && ready || return 1
  local before; before=$(pods)
  kubectl -n chatcluster-system set env deployment/chatcluster OPERATOR_DATAPLANE_IMAGE=example.com/other:9 RUST_LOG=debug >/dev/null
  kubectl -n chatcluster-system rollout status deployment chatcluster --timeout=60s >/dev/null
  k delete "$(pods | cut -d' ' -f1)" --wait=false >/dev/null
  until_ 60 "two pods again" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.ready})" = 2 ]' && ready 30; local code=$?
  is "$(k get pods -l chatcluster.dev/component=gateway -o 'jsonpath={.items[*].spec.containers[0].image}' | tr ' ' '\n' | sort -u | wc -l)" 1 "images" || code=1
  case " $(pods)" in *" $(echo "$before" | cut -d' ' -f2) "*) ;; *) fail "the other pod was moved"; code=1 ;; esac
  kubectl -n chatcluster-system set env deployment/chatcluster OPERATOR_DATAPLANE_IMAGE=chatcluster.test/dataplane:dev RUST_LOG=info >/dev/null
  kubectl -n chatcluster-system rollout status deployment chatcluster --timeout=60s >/dev/null; return $code
}
holder() { kubectl -n chatcluster-system get lease chatcluster -o 'jsonpath={.spec.holderIdentity}'; }
leader() { local pod; pod=$(holder); grep -lzx "POD_NAME=${pod%_*}" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | head -1; } # its process, of a local cluster
case_another_replica_takes_over() {
  until_ 30 "a holder" eval '[ -n "$(holder)" ]' || return 1
  local first begun; first=$(holder); begun=$(date +%s%N)
  kubectl -n chatcluster-system delete pod "${first%_*}" --wait=false >/dev/null
  until_ 20 "another holder" eval '[ -n "$(holder)" ] && [ "$(holder)" != '"'$first'"' ]' || return 1
  local released=$((($(date +%s%N) - begun) / 1000000)); first=$(holder)
  until_ 30 "two replicas" eval '[ "$(kubectl -n chatcluster-system get deployment chatcluster -o jsonpath={.status.readyReplicas})" = 2 ]' || return 1
  begun=$(date +%s%N); kubectl -n chatcluster-system delete pod "${first%_*}" --grace-period=0 --force >/dev/null 2>&1
  until_ 25 "another holder" eval '[ -n "$(holder)" ] && [ "$(holder)" != '"'$first'"' ]' || return 1
  echo "released $released ms, forced $((($(date +%s%N) - begun) / 1000000)) ms"
  [ "$released" -le 5000 ] || fail "a released lease took $released ms"
}
case_the_leader_is_killed() {
  [ "$provider" = local ] || { echo "kills a process of a node: E2E_CLUSTER=local"; return 77; }
  local first begun pid; first=$(holder); pid=$(leader)
  [ -n "$pid" ] || { fail "no process of ${first%_*}"; return 1; }
  begun=$(date +%s%N); kill -9 "$pid"
  until_ 25 "another holder" eval '[ "$(holder)" != '"$first"' ]' || return 1
  local took=$((($(date +%s%N) - begun) / 1000000)); echo "$took ms"
  [ "$took" -le 20000 ] || { fail "20 s are promised"; return 1; }
  kubectl -n chatcluster-system rollout status deployment chatcluster --timeout=60s >/dev/null
}
case_the_gateway_api_appears_and_the_route_is_made() {
  [ "$provider" = local ] || { echo "installs a definition: E2E_CLUSTER=local"; return 77; }
  demo '{"exposure":{"type":"HTTPRoute","parentRefs":[{"name":"gw"}]}}'
  until_ 30 "GatewayApiNotInstalled" has_reason ExposureReady GatewayApiNotInstalled || return 1
  kubectl apply -f "$here/httproute.yaml" >/dev/null; local code=0
  until_ 40 "the route" k get httproute demo && until_ 20 "another reason" eval '! has_reason ExposureReady GatewayApiNotInstalled' || code=1
  [ "$code" = 1 ] || { demo '{"exposure":{"type":"ClusterIP"}}'
    until_ 20 "no route" eval '[ -z "$(k get httproute -o name)" ]' || code=1; }
  kubectl delete crd httproutes.gateway.networking.k8s.io >/dev/null; return $code
}
now() { date -u +%Y-%m-%dT%H:%M:%S.%6NZ; }
# While its rights are taken from it or given to it, an operator that is on its way out is refused things. That time
# is written down, until only pods of afterwards are left.
while_its_rights_change() {
  local begun; begun=$(now); "$@"; local code=$?
  until_ 40 "its pods of before are gone" eval '[ "$(kubectl -n chatcluster-system get pods -l app.kubernetes.io/name=chatcluster-operator -o name | wc -l)" = 2 ]' || code=1
  echo "[\"$begun\", \"$(now)\"]" >>"$work/changes"; return $code
}
in_charge_of() { # a JSON list of namespaces; an empty one: all of them
  while_its_rights_change helm upgrade chatcluster "$root/charts/chatcluster-operator" -n chatcluster-system --reuse-values --set-json "watchNamespaces=$1" --wait --timeout 90s >/dev/null
}
case_an_operator_of_two_namespaces_only() {
  [ "$provider" = local ] || { echo "changes the operator's rights: E2E_CLUSTER=local"; return 77; }
  local account=system:serviceaccount:chatcluster-system:chatcluster code=0
  kubectl create namespace "$ns-b" >/dev/null; kubectl create namespace "$ns-c" >/dev/null
  in_charge_of "[\"$ns\", \"$ns-b\"]" || return 1
  demo && ready 60 && (ns=$ns-b; demo && ready 60) || code=1
  (ns=$ns-c; demo); sleep 3
  is "$(kubectl -n "$ns-c" get chat demo -o 'jsonpath={.status}')" "" "the status of a ChatCluster that is not its own" || code=1
  for asked in "list configmaps" "list chatclusters.chatcluster.dev" "patch services" "get secrets"; do
    # shellcheck disable=SC2086
    [ "$(kubectl auth can-i $asked --as=$account -n "$ns-c" 2>/dev/null)" = no ] || { fail "it may $asked elsewhere"; code=1; }
    # shellcheck disable=SC2086
    [ "$(kubectl auth can-i $asked --as=$account -n "$ns-b" 2>/dev/null)" = yes ] || { fail "it may not $asked here"; code=1; }
  done
  is "$(kubectl get clusterrole chatcluster -o name 2>/dev/null)" "" "a ClusterRole" || code=1
  [ -z "$audit" ] || python3 "$here/rights.py" "$audit" "$ns" || code=1
  in_charge_of "[]" || code=1
  kubectl delete namespace "$ns-b" "$ns-c" --wait=false >/dev/null; return $code
}
case_the_charts_render_refuse_and_alert() {
  command -v promtool >/dev/null || { echo "promtool is missing: apt-get install prometheus"; return 77; }
  local said; said=$("$root/tests/charts/check.sh" 2>&1); local code=$?
  if [ $code = 0 ]; then echo "$said" | tail -1; else echo "$said"; fi; return $code
}
case_a_definition_that_lacks_a_field_is_named() {
  [ "$provider" = local ] || { echo "changes the definition: E2E_CLUSTER=local"; return 77; }
  local code=0 field=/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/observability/properties/tracing
  helm test chatcluster -n chatcluster-system --timeout 60s >/dev/null || { fail "helm test of the chart as it is"; return 1; }
  kubectl patch crd chatclusters.chatcluster.dev --type=json -p "[{\"op\":\"remove\",\"path\":\"$field\"}]" >/dev/null || return 1
  helm test chatcluster -n chatcluster-system --timeout 60s >/dev/null 2>&1 && { fail "helm test saw nothing"; code=1; }
  kubectl -n chatcluster-system logs -l app.kubernetes.io/component=test | grep -q 'observability.tracing' || { fail "helm test did not name it"; code=1; }
  kubectl -n chatcluster-system rollout restart deployment chatcluster >/dev/null
  kubectl -n chatcluster-system rollout status deployment chatcluster --timeout=60s >/dev/null
  demo '{"exposure":{"type":"ClusterIP"}}'
  until_ 40 "a condition that names it" eval 'k get chat demo -o jsonpath={.status.conditions} | grep -q "observability.tracing"' || code=1
  kubectl apply --server-side --force-conflicts --field-manager=helm -f "$root/crds/chatcluster.yaml" >/dev/null || code=1
  helm test chatcluster -n chatcluster-system --timeout 60s >/dev/null || { fail "helm test after the repair"; code=1; }
  return $code
}
case_the_operator_goes_and_comes_back() {
  demo && ready || return 1
  local before; before=$(pods)
  helm get values chatcluster -n chatcluster-system -o json >"$work/values.json"
  again() {
    helm uninstall chatcluster -n chatcluster-system --wait >/dev/null || return 1
    is "$(pods)" "$before" "the pods while it is gone" || return 1
    helm install chatcluster "$root/charts/chatcluster-operator" -n chatcluster-system -f "$work/values.json" --wait --timeout 60s >/dev/null
  }
  while_its_rights_change again || return 1
  k scale chat demo --replicas=3 >/dev/null
  until_ 60 "three pods" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.ready})" = 3 ]' || return 1
  for pod in $before; do k get "$pod" >/dev/null || return 1; done
}
case_idle_clusters_cost_no_write() {
  [ -n "$audit" ] || { echo "needs the API server's audit log: E2E_CLUSTER=local"; return 77; }
  demo '{"gateway":{"replicas":1}}' && ready || return 1
  for n in $(seq 9); do
    kubectl -n "$ns" get chat demo -o json | jq "{apiVersion, kind, metadata: {name: \"demo-$n\"}, spec}" | k apply -f - >/dev/null
  done
  for n in $(seq 9); do k wait --for=condition=Ready "chat/demo-$n" --timeout=90s >/dev/null || return 1; done
  sleep 5; local begun; begun=$(date -u +%Y-%m-%dT%H:%M:%S); sleep "$idle"
  local writes; writes=$(jq -r --arg since "$begun" 'select(.stageTimestamp > $since and (.verb | IN("get","list","watch") | not) and .objectRef.resource != "leases") | "\(.verb) \(.objectRef.resource)"' "$audit" | sort | uniq -c)
  [ -z "$writes" ] || { fail "writes while idle: $writes"; return 1; }
  local kib; kib=$(awk '/^RssAnon/ {print $2}' "/proc/$(leader)/status")
  echo "the leader has $kib KiB of its own"
  [ "$kib" -le 20480 ] || fail "20 MiB are promised"
}
case_the_operator_is_refused_nothing_and_has_no_right_in_vain() {
  [ -n "$audit" ] || { echo "needs the API server's audit log: E2E_CLUSTER=local"; return 77; }
  touch "$work/changes"
  local refused; refused=$(jq -r --slurpfile changes "$work/changes" 'select(.responseStatus.code == 403 and ((.responseStatus.message // "") | contains("being terminated") | not)
    and (.requestReceivedTimestamp as $t | any($changes[]; .[0] <= $t and $t <= .[1]) | not)) | "\(.verb) \(.objectRef.resource)"' "$audit" | sort -u)
  [ -z "$refused" ] || { fail "refused: $refused"; return 1; }
  python3 "$here/rights.py" "$audit"
}
case_the_operator_may_do_nothing_else() {
  local account=system:serviceaccount:chatcluster-system:chatcluster
  for asked in "list secrets" "watch secrets" "delete secrets" "create pods" "update pods" "get nodes" "create clusterroles" "update chatclusters" "delete chatclusters" "create deployments" "get leases"; do
    # shellcheck disable=SC2086
    [ "$(kubectl auth can-i $asked --as=$account -n "$ns" 2>/dev/null)" = no ] || { fail "it may $asked"; return 1; }
  done
}

work=$(mktemp -d); passed=0 failed=0 skipped=0
wanted=$*; [ -n "$wanted" ] || wanted=$(declare -F | awk '$3 ~ /^case_/ {print substr($3, 6)}')
# They look at what the others did.
for last in an_operator_of_two_namespaces_only the_operator_is_refused_nothing_and_has_no_right_in_vain; do
  case " $(echo $wanted) " in *" $last "*) wanted="$(echo $wanted | sed "s/\b$last\b//") $last" ;; esac
done
for one in $wanted; do
  ns=e2e-$(echo "$one" | sha256sum | cut -c1-8); begun=$(date +%s%N)
  kubectl create namespace "$ns" >/dev/null 2>&1
  said=$("case_$one" 2>&1); code=$?
  seconds=$(awk "BEGIN {printf \"%.1f\", ($(date +%s%N) - $begun) / 1e9}")
  case $code in
  0) passed=$((passed + 1)); printf '  ok   %6s s  %s%s\n' "$seconds" "${one//_/ }" "${said:+ ($said)}" ;;
  77) skipped=$((skipped + 1)); printf '  skip %6s s  %s: %s\n' "$seconds" "${one//_/ }" "$said" ;;
  *) failed=$((failed + 1)); printf '  FAIL %6s s  %s\n%s\n' "$seconds" "${one//_/ }" "$said" ;;
  esac
  kubectl delete namespace "$ns" --wait=false >/dev/null 2>&1
done
rm -rf "$work"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
