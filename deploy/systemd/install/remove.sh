# shellcheck shell=bash disable=SC2154
# Removal: uninstall keeps the user's data, purge removes everything that install.sh and the agent made. Whatever cannot
# be removed is named at the end and stops nothing.

stays=()

uninstall() {
    if [ ! -e "$home" ]; then
        say "edge-agent is not installed."
        return
    fi
    remove_software
    say "Removed. Configuration, models and unsent results are still in /etc/edge-agent and /var/lib/edge-agent."
    [ ${#stays[@]} = 0 ] || say "These stay too: $(listed "${stays[@]}")."
}

purge() {
    local made=
    [ ! -e "$accounts" ] || made=$(<"$accounts")
    remove_software
    remove_tree /etc/systemd/system/edge-agent.service.d
    remove_folder /etc/edge-agent agent.yaml mqtt_password mqtt_key
    remove_folder "$data" models state "$(basename "$accounts")"
    remove_account userdel passwd edge-agent
    remove_account groupdel group edge-agent
    remove_account groupdel group edge-models
    if [ ${#stays[@]} = 0 ]; then
        say "Removed, including configuration, models, unsent results, the user and the groups."
    else
        say "Removed everything except: $(listed "${stays[@]}")."
    fi
}

listed() { printf '%s; ' "$@" | sed 's/; $//'; }

remove_software() {
    local unit folder
    for unit in $units; do
        stop "$unit"
        rm -f "/etc/systemd/system/multi-user.target.wants/$unit" "$lib/systemd/system/$unit"
        [ ! -e "/etc/systemd/system/$unit" ] || stays+=("/etc/systemd/system/$unit, which install.sh did not make")
    done
    remove_tree "$lib/systemd/system/edge-agent.service.d"
    rm -f "$lib"/{sysusers.d,tmpfiles.d,modules-load.d}/edge-agent.conf
    [ "$(readlink /usr/local/bin/edge-agent)" != "$home/current/bin/edge-agent" ] || rm -f /usr/local/bin/edge-agent
    remove_folder "$home" versions current current.new before tensorflow
    for folder in "$lib"/{systemd/system,systemd,sysusers.d,tmpfiles.d,modules-load.d}; do
        [ ! -d "$folder" ] || rmdir --ignore-fail-on-non-empty "$folder"
    done
    ! systemd_runs || systemctl daemon-reload
}

stop() {
    case $(enabled_of "$1") in
        masked* | not-found | '') ;;
        *) systemctl disable --quiet "$1" || true ;;  # its link is removed below
    esac
    systemd_runs || return 0
    case $(state_of "$1") in inactive | unknown | '') return ;; esac
    if ! policy_allows stop; then
        stays+=("the process of $1, since /usr/sbin/policy-rc.d does not allow stopping it")
        return
    fi
    systemctl stop "$1" || stays+=("the process of $1, which systemd cannot stop")
    forget_failures "$1"
}

# remove_folder FOLDER NAME ...: if FOLDER is a link or a mounted disk, only these files in it are removed, since other
# files there may belong to someone else.
remove_folder() {
    local folder=$1 real name
    shift
    real=$(readlink -m "$folder")
    if [ -L "$folder" ] || is_mounted "$real"; then
        for name in "$@"; do remove_tree "$real/$name"; done
        rm -rf "$real"/.work.*
        is_mounted "$real" || [ ! -d "$real" ] || rmdir --ignore-fail-on-non-empty "$real" || true
        if [ -e "$real" ]; then
            stays+=("$real")
        else
            rm -f "$folder"
        fi
    else
        remove_tree "$folder"
    fi
}

# Never leaves its file system, not even into one that is mounted twice, and removes links instead of what they point to.
remove_tree() {
    local tree skip=() mount
    if [ -L "$1" ]; then
        [ ! -d "$1" ] || stays+=("$(readlink -f "$1"), to which $1 pointed")
        rm -f "$1"
        return
    fi
    [ -e "$1" ] || return 0
    tree=$(readlink -f "$1")
    while read -r mount; do
        skip+=(-path "$mount" -prune -o)
        stays+=("$mount, where a disk is mounted")
    done < <(mounts_in "$tree")
    find "$tree" -xdev "${skip[@]}" ! -type d -print0 | xargs -0r rm -f || true  # what is left is named below
    if [ -d "$tree" ]; then
        find "$tree" -xdev "${skip[@]}" -type d -print0 | sort -zr | xargs -0r rmdir --ignore-fail-on-non-empty || true
    fi
    [ ! -e "$tree" ] || [ ${#skip[@]} -gt 0 ] || stays+=("$1")
}

is_mounted() { mounts_in "$1" | grep -qxF "$1"; }

# The folder itself, if a disk is mounted there, and the mounted folders in it.
mounts_in() {
    local mount
    [ -r /proc/self/mountinfo ] || return 0  # a chroot
    while read -r _ _ _ _ mount _; do
        mount=$(printf '%b' "$mount")  # a space is \040
        case $mount/ in "$1"/*) echo "$mount" ;; esac
    done </proc/self/mountinfo
}

# remove_account PROGRAM DATABASE NAME
remove_account() {
    local error
    getent "$2" "$3" >/dev/null || return 0
    if ! grep -qx "$2 $3" <<<"$made"; then
        stays+=("the $(kind_of "$2") $3, which install.sh did not create")
        return
    fi
    error=$("$1" "$3" 2>&1) || stays+=("the $(kind_of "$2") $3 (${error##*: })")
}

kind_of() { if [ "$1" = passwd ]; then echo user; else echo group; fi; }
