#!/usr/bin/env bash
# images.sh OUT BINARIES: image archives of what a local Kubernetes runs, without an engine and without a
# registry: pause, redis (Debian's), and dataplane, operator and chatctl from the folder BINARIES. Prints
# each image's name and digest.
set -euo pipefail; here=$(cd "$(dirname "$0")" && pwd)
OUT=${1:?} BINARIES=${2:?}; mkdir -p "$OUT"; W=$(mktemp -d); trap 'rm -rf "$W"' EXIT
base() {
  mkdir -p "$1"/{etc,tmp,run,bin,etc/ssl/certs}; chmod 1777 "$1/tmp"
  printf 'root:x:0:0::/:/bin/sh\nredis:x:999:999::/data:/bin/sh\nnonroot:x:65532:65532::/:/bin/sh\n' >"$1/etc/passwd"
  printf 'root:x:0:\nredis:x:999:\nnonroot:x:65532:\n' >"$1/etc/group"
  printf 'hosts: files dns\n' >"$1/etc/nsswitch.conf"
  for l in libnss_dns.so.2 libnss_files.so.2 libresolv.so.2; do install -D "/lib/x86_64-linux-gnu/$l" "$1/lib/x86_64-linux-gnu/$l"; done
  cp -L /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
}
with_libraries() { # ROOT FROM TO
  install -D -m755 "$2" "$1$3"
  { ldd "$2" 2>/dev/null || true; } | { grep -oE '/[^ ]+' || true; } | while read -r l; do [ -e "$1$l" ] || install -D -m755 "$l" "$1$l"; done
}
image() { echo "$3" >"$W/config.json"; python3 "$here/mkimage.py" "$OUT/$2.tar" "$1" "$W/config.json" "$W/$2"; }
mkdir -p "$W/pause"; gcc -static -Os -s -o "$W/pause/pause" "$here/pause.c"
image chatcluster.test/pause:1 pause '{"Entrypoint":["/pause"]}'
base "$W/redis"; cp /bin/busybox "$W/redis/bin/busybox"
for a in sh cat printf sleep ls id; do ln -sf busybox "$W/redis/bin/$a"; done
with_libraries "$W/redis" /usr/bin/redis-check-rdb /usr/bin/redis-server; with_libraries "$W/redis" /usr/bin/redis-cli /usr/bin/redis-cli
mkdir -p "$W/redis/data"
image chatcluster.test/redis:7 redis '{"Cmd":["redis-server"],"WorkingDir":"/data","User":"999:999","Env":["PATH=/usr/bin:/bin"],"owners":{"data":[999,999]}}'
for one in dataplane operator chatctl; do
  base "$W/$one"; strip --strip-debug -o "$W/$one.stripped" "$BINARIES/$one"
  with_libraries "$W/$one" "$W/$one.stripped" "/$one"
  image "chatcluster.test/$one:dev" "$one" "{\"Entrypoint\":[\"/$one\"],\"User\":\"65532:65532\"}"
done
