# shellcheck shell=bash disable=SC2154,SC2034
# A version is a folder in /opt/edge-agent/versions: a virtual environment, with the systemd files in system/.
# The symlink `current` points to the active version.

needs_mb=700  # a version takes 410 MB; pip needs the rest while unpacking wheels

# The name of the version in $root: version number, dash, first digits of a hash over everything it is built from.
version_here() {
    local number hash
    number=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/pyproject.toml")
    hash=$( (contents_of_root && "$python" -I -c 'import sys; print(sys.version_info[:2])') | sha256sum | cut -c1-8)
    echo "$number-$hash"
}

# A bundle has no agent/, a checkout has no wheels/.
contents_of_root() {
    local own=(agent converter)
    cd "$root" || return
    [ ! -e wheels ] || own=(wheels/edge_agent-*)
    find "${own[@]}" deploy/systemd locks/device.txt locks/tensorflow.txt configs/agent.yaml -type f ! -name '*.pyc' -print0 \
        | sort -z | xargs -0 sha256sum
}

# During an upgrade, and after an interrupted one, this is the previous version.
current_version() {
    local target
    target=$(readlink "$home/before" || readlink "$home/current") || return 0
    basename "$target"
}

# Does nothing if the version exists and runs. An incomplete one, from an interrupted call, is made again.
make_version() {
    local folder=$home/versions/$1
    if [ -e "$folder/complete" ]; then
        ! runs "$folder" || return 0
        say "Version $1 does not run; it is made again."
        remade=yes
    fi
    check_place $((needs_mb + $(if keeps_tensorflow; then echo "$tensorflow_mb"; else echo 0; fi)))
    say "Creating $folder. This takes a minute, several minutes on a small board ..."
    rm -rf "$folder" "$home"/.work.*
    mkdir -p "$folder"
    work=$(mktemp -d "$home/.work.XXXXXX")  # not /tmp, which is memory on many boards
    clean "$python" -I -m venv "$folder" || fail "Cannot create the virtual environment $folder; see the error above."
    install_packages "$folder"
    copy_system_files "$folder"
    ! keeps_tensorflow || install_tensorflow "$folder"
    runs "$folder" || fail "Version $1 was installed but does not run; see the error above. Fix the problem, then try again."
    sync --file-system "$folder"
    touch "$folder/complete"
    rm -rf "$work"
}

# Starts a program without the caller's variables: PYTHONPATH, PIP_TARGET and others change what is installed and where.
clean() {
    env -i PATH="$PATH" HOME="${work:-/root}" TMPDIR="${work:-/tmp}" LANG=C.UTF-8 PIP_CONFIG_FILE=/dev/null "$@"
}

runs() {
    local errors
    errors=$(clean "$1/bin/edge-agent" check-config "$1/system/agent.yaml" 2>&1 >/dev/null) && return
    tail -n 1 <<<"$errors" >&2  # a traceback says it in its last line
    return 1
}

# check_place MEGABYTES. $home may be a link to another disk.
check_place() {
    local place free_mb options needs_mb=$1
    place=$(readlink -m "$home")
    while [ ! -e "$place" ]; do place=$(dirname "$place"); done
    free_mb=$(($(df --output=avail -k "$place" | tail -1) / 1024))
    [ "$free_mb" -ge "$needs_mb" ] || fail "$place has $free_mb MB free, but $needs_mb MB are needed. Free some space, then try again."
    options=,$(findmnt --noheadings --output OPTIONS --target "$place" 2>/dev/null | tail -1 || true),  # nothing in a chroot
    case $options in
        *,noexec,*) fail "$place is mounted with the option noexec, so the agent's programs cannot run there. Remove the option: sudo mount -o remount,exec $(findmnt --noheadings --output TARGET --target "$place")" ;;
        *,ro,*) fail "$place is mounted read-only. Make it writable: sudo mount -o remount,rw $(findmnt --noheadings --output TARGET --target "$place")" ;;
    esac
    mkdir -p "$(readlink -m "$home")/versions"
}

install_packages() {
    local network=() wheel
    if [ -e "$root/wheels" ]; then
        network=(PIP_NO_INDEX=1 "PIP_FIND_LINKS=$root/wheels")
    else
        mapfile -d '' -t network < <("$python" -I "$here/install/network_settings.py")
    fi
    pip_of "$1" "${network[@]}" -- install --no-deps --only-binary :all: --require-hashes -r "$root/locks/device.txt" \
        || fail "Cannot install the packages of locks/device.txt; see the error above. Fix the problem, then try again."
    wheel=$(own_wheel "$1" "${network[@]}")
    pip_of "$1" -- install --no-deps --no-index "$wheel" || fail "Cannot install the edge-agent wheel; see the error above."
}

# pip_of FOLDER [NAME=VALUE ...] -- ARGUMENTS: runs the pip of that version with these variables only.
pip_of() {
    local folder=$1 variables=()
    shift
    while [ "$1" != -- ]; do variables+=("$1"); shift; done
    shift
    clean "${variables[@]}" "$folder/bin/python" -m pip --quiet --disable-pip-version-check --no-cache-dir "$@"
}

# Everyone may read the files and run the scripts, whatever the modes of the source are.
copy_system_files() {
    local command
    cp -r "$root/deploy/systemd" "$1/system"
    cp "$root/configs/agent.yaml" "$root/locks/tensorflow.txt" "$1/system/"
    chmod -R u=rwX,go=rX "$1/system"
    chmod 755 "$1" "$1/system/install.sh"
    for command in edge-agent edge-convert; do
        install -m755 "$1/system/launcher.sh" "$1/bin/$command"
    done
}

# Prints the path of the wheel: the one in the bundle, or one built from a copy of the checkout. Building in the
# checkout itself would leave files owned by root there. own_wheel FOLDER [NAME=VALUE ...]
own_wheel() {
    local folder=$1
    if [ -e "$root/wheels" ]; then
        find "$root/wheels" -name 'edge_agent-*.whl'
        return
    fi
    mkdir "$work/source" "$work/build"
    (cd "$root" && cp -r agent converter pyproject.toml README.md LICENSE "$work/source")
    pip_of "$@" -- install --target "$work/build" --only-binary :all: --require-hashes -r "$root/locks/build.txt" >&2 \
        || fail "Cannot install the build tools for the edge-agent wheel; see the error above."
    pip_of "$folder" PYTHONPATH="$work/build" -- wheel --no-deps --no-build-isolation --wheel-dir "$work" "$work/source" >&2 \
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
