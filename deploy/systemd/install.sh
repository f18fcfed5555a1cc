#!/usr/bin/env bash
# Installs edge-agent as a systemd service, from this checkout or from a bundle of wheels (`make bundle`).
#
#   sudo deploy/systemd/install.sh              installs and starts the service; run again, repairs the installation
#   sudo deploy/systemd/install.sh --upgrade    upgrades to this version; rolls back automatically if it does not start
#   sudo deploy/systemd/install.sh --uninstall  removes the software; keeps configuration, models and unsent results
#   sudo deploy/systemd/install.sh --purge      removes everything
#   sudo deploy/systemd/install.sh --tensorflow adds TensorFlow, which serves SavedModels; upgrades keep it
#   --bundle DIR                                installs from an unpacked bundle, without network access
set -euo pipefail
umask 022
for name in "${!PYTHON@}"; do unset "$name"; done  # they also break what apt runs
here=$(dirname "$(readlink -f "$0")")  # not cd, which CDPATH changes
lock=/run/edge-agent-install.lock
root=$(readlink -f "$here/../..")
# shellcheck disable=SC2034  # used in version.sh
remade='' work=''

# shellcheck source=deploy/systemd/install/system.sh
source "$here/install/system.sh"
# shellcheck source=deploy/systemd/install/check.sh
source "$here/install/check.sh"
# shellcheck source=deploy/systemd/install/version.sh
source "$here/install/version.sh"
# shellcheck source=deploy/systemd/install/tensorflow.sh
source "$here/install/tensorflow.sh"
# shellcheck source=deploy/systemd/install/unit.sh
source "$here/install/unit.sh"
# shellcheck source=deploy/systemd/install/service.sh
source "$here/install/service.sh"
# shellcheck source=deploy/systemd/install/remove.sh
source "$here/install/remove.sh"

fail() { echo "edge-agent: $*" >&2; exit 1; }
usage() { sed -n '2,9s/^# \?//p' "$here/install.sh"; }

main() {
    local task=install_or_repair
    while [ $# -gt 0 ]; do
        case $1 in
            --bundle)
                choose_bundle "${2:-}"
                shift ;;
            --upgrade | --uninstall | --purge) choose_task "${1#--}" ;;
            --tensorflow) choose_task add_tensorflow ;;
            --go-back) choose_task roll_back_at_boot ;;  # for edge-agent-go-back.service
            --help | -h) usage; exit 0 ;;
            *) refuse "Unknown option $1." ;;
        esac
        shift
    done
    cd /  # Python imports from the working directory, which may be the drop folder
    check_caller
    (umask 077 && : >>"$lock")
    exec 9<>"$lock"
    flock --nonblock 9 || fail "Another installation is running. Wait until it has finished, then try again."
    trap clean_up EXIT
    "$task"
}

refuse() {
    say "$1" >&2
    usage >&2
    exit 2
}

choose_task() {
    [ "$task" = install_or_repair ] || refuse "Give only one of --upgrade, --tensorflow, --uninstall and --purge."
    task=$1
}

choose_bundle() {
    case $1 in '' | -*) refuse "--bundle needs the folder of an unpacked bundle." ;; esac
    [ ! -f "$1" ] || fail "$1 is a file. Unpack it (tar xf), and give --bundle the folder."
    [ -d "$1" ] || fail "The folder $1 does not exist. Give --bundle the folder of an unpacked bundle."
    root=$(readlink -f "$1")
}

clean_up() {
    [ -z "$work" ] || rm -rf "$work"
    rm -rf "$run"/edge-agent-check.service{,.d}
}

install_or_repair() {
    check_system
    local new current held
    new=$(version_here) current=$(current_version)
    if [ -n "$current" ] && [ "$current" != "$new" ]; then
        fail "Version $current is already installed. To upgrade to $new, run: sudo $0 --upgrade"
    fi
    held=$(reason_not_to_start)
    make_version "$new"
    activate "$new"
    let_service_read_config
    # After an interrupted upgrade, the running service may be the other version.
    if [ -n "$held" ]; then
        finish_without_start "$new" "Version $new is installed."
    elif { [ ! -L "$home/before" ] && [ -z "$remade" ] && is_running; } || become_ready; then
        settle_for "$new"
        remark_on_unit
        print_next_steps
    else
        fail "Version $new is installed but did not start; see the log above. Fix the problem, then run: sudo systemctl restart edge-agent"
    fi
}

upgrade() {
    check_system
    local new current held
    new=$(version_here) current=$(current_version)
    [ -n "$current" ] || fail "edge-agent is not installed, so it cannot be upgraded. To install it, run: sudo $0"
    if [ "$current" = "$new" ]; then
        say "Version $new is already installed."
        install_or_repair
        return
    fi
    check_unit
    held=$(reason_not_to_start)
    make_version "$new"
    check_configuration "$new"
    trap '' HUP INT TERM  # the rest takes seconds, and must not stop halfway
    ln -sfn "versions/$current" "$home/before"
    activate "$new"
    if [ -n "$held" ]; then
        finish_without_start "$new" "Upgraded from $current to $new."
    elif become_ready; then
        settle_for "$new"
        say "Upgraded from $current to $new."
        remark_on_unit
        print_next_steps
    else
        roll_back "$current" "$new"
    fi
}

# A process of another version may still run; the next call removes that version.
finish_without_start() {
    ! systemd_runs || systemctl daemon-reload
    if is_up; then rm -f "$home/before"; else settle_for "$1"; fi
    say "$2 $held"
    remark_on_unit
}

roll_back() {
    local current=$1 new=$2
    say "Version $new did not start; see the log above. Rolling back to $current." >&2
    activate "$current"
    become_ready || fail "Version $current did not start either; see the log above. Fix the problem, then run: sudo systemctl restart edge-agent"
    settle_for "$current"
    fail "Rolled back: version $current is running again; version $new was not installed."
}

# The service starts after this, during the same boot.
roll_back_at_boot() {
    local before
    before=$(basename "$(readlink "$home/before")")
    say "An upgrade was interrupted. Rolling back to $before."
    activate "$before"
    systemctl daemon-reload
    settle_for "$before"
}

main "$@"
