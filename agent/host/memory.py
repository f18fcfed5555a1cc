"""Memory: how much this process may still take."""

from __future__ import annotations

import re
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
        own = _CGROUPS / _own_cgroup().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    groups = [group for group in (own, *own.parents) if group.is_relative_to(_CGROUPS)]
    return min((left for group in groups if (left := _left_in(group)) is not None), default=None)


def _left_in(group: Path) -> int | None:
    """What the group may still take: files in the page cache make room, so they do not count."""
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit == "max":
            return None
        cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        return int(limit) - int((group / "memory.current").read_text()) + int(cached[1] if cached else 0)
    except (OSError, ValueError):
        return None


def _own_cgroup() -> str:
    return Path("/proc/self/cgroup").read_text()
