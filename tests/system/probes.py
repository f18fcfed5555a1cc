"""Shell commands that check a system on which the agent may be installed."""

UPLOAD = "curl -sS -F file=@/mnt/good/demo/digit.jpg http://127.0.0.1:8501/predict"
SERVES = "curl -sS http://127.0.0.1:8501/v1/models/digits | grep AVAILABLE"
# Prints the name of the version that install.sh makes of a bundle.
VERSION = "cd /mnt/{0}/deploy/systemd; source install/version.sh; python=/usr/bin/python3 root=/mnt/{0} version_here"
# Makes the version of the bundle `next` of the current one, unless it exists. An upgrade then need not call pip.
COPY_AS_NEXT = (
    f"next=/opt/edge-agent/versions/$({VERSION.format('next')}); "
    "[ -e $next ] || cp -al $(readlink -f /opt/edge-agent/current) $next"
)

# Makes pip install from a folder instead of downloading; more lines of the file can follow.
PIP_FROM = r"printf '[global]\nno-index = true\nfind-links = {}\n' >/etc/pip.conf"

# Folders that other programs write to as well.
_OTHERS = "/tmp /var/log /var/lib/systemd /root /var/lib/apt /var/cache/apt /var/cache/debconf /var/lib/dpkg/*-old"
_PRUNED = " -o ".join(f"-path '{path}'" for path in _OTHERS.split())
_EVERYTHING = rf"find / -xdev \( {_PRUNED} \) -prune -o -print | sort"
_USERS = "cat /etc/passwd /etc/group"
# REMEMBER saves the lists of files and users. COMPARE prints what was added or removed since.
REMEMBER = f"{_EVERYTHING} >/tmp/files; {_USERS} >/tmp/users"
COMPARE = f"({_EVERYTHING} | diff /tmp/files -; {_USERS} | diff /tmp/users -) | grep '^[<>]' || true"
