"""Child: runs a program with a time limit and ends its whole process group, also when the watch stops."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import anyio

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

_MOST_SHOWN = 300  # characters
_MOST_READ = 1 << 20


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
    with _memory_file("out") as out, _memory_file("err") as err:
        code = await _exit_code(command, folder=folder, limit_s=limit_s, out=out, err=err)
        return Ended(code, _tail(out), _tail(err))


async def _exit_code(
    command: Sequence[str], *, folder: Path, limit_s: float, out: BinaryIO, err: BinaryIO
) -> int | None:
    """Does not wait for the end of the output: a connection that ssh keeps open for later holds it."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True
    )
    try:
        with anyio.move_on_after(limit_s):
            return await process.wait()
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it started and left behind
        with anyio.CancelScope(shield=True):
            await process.wait()


def _memory_file(name: str) -> BinaryIO:
    """Unlike a file on the disk, it takes output also when the disk is full."""
    return os.fdopen(os.memfd_create(name), "w+b")


def _tail(file: BinaryIO) -> bytes:
    """Its end: all of what a conversion answers."""
    file.seek(max(0, file.seek(0, os.SEEK_END) - _MOST_READ))
    return file.read()
