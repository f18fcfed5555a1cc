# shellcheck shell=bash disable=SC2154
# From a version's folder to a service that is ready.

stays_up_s=3
units="edge-agent.service edge-agent-go-back.service"
config=/etc/edge-agent/agent.yaml
models=/var/lib/edge-agent/models

# Makes the version the current one: its unit, users and folders, one switch of a symlink. Starts nothing.
activate() {
    local unit system=$home/versions/$1/system
    for unit in $units; do
        put "$system/$unit" "$lib/systemd/system/$unit"
    done
    put "$system/sysusers.conf" "$lib/sysusers.d/edge-agent.conf"
    put "$system/tmpfiles.conf" "$lib/tmpfiles.d/edge-agent.conf"
    put "$system/modules-load.conf" "$lib/modules-load.d/edge-agent.conf"
    fit_to_memory "$system/drop-ins/memory-512m.conf" "$lib/systemd/system/edge-agent.service.d/50-memory.conf"
    systemd-sysusers "$lib/sysusers.d/edge-agent.conf"
    systemd-tmpfiles --create "$lib/tmpfiles.d/edge-agent.conf"
    modprobe --quiet videodev 2>/dev/null || true  # a kernel without it has no cameras
    [ -e "$config" ] || put "$system/agent.yaml" "$config" -m640 -g edge-agent
    ln -sfn "versions/$1" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    ln -sfn "$home/current/bin/edge-agent" /usr/local/bin/edge-agent
    sync
}

# Whole or not at all, also where the power is cut: systemd takes an empty unit for one that is masked.
put() {
    local source=$1 target=$2
    shift 2
    ! cmp -s "$source" "$target" || return 0
    install -D -m644 "$@" "$source" "$target.new"
    sync "$target.new"
    mv -T "$target.new" "$target"
}

# A card may move to another board.
fit_to_memory() {
    if [ "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)" -lt 700000 ]; then
        put "$1" "$2"
    else
        rm -f "$2"
    fi
}

# Before anything is switched: what the new version thinks of the configuration there is.
check_configuration() {
    "$home/versions/$1/bin/edge-agent" check-config "$config" >/dev/null \
        || fail "Version $1 cannot use $config; why is written above. Nothing was changed."
}

# Starts it, and says what the journal says where it does not become ready, or does not stay so.
become_ready() {
    local since
    since=$(date '+%F %T')
    # shellcheck disable=SC2086  # the units are words of their own
    systemctl enable --quiet $units
    systemd_runs || return 0
    systemctl daemon-reload
    systemctl reset-failed edge-agent.service 2>/dev/null || true
    if systemctl restart edge-agent.service 2>/dev/null && stays_up; then
        return 0
    fi
    systemctl stop edge-agent.service
    # Not --lines 15: beside --since, systemd before 254 takes the first ones.
    journalctl --unit edge-agent.service --since "$since" --output cat --no-pager | tail -n 15 >&2
    return 1
}

is_running() {
    systemd_runs || return 1
    systemctl daemon-reload
    # shellcheck disable=SC2086
    systemctl enable --quiet $units
    systemctl is-active --quiet edge-agent.service
}

stays_up() {
    sleep "$stays_up_s"
    is_running && [ "$(systemctl show --property NRestarts --value edge-agent.service)" = 0 ]
}

tell_where_to_look() {
    local uploader=${SUDO_USER:-}
    # One of a directory service is in no file of this machine.
    if [ "$uploader" = root ] || ! usermod --append --groups edge-models "$uploader" 2>/dev/null; then
        uploader=
    fi
    cat <<TEXT
$(what_it_does)
  Models          drop .tflite files into $models${uploader:+ (as $uploader, after logging in again)}
                  others may do so after: sudo usermod -aG edge-models NAME
  Configuration   $config, then: sudo systemctl restart edge-agent
  MQTT password   in /etc/edge-agent/mqtt_password (of root, mode 600), the user name in the configuration
  What it does    systemctl status edge-agent; sudo journalctl -fu edge-agent
TEXT
}

what_it_does() {
    if systemd_runs; then
        systemctl show --property StatusText --value edge-agent.service
    else
        echo "systemd does not run here, as where an image is built: the service starts at the first boot."
    fi
}
