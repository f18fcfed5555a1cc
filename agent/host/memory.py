"""Memory: how much memory this process may still allocate."""

from __future__ import annotations

import re
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")


def free_bytes() -> int:
    """What the kernel can provide without swapping or, if that is less, what systemd's MemoryMax= leaves."""
    free = int(psutil.virtual_memory().available)
    left = left_in_cgroup()
    return free if left is None else min(free, left)


def left_in_cgroup(*, cgroups: Path = _CGROUPS, own: Path = _OWN) -> int | None:
    """What the limits of this process's cgroup, which the file `own` names, and of its parents leave.

    None if none has a limit, or if cgroups are not version 2 (docs.kernel.org/admin-guide/cgroup-v2).
    """
    try:
        group = cgroups / own.read_text().strip().rpartition("::")[2].lstrip("/")
    except OSError:
        return None
    groups = [each for each in (group, *group.parents) if each.is_relative_to(cgroups)]
    return min((left for each in groups if (left := _left_in(each)) is not None), default=None)


def _left_in(group: Path) -> int | None:
    """What the group may still allocate: the page cache of inactive files can be freed, so it does not count."""
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit == "max":
            return None
        cached = re.search(r"^inactive_file (\d+)$", (group / "memory.stat").read_text(), re.MULTILINE)
        return int(limit) - int((group / "memory.current").read_text()) + int(cached[1] if cached else 0)
    except (OSError, ValueError):
        return None
