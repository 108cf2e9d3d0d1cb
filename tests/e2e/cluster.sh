#!/usr/bin/env bash
# A Kubernetes to try ChatCluster on, with both charts installed: cluster.sh up | env | down.
# `charts` installs both into the cluster of KUBECONFIG, where the images are loaded already.
#
#   CHATCLUSTER_LOCAL_ID=0..9    which one, where several stand side by side
set -euo pipefail; here=$(cd "$(dirname "$0")" && pwd); root=$here/../..
. "$here/local/env.sh"
target=${CARGO_TARGET_DIR:-$root/target}
IMAGES=$target/e2e-images
charts() { # into the cluster of KUBECONFIG
  helm install chatcluster-crds "$root/charts/chatcluster-crds" --wait >/dev/null
  helm install chatcluster "$root/charts/chatcluster-operator" --namespace chatcluster-system --create-namespace --wait --timeout 90s \
    --set image.repository=chatcluster.test/operator,image.tag=dev,dataplane.image=chatcluster.test/dataplane:dev,redis.image=chatcluster.test/redis:7 >/dev/null
}
case ${1:-} in
charts) charts ;;
up)
  BIN=$("$here/local/tools.sh")
  say "images"; rm -rf "$IMAGES"; "$here/local/images.sh" "$IMAGES" "$target/debug"
  export BIN IMAGES; "$here/local/up.sh"
  export KUBECONFIG=$S/pki/admin.conf PATH=$BIN:$PATH
  say "charts"; charts
  cat >&2 <<T

  A Kubernetes of two nodes, with ChatCluster's charts:

    eval "\$(make -s cluster-env)"
    kubectl apply -f examples/chatcluster.yaml
    kubectl wait --for=condition=Ready chat/demo --timeout=2m && kubectl get chat -o wide

  Its images: chatcluster.test/{dataplane,operator,chatctl}:dev. \`make cluster-down\` removes it all.

T
  ;;
env)
  [ -e "$S/run/up" ] || { echo "there is no local Kubernetes $id: make cluster" >&2; exit 1; }
  printf 'export KUBECONFIG=%q\nexport PATH=%q:"$PATH"\n' "$S/pki/admin.conf" "$("$here/local/tools.sh")"
  ;;
down) "$here/local/down.sh" ;;
*) sed -n '2,5p' "$0"; exit 2 ;;
esac
