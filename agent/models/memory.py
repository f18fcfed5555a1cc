"""Memory: how much this process may still take."""

from __future__ import annotations

from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")


def free_bytes() -> int:
    """What the kernel can give without swapping, or what systemd's MemoryMax= leaves where that is less."""
    free = int(psutil.virtual_memory().available)
    left = _left_in_cgroup()
    return free if left is None else min(free, left)


def _left_in_cgroup() -> int | None:
    """None where nothing limits us, or where cgroups are not of version 2 (docs.kernel.org/admin-guide/cgroup-v2)."""
    try:
        group = _own_cgroup().strip().rpartition("::")[2].lstrip("/")
        limit = (_CGROUPS / group / "memory.max").read_text().strip()
        return None if limit == "max" else int(limit) - int((_CGROUPS / group / "memory.current").read_text())
    except (OSError, ValueError):
        return None


def _own_cgroup() -> str:
    return Path("/proc/self/cgroup").read_text()
