# shellcheck shell=bash disable=SC2034
# Install paths, and whether systemd runs. The Debian package's postrm consists of this file and remove.sh.

# First the system's folders: `su` without a dash has no sbin, and other folders may have programs with these names.
PATH=/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}
home=/opt/edge-agent
lib=/usr/local/lib

say() { echo "edge-agent: $*"; }

# False in a chroot, even if it sees the machine's /run: an image is being built, and the service starts at its boot.
systemd_runs() { [ -d /run/systemd/system ] && [ "$(systemctl is-system-running 2>/dev/null)" != offline ]; }
