#!/usr/bin/env bash
# A bridge, a network namespace for each node, a route to each node's pods and to the services. There is no
# gateway: nothing leaves the machine.
set -euo pipefail; here=$(cd "$(dirname "$0")" && pwd); . "$here/env.sh"
if ip route show | grep -qE "^($net|$svc)\."; then
  echo "addresses $net.0.0/16 or $svc.0.0/16 are in use here: choose another CHATCLUSTER_LOCAL_ID" >&2; exit 1
fi
ip link add "${name}br" type bridge; ip addr add "$net.0.1/24" dev "${name}br"; ip link set "${name}br" up
for i in $(seq $NODES); do
  n=$(netns "$i")
  ip netns add "$n"; ip -n "$n" link set lo up
  ip link add "${name}h$i" type veth peer name eth0 netns "$n"; ip link set "${name}h$i" up master "${name}br"
  ip -n "$n" addr add "$(node_ip "$i")/24" dev eth0; ip -n "$n" link set eth0 up; ip -n "$n" route add default dev eth0
  ip netns exec "$n" sysctl -qw net.ipv4.ip_forward=1
  ip route add "$(pod_cidr "$i")" via "$(node_ip "$i")"
done
for i in $(seq $NODES); do for j in $(seq $NODES); do
  [ "$j" = "$i" ] || ip -n "$(netns "$i")" route add "$(pod_cidr "$j")" via "$(node_ip "$j")"
done; done
ip route add "$svc.0.0/16" via "$(node_ip 1)"
