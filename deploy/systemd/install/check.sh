# shellcheck shell=bash disable=SC2154,SC2034
# What must be true before anything is changed; each refusal is a sentence that says what to do.

check_caller() {
    [ "$(id -u)" = 0 ] || fail "Root makes the service. Say: sudo $0"
    command -v systemctl >/dev/null || fail "There is no systemd here, and the service is one of systemd's."
}

check_system() {
    local systemd
    systemd=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    [ "$systemd" -ge 249 ] || fail "systemd $systemd is too old; 249 is needed (Debian 12, Ubuntu 22.04, JetPack 6 and later)."
    [ -e "$root/locks/device.txt" ] || fail "There is neither a checkout nor a bundle of edge-agent in $root. Give the right folder with --bundle."
    find_python
    check_machine
}

# Sets `python`: one that is there, has wheels, and is that of the bundle. One in a home the service could not see.
find_python() {
    local candidate wanted='3.10 3.11 3.12 3.13'
    [ ! -e "$root/wheels" ] || wanted=$(cut -d' ' -f2- "$root/for")
    for candidate in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.10; do
        candidate=$(command -v "$candidate") || continue
        case $(readlink -f "$candidate") in /home/* | /root/* | /run/user/*) continue ;; esac
        python=$candidate
        # shellcheck disable=SC2086  # the versions are words of their own
        "$python" -I -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] not in sys.argv[1:])' $wanted && return
    done
    fail "Python ${wanted// /, } is needed here, and there is $("${python:-false}" --version 2>&1 || echo none). $(remedy_for_python)"
}

remedy_for_python() {
    if [ -e "$root/wheels" ]; then
        echo "Take the bundle that was made for this Python."
    else
        echo "Raspberry Pi OS bookworm and trixie, Debian 12 and 13, Ubuntu 22.04 and 24.04 have one."
    fi
}

check_machine() {
    local machine bits
    machine=$(uname -m)
    bits=$("$python" -I -c 'import struct; print(8 * struct.calcsize("P"))')
    case $machine in
        x86_64 | aarch64)
            [ "$bits" = 64 ] || fail "The kernel is of 64 bits and the system of 32. Install the 64-bit image of your system." ;;
        armv7l) fail "The Python index lacks wheels for 32-bit Arm, of NumPy and OpenCV among others. Install the 64-bit image of your system." ;;
        *) fail "There are no wheels for this machine ($machine). x86_64 and aarch64 have them." ;;
    esac
    if [ -e "$root/wheels" ] && [ "$(cut -d' ' -f1 "$root/for")" != "$machine" ]; then
        fail "This bundle is for $(cut -d' ' -f1 "$root/for") and this machine is $machine. Take the one that was made for it."
    fi
    "$python" -I -c 'import venv, ensurepip' 2>/dev/null || install_venv
}

install_venv() {
    local package
    package=$("$python" -I -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
    say "Installing $package, which $python lacks ..."
    apt-get install -y -qq "$package" >/dev/null || fail "$package could not be installed. Say: sudo apt update && sudo apt install $package"
}
