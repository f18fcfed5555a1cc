#!/bin/sh
# Usage: venv.sh PYTHON VENV LOCK
# Brings the virtual environment VENV to the state of the hashed lock file LOCK, with this checkout in it.
# A second call with nothing changed does nothing.
set -eu
python=$1 venv=$2 lock=$3
cd "$(dirname "$0")/.."

fail() { echo "edge-agent: $*" >&2; exit 1; }

fits() {
    command -v "$1" >/dev/null && "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 14))' 2>/dev/null
}

if ! fits "$python"; then
    [ "$python" = python3 ] || fail "Python 3.10 to 3.13 is needed and $python is not: call make with another PYTHON=."
    for candidate in python3.13 python3.12 python3.11 python3.10 none; do
        fits "$candidate" && break
    done
    [ "$candidate" != none ] || fail "Python 3.10 to 3.13 is needed: install one, or call make with PYTHON=/path/to/python3."
    python=$candidate
fi
"$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "$python has no venv module: install it (Debian, Raspberry Pi OS: apt install python3-venv)."

# An environment knows its own path and its Python; one that was moved, or broken off half-made, is made anew.
home="$(pwd) $("$python" --version)"
if [ "$(cat "$venv/.home" 2>/dev/null)" != "$home" ]; then
    rm -rf "$venv"
    "$python" -m venv "$venv" || fail "The virtual environment $venv could not be made: see the message above."
    echo "$home" >"$venv/.home"
fi
name=$(basename "$lock" .txt)
stamp=$venv/.installed-$name-$(cat "$lock" pyproject.toml | sha256sum | cut -c1-16)
[ ! -e "$stamp" ] || exit 0
echo "Setting up $venv from $lock: this takes a minute, on a board several ..."
pip() { "$venv/bin/python" -m pip --disable-pip-version-check --quiet "$@"; }
pip install --no-deps --require-hashes -r "$lock" || fail "The packages of $lock could not be installed: see pip's message above."
pip install --no-deps --no-build-isolation --editable . || fail "The project itself could not be installed."
rm -f "$venv/.installed-$name-"*
touch "$stamp"
