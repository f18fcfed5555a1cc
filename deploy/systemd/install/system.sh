# shellcheck shell=bash disable=SC2034
# Install paths, and whether systemd runs. The Debian package's postrm consists of this file and remove.sh.

# First the system's folders: `su` without a dash has no sbin, and other folders may have programs with these names.
PATH=/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}
home=/opt/edge-agent
lib=/usr/local/lib
data=/var/lib/edge-agent
accounts=$data/.accounts  # the users and groups that install.sh has created, one per line
units="edge-agent.service edge-agent-go-back.service"

say() { echo "edge-agent: $*"; }

# False in a chroot, even if it sees the machine's /run: an image is being built, and the service starts at its boot.
systemd_runs() { [ -d /run/systemd/system ] && [ "$(systemctl is-system-running 2>/dev/null)" != offline ]; }

# False if the Debian package must not do that to the service; see Debian's policy, section 9.3.
policy_allows() {
    local status=0
    if [ -n "${DPKG_MAINTSCRIPT_PACKAGE:-}" ] && command -v policy-rc.d >/dev/null; then
        policy-rc.d edge-agent.service "$1" >&2 || status=$?
    fi
    [ "$status" != 101 ]
}

# systemctl answers with an exit code of 1 and more for "disabled" or "inactive".
state_of() { systemctl is-active "$1" 2>/dev/null || true; }
enabled_of() { systemctl is-enabled "$1" 2>/dev/null || true; }

# Also sets the number of restarts to 0. systemd refuses it for a unit that it has not loaded.
forget_failures() {
    local state
    state=$(state_of "$1"):$(systemctl show --property NRestarts --value "$1")
    case $state in failed:* | *:[1-9]*) systemctl reset-failed "$1" ;; esac
}
