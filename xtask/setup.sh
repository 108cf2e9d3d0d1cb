#!/bin/sh
# Finds what a build needs and this machine lacks. Silent when nothing is missing.
# As root on Debian or Ubuntu it installs; elsewhere it prints the one line to run, and exits 1.
#
#   setup.sh        what `make dev` needs; with STORES=redis in the environment, a Redis to start
#   setup.sh test   also the formatter, the linter, and what tests start: Redis, HAProxy, Chromium,
#                   Node.js and Python for the clients in those languages, and, where one can run,
#                   what a local Kubernetes is made of
#   setup.sh cluster   also what a local Kubernetes of `make cluster` is made of; Go is looked for later
set -eu

say() { printf 'setup: %s\n' "$*" >&2; }

# A compiler that finds its headers and its linker. Rust links with it, and aws-lc-sys compiles C and
# assembly with it (its own cc builder: neither cmake nor pkg-config nor perl is used).
c_compiler_works() {
    command -v cc >/dev/null 2>&1 || return 1
    printf '#include <stdlib.h>\nint main(void) { return EXIT_SUCCESS; }\n' |
        cc -x c - -o /dev/null 2>/dev/null
}

# Cargo brings its own TLS and the system brings the certificates.
certificates_are_there() {
    [ -n "${SSL_CERT_FILE:-}${SSL_CERT_DIR:-}${CARGO_HTTP_CAINFO:-}" ] ||
        [ -e /etc/ssl/certs/ca-certificates.crt ] || ! command -v apt-get >/dev/null 2>&1
}

if ! command -v cargo >/dev/null 2>&1; then
    say 'cargo is missing. Install Rust with https://rustup.rs and open a new shell.'
    exit 1
fi

if [ "${1:-}" = test ]; then
    components=
    cargo fmt --version >/dev/null 2>&1 || components="$components rustfmt"
    cargo clippy --version >/dev/null 2>&1 || components="$components clippy"
    if [ -n "$components" ]; then
        if ! command -v rustup >/dev/null 2>&1; then
            say "missing:$components. Install them the way Rust was installed here."
            exit 1
        fi
        say "adding to the Rust toolchain:$components"
        # shellcheck disable=SC2086  # A list of words.
        rustup component add $components >&2
    fi
fi

# The page and the TypeScript client need Node.js 20. Debian 12 has 18: its npm brings a newer one, for
# this checkout alone (the Makefile looks there first).
node_folder=${CARGO_TARGET_DIR:-target}/node
node_is_new_enough() {
    PATH="$node_folder/node_modules/node/bin:$PATH" command -v node >/dev/null 2>&1 &&
        [ "$(PATH="$node_folder/node_modules/node/bin:$PATH" node -p 'process.versions.node.split(".")[0]')" -ge 20 ]
}

# Debian ships Python without what makes virtual environments.
python_makes_environments() {
    python3 -c 'import ensurepip, venv' 2>/dev/null
}

# As tests/e2e/local/possible.sh has it, but for what is installed here.
cluster=no
if [ "${1:-}" = cluster ]; then cluster=yes; fi
if [ "${1:-}" = test ] && [ "$(id -u)" -eq 0 ] && grep -qs ' cgroup ' /proc/mounts &&
    command -v apt-get >/dev/null 2>&1 && command -v go >/dev/null 2>&1; then cluster=yes; fi

packages=
c_compiler_works || packages="$packages gcc libc6-dev"
certificates_are_there || packages="$packages ca-certificates"
# Programs that the playground and the tests start themselves, on ports of their own.
if [ "${1:-}" = test ] || [ "${STORES:-}" = redis ]; then
    command -v redis-server >/dev/null 2>&1 || packages="$packages redis-server"
fi
if [ "${1:-}" = test ]; then
    PATH="$PATH:/usr/sbin" command -v haproxy >/dev/null 2>&1 || packages="$packages haproxy"
    command -v chromium >/dev/null 2>&1 || packages="$packages chromium"
    command -v curl >/dev/null 2>&1 || packages="$packages curl"
    command -v openssl >/dev/null 2>&1 || packages="$packages openssl"
    command -v npm >/dev/null 2>&1 || packages="$packages nodejs npm"
    python_makes_environments || packages="$packages python3 python3-venv"
fi

if [ "$cluster" = yes ]; then
    path=$PATH:/usr/sbin
    missing() { ! PATH="$path" command -v "$1" >/dev/null 2>&1; }
    if missing containerd; then packages="$packages containerd"; fi
    if missing runc; then packages="$packages runc"; fi
    if missing nft; then packages="$packages nftables"; fi
    if missing iptables; then packages="$packages iptables"; fi
    if missing conntrack; then packages="$packages conntrack"; fi
    if missing ip; then packages="$packages iproute2"; fi
    if missing jq; then packages="$packages jq"; fi
    if missing openssl; then packages="$packages openssl"; fi
    if missing curl; then packages="$packages curl"; fi
    if missing redis-server; then packages="$packages redis-server"; fi
    [ -x /bin/busybox ] || packages="$packages busybox-static"
    [ -x /usr/lib/cni/bridge ] || packages="$packages containernetworking-plugins"
    if missing promtool; then packages="$packages prometheus"; fi
    python3 -c 'import yaml' 2>/dev/null || packages="$packages python3-yaml"
fi

install_packages() {
    if ! command -v apt-get >/dev/null 2>&1; then
        say "missing, by the names of Debian's packages:$packages. Install them, for example:"
        printf '  %s\n' 'xcode-select --install; brew install redis haproxy node python; brew install --cask chromium   (macOS)' \
            'dnf install gcc glibc-devel redis haproxy chromium nodejs npm python3   (Fedora)' >&2
        exit 1
    fi
    if [ "$(id -u)" -ne 0 ]; then
        say 'something is missing. Run this once, then try again:'
        printf '  sudo apt-get install -y --no-install-recommends%s\n' "$packages" >&2
        exit 1
    fi

    export DEBIAN_FRONTEND=noninteractive
    log=$(mktemp)
    # Packages of servers start them at once. Nobody asked for that: until the end of this script the
    # answer to every such start is no (Debian policy 9.3.3.1). A rule of this machine's own stays.
    rule=/usr/sbin/policy-rc.d
    if [ -e "$rule" ]; then
        trap 'rm -f "$log"' EXIT
    else
        trap 'rm -f "$log" "$rule"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$rule"
        chmod 755 "$rule"
    fi
    quietly() {
        if ! "$@" >"$log" 2>&1; then
            cat "$log" >&2
            say "failed: $*"
            exit 1
        fi
    }
    say "missing:$packages"
    say 'apt-get update …'
    quietly apt-get update -q
    say "apt-get install$packages …"
    # shellcheck disable=SC2086  # A list of words.
    quietly apt-get install -q -y --no-install-recommends $packages
    if ! c_compiler_works; then
        say '`cc` still does not work. Try: echo "int main(void){return 0;}" | cc -x c - -o /dev/null'
        exit 1
    fi
}

[ -z "$packages" ] || install_packages
if [ "${1:-}" = test ] && ! node_is_new_enough; then
    say "Node.js is older than 20; getting a newer one into $node_folder …"
    mkdir -p "$node_folder"
    npm install --prefix "$node_folder" --no-audit --no-fund --loglevel error node@22 >&2
    if ! node_is_new_enough; then
        say 'that did not help. Install Node.js 20 or later: https://nodejs.org'
        exit 1
    fi
fi
[ -z "$packages" ] || say 'done'
