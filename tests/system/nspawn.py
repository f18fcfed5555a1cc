"""nspawn: what it has started, as this machine counts its processes."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess


def init_of(nspawn: subprocess.Popen[bytes]) -> int:
    """The container's PID 1. Raises LookupError while there is none yet, and when there is none any more."""
    try:
        children = Path(f"/proc/{nspawn.pid}/task/{nspawn.pid}/children").read_text().split()
    except FileNotFoundError:
        raise LookupError(nspawn.pid) from None
    if not children:
        raise LookupError(nspawn.pid)
    return int(children[0])


def kill(nspawn: subprocess.Popen[bytes]) -> None:
    """With what it has started, which nspawn that is killed leaves behind."""
    with contextlib.suppress(LookupError, ProcessLookupError):
        os.kill(init_of(nspawn), signal.SIGKILL)
    nspawn.kill()
    nspawn.wait(timeout=10)
