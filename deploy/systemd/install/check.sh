# shellcheck shell=bash disable=SC2154,SC2034
# Checks that run before anything is changed. Each error message says what to do.

check_caller() {
    [ "$(id -u)" = 0 ] || fail "Installing the service needs root. Run: sudo $0"
    command -v systemctl >/dev/null || fail "systemctl was not found. The service needs systemd."
}

check_system() {
    local systemd
    systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "$systemd" -ge 249 ] || fail "systemd $systemd is too old. Use version 249 or later (Debian 12, Ubuntu 22.04, JetPack 6)."
    [ -e "$root/locks/device.txt" ] || fail "$root contains neither a checkout nor a bundle of edge-agent. Give the folder of an unpacked bundle with --bundle."
    find_python
    check_machine
}

# Sets `python` to an interpreter that has wheels or matches the bundle. The service cannot see one in a home folder.
find_python() {
    local candidate wanted='3.10 3.11 3.12 3.13'
    [ ! -e "$root/wheels" ] || wanted=$(cut -d' ' -f2- "$root/for")
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.10; do
        candidate=$(command -v "$candidate") || continue
        case $(readlink -f "$candidate") in /home/* | /root/* | /run/user/*) continue ;; esac
        python=$candidate
        # shellcheck disable=SC2086  # one word per version
        "$python" -I -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $wanted && return
    done
    fail "Python ${wanted// /, } is required, but $(found_python) was found. $(remedy_for_python)"
}

found_python() { "${python:-false}" --version 2>&1 || echo "no Python"; }

remedy_for_python() {
    if [ -e "$root/wheels" ]; then
        echo "Use the bundle for this Python version."
    else
        echo "Raspberry Pi OS bookworm and trixie, Debian 12 and 13, and Ubuntu 22.04 and 24.04 include a supported version."
    fi
}

check_machine() {
    local machine bits
    machine=$(uname -m)
    bits=$("$python" -I -c 'import struct; print(8 * struct.calcsize("P"))')
    case $machine in
        x86_64 | aarch64)
            [ "$bits" = 64 ] || fail "The kernel is 64-bit but the system is 32-bit. Install the 64-bit image of your system." ;;
        armv7l) fail "The Python index has no wheels for 32-bit Arm (NumPy and OpenCV, among others). Install the 64-bit image of your system." ;;
        *) fail "There are no wheels for this machine ($machine). Supported machines: x86_64 and aarch64." ;;
    esac
    if [ -e "$root/wheels" ] && [ "$(cut -d' ' -f1 "$root/for")" != "$machine" ]; then
        fail "This bundle is for $(cut -d' ' -f1 "$root/for"), but this machine is $machine. Use the bundle for $machine."
    fi
    "$python" -I -c 'import venv, ensurepip' 2>/dev/null || install_venv
}

install_venv() {
    local package
    package=$("$python" -I -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    say "Installing $package, which $python needs ..."
    apt-get install -y -qq "$package" >/dev/null || fail "Cannot install $package. $(remedy_for_venv "$package")"
}

# After an upgrade of the system, its former Python may still be there, but no packages for it.
remedy_for_venv() {
    local system
    system=$(/usr/bin/python3 -I -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true)
    if [ -e "$root/wheels" ] && [ -n "$system" ] && [ "$1" != "python$system-venv" ]; then
        echo "The Python of this system is $system: use the bundle for Python $system."
    else
        echo "Run: sudo apt update && sudo apt install $1"
    fi
}
