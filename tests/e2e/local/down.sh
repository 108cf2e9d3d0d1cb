#!/usr/bin/env bash
# Takes one local Kubernetes away, also after a crash: processes, mounts, namespaces, links, cgroups, sysctls,
# state. What belongs to another instance, or to other software, is not touched. Safe to run twice.
set -uo pipefail; here=$(cd "$(dirname "$0")" && pwd); . "$here/env.sh"
[ -d "$S" ] || exit 0
[ -n "${CHATCLUSTER_LOCKED:-}" ] || { exec 9>"$S.lock"; flock -w 60 9 || { echo "somebody is at work on local Kubernetes $id" >&2; exit 1; }; }
stop() { # By number and beginning: a number that was given anew is somebody else's.
  local pid since; read -r pid since <"$1" || return 0
  if [ -n "$since" ] && [ "$(began "$pid")" = "$since" ]; then
    kill "$pid" 2>/dev/null
    for _ in $(seq 30); do [ "$(began "$pid")" = "$since" ] || break; sleep 0.1; done
    [ "$(began "$pid")" != "$since" ] || kill -9 "$pid" 2>/dev/null
  fi
  rm -f "$1"
}
for file in "$S"/run/{provisioner,kubelet-*,kube-proxy-*}.pid; do [ ! -f "$file" ] || stop "$file"; done
# Pods: whatever is in our cgroups, then the shims, which name our state.
for _ in $(seq 50); do
  left=$(for h in $(awk '$3 == "cgroup" {print $2}' /proc/mounts); do
    find "$h/$name"-n[0-9]* -name cgroup.procs -exec cat {} + 2>/dev/null; done | sort -u)
  [ -n "$left" ] || break
  kill -9 $left 2>/dev/null; sleep 0.1
done
pkill -9 -f "containerd-shim.*$S/" 2>/dev/null
for file in "$S"/run/*.pid; do [ ! -f "$file" ] || stop "$file"; done
for cached in /var/lib/cni/results/"$name"-n[0-9]*; do
  [ -f "$cached" ] || continue
  container=$(jq -r .containerId "$cached")
  rm -f "$cached" "/var/lib/cni/results/cni-loopback-$container-lo"
done
# A pod's network namespace is one that has an address of ours, or lost its link with our bridge.
for ns in $(ip netns ls 2>/dev/null | awk '/^cni-/{print $1}'); do
  ip -n "$ns" -4 addr show 2>/dev/null | grep -q "inet $net\." && ip netns del "$ns" 2>/dev/null
done
awk -v s="$S/" 'index($2, s) == 1 {print $2}' /proc/mounts | sort -r | while read -r mount; do umount -l "$mount" 2>/dev/null; done
for i in $(seq $NODES); do ip netns del "$(netns "$i")" 2>/dev/null; done
ip link del "${name}br" 2>/dev/null
for _ in $(seq 50); do ip link show 2>/dev/null | grep -q " ${name}h[0-9]" || break; sleep 0.1; done
for h in $(awk '$3 == "cgroup" {print $2}' /proc/mounts); do
  find "$h/$name"-n[0-9]* -depth -type d -exec rmdir {} \; 2>/dev/null
done
[ ! -f "$S/run/sysctls" ] || while IFS== read -r k v; do sysctl -qw "$k=$v"; done <"$S/run/sysctls"
if awk -v s="$S/" 'index($2, s) == 1 {found = 1} END {exit !found}' /proc/mounts; then
  echo "mounts below $S remain; it is not removed" >&2; exit 1
fi
rm -rf --one-file-system "$S"; say "local Kubernetes $id is gone"
