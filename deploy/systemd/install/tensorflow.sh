# shellcheck shell=bash disable=SC2154,SC2034
# TensorFlow, with which the agent serves SavedModels: added to the active version, and to those that follow it. The
# file $home/tensorflow says so; one of that name in the folder of a version says that it is complete there.

tensorflow_mb=3000  # it takes 2 GB; pip needs the rest while unpacking wheels

keeps_tensorflow() { [ -e "$home/tensorflow" ]; }

add_tensorflow() {
    local current held folder
    current=$(current_version) folder=$home/versions/$current
    [ -n "$current" ] || fail "edge-agent is not installed. Install it first: sudo $0"
    case $(uname -m) in
        x86_64 | aarch64) ;;
        *) fail "TensorFlow has no packages for this machine ($(uname -m)). Convert the model to a .tflite file." ;;
    esac
    [ -e "$folder/system/tensorflow.txt" ] || fail "Version $current is too old for TensorFlow. Upgrade it first: sudo $0 --upgrade"
    held=$(reason_not_to_start)
    if [ ! -e "$folder/tensorflow" ]; then
        check_place $tensorflow_mb
        work=$(mktemp -d "$home/.work.XXXXXX")
        say "Adding TensorFlow to $folder. This takes minutes ..."
        install_tensorflow "$folder"
        sync --file-system "$folder"
    fi
    touch "$home/tensorflow"
    activate "$current"
    if [ -n "$held" ]; then
        say "TensorFlow is installed. $held"
    elif become_ready; then
        say "TensorFlow is installed: the service serves SavedModels, $models/NAME/NUMBER/saved_model.pb."
    else
        fail "TensorFlow is installed, but the service did not start; see the log above. Fix the problem, then run: sudo systemctl restart edge-agent"
    fi
}

# The lock file has the other packages in the same versions as locks/device.txt.
install_tensorflow() {
    local network=()
    if [ ! -e "$root/wheels" ]; then
        mapfile -d '' -t network < <("$1/bin/python" -I "$here/install/network_settings.py")
    elif compgen -G "$root/wheels/tensorflow-*" >/dev/null; then
        network=(PIP_NO_INDEX=1 "PIP_FIND_LINKS=$root/wheels")
    else
        fail "The bundle has no TensorFlow. Install from a checkout with a network, or leave TensorFlow out: sudo rm $home/tensorflow"
    fi
    pip_of "$1" "${network[@]}" -- install --no-deps --only-binary :all: --require-hashes -r "$1/system/tensorflow.txt" \
        || fail "Cannot install TensorFlow; see the error above. Fix the problem, then try again."
    touch "$1/tensorflow"
}

# What TensorFlow needs and the unit forbids.
fit_to_tensorflow() {
    if keeps_tensorflow; then
        put "$1" "$lib/systemd/system/edge-agent.service.d/55-tensorflow.conf"
    else
        rm -f "$lib/systemd/system/edge-agent.service.d/55-tensorflow.conf"
    fi
}
