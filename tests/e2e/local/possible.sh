#!/usr/bin/env bash
# Whether this machine can run a local Kubernetes; if not, prints why and what to do instead.
set -uo pipefail
no() { echo "$*"; exit 1; }
PATH=$PATH:/usr/sbin:/sbin
[ "$(uname -s)" = Linux ] || no "a local Kubernetes needs Linux: use kind, and E2E_CLUSTER=existing"
[ "$(id -u)" = 0 ] || no "a local Kubernetes needs root: use kind, and E2E_CLUSTER=existing"
grep -q ' cgroup ' /proc/mounts || no "a local Kubernetes was tried on cgroup v1 only: use kind here, and E2E_CLUSTER=existing"
for one in containerd runc nft iptables conntrack ip nsenter openssl jq; do
  command -v $one >/dev/null || no "$one is missing: apt-get install containerd runc containernetworking-plugins iptables nftables conntrack iproute2 openssl jq busybox-static"
done
command -v go >/dev/null || no "Go is missing, which builds a local Kubernetes: https://go.dev/dl (1.26 or later)"
