"""Starts systemd-nspawn in a control group of its own; finds and kills the container that it has started."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


_CGROUPS = Path("/sys/fs/cgroup")
# Where systemd keeps its groups: in two hierarchies beside those of version 1, or in the only one of version 2.
_HIERARCHIES = ("systemd", "unified", ".")
_ENTER = 'for each in $1; do echo $$ >$each/cgroup.procs; done; shift; exec "$@"'


def in_group(name: str, command: list[str]) -> list[str]:
    """Makes a control group of that name; returns the command line that runs the command in it.

    systemd-nspawn places a container directly below the group that it is started in. Two systemds in one place would
    each take the processes of the other for their own.
    """
    folders = _folders_of(name)
    for folder in folders:
        folder.mkdir()
    return ["sh", "-euc", _ENTER, "sh", " ".join(map(str, folders)), *command]


def remove_group(name: str) -> None:
    """Removes the group and those below it. One with a process, as just after `kill`, stays until the next boot."""
    for folder in _folders_of(name):
        for each in [*sorted(folder.rglob("*/"), reverse=True), folder]:
            with contextlib.suppress(OSError):
                each.rmdir()


def _folders_of(name: str) -> list[Path]:
    roots = (_CGROUPS / hierarchy for hierarchy in _HIERARCHIES)
    return [root / name for root in roots if (root / "cgroup.procs").exists()]


def init_of(nspawn: subprocess.Popen[bytes]) -> int:
    """The host PID of the container's PID 1. Raises LookupError before it starts and after it has ended."""
    try:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
    except FileNotFoundError:
        raise LookupError(nspawn.pid) from None
    if not children:
        raise LookupError(nspawn.pid)
    return int(children[0])


def kill(nspawn: subprocess.Popen[bytes]) -> None:
    """Kills the container too: a killed systemd-nspawn leaves it running."""
    with contextlib.suppress(LookupError, ProcessLookupError):
        os.kill(init_of(nspawn), signal.SIGKILL)
    nspawn.kill()
    nspawn.wait(timeout=10)
