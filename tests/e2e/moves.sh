# Sourced by suite.sh: cases in which a fleet moves under load. `chatctl soak` holds 200 sockets, half of them basic,
# each with one answer after the other, and judges every chunk; a case names its phases.

fleet() { # [merge patch]: three pods that take 90 sessions each, Redis on node 1
  local base='{"gateway":{"replicas":3,"limits":{"sessionsPerPod":90}},"rollout":{"progressDeadline":"1m"},
    "limits":{"perUser":{"requestsPerMinute":100000,"requestBurst":10000,"sockets":1000,"answers":1000}},
    "redis":{"embedded":{"placement":{"nodeSelector":{"kubernetes.io/hostname":"'${first_node:-}'"}}}}}'
  [ -n "${first_node:-}" ] || base=$(echo "$base" | jq -c 'del(.redis.embedded.placement)')
  demo "$(jq -cn --argjson a "$base" --argjson b "${1:-{\}}" '$a * $b')"
}
load() { # starts it; afterwards `phase NAME`, `judge`
  k get secret demo-keys -o 'jsonpath={.data.jwt}' | base64 -d >"$work/jwt"
  local chatctl="${CARGO_TARGET_DIR:-$root/target}/debug/chatctl"
  CHATCTL_TOKEN=$("$chatctl" token --secret-file "$work/jwt" --ttl 1h) || return 1
  export CHATCTL_TOKEN
  rm -f "$work/say"; mkfifo "$work/say"
  "$chatctl" --url "http://$(k get service demo -o 'jsonpath={.spec.clusterIP}')" --json soak "$@" <"$work/say" >"$work/soak.json" 2>"$work/soak.err" &
  soak=$!; exec 8>"$work/say"
  until_ 60 "200 answers" eval '[ "$(answers)" -ge 200 ]'
}
answers() { tail -1 "$work/soak.err" | sed 's/.*: \([0-9]*\) answers.*/\1/'; }
phase() { echo "phase $1" >&8; }
figures() { jq -r '.phases[] | "\(.name): \(.seconds | floor) s, \(.answers) answers, lost \(.lost), twice \(.twice), hung \(.hung), RESET \(.resets), INTERRUPTED \(.interrupted), reconnects \(.reconnects), gap p99 v1 \(.gapMs.v1.p99 | floor) ms, basic \(.gapMs.basic.p99 | floor) ms, longest \([.gapMs.v1.max, .gapMs.basic.max] | max | floor) ms"' "$work/soak.json" | tee -a "${E2E_FIGURES:-/dev/null}" | sed 's/^/    /'; }
judge() { # ends it: nothing lost, twice, reordered, wrong or hung
  echo end >&8; exec 8>&-
  wait "$soak"; local code=$?
  echo; figures
  [ $code = 0 ] || fail "the soak ended with $code: $(jq -c '.total | {lost, twice, reordered, wrong, hung, problems}' "$work/soak.json") $(tail -2 "$work/soak.err")"
}
phase_of() { jq "first(.phases[] | select(.name == \"$1\")) | $2" "$work/soak.json"; }
rests() { # SECONDS: as the spec has it, and nothing on its way out
  until_ "$1" "it rests: $(reason Progressing)" eval '[ "$(k get chat demo -o "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} {.status.gateway.draining} {.status.observedGeneration}")" = "True 0 $(k get chat demo -o jsonpath={.metadata.generation})" ]'
}
restart() { k patch chat demo --type=merge -p "{\"spec\":{\"operation\":{\"restartedAt\":\"2026-01-01T00:00:$(printf %02d "$1")Z\"}}}" >/dev/null; }
process_of() { grep -lzx "POD_NAME=$1" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3 | head -1; } # of a pod of the local cluster
busiest_pod() { # the one with the most sessions, by what the nodes say
  local key pod address; key=$(k get secret demo-keys -o 'jsonpath={.data.admin}' | base64 -d)
  k get pods -l chatcluster.dev/component=gateway,chatcluster.dev/pool=active "$@" -o 'jsonpath={range .items[*]}{.metadata.name} {.status.podIP}{"\n"}{end}' | while read -r pod address; do
    echo "$(curl -s --noproxy '*' -m 2 -H "authorization: Bearer $key" "http://$address:8081/admin/drain" | jq '.sessions // 0') $pod"
  done | sort -rn | head -1 | cut -d' ' -f2
}
sessions_on() { # NODE
  local key address sum=0; key=$(k get secret demo-keys -o 'jsonpath={.data.admin}' | base64 -d)
  for address in $(k get pods -l chatcluster.dev/component=gateway,chatcluster.dev/pool=active --field-selector "spec.nodeName=$1" -o 'jsonpath={.items[*].status.podIP}'); do
    sum=$((sum + $(curl -s --noproxy '*' -m 2 -H "authorization: Bearer $key" "http://$address:8081/admin/drain" | jq '.sessions // 0')))
  done
  echo "$sum"
}
carried_by_node_2() { # so that what happens to it is felt
  local n; for n in 1 2 3; do
    [ "$(sessions_on "$(netns 2)")" -lt 20 ] || return 0
    kubectl cordon "$first_node" >/dev/null
    k label pod "$(busiest_pod --field-selector "spec.nodeName=$first_node")" chatcluster.dev/pool=draining --overwrite >/dev/null; sleep 2; rests 60
    kubectl uncordon "$first_node" >/dev/null
  done
  [ "$(sessions_on "$(netns 2)")" -ge 20 ] || fail "node 2 carries $(sessions_on "$(netns 2)") sessions"
}
first_pod() { k get pods -l chatcluster.dev/component=gateway,chatcluster.dev/pool=active "$@" -o 'jsonpath={.items[0].metadata.name}'; }

case_three_rollouts_under_load_and_two_that_fail() {
  fleet && ready 60 && load || return 1
  local code=0 n; sleep 20
  for n in 1 2 3; do
    phase "rollout $n"; restart "$n"
    until_ 20 "it rolls out" has_reason Progressing RollingOut || code=1
    if [ "$n" = 2 ] && [ "$provider" = local ]; then sleep 6; kill -9 "$(leader)"; fi
    rests 180 || code=1
  done
  phase between; sleep 12
  local before; before=$(pods)
  for n in '{"repository":"chatcluster.test/nowhere","tag":"dev"}' '{"repository":"chatcluster.test/chatctl","tag":"dev"}'; do
    phase "bad image"; k patch chat demo --type=merge -p "{\"spec\":{\"image\":$n}}" >/dev/null
    until_ 120 "RolledBack" has_reason Ready RolledBack || code=1
    until_ 60 "as it was" eval '[ "$(pods)" = "$before" ]' || code=1
    until_ 15 "Available, and not Progressing" eval 'has_reason Available PodsReady && has_reason Progressing AsSpecified' || code=1
    k patch chat demo --type=json -p '[{"op":"remove","path":"/spec/image"}]' >/dev/null; rests 60 || code=1
  done
  judge || code=1
  is "$(jq '[.phases[] | select(.name == "bad image") | .reconnects] | add' "$work/soak.json")" 0 "reconnects while bad images were tried" || code=1
  local calm; calm=$(phase_of begin .gapMs.v1.p99)
  for n in 1 2 3; do
    jq -en "$(phase_of "rollout $n" .gapMs.v1.p99) <= 5 * $calm" >/dev/null || { fail "rollout $n: gap p99 $(phase_of "rollout $n" .gapMs.v1.p99) ms, undisturbed $calm ms"; code=1; }
  done
  return $code
}
case_scaled_under_load_and_pods_that_go() {
  fleet '{"gateway":{"limits":{"sessionsPerPod":110}}}' && ready 60 && load || return 1
  local code=0 pod node
  phase "3 to 5"; k scale chat demo --replicas=5 >/dev/null; until_ 60 "five pods" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.ready})" = 5 ]' && rests 60 || code=1
  phase "5 to 2"; k scale chat demo --replicas=2 >/dev/null; until_ 120 "two pods" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.replicas})" = 2 ]' && rests 120 || code=1
  phase "2 to 3"; k scale chat demo --replicas=3 >/dev/null; until_ 60 "three pods" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.ready})" = 3 ]' && rests 60 || code=1
  phase "a pod deleted"; pod=$(busiest_pod); k delete pod "$pod" --wait=false >/dev/null; until_ 90 "it is gone" eval '! k get pod "$pod"' && rests 60 || code=1
  phase "a pod drained by hand"; pod=$(busiest_pod); k label pod "$pod" chatcluster.dev/pool=draining --overwrite >/dev/null; until_ 90 "it is gone" eval '! k get pod "$pod"' && rests 60 || code=1
  if [ -n "${first_node:-}" ]; then
    phase "a machine drained"; node=$(netns 2); kubectl drain "$node" --ignore-daemonsets --delete-emptydir-data --pod-selector=chatcluster.dev/component=gateway --timeout=120s >/dev/null 2>&1 || { fail "kubectl drain"; code=1; }
    rests 90 || code=1; kubectl uncordon "$node" >/dev/null
  fi
  judge || code=1; return $code
}
case_the_number_of_pods_follows_the_load() {
  fleet '{"gateway":{"replicas":null,"autoscaling":{"min":2,"max":5,"target":{"sessionsPerPod":60}},"limits":{"sessionsPerPod":150}}}' && ready 60 || return 1
  is "$(k get chat demo -o 'jsonpath={.status.gateway.desired}')" 2 "the pods without load" && load || return 1
  local code=0; until_ 60 "four pods for 200 sessions" eval '[ "$(k get chat demo -o "jsonpath={.status.gateway.desired} {.status.gateway.ready}")" = "4 4" ]' || code=1
  judge || code=1; return $code
}
case_a_horizontal_pod_autoscaler_says_how_many() {
  [ "$provider" = local ] || { echo "brings a metrics API of its own: E2E_CLUSTER=local"; return 77; }
  demo && ready || return 1
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=metrics -keyout "$work/metrics.key" -out "$work/metrics.crt" 2>/dev/null || return 1
  echo 200Mi >"$work/usage"
  # Beside the API server, and not of a function: its number is the program's own.
  nsenter --net="/run/netns/$(netns 1)" python3 "$here/metrics_api.py" "$work/metrics.crt" "$work/metrics.key" "$work/usage" >/dev/null 2>&1 &
  local code=0 server=$!
  sed "s/{name: demo}/{name: demo, namespace: $ns}/" "$here/autoscaler.yaml" | kubectl apply -f - >/dev/null || code=1
  until_ 60 "three pods for 200Mi each" eval '[ "$(k get chat demo -o "jsonpath={.spec.gateway.replicas} {.status.gateway.ready}")" = "3 3" ]' || { k describe hpa demo | tail -12; code=1; }
  echo 10Mi >"$work/usage"
  until_ 60 "two pods for 10Mi each" eval '[ "$(k get chat demo -o "jsonpath={.spec.gateway.replicas} {.status.gateway.replicas}")" = "2 2" ]' && rests 60 || code=1
  k get events -o 'jsonpath={.items[*].reason}' | grep -q DrainCompleted || { fail "the pod was not drained"; code=1; }
  is "$(k get chat demo -o json --show-managed-fields | jq '[.metadata.managedFields[] | select(.manager == "chatcluster-operator") | .fieldsV1 | has("f:spec")] | any')" false "whether the operator owns a field of the spec" || code=1
  kubectl delete apiservice v1beta1.metrics.k8s.io >/dev/null; kubectl -n kube-system delete service metrics >/dev/null
  kill "$server"; wait "$server" 2>/dev/null; return $code
}
case_faults_under_load() {
  [ "$provider" = local ] || { echo "breaks machines: E2E_CLUSTER=local"; return 77; }
  fleet '{"gateway":{"limits":{"sessionsPerPod":220}}}' && ready 60 || return 1
  is "$(k get pod demo-redis-0 -o 'jsonpath={.spec.nodeName}')" "$first_node" "the machine of Redis" && load --slack 120s || return 1
  local code=0 pod
  phase "a container killed"; pod=$(busiest_pod); kill -9 "$(process_of "$pod")"; sleep 4; rests 90 || code=1
  phase "a container killed in a drain"; pod=$(busiest_pod); k label pod "$pod" chatcluster.dev/pool=draining --overwrite >/dev/null
  until_ 10 "it drains" eval '[ "$(k get chat demo -o jsonpath={.status.gateway.draining})" = 1 ]'; kill -9 "$(process_of "$pod")"; until_ 60 "it is gone" eval '! k get pod "$pod"' && rests 60 || code=1
  phase "a pod deleted by force"; k delete pod "$(busiest_pod)" --grace-period=0 --force >/dev/null 2>&1; sleep 4; rests 90 || code=1
  phase "the operator killed"; kill -9 "$(leader)"; sleep 10
  phase "the operator's lease deleted"; kubectl -n chatcluster-system delete lease chatcluster >/dev/null; until_ 40 "another lease" eval '[ -n "$(holder)" ]' || code=1
  phase "onto node 2"; carried_by_node_2 || code=1
  phase "node 2 slowed"; tc qdisc add dev "${name}h2" root tbf rate 2mbit burst 32kbit latency 400ms; sleep 20; tc qdisc del dev "${name}h2" root
  phase "node 2 cut"; ip link set "${name}h2" down; sleep 30; ip link set "${name}h2" up; sleep 10; rests 120 || code=1
  phase "onto node 2"; carried_by_node_2 || code=1
  phase "node 2 without kubelet"; local kubelet; read -r kubelet _ <"$S/run/kubelet-2.pid"; kill -9 "$kubelet"; sleep 75; BIN=$(dirname "$(command -v kubelet)") start_kubelet 2; rests 120 || code=1
  phase "Redis deleted"; k delete pod demo-redis-0 --wait=false >/dev/null; sleep 15; rests 120 || code=1
  phase after; sleep 15
  judge || code=1
  jq -e 'any(.phases[]; .name == "node 2 cut" and .reconnects > 0)' "$work/soak.json" >/dev/null || { fail "nobody felt that node 2 was cut"; code=1; }
  return $code
}
reports() { # FIELD: of every active pod, from here
  local key address; key=$(k get secret demo-keys -o 'jsonpath={.data.admin}' | base64 -d)
  for address in $(k get pods -l chatcluster.dev/pool=active -o 'jsonpath={.items[*].status.podIP}'); do
    curl -s --noproxy '*' -H "authorization: Bearer $key" "http://$address:8081/admin/drain" | jq -c "$1"
  done | sort -u | tr '\n' ' '
}
case_running_pods_take_up_limits_and_keys() {
  demo && ready || return 1
  local before; before=$(pods)
  demo '{"gateway":{"limits":{"sessionsPerPod":77}}}'
  until_ 120 "every pod takes 77 sessions" eval '[ "$(reports .capacity)" = "77 " ]' || return 1
  k patch secret demo-keys --type=merge -p "{\"stringData\":{\"resume-previous\":\"$(head -c 40 /dev/urandom | base64 -w0)\"}}" >/dev/null
  until_ 120 "every pod accepts two keys" eval '[ "$(reports ".keyIds.resume | length")" = "2 " ]' || return 1
  is "$(pods)" "$before" "the pods" && ready 15
}
case_keys_are_exchanged_while_every_pod_runs() {
  local chat="${CARGO_TARGET_DIR:-$root/target}/debug/kubectl-chat"
  demo && ready || return 1
  local before first id; before=$(pods); first=$(reports .keyIds.resume)
  "$chat" -n "$ns" rotate-keys demo >/dev/null || return 1
  until_ 20 "Published" eval '[ "$(k get chat demo -o jsonpath={.status.keyRotation.step})" = Published ]' || return 1
  "$chat" -n "$ns" rotate-keys demo >/dev/null 2>&1 && { fail "a second exchange beside the first"; return 1; }
  "$chat" -n "$ns" status demo | grep -q "^keys: Published, waits for pods to have the new keys: demo-" || { fail "$("$chat" -n "$ns" status demo 2>&1)"; return 1; }
  id=$(k get secret demo-keys -o 'jsonpath={.data.resume-previous}' | base64 -d | sha256sum | cut -c1-10)
  # Kubelets take a change of a Secret up within a minute or two; a changed annotation has them look at once.
  poked() { k annotate pods -l chatcluster.dev/component=gateway "poked=$(date +%s)" --overwrite >/dev/null; eval "$1"; }
  until_ 120 "every pod signs with the new key" poked '[ "$(reports ".keyIds.resume[0]")" = "\"$id\" " ]' || return 1
  until_ 30 "Signing" eval '[ "$(k get chat demo -o jsonpath={.status.keyRotation.step})" = Signing ]' || return 1
  [ "$(reports '.keyIds.resume | length')" = "2 " ] || { fail "the old key is gone too early"; return 1; }
  case $first in *"$id"*) fail "the key is the old one"; return 1 ;; esac
  # A quarter of an hour ago.
  k annotate secret demo-keys chatcluster.dev/key-rotation-since=2026-01-01T00:00:00Z --overwrite >/dev/null
  k annotate chat demo poked=1 >/dev/null
  until_ 30 "the old keys are gone" eval '[ -z "$(k get secret demo-keys -o jsonpath={.data.resume-previous}{.data.admin-previous})" ]' || return 1
  is "$(k get secret demo-keys -o 'jsonpath={.data.resume}' | base64 -d | sha256sum | cut -c1-10)" "$id" "the key that signs" || return 1
  is "$(pods)" "$before" "the pods" && ready 15 && is "$(k get chat demo -o 'jsonpath={.status.keyRotation}')" "" "the exchange"
}
case_kubectl_chat() {
  local chat="${CARGO_TARGET_DIR:-$root/target}/debug/kubectl-chat"
  demo && ready || return 1
  local pod; pod=$(first_pod)
  "$chat" -n "$ns" status demo | grep -q "^$pod .*serving" || { fail "status: $("$chat" -n "$ns" status demo 2>&1)"; return 1; }
  "$chat" -n "$ns" sessions demo | grep -q "^0 sessions, 0 live answers, 0 pods unknown" || { fail "sessions: $("$chat" -n "$ns" sessions demo 2>&1)"; return 1; }
  "$chat" -n "$ns" plan demo | grep -q "^no pod is exchanged" || { fail "plan: $("$chat" -n "$ns" plan demo 2>&1)"; return 1; }
  "$chat" -n "$ns" plan demo | true || { fail "a reader that has seen enough"; return 1; }
  k get chat demo -o json | jq '.spec.observability.logLevel = "debug"' >"$work/new.json"
  is "$("$chat" -n "$ns" plan demo -f "$work/new.json" --json | jq -c '[.exchangedPods, .movedSessions]')" "[2,0]" "what another spec would move" || return 1
  "$chat" -n "$ns" rollout pause demo >/dev/null && until_ 10 "Paused" has_reason Paused PausedBySpec || return 1
  "$chat" -n "$ns" rollout resume demo >/dev/null && ready 15 || return 1
  "$chat" -n "$ns" rollout abort demo >/dev/null 2>&1 && { fail "abort of nothing"; return 1; }
  "$chat" -n "$ns" drain demo "$pod" >/dev/null && until_ 60 "it is gone" eval '! k get pod "$pod"' && rests 30
}
case_a_drain_is_refused_by_epoch_and_without_the_key() {
  demo && ready || return 1
  local key address pod; key=$(k get secret demo-keys -o 'jsonpath={.data.admin}' | base64 -d); pod=$(first_pod)
  address=http://$(k get pod "$pod" -o 'jsonpath={.status.podIP}'):8081/admin/drain
  said() { curl -s --noproxy '*' -o /dev/null -w '%{http_code}' "$@" -H 'content-type: application/json' "$address"; }
  is "$(said -X POST -d '{"epoch":9}')" 401 "a drain by somebody without the key" || return 1
  if [ "$provider" = local ]; then # from the network of a pod that is nobody's
    k run stranger --image="$(k get statefulset demo-redis -o 'jsonpath={.spec.template.spec.containers[0].image}')" >/dev/null
    k wait --for=condition=Ready pod/stranger --timeout=30s >/dev/null || return 1
    local uid pid; uid=$(k get pod stranger -o 'jsonpath={.metadata.uid}'); pid=$(grep -lE "pod(${uid}|${uid//-/_})" /proc/[0-9]*/cgroup 2>/dev/null | cut -d/ -f3 | head -1)
    [ -n "$pid" ] || { fail "no process of the stranger"; return 1; }
    is "$(nsenter -t "$pid" -n curl -s --noproxy '*' -o /dev/null -w '%{http_code}' -X POST -d '{"epoch":9}' -H 'content-type: application/json' "$address")" 401 "a drain by a foreign pod" || return 1
  fi
  is "$(said -X POST -d '{"epoch":9}' -H 'authorization: Bearer wrong')" 401 "a drain with a wrong key" || return 1
  is "$(said -X POST -d '{"epoch":5,"deadlineMs":60000}' -H "authorization: Bearer $key")" 202 "a drain" || return 1
  is "$(said -X POST -d '{"epoch":4}' -H "authorization: Bearer $key")" 409 "the drain of an operator of before" || return 1
  is "$(said -X DELETE -G -d epoch=4 -H "authorization: Bearer $key")" 409 "its calling off"
}
