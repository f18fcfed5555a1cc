# shellcheck shell=bash disable=SC2154
# Removal: uninstall keeps the user's data, purge removes everything.

uninstall() {
    if [ ! -e "$home" ]; then
        say "edge-agent is not installed."
        return
    fi
    remove_software
    say "Removed. Configuration, models and unsent results are still in /etc/edge-agent and /var/lib/edge-agent."
}

purge() {
    remove_software
    rm -rf /etc/edge-agent /var/lib/edge-agent /etc/systemd/system/edge-agent.service.d
    ! systemd_runs || systemctl daemon-reload
    ! getent passwd edge-agent >/dev/null || userdel edge-agent
    for group in edge-agent edge-models; do
        ! getent group $group >/dev/null || groupdel $group
    done
    say "Removed, including configuration, models, unsent results, the user and the groups."
}

remove_software() {
    systemctl disable --now --quiet edge-agent.service edge-agent-go-back.service 2>/dev/null || true
    rm -rf "$lib"/systemd/system/edge-agent{,-go-back}.service "$lib/systemd/system/edge-agent.service.d" \
        "$lib"/{sysusers.d,tmpfiles.d,modules-load.d}/edge-agent.conf /usr/local/bin/edge-agent "$home"
    rmdir --ignore-fail-on-non-empty "$lib"/{systemd/system,systemd,sysusers.d,tmpfiles.d,modules-load.d} 2>/dev/null || true
    ! systemd_runs || systemctl daemon-reload
    systemctl reset-failed edge-agent.service 2>/dev/null || true
}
