# shellcheck shell=bash disable=SC2154
# A version is a folder in /opt/edge-agent/versions: a virtual environment, with the systemd files in system/.
# The symlink `current` points to the active version.

needs_mb=700  # a version takes 390 MB; pip needs the rest while unpacking wheels

# The name of the version in $root: version number, dash, first digits of a hash over everything it is built from.
version_here() {
    local number hash
    number=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")
    hash=$( (contents_of_root && "$python" -I -c 'import sys; print(sys.version_info[:2])') | sha256sum | cut -c1-8)
    echo "$number-$hash"
}

contents_of_root() {
    # A bundle has no agent/, a checkout has no wheels/.
    (cd "$root" && find agent converter wheels/edge_agent-* deploy/systemd locks/device.txt configs/agent.yaml -type f \
        ! -name '*.pyc' -print0 2>/dev/null | sort -z | xargs -0 sha256sum) || true
}

# During an upgrade, and after an interrupted one, this is the previous version.
current_version() {
    local target
    target=$(readlink "$home/before" || readlink "$home/current") || return 0
    basename "$target"
}

# Does nothing if the version exists. An incomplete one, from an interrupted call, is built again.
make_version() {
    local folder=$home/versions/$1
    [ ! -e "$folder/complete" ] || return 0
    check_room
    say "Creating $folder. This takes a minute, several minutes on a small board ..."
    rm -rf "$folder" "$home"/.work.*
    mkdir -p "$folder"
    work=$(mktemp -d "$home/.work.XXXXXX")  # not /tmp, which is memory on many boards
    trap 'rm -rf "$work"' EXIT
    "$python" -I -m venv "$folder" || fail "Cannot create the virtual environment $folder; see the error above."
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
    [ "$free_mb" -ge $needs_mb ] || fail "/opt has $free_mb MB free, but $needs_mb MB are needed. Free some space, then try again."
}

install_packages() {
    local where=() wheel
    [ ! -e "$root/wheels" ] || where=(--no-index --find-links "$root/wheels")
    pip_of "$1" install --no-deps --only-binary :all: "${where[@]}" --require-hashes -r "$root/locks/device.txt" \
        || fail "Cannot install the packages of locks/device.txt; see the error above. Fix the problem, then try again."
    wheel=$(own_wheel "$1")
    pip_of "$1" install --no-deps --no-index "$wheel" || fail "Cannot install the edge-agent wheel; see the error above."
}

pip_of() {
    local folder=$1
    shift
    TMPDIR=$work "$folder/bin/python" -m pip --quiet --disable-pip-version-check --no-cache-dir "$@"
}

# Prints the path of the wheel: the one in the bundle, or one built from a copy of the checkout. Building in the
# checkout itself would leave files owned by root there.
own_wheel() {
    if [ -e "$root/wheels" ]; then
        find "$root/wheels" -name 'edge_agent-*.whl'
        return
    fi
    mkdir "$work/source" "$work/build"
    (cd "$root" && cp -r agent converter pyproject.toml README.md LICENSE "$work/source")
    pip_of "$1" install --target "$work/build" --only-binary :all: --require-hashes -r "$root/locks/build.txt" >&2 \
        || fail "Cannot install the build tools for the edge-agent wheel; see the error above."
    PYTHONPATH=$work/build pip_of "$1" wheel --no-deps --no-build-isolation --wheel-dir "$work" "$work/source" >&2 \
        || fail "Cannot build the edge-agent wheel; see the error above."
    find "$work" -maxdepth 1 -name 'edge_agent-*.whl'
}

# Removes all other versions, once this one is ready.
settle_for() {
    local folder
    rm -f "$home/before"
    for folder in "$home"/versions/*; do
        [ "$(basename "$folder")" = "$1" ] || rm -rf "$folder"
    done
}
