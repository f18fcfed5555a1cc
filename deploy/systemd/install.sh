#!/usr/bin/env bash
# Installs edge-agent as a service of systemd, from this checkout or from a bundle of wheels (`make bundle`).
#
#   sudo deploy/systemd/install.sh              from nothing to a service that is ready; again: mends what is amiss
#   sudo deploy/systemd/install.sh --upgrade    to what lies here; goes back by itself when that does not become ready
#   sudo deploy/systemd/install.sh --uninstall  keeps configuration, models and results that wait
#   sudo deploy/systemd/install.sh --purge      keeps nothing
#   --bundle DIR                                takes the wheels of an unpacked bundle, and no network
set -euo pipefail
umask 022
here=$(cd "$(dirname "$0")" && pwd)
lock=/run/edge-agent-install.lock
root=$(cd "$here/../.." && pwd)

# shellcheck source=deploy/systemd/install/system.sh
source "$here/install/system.sh"
# shellcheck source=deploy/systemd/install/check.sh
source "$here/install/check.sh"
# shellcheck source=deploy/systemd/install/version.sh
source "$here/install/version.sh"
# shellcheck source=deploy/systemd/install/service.sh
source "$here/install/service.sh"
# shellcheck source=deploy/systemd/install/remove.sh
source "$here/install/remove.sh"

fail() { echo "edge-agent: $*" >&2; exit 1; }
usage() { sed -n '2,8s/^# \?//p' "$here/install.sh"; }

main() {
    local task=from_nothing
    while [ $# -gt 0 ]; do
        case $1 in
            --bundle)
                root=$(cd "${2:-.}" 2>/dev/null && pwd) || fail "There is no folder ${2:-}: --bundle takes that of an unpacked bundle."
                shift ;;
            --upgrade | --uninstall | --purge) task=${1#--} ;;
            --go-back) task=go_back_at_boot ;;  # for edge-agent-go-back.service
            --help | -h) usage; exit 0 ;;
            *)
                say "$1 is no option of install.sh." >&2
                usage >&2
                exit 2 ;;
        esac
        shift
    done
    cd /  # Python imports from where it is started, and that may be where models are dropped
    check_caller
    (umask 077 && : >>"$lock")
    exec 9<>"$lock"
    flock --nonblock 9 || fail "Another installation is under way. Wait for it, then call again."
    "$task"
}

from_nothing() {
    check_system
    local new current
    new=$(version_here) current=$(current_version)
    if [ -n "$current" ] && [ "$current" != "$new" ]; then
        fail "Version $current is installed. To go to $new, say: sudo $0 --upgrade"
    fi
    make_version "$new"
    activate "$new"
    # After an upgrade that was broken off, what runs may be of the other version.
    if { [ ! -L "$home/before" ] && is_running; } || become_ready; then
        settle_for "$new"
        tell_where_to_look
    else
        fail "Version $new is installed and does not become ready; why is written above. Mend it, then: sudo systemctl restart edge-agent"
    fi
}

upgrade() {
    check_system
    local new current
    new=$(version_here) current=$(current_version)
    [ -n "$current" ] || fail "There is nothing to upgrade. To install, say: sudo $0"
    if [ "$current" = "$new" ]; then
        say "Version $new is installed already."
        from_nothing
        return
    fi
    make_version "$new"
    check_configuration "$new"
    trap '' HUP INT TERM  # the rest is a matter of seconds, and half of it helps nobody
    ln -sfn "versions/$current" "$home/before"
    activate "$new"
    if become_ready; then
        settle_for "$new"
        say "Upgraded from $current to $new."
        tell_where_to_look
    else
        go_back "$current" "$new"
    fi
}

go_back() {
    local current=$1 new=$2
    say "Version $new does not become ready; why is written above. Going back to $current." >&2
    activate "$current"
    become_ready || fail "Version $current does not become ready either. Mend what is written above, then: sudo systemctl restart edge-agent"
    settle_for "$current"
    fail "Version $current serves again; version $new was not installed."
}

# The service starts after this, by the same boot.
go_back_at_boot() {
    local before
    before=$(basename "$(readlink "$home/before")")
    say "An upgrade was broken off. Going back to $before."
    activate "$before"
    systemctl daemon-reload
    settle_for "$before"
}

main "$@"
