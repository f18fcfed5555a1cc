# shellcheck shell=bash disable=SC2154
# Activates an installed version and starts the service.

stays_up_s=3
config=/etc/edge-agent/agent.yaml
models=$data/models
board=/proc/device-tree/model

# Makes a version current: installs its units, creates users and folders, switches one symlink. Starts nothing.
# The units are enabled only by the first installation: later, an administrator may have disabled them.
activate() {
    local unit system=$home/versions/$1/system
    for unit in $units; do
        put "$system/$unit" "$lib/systemd/system/$unit"
    done
    put "$system/sysusers.conf" "$lib/sysusers.d/edge-agent.conf"
    put "$system/tmpfiles.conf" "$lib/tmpfiles.d/edge-agent.conf"
    put "$system/modules-load.conf" "$lib/modules-load.d/edge-agent.conf"
    fit_to_memory "$system/drop-ins/memory-512m.conf" "$lib/systemd/system/edge-agent.service.d/50-memory.conf"
    fit_to_tensorflow "$system/drop-ins/tensorflow.conf"
    fit_to_board "$system/drop-ins" "$lib/systemd/system/edge-agent.service.d/60-camera.conf"
    make_accounts_and_folders
    ! command -v modprobe >/dev/null || modprobe --quiet videodev || true  # a kernel without it has no cameras
    [ -e "$config" ] || put "$system/agent.yaml" "$config" -m640 -g edge-agent
    [ -L "$home/current" ] || enable_units
    ln -sfn "versions/$1" "$home/current.new"
    mv -T "$home/current.new" "$home/current"
    ln -sfn "$home/current/bin/edge-agent" /usr/local/bin/edge-agent
    sync
}

# Atomic, even if power is lost: systemd treats an empty unit file as masked.
put() {
    local source=$1 target=$2
    shift 2
    ! cmp -s "$source" "$target" || return 0
    install -D -m644 "$@" "$source" "$target.new"
    sync "$target.new"
    mv -T "$target.new" "$target"
}

# Checked on every activation: an SD card may move to another board.
fit_to_memory() {
    if [ "$(awk '/^MemTotal/ {print $2}' /proc/meminfo)" -lt 700000 ]; then
        put "$1" "$2"
    else
        rm -f "$2"
    fi
}

# Opens the camera module (CSI). A group that is missing would keep the service from starting.
fit_to_board() {
    local name drop_in=
    name=$(tr -d '\0' 2>/dev/null <"$board" || true)
    case $name in
        *'Raspberry Pi'*) drop_in=camera-pi.conf ;;
        *Jetson* | NVIDIA*) drop_in=camera-jetson.conf ;;
    esac
    if [ -n "$drop_in" ] && getent group video render >/dev/null; then
        put "$1/$drop_in" "$2"
    else
        rm -f "$2"
    fi
}

make_accounts_and_folders() {
    remember_accounts
    systemd-sysusers "$lib/sysusers.d/edge-agent.conf" \
        || fail "Cannot create the user edge-agent and the group edge-models; see the error above."
    systemd-tmpfiles --create "$lib/tmpfiles.d/edge-agent.conf" || [ -d "$models" ] \
        || fail "Cannot create the folder $models; see the error above."
}

# --purge removes only accounts that install.sh has created.
remember_accounts() {
    local account
    [ ! -e "$accounts" ] || return 0
    mkdir -p "$(readlink -m "$data")"
    for account in "passwd edge-agent" "group edge-agent" "group edge-models"; do
        # shellcheck disable=SC2086  # two words
        if ! getent $account >/dev/null || made_by_older_version "$account"; then echo "$account"; fi
    done >"$accounts.new"
    mv "$accounts.new" "$accounts"
}

# Versions that kept no list had created the accounts, unless the user looks different.
made_by_older_version() {
    [ -L "$home/current" ] || return 1
    [ "$1" = "group edge-models" ] || getent passwd edge-agent | grep -q ":$data:/usr/sbin/nologin$"
}

# A configuration that the service cannot read, such as one copied by root with mode 600, gets its group and mode back.
let_service_read_config() {
    local folder
    [ -e "$config" ] || return 0
    ! as_service test -r "$config" || return 0
    folder=$(dirname "$config")
    as_service test -x "$folder" || { chgrp edge-agent "$folder" && chmod g+rx "$folder"; } || true
    { chgrp edge-agent "$config" && chmod g+r "$config"; } || true
    if as_service test -r "$config"; then
        say "The service could not read $config. It can again: the file's group is edge-agent, which may read it."
    else
        say "The service cannot read $config. Give it to the group edge-agent: sudo chgrp edge-agent $config && sudo chmod 640 $config"
    fi
}

as_service() { setpriv --reuid edge-agent --regid edge-agent --init-groups -- "$@"; }

# Starts the service. Prints its last journal lines if it does not become ready, or stops again within seconds.
become_ready() {
    local since
    systemd_runs || return 0
    since=$(date '+%F %T')
    systemctl daemon-reload
    accepted_by_systemd || return 1
    forget_failures edge-agent.service
    if systemctl restart edge-agent.service 2>/dev/null && stays_up; then
        return 0
    fi
    systemctl stop edge-agent.service
    print_journal edge-agent.service "$since" >&2
    return 1
}

# Not --lines 15: combined with --since, systemd before 254 prints the first lines.
print_journal() {
    journalctl --sync
    journalctl --unit "$1" --since "$2" --output cat --no-pager | tail -n 15
}

is_running() {
    systemd_runs || return 1
    systemctl daemon-reload
    [ "$(state_of edge-agent.service)" = active ]
}

stays_up() {
    sleep "$stays_up_s"
    is_running && [ "$(systemctl show --property NRestarts --value edge-agent.service)" = 0 ]
}

print_next_steps() {
    local uploader=${SUDO_USER:-}
    # usermod fails for a user of a directory service, who is not in /etc/passwd.
    if [ "$uploader" = root ] || ! usermod --append --groups edge-models "$uploader" 2>/dev/null; then
        uploader=
    fi
    cat <<TEXT
$(service_status)
  Models          drop .tflite files into $models${uploader:+ (as $uploader, after logging in again)}
                  to allow another user: sudo usermod -aG edge-models NAME
  Configuration   edit $config, then run: sudo systemctl restart edge-agent
  MQTT password   put it in /etc/edge-agent/mqtt_password (owner root, mode 600); set mqtt.username in the configuration
  Status and log  systemctl status edge-agent; sudo journalctl -fu edge-agent
TEXT
}

service_status() {
    if systemd_runs; then
        systemctl show --property StatusText --value edge-agent.service
    else
        echo "systemd is not running (normal while building an image): the service starts at the first boot."
    fi
}
