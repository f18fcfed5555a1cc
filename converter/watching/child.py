"""Child: runs a program with a time limit and ends its whole process group, also when the watch stops."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_SHOWN = 300  # characters


@dataclass(frozen=True, slots=True)
class Ended:
    """`code` is that of subprocess: negative for a signal; None if the time was over."""

    code: int | None
    out: bytes = b""
    err: bytes = b""

    @property
    def cause(self) -> str:
        """How it failed, in a few words."""
        if self.code is None:
            return "it did not finish in time"
        last = next((line for line in reversed(self.err.decode(errors="replace").splitlines()) if line.strip()), "")
        how = f"exit code {self.code}" if self.code >= 0 else signal.Signals(-self.code).name
        return f"{how}: {last.strip()[:_MOST_SHOWN]}" if last else how


async def run_child(command: Sequence[str], *, folder: Path, limit_s: float) -> Ended:
    """Raises OSError if the program cannot be started."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        with anyio.move_on_after(limit_s):
            out, err = await process.communicate()
            return Ended(process.returncode, out, err)
        return Ended(None)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it started and left behind
        with anyio.CancelScope(shield=True):
            await process.wait()
