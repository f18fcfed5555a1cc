# shellcheck shell=bash disable=SC2154
# What administrators do to the unit: mask, disable, replace or extend it. Looked at before anything is changed.

enable_units() {
    local unit
    for unit in $units; do
        case $(enabled_of "$unit") in
            masked*) ;;
            *) systemctl enable --quiet "$unit" ;;
        esac
    done
}

# Prints why the service must not be started, and nothing if it may. Call it before `activate`.
reason_not_to_start() {
    local was=started
    ! is_up || was=restarted
    case $(enabled_of edge-agent.service) in
        masked*)
            echo "edge-agent.service is masked, so it was not $was. To start it: sudo systemctl unmask edge-agent, then sudo systemctl enable --now edge-agent."
            return ;;
        disabled)
            if [ -L "$home/current" ] && ! is_up; then
                echo "edge-agent.service is disabled and stopped, and stays so. To start it: sudo systemctl enable --now edge-agent."
                return
            fi ;;
    esac
    ! systemd_runs || policy_allows "${was%ed}" || echo "/usr/sbin/policy-rc.d does not allow it, so edge-agent.service was not $was. It uses this version from its next start on."
}

# Also true while systemd waits to restart it.
is_up() {
    case $(state_of edge-agent.service) in
        active | activating | reloading) systemd_runs ;;
        *) false ;;
    esac
}

# False, with the reason on stderr, if systemd refuses the unit with its drop-ins, or a program they name is missing.
accepted_by_systemd() {
    local state faults
    systemd_runs || return 0
    state=$(systemctl show --property LoadState --value edge-agent.service)
    case $state in not-found | masked) return 0 ;; esac
    faults=$(systemd-analyze verify --man=no edge-agent.service 2>&1 | grep -F edge-agent || true)  # it reports other units too
    if [ "$state" = loaded ]; then
        faults=$(grep -F 'is not executable' <<<"$faults" || true)  # the rest are warnings
        [ -n "$faults" ] || return 0
    fi
    echo "${faults:-edge-agent.service: $state}" >&2
    return 1
}

check_unit() {
    ! systemd_runs || systemctl daemon-reload
    accepted_by_systemd || fail "systemd refuses the settings of edge-agent.service; see the error above. Nothing was changed, and a running service goes on. Fix the unit's drop-ins: $(drop_ins)"
}

drop_ins() { systemctl show --property DropInPaths --value edge-agent.service; }

# The new version must accept the configuration before the one that runs is stopped. It is checked with the rights and
# the drop-ins of the service, which also shows settings that systemd accepts but cannot start anything with.
check_configuration() {
    local folder=$home/versions/$1 unit=edge-agent-check.service status=0 since
    let_service_read_config
    if ! systemd_runs; then
        clean "$folder/bin/edge-agent" check-config "$config" >/dev/null || status=2
    else
        since=$(date '+%F %T')
        write_check_unit "$folder"
        if ! systemctl start "$unit" 2>/dev/null; then
            status=$(systemctl show --property ExecMainStatus --value "$unit")
            [ "$status" != 0 ] || status=1  # it failed before anything was started
        elif [ "$(state_of "$unit")" != active ]; then
            status=1  # a condition was not met
        fi
        [ "$status" = 0 ] || [ "$status" = 2 ] || print_journal "$unit" "$since" >&2
        [ ! -s "$check_log" ] || cat "$check_log" >&2
        remove_check_unit "$unit"
    fi
    case $status in
        0) ;;
        2) fail "Version $1 cannot use $config; see the error above. Nothing was changed." ;;
        *) fail "Version $1 cannot start with the present settings of edge-agent.service; see the log above. Nothing was changed, and a running service goes on. Look at the unit's drop-ins: $(drop_ins)" ;;
    esac
}

check_log=/run/edge-agent-check.log
run=/run/systemd/system

# The unit of the new version with the drop-ins of the service, but it only checks the configuration, and its end
# leaves what the service uses alone.
write_check_unit() {
    local drop_in folder=$run/edge-agent-check.service.d fragment=$1/system/edge-agent.service
    mkdir -p "$folder"
    [ ! -f /etc/systemd/system/edge-agent.service ] || fragment=/etc/systemd/system/edge-agent.service
    cp "$fragment" "$run/edge-agent-check.service"
    # The same name counts in the last folder.
    for drop_in in {/lib,/usr/lib,"$lib",/run,/etc}/systemd/system/edge-agent.service.d/*.conf \
        {/run,/etc}/systemd/system.control/edge-agent.service.d/*.conf; do
        [ ! -e "$drop_in" ] || ln -sfn "$drop_in" "$folder/"
    done
    cat >"$folder/~check.conf" <<UNIT
[Service]
Type=oneshot
RemainAfterExit=yes
Restart=no
WatchdogSec=0
RemoveIPC=no
RuntimeDirectoryPreserve=yes
StandardOutput=null
StandardError=truncate:$check_log
ExecCondition=
ExecStartPre=
ExecStart=
ExecStart=$1/bin/edge-agent check-config $config
ExecStartPost=
ExecStop=
ExecStopPost=
UNIT
    systemctl daemon-reload
}

remove_check_unit() {
    systemctl stop "$1"
    forget_failures "$1"
    rm -rf "$run"/edge-agent-check.service{,.d} "$check_log"
    systemctl daemon-reload
}

# Names what an administrator should change, although the service runs.
remark_on_unit() {
    local unit folder
    accepted_by_systemd || say "systemd refuses the settings of edge-agent.service; see the error above. The service cannot start again. Fix the unit's drop-ins: $(drop_ins)"
    for unit in $units; do
        for folder in /etc/systemd/system /run/systemd/system; do
            if [ -f "$folder/$unit" ]; then
                say "systemd uses $folder/$unit instead of the unit of this version, $lib/systemd/system/$unit. Move your changes into a drop-in (sudo systemctl edit $unit), then remove the copy."
            fi
        done
    done
}
