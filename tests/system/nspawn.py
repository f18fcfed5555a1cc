"""Finds and kills the container that a systemd-nspawn process has started."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


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
