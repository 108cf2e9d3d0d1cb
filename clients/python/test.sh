#!/bin/sh
# Everything about Python: the package in clients/python and the stock clients in tests/stock.
#   sh clients/python/test.sh                  format, lint, types, all tests
#   sh clients/python/test.sh -k drain         the same with tests chosen by pytest's own options
# The data plane under test is CHATCLUSTER_DATAPLANE, by default target/debug/dataplane.
# What it installs is kept in target/venv-python until pyproject.toml changes.
set -eu
cd "$(dirname "$0")"
target=$(cd ../.. && pwd)/target
venv=$target/venv-python
python=${PYTHON:-python3}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "Python 3.11 or later is needed; name one in PYTHON" >&2
    exit 1
}
wanted=$("$python" -c 'import hashlib, sys
print(sys.version, hashlib.sha256(open("pyproject.toml", "rb").read()).hexdigest())')
if [ "$(cat "$venv/ready" 2>/dev/null)" != "$wanted" ]; then
    rm -rf "$venv"
    mkdir -p "$target"
    # Cargo marks this folder as built when it is the first one here.
    [ -e "$target/CACHEDIR.TAG" ] ||
        echo "Signature: 8a477f597d28d172789f06886806bc55" >"$target/CACHEDIR.TAG"
    "$python" -m venv "$venv"
    "$venv/bin/python" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["dev"], sep="\n")' \
        >"$venv/requirements.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$venv/requirements.txt"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
    printf '%s\n' "$wanted" >"$venv/ready"
fi

export PYTHONPYCACHEPREFIX="$target/pycache"
"$venv/bin/ruff" format --quiet --check . ../../tests/stock
"$venv/bin/ruff" check --quiet . ../../tests/stock
"$venv/bin/mypy"
exec "$venv/bin/python" -m pytest -c pyproject.toml -q "$@"
