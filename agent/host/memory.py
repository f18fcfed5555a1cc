"""Memory: how much this process may still take."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def free_bytes() -> int:
    """What the kernel can give without swapping or, if that is less, what systemd's MemoryMax= leaves."""
    free = int(psutil.virtual_memory().available)
    left = left_in_cgroup()
    return free if left is None else min(free, left)


def left_in_cgroup(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int | None:
    """What `own`, the file that names this process' cgroup, and the groups above it leave.

    None if nothing limits it, or if cgroups are not of version 2 (docs.kernel.org/admin-guide/cgroup-v2).
    """
    try:
        group = cgroups / own.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    groups = [each for each in (group, *group.parents) if each.is_relative_to(cgroups)]
    return min((left for each in groups if (left := _left_in(each)) is not None), default=None)


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
