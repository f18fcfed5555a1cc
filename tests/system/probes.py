"""Probes: what bash asks of a system that may have the agent."""

UPLOAD = "curl -sS -F file=@/mnt/good/demo/digit.jpg http://127.0.0.1:8501/predict"
SERVES = "curl -sS http://127.0.0.1:8501/v1/models/digits | grep AVAILABLE"

# What programs leave behind that others use too.
_OTHERS = "/tmp /var/log /var/lib/systemd /root /var/lib/apt /var/cache/apt /var/lib/dpkg/*-old"
_PRUNED = " -o ".join(f"-path '{path}'" for path in _OTHERS.split())
_EVERYTHING = rf"find / -xdev \( {_PRUNED} \) -prune -o -print | sort"
_USERS = "cat /etc/passwd /etc/group"
# Which files and users there are, for COMPARE: what has come or gone since.
REMEMBER = f"{_EVERYTHING} >/tmp/files; {_USERS} >/tmp/users"
COMPARE = f"({_EVERYTHING} | diff /tmp/files -; {_USERS} | diff /tmp/users -) | grep '^[<>]' || true"
