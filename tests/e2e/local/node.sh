#!/usr/bin/env bash
# node.sh I: containerd, kubelet and kube-proxy of node I, in its network namespace and its cgroup.
set -euo pipefail; here=$(cd "$(dirname "$0")" && pwd); . "$here/env.sh"
i=$1 N=$S/n$1; mkdir -p "$N"/{cni/net.d,kubelet,logs,volumes}
cat >"$N/containerd.toml" <<T
version = 2
root = "$N/containerd/root"
state = "$N/containerd/state"
[grpc]
  address = "$N/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  # Without CAP_SYS_RESOURCE every sandbox would die as it is made.
  restrict_oom_score_adj = true
  sandbox_image = "chatcluster.test/pause:1"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "$N/cni/net.d"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
[plugins."io.containerd.internal.v1.opt"]
  path = "$N/containerd/opt"
T
cat >"$N/cni/net.d/10-$name.conflist" <<J
{"cniVersion":"0.4.0","name":"$name-n$i","plugins":[
 {"type":"bridge","bridge":"cni-$name","isGateway":true,"ipMasq":false,"hairpinMode":true,
  "ipam":{"type":"host-local","dataDir":"$N/cni/ipam","ranges":[[{"subnet":"$(pod_cidr "$i")"}]],"routes":[{"dst":"0.0.0.0/0"}]}},
 {"type":"portmap","capabilities":{"portMappings":true}}]}
J
root=/$(netns "$i")
for h in $(awk '$3 == "cgroup" {print $2}' /proc/mounts); do
  mkdir -p "$h$root"
  [ ! -e "$h/cpuset.cpus" ] || { cat "$h/cpuset.cpus" >"$h$root/cpuset.cpus"; cat "$h/cpuset.mems" >"$h$root/cpuset.mems"; }
done
cat >"$N/kubelet.yaml" <<Y
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {anonymous: {enabled: false}, webhook: {enabled: true}, x509: {clientCAFile: $S/pki/ca.crt}}
authorization: {mode: Webhook}
tlsCertFile: $S/pki/kubelet-$i.crt
tlsPrivateKeyFile: $S/pki/kubelet-$i.key
containerRuntimeEndpoint: unix://$N/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: "$root"
failCgroupV1: false
failSwapOn: false
makeIPTablesUtilChains: false
podLogsDir: $N/logs
resolvConf: ""
clusterDNS: [$dns_ip]
clusterDomain: cluster.local
syncFrequency: 10s
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
evictionHard: {memory.available: 100Mi, nodefs.available: "0%", nodefs.inodesFree: "0%", imagefs.available: "0%", imagefs.inodesFree: "0%"}
shutdownGracePeriod: 0s
configMapAndSecretChangeDetectionStrategy: Watch
Y
start "$i" "containerd-$i" containerd --config "$N/containerd.toml"
wait_for "containerd of node $i" 20 ctr -a "$N/containerd.sock" version
for image in "$IMAGES"/*.tar; do ctr -a "$N/containerd.sock" -n k8s.io images import "$image" >/dev/null; done
start_kubelet "$i"
cat >"$N/kube-proxy.yaml" <<Y
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
clientConnection: {kubeconfig: $S/pki/kube-proxy.conf}
mode: nftables
clusterCIDR: $net.64.0/18
hostnameOverride: $(netns "$i")
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
Y
start "$i" "kube-proxy-$i" "$BIN/kube-proxy" --config "$N/kube-proxy.yaml"
