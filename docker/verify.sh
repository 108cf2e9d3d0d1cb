#!/bin/sh
# Shows that a release binary runs in what its image has, and in nothing more: a tree of the binary,
# the libraries of Debian 12's libc, the certificates and two mounted folders, read-only, as a user
# who may do nothing. Needs root on a Debian 12 for chroot and mount, and no container engine.
#
#   cargo build --workspace --release --locked && sudo docker/verify.sh target/release
set -eu

binaries=${1:?usage: verify.sh FOLDER-OF-RELEASE-BINARIES}
user=65532
say() { printf 'verify: %s\n' "$*"; }
fail() { say "FAILED: $*" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail 'chroot and mount need root'

# In a mount namespace of its own, so that nothing stays mounted whatever happens.
if [ "${VERIFY_NAMESPACE:-}" != yes ]; then
    exec env VERIFY_NAMESPACE=yes unshare --mount --propagation private "$0" "$@"
fi

tree=$(mktemp -d)
pid=
cleanup() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    umount "$tree" 2>/dev/null || true
    rm -rf "$tree"
}
trap cleanup EXIT

mount -t tmpfs -o size=256m,mode=0755 none "$tree"
mkdir -p "$tree/etc/ssl/certs" "$tree/etc/chatcluster" "$tree/etc/secrets"
printf 'nonroot:x:%s:%s:nonroot:/home/nonroot:/sbin/nologin\n' $user $user >"$tree/etc/passwd"
cp -L /etc/ssl/certs/ca-certificates.crt "$tree/etc/ssl/certs/"
for name in dataplane chatctl; do
    strip --strip-debug -o "$tree/$name" "$binaries/$name"
    chmod 0555 "$tree/$name"
    # Libraries with their paths; linux-vdso has none. All of them must be of Debian's libc and gcc.
    for library in $(ldd "$binaries/$name" | grep -o '/[^ ]*'); do
        owner=$(dpkg -S "$(readlink -f "$library")" 2>/dev/null || dpkg -S "$library" | head -1)
        case $owner in
        libc6:* | libgcc-s1:* | libstdc++6:*) ;;
        *) fail "$name needs $library of ${owner:-nobody}: distroless/cc does not have it" ;;
        esac
        mkdir -p "$tree$(dirname "$library")"
        cp -L "$library" "$tree$library"
    done
done
cat >"$tree/etc/chatcluster/chat.yaml" <<'YAML'
node:
  name: verify
  dataAddress: 127.0.0.1:18480
  adminAddress: 127.0.0.1:18481
drain:
  lingerMs: 100
YAML
for secret in JWT RESUME ADMIN; do
    printf 'thirty-two bytes for verification %s' "$secret" >"$tree/etc/secrets/$secret"
done
chmod -R a+rX "$tree/etc"
mount -o remount,ro "$tree"

# To be called in a subshell: the process becomes the program.
run() {
    exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin CHAT_CONFIG=/etc/chatcluster/chat.yaml \
        CHAT_JWT_SECRET_FILE=/etc/secrets/JWT CHAT_RESUME_SECRET_FILE=/etc/secrets/RESUME \
        CHAT_ADMIN_KEY_FILE=/etc/secrets/ADMIN \
        chroot --userspec=$user:$user --groups= "$tree" "$@"
}

(run /chatctl --version)
(run /dataplane --version)
(run /dataplane run --check >/dev/null) || fail 'run --check'
say 'run --check: good'

log=$(mktemp)
(run /dataplane run 2>"$log") &
pid=$!
get() { curl --silent --fail --noproxy '*' --max-time 2 "http://127.0.0.1:18481$1"; }
tries=0
until [ "$(get /livez)" = ok ] && [ "$(get /readyz)" = ok ]; do
    tries=$((tries + 1))
    [ "$tries" -lt 100 ] || { cat "$log" >&2; fail 'not ready'; }
    kill -0 "$pid" 2>/dev/null || { cat "$log" >&2; fail 'it ended'; }
    sleep 0.1
done
say 'livez and readyz: good'
get /metrics | grep -q '^chatcluster_build_info' || fail 'no metrics'
grep -Eq "^Uid:[[:space:]]+$user[[:space:]]+$user[[:space:]]+$user[[:space:]]+$user" "/proc/$pid/status" ||
    fail 'it is somebody else'
grep -Eq '^CapEff:[[:space:]]+0+$' "/proc/$pid/status" || fail 'it has capabilities'
[ "$(readlink "/proc/$pid/root")" = "$tree" ] || fail 'it has another root'
say "user $user, no capabilities, a read-only root of $(du -sm "$tree" | cut -f1) MiB: good"

# One answer, asked for and read to its end by the other binary.
answer=$(
    CHATCTL_TOKEN=$(run /chatctl token --secret-file /etc/secrets/JWT)
    run /chatctl --url http://127.0.0.1:18480 --token "$CHATCTL_TOKEN" chat '[sim tokens=5 rate=0] hello' 2>/dev/null
)
[ -n "$answer" ] || fail 'no answer'
say 'an answer: good'

kill -TERM "$pid"
code=0
wait "$pid" || code=$?
pid=
[ "$code" -eq 0 ] || { cat "$log" >&2; fail "exit code $code after SIGTERM"; }
rm -f "$log"
say 'SIGTERM ends it with 0: good'
