# shellcheck shell=bash disable=SC2034
# Where things lie, and whether systemd runs. The Debian package's postrm is made of this and of remove.sh.

home=/opt/edge-agent
lib=/usr/local/lib

say() { echo "edge-agent: $*"; }

# Not in a chroot, even one that sees the /run of the machine: an image is built there, for a boot to come.
systemd_runs() { [ -d /run/systemd/system ] && [ "$(systemctl is-system-running 2>/dev/null)" != offline ]; }
