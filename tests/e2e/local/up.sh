#!/usr/bin/env bash
# Brings a two-node Kubernetes up from nothing; what an earlier run left is taken away first.
# BIN: tools.sh's folder; IMAGES: images.sh's. Kubeconfig: $S/pki/admin.conf.
set -euo pipefail; here=$(cd "$(dirname "$0")" && pwd); . "$here/env.sh"
: "${BIN:?}" "${IMAGES:?}"; export BIN IMAGES
why=$("$here/possible.sh") || { echo "$why" >&2; exit 1; }
mkdir -p "$(dirname "$S")"; exec 9>"$S.lock"; flock -n 9 || { echo "somebody is at work on local Kubernetes $id" >&2; exit 1; }
[ ! -d "$S" ] || CHATCLUSTER_LOCKED=1 "$here/down.sh"
mkdir -p "$S"/{log,run,etcd}
for k in vm.overcommit_memory kernel.panic kernel.panic_on_oops; do echo "$k=$(sysctl -n $k)"; done >"$S/run/sysctls"
"$here/pki.sh"; "$here/network.sh"; P=$S/pki
cat >"$S/audit.yaml" <<'Y'
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules: [{level: Metadata, users: ["system:serviceaccount:chatcluster-system:chatcluster"]}, {level: None}]
Y
say "control plane"
start 1 etcd "$BIN/etcd" --data-dir "$S/etcd" --listen-client-urls http://127.0.0.1:2379 --advertise-client-urls http://127.0.0.1:2379 --listen-peer-urls http://127.0.0.1:2380 --unsafe-no-fsync --quota-backend-bytes=4294967296
start 1 apiserver "$BIN/kube-apiserver" --etcd-servers=http://127.0.0.1:2379 --advertise-address="$(node_ip 1)" --secure-port=6443 --service-cluster-ip-range="$svc.0.0/16" \
  --allow-privileged=true --authorization-mode=Node,RBAC --enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement --client-ca-file="$P/ca.crt" --tls-cert-file="$P/apiserver.crt" --tls-private-key-file="$P/apiserver.key" \
  --service-account-key-file="$P/sa.pub" --service-account-signing-key-file="$P/sa.key" --service-account-issuer=https://kubernetes.default.svc.cluster.local \
  --kubelet-certificate-authority="$P/ca.crt" --kubelet-client-certificate="$P/apiserver-kubelet-client.crt" --kubelet-client-key="$P/apiserver-kubelet-client.key" --kubelet-preferred-address-types=InternalIP \
  --requestheader-client-ca-file="$P/ca.crt" --requestheader-allowed-names=front-proxy-client --requestheader-username-headers=X-Remote-User --requestheader-group-headers=X-Remote-Group \
  --requestheader-extra-headers-prefix=X-Remote-Extra- --proxy-client-cert-file="$P/front-proxy-client.crt" --proxy-client-key-file="$P/front-proxy-client.key" \
  --audit-policy-file="$S/audit.yaml" --audit-log-path="$S/log/audit.log"
wait_for "the API server" 90 kc get --raw /readyz
start 1 controller-manager "$BIN/kube-controller-manager" --kubeconfig="$P/kube-controller-manager.conf" --authentication-kubeconfig="$P/kube-controller-manager.conf" --authorization-kubeconfig="$P/kube-controller-manager.conf" \
  --cluster-cidr="$net.64.0/18" --allocate-node-cidrs=false --root-ca-file="$P/ca.crt" --service-account-private-key-file="$P/sa.key" --use-service-account-credentials=true --cluster-signing-cert-file="$P/ca.crt" --cluster-signing-key-file="$P/ca.key" --leader-elect=false \
  --horizontal-pod-autoscaler-sync-period=2s
start 1 scheduler "$BIN/kube-scheduler" --kubeconfig="$P/kube-scheduler.conf" --authentication-kubeconfig="$P/kube-scheduler.conf" --authorization-kubeconfig="$P/kube-scheduler.conf" --leader-elect=false
say "nodes"
for i in $(seq $NODES); do "$here/node.sh" "$i"; done
cat >"$S/Corefile" <<C
.:53 {
  errors
  ready :8181
  cache 5
  kubernetes cluster.local in-addr.arpa {
    kubeconfig $P/admin.conf
    pods insecure
    ttl 5
  }
  template ANY ANY . {
    rcode NXDOMAIN
  }
}
C
start 1 dns "$BIN/coredns" -conf "$S/Corefile"
wait_for "the nodes' registration" 60 kc get node "$(netns $NODES)"
kc wait --for=condition=Ready node --all --timeout=90s >/dev/null
wait_for "the name server" 20 in_node 1 curl -sf "http://$dns_ip:8181/ready"
start 1 provisioner "$here/provisioner.sh"
wait_for "the storage class" 20 kc get storageclass standard
touch "$S/run/up"; say "Kubernetes is up: KUBECONFIG=$P/admin.conf"
