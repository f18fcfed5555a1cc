#!/bin/sh
# Usage: venv.sh PYTHON VENV LOCK
# Creates or updates the virtual environment VENV: the packages of the hashed lock file LOCK, and this checkout
# (editable). Does nothing if neither has changed since the last call.
set -eu
python=$1 venv=$2 lock=$3
CDPATH='' cd "$(dirname "$0")/.."

fail() { echo "edge-agent: $*" >&2; exit 1; }

fits() {
    command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null
}

if ! fits "$python"; then
    [ "$python" = python3 ] || fail "$python is not Python 3.10 to 3.13. Call make with another PYTHON=."
    for candidate in python3.13 python3.12 python3.11 python3.10 none; do
        fits "$candidate" && break
    done
    [ "$candidate" != none ] || fail "No Python 3.10 to 3.13 was found. Install one, or call make with PYTHON=/path/to/python3."
    python=$candidate
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$python has no venv module. Install it (Debian, Raspberry Pi OS: apt install python3-venv)."

# An environment depends on its path and its Python. If it was moved or is incomplete, it is created again.
home="$(pwd) $("$python" --version)"
if [ "$(cat "$venv/.home" 2>/dev/null)" != "$home" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "Cannot create the virtual environment $venv; see the message above."
    echo "$home" >"$venv/.home"
fi
name=$(basename "$lock" .txt)
stamp=$venv/.installed-$name-$(cat "$lock" pyproject.toml | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || exit 0
echo "Setting up $venv from $lock. This takes a minute, several minutes on a small board ..."
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
# uv, which is among the packages of make dev, takes a fifth of the time. It does not know the settings of pip, such as
# a mirror.
uv() { [ "$venv" != .venv ] && [ -x .venv/bin/uv ] && .venv/bin/uv pip install --quiet --python "$venv" "$@" 2>/dev/null; }
uv --no-deps --require-hashes -r "$lock" \
    || pip install --no-deps --require-hashes -r "$lock" \
    || fail "Cannot install the packages of $lock; see pip's message above."
pip install --no-deps --no-build-isolation --editable . || fail "Cannot install the project itself; see pip's message above."
rm -f "$venv/.installed-$name-"*
touch "$stamp"
