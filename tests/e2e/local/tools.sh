#!/usr/bin/env bash
# Builds etcd, Kubernetes, CoreDNS and Helm from their modules (tools/*/go.mod, go.sum) into a cache
# outside the tree and prints its folder. Nothing is built twice: the cache's name is the hash of every
# go.mod, go.sum and of this script. About ten minutes on two idle cores, the first time.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOTOOLCHAIN=local
key=$(cat "$here"/tools/*/go.{mod,sum} "$here"/tools/dns/main.go "$here/tools.sh" | sha256sum | cut -c1-16)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/chatcluster/tools/$key
say() { printf '\033[2m%s\033[0m\n' "$*" >&2; }

if [ ! -e "$bin/.complete" ]; then
  command -v go >/dev/null || { echo "Go is needed to build a local Kubernetes: https://go.dev/dl (1.26 or later)" >&2; exit 1; }
  mkdir -p "$bin"
  exec 9>"$bin/.lock"; flock 9
fi
if [ ! -e "$bin/.complete" ]; then
  say "building a local Kubernetes into $bin: about ten minutes, once"
  cd "$here/tools/kubernetes"
  version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
  minor=${version#v1.}; minor=${minor%%.*}
  x=k8s.io/component-base/version
  flags="-s -w -X $x.gitVersion=$version -X $x.gitMajor=1 -X $x.gitMinor=$minor -X $x.gitCommit=${version#v} -X $x.gitTreeState=clean"
  step=0
  for one in kube-apiserver kube-controller-manager kube-scheduler kubelet kube-proxy kubectl; do
    step=$((step + 1)); say "  $step/9 $one $version"
    go build -trimpath -ldflags "$flags" -o "$bin/" "k8s.io/kubernetes/cmd/$one"
  done
  say "  7/9 etcd"; go build -trimpath -ldflags "-s -w" -o "$bin/etcd" go.etcd.io/etcd/server/v3
  cd "$here/tools/dns"; say "  8/9 coredns"; go build -trimpath -ldflags "-s -w" -o "$bin/coredns" .
  cd "$here/tools/helm"; say "  9/9 helm"; go build -trimpath -ldflags "-s -w" -o "$bin/helm" helm.sh/helm/v3/cmd/helm
  touch "$bin/.complete"
fi
echo "$bin"
