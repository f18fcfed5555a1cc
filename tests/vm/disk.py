"""Disk: a file behind a write cache that a power cut empties: what was not flushed is lost."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from typing_extensions import Self


class Disk:
    """nbdkit's cache filter passes writes on when the machine says flush, as a drive with a volatile cache does.

    `drive` is what qemu attaches. After cut_power(), open() makes a new one of what is left in `file`.
    """

    def __init__(self, file: Path, socket: Path) -> None:
        self._file = file
        self._socket = socket
        # Requests wait when the disk is gone: in a power cut no program hears of an error any more.
        self.drive = f"file.driver=nbd,file.server.type=unix,file.server.path={socket},file.reconnect-delay=60"

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.cut_power()

    def open(self) -> None:
        self._socket.unlink(missing_ok=True)
        served = ["--filter=cache", "file", f"file={self._file}", "cache=writeback"]
        self._nbdkit = subprocess.Popen(["nbdkit", "--foreground", "--unix", self._socket, *served])
        deadline_s = time.monotonic() + 10
        while not self._socket.exists():
            assert self._nbdkit.poll() is None, "nbdkit has ended"
            assert time.monotonic() < deadline_s, "nbdkit does not listen"
            time.sleep(0.01)

    def cut_power(self) -> None:
        self._nbdkit.kill()
        self._nbdkit.wait()
