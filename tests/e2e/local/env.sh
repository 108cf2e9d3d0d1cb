# Sourced by the others: one local Kubernetes, by number. Everything that is global on the machine (network
# namespaces, links, addresses, cgroups, state) carries the number, so that several stand side by side.
id=${CHATCLUSTER_LOCAL_ID:-0}
case $id in [0-9]) ;; *) echo "CHATCLUSTER_LOCAL_ID is a digit" >&2; exit 2 ;; esac
S=${CHATCLUSTER_LOCAL_STATE:-/var/lib/chatcluster/local-$id}
NODES=2
name=chat$id
net=10.$((160 + 2 * id)) svc=10.$((161 + 2 * id))
node_ip() { echo "$net.0.$((10 + $1))"; }
pod_cidr() { echo "$net.$((64 + 16 * ($1 - 1))).0/20"; }
svc_ip=$svc.0.1 dns_ip=$net.0.11 api=https://$net.0.11:6443
netns() { echo "$name-n$1"; }
say() { printf '\033[2m%s\033[0m\n' "$*" >&2; }
in_node() { local i=$1; shift; nsenter --net="/run/netns/$(netns "$i")" "$@"; }
# Of a process: when it began, so that a number that was given anew is not mistaken for it.
began() { sed 's/.*) //' "/proc/$1/stat" 2>/dev/null | cut -d' ' -f20; }
start() {
  local i=$1 what=$2; shift 2
  setsid nsenter --net="/run/netns/$(netns "$i")" "$@" >"$S/log/$what.log" 2>&1 </dev/null 9>&- &
  echo "$! $(began $!)" >"$S/run/$what.pid"
}
start_kubelet() { # I
  start "$1" "kubelet-$1" "$BIN/kubelet" --config "$S/n$1/kubelet.yaml" --kubeconfig "$S/pki/kubelet-$1.conf" --root-dir "$S/n$1/kubelet" --hostname-override="$(netns "$1")" --node-ip="$(node_ip "$1")" --v=2
}
wait_for() {
  local what=$1 seconds=$2; shift 2
  for ((k = 0; k < seconds * 5; k++)); do "$@" >/dev/null 2>&1 && return 0; sleep 0.2; done
  echo "local Kubernetes: $what did not come within $seconds s; logs are in $S/log" >&2; return 1
}
kc() { "$BIN/kubectl" --kubeconfig "$S/pki/admin.conf" "$@"; }
