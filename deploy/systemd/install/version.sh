# shellcheck shell=bash disable=SC2154
# A version is a folder of /opt/edge-agent/versions: a virtual environment, and in system/ what systemd gets.
# `current` is a symlink to the one that counts.

needs_mb=700  # a version has 390 MB, and its wheels are unpacked beside it

# The name of what lies in $root: its version and the first digits of a hash over all that makes it.
version_here() {
    local number hash
    number=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")
    hash=$( (contents_of_root && "$python" -I -c 'import sys; print(sys.version_info[:2])') | sha256sum | cut -c1-8)
    echo "$number-$hash"
}

contents_of_root() {
    (cd "$root" && find agent converter wheels/edge_agent-* deploy/systemd locks/device.txt configs/agent.yaml -type f \
        ! -name '*.pyc' -print0 2>/dev/null | sort -z | xargs -0 sha256sum) || true  # a bundle has no agent/, a checkout no wheels/
}

# While an upgrade is under way, or was broken off, the one before it.
current_version() {
    local target
    target=$(readlink "$home/before" || readlink "$home/current") || return 0
    basename "$target"
}

# Does nothing where it stands already; one that was broken off half-made is made anew.
make_version() {
    local folder=$home/versions/$1
    [ ! -e "$folder/complete" ] || return 0
    check_room
    say "Making $folder: a minute, on a board several ..."
    rm -rf "$folder" "$home"/.work.*
    mkdir -p "$folder"
    work=$(mktemp -d "$home/.work.XXXXXX")  # not /tmp, which is memory on many boards
    trap 'rm -rf "$work"' EXIT
    "$python" -I -m venv "$folder" || fail "The virtual environment $folder could not be made; why is written above."
    install_packages "$folder"
    cp -r "$root/deploy/systemd" "$folder/system"
    cp "$root/configs/agent.yaml" "$folder/system/"
    sync --file-system "$folder"
    touch "$folder/complete"
    rm -rf "$work"
}

check_room() {
    local free_mb
    free_mb=$(($(df --output=avail -k /opt | tail -1) / 1024))
    [ "$free_mb" -ge $needs_mb ] || fail "/opt has $free_mb MB free and $needs_mb MB are needed. Make room, then call again."
}

install_packages() {
    local where=() wheel
    [ ! -e "$root/wheels" ] || where=(--no-index --find-links "$root/wheels")
    pip_of "$1" install --no-deps --only-binary :all: "${where[@]}" --require-hashes -r "$root/locks/device.txt" \
        || fail "The packages of locks/device.txt could not be installed; why is written above. Call again when that is mended."
    wheel=$(own_wheel "$1")
    pip_of "$1" install --no-deps --no-index "$wheel" || fail "edge-agent's own wheel could not be installed."
}

pip_of() {
    local folder=$1
    shift
    TMPDIR=$work "$folder/bin/python" -m pip --quiet --disable-pip-version-check --no-cache-dir "$@"
}

# That of the bundle, else one that is built of the checkout, aside, so that nothing of root's is left there.
own_wheel() {
    if [ -e "$root/wheels" ]; then
        find "$root/wheels" -name 'edge_agent-*.whl'
        return
    fi
    mkdir "$work/source" "$work/build"
    (cd "$root" && cp -r agent converter pyproject.toml README.md LICENSE "$work/source")
    pip_of "$1" install --target "$work/build" --only-binary :all: --require-hashes -r "$root/locks/build.txt" >&2 \
        || fail "What builds edge-agent's own wheel could not be installed; why is written above."
    PYTHONPATH=$work/build pip_of "$1" wheel --no-deps --no-build-isolation --wheel-dir "$work" "$work/source" >&2 \
        || fail "edge-agent's own wheel could not be built; why is written above."
    find "$work" -maxdepth 1 -name 'edge_agent-*.whl'
}

# The version has become ready, and the others go.
settle_for() {
    local folder
    rm -f "$home/before"
    for folder in "$home"/versions/*; do
        [ "$(basename "$folder")" = "$1" ] || rm -rf "$folder"
    done
}
